//! A live stream goes on where it was, also on a server that was started anew.

use std::time::Duration;

use lookout_test::TestApp;
use lookout_test::rpc::http_client;
use serde_json::Value;

use super::scene::{SIM, Scene, hex};

/// Longest wait for a head. A stream sends something all the time, so its pieces tell nothing.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
const LOGS_MAX: usize = 3;

/// A client of a stream, which remembers what it was told and where it is.
#[derive(Default)]
struct Client {
    id: Option<String>,
    told: Vec<(String, Value)>,
}

impl Client {
    /// Connects where it was; now, the first time.
    async fn connect(&self, app: &TestApp) -> reqwest::Response {
        let path = format!("/v1/stream?topics=heads,events&chain={SIM}");
        let mut request = http_client().get(app.url(&path));
        if let Some(id) = &self.id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response
    }

    /// Listens until the head is this block.
    async fn listen(&mut self, response: reqwest::Response, head: &[u8; 32]) {
        let listening = self.take_until(response, head);
        tokio::time::timeout(HEAD_WITHIN, listening).await.expect("the stream reaches the head");
    }

    async fn take_until(&mut self, mut response: reqwest::Response, head: &[u8; 32]) {
        let mut text = String::new();
        while self.head().as_deref() != Some(&hex(head)) {
            let piece = response.chunk().await.unwrap().expect("it does not end");
            text.push_str(std::str::from_utf8(&piece).unwrap());
            while let Some((message, rest)) = text.split_once("\n\n") {
                self.take(message);
                text = rest.to_owned();
            }
        }
    }

    fn take(&mut self, message: &str) {
        let field = |name: &str| {
            message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start)
        };
        if let Some(id) = field("id:") {
            self.id = Some(id.to_owned());
        }
        if let (Some(event), Some(data)) = (field("event:"), field("data:")) {
            self.told.push((event.to_owned(), serde_json::from_str(data).unwrap()));
        }
    }

    /// The hash of the head, after what was told so far.
    fn head(&self) -> Option<String> {
        let (event, data) = self.told.iter().rfind(|(event, _)| event != "event")?;
        let member = if event == "undo" { "parentHash" } else { "hash" };
        data[member].as_str().map(str::to_lowercase)
    }
}

#[tokio::test]
async fn a_stream_resumes_after_a_restart_without_gap_or_repeat() {
    let scene = Scene::new(9, 10, LOGS_MAX).await;
    let mut app = scene.server().start().await.unwrap();
    scene.settled(&app).await;
    let mut client = Client::default();
    let response = client.connect(&app).await;
    let first = scene.chain.head();
    scene.chain.extend(3, LOGS_MAX);
    client.listen(response, &scene.chain.head().hash).await;
    for round in 0..3 {
        scene.chain.extend(4, LOGS_MAX);
        if round != 1 {
            scene.settled(&app).await;
        }
        app.restart().await.unwrap();
        scene.chain.reorg(2, 4, LOGS_MAX);
        let response = client.connect(&app).await;
        client.listen(response, &scene.chain.head().hash).await;
    }
    // Without logs, so that the last message is about a head.
    scene.chain.extend(1, 0);
    let response = client.connect(&app).await;
    client.listen(response, &scene.chain.head().hash).await;

    let blocks = replay(&client.told);
    let truth = scene.chain.canonical().split_off(usize::try_from(first.number).unwrap() + 1);
    let truth: Vec<Block> = truth
        .iter()
        .map(|block| {
            let logs = (0..block.logs.len()).map(|at| hex(&block.transaction_hash(at)));
            (hex(&block.hash), logs.collect())
        })
        .collect();
    assert_eq!(blocks, truth);
    assert!(client.told.iter().any(|(event, _)| event == "undo"), "no reorg was told of");
}

/// A block's hash, and the transactions of its logs.
type Block = (String, Vec<String>);

/// What a client makes of what it was told; panics where that does not fit together.
fn replay(told: &[(String, Value)]) -> Vec<Block> {
    let mut blocks = Vec::<Block>::new();
    for (event, data) in told {
        let field = |name: &str| data[name].as_str().unwrap_or_default().to_lowercase();
        let last = blocks.last_mut();
        match event.as_str() {
            "head" => {
                if let Some((hash, _)) = last {
                    assert_eq!(*hash, field("parentHash"), "a gap before {data}");
                }
                blocks.push((field("hash"), Vec::new()));
            }
            "undo" => {
                let (hash, logs) = blocks.pop().unwrap();
                assert_eq!((hash, logs), (field("hash"), Vec::new()), "undone with its logs");
            }
            "event" => {
                let (hash, logs) = last.unwrap();
                assert_eq!(*hash, field("blockHash"), "a log of another block: {data}");
                let at = usize::try_from(data["logIndex"].as_u64().unwrap()).unwrap();
                if data["removed"] == true {
                    assert_eq!(logs.pop(), Some(field("transactionHash")), "{data}");
                    assert_eq!(logs.len(), at, "{data}");
                } else {
                    assert_eq!(logs.len(), at, "missing or repeated: {data}");
                    logs.push(field("transactionHash"));
                }
            }
            other => panic!("{other}: {data}"),
        }
    }
    blocks
}
