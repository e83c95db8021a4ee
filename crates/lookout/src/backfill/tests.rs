//! The command on a simulated chain.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lookout_ingest::publish::Limits;
use lookout_ingest::sim::{Shape, SimSource};
use lookout_store::{Store, StoreUrl};
use lookout_types::{ChainId, FixedClock};

use super::*;

const CHAIN: ChainId = ChainId(31_337);

async fn parts(folder: &Path, source: &SimSource, from: Height, to: Height) -> Backfill {
    let clock = Arc::new(FixedClock::at(1_800_000_000_000));
    let store = Store::open(&StoreUrl::SqliteMemory, Arc::<FixedClock>::clone(&clock));
    let store = store.await.unwrap();
    store.migrate().await.unwrap();
    Backfill {
        chain: "sim".to_owned(),
        source: Arc::new(source.clone()),
        wants: Wants { whole: true, ..Wants::default() },
        from,
        to,
        verify: false,
        rebuild: false,
        bus: BusUrl::Local(folder.join("bus")),
        warehouse: WarehouseUrl::SqliteFile(folder.join("events.db")),
        store,
        holder: "test".to_owned(),
        limits: Limits {
            backoff_base: Duration::from_millis(1),
            backoff_max: Duration::from_millis(4),
            ..Limits::default()
        },
        clock,
        stop: CancellationToken::new(),
    }
}

fn chain() -> SimSource {
    let source = SimSource::new(CHAIN, 1, Shape::default());
    source.extend(300);
    source.announce();
    source
}

async fn said(parts: Backfill) -> String {
    match Box::pin(backfill(parts)).await {
        Ok(text) => text,
        Err(failure) => format!("{}: {failure}", failure.exit_code()),
    }
}

#[tokio::test]
async fn a_stretch_is_filled_extended_verified_and_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, source) = (folder.path(), chain());
    let filled = parts(folder, &source, 100, 199).await;
    assert_eq!(said(filled).await, "blocks 100 to 199 of `sim` are held");
    let again = parts(folder, &source, 150, 180).await;
    let text = "blocks 150 to 180 of `sim` were held already; 100 to 199 are";
    assert_eq!(said(again).await, text);
    let more = parts(folder, &source, 100, 249).await;
    assert_eq!(said(more).await, "blocks 100 to 249 of `sim` are held");

    let below = parts(folder, &source, 50, 249).await;
    let text = "1: blocks 100 to 249 of `sim` are held, and blocks below them cannot be added; begin at --from 100, or add --rebuild to forget them and begin at 50";
    assert_eq!(said(below).await, text);

    let mut verified = parts(folder, &source, 100, 249).await;
    verified.verify = true;
    let text = "sim, blocks 100 to 249: 150 as on the chain, 0 missing, 0 different\n";
    assert_eq!(said(verified).await, text);
    source.falsify(120, |block| block.logs.clear());
    source.falsify(121, |block| block.logs.clear());
    let mut verified = parts(folder, &source, 50, 260).await;
    verified.verify = true;
    let text = said(verified).await;
    assert!(text.starts_with("1: 61 blocks are missing and 2 differ; "), "{text}");

    let mut rebuilt = parts(folder, &source, 50, 260).await;
    rebuilt.rebuild = true;
    assert_eq!(said(rebuilt).await, "blocks 50 to 260 of `sim` are held");
    let mut verified = parts(folder, &source, 50, 260).await;
    verified.verify = true;
    assert!(said(verified).await.contains("211 as on the chain, 0 missing"));
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, source) = (folder.path(), chain());
    let wrong = parts(folder, &source, 9, 8).await;
    assert_eq!(said(wrong).await, "2: --from 9 is above --to 8");
    let wrong = parts(folder, &source, 9, 300).await;
    assert_eq!(said(wrong).await, "2: --to 300 is above the head of `sim`, block 299");
    let bus = lookout_bus::open(&BusUrl::Local(folder.join("bus"))).await.unwrap();
    let text = said(parts(folder, &source, 9, 20).await).await;
    assert!(text.starts_with("1: the bus folder") && text.contains("in use"), "{text}");
    assert!(text.ends_with("a running `lookout serve` backfills by itself"), "{text}");
    bus.close().await;
    let held = parts(folder, &source, 9, 20).await;
    held.store.take_chain_lease(CHAIN, "other", 60_000).await.unwrap();
    let text = said(held).await;
    assert!(text.starts_with("1: chain 31337 is published by `other`"), "{text}");
}

#[tokio::test]
async fn one_that_was_stopped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, source) = (folder.path(), chain());
    let stopped = parts(folder, &source, 0, 299).await;
    stopped.stop.cancel();
    let text = said(stopped).await;
    assert!(text.starts_with("1: stopped"), "{text}");
    let dropped = parts(folder, &source, 0, 299).await;
    // As a kill would: at whatever it is doing then.
    let ran = tokio::time::timeout(Duration::from_millis(20), Box::pin(backfill(dropped))).await;
    drop(ran);
    let mut text = said(parts(folder, &source, 0, 299).await).await;
    // What was dropped may hold its files for a moment.
    while text.contains("in use") {
        tokio::task::yield_now().await;
        text = said(parts(folder, &source, 0, 299).await).await;
    }
    assert!(text.contains("0 to 299"), "{text}");
}

#[test]
fn reports_show_ranges_and_leave_out_what_is_too_much() {
    use lookout_ingest::verify::VerifyReport;
    let report = VerifyReport {
        chain: CHAIN,
        heights: 0..=999,
        ok: 889,
        missing: (0..60).map(|n| n * 10..=n * 10).collect(),
        different: vec![700..=750],
        differences: Vec::new(),
    };
    let text = report::text("sim", &report);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "sim, blocks 0 to 999: 889 as on the chain, 60 missing, 51 different");
    assert_eq!(
        (lines[1], lines[50], lines[51]),
        ("missing    0", "missing    490", "…          and 10 more")
    );
    assert_eq!(lines[52], "different  700-750");
    assert_eq!(lines.len(), 53);
}

#[tokio::test]
async fn frames_stay_on_the_bus_for_rules_that_have_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, source) = (folder.path(), chain());
    let parts = parts(folder, &source, 100, 199).await;
    let open = Open::open(&parts).await.unwrap();
    fill(&parts, &open).await.unwrap();
    let names = |trim: TrimParts| {
        trim.readers.iter().map(|reader| reader.consumer.name()).collect::<Vec<_>>()
    };
    assert_eq!(names(trimming(&parts, &open).await.unwrap()), ["warehouse"]);
    let rules = RulesConsumer::new(parts.store.clone(), []);
    let mut frames = open.bus.subscribe(CHAIN, 0);
    let first = futures_util::StreamExt::next(&mut frames).await.unwrap().unwrap();
    rules.apply(first).await.unwrap();
    assert_eq!(names(trimming(&parts, &open).await.unwrap()), ["warehouse", "rules"]);
    // On a bus that begins anew, what they have read says nothing.
    forget(CHAIN, &open.bus, &open.warehouse, &parts.store, "test").await.unwrap();
    assert_eq!(names(trimming(&parts, &open).await.unwrap()), ["warehouse"]);
}
