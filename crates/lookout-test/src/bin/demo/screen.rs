//! What the demo prints: colours on a terminal, plain text anywhere else.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use anyhow::Result;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Standard output.
pub(crate) struct Screen {
    colours: bool,
    steps: u32,
}

impl Screen {
    /// Standard output, with colours where it is a terminal and `NO_COLOR` is not set.
    pub(crate) fn stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: stdout().is_terminal() && !refused, steps: 0 }
    }

    /// A heading.
    pub(crate) fn title(&self, text: &str) -> Result<()> {
        line(&format!("\n{}", self.paint(BOLD, text)))
    }

    /// The next step of the tour: why anyone would do it.
    pub(crate) fn step(&mut self, why: &str) -> Result<()> {
        self.steps += 1;
        self.title(&format!("{}. {why}", self.steps))
    }

    /// A command as a person would type it.
    pub(crate) fn command(&self, text: &str) -> Result<()> {
        line(&format!("{} {}", self.paint(GREEN, "$"), self.paint(CYAN, text)))
    }

    /// An answer that is not a success, before its body.
    pub(crate) fn status(&self, text: &str) -> Result<()> {
        line(&self.paint(RED, text))
    }

    /// An answer's body.
    pub(crate) fn answer(&self, text: &str) -> Result<()> {
        line(text)
    }

    /// A message in the chat: who says it, and what.
    pub(crate) fn said(&self, who: &str, text: &str) -> Result<()> {
        let prefix = format!("Telegram, {who}: ");
        // A blank line would look like the end of the message.
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let text = lines.join(&format!("\n{}", " ".repeat(prefix.len())));
        line(&format!("{}{text}", self.paint(YELLOW, &prefix)))
    }

    /// What goes on.
    pub(crate) fn note(&self, text: &str) -> Result<()> {
        line(&self.paint(DIM, text))
    }

    /// The last words, on standard error.
    pub(crate) fn failure(&mut self, text: &str) {
        // Nowhere is left to say that even standard error is closed.
        writeln!(stderr(), "{text}").unwrap_or_default();
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn line(text: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}
