//! The format of the log's files.
//!
//! A file is a header (magic, chain) and records; its name is the sequence of its first frame. A
//! record is: magic (4 bytes), payload length (4), checksum of all that follows it (4), sequence of
//! its first frame (8), blocks on the chain after it (8), count of frames (4), payload: each frame
//! behind its length (4). Numbers are little-endian.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lookout_types::{ChainId, Frame, decode_frame, encode_frame};

use crate::BusError;

/// First bytes of a file.
const FILE_MAGIC: &[u8; 8] = b"LOOKFRM1";
/// First bytes of a record: what a search for the next whole record looks for.
const RECORD_MAGIC: &[u8; 4] = b"LKR1";
/// Bytes before a file's first record.
pub(super) const FILE_HEADER_BYTES: u64 = 16;
/// Bytes before a record's payload.
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Bytes of a record's header that its checksum does not cover.
const CHECKSUM_FROM: usize = 12;
/// A publication is cut into records of about this size: what a reader holds in memory at once.
pub(super) const RECORD_BYTES: usize = 4 << 20;
/// Largest record, which is one frame: ten times the largest block that any chain makes today.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// One record, as it goes to the file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Vec<u8>,
    count: u32,
}

/// What stands before a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) first: u64,
    pub(super) applied: u64,
    pub(super) count: u32,
    checksum: u32,
    payload_bytes: usize,
}

impl Record {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; RECORD_HEADER_BYTES], count: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends a frame, and returns its size.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<usize, BusError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        encode_frame(frame, &mut self.bytes).map_err(|source| BusError::Frame {
            chain: frame.chain,
            sequence: frame.sequence,
            source,
        })?;
        let size = self.bytes.len() - start - 4;
        match u32::try_from(size) {
            Ok(length) if size <= RECORD_BYTES_MAX - RECORD_BYTES => {
                self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
            }
            _ => {
                return Err(BusError::Invalid(format!(
                    "chain {}: frame {} takes {size} bytes, the bus carries at most {}",
                    frame.chain,
                    frame.sequence,
                    RECORD_BYTES_MAX - RECORD_BYTES
                )));
            }
        }
        self.count += 1;
        Ok(size)
    }

    /// Fills in the header.
    pub(super) fn seal(&mut self, first: u64, applied: u64) {
        let payload = u32::try_from(self.bytes.len() - RECORD_HEADER_BYTES).expect("bounded");
        self.bytes[..4].copy_from_slice(RECORD_MAGIC);
        self.bytes[4..8].copy_from_slice(&payload.to_le_bytes());
        self.bytes[12..20].copy_from_slice(&first.to_le_bytes());
        self.bytes[20..28].copy_from_slice(&applied.to_le_bytes());
        self.bytes[28..32].copy_from_slice(&self.count.to_le_bytes());
        let checksum = crc32fast::hash(&self.bytes[CHECKSUM_FROM..]);
        self.bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    }
}

impl RecordHeader {
    fn parse(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<Self, &'static str> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if &bytes[..4] != RECORD_MAGIC {
            return Err("no record begins here");
        }
        let payload_bytes = usize::try_from(word(4)).map_err(|_| "the record is too long")?;
        if payload_bytes > RECORD_BYTES_MAX {
            return Err("the record is too long");
        }
        Ok(Self {
            first: long(12),
            applied: long(20),
            count: word(28),
            checksum: word(8),
            payload_bytes,
        })
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        u64::try_from(RECORD_HEADER_BYTES + self.payload_bytes).expect("bounded")
    }

    /// The frames of a payload.
    pub(super) fn frames(&self, payload: &[u8]) -> Result<Vec<Arc<Frame>>, String> {
        let mut frames = Vec::new();
        let mut rest = payload;
        for sequence in (self.first..).take(usize::try_from(self.count).unwrap_or(usize::MAX)) {
            let (length, after) = rest.split_first_chunk::<4>().ok_or("the record is short")?;
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let (bytes, after) = after.split_at_checked(length).ok_or("the record is short")?;
            let frame = decode_frame(bytes).map_err(|error| error.to_string())?;
            if frame.sequence != sequence {
                return Err(format!("frame {} stands where {sequence} belongs", frame.sequence));
            }
            frames.push(Arc::new(frame));
            rest = after;
        }
        if rest.is_empty() { Ok(frames) } else { Err("the record is long".to_owned()) }
    }
}

/// What reading one record gave.
pub(super) enum Found {
    Record(RecordHeader, Vec<u8>),
    /// The file ends exactly here.
    End,
    /// What stands here is no whole record.
    Bad(&'static str),
}

/// Reads the record at the file's position. `left` is how many bytes the file still has.
pub(super) fn read_record(file: &mut impl Read, left: u64) -> io::Result<Found> {
    if left == 0 {
        return Ok(Found::End);
    }
    if left < u64::try_from(RECORD_HEADER_BYTES).expect("small") {
        return Ok(Found::Bad("the record is cut short"));
    }
    let mut head = [0; RECORD_HEADER_BYTES];
    file.read_exact(&mut head)?;
    let header = match RecordHeader::parse(&head) {
        Ok(header) => header,
        Err(reason) => return Ok(Found::Bad(reason)),
    };
    if header.record_bytes() > left {
        return Ok(Found::Bad("the record is cut short"));
    }
    let mut payload = vec![0; header.payload_bytes];
    file.read_exact(&mut payload)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[CHECKSUM_FROM..]);
    hasher.update(&payload);
    if hasher.finalize() == header.checksum {
        Ok(Found::Record(header, payload))
    } else {
        Ok(Found::Bad("the checksum is wrong"))
    }
}

/// How many of the first bytes are of the torn record that begins there: what stands in it was written
/// by whoever writes to the chain, and may look like a record. 0 where its header does not tell; its
/// length counts only where the frames' own lengths lead to the same place, or over the end.
fn torn_bytes(bytes: &[u8], sequence: u64) -> usize {
    let Some(header) = bytes.first_chunk().and_then(|head| RecordHeader::parse(head).ok()) else {
        return 0;
    };
    let length = RECORD_HEADER_BYTES + header.payload_bytes;
    let mut at = RECORD_HEADER_BYTES;
    for _ in 0..header.count {
        let Some(size) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { break };
        let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
        at = at.saturating_add(4).saturating_add(size);
        if at > length {
            return 0;
        }
    }
    let fits = at == length || at >= bytes.len().saturating_sub(3);
    if fits && header.first == sequence { length.min(bytes.len()) } else { 0 }
}

/// Whether a whole record with frames from `sequence` on stands in `bytes`, behind the torn one that
/// they begin with.
pub(super) fn has_record_from(bytes: &[u8], sequence: u64) -> bool {
    let bytes = &bytes[torn_bytes(bytes, sequence)..];
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(RECORD_MAGIC));
    starts.into_iter().any(|at| {
        let mut rest = &bytes[at..];
        let left = u64::try_from(rest.len()).expect("a length fits 64 bits");
        matches!(read_record(&mut rest, left), Ok(Found::Record(header, _)) if header.first >= sequence)
    })
}

/// The first bytes of a chain's file.
pub(super) fn file_header(chain: ChainId) -> [u8; 16] {
    let mut header = [0; 16];
    header[..8].copy_from_slice(FILE_MAGIC);
    header[8..].copy_from_slice(&chain.0.to_le_bytes());
    header
}

/// The name of the file whose first frame is `first`.
pub(super) fn file_name(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.frames"))
}

/// The first frame of a file, by its name; `None` for other files.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".frames")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// Opens or creates a file that only its owner can read.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a folder that only its owner can read, unless it is there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes new and removed names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
