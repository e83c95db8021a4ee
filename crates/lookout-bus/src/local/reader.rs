//! A subscription: from the files while it is behind, from memory at the tail.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::try_unfold;
use lookout_types::{Cursor, Frame};
use tokio::sync::watch;

use super::log::{ChainLog, check_header, file_error};
use super::segment::{FILE_HEADER_BYTES, Found, read_record};
use crate::{BusError, FrameStream};

/// Every frame after `sequence`.
pub(super) fn stream(log: Arc<ChainLog>, sequence: u64) -> FrameStream {
    let tail = log.watch();
    let subscription = Subscription { log, tail, next: sequence.saturating_add(1), open: None };
    try_unfold(subscription, |mut subscription| async move {
        let frames = subscription.read().await?;
        Ok(frames.map(|frames| (frames, subscription)))
    })
    .boxed()
}

struct Subscription {
    log: Arc<ChainLog>,
    tail: watch::Receiver<Cursor>,
    /// The sequence to be read next.
    next: u64,
    open: Option<OpenSegment>,
}

/// A file, read up to a record.
struct OpenSegment {
    file: File,
    path: PathBuf,
    offset: u64,
    /// First frame of the record at the offset.
    next: u64,
}

impl Subscription {
    /// The next frames; `None` once the bus is closed.
    async fn read(&mut self) -> Result<Option<Vec<Arc<Frame>>>, BusError> {
        loop {
            let tail = self.tail.borrow_and_update().sequence;
            if self.log.is_closed() {
                return Ok(None);
            }
            if self.next > tail.saturating_add(1) {
                let (chain, cursor) = (self.log.chain, self.next - 1);
                return Err(BusError::Ahead { chain, cursor, tail });
            }
            if self.next <= tail {
                let recent = self.log.recent.lock().since(self.next);
                let frames = match recent {
                    Some(frames) => {
                        self.open = None;
                        frames
                    }
                    None => self.read_file().await?,
                };
                if let Some(last) = frames.last() {
                    self.next = last.sequence + 1;
                    return Ok(Some(frames));
                }
            } else if self.tail.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The rest of the record that holds the next frame.
    async fn read_file(&mut self) -> Result<Vec<Arc<Frame>>, BusError> {
        let (log, next, open) = (Arc::clone(&self.log), self.next, self.open.take());
        let read = tokio::task::spawn_blocking(move || {
            let mut open = match open {
                Some(open) if open.next == next => open,
                _ => OpenSegment::open(&log, next)?,
            };
            let frames = loop {
                if let Some(mut frames) = open.record(&log)? {
                    frames.retain(|frame| frame.sequence >= next);
                    if !frames.is_empty() {
                        break frames;
                    }
                } else {
                    // The file is at its end, so the next one begins with this frame.
                    let offset = open.offset;
                    let behind = open.next;
                    let path = open.path;
                    open = OpenSegment::open(&log, next)?;
                    if open.path == path {
                        let reason = format!("it ends before frame {behind}");
                        return Err(BusError::Damaged { file: path, offset, reason });
                    }
                }
            };
            Ok((open, frames))
        });
        let (open, frames) = read.await.map_err(|_| BusError::Closed)??;
        self.open = Some(open);
        Ok(frames)
    }
}

impl OpenSegment {
    fn open(log: &ChainLog, sequence: u64) -> Result<Self, BusError> {
        // A file may be trimmed between being named and being opened.
        for _ in 0..2 {
            let Some((first, path)) = log.segment_of(sequence) else { break };
            match File::open(&path) {
                Ok(mut file) => {
                    check_header(&mut file, &path, log.chain)?;
                    return Ok(Self { file, path, offset: FILE_HEADER_BYTES, next: first });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(file_error("open", &path)(error)),
            }
        }
        Err(BusError::Trimmed { chain: log.chain, asked: sequence, oldest: log.oldest() })
    }

    /// The next record's frames; `None` at the end of the file.
    fn record(&mut self, log: &ChainLog) -> Result<Option<Vec<Arc<Frame>>>, BusError> {
        let failed = file_error("read", &self.path);
        let (file, offset) = (self.path.clone(), self.offset);
        let damaged = |reason: String| BusError::Damaged { file, offset, reason };
        let size = self.file.metadata().map_err(&failed)?.len();
        self.file.seek(SeekFrom::Start(self.offset)).map_err(&failed)?;
        let left = size.saturating_sub(self.offset);
        match read_record(&mut self.file, left).map_err(&failed)? {
            Found::End => Ok(None),
            Found::Bad(reason) => Err(damaged(reason.to_owned())),
            Found::Record(header, _) if header.first != self.next => Err(damaged(format!(
                "frame {} of chain {} stands where {} belongs",
                header.first, log.chain, self.next
            ))),
            Found::Record(header, payload) => {
                let frames = header.frames(&payload).map_err(damaged)?;
                self.offset += header.record_bytes();
                self.next += u64::from(header.count);
                Ok(Some(frames))
            }
        }
    }
}
