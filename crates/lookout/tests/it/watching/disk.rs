//! The disk fills up: it is said, what can be answered is answered, and with room it goes on.

use std::time::Duration;

use lookout_test::app::Builder;
use lookout_test::receiver::Fault;
use lookout_test::{Receiver, SmallDisk, TestApp};
use serde_json::{Value, json};

use super::property::{check_deliveries, standing};
use super::scene::{SIM, Scene, TRANSFER, all, rule, transfer, until, webhook};

const LOGS_MAX: usize = 5;
/// Room for some thousand blocks of these chains.
const DISK_MEBIBYTES: u32 = 24;
/// Blocks that come while there is no room: more than fits into what a file has of its last page.
const BLOCKS: u64 = 40;
const CONFIRMATIONS: u64 = 2;
/// How long a receiver takes that has a message when the disk fills up.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// What is on the disk that fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    Bus,
    Warehouse,
    Store,
    Everything,
}

impl Full {
    fn place(self, builder: Builder, disk: &SmallDisk) -> Builder {
        match self {
            Self::Bus => builder.bus_in(disk.path()),
            Self::Warehouse => builder.warehouse_in(disk.path()),
            Self::Store => builder.store_in(disk.path()),
            Self::Everything => {
                builder.bus_in(disk.path()).warehouse_in(disk.path()).store_in(disk.path())
            }
        }
    }

    fn has_store(self) -> bool {
        matches!(self, Self::Store | Self::Everything)
    }

    /// What the follow route says of it.
    fn named(self, follow: &Value) -> Option<String> {
        let said = match self {
            Self::Bus | Self::Everything => follow["publisher"]["problem"].as_str(),
            Self::Warehouse => problem_of(follow, "warehouse"),
            Self::Store => problem_of(follow, "rules"),
        };
        said.filter(|said| said.contains("is full") && said.contains("free some space"))
            .map(str::to_owned)
    }
}

fn problem_of<'a>(follow: &'a Value, consumer: &str) -> Option<&'a str> {
    let consumers = follow["consumers"].as_array()?;
    consumers.iter().find(|c| c["name"] == consumer)?["problem"].as_str()
}

async fn follow(app: &TestApp) -> Value {
    let answer = app.get(&format!("/v1/chains/{SIM}/follow")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// A server that has its rule before the first block.
async fn server(builder: Builder, receiver: &Receiver, roles: Option<&str>) -> TestApp {
    let mut app = builder.roles("api").start().await.unwrap();
    let channel = webhook(&app, receiver).await;
    rule(&app, &large(&channel)).await;
    app.set_roles(roles);
    app.restart().await.unwrap();
    app
}

fn large(channel: &str) -> Value {
    json!({
        "name": "large", "chain": SIM, "watch": {"kind": "event", "event": TRANSFER},
        "condition": "value > 600000", "confirmations": CONFIRMATIONS, "channels": [channel],
    })
}

/// What is there can be read; what cannot be written is refused with the reason.
async fn still_answers(app: &TestApp, full: Full, events: &[Value]) {
    for path in ["/healthz", "/readyz", "/v1/rules", "/v1/alerts", "/v1/channels"] {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 200, "{full:?}, {path}: {}", answer.text());
    }
    let head = app.get(&format!("/v1/chains/{SIM}/head")).await;
    assert_eq!(head.status, 200, "{full:?}: {}", head.text());
    let kept = all(app, &events_path()).await;
    assert_eq!(kept.get(..events.len()), Some(events), "{full:?}");
    if full.has_store() {
        let answer = app.post("/v1/rules", &large("none")).await;
        assert_eq!(answer.status, 400, "what is wrong is told first: {}", answer.text());
        let mut other = large("");
        other["channels"] = json!([]);
        let answer = app.post("/v1/rules", &other).await;
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (503, &json!("unavailable")), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("disk of the store is full"), "{detail}");
        assert!(!answer.header("retry-after").is_empty());
    }
}

fn events_path() -> String {
    format!("/v1/chains/{SIM}/events?order=asc")
}

/// Lines of the log, of warnings and worse, that speak of a full disk.
fn complaints(app: &TestApp) -> Vec<String> {
    let is_one = |line: &&String| {
        let is_bad = line.contains("\"WARN\"") || line.contains("\"ERROR\"");
        is_bad && (line.contains("is full") || line.contains("No space left"))
    };
    app.logs().iter().filter(is_one).cloned().collect()
}

/// Compares with a server that saw nothing but the chain as it is now.
async fn same_as_fresh(scene: &Scene, app: &TestApp, full: Full) {
    let receiver = Receiver::start().await.unwrap();
    let fresh = server(scene.server(), &receiver, Some("api,ingest,rules")).await;
    scene.settled(&fresh).await;
    for path in [events_path(), format!("/v1/chains/{SIM}/transfers?order=asc")] {
        let kept = all(app, &path).await;
        assert!(!kept.is_empty());
        assert_eq!(kept, all(&fresh, &path).await, "{full:?}: {path}");
    }
    let (ours, theirs) = (all(app, "/v1/alerts").await, all(&fresh, "/v1/alerts").await);
    assert!(!theirs.is_empty());
    assert_eq!(standing(&ours), standing(&theirs), "{full:?}");
}

async fn fills_up(full: Full, seed: u64) {
    let Some(disk) = SmallDisk::for_test(DISK_MEBIBYTES) else { return };
    let scene = Scene::new(seed, 20, LOGS_MAX).await;
    let receiver = Receiver::start().await.unwrap();
    let mut app = server(full.place(scene.server(), &disk), &receiver, None).await;
    scene.settled(&app).await;

    // It goes on by itself.
    let events = all(&app, &events_path()).await;
    disk.fill().unwrap();
    scene.chain.extend(BLOCKS, LOGS_MAX);
    until("the full disk is named", async || full.named(&follow(&app).await)).await;
    still_answers(&app, full, &events).await;
    if full.has_store() {
        // The lease ends, as nothing can renew it.
        app.wait_log("publishing begins again").await.unwrap();
    }
    scene.chain.reorg(4, 6, LOGS_MAX);
    still_answers(&app, full, &events).await;
    let said = complaints(&app);
    // Once or twice by each part that writes; by the second it would be several times as often.
    assert!((1..=12).contains(&said.len()), "{full:?}: said {} times: {said:#?}", said.len());
    disk.make_room().unwrap();
    scene.settled(&app).await;
    let named = full.named(&follow(&app).await);
    assert_eq!(named, None, "{full:?}");

    // It is killed, and started again, while there is no room.
    disk.fill().unwrap();
    scene.chain.reorg(3, BLOCKS, LOGS_MAX);
    until("the full disk is named again", async || full.named(&follow(&app).await)).await;
    app.kill().await.unwrap();
    let started = app.restart().await;
    scene.chain.extend(2, LOGS_MAX);
    match started {
        Ok(()) => {
            until("the full disk is named at once", async || full.named(&follow(&app).await)).await;
            disk.make_room().unwrap();
        }
        Err(refused) => {
            let said = format!("{refused:#}");
            assert!(said.contains("full") && said.contains("free some space"), "{full:?}: {said}");
            disk.make_room().unwrap();
            app.restart().await.unwrap();
        }
    }
    scene.chain.extend(CONFIRMATIONS, 0);
    scene.settled(&app).await;
    until("everything is told", async || {
        let rows = all(&app, "/v1/deliveries").await;
        let over = |row: &Value| ["sent", "cancelled"].contains(&row["state"].as_str().unwrap());
        rows.iter().all(over).then_some(())
    })
    .await;
    check_deliveries(&all(&app, "/v1/alerts").await, &receiver);
    same_as_fresh(&scene, &app, full).await;
}

/// The receiver has it, and the store has no room to say so.
#[tokio::test]
async fn what_is_under_way_while_the_disk_fills_up_is_not_sent_again() {
    let Some(disk) = SmallDisk::for_test(DISK_MEBIBYTES) else { return };
    let scene = Scene::new(35, 5, 0).await;
    let receiver = Receiver::start().await.unwrap();
    let app = server(Full::Store.place(scene.server(), &disk), &receiver, None).await;
    scene.settled(&app).await;
    receiver.next([Fault::Delay(UNDER_WAY)]);
    scene.chain.push(vec![transfer(700_000)]);
    scene.chain.extend(CONFIRMATIONS, 0);
    let deliveries = |state: &str| format!("/v1/deliveries?state={state}");
    until("it is being sent", async || {
        let sending = all(&app, &deliveries("sending")).await;
        (!sending.is_empty()).then_some(())
    })
    .await;
    disk.fill().unwrap();
    receiver.wait_for(1).await.unwrap();
    // A server on a full disk writes down nothing, and remembers what it could not.
    still_answers(&app, Full::Store, &[]).await;
    disk.make_room().unwrap();
    until("it is written down", async || {
        let sent = all(&app, &deliveries("sent")).await;
        (sent.len() == 1).then_some(())
    })
    .await;
    assert_eq!(receiver.accepted().len(), 1);
}

#[tokio::test]
async fn a_full_disk_of_frames_is_waited_for() {
    fills_up(Full::Bus, 31).await;
}

#[tokio::test]
async fn a_full_disk_of_events_is_waited_for() {
    fills_up(Full::Warehouse, 32).await;
}

#[tokio::test]
async fn a_full_disk_of_rules_and_alerts_is_waited_for() {
    fills_up(Full::Store, 33).await;
}

#[tokio::test]
async fn a_full_disk_of_everything_is_waited_for() {
    fills_up(Full::Everything, 34).await;
}
