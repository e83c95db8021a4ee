//! Cases for `decode`.

use alloy_dyn_abi::{DynSolType, DynSolValue, JsonAbiExt};
use lookout_types::Hash;
use proptest::prelude::*;

use super::*;
use crate::Abi;

fn log(topics: &[[u8; 32]], data: &[u8]) -> Log {
    Log {
        address: Address([7; 20]),
        topics: topics.iter().map(|topic| Hash(*topic)).collect(),
        data: Bytes::copy_from_slice(data),
        transaction_hash: Hash::default(),
        transaction_index: 0,
        log_index: 0,
    }
}

fn word(last: u8) -> [u8; 32] {
    let mut word = [0; 32];
    word[31] = last;
    word
}

fn abi(event: &str) -> Abi {
    Abi::parse(&serde_json::json!([event]).to_string()).unwrap()
}

const TRANSFER: &str = "event Transfer(address indexed from, address indexed to, uint256 value)";

#[test]
fn a_transfer_decodes_by_name() {
    let abi = abi(TRANSFER);
    let event = abi.event("Transfer").unwrap();
    let log = log(&[event.topic0.0, word(1), word(2)], &word(3));
    let (found, values) = abi.decode_log(&log).unwrap();
    assert_eq!(
        found.to_json(&values).to_string(),
        r#"{"from":"0x0000000000000000000000000000000000000001","to":"0x0000000000000000000000000000000000000002","value":"3"}"#
    );
    assert_eq!(event.check(&log), Ok(()));
}

#[test]
fn what_does_not_decode_says_why() {
    let abi = abi(TRANSFER);
    let topic0 = abi.event("Transfer").unwrap().topic0.0;
    let mut dirty = word(1);
    dirty[0] = 1;
    for (log, expected) in [
        (log(&[], &[]), "the log has no topics, and no anonymous event of the ABI fits it"),
        (log(&[word(9)], &[]), "no event of the ABI has the topic 0x00"),
        (
            log(&[topic0, word(1), word(2), word(3)], &[]),
            "`Transfer(address,address,uint256)` has 3 topics, the log has 4",
        ),
        (
            log(&[topic0, word(1), word(2)], &[0; 31]),
            "argument `value` reaches beyond the 31 bytes of data",
        ),
        (
            log(&[topic0, dirty, word(2)], &[0; 32]),
            "argument `from` holds no address: bits that the type does not use are set",
        ),
    ] {
        let error = abi.decode_log(&log).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let event = abi.event("Transfer").unwrap();
    let short = log(&[topic0, word(1), word(2)], &[0; 31]);
    assert_eq!(event.check(&short), event.decode(&short).map(|_| ()));
    assert_eq!(event.check(&log(&[], &[])).unwrap_err(), event.decode(&log(&[], &[])).unwrap_err());
}

#[test]
fn indexed_dynamic_arguments_are_hashes_and_anonymous_events_are_found() {
    let abi = abi("event Named(string indexed name, string label) anonymous");
    let event = &abi.events()[0];
    let mut data = word(32).to_vec();
    data.extend(word(2));
    data.extend(*b"ok");
    let (_, values) = abi.decode_log(&log(&[word(5)], &data)).unwrap();
    assert!(event.anonymous);
    assert_eq!(values, [Value::Hash(Hash(word(5))), Value::String("ok".into())]);
}

#[test]
fn hostile_strings_are_kept_byte_for_byte() {
    let abi = abi("event Said(string text)");
    let topic0 = abi.events()[0].topic0.0;
    for (text, json) in [
        (&b"a\0b"[..], r#"{"text":"a\u0000b"}"#.to_owned()),
        ("\u{202e}evil".as_bytes(), "{\"text\":\"\u{202e}evil\"}".to_owned()),
        (&[0xff, 0x61], r#"{"text":{"invalidUtf8":"0xff61"}}"#.to_owned()),
    ] {
        let mut data = word(32).to_vec();
        data.extend(word(u8::try_from(text.len()).unwrap()));
        data.extend(text);
        let (event, values) = abi.decode_log(&log(&[topic0], &data)).unwrap();
        assert_eq!(values, [Value::String(AbiText(Bytes::copy_from_slice(text)))]);
        assert_eq!(event.to_json(&values).to_string(), json);
    }
}

#[test]
fn a_megabyte_is_not_copied_and_a_lying_length_allocates_nothing() {
    let abi = abi("event Blob(bytes data)");
    let topic0 = abi.events()[0].topic0.0;
    let mut data = word(32).to_vec();
    data.extend(U256::from(1 << 20).to_be_bytes::<32>());
    data.extend(vec![0xab; 1 << 20]);
    let log = log(&[topic0], &data);
    let (_, values) = abi.decode_log(&log).unwrap();
    let [Value::Bytes(bytes)] = values.as_slice() else { panic!("{values:?}") };
    assert_eq!(bytes.as_ptr(), log.data[64..].as_ptr());

    let nested = self::abi("event Deep(uint256[][][][] x)");
    let topic0 = nested.events()[0].topic0.0;
    // Every item of every level points back at the same array.
    let mut data = word(32).to_vec();
    data.extend(word(64));
    data.extend(vec![0; 64 * 32]);
    let error = nested.decode_log(&self::log(&[topic0], &data)).unwrap_err();
    assert!(matches!(error, DecodeError::Overlapping { .. }), "{error}");
    let mut data = word(32).to_vec();
    data.extend([0xff; 32]);
    let error = nested.decode_log(&self::log(&[topic0], &data)).unwrap_err();
    assert!(matches!(error, DecodeError::Short { .. }), "{error}");
}

#[test]
fn calls_decode_by_selector() {
    let abi = abi("function transfer(address to, uint256 value)");
    let mut input = vec![0xa9, 0x05, 0x9c, 0xbb];
    input.extend(word(1));
    input.extend(word(2));
    let (function, values) = abi.decode_call(&input.clone().into()).unwrap();
    assert_eq!(function.name, "transfer");
    assert_eq!(values[1], Value::Uint(U256::from(2)));
    for (input, expected) in [
        (&input[..3], "the call data has 3 bytes; a selector alone has 4"),
        (&[1, 2, 3, 4], "no function of the ABI has the selector 0x01020304"),
        (&input[..60], "argument `value` reaches beyond the 56 bytes of data"),
    ] {
        let error = abi.decode_call(&Bytes::copy_from_slice(input)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

/// Types over which our decoder is held against alloy's.
const TYPES: [&str; 14] = [
    "uint256",
    "uint8",
    "int256",
    "int16",
    "bool",
    "address",
    "bytes4",
    "bytes",
    "string",
    "uint64[]",
    "(uint8,string)",
    "(address,int32)[2]",
    "string[][2]",
    "(bytes,(bool,string[]))[]",
];

fn dyn_value(ty: &DynSolType, seed: &mut impl Iterator<Item = u8>) -> DynSolValue {
    let mut byte = || seed.next().unwrap_or(1);
    match ty {
        DynSolType::Bool => DynSolValue::Bool(byte() % 2 == 0),
        DynSolType::Uint(bits) => {
            let mask = alloy_primitives::U256::MAX >> (256 - bits);
            DynSolValue::Uint(alloy_primitives::U256::from_be_bytes([byte(); 32]) & mask, *bits)
        }
        DynSolType::Int(bits) => {
            let value = i64::from(byte()) - 128;
            DynSolValue::Int(alloy_primitives::I256::try_from(value).unwrap(), *bits)
        }
        DynSolType::Address => DynSolValue::Address([byte(); 20].into()),
        DynSolType::FixedBytes(size) => {
            let mut word = [0; 32];
            word[..*size].fill(byte());
            DynSolValue::FixedBytes(word.into(), *size)
        }
        DynSolType::Bytes => DynSolValue::Bytes(vec![byte(); usize::from(byte() % 70)]),
        DynSolType::String => DynSolValue::String("é".repeat(usize::from(byte() % 40))),
        DynSolType::Array(item) => {
            let count = byte() % 4;
            DynSolValue::Array((0..count).map(|_| dyn_value(item, seed)).collect())
        }
        DynSolType::FixedArray(item, count) => {
            DynSolValue::FixedArray((0..*count).map(|_| dyn_value(item, seed)).collect())
        }
        DynSolType::Tuple(types) => {
            DynSolValue::Tuple(types.iter().map(|ty| dyn_value(ty, seed)).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn ours(value: &DynSolValue) -> Value {
    let all = |values: &[DynSolValue]| values.iter().map(ours).collect();
    match value {
        DynSolValue::Bool(value) => Value::Bool(*value),
        DynSolValue::Uint(value, _) => Value::Uint(*value),
        DynSolValue::Int(value, _) => Value::Int(I256::from_bits(value.into_raw())),
        DynSolValue::Address(value) => Value::Address(Address(value.into_array())),
        DynSolValue::FixedBytes(word, size) => {
            let size = u8::try_from(*size).unwrap();
            Value::FixedBytes(FixedBytes::from_word(word.0, size).unwrap())
        }
        DynSolValue::Bytes(value) => Value::Bytes(value.clone().into()),
        DynSolValue::String(value) => Value::String(value.as_str().into()),
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) => Value::Array(all(values)),
        DynSolValue::Tuple(values) => Value::Tuple(all(values)),
        other => panic!("{other:?}"),
    }
}

fn function_of(picks: &[usize]) -> (Abi, alloy_json_abi::Function) {
    let types: Vec<_> = picks.iter().map(|pick| TYPES[*pick]).collect();
    let text = format!("function f({})", types.join(", "));
    (abi(&text), alloy_json_abi::Function::parse(text.trim_start_matches("function ")).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn decodes_what_alloy_encodes(
        picks in prop::collection::vec(0..TYPES.len(), 1..5),
        bytes in prop::collection::vec(any::<u8>(), 64),
    ) {
        let (abi, oracle) = function_of(&picks);
        let mut seed = bytes.into_iter();
        let values: Vec<_> = picks
            .iter()
            .map(|pick| dyn_value(&DynSolType::parse(TYPES[*pick]).unwrap(), &mut seed))
            .collect();
        let input: Bytes = oracle.abi_encode_input(&values).unwrap().into();
        let (_, found) = abi.decode_call(&input).unwrap();
        let expected: Vec<_> = values.iter().map(ours).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn random_and_damaged_data_never_panics_and_agrees_where_both_decode(
        picks in prop::collection::vec(0..TYPES.len(), 1..4),
        bytes in prop::collection::vec(any::<u8>(), 64),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..=96), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let (abi, oracle) = function_of(&picks);
        let mut seed = bytes.into_iter();
        let values: Vec<_> = picks
            .iter()
            .map(|pick| dyn_value(&DynSolType::parse(TYPES[*pick]).unwrap(), &mut seed))
            .collect();
        let mut input = oracle.abi_encode_input(&values).unwrap();
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input.truncate(input.len() - cut.index(input.len().div_ceil(4)));
        let input: Bytes = input.into();
        if let (Ok((_, found)), Ok(theirs)) =
            (abi.decode_call(&input), oracle.abi_decode_input(input.get(4..).unwrap_or_default()))
        {
            // alloy replaces what is not UTF-8; ours keeps the bytes.
            let lossy = |values: &[Value]| format!("{values:?}");
            prop_assert_eq!(lossy(&found), lossy(&theirs.iter().map(ours).collect::<Vec<_>>()));
        }
    }
}
