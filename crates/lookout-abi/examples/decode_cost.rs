//! Prints what decoding an ERC-20 `Transfer` costs: `cargo run --release -p lookout-abi --example decode_cost`.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::Instant;

use lookout_abi::Abi;
use lookout_types::{Address, Hash, Log};

const ROUNDS: u32 = 1_000_000;

fn main() {
    let text = r#"["event Transfer(address indexed from, address indexed to, uint256 value)"]"#;
    let abi = Abi::parse(text).expect("the ABI is right");
    let event = abi.event("Transfer").expect("it has the event").clone();
    let word = |last| {
        let mut word = [0; 32];
        word[31] = last;
        Hash(word)
    };
    let log = Log {
        address: Address([7; 20]),
        topics: vec![event.topic0, word(1), word(2)],
        data: word(3).0.to_vec().into(),
        transaction_hash: Hash::default(),
        transaction_index: 0,
        log_index: 0,
    };
    let time = |name: &str, run: &dyn Fn() -> bool| {
        let started = Instant::now();
        assert!((0..ROUNDS).all(|_| run()), "{name} failed");
        println!("{name}: {} ns", started.elapsed().as_nanos() / u128::from(ROUNDS));
    };
    time("check", &|| event.check(black_box(&log)).is_ok());
    time("decode", &|| event.decode(black_box(&log)).is_ok_and(|values| values.len() == 3));
    time("find and decode", &|| abi.decode_log(black_box(&log)).is_ok());
}
