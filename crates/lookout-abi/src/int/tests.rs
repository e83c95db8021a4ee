//! Cases for `int`.

use super::*;

fn i(value: i64) -> I256 {
    I256::from(value)
}

#[test]
fn small_numbers_behave_as_i64_does() {
    let numbers = [-7, -3, -1, 0, 1, 2, 5, i64::MIN, i64::MAX];
    for a in numbers {
        for b in numbers {
            let wide = |op: fn(i128, i128) -> i128| {
                let exact = op(a.into(), b.into());
                let magnitude = U256::from(exact.unsigned_abs());
                I256::from_parts(exact < 0, magnitude).unwrap()
            };
            assert_eq!(i(a).checked_add(i(b)), Some(wide(|a, b| a + b)), "{a} + {b}");
            assert_eq!(i(a).checked_sub(i(b)), Some(wide(|a, b| a - b)), "{a} - {b}");
            assert_eq!(i(a).checked_mul(i(b)), Some(wide(|a, b| a * b)), "{a} * {b}");
            if b != 0 {
                assert_eq!(i(a).checked_div(i(b)), Some(wide(|a, b| a / b)), "{a} / {b}");
                assert_eq!(i(a).checked_rem(i(b)), Some(wide(|a, b| a % b)), "{a} % {b}");
            }
            assert_eq!(i(a).cmp(&i(b)), a.cmp(&b));
        }
        assert_eq!(i(a).to_string(), a.to_string());
    }
}

#[test]
fn the_edges_overflow_and_say_so() {
    assert_eq!(I256::MAX.checked_add(i(1)), None);
    assert_eq!(I256::MIN.checked_sub(i(1)), None);
    assert_eq!(I256::MIN.checked_neg(), None);
    assert_eq!(I256::MIN.checked_div(i(-1)), None);
    assert_eq!(I256::MIN.checked_mul(i(-1)), None);
    assert_eq!(I256::ZERO.checked_neg(), Some(I256::ZERO));
    assert_eq!(i(1).checked_div(I256::ZERO), None);
    assert_eq!(i(1).checked_rem(I256::ZERO), None);
    assert_eq!(I256::MIN.checked_rem(i(-1)), Some(I256::ZERO));
    assert_eq!(i(-1).cmp_unsigned(&U256::ZERO), Ordering::Less);
    assert_eq!(I256::MAX.cmp_unsigned(&U256::MAX), Ordering::Less);
    assert_eq!(
        I256::MIN.to_string(),
        "-57896044618658097711785492504343953926634992332820282019728792003956564819968"
    );
}
