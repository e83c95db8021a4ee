//! Round trips of any frame, and bytes that are none.

use ::bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use ruint::aliases::U256;

use super::*;
use crate::{Address, Amount, BlockRef, Hash, Log, Outcome, Transaction};

fn hash() -> impl Strategy<Value = Hash> {
    // Few distinct ones, many zeros: what the encoding treats specially.
    prop_oneof![
        (0..3_u8).prop_map(|n| Hash([n; 32])),
        any::<u64>().prop_map(|n| Hash(U256::from(n).to_be_bytes())),
        any::<[u8; 32]>().prop_map(Hash),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![(0..3_u8).prop_map(|n| Address([n; 20])), any::<[u8; 20]>().prop_map(Address)]
}

fn amount() -> impl Strategy<Value = Amount> {
    hash().prop_map(|word| Amount(U256::from_be_bytes(word.0)))
}

fn data() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..100).prop_map(Bytes::from),
        vec(hash(), 0..5)
            .prop_map(|words| { words.iter().flat_map(|w| w.0).collect::<Vec<u8>>().into() }),
    ]
}

fn small_or_any() -> impl Strategy<Value = u32> {
    prop_oneof![0..4_u32, any::<u32>()]
}

prop_compose! {
    fn log()(
        address in address(), topics in vec(hash(), 0..=4), data in data(),
        transaction_hash in hash(), transaction_index in small_or_any(), log_index in small_or_any(),
    ) -> Log {
        Log { address, topics, data, transaction_hash, transaction_index, log_index }
    }
}

prop_compose! {
    fn transaction()(
        hash in hash(), index in small_or_any(), from in address(),
        to in proptest::option::of(address()), value in amount(), nonce in any::<u64>(),
        input in data(),
        outcome in proptest::option::of((
            any::<bool>(), any::<u64>(), amount(), proptest::option::of(address()),
        )),
    ) -> Transaction {
        let outcome = outcome.map(|(success, gas_used, gas_price, created)| {
            Outcome { success, gas_used, gas_price, created }
        });
        Transaction { hash, index, from, to, value, nonce, input, outcome }
    }
}

prop_compose! {
    fn frame()(
        chain in any::<u64>(), sequence in any::<u64>(), undo in any::<bool>(),
        number in any::<u64>(), block in hash(), parent in hash(), timestamp in any::<u64>(),
        transactions in vec(transaction(), 0..6), logs in vec(log(), 0..8),
    ) -> Frame {
        Frame {
            chain: ChainId(chain),
            sequence,
            step: if undo { Step::Undo } else { Step::Apply },
            block: BlockRef { number, hash: block },
            parent,
            timestamp,
            transactions,
            logs,
        }
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(frame, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn any_frame_comes_back_as_it_was(frame in frame()) {
        let bytes = encoded(&frame);
        prop_assert_eq!(decode_frame(&bytes), Ok(frame.clone()));
        let mut content = Vec::new();
        encode_content(&frame, &mut content).unwrap();
        let content = Content::read(&content).unwrap();
        prop_assert_eq!(content.log_count(), frame.logs.len());
        prop_assert_eq!(content.transaction_count(), frame.transactions.len());
        prop_assert_eq!(content.to_frame(frame.chain, frame.sequence, frame.step), Ok(frame));
    }

    #[test]
    fn a_frame_cut_short_or_lengthened_is_an_error(frame in frame(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&frame);
        prop_assert!(decode_frame(&bytes[..cut.index(bytes.len())]).is_err());
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(decode_frame(&longer).is_err());
    }

    #[test]
    fn damaged_bytes_never_panic(
        frame in frame(), flips in vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let mut bytes = encoded(&frame);
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Ok(other) = decode_frame(&bytes) {
            prop_assert_eq!(decode_frame(&encoded(&other)), Ok(other));
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..300)) {
        if let Some(first) = bytes.first_mut() {
            *first = FRAME_VERSION;
        }
        let decoded = decode_frame(&bytes);
        prop_assert!(decoded.is_err() || bytes.len() > 70);
    }
}

#[test]
fn a_plain_transfer_is_small() {
    let party = |n: u8| {
        let mut word = [0; 32];
        word[12..].fill(n);
        Hash(word)
    };
    let logs = (0..100_u8).map(|n| Log {
        address: Address([n % 4; 20]),
        topics: vec![crate::TRANSFER, party(n), party(n + 100)],
        data: U256::from(1_000_000_000_u64).to_be_bytes::<32>().to_vec().into(),
        transaction_hash: Hash([n; 32]),
        transaction_index: n.into(),
        log_index: n.into(),
    });
    let frame = Frame {
        chain: ChainId(1),
        sequence: 1,
        step: Step::Apply,
        block: BlockRef { number: 1, hash: Hash([1; 32]) },
        parent: Hash([2; 32]),
        timestamp: 1_700_000_000,
        transactions: Vec::new(),
        logs: logs.collect(),
    };
    // 42 bytes of parties, 32 of transaction hash, 5 of amount, 4 of flags and places.
    assert!(encoded(&frame).len() < 100 * 84 + 250, "{}", encoded(&frame).len());
}

#[test]
fn a_fifth_topic_and_another_version_are_refused() {
    let mut frame = decode_frame(&{
        let mut bytes = vec![FRAME_VERSION, 0, 1, 1, CONTENT_VERSION, 5];
        bytes.extend([1; 64]);
        bytes.extend([7, 0, 0, 0, 0, 0]);
        bytes
    })
    .unwrap();
    assert_eq!((frame.block.number, frame.timestamp), (5, 7));
    let mut bytes = encoded(&frame);
    bytes[0] = 9;
    assert_eq!(decode_frame(&bytes), Err(CodecError::Version(9)));
    frame.logs.push(Log {
        address: Address([1; 20]),
        topics: vec![Hash([1; 32]); 5],
        data: Bytes::new(),
        transaction_hash: Hash([1; 32]),
        transaction_index: 0,
        log_index: 3,
    });
    let mut out = vec![1, 2];
    let error = encode_frame(&frame, &mut out).unwrap_err();
    assert_eq!(error, CodecError::Topics { log_index: 3, topics: 5 });
    assert_eq!(out, [1, 2]);
}
