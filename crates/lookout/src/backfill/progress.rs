//! How far a backfill is: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lookout_ingest::consume::ConsumerState;
use lookout_ingest::publish::{Phase, PublisherState};
use lookout_types::{BlockRef, Height};

/// How often a bar moves: smooth to the eye.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is written where nobody may be looking.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Lines of a comparison: about this many in all.
const COMPARED_LINES: u64 = 20;

/// Shows how far it is, on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    chain: String,
    from: Height,
    to: Height,
    /// `None` where standard error is no terminal.
    bar: Option<ProgressBar>,
    /// The next height that is worth a line.
    next_line: AtomicU64,
}

impl Progress {
    pub(super) fn new(chain: &str, from: Height, to: Height) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new((to + 1).saturating_sub(from));
            let template = "{bar:30} {percent:>3} %  {msg}  {eta} left";
            // The template is right as it stands; the default one is no worse than none.
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { chain: chain.to_owned(), from, to, bar, next_line: AtomicU64::new(from) }
    }

    pub(super) fn interval(&self) -> Duration {
        if self.bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL }
    }

    /// Shows how far publisher and warehouse are.
    pub(super) fn show(&self, published: &PublisherState, consumed: &ConsumerState) {
        let head = consumed.cursor.and_then(|cursor| cursor.head);
        let mut text = match head {
            Some(head) => format!("block {} of {}", head.number, self.to),
            None => format!("no block yet of {}", self.to),
        };
        if published.blocks_per_second > 0 {
            text.push_str(&format!(", {} blocks/s", published.blocks_per_second));
        }
        if let Phase::Waiting { reason } = &published.phase {
            text.push_str(&format!("; waiting: {reason}"));
        }
        if let Some(problem) = &consumed.problem {
            text.push_str(&format!("; the warehouse waits: {problem}"));
        }
        self.put(head.map_or(self.from, |head| head.number + 1), &text);
    }

    /// Shows how far a comparison is.
    pub(super) fn compared(&self, next: Height) {
        let text = format!("compared up to block {} of {}", next.saturating_sub(1), self.to);
        if self.bar.is_some() {
            self.put(next, &text);
        } else if next >= self.next_line.load(Ordering::Relaxed) {
            let step = (self.to - self.from) / COMPARED_LINES;
            self.next_line.store(next.saturating_add(step), Ordering::Relaxed);
            self.put(next, &text);
        }
    }

    fn put(&self, next: Height, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(next.saturating_sub(self.from));
                bar.set_message(text.to_owned());
            }
            // Nowhere is left to say that standard error is closed.
            None => writeln!(std::io::stderr(), "{}: {text}", self.chain).unwrap_or_default(),
        }
    }

    pub(super) fn end(&self, reached: Option<BlockRef>) {
        if let Some(bar) = &self.bar {
            if let Some(head) = reached {
                bar.set_position((head.number + 1).saturating_sub(self.from));
            }
            bar.finish_and_clear();
        }
    }
}
