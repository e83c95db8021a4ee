//! The suite on folders, and damage to files.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::suite::{self, CHAIN, Rig, World, read};
use crate::{BusUrl, open};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn url(&self) -> BusUrl {
        BusUrl::Local(self.0.path().join("frames"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.0.path().join("frames").join(CHAIN.to_string());
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

#[async_trait]
impl Rig for Folder {
    async fn open(&self) -> Arc<dyn Bus> {
        loop {
            match open(&self.url()).await {
                // A process that another test is starting holds a copy of every open file, locks
                // included, from its fork to its exec.
                Err(BusError::InUse { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            suite::$case(&Folder::new()).await;
        })*
    };
}

suite!(
    frames_come_back,
    subscribers_follow,
    only_what_follows_is_taken,
    a_chain_can_be_undone_to_nothing,
    an_earlier_claim_is_over,
    consumers_ahead_are_told,
);

#[tokio::test]
async fn crashes_lose_nothing() {
    for seed in 0..20 {
        suite::crashes_lose_nothing(&Folder::new(), seed).await;
    }
}

/// A folder with some publications in one file, and where each record ends.
async fn filled(publications: usize) -> (Folder, World, Vec<u64>) {
    let folder = Folder::new();
    let mut world = World::new(9);
    let bus = folder.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    let mut ends = Vec::new();
    for _ in 0..publications {
        let before = world.frames.len();
        world.extend(3);
        bus.publish(&claim, world.frames[before..].to_vec()).await.unwrap();
        ends.push(std::fs::metadata(&folder.files()[0]).unwrap().len());
    }
    bus.close().await;
    (folder, world, ends)
}

fn rewrite(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

fn at(end: u64) -> usize {
    usize::try_from(end).unwrap()
}

#[tokio::test]
async fn a_tail_torn_anywhere_is_cut_off_and_written_again() {
    let (folder, world, ends) = filled(3).await;
    let whole = std::fs::read(&folder.files()[0]).unwrap();
    for length in (at(ends[1])..at(ends[2])).step_by(5) {
        let file = folder.files()[0].clone();
        rewrite(&file, |bytes| {
            *bytes = whole[..length].to_vec();
            // A power cut may leave zeros where the rest was to come.
            if length % 2 == 0 {
                bytes.resize(whole.len(), 0);
            }
        });
        let bus = folder.open().await;
        assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 6, "cut at {length}");
        let claim = bus.claim(CHAIN).await.unwrap();
        bus.publish(&claim, world.frames[6..].to_vec()).await.unwrap();
        assert_eq!(read(&mut bus.subscribe(CHAIN, 0), 9).await, world.frames);
        bus.close().await;
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_never_read_as_a_frame() {
    let (folder, world, ends) = filled(3).await;
    let file = folder.files()[0].clone();
    let whole = std::fs::read(&file).unwrap();
    for place in (0..whole.len()).step_by(3) {
        rewrite(&file, |bytes| {
            *bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
        });
        let bus = folder.open().await;
        let tail = bus.tail(CHAIN).await;
        if place >= at(ends[1]) {
            // Not to be told from a torn one: the frames before it are whole.
            assert_eq!(tail.unwrap().sequence, 6, "flipped at {place}");
            assert_eq!(read(&mut bus.subscribe(CHAIN, 0), 6).await, world.frames[..6]);
        } else {
            let error = tail.unwrap_err();
            assert!(matches!(error, BusError::Damaged { .. }), "flipped at {place}: {error}");
            assert_eq!(std::fs::read(&file).unwrap().len(), whole.len(), "nothing is cut");
        }
        bus.close().await;
    }
}

#[tokio::test]
async fn a_torn_record_may_hold_what_looks_like_records() {
    let (folder, mut world, ends) = filled(3).await;
    let file = folder.files()[0].clone();
    let whole = std::fs::read(&file).unwrap();
    // As a contract may log it: the record that was to come, whole.
    let fake = whole[at(ends[1])..at(ends[2])].to_vec();
    rewrite(&file, |bytes| bytes.truncate(at(ends[1])));
    world.undo(3);
    world.frames.truncate(6);
    world.extend(3);
    let mut frame = lookout_types::Frame::clone(&world.frames[7]);
    frame.logs.push(lookout_types::Log {
        address: lookout_types::Address([1; 20]),
        topics: Vec::new(),
        data: [vec![0; 40], fake].concat().into(),
        transaction_hash: lookout_types::Hash([2; 32]),
        transaction_index: 0,
        log_index: 9_999,
    });
    world.frames[7] = Arc::new(frame);
    let bus = folder.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    bus.publish(&claim, world.frames[6..].to_vec()).await.unwrap();
    bus.close().await;
    let whole = std::fs::read(&file).unwrap();
    for missing in [1, 30, 90] {
        rewrite(&file, |bytes| {
            *bytes = whole[..whole.len() - missing].to_vec();
            if missing == 90 {
                bytes.resize(whole.len(), 0);
            }
        });
        let bus = folder.open().await;
        assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 6, "{missing} bytes are missing");
        let claim = bus.claim(CHAIN).await.unwrap();
        bus.publish(&claim, world.frames[6..].to_vec()).await.unwrap();
        assert_eq!(read(&mut bus.subscribe(CHAIN, 0), 9).await, world.frames);
        bus.close().await;
    }
}

#[tokio::test]
async fn damage_that_comes_while_it_is_open_is_told_to_readers() {
    let (folder, _world, ends) = filled(3).await;
    let bus = folder.open().await;
    assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 9);
    rewrite(&folder.files()[0], |bytes| bytes[at(ends[0]) + 40] ^= 1);
    let mut stream = bus.subscribe(CHAIN, 0);
    assert_eq!(stream.next().await.unwrap().unwrap().len(), 3);
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the checksum is wrong"), "{error}");
    assert!(stream.next().await.is_none());
}

/// Frames of two megabytes each, so that files fill up.
fn heavy(count: usize) -> World {
    let mut world = World::new(11);
    world.extend(count);
    for frame in &mut world.frames {
        let mut heavy = Frame::clone(frame);
        heavy.logs = vec![lookout_types::Log {
            address: lookout_types::Address([1; 20]),
            topics: Vec::new(),
            data: vec![7; 2_000_001].into(),
            transaction_hash: lookout_types::Hash([1; 32]),
            transaction_index: 0,
            log_index: 0,
        }];
        *frame = Arc::new(heavy);
    }
    world
}

#[tokio::test]
async fn full_files_are_closed_and_let_go_of() {
    let folder = Folder::new();
    let world = heavy(90);
    let bus = folder.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    let mut slow = bus.subscribe(CHAIN, 0);
    bus.publish(&claim, world.frames[..80].to_vec()).await.unwrap();
    let files = folder.files();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(slow.next().await.unwrap().unwrap()[0], world.frames[0]);
    // Frame 40 stands in the second file, so only the first can go.
    let oldest = bus.trim(CHAIN, 40).await.unwrap();
    assert!((2..=40).contains(&oldest), "{oldest}");
    assert_eq!(bus.trim(CHAIN, 40).await.unwrap(), oldest);
    assert_eq!(bus.oldest(CHAIN).await.unwrap(), oldest);
    assert_eq!(folder.files(), files[1..]);
    let error = bus.subscribe(CHAIN, 0).next().await.unwrap().unwrap_err();
    assert!(matches!(error, BusError::Trimmed { asked: 1, .. }), "{error}");
    // All of them committed: the last file stays, for the tail.
    bus.trim(CHAIN, 81).await.unwrap();
    assert_eq!(folder.files(), files[2..]);
    bus.close().await;
    drop((bus, slow));
    let bus = folder.open().await;
    assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 80);
    let claim = bus.claim(CHAIN).await.unwrap();
    bus.publish(&claim, world.frames[80..].to_vec()).await.unwrap();
    let oldest = bus.oldest(CHAIN).await.unwrap();
    let count = usize::try_from(90 - oldest + 1).unwrap();
    let frames = read(&mut bus.subscribe(CHAIN, oldest - 1), count).await;
    assert_eq!(frames, world.frames[90 - count..]);
}

#[tokio::test]
async fn a_missing_file_is_told() {
    let folder = Folder::new();
    let world = heavy(80);
    let bus = folder.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    bus.publish(&claim, world.frames.clone()).await.unwrap();
    bus.close().await;
    std::fs::remove_file(&folder.files()[1]).unwrap();
    let bus = folder.open().await;
    let mut stream = bus.subscribe(CHAIN, 0);
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("it ends before frame"), "{error}");
}

#[tokio::test]
async fn a_second_instance_is_refused() {
    let folder = Folder::new();
    let bus = folder.open().await;
    let error = open(&folder.url()).await.unwrap_err();
    assert!(error.to_string().contains("in use by another lookout"), "{error}");
    bus.close().await;
    folder.open().await;
}

#[tokio::test]
async fn kafka_is_refused_by_name() {
    let url: BusUrl = "kafka://me:secret@h:9092/x".parse().unwrap();
    let error = open(&url).await.unwrap_err().to_string();
    assert_eq!(error, "the bus kafka://h:9092/x is not supported yet; use local:FOLDER");
}

/// Publishes for ever in a process of its own, until it is killed.
#[tokio::test]
#[ignore = "run by `a_killed_publisher_leaves_whole_frames`"]
async fn publish_until_killed() {
    let folder = std::env::var_os("LOOKOUT_TEST_BUS_FOLDER").unwrap();
    let bus = open(&BusUrl::Local(folder.into())).await.unwrap();
    let claim = bus.claim(CHAIN).await.unwrap();
    let mut world = World::new(77);
    let done = usize::try_from(bus.tail(CHAIN).await.unwrap().sequence).unwrap();
    world.run(100_000);
    let mut random = fastrand::Rng::new();
    let mut rest = &world.frames[done..];
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(random.usize(1..50).min(rest.len()));
        bus.publish(&claim, batch.to_vec()).await.unwrap();
        rest = after;
    }
}

#[tokio::test]
async fn a_killed_publisher_leaves_whole_frames() {
    let folder = Folder::new();
    let mut world = World::new(77);
    world.run(100_000);
    let mut before = 0;
    for _ in 0..5 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "local::tests::publish_until_killed"])
            .env("LOOKOUT_TEST_BUS_FOLDER", folder.0.path().join("frames"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Until it has written something new; how much more is left to chance.
        let size = || {
            let path = folder.0.path().join("frames").join(CHAIN.to_string());
            let files = std::fs::read_dir(path).into_iter().flatten().flatten();
            files.map(|file| file.metadata().map_or(0, |data| data.len())).sum::<u64>()
        };
        let old = size();
        while size() < old + 50_000 {
            assert_eq!(child.try_wait().unwrap(), None, "the publisher ended by itself");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let bus = folder.open().await;
        let tail = usize::try_from(bus.tail(CHAIN).await.unwrap().sequence).unwrap();
        assert!(tail > before, "{tail}");
        assert_eq!(read(&mut bus.subscribe(CHAIN, 0), tail).await, world.frames[..tail]);
        bus.close().await;
        before = tail;
    }
}
