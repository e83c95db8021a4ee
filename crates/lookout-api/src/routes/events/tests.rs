//! Events over HTTP: what is found, decoded, counted and exported, against the plainest search.

use std::fmt::Write;
use std::num::NonZeroU64;
use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt;
use http::Method;
use jiff::Timestamp;
use lookout_types::{Address, BlockRef, ChainId, Frame, Hash, Log, Step, TRANSFER};
use lookout_warehouse::suite::World;
use lookout_warehouse::{Event, EventFilter, EventGroup, Span};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::testing::{TestApi, comes, config};

pub(crate) const EVENTS: &str = "/v1/chains/ethereum/events";

/// Every item of a list, page by page.
pub(crate) async fn pages(api: &TestApi, query: &str, limit: u32) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let got = api.get(&format!("{query}&limit={limit}{cursor}")).await;
        assert_eq!(got.status, 200, "{query}: {}", got.text);
        let page = got.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= usize::try_from(limit).unwrap());
        all.extend(items.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

pub(crate) fn commas<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub(crate) fn span_query(span: &Span) -> String {
    let mut query = String::new();
    let time = |seconds: u64| Timestamp::from_second(seconds.cast_signed()).unwrap();
    for (name, height) in [("fromBlock", span.from_height), ("toBlock", span.to_height)] {
        if let Some(height) = height {
            write!(query, "&{name}={height}").unwrap();
        }
    }
    for (name, at) in [("fromTime", span.from_time), ("toTime", span.to_time)] {
        if let Some(at) = at {
            write!(query, "&{name}={}", time(at)).unwrap();
        }
    }
    query
}

fn filter_query(filter: &EventFilter) -> String {
    let mut query = span_query(&filter.span);
    if !filter.addresses.is_empty() {
        write!(query, "&address={}", commas(&filter.addresses)).unwrap();
    }
    for (at, topics) in filter.topics.iter().enumerate().filter(|(_, topics)| !topics.is_empty()) {
        write!(query, "&topic{at}={}", commas(topics)).unwrap();
    }
    query
}

pub(crate) fn in_span(span: &Span, block: &BlockRef, time: u64) -> bool {
    span.from_height.is_none_or(|from| block.number >= from)
        && span.to_height.is_none_or(|to| block.number <= to)
        && span.from_time.is_none_or(|from| time >= from)
        && span.to_time.is_none_or(|to| time < to)
}

fn wanted(filter: &EventFilter, event: &Event) -> bool {
    let topic = |at: usize| {
        let values = &filter.topics[at];
        values.is_empty() || event.log.topics.get(at).is_some_and(|t| values.contains(t))
    };
    in_span(&filter.span, &event.block, event.timestamp)
        && (filter.addresses.is_empty() || filter.addresses.contains(&event.log.address))
        && (0..4).all(topic)
}

/// What tells one log from another.
fn place(item: &Value) -> (u64, String, u64) {
    let number = |name: &str| item[name].as_u64().unwrap();
    (number("blockNumber"), item["blockHash"].as_str().unwrap().to_owned(), number("logIndex"))
}

fn expected(world: &World, keep: impl Fn(&Event) -> bool) -> Vec<(u64, String, u64)> {
    let events = world.events().into_iter().filter(keep);
    events.map(|e| (e.block.number, e.block.hash.to_string(), e.log.log_index.into())).collect()
}

async fn with_world(seed: u64) -> (TestApi, World) {
    let mut world = World::new(seed);
    world.run(80);
    let api = TestApi::start(config()).await;
    api.feed(&world.frames).await;
    (api, world)
}

#[tokio::test]
async fn filters_find_what_a_plain_search_finds_on_every_page() {
    for seed in 0..8 {
        let (api, mut world) = with_world(seed).await;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            let filter = world.random_event_filter(&mut random);
            let mut told = expected(&world, |event| wanted(&filter, event));
            let query = filter_query(&filter);
            let limit = random.u32(1..9);
            let up = pages(&api, &format!("{EVENTS}?order=asc{query}"), limit).await;
            assert_eq!(up.iter().map(place).collect::<Vec<_>>(), told, "{query}");
            told.reverse();
            let down = pages(&api, &format!("{EVENTS}?order=desc{query}"), 1000).await;
            assert_eq!(down.iter().map(place).collect::<Vec<_>>(), told, "{query}");
        }
    }
}

#[tokio::test]
async fn statistics_are_those_of_a_plain_count() {
    let names = [
        (EventGroup::All, ""),
        (EventGroup::Address, "&group=address"),
        (EventGroup::Event, "&group=event"),
        (EventGroup::AddressEvent, "&group=addressEvent"),
    ];
    let (api, mut world) = with_world(3).await;
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20 {
        let filter = world.random_event_filter(&mut random);
        let (group, name) = names[random.usize(0..4)];
        let (bucket, bucket_s) = [
            ("", None),
            ("&bucket=1m", NonZeroU64::new(60)),
            ("&bucket=2h", NonZeroU64::new(7200)),
        ][random.usize(0..3)];
        let query = format!("{EVENTS}/stats?{}{name}{bucket}", filter_query(&filter));
        let got = api.get(&query).await.json();
        let count = |stat: &Value| {
            let text = |name: &str| stat[name].as_str().map(str::to_owned);
            (text("fromTime"), text("address"), text("topic0"), stat["count"].as_u64().unwrap())
        };
        let told: Vec<_> = got["items"].as_array().unwrap().iter().map(count).collect();
        let plain = world.event_stats(&filter, bucket_s, group).into_iter().map(|stat| {
            let time = |s: u64| Timestamp::from_second(s.cast_signed()).unwrap().to_string();
            let text = |value: Option<String>| value;
            (
                text(stat.from_time.map(time)),
                text(stat.address.map(|address| address.to_string())),
                text(stat.topic0.map(|topic| topic.to_string())),
                stat.count,
            )
        });
        assert_eq!(told, plain.collect::<Vec<_>>(), "{query}");
    }
}

/// A block of chain 1 with these logs.
pub(crate) fn block(number: u64, sequence: u64, logs: Vec<Log>) -> Arc<Frame> {
    let hash = |number: u64| Hash(ruint_bytes(number));
    Arc::new(Frame {
        chain: ChainId(1),
        sequence,
        step: Step::Apply,
        block: BlockRef { number, hash: hash(number) },
        parent: hash(number - 1),
        timestamp: 1_700_000_000 + 12 * number,
        transactions: Vec::new(),
        logs,
    })
}

fn ruint_bytes(number: u64) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(crate) fn word(number: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&number.to_be_bytes());
    word
}

fn party(byte: u8) -> Hash {
    let mut topic = [0; 32];
    topic[12..].copy_from_slice(&[byte; 20]);
    Hash(topic)
}

pub(crate) fn log(log_index: u32, topics: Vec<Hash>, data: Vec<u8>) -> Log {
    Log {
        address: Address([0xa1; 20]),
        topics,
        data: data.into(),
        transaction_hash: Hash([9; 32]),
        transaction_index: 0,
        log_index,
    }
}

fn erc20(log_index: u32, to: u8, value: u128) -> Log {
    log(log_index, vec![TRANSFER, party(1), party(to)], word(value).to_vec())
}

/// Number of transfers in [`transfers`].
const TRANSFERS: u128 = 300;

/// Three transfers a block: the n-th to address 2 + n % 3, of n % 7; and an ERC-721 transfer, whose
/// topic is the same.
fn transfers() -> Vec<Arc<Frame>> {
    let blocks = 1..=u64::try_from(TRANSFERS / 3).unwrap();
    let one = |number: u64| {
        let mut logs: Vec<_> = (0..3_u32)
            .map(|at| {
                let n = u128::from(number - 1) * 3 + u128::from(at);
                erc20(at, 2 + u8::try_from(n % 3).unwrap(), n % 7)
            })
            .collect();
        if number == 50 {
            logs.push(log(3, vec![TRANSFER, party(1), party(2), Hash(word(5))], Vec::new()));
        }
        block(number, number, logs)
    };
    blocks.map(one).collect()
}

#[tokio::test]
async fn events_are_found_by_name_and_decoded() {
    let api = TestApi::start(config()).await;
    api.feed(&transfers()).await;
    let got = api.get(&format!("{EVENTS}?abi=erc20&event=Transfer&limit=1&order=asc")).await.json();
    let event = &got["items"][0]["event"];
    assert_eq!(event["signature"], "Transfer(address,address,uint256)");
    assert_eq!(
        event["args"],
        json!({
            "from": "0x0101010101010101010101010101010101010101",
            "to": "0x0202020202020202020202020202020202020202",
            "value": "0",
        })
    );
    assert_eq!(got["items"][0]["topics"][0], TRANSFER.to_string());
    assert_eq!(got["items"][0]["timestamp"], "2023-11-14T22:13:32Z");
    assert_eq!(got["held"], json!([{ "from": 1, "to": 100 }]));
    // The transfer of the other standard has the same topic: it is shown, not dropped.
    let all = pages(&api, &format!("{EVENTS}?abi=erc20&event=Transfer"), 1000).await;
    assert_eq!(all.len(), 301);
    let odd: Vec<_> = all.iter().filter(|item| !item["decodeError"].is_null()).collect();
    assert_eq!(odd.len(), 1);
    assert!(odd[0]["decodeError"].as_str().unwrap().contains("has 3 topics, the log has 4"));
    assert!(odd[0]["event"].is_null() && odd[0]["data"] == "0x");
    let got = api.get(&format!("{EVENTS}?abi=erc20&event=Transfer&limit=1000")).await.json();
    assert_eq!(got["decodeErrors"], 1);
    let got = api.get(&format!("{EVENTS}?decode=erc721&limit=1000")).await.json();
    assert_eq!(got["decodeErrors"], 300);
    let by_signature =
        format!("{EVENTS}?abi=erc20&event=Transfer(address,address,uint)&limit=1000");
    assert_eq!(api.get(&by_signature).await.json()["items"].as_array().unwrap().len(), 301);
}

#[tokio::test]
async fn arguments_are_searched_whether_indexed_or_not() {
    let api = TestApi::start(config()).await;
    api.feed(&transfers()).await;
    let to = |byte: u8| format!("where=to:{}", Address([byte; 20]));
    for (wheres, keep) in [
        (to(3), (|n: u128| n % 3 == 1) as fn(u128) -> bool),
        (format!("{}&{}", to(3), to(4)), |n| n % 3 > 0),
        ("where=value:5".to_owned(), |n| n % 7 == 5),
        ("where=value:5&where=value:0x6".to_owned(), |n| n % 7 > 4),
        (format!("{}&where=value:5", to(3)), |n| n % 3 == 1 && n % 7 == 5),
        ("where=value:7".to_owned(), |_| false),
        (to(9), |_| false),
    ] {
        // One that does not decode cannot be told from one that is asked for.
        let decodes = |item: &&Value| item["decodeError"].is_null();
        let told: Vec<_> = (0..TRANSFERS).filter(|n| keep(*n)).collect();
        for (order, limit) in [("asc", 1), ("asc", 7), ("desc", 3), ("asc", 100), ("desc", 1000)] {
            let query = format!("{EVENTS}?abi=erc20&event=Transfer&{wheres}&order={order}");
            let mut found: Vec<_> = pages(&api, &query, limit)
                .await
                .iter()
                .filter(decodes)
                .map(|item| {
                    let (number, _, at) = place(item);
                    u128::from((number - 1) * 3 + at)
                })
                .collect();
            if order == "desc" {
                found.reverse();
            }
            assert_eq!(found, told, "{query} {limit}");
        }
    }
}

#[tokio::test]
async fn hostile_text_is_kept_and_no_formula() {
    let api = TestApi::start(config()).await;
    let body = json!({ "name": "notes", "abi": "event Note(string text, int256 number)" });
    assert_eq!(api.call(Method::POST, "/v1/abis", &[], &body.to_string()).await.status, 201);
    let abi = lookout_abi::Abi::parse("event Note(string text, int256 number)").unwrap();
    let topic0 = abi.events()[0].topic0;
    let note = |at: u32, text: &[u8]| {
        let mut data = [word(64), [0xff; 32], word(text.len() as u128)].concat();
        data.extend(text);
        data.resize(data.len().next_multiple_of(32), 0);
        log(at, vec![topic0], data)
    };
    let long = "a".repeat(1 << 20);
    let texts: [&[u8]; 7] = [
        b"=HYPERLINK(\"http://evil\")",
        "<script>\u{202e}\u{0}".as_bytes(),
        b"\xff\xfe",
        b"line\r\nbreak, \"quoted\"",
        b"",
        b"@x",
        long.as_bytes(),
    ];
    let logs = (0..).zip(texts).map(|(at, text)| note(at, text)).collect();
    // A length that the data does not hold.
    let lying = log(9, vec![topic0], [word(64), word(0), word(u128::MAX)].concat());
    api.feed(&[block(1, 1, logs), block(2, 2, vec![lying])]).await;
    let query = format!("{EVENTS}?abi=notes&event=Note&order=asc");
    let items = pages(&api, &query, 1000).await;
    let text = |at: usize| &items[at]["event"]["args"]["text"];
    assert_eq!(text(0), "=HYPERLINK(\"http://evil\")");
    assert_eq!(text(1), "<script>\u{202e}\u{0}");
    assert_eq!(text(2), &json!({ "invalidUtf8": "0xfffe" }));
    assert_eq!(text(6).as_str().unwrap().len(), 1 << 20);
    assert_eq!(items[0]["event"]["args"]["number"], "-1");
    let reason = items[7]["decodeError"].as_str().unwrap();
    assert!(reason.contains("reaches beyond"), "{reason}");
    let got = api.get(&format!("{query}&format=csv&toBlock=1")).await;
    assert_eq!(got.header("content-type"), "text/csv; charset=utf-8; header=present");
    let head = "data,event,args.text,args.number,decodeError\r\n";
    assert!(got.text.split_inclusive("\r\n").next().unwrap().ends_with(head));
    for cell in [
        ",\"'=HYPERLINK(\"\"http://evil\"\")\",-1,",
        ",'@x,-1,",
        ",\"line\r\nbreak, \"\"quoted\"\"\",-1,",
        ",\"{\"\"invalidUtf8\"\":\"\"0xfffe\"\"}\",-1,",
    ] {
        assert!(got.text.contains(cell), "{cell}");
    }
}

#[tokio::test]
async fn an_export_is_its_pages_one_after_the_other() {
    let (api, mut world) = with_world(5).await;
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..12 {
        let filter = world.random_event_filter(&mut random);
        let decode = ["", "&decode=erc20"][round % 2];
        for order in ["asc", "desc"] {
            let query = format!("{EVENTS}?order={order}{decode}{}", filter_query(&filter));
            let items = pages(&api, &query, 5).await;
            let lines = api.get(&format!("{query}&format=ndjson")).await;
            assert_eq!(lines.header("content-type"), "application/x-ndjson");
            let lines: Vec<Value> =
                lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines, items, "{query}");
            let accept = [("accept", "text/csv")];
            let csv = api.call(Method::GET, &query, &accept, "").await;
            assert!(csv.header("content-disposition").contains("events-1.csv"));
            let rows: Vec<_> = csv.text.split("\r\n").skip(1).filter(|r| !r.is_empty()).collect();
            assert_eq!(rows.len(), items.len());
            for (row, item) in rows.iter().zip(&items) {
                let start =
                    format!("{},{},", item["blockNumber"], item["blockHash"].as_str().unwrap());
                assert!(row.starts_with(&start), "{row}");
            }
        }
    }
}

#[tokio::test]
async fn an_export_that_a_reorg_overtakes_is_cut_off_and_does_not_end_well() {
    let api = TestApi::start(config()).await;
    let many = |number: u64| {
        block(number, number, (0..200).map(|at| erc20(at, 2, u128::from(at))).collect())
    };
    let blocks: Vec<_> = (1..=60).map(many).collect();
    api.feed(&blocks).await;
    let path = format!("{EVENTS}?order=asc&format=ndjson");
    let response = api.open(&path, &[]).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    let undo = |(sequence, frame): (u64, &Arc<Frame>)| {
        Arc::new(Frame { sequence, step: Step::Undo, ..(**frame).clone() })
    };
    let undone: Vec<_> = (61..).zip(blocks.iter().rev().take(59)).map(undo).collect();
    api.feed(&undone).await;
    let rest: Vec<_> = body.collect().await;
    assert!(rest.last().unwrap().is_err());
    // The slot comes back when the work ends, which is after the body did.
    comes(|| api.api.state.exports.taken() == 0).await;
}

#[tokio::test]
async fn exports_are_limited_and_end_with_their_clients() {
    let api = TestApi::start(config()).await;
    let many = |number: u64| {
        block(number, number, (0..200).map(|at| erc20(at, 2, u128::from(at))).collect())
    };
    api.feed(&(1..=60).map(many).collect::<Vec<_>>()).await;
    let path = format!("{EVENTS}?format=csv");
    let held: Vec<Body> =
        vec![api.open(&path, &[]).await.into_body(), api.open(&path, &[]).await.into_body()];
    let got = api.get(&path).await;
    assert!(got.problem(429, "rate_limited").contains("2 exports under way"));
    assert_eq!(got.header("retry-after"), "10");
    // Pages go on.
    assert_eq!(api.get(EVENTS).await.status, 200);
    drop(held);
    comes(|| api.api.state.exports.taken() == 0).await;
    let whole = api.get(&path).await;
    assert_eq!(whole.text.split("\r\n").count(), 1 + 60 * 200 + 1);
}

#[tokio::test]
async fn logs_in_quarantine_are_listed_with_the_reason() {
    let (api, world) = with_world(7).await;
    let odd = world.odd();
    assert!(odd.len() > 3);
    let items = pages(&api, &format!("{EVENTS}/odd?order=asc"), 2).await;
    assert_eq!(items.len(), odd.len());
    for (item, odd) in items.iter().zip(&odd) {
        assert_eq!(item["reason"], odd.reason.to_string());
        assert_eq!(item["logIndex"], odd.event.log.log_index);
        assert_eq!(item["blockHash"], odd.event.block.hash.to_string());
    }
}

#[tokio::test]
async fn chains_that_are_not_followed_say_so() {
    let api = TestApi::start(config()).await;
    for path in ["events", "events/odd", "events/stats", "transfers"] {
        let got = api.get(&format!("/v1/chains/polygon/{path}")).await;
        let detail = got.problem(409, "chain_not_followed");
        assert!(detail.contains("`polygon`") && detail.contains("`follow`"), "{detail}");
        api.get(&format!("/v1/chains/nope/{path}")).await.problem(404, "unknown_chain");
        let got = api.get(&format!("/v1/chains/1/{path}")).await.json();
        assert_eq!(got["items"], json!([]), "{path}");
    }
    assert_eq!(api.get(EVENTS).await.json()["held"], json!([]));
    let got = api.get("/v1/chains/polygon/follow").await.json();
    assert_eq!(
        (&got["followed"], &got["wants"], &got["bus"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    api.feed(&transfers()).await;
    let got = api.get("/v1/chains/ethereum/follow").await.json();
    assert_eq!((&got["followed"], &got["wants"]["whole"]), (&json!(true), &json!(true)));
    assert_eq!(got["held"], json!([{ "from": 1, "to": 100 }]));
    assert_eq!(
        (&got["bus"]["sequence"], &got["bus"]["head"]["number"]),
        (&json!(100), &json!(100))
    );
    assert_eq!(got["consumers"][0]["lag"], 0);
    assert_eq!(got["consumers"][0]["head"], got["bus"]["head"]);
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = TestApi::start(config()).await;
    let hash = Hash([1; 32]);
    let topics = format!("abi=erc20&event=Transfer&topic0={hash}");
    let cursor = format!("cursor={}", "0".repeat(52));
    let topic1 = format!("abi=erc20&event=Transfer&topic1={hash}&where=from:{}", Address([1; 20]));
    for (query, code, reason) in [
        ("address=0x12", "invalid_address", "40 hex digits"),
        ("address=", "invalid_address", "starts with `0x`"),
        ("topic0=0x12", "invalid_hash", "`0x12` in `topic0`"),
        ("fromBlock=-1", "invalid_block", "not a block"),
        ("fromTime=yesterday", "invalid_parameter", "RFC 3339"),
        ("limit=0", "invalid_parameter", "from 1 to 1000"),
        ("limit=1001", "invalid_parameter", "from 1 to 1000"),
        ("cursor=zz", "invalid_parameter", "none of ours"),
        (&cursor, "invalid_request", "another version"),
        ("order=up", "invalid_parameter", "expected `asc` or `desc`"),
        ("format=xml", "invalid_parameter", "`json`, `csv`, `ndjson`"),
        ("format=csv&limit=5", "invalid_parameter", "an export has no pages"),
        ("event=Transfer", "invalid_parameter", "needs the `abi`"),
        ("abi=erc20", "invalid_parameter", "`abi` goes with `event`"),
        ("decode=erc20&abi=erc20&event=Transfer", "invalid_parameter", "leave `decode` out"),
        (&topics, "invalid_parameter", "give one of them"),
        (&topic1, "invalid_parameter", "`topic1` and `where`"),
        ("where=a:1", "invalid_parameter", "give `abi` and `event`"),
        ("abi=nope&event=A", "invalid_parameter", "no ABI `nope`; upload it"),
        ("abi=%00&event=A", "invalid_parameter", "no ABI `\\0`"),
        ("abi=erc20&event=Tranfser", "invalid_parameter", "the nearest are `Transfer("),
        ("abi=erc20&event=Transfer&where=value", "invalid_parameter", "name:value"),
        ("abi=erc20&event=Transfer&where=amount:1", "invalid_parameter", "it has: from, to, value"),
        ("abi=erc20&event=Transfer&where=value:x", "invalid_parameter", "below 2^256"),
        ("abi=erc20&event=Transfer&where=to:0x1", "invalid_parameter", "40 hex digits"),
        ("abi=erc1155&event=TransferBatch&where=ids:1", "invalid_parameter", "cannot be compared"),
        ("adress=0x12", "unknown_parameter", "did you mean `address`"),
    ] {
        let got = api.get(&format!("{EVENTS}?{query}")).await;
        let detail = got.problem(400, code);
        assert!(detail.contains(reason), "{query}: {detail}");
    }
    for (query, reason) in [
        ("bucket=1y", "from 60s to 31d"),
        ("kind=blocks", "expected `events` or `transfers`"),
        ("group=topic", "`address`, `event`, `addressEvent`"),
        ("side=to", "go with kind=transfers"),
        ("kind=transfers&group=event", "go with kind=events"),
        ("kind=transfers&topic1=0x", "go with kind=events"),
        ("abi=erc20&event=Transfer&where=value:1", "`value` is not indexed"),
    ] {
        let got = api.get(&format!("{EVENTS}/stats?{query}")).await;
        let detail = got.problem(400, "invalid_parameter");
        assert!(detail.contains(reason), "{query}: {detail}");
    }
    let key = api.key("acme", "chains:read").await;
    for path in [EVENTS, "/v1/chains/1/transfers", "/v1/chains/1/follow", "/v1/stream"] {
        let got = api.call(Method::GET, path, &[("x-api-key", &key)], "").await;
        assert!(got.problem(403, "missing_scope").contains("`events:read`"));
    }
}

/// Whatever is asked, the answer is an answer or a problem of the client's.
#[tokio::test]
async fn no_question_breaks_the_server() {
    const NAMES: [&str; 17] = [
        "address",
        "topic0",
        "topic3",
        "abi",
        "event",
        "decode",
        "where",
        "fromBlock",
        "toTime",
        "order",
        "limit",
        "cursor",
        "format",
        "bucket",
        "kind",
        "asset",
        "side",
    ];
    const VALUES: [&str; 13] = [
        "erc20",
        "Transfer",
        "to:0x",
        "value:1",
        "0",
        "0x10",
        "asc",
        "csv",
        "native",
        "1h",
        "transfers",
        "18446744073709551615",
        "9999-12-31T23:59:59Z",
    ];
    let value =
        prop_oneof!["\\PC{0,20}", prop::sample::select(&VALUES[..]).prop_map(str::to_owned)];
    let pairs = prop::collection::vec((prop::sample::select(&NAMES[..]), value), 0..5);
    let paths = prop::sample::select(&["events", "events/stats", "events/odd", "transfers"][..]);
    let questions = (paths, pairs);
    let api = TestApi::start(config()).await;
    api.feed(&[block(1, 1, vec![erc20(0, 2, 5)])]).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..1000 {
        let (path, pairs) = questions.new_tree(&mut runner).unwrap().current();
        let encode = |text: &str| -> String {
            text.bytes().fold(String::new(), |mut all, byte| {
                write!(all, "%{byte:02X}").unwrap();
                all
            })
        };
        let query: Vec<_> = pairs.iter().map(|(n, v)| format!("{n}={}", encode(v))).collect();
        let url = format!("/v1/chains/1/{path}?{}", query.join("&"));
        let status = api.get(&url).await.status.as_u16();
        assert!(status == 200 || status == 400, "{status} {url} {pairs:?}");
    }
}
