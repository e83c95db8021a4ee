//! The suite on SQLite, and what only a file can show.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use lookout_types::{Address, Amount, ErrorKind};
use rusqlite::types::Value;
use tempfile::TempDir;

use super::*;
use crate::suite::{self, CHAIN, Rig, World};
use crate::{Order, WarehouseUrl, open};

struct Memory;

struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        // A name with everything that a URL would read differently.
        self.0.path().join("a b%20#é&.db")
    }

    fn url(&self) -> WarehouseUrl {
        WarehouseUrl::SqliteFile(self.path())
    }
}

#[async_trait]
impl Rig for Memory {
    async fn open(&self) -> Arc<dyn Warehouse> {
        open(&WarehouseUrl::SqliteMemory).await.unwrap()
    }

    fn keeps(&self) -> bool {
        false
    }
}

#[async_trait]
impl Rig for File {
    async fn open(&self) -> Arc<dyn Warehouse> {
        loop {
            match open(&self.url()).await {
                // A process that another test is starting holds a copy of every open file, locks
                // included, from its fork to its exec.
                Err(WarehouseError::InUse { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }

    fn keeps(&self) -> bool {
        true
    }
}

macro_rules! suite {
    ($engine:ident, $rig:expr) => {
        suite!($engine, $rig, [
            an_unknown_chain_is_empty,
            a_rebuild_is_the_same,
            wrong_frames_are_refused,
            filters_find_what_matches,
            stats_add_up,
            sums_are_exact_or_say_that_they_overflow,
            pages_survive_reorgs_or_say_so,
            retention_keeps_the_rest,
            it_is_there_when_opened_again,
            disorderly_times_hide_nothing,
        ]);
    };
    ($engine:ident, $rig:expr, [$($case:ident),* $(,)?]) => {
        mod $engine {
            use super::*;

            $(#[tokio::test]
            async fn $case() {
                suite::$case(&$rig).await;
            })*
        }
    };
}

suite!(memory, Memory);
suite!(file, File::new());

#[tokio::test]
async fn any_history_ends_in_the_final_chain_in_memory() {
    for seed in 0..100 {
        suite::any_history_ends_in_the_final_chain(&Memory, seed).await;
    }
}

#[tokio::test]
async fn any_history_ends_in_the_same_bytes_in_a_file() {
    for seed in 1000..1060 {
        let (lived, fresh) = (File::new(), File::new());
        suite::any_history_ends_in_the_final_chain(&lived, seed).await;
        // What the final chain is, a second file is told at once.
        let warehouse = lived.open().await;
        let frames = warehouse.frames(CHAIN, 0..=u64::MAX, None).await.unwrap();
        warehouse.close().await;
        let warehouse = fresh.open().await;
        if !frames.is_empty() {
            warehouse.apply(frames.into_iter().map(Arc::new).collect()).await.unwrap();
            warehouse.close().await;
            assert_eq!(dump(&lived.path()), dump(&fresh.path()), "seed {seed}");
        }
    }
}

/// Every row that is a function of the final chain: blocks, epochs, entries.
fn dump(path: &Path) -> Vec<Vec<Value>> {
    let connection = Connection::open(path).unwrap();
    let mut rows = Vec::new();
    for table in ["blocks_1", "epochs_1", "entries_1"] {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let found = statement
            .query_map([], |row| {
                (0..columns).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>()
            })
            .unwrap();
        rows.extend(found.map(Result::unwrap));
    }
    rows
}

#[tokio::test]
async fn epochs_end_begin_and_are_undone() {
    // Blocks without records, so that the bound on blocks ends the epochs.
    let file = File::new();
    let warehouse = file.open().await;
    let mut world = World::new(31);
    for _ in 0..keys::EPOCH_BLOCKS + 10 {
        world.extend_with(Vec::new());
    }
    world.extend(5);
    world.undo(20);
    world.extend(40);
    warehouse.apply(world.frames.clone()).await.unwrap();
    let found = suite::World::events(&world);
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let mut filter = EventFilter::all(CHAIN);
        filter.topics[0] = vec![lookout_types::TRANSFER];
        let page = PageRequest { limit: 1000, order, cursor: None };
        let mut events = warehouse.events(&filter, &page).await.unwrap().items;
        if order == Order::NewestFirst {
            events.reverse();
        }
        let wanted = |e: &&Event| e.log.topics.first() == Some(&lookout_types::TRANSFER);
        assert_eq!(events, found.iter().filter(wanted).cloned().collect::<Vec<_>>());
        assert!(!events.is_empty());
    }
    let first = world.blocks[0].block.number;
    let half = first + keys::EPOCH_BLOCKS;
    assert_eq!(warehouse.retain(CHAIN, half).await.unwrap(), half - first);
    let held = warehouse.coverage(CHAIN).await.unwrap();
    assert_eq!(held, [half..=world.blocks.last().unwrap().block.number]);
    warehouse.close().await;
    let connection = Connection::open(file.path()).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM epochs_1"), 1);
    let entries = count("SELECT count(*) FROM entries_1");
    assert_eq!(entries, count("SELECT max(epoch_entries) FROM blocks_1"));
}

#[tokio::test]
async fn a_page_that_finds_nothing_ends_too_and_says_where_to_go_on() {
    let log = |contract: u8, to: u8| {
        suite::model::erc20(
            Address([contract; 20]),
            Address([9; 20]),
            Address([to; 20]),
            Amount::default(),
        )
    };
    let file = File::new();
    let warehouse = file.open().await;
    let mut world = World::new(35);
    // Contract 1 and party 2 take turns, and meet now and then; then come two epochs without either.
    for n in 0..600 {
        world.extend_with(match n % 200 {
            7 => vec![log(1, 2), log(1, 2)],
            n if n % 2 == 0 => vec![log(1, 3)],
            _ => vec![log(4, 2)],
        });
    }
    for _ in 0..keys::EPOCH_BLOCKS + 10 {
        world.extend_with(Vec::new());
    }
    warehouse.apply(world.frames.clone()).await.unwrap();
    warehouse.close().await;
    let connection = Connection::open(file.path()).unwrap();
    let mut met = EventFilter::all(CHAIN);
    met.addresses = vec![Address([1; 20])];
    met.topics[2] = vec![suite::model::topic(Address([2; 20]))];
    let mut absent = EventFilter::all(CHAIN);
    absent.addresses = vec![Address([77; 20])];
    for (filter, items, pages_min) in [(&met, 6, 50), (&absent, 0, 2)] {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for work_max in [0, 5_000] {
                let mut request = PageRequest { limit: 1, order, cursor: None };
                let (mut found, mut pages) = (Vec::new(), 0);
                loop {
                    let page =
                        pages::page_within(&connection, CHAIN, filter, &request, work_max).unwrap();
                    found.extend(page.items);
                    pages += 1;
                    assert!(pages < 5_000, "it does not go on");
                    request.cursor = page.next;
                    if request.cursor.is_none() {
                        break;
                    }
                }
                if order == Order::NewestFirst {
                    found.reverse();
                }
                let wanted = |event: &Event| suite::model::event_matches(filter, event);
                let told: Vec<_> = world.events().into_iter().filter(wanted).collect();
                assert_eq!((found.len(), &found), (items, &told));
                assert!(pages >= pages_min || work_max > 0, "{pages} pages");
            }
        }
    }
}

#[tokio::test]
async fn retention_that_overtakes_a_reader_is_told() {
    let file = File::new();
    let warehouse = file.open().await;
    let mut world = World::new(36);
    for n in 0..20 {
        let log = suite::model::erc20(
            Address([n; 20]),
            Address([1; 20]),
            Address([2; 20]),
            Amount::default(),
        );
        world.extend_with(vec![log.clone(), log]);
    }
    warehouse.apply(world.frames.clone()).await.unwrap();
    let first = world.blocks[0].block.number;
    let filter = EventFilter::all(CHAIN);
    let up = |limit: u32, cursor: &Option<String>| PageRequest {
        limit,
        order: Order::OldestFirst,
        cursor: cursor.clone(),
    };
    // To the end of the fifth block, and into the middle of it.
    let whole = warehouse.events(&filter, &up(10, &None)).await.unwrap().next;
    let half = warehouse.events(&filter, &up(9, &None)).await.unwrap().next;
    let next = async |cursor: &Option<String>| {
        warehouse.events(&filter, &up(1, cursor)).await.map(|page| page.items[0].block.number)
    };
    warehouse.retain(CHAIN, first + 4).await.unwrap();
    assert_eq!(next(&whole).await.unwrap(), first + 5);
    assert_eq!(next(&half).await.unwrap(), first + 4);
    // Nothing that was still to come is gone, only what was read.
    warehouse.retain(CHAIN, first + 5).await.unwrap();
    assert_eq!(next(&whole).await.unwrap(), first + 5);
    let error = next(&half).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Stale(_)), "{error}");
    warehouse.retain(CHAIN, first + 6).await.unwrap();
    let error = next(&whole).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Stale(_)), "{error}");
    assert!(error.to_string().contains("retention"), "{error}");
}

#[tokio::test]
async fn a_second_instance_is_refused_politely() {
    let file = File::new();
    let first = file.open().await;
    let error = open(&file.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("in use by another lookout; stop that one"), "{error}");
    first.close().await;
    file.open().await;
}

#[tokio::test]
async fn where_locks_do_not_work_the_older_instance_is_stopped() {
    let file = File::new();
    let mut world = World::new(32);
    world.extend(3);
    let first = file.open().await;
    first.apply(world.frames[..1].to_vec()).await.unwrap();
    // As on a network folder without locks: the second one locks another file.
    let mut lock = file.path().into_os_string();
    lock.push("-lock");
    std::fs::remove_file(lock).unwrap();
    let second = file.open().await;
    let error = first.apply(world.frames[1..2].to_vec()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fenced), "{error}");
    assert!(matches!(first.truncate(CHAIN).await, Err(WarehouseError::Fenced)));
    assert!(matches!(first.retain(CHAIN, 9).await, Err(WarehouseError::Fenced)));
    second.apply(world.frames[1..].to_vec()).await.unwrap();
    // Reading is still allowed, and sees what the other wrote.
    assert_eq!(first.cursor(CHAIN).await.unwrap().sequence, 3);
}

#[tokio::test]
async fn a_flipped_bit_in_a_block_is_told() {
    let file = File::new();
    let mut world = World::new(33);
    world.extend(9);
    let warehouse = file.open().await;
    warehouse.apply(world.frames.clone()).await.unwrap();
    let head = world.blocks.last().unwrap().block.number;
    let connection = Connection::open(file.path()).unwrap();
    let sql = "UPDATE blocks_1 SET content = CAST(substr(content, 1, 20) || x'ff'
        || substr(content, 22) AS BLOB) WHERE height = ?1";
    assert_eq!(connection.execute(sql, [head.cast_signed()]).unwrap(), 1);
    let page = PageRequest::first(10);
    let error = warehouse.events(&EventFilter::all(CHAIN), &page).await.unwrap_err();
    let told =
        format!("block {head} of chain 31337 is damaged in the warehouse: its checksum is wrong");
    assert!(error.to_string().starts_with(&told), "{error}");
    // Undoing it would leave its entries behind, so that is refused too.
    let done = world.frames.len();
    world.undo(1);
    let error = warehouse.apply(world.frames[done..].to_vec()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn files_of_others_and_of_the_future_are_left_alone() {
    let file = File::new();
    let connection = Connection::open(file.path()).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = open(&file.url()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Schema { found: 0, .. }), "{error}");
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    let error = open(&file.url()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Schema { found: 99, .. }), "{error}");
    std::fs::write(file.path().with_extension("txt"), "no database at all, but text").unwrap();
    let url = WarehouseUrl::SqliteFile(file.path().with_extension("txt"));
    let error = open(&url).await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
    let url = WarehouseUrl::SqliteFile(file.0.path().join("none/x.db"));
    let error = open(&url).await.unwrap_err();
    assert!(error.to_string().contains("does not exist; create it"), "{error}");
}

#[tokio::test]
async fn clickhouse_is_refused_by_name() {
    let url: WarehouseUrl = "clickhouse://me:secret@h:8123/x".parse().unwrap();
    let error = open(&url).await.unwrap_err().to_string();
    assert_eq!(error, "the warehouse clickhouse://h:8123/x is not supported yet; use sqlite:FILE");
}

#[cfg(unix)]
#[tokio::test]
async fn its_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new();
    let mut world = World::new(34);
    world.extend(3);
    let warehouse = file.open().await;
    warehouse.apply(world.frames).await.unwrap();
    for entry in std::fs::read_dir(file.0.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn readers_see_whole_batches_while_they_are_written() {
    let file = File::new();
    let warehouse = file.open().await;
    let mut world = World::new(35);
    for _ in 0..300 {
        world.extend(2);
        world.undo(1);
        world.extend(1);
    }
    let ended = Arc::new(AtomicU64::new(0));
    let (reading, told) = (Arc::clone(&warehouse), Arc::clone(&ended));
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        while told.load(Ordering::SeqCst) == 0 {
            let cursor = reading.cursor(CHAIN).await.unwrap();
            // Batches are of four frames, so any other cursor would be half of one.
            assert_eq!(cursor.sequence % 4, 0);
            seen = seen.max(cursor.sequence);
            tokio::task::yield_now().await;
        }
        seen
    });
    for batch in world.frames.chunks(4) {
        warehouse.apply(batch.to_vec()).await.unwrap();
        tokio::task::yield_now().await;
    }
    ended.store(1, Ordering::SeqCst);
    assert!(reader.await.unwrap() > 0);
}

/// Writes for ever in a process of its own, until it is killed.
#[tokio::test]
#[ignore = "run by `a_killed_writer_leaves_whole_batches`"]
async fn write_until_killed() {
    let path = std::env::var_os("LOOKOUT_TEST_WAREHOUSE_FILE").unwrap();
    let warehouse = open(&WarehouseUrl::SqliteFile(path.into())).await.unwrap();
    let mut world = World::new(88);
    world.run(50_000);
    let done = usize::try_from(warehouse.cursor(CHAIN).await.unwrap().sequence).unwrap();
    for batch in world.frames[done..].chunks(23) {
        warehouse.apply(batch.to_vec()).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_batches() {
    let (file, fresh) = (File::new(), File::new());
    let mut world = World::new(88);
    world.run(50_000);
    let mut before = 0;
    for _ in 0..4 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "sqlite::tests::write_until_killed"])
            .env("LOOKOUT_TEST_WAREHOUSE_FILE", file.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Until it has written something new; how much more is left to chance.
        let sequence = || {
            let connection = Connection::open(file.path()).ok()?;
            let sql = "SELECT sequence FROM chains";
            connection.query_row(sql, [], |row| row.get::<_, i64>(0)).ok()
        };
        while sequence().is_none_or(|sequence| sequence < before + 100) {
            assert_eq!(child.try_wait().unwrap(), None, "the writer ended by itself");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let warehouse = file.open().await;
        before = warehouse.cursor(CHAIN).await.unwrap().sequence.cast_signed();
        assert_eq!(before % 23, 0, "half a batch was committed");
        warehouse.close().await;
    }
    let warehouse = fresh.open().await;
    let done = usize::try_from(before).unwrap();
    warehouse.apply(world.frames[..done].to_vec()).await.unwrap();
    warehouse.close().await;
    assert_eq!(dump(&file.path()), dump(&fresh.path()));
}
