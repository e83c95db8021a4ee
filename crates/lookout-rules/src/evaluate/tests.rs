//! Cases for `evaluate`.

use std::sync::LazyLock;

use bytes::Bytes;
use lookout_abi::Abi;
use lookout_types::{Outcome, Step};
use proptest::prelude::*;

use super::*;
use crate::{Labels, RuleSpec, Watch, WatchedAsset, Window};

pub(crate) const CHAIN: ChainId = ChainId(1);

pub(crate) static ABI: LazyLock<Arc<Abi>> = LazyLock::new(|| {
    let text = r#"[
        "event Transfer(address indexed from, address indexed to, uint256 value)",
        "event Moved(int256 delta, bool up, bytes4 tag, address who)",
        "event Said(address indexed who, string text, uint256[] numbers, string indexed topic)",
        "event Clash(uint256 address, uint256 tx, uint256 logIndex)",
        "event Whisper(uint256 indexed a, uint256 b) anonymous",
        {"type":"event","name":"Shape","anonymous":false,"inputs":[
            {"name":"point","type":"tuple","indexed":false,"components":[
                {"name":"x","type":"uint256"},{"name":"owner","type":"address"}]},
            {"name":"named","type":"tuple","indexed":false,"components":[
                {"name":"x","type":"uint256"},{"name":"name","type":"string"}]}]},
        "function transfer(address to, uint256 value)"
    ]"#;
    Arc::new(Abi::parse(text).unwrap())
});

static NFT: LazyLock<Arc<Abi>> = LazyLock::new(|| {
    let text =
        r#"["event Transfer(address indexed from, address indexed to, uint256 indexed id)"]"#;
    Arc::new(Abi::parse(text).unwrap())
});

pub(crate) fn address(last: u8) -> Address {
    let mut address = Address::default();
    address.0[19] = last;
    address
}

pub(crate) fn word(value: u64) -> Hash {
    Hash(U256::from(value).to_be_bytes())
}

fn address_word(of: Address) -> Hash {
    Hash(crate::expr::address_key(&of))
}

pub(crate) fn transfer_log(from: u8, to: u8, value: U256) -> Log {
    log("Transfer", &[address_word(address(from)), address_word(address(to))], &[value])
}

fn log(event: &str, topics: &[Hash], words: &[U256]) -> Log {
    let topic0 = ABI.event(event).unwrap().topic0;
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
    Log {
        address: address(0xaa),
        topics: [topic0].into_iter().chain(topics.iter().copied()).collect(),
        data: data.into(),
        transaction_hash: word(7),
        transaction_index: 0,
        log_index: 0,
    }
}

pub(crate) fn transaction() -> Transaction {
    Transaction {
        hash: word(7),
        index: 0,
        from: address(1),
        to: Some(address(2)),
        value: Amount(U256::from(5)),
        nonce: 9,
        input: Bytes::new(),
        outcome: Some(Outcome {
            success: true,
            gas_used: 21_000,
            gas_price: Amount(U256::from(10)),
            created: None,
        }),
    }
}

pub(crate) fn frame(logs: Vec<Log>) -> Frame {
    Frame {
        chain: CHAIN,
        sequence: 1,
        step: Step::Apply,
        block: BlockRef { number: 100, hash: word(100) },
        parent: word(99),
        timestamp: 1_700_000_000,
        transactions: vec![transaction()],
        logs,
    }
}

pub(crate) fn spec(watch: Watch, condition: &str) -> RuleSpec {
    RuleSpec {
        id: RuleId(1),
        version: 1,
        name: "test".to_owned(),
        chain: CHAIN,
        watch,
        condition: condition.to_owned(),
        window: None,
        template: None,
    }
}

pub(crate) fn event(name: &str) -> Watch {
    Watch::Event { abi: ABI.clone(), event: name.to_owned(), addresses: Vec::new() }
}

pub(crate) fn labels() -> Labels {
    let treasury: Arc<[Address]> = [address(1), address(3)].into();
    Labels::from([("treasury".to_owned(), treasury)])
}

pub(crate) fn compile(spec: RuleSpec) -> Arc<Rule> {
    Arc::new(Rule::compile(spec, &labels()).unwrap_or_else(|error| panic!("{error}")))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Matches,
    Nothing,
    Fails(EvalError),
}
use Expected::{Fails, Matches, Nothing};

fn outcome(watch: Watch, condition: &str, frame: &Frame, transfers: &[Transfer]) -> Expected {
    let rule = compile(spec(watch, condition));
    let mut rules = RuleSet::new();
    rules.insert(rule.clone());
    let found = evaluate(&rules, frame, transfers);
    match (found.matches.len(), found.failures.first()) {
        (0, None) => Nothing,
        (0, Some(failure)) => Fails(failure.error),
        _ => Matches,
    }
}

fn check_log(condition: &str, log: &Log, expected: Expected) {
    let topic0 = log.topics.first();
    let event_name = ABI.events().iter().find(|event| Some(&event.topic0) == topic0).unwrap();
    let watch = event(&event_name.name);
    let found = outcome(watch, condition, &frame(vec![log.clone()]), &[]);
    assert_eq!(found, expected, "{condition}");
}

const TRANSFER_CASES: &[(&str, Expected)] = &[
    ("", Matches),
    ("true", Matches),
    ("value == units(\"1.5\", 6)", Matches),
    ("value > 1500000", Nothing),
    ("value >= 1500000 && value <= 1500000", Matches),
    ("1500000 <= value", Matches),
    ("1500000 < value", Nothing),
    ("value < 1500001u", Matches),
    ("value != 1500000", Nothing),
    (
        "value > 115792089237316195423570985008687907853269984665640564039457584007913129639934",
        Nothing,
    ),
    ("from == \"0x0000000000000000000000000000000000000001\"", Matches),
    ("from == 0x0000000000000000000000000000000000000001", Matches),
    ("from == address(\"0x0000000000000000000000000000000000000001\")", Matches),
    (
        "to == \"0x0000000000000000000000000000000000000001\" || from == \"0x0000000000000000000000000000000000000001\"",
        Matches,
    ),
    ("from in [\"0x0000000000000000000000000000000000000001\"] && value in [1, 1500000]", Matches),
    ("from in [] || to == \"0x0000000000000000000000000000000000000001\"", Nothing),
    ("from in labels[\"treasury\"]", Matches),
    ("to in labels[\"treasury\"]", Nothing),
    ("!(to in labels[\"treasury\"])", Matches),
    ("from != to", Matches),
    ("args.from == from && args.value == value", Matches),
    ("value / 2 * 2 == value && value % 7 == 1500000 % 7", Matches),
    ("value - 1500001 == 0", Fails(EvalError::BelowZero)),
    ("int(value) - 1500001 == -1", Matches),
    ("-int(value) < 0", Matches),
    ("uint(int(value)) == value", Matches),
    ("uint(-int(value)) == 0", Fails(EvalError::BelowZero)),
    ("1 / (value - 1500000) == 1", Fails(EvalError::DivisionByZero)),
    ("value < 5 && 1 / (value - 1500000) == 1", Nothing),
    ("1 / (value - 1500000) == 1 && value < 5", Nothing),
    ("1 / (value - 1500000) == 1 || value > 5", Matches),
    ("value > 5 ? from in labels[\"treasury\"] : false", Matches),
    ("(value > 5 ? value : 0) == 1500000", Matches),
    ("(value > 5 ? -1 : 2) < 0", Matches),
    ("block.number == 100 && block.timestamp > 1600000000 && chain == 1", Matches),
    ("tx.from == from && tx.value == 5 && tx.nonce == 9 && tx.status", Matches),
    ("tx.fee == 210000 && tx.gasUsed == 21000", Matches),
    ("has(tx.from) && has(tx.to) && !has(tx.created) && has(value)", Matches),
    ("tx.created == null && tx.to != null", Matches),
    ("tx.created == from || tx.created in labels[\"treasury\"]", Nothing),
    ("tx.created != from", Matches),
    ("tx.hash == 0x0000000000000000000000000000000000000000000000000000000000000007", Matches),
    ("address == \"0x00000000000000000000000000000000000000aa\" && logIndex == 0", Matches),
    ("size(tx.input) == 0 && tx.input == b''", Matches),
];

#[test]
fn conditions_on_a_transfer() {
    let log = transfer_log(1, 2, U256::from(1_500_000));
    let huge = transfer_log(1, 2, U256::MAX);
    for (condition, expected) in TRANSFER_CASES {
        check_log(condition, &log, *expected);
    }
    for (condition, expected) in [
        ("value + 1 > 0", Fails(EvalError::Overflow)),
        ("value * 2 > 0", Fails(EvalError::Overflow)),
        ("int(value) > 0", Fails(EvalError::Overflow)),
        (
            "value > 115792089237316195423570985008687907853269984665640564039457584007913129639934",
            Matches,
        ),
        (
            "value > 115792089237316195423570985008687907853269984665640564039457584007913129639935",
            Nothing,
        ),
        (
            "value >= u256(\"0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\")",
            Matches,
        ),
    ] {
        check_log(condition, &huge, expected);
    }
}

#[test]
fn conditions_on_signed_numbers_bytes_and_bools() {
    let minus_five = U256::from(5).wrapping_neg();
    let tag = U256::from(0xdead_beef_u64) << 224;
    let log = log("Moved", &[], &[minus_five, U256::from(1), tag, U256::from(3)]);
    for (condition, expected) in [
        ("delta == -5", Matches),
        ("delta < 0 && delta > -6 && delta >= -5", Matches),
        ("delta > 0", Nothing),
        (
            "delta < 57896044618658097711785492504343953926634992332820282019728792003956564819967",
            Matches,
        ),
        ("delta < block.number && block.number > delta", Matches),
        ("delta != block.number", Matches),
        ("delta in [-5, 7]", Matches),
        ("delta * -1 == 5 && delta / 2 == -2 && delta % 3 == -2", Matches),
        ("delta + block.number == 95", Matches),
        ("up", Matches),
        ("!up || up == false", Nothing),
        ("up == true && up != false", Matches),
        ("tag == \"0xdeadbeef\" && tag == 0xdeadbeef && tag in [\"0xdeadbeef\"]", Matches),
        (
            "tag.startsWith(\"0xdead\") && tag.endsWith(b'\\xef') && tag.contains(\"0xadbe\")",
            Matches,
        ),
        ("tag > \"0xdeadbe00\" && size(tag) == 4", Matches),
        ("who in labels[\"treasury\"]", Matches),
    ] {
        check_log(condition, &log, expected);
    }
}

fn said(text: &[u8], numbers: &[u64]) -> Log {
    let mut words = vec![U256::from(64), U256::ZERO, U256::from(text.len())];
    let mut padded = text.to_vec();
    padded.resize(text.len().div_ceil(32) * 32, 0);
    words.extend(padded.chunks(32).map(U256::from_be_slice));
    words[1] = U256::from(words.len() * 32);
    words.push(U256::from(numbers.len()));
    words.extend(numbers.iter().map(|n| U256::from(*n)));
    let topic = Hash(sha3_of("swap"));
    log("Said", &[address_word(address(1)), topic], &words)
}

fn sha3_of(text: &str) -> [u8; 32] {
    use sha3::{Digest, Keccak256};
    Keccak256::digest(text.as_bytes()).as_slice().try_into().unwrap()
}

#[test]
fn conditions_on_strings_and_lists() {
    let log = said("Grüße, world".as_bytes(), &[4, 5, 6]);
    for (condition, expected) in [
        ("text == \"Grüße, world\"", Matches),
        ("text in [\"a\", \"Grüße, world\"]", Matches),
        ("text.startsWith(\"Gr\") && text.endsWith(\"world\") && text.contains(\"üß\")", Matches),
        ("text.matches(\"^Gr.*[a-z]+$\")", Matches),
        ("matches(text, \"^x\")", Nothing),
        ("size(text) == 12 && text.size() == 12", Matches),
        ("text < \"H\"", Matches),
        ("size(numbers) == 3 && numbers[1] == 5", Matches),
        ("numbers[3] == 5", Fails(EvalError::OutOfRange)),
        ("5 in numbers && !(7 in numbers)", Matches),
        ("block.number in numbers", Nothing),
        ("topic == keccak256(\"swap\")", Matches),
        ("topic == keccak256(\"swop\")", Nothing),
        ("who in labels[\"treasury\"]", Matches),
    ] {
        check_log(condition, &log, expected);
    }
    let hostile = said(&[0xff, 0, b'a'], &[]);
    check_log("text.contains(\"a\") && text != \"a\"", &hostile, Matches);
    check_log("text.matches(\"a$\")", &hostile, Matches);
}

#[test]
fn conditions_on_tuples_and_clashing_names() {
    let mut words = vec![U256::from(8), U256::from(3), U256::from(96)];
    words.extend([U256::from(9), U256::from(64), U256::from(2)]);
    words.push(U256::from_be_slice(b"ok") << 240);
    let shape = log("Shape", &[], &words);
    for (condition, expected) in [
        ("point.x == 8 && point.owner in labels[\"treasury\"]", Matches),
        ("args.named.name == \"ok\" && named.x == 9", Matches),
        ("point.x > named.x", Nothing),
    ] {
        check_log(condition, &shape, expected);
    }
    let clash = log("Clash", &[], &[U256::from(1), U256::from(2), U256::from(3)]);
    let watch = event("Clash");
    let rule = compile(spec(watch, "args.address == 1 && args.tx == 2 && args.logIndex == 3"));
    assert_eq!(rule.notes().len(), 3);
    assert_eq!(
        rule.notes()[0],
        "`address` is Lookout's own; the argument of that name is `args.address`"
    );
    check_log("args.address == 1 && logIndex == 0", &clash, Matches);
}

#[test]
fn transactions_and_calls() {
    let mut call = transaction();
    let mut input = vec![0xa9, 0x05, 0x9c, 0xbb];
    input.extend(address_word(address(3)).0);
    input.extend(word(77).0);
    call.input = input.into();
    let mut with_call = frame(vec![]);
    with_call.transactions = vec![call];
    let any = || Watch::Transaction { addresses: vec![], function: None };
    let function = |addresses| Watch::Transaction {
        addresses,
        function: Some((ABI.clone(), "transfer".to_owned())),
    };
    let check = |watch, condition: &str, expected| {
        assert_eq!(outcome(watch, condition, &with_call, &[]), expected, "{condition}");
    };
    check(any(), "from in labels[\"treasury\"] && value == 5 && nonce == 9 && status", Matches);
    check(any(), "selector == \"0xa9059cbb\" && input.startsWith(\"0xa9059cbb\")", Matches);
    check(any(), "fee > 210000", Nothing);
    check(function(vec![]), "args.to in labels[\"treasury\"] && args.value == 77", Matches);
    check(function(vec![address(2)]), "value == 5 && to != args.to", Matches);
    check(function(vec![address(9)]), "", Nothing);

    let mut bad = with_call.clone();
    bad.transactions[0].input = Bytes::from_static(&[0xa9, 0x05, 0x9c, 0xbb, 1]);
    assert_eq!(outcome(function(vec![]), "", &bad, &[]), Nothing);
    let named = outcome(function(vec![address(2)]), "", &bad, &[]);
    assert_eq!(named, Fails(EvalError::Undecodable));

    let mut unread = frame(vec![transfer_log(1, 2, U256::from(3))]);
    unread.transactions.clear();
    for (condition, expected) in [
        ("tx.value > 3", Fails(EvalError::Unread("tx.value"))),
        ("value % 2 == 1 && tx.status", Fails(EvalError::Unread("tx.status"))),
        ("has(tx.from)", Nothing),
        ("tx.hash == 0x0000000000000000000000000000000000000000000000000000000000000007", Matches),
    ] {
        assert_eq!(outcome(event("Transfer"), condition, &unread, &[]), expected, "{condition}");
    }
}

#[test]
fn transfers_and_balances() {
    let frame = frame(vec![]);
    let erc20 = Transfer {
        asset: Asset::Erc20(address(8)),
        from: address(1),
        to: address(2),
        amount: Amount(U256::from(50)),
        transaction_hash: word(7),
        transaction_index: 0,
        log_index: Some(0),
        batch_index: 0,
    };
    let native = Transfer { asset: Asset::Native, log_index: None, ..erc20 };
    let nft = Transfer {
        asset: Asset::Erc721 { contract: address(8), id: Amount(U256::from(6)) },
        ..erc20
    };
    let moved = |asset| Watch::Transfer { asset };
    let tokens = || WatchedAsset::Tokens(vec![address(8)]);
    for (watch, condition, transfer, expected) in [
        (WatchedAsset::Any, "amount == 50 && kind == \"erc20\" && token != from", erc20, Matches),
        (
            WatchedAsset::Any,
            "kind == \"native\" && token == null && !has(tokenId)",
            native,
            Matches,
        ),
        (WatchedAsset::Native, "amount > 49", native, Matches),
        (WatchedAsset::Native, "", erc20, Nothing),
        (tokens(), "asset.startsWith(\"erc20:0x\")", erc20, Matches),
        (tokens(), "tokenId > 5", nft, Matches),
        (tokens(), "tokenId > 5 || tokenId <= 5", erc20, Nothing),
        (tokens(), "", native, Nothing),
    ] {
        let found = outcome(moved(watch), condition, &frame, &[transfer]);
        assert_eq!(found, expected, "{condition}");
    }

    let reading = BalanceReading {
        account: address(1),
        asset: Asset::Native,
        balance: Amount(U256::from(10)),
        previous: Amount(U256::from(30)),
    };
    for (condition, expected) in [
        ("balance < 11 && change == -20 && previous == 30 && account in labels[\"treasury\"]", 1),
        ("change < -20", 0),
    ] {
        let mut rules = RuleSet::new();
        rules.insert(compile(spec(Watch::Balance { addresses: vec![address(1)] }, condition)));
        let found = evaluate_balances(&rules, &frame, &[reading]);
        assert_eq!(found.matches.len(), expected, "{condition}");
    }
}

#[test]
fn logs_that_do_not_fit_are_counted_where_they_should_fit_and_passed_where_not() {
    let mut nft_log = transfer_log(1, 2, U256::ZERO);
    nft_log.topics.push(word(5));
    nft_log.data = Bytes::new();
    let mut bare = nft_log.clone();
    bare.topics.clear();
    let mut short = transfer_log(1, 2, U256::ZERO);
    short.data = Bytes::from_static(&[0; 31]);
    let frame = frame(vec![nft_log, bare, short]);
    let of = |abi: &Arc<Abi>, addresses| Watch::Event {
        abi: abi.clone(),
        event: "Transfer".to_owned(),
        addresses,
    };
    let run = |watch| {
        let mut rules = RuleSet::new();
        rules.insert(compile(spec(watch, "")));
        let found = evaluate(&rules, &frame, &[]);
        let failures = found.failures.iter().map(|failure| failure.count).sum::<u64>();
        let of_rule = found.undecodable.iter().map(|failure| failure.count).sum::<u64>();
        assert_eq!(of_rule, failures);
        (found.matches.len(), failures)
    };
    // On any contract the other `Transfer` is another event; only the short one is broken.
    assert_eq!(run(of(&ABI, vec![])), (0, 1));
    assert_eq!(run(of(&NFT, vec![])), (1, 0));
    // On a named contract the ABI is held to be right.
    assert_eq!(run(of(&ABI, vec![address(0xaa)])), (0, 2));
    let whisper = Watch::Event {
        abi: ABI.clone(),
        event: "Whisper".to_owned(),
        addresses: vec![address(0xaa)],
    };
    assert_eq!(run(whisper), (0, 0));
}

#[test]
fn a_log_that_does_not_decode_counts_once_for_each_rule_on_its_event() {
    let broken = |emitter: u8, bytes: &'static [u8], log_index| Log {
        address: address(emitter),
        data: Bytes::from_static(bytes),
        log_index,
        ..log("Said", &[word(1), word(2)], &[])
    };
    let logs = vec![
        broken(0xaa, &[0; 3], 1),
        broken(0xbb, &[0; 40], 2),
        transfer_log(1, 2, U256::ZERO),
        broken(0xcc, &[0; 5], 4),
    ];
    let of = |event: &str, addresses: Vec<Address>| Watch::Event {
        abi: ABI.clone(),
        event: event.to_owned(),
        addresses,
    };
    let said = |addresses| of("Said", addresses);
    let mut rules = RuleSet::new();
    let some = vec![address(0xaa), address(0xbb)];
    for (id, watch, condition) in [
        (1, said(vec![]), ""),
        // Reached by several ways, and with a bound that none of the logs could meet.
        (2, said(some), "text == \"a\" || text == \"b\" || size(numbers) > 3"),
        (3, said(vec![address(0xdd)]), ""),
        (4, of("Transfer", vec![]), ""),
        (5, said(vec![address(0xcc)]), ""),
    ] {
        rules.insert(compile(RuleSpec { id: RuleId(id), ..spec(watch, condition) }));
    }
    let found = evaluate(&rules, &frame(logs), &[]);
    let at = |record| match record {
        RecordKey::Log { log_index, .. } => log_index,
        other => panic!("{other:?}"),
    };
    let told: Vec<_> =
        found.undecodable.iter().map(|each| (each.rule.0, each.count, at(each.last))).collect();
    assert_eq!(told, [(1, 3, 4), (2, 2, 2), (5, 1, 4)]);
    let reason = found.undecodable[0].error.to_string();
    assert!(reason.contains("5 bytes"), "{reason}");
    // Without a rule, for the meters: once for each way in which rules read the log.
    assert_eq!(found.failures.iter().filter(|failure| failure.rule.is_some()).count(), 0);
}

/// Every rule on every record, without an index.
fn naive(rules: &[Arc<Rule>], frame: &Frame) -> (Vec<(RecordKey, RuleId)>, Vec<RuleId>) {
    let (mut matches, mut failed) = (Vec::new(), Vec::new());
    for log in &frame.logs {
        let record = RecordKey::Log { transaction: log.transaction_hash, log_index: log.log_index };
        for rule in rules {
            let Layout::Event(event) = &rule.layout else { panic!("only events here") };
            let watched = rule.groups.iter().any(|group| {
                group.chain == frame.chain
                    && group.address.is_none_or(|address| address == log.address)
            });
            if !watched || !event.fits(log) {
                continue;
            }
            let values = event.decode(log).unwrap();
            let mut view = View::new(frame, Subject::Log(log));
            view.values = Some(&values);
            let held =
                rule.condition.as_ref().map_or(Ok(true), |condition| eval::holds(condition, &view));
            match held {
                Ok(true) => matches.push((record, rule.id())),
                Ok(false) => {}
                Err(_) => failed.push(rule.id()),
            }
        }
    }
    failed.sort();
    (matches, failed)
}

fn atom() -> impl Strategy<Value = String> {
    let who = prop::sample::select(vec!["from", "to", "tx.from", "address"]);
    let number = prop::sample::select(vec!["value", "tx.value", "block.number", "logIndex"]);
    let op = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let list = prop::collection::vec(0u8..6, 0..4);
    prop_oneof![
        4 => (who.clone(), 0u8..6).prop_map(|(who, n)| format!("{who} == \"{}\"", address(n))),
        2 => (who.clone(), list.clone()).prop_map(|(who, list)| {
            let items: Vec<_> = list.iter().map(|n| format!("\"{}\"", address(*n))).collect();
            format!("{who} in [{}]", items.join(", "))
        }),
        1 => who.prop_map(|who| format!("{who} in labels[\"treasury\"]")),
        4 => (number.clone(), op, 0u8..8).prop_map(|(name, op, n)| format!("{name} {op} {n}")),
        2 => (number.clone(), list).prop_map(|(name, list)| format!("{name} in {list:?}")),
        1 => (number, 0u8..4, 1u8..4).prop_map(|(name, a, b)| format!("{name} - {a} > 6 / (value % {b})")),
        1 => Just("from != to".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let joined = |mark: &'static str| {
        prop::collection::vec(atom(), 1..4).prop_map(move |atoms| atoms.join(mark))
    };
    prop_oneof![
        3 => joined(" && "),
        2 => joined(" || "),
        1 => prop::collection::vec(joined(" || ").prop_map(|any| format!("({any})")), 1..3)
            .prop_map(|all| all.join(" && ")),
        1 => prop::collection::vec(joined(" && ").prop_map(|all| format!("({all})")), 1..3)
            .prop_map(|any| any.join(" || ")),
        1 => atom().prop_map(|atom| format!("!({atom})")),
        1 => Just(String::new()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_index_gives_what_asking_every_rule_gives(
        conditions in prop::collection::vec((condition(), prop::option::of(0u8..3)), 1..30),
        records in prop::collection::vec((0u8..6, 0u8..6, 0u64..8, 0u8..3), 1..12),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        swapped in prop::collection::vec((any::<prop::sample::Index>(), condition()), 0..8),
    ) {
        let rule = |id: usize, condition: &str, emitter: Option<u8>| {
            let watch = Watch::Event {
                abi: ABI.clone(),
                event: "Transfer".to_owned(),
                addresses: emitter.map(|n| address(0xa0 + n)).into_iter().collect(),
            };
            let id = RuleId(u128::try_from(id).unwrap());
            compile(RuleSpec { id, ..spec(watch, condition) })
        };
        let mut all: Vec<_> = conditions
            .iter()
            .enumerate()
            .map(|(id, (condition, emitter))| rule(id, condition, *emitter))
            .collect();
        let mut rules = RuleSet::new();
        for rule in &all {
            rules.insert(rule.clone());
        }
        let untouched = rules.clone();
        let before = all.clone();
        for (at, condition) in &swapped {
            let at = at.index(all.len());
            all[at] = rule(at, condition, Some(0));
            rules.insert(all[at].clone());
        }
        let mut gone = Vec::new();
        for at in &removed {
            let id = all[at.index(all.len())].id();
            prop_assert_eq!(rules.remove(id).is_some(), !gone.contains(&id));
            gone.push(id);
        }
        all.retain(|rule| !gone.contains(&rule.id()));

        let logs = records.iter().enumerate().map(|(index, (from, to, value, emitter))| Log {
            address: address(0xa0 + emitter),
            log_index: u32::try_from(index).unwrap(),
            ..transfer_log(*from, *to, U256::from(*value))
        });
        let frame = frame(logs.collect());
        for (set, list) in [(&rules, &all), (&untouched, &before)] {
            prop_assert_eq!(set.len(), list.len());
            let found = evaluate(set, &frame, &[]);
            let (matches, failed) = naive(list, &frame);
            let indexed: Vec<_> = found.matches.iter().map(|m| (m.record, m.rule)).collect();
            prop_assert_eq!(indexed, matches);
            // A failure is counted per rule; a rule found twice for one record may count it twice.
            let mut counted: Vec<_> =
                found.failures.iter().filter_map(|f| f.rule.map(|rule| rule.0)).collect();
            counted.dedup();
            let mut failed = failed;
            failed.dedup();
            prop_assert_eq!(counted, failed);
        }
        for rule in &all {
            rules.remove(rule.id());
        }
        prop_assert!(rules.is_drained());
    }

    #[test]
    fn meaning_is_that_of_cel_on_64_bit_numbers(
        source in number_condition(),
        a in -20i64..20,
        b in -20i64..20,
        c in any::<bool>(),
    ) {
        let mut context = cel::Context::default();
        context.add_variable_from_value("delta", a);
        context.add_variable_from_value("other", b);
        context.add_variable_from_value("up", c);
        let program = cel::Program::compile(&source).expect("cel parses it");
        let theirs = match program.execute(&context) {
            Ok(cel::Value::Bool(value)) => Ok(value),
            Ok(other) => panic!("{source} gave {other:?}"),
            Err(_) => Err(()),
        };
        let abi = Abi::parse(r#"["event E(int256 delta, int256 other, bool up)"]"#).unwrap();
        let event = abi.event("E").unwrap().clone();
        let bits = |n: i64| lookout_abi::I256::from(n).to_bits();
        let mut log = log("Clash", &[], &[bits(a), bits(b), U256::from(u8::from(c))]);
        log.topics = vec![event.topic0];
        let watch = Watch::Event { abi: Arc::new(abi), event: "E".to_owned(), addresses: vec![] };
        let ours = match outcome(watch, &source, &frame(vec![log]), &[]) {
            Matches => Ok(true),
            Nothing => Ok(false),
            Fails(_) => Err(()),
        };
        prop_assert_eq!(ours, theirs, "{} with {} {} {}", source, a, b, c);
    }
}

/// Numbers keep to signed 64 bits, where CEL's and ours are the same.
fn number_expr() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("delta".to_owned()),
        Just("other".to_owned()),
        (0i64..20).prop_map(|n| format!("(delta * 0 + {n})")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            inner.prop_map(|a| format!("(-{a})")),
        ]
    })
}

fn number_condition() -> impl Strategy<Value = String> {
    let op = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let compare = (number_expr(), op, number_expr()).prop_map(|(a, op, b)| format!("{a} {op} {b}"));
    let inside = (number_expr(), prop::collection::vec(-20i64..20, 1..4))
        .prop_map(|(a, list)| format!("{a} in {list:?}"));
    let leaf = prop_oneof![compare, inside, Just("up".to_owned()), Just("true".to_owned())];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(c, a, b)| format!("(({c}) ? ({a}) : ({b}))")),
        ]
    })
}

#[test]
fn what_a_rule_needs_is_known() {
    let needs = |watch, condition: &str| {
        let needs = compile(spec(watch, condition)).needs();
        (needs.transactions, needs.receipts)
    };
    // Without a template of its own a rule's message names the transaction by its hash alone.
    assert_eq!(needs(event("Transfer"), "value > 5"), (false, false));
    assert_eq!(needs(event("Transfer"), "tx.value > 5"), (true, false));
    assert_eq!(needs(event("Transfer"), "tx.status"), (true, true));
    assert_eq!(needs(Watch::Transfer { asset: WatchedAsset::Native }, ""), (true, true));
    let window =
        Some(Window::Sum { over_s: 60, of: "tx.fee".to_owned(), condition: "sum > 0".to_owned() });
    let rule = compile(RuleSpec { window, ..spec(event("Transfer"), "") });
    assert!(rule.needs().receipts);
}
