//! The live stream: what it tells, and that being cut off anywhere loses and repeats nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use lookout_bus::suite::World;
use lookout_store::{Scope, Scopes};
use lookout_types::{Address, ChainId, Frame, Hash, Step};
use serde_json::{Value, json};

use super::*;
use crate::testing::{TestApi, comes, config};

/// Beyond this it hangs.
const WITHIN: Duration = Duration::from_secs(60);

/// One message.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    kind: String,
    id: String,
    data: Value,
}

/// A client of a stream.
struct Client {
    body: BodyDataStream,
    text: String,
    /// The last id that it was told, also without a message.
    id: String,
}

impl Client {
    fn new(body: Body) -> Self {
        Self { body: body.into_data_stream(), text: String::new(), id: String::new() }
    }

    async fn connect(api: &TestApi, query: &str, id: Option<&str>) -> Self {
        let headers: Vec<_> = id.iter().map(|id| ("last-event-id", *id)).collect();
        let response = api.open(&format!("/v1/stream?{query}"), &headers).await;
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut client = Self::new(response.into_body());
        // What comes first is where it stands.
        client.block().await.unwrap();
        assert!(!client.id.is_empty());
        client
    }

    /// The next block of lines, as an event source reads it; `None` at the end.
    async fn block(&mut self) -> Option<Option<Message>> {
        let end = loop {
            if let Some(end) = self.text.find("\n\n") {
                break end;
            }
            let more = self.body.next().await?;
            self.text.push_str(std::str::from_utf8(&more.unwrap()).unwrap());
        };
        let block: String = self.text.drain(..end + 2).collect();
        let field = |name: &str| {
            let start = format!("{name}: ");
            block.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        };
        if let Some(id) = field("id") {
            self.id = id;
        }
        let data = field("data").map(|data| serde_json::from_str(&data).unwrap());
        Some(data.map(|data| Message { kind: field("event").unwrap(), id: self.id.clone(), data }))
    }

    async fn message(&mut self) -> Option<Message> {
        let next = async {
            loop {
                if let Some(message) = self.block().await? {
                    return Some(message);
                }
            }
        };
        tokio::time::timeout(WITHIN, next).await.expect("it hangs")
    }

    async fn messages(&mut self, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.message().await.expect("the stream ended"));
        }
        all
    }
}

/// What frames tell, by the plainest means: kind, block hash and log.
fn told(frames: &[Arc<Frame>], heads: bool, address: Option<Address>) -> Vec<Value> {
    let mut all = Vec::new();
    for frame in frames {
        let hash = frame.block.hash.to_string();
        let undone = frame.step == Step::Undo;
        let mut of_frame = Vec::new();
        if heads {
            of_frame.push(json!([if undone { "undo" } else { "head" }, hash]));
        }
        for log in frame.logs.iter().filter(|log| address.is_none_or(|a| log.address == a)) {
            of_frame.push(json!(["event", hash, log.transaction_hash.to_string(), undone]));
        }
        if undone {
            of_frame.reverse();
        }
        all.extend(of_frame);
    }
    all
}

fn shown(message: &Message) -> Value {
    let data = &message.data;
    assert_eq!((&data["chain"], &data["chainId"]), (&json!("ethereum"), &json!(1)));
    match message.kind.as_str() {
        "event" => json!(["event", data["blockHash"], data["transactionHash"], data["removed"]]),
        kind => json!([kind, data["hash"]]),
    }
}

/// A random chain with reorgs; its logs can be told apart by their transaction.
fn world(seed: u64) -> Vec<Arc<Frame>> {
    let mut world = World::new(seed);
    world.run(60);
    world.frames
}

#[tokio::test]
async fn a_stream_tells_what_the_frames_tell() {
    for (seed, topics, address) in [
        (1, "heads", None),
        (2, "heads,events", None),
        (3, "events", Some(Address([1; 20]))),
        (4, "events,heads", Some(Address([2; 20]))),
    ] {
        let frames = world(seed);
        let api = TestApi::start(config()).await;
        let (before, after) = frames.split_at(7);
        api.feed(before).await;
        let query = address.map_or_else(
            || format!("topics={topics}"),
            |address| format!("topics={topics}&chain=1&address={address}"),
        );
        let mut client = Client::connect(&api, &query, None).await;
        for some in after.chunks(5) {
            api.feed(some).await;
        }
        let mut expected = told(after, topics.contains("heads"), address);
        expected.retain(|entry| entry[0] != "event" || topics.contains("events"));
        let messages = client.messages(expected.len()).await;
        assert_eq!(messages.iter().map(shown).collect::<Vec<_>>(), expected);
    }
}

/// Resumes after every single message, and each time gets exactly the rest.
#[tokio::test]
async fn a_stream_that_is_cut_anywhere_goes_on_as_if_it_had_not_been() {
    let frames = world(5);
    let api = TestApi::start(config()).await;
    let query = "topics=heads,events";
    let mut client = Client::connect(&api, query, None).await;
    let start = client.id.clone();
    api.feed(&frames).await;
    let expected = told(&frames, true, None);
    let whole = client.messages(expected.len()).await;
    assert_eq!(whole.iter().map(shown).collect::<Vec<_>>(), expected);
    drop(client);
    let ids = std::iter::once(&start).chain(whole.iter().map(|message| &message.id));
    for (at, id) in ids.enumerate() {
        let rest = &whole[at..];
        let mut again = Client::connect(&api, query, Some(id)).await;
        assert_eq!(&again.id, id, "it stands where it was cut");
        assert_eq!(again.messages(rest.len()).await, rest, "cut after {at}");
    }
}

/// Random cuts while the chain grows and reorganises, with the id taken from wherever the client was.
#[tokio::test]
async fn pieces_of_a_stream_add_up_to_the_whole() {
    for seed in 30..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let frames = world(seed);
        let api = TestApi::start(config()).await;
        let address = random.bool().then(|| Address([random.u8(0..5); 20]));
        let query = address.map_or_else(
            || "topics=heads,events".to_owned(),
            |address| format!("topics=heads,events&address={address}"),
        );
        let mut client = Client::connect(&api, &query, None).await;
        let (mut fed, mut all) = (0, Vec::new());
        while fed < frames.len() {
            let next = (fed + random.usize(1..12)).min(frames.len());
            api.feed(&frames[fed..next]).await;
            fed = next;
            let due = told(&frames[..fed], true, address).len() - all.len();
            all.extend(client.messages(random.usize(0..=due)).await);
            if random.bool() {
                // By header, as browsers do, or by parameter.
                let id = client.id.clone();
                client = if random.bool() {
                    Client::connect(&api, &query, Some(&id)).await
                } else {
                    Client::connect(&api, &format!("{query}&cursor={id}"), None).await
                };
            }
        }
        let expected = told(&frames, true, address);
        all.extend(client.messages(expected.len() - all.len()).await);
        assert_eq!(all.iter().map(shown).collect::<Vec<_>>(), expected, "seed {seed}");
    }
}

#[tokio::test]
async fn a_cursor_into_frames_that_were_replaced_is_gone() {
    let api = TestApi::start(config()).await;
    let frames = world(6);
    api.feed(&frames[..20]).await;
    let id = Client::connect(&api, "topics=heads", None).await.id;
    let claim = api.bus.claim(ChainId(1)).await.unwrap();
    api.bus.reset(&claim).await.unwrap();
    let resumed = |id: String| {
        let api = &api;
        async move { api.get(&format!("/v1/stream?topics=heads&cursor={id}")).await }
    };
    let got = resumed(id.clone()).await;
    assert!(got.problem(410, "cursor_expired").contains("/v1/chains/1/events"));
    // The same height and sequence, but another chain.
    let of_chain = |frame: &Arc<Frame>| Arc::new(Frame { chain: ChainId(1), ..(**frame).clone() });
    let other: Vec<_> = world(7).iter().map(of_chain).collect();
    api.bus.publish(&claim, other).await.unwrap();
    resumed(id).await.problem(410, "cursor_expired");
}

#[tokio::test]
async fn what_was_trimmed_is_gone_for_cursors_before_it_only() {
    let api = TestApi::start(config()).await;
    let frames = world(8);
    api.feed(&frames).await;
    let at = |sequence: u64, told: u32| {
        let at = cursor::ChainAt { sequence, told, ..cursor::ChainAt::behind(0, [0; 8]) };
        let chains = [(ChainId(1), at)].into();
        Cursor { chains, alerts: None }.encode()
    };
    // A bus that keeps frames from 11 on, as far as the stream can tell.
    let trimmed = Trimmed(api.bus.clone(), 11);
    let from = |text: String| Cursor::decode(&text).unwrap().chains[&ChainId(1)];
    for (sequence, told, resumes) in
        [(9, u32::MAX, false), (10, 1, false), (10, u32::MAX, true), (11, 1, true), (12, 0, true)]
    {
        let started = source::frames(&trimmed, ChainId(1), Some(from(at(sequence, told)))).await;
        assert_eq!(started.is_ok(), resumes, "{sequence} {told}");
        if let Err(error) = started {
            assert_eq!(error.code, Code::CursorExpired);
        }
    }
}

/// A bus that no longer has its first frames.
#[derive(Debug)]
struct Trimmed(Arc<dyn lookout_bus::Bus>, u64);

#[async_trait::async_trait]
impl lookout_bus::Bus for Trimmed {
    async fn claim(&self, chain: ChainId) -> Result<lookout_bus::Claim, lookout_bus::BusError> {
        self.0.claim(chain).await
    }
    async fn publish(
        &self,
        claim: &lookout_bus::Claim,
        frames: Vec<Arc<Frame>>,
    ) -> Result<lookout_types::Cursor, lookout_bus::BusError> {
        self.0.publish(claim, frames).await
    }
    fn subscribe(&self, chain: ChainId, sequence: u64) -> lookout_bus::FrameStream {
        // The local bus refuses what is below its oldest frame; here it cannot come to that.
        assert!(sequence + 1 >= self.1, "{sequence} is asked for");
        self.0.subscribe(chain, sequence)
    }
    async fn tail(&self, chain: ChainId) -> Result<lookout_types::Cursor, lookout_bus::BusError> {
        self.0.tail(chain).await
    }
    async fn oldest(&self, _: ChainId) -> Result<u64, lookout_bus::BusError> {
        Ok(self.1)
    }
    async fn trim(&self, chain: ChainId, sequence: u64) -> Result<u64, lookout_bus::BusError> {
        self.0.trim(chain, sequence).await
    }
    async fn reset(&self, claim: &lookout_bus::Claim) -> Result<(), lookout_bus::BusError> {
        self.0.reset(claim).await
    }
    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test]
async fn alerts_are_told_as_they_change_and_only_to_their_tenant() {
    let api = TestApi::start(config()).await;
    let key = api.key("acme", "alerts:read").await;
    let connect = |query: &'static str, id: Option<String>| {
        let (api, key) = (&api, key.clone());
        async move {
            let id = id.unwrap_or_default();
            let headers = [("x-api-key", key.as_str()), ("last-event-id", id.as_str())];
            let response = api.open(&format!("/v1/stream?{query}"), &headers).await;
            assert_eq!(response.status(), 200);
            let mut client = Client::new(response.into_body());
            client.block().await.unwrap();
            client
        }
    };
    api.store.put_alert("acme", "0-old", "r1", "confirmed").await.unwrap();
    let mut client = connect("topics=alerts", None).await;
    let mut of_rule = connect("topics=alerts&rule=r2", None).await;
    api.store.put_alert("other", "1-theirs", "r1", "confirmed").await.unwrap();
    api.store.put_alert("acme", "2-a", "r1", "pending").await.unwrap();
    api.store.put_alert("acme", "3-b", "r2", "confirmed").await.unwrap();
    let first = client.message().await.unwrap();
    let state = |message: &Message| {
        assert_eq!(message.kind, "alert");
        (message.data["id"].as_str().unwrap().to_owned(), message.data["state"].clone())
    };
    assert_eq!(state(&first), ("3-b".to_owned(), json!("confirmed")));
    assert_eq!((&first.data["ruleId"], &first.data["text"]), (&json!("r2"), &json!("it happened")));
    api.store.put_alert("acme", "2-a", "r1", "confirmed").await.unwrap();
    assert_eq!(state(&client.message().await.unwrap()), ("2-a".to_owned(), json!("confirmed")));
    let id = client.id.clone();
    drop(client);
    api.store.put_alert("acme", "3-b", "r2", "retracted").await.unwrap();
    api.store.put_alert("acme", "4-c", "r1", "confirmed").await.unwrap();
    let rest = [("3-b".to_owned(), json!("retracted")), ("4-c".to_owned(), json!("confirmed"))];
    let mut again = connect("topics=alerts", Some(id)).await;
    assert_eq!(again.messages(2).await.iter().map(state).collect::<Vec<_>>(), rest);
    // Cut one message earlier, there is one more.
    let mut again = connect("topics=alerts", Some(first.id)).await;
    let got: Vec<_> = again.messages(3).await.iter().map(state).collect();
    assert_eq!(got[0], ("2-a".to_owned(), json!("confirmed")));
    assert_eq!(got[1..], rest);
    let of_rule: Vec<_> = of_rule.messages(2).await.iter().map(state).collect();
    assert_eq!(
        of_rule,
        [("3-b".to_owned(), json!("confirmed")), ("3-b".to_owned(), json!("retracted"))]
    );
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let api = TestApi::start(config()).await;
    let hash = Hash([1; 32]);
    let events = format!("topics=heads&topic0={hash}");
    for (query, status, code, reason) in [
        ("topics=blocks", 400, "invalid_parameter", "topics are: heads, events, alerts"),
        ("topics=", 400, "invalid_parameter", "no topic ``"),
        (&events, 400, "invalid_parameter", "add `events` to `topics`"),
        ("rule=x", 400, "invalid_parameter", "add `alerts` to `topics`"),
        ("cursor=zz", 400, "invalid_parameter", "none of ours"),
        ("topics=events&address=0x1", 400, "invalid_address", "40 hex digits"),
        ("chain=polygon", 409, "chain_not_followed", "`polygon`"),
        ("chain=nope", 404, "unknown_chain", "nope"),
    ] {
        let got = api.get(&format!("/v1/stream?{query}")).await;
        let detail = got.problem(status, code);
        assert!(detail.contains(reason), "{query}: {detail}");
    }
    assert_eq!(api.api.state.streams.taken(), 0);
    let key = api.key("acme", "events:read").await;
    let headers = [("x-api-key", key.as_str())];
    let path = "/v1/stream?topics=heads,alerts";
    let got = api.call(http::Method::GET, path, &headers, "").await;
    assert!(got.problem(403, "missing_scope").contains("`alerts:read`"));
}

#[tokio::test]
async fn streams_are_limited_and_end_with_the_server() {
    let api = TestApi::start(config()).await;
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        clients.push(Client::connect(&api, "topics=heads,alerts", None).await);
    }
    let got = api.get("/v1/stream").await;
    assert!(got.problem(429, "rate_limited").contains("16 streams under way"));
    clients.pop();
    comes(|| api.api.state.streams.taken() < STREAMS).await;
    let gzip = api.open("/v1/stream", &[("accept-encoding", "gzip")]).await;
    assert!(!gzip.headers().contains_key("content-encoding"));
    assert_eq!(gzip.headers()["cache-control"], "no-store");
    // Ends as a whole body, so that clients come back without an error.
    api.api.state.stopping.cancel();
    for mut client in clients {
        assert_eq!(client.message().await, None);
    }
}

/// As many as one caller may have.
const STREAMS: u32 = 16;

#[tokio::test]
async fn a_stream_ends_with_its_key_and_with_the_bus() {
    let api = TestApi::start(config()).await;
    let key = api.key("acme", "events:read").await;
    let info = api.store.authenticate(&key).await.unwrap().unwrap();
    let caller = Caller::Key(info.clone());
    recheck(&api.api.state, &caller).await.unwrap();
    api.store.revoke_key("acme", &info.id, &lookout_store::Actor::Cli).await.unwrap();
    let error = recheck(&api.api.state, &caller).await.unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
    assert!(
        recheck(&api.api.state, &Caller::Anonymous(Scopes::from(Scope::EventsRead))).await.is_ok()
    );

    let api = TestApi::start(config()).await;
    let mut client = Client::connect(&api, "topics=heads", None).await;
    api.bus.close().await;
    assert_eq!(client.message().await, None);
    api.get("/v1/stream").await.problem(503, "unavailable");
}
