//! One chain's log: recovering it, appending to it, trimming it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lookout_types::{BlockRef, ChainId, Cursor, Frame, Hash, Step};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::recent::Recent;
use super::segment;
use super::segment::{
    FILE_HEADER_BYTES, Found, RECORD_BYTES, Record, file_header, file_name, first_of, make_folder,
    open_private, read_record, sync_folder,
};
use crate::BusError;
use crate::error::is_full;

/// A file is closed when it has reached this size: what trimming frees at once.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The log of one chain.
#[derive(Debug)]
pub(super) struct ChainLog {
    pub(super) chain: ChainId,
    folder: PathBuf,
    state: Mutex<State>,
    pub(super) recent: Mutex<Recent>,
    tail: watch::Sender<Cursor>,
    /// Apart from the state, which is locked while the disk is being flushed.
    closed: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// The claim in force; 0 before the first.
    token: u64,
    /// First frames of the files, the last one being written.
    segments: BTreeSet<u64>,
    /// The last file and its size.
    active: Option<(File, u64)>,
    /// Blocks on the chain.
    applied: u64,
    /// A write failed, and what the file holds now is unknown.
    broken: bool,
}

/// Where the log ends, and what the chain is there.
#[derive(Debug, Clone, Copy)]
struct End {
    cursor: Cursor,
    applied: u64,
}

impl ChainLog {
    pub(super) fn open(folder: PathBuf, chain: ChainId) -> Result<Self, BusError> {
        let failed = |source| BusError::file("create the folder of", folder.clone(), source);
        make_folder(&folder).map_err(failed)?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent).map_err(failed)?;
        }
        let mut segments = list(&folder)?;
        let end = recover(&folder, chain, &mut segments)?;
        let active = match segments.last() {
            Some(first) => {
                let path = file_name(&folder, *first);
                let failed = file_error("open", &path);
                let mut file = open_private(&path).map_err(&failed)?;
                let size = file.seek(SeekFrom::End(0)).map_err(&failed)?;
                Some((file, size))
            }
            None => None,
        };
        let state = State { token: 0, segments, active, applied: end.applied, broken: false };
        Ok(Self {
            chain,
            folder,
            state: Mutex::new(state),
            recent: Mutex::default(),
            tail: watch::Sender::new(end.cursor),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn claim(&self) -> u64 {
        let mut state = self.state.lock();
        state.token += 1;
        state.token
    }

    pub(super) fn tail(&self) -> Cursor {
        *self.tail.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Cursor> {
        self.tail.subscribe()
    }

    pub(super) fn oldest(&self) -> u64 {
        let first = self.state.lock().segments.first().copied();
        first.unwrap_or_else(|| self.tail().sequence + 1)
    }

    /// The file that holds a frame, if it is kept.
    pub(super) fn segment_of(&self, sequence: u64) -> Option<(u64, PathBuf)> {
        let state = self.state.lock();
        let first = *state.segments.range(..=sequence).next_back()?;
        Some((first, file_name(&self.folder, first)))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, token: u64, frames: &[Arc<Frame>]) -> Result<Cursor, BusError> {
        let mut state = self.state.lock();
        self.check(&state, token)?;
        let mut end = End { cursor: self.tail(), applied: state.applied };
        let mut rest = frames.iter().peekable();
        while rest.peek().is_some() {
            let first = end.cursor.sequence + 1;
            let mut record = Record::new();
            let mut added = Vec::new();
            // A frame that does not fit leaves those before it in the log, and is told then.
            let mut wrong = None;
            while record.bytes.len() < RECORD_BYTES
                && let Some(frame) = rest.next()
            {
                match follow(end, frame).and_then(|next| Ok((next, record.push(frame)?))) {
                    Ok((next, size)) => {
                        end = next;
                        added.push((Arc::clone(frame), size));
                    }
                    Err(error) => {
                        wrong = Some(error);
                        break;
                    }
                }
            }
            if wrong.is_some() {
                record = Record::new();
                for (frame, _) in &added {
                    record.push(frame)?;
                }
            }
            if !record.is_empty() {
                record.seal(first, end.applied);
                self.append(&mut state, first, &record.bytes)?;
                state.applied = end.applied;
                let mut recent = self.recent.lock();
                for (frame, size) in added {
                    recent.push(frame, size);
                }
                drop(recent);
                self.tail.send_replace(end.cursor);
            }
            if let Some(error) = wrong {
                return Err(error);
            }
        }
        Ok(end.cursor)
    }

    fn check(&self, state: &State, token: u64) -> Result<(), BusError> {
        if self.is_closed() {
            Err(BusError::Closed)
        } else if state.broken {
            Err(BusError::Broken(self.chain))
        } else if state.token != token {
            Err(BusError::Fenced(self.chain))
        } else {
            Ok(())
        }
    }

    /// Appends a record and flushes it to the disk.
    fn append(&self, state: &mut State, first: u64, bytes: &[u8]) -> Result<(), BusError> {
        if state.active.as_ref().is_none_or(|(_, size)| *size >= SEGMENT_BYTES) {
            let path = file_name(&self.folder, first);
            let file = new_segment(&self.folder, &path, self.chain)
                .map_err(file_error("create", &path))?;
            state.active = Some((file, FILE_HEADER_BYTES));
            state.segments.insert(first);
        }
        let path = file_name(&self.folder, *state.segments.last().unwrap_or(&first));
        let Some((file, size)) = state.active.as_mut() else {
            return Err(BusError::Broken(self.chain));
        };
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(source) = written {
            // What was written must go before anything else comes: a record may be torn at the very
            // end only. After a failed flush nothing is known about the file, so it stays as it is.
            let undone = file.set_len(*size).and_then(|()| file.seek(SeekFrom::Start(*size)));
            if undone.is_err() || !is_full(&source) {
                state.broken = true;
            }
            return Err(file_error("write", &path)(source));
        }
        *size += u64::try_from(bytes.len()).expect("a length fits 64 bits");
        Ok(())
    }

    pub(super) fn trim(&self, below: u64) -> Result<u64, BusError> {
        let mut state = self.state.lock();
        if self.is_closed() {
            return Err(BusError::Closed);
        }
        let mut removed = false;
        // The last file stays: it says where the log ends.
        while let Some(second) = state.segments.iter().nth(1).copied()
            && second <= below
        {
            let Some(first) = state.segments.pop_first() else { break };
            let path = file_name(&self.folder, first);
            std::fs::remove_file(&path).map_err(file_error("remove", &path))?;
            removed = true;
        }
        if removed {
            sync_folder(&self.folder).map_err(file_error("flush the folder of", &self.folder))?;
        }
        let first = state.segments.first().copied();
        Ok(first.unwrap_or_else(|| self.tail().sequence + 1))
    }

    pub(super) fn reset(&self, token: u64) -> Result<(), BusError> {
        let mut state = self.state.lock();
        self.check(&state, token)?;
        state.active = None;
        // Newest first: whatever a crash leaves is a log that ends earlier.
        while let Some(first) = state.segments.pop_last() {
            let path = file_name(&self.folder, first);
            std::fs::remove_file(&path).map_err(file_error("remove", &path))?;
        }
        sync_folder(&self.folder).map_err(file_error("flush the folder of", &self.folder))?;
        state.applied = 0;
        self.recent.lock().clear();
        self.tail.send_replace(Cursor { chain: self.chain, sequence: 0, head: None });
        Ok(())
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // After the publication under way.
        self.state.lock().active = None;
        // Wakes the subscribers, who look why.
        self.tail.send_modify(|_| {});
    }
}

/// Where the log ends after one frame more.
fn follow(end: End, frame: &Frame) -> Result<End, BusError> {
    let cursor = end.cursor;
    if frame.chain != cursor.chain {
        return Err(BusError::Invalid(format!(
            "frame {} is of chain {}, but chain {} was claimed",
            frame.sequence, frame.chain, cursor.chain
        )));
    }
    if frame.sequence != cursor.sequence + 1 {
        return Err(BusError::Gap {
            chain: cursor.chain,
            tail: cursor.sequence,
            given: frame.sequence,
        });
    }
    let next = match (frame.step, cursor.head) {
        (Step::Apply, None) => Some((Some(frame.block), end.applied + 1)),
        (Step::Apply, Some(head)) if is_child(frame, &head) => {
            Some((Some(frame.block), end.applied + 1))
        }
        (Step::Undo, Some(head)) if head == frame.block => {
            let applied = end.applied.saturating_sub(1);
            Some((parent_of(frame, applied), applied))
        }
        _ => None,
    };
    match next {
        Some((head, applied)) => {
            let cursor = Cursor { sequence: frame.sequence, head, ..cursor };
            Ok(End { cursor, applied })
        }
        None => Err(BusError::Unlinked {
            chain: cursor.chain,
            sequence: frame.sequence,
            step: frame.step,
            block: frame.block,
            head: cursor.head.map_or_else(
                || "no block at all".to_owned(),
                |head| format!("block {} {}", head.number, head.hash),
            ),
        }),
    }
}

fn is_child(frame: &Frame, head: &BlockRef) -> bool {
    head.number.checked_add(1) == Some(frame.block.number) && head.hash == frame.parent
}

/// The head after an undo: the parent, unless the first block of all was undone.
fn parent_of(frame: &Frame, applied: u64) -> Option<BlockRef> {
    let number = frame.block.number.checked_sub(1)?;
    let hash: Hash = frame.parent;
    (applied > 0).then_some(BlockRef { number, hash })
}

fn list(folder: &Path) -> Result<BTreeSet<u64>, BusError> {
    let failed = file_error("list the folder of", folder);
    let mut segments = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        let name = entry.map_err(&failed)?.file_name();
        segments.extend(name.to_str().and_then(first_of));
    }
    Ok(segments)
}

fn new_segment(folder: &Path, path: &Path, chain: ChainId) -> std::io::Result<File> {
    let mut file = open_private(path)?;
    // A crash may have left one without a record.
    file.set_len(0)?;
    file.write_all(&file_header(chain))?;
    file.sync_all()?;
    sync_folder(folder)?;
    Ok(file)
}

/// Finds the end of the log, and cuts off what a crash has torn there.
fn recover(folder: &Path, chain: ChainId, segments: &mut BTreeSet<u64>) -> Result<End, BusError> {
    let mut newer = None;
    while let Some(first) = segments.last().copied() {
        let path = file_name(folder, first);
        if let Some(end) = recover_file(&path, chain, first, newer.is_none())? {
            let next = end.cursor.sequence + 1;
            if newer.is_some_and(|newer| newer != next) {
                let reason = format!("it ends before frame {next}, the next file begins elsewhere");
                return Err(BusError::Damaged { file: path, offset: FILE_HEADER_BYTES, reason });
            }
            return Ok(end);
        }
        // It holds no record: a crash came between its creation and its first one.
        segments.pop_last();
        if segments.is_empty() && first > 1 {
            let reason = "frames before it are gone, and it holds none".to_owned();
            return Err(BusError::Damaged { file: path, offset: FILE_HEADER_BYTES, reason });
        }
        std::fs::remove_file(&path).map_err(file_error("remove", &path))?;
        newer = Some(first);
    }
    Ok(End { cursor: Cursor { chain, sequence: 0, head: None }, applied: 0 })
}

/// The end of one file; `None` when it holds no record. Only the newest file can have been torn.
fn recover_file(
    path: &Path,
    chain: ChainId,
    first: u64,
    newest: bool,
) -> Result<Option<End>, BusError> {
    let failed = file_error("read", path);
    let mut file = open_private(path).map_err(&failed)?;
    let size = file.metadata().map_err(&failed)?.len();
    if size < FILE_HEADER_BYTES {
        return Ok(None);
    }
    check_header(&mut file, path, chain)?;
    let mut offset = FILE_HEADER_BYTES;
    let mut expected = first;
    let mut last = None;
    let torn = loop {
        match read_record(&mut file, size - offset).map_err(&failed)? {
            Found::Record(header, payload) if header.first == expected => {
                offset += header.record_bytes();
                expected += u64::from(header.count);
                last = Some((header, payload));
            }
            Found::Record(header, _) => {
                let reason = format!("frame {} stands where {expected} belongs", header.first);
                return Err(BusError::Damaged { file: path.to_owned(), offset, reason });
            }
            Found::End => break None,
            Found::Bad(reason) => break Some(reason),
        }
    };
    if let Some(reason) = torn {
        if !newest {
            let reason = format!("{reason}, and a newer file follows");
            return Err(BusError::Damaged { file: path.to_owned(), offset, reason });
        }
        cut(&mut file, path, offset, expected, reason)?;
    }
    let Some((header, payload)) = last else { return Ok(None) };
    let damaged = |reason| BusError::Damaged { file: path.to_owned(), offset, reason };
    let frames = header.frames(&payload).map_err(damaged)?;
    let Some(frame) = frames.last() else { return Err(damaged("a record is empty".to_owned())) };
    let head = match frame.step {
        Step::Apply => Some(frame.block),
        Step::Undo => parent_of(frame, header.applied),
    };
    let cursor = Cursor { chain, sequence: frame.sequence, head };
    Ok(Some(End { cursor, applied: header.applied }))
}

pub(super) fn check_header(file: &mut File, path: &Path, chain: ChainId) -> Result<(), BusError> {
    let mut header = [0; 16];
    file.read_exact(&mut header).map_err(file_error("read", path))?;
    if header == file_header(chain) {
        return Ok(());
    }
    let reason = format!("its header is not that of a log of chain {chain}");
    Err(BusError::Damaged { file: path.to_owned(), offset: 0, reason })
}

/// Cuts off a torn end, unless whole records stand behind it.
fn cut(
    file: &mut File,
    path: &Path,
    offset: u64,
    expected: u64,
    reason: &str,
) -> Result<(), BusError> {
    let failed = file_error("recover", path);
    file.seek(SeekFrom::Start(offset)).map_err(&failed)?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).map_err(&failed)?;
    if segment::has_record_from(&rest, expected) {
        let reason = format!("{reason}, and whole records follow");
        return Err(BusError::Damaged { file: path.to_owned(), offset, reason });
    }
    tracing::warn!(
        file = %path.display(), offset, bytes = rest.len(), sequence = expected, reason,
        "the bus cut off a record that a crash had torn; its publisher was not told that it was kept"
    );
    file.set_len(offset).and_then(|()| file.sync_all()).map_err(&failed)
}

pub(super) fn file_error(
    doing: &'static str,
    path: &Path,
) -> impl Fn(std::io::Error) -> BusError + use<> {
    let file = path.to_owned();
    move |source| BusError::file(doing, file.clone(), source)
}
