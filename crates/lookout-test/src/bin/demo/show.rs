//! How the tour looks in a terminal.

mod json;

use std::io::IsTerminal as _;

use json::Json;

/// Most lines of one answer.
const LINES_MAX: usize = 24;

const BOLD: &str = "1";
const GREEN: &str = "32";
const DIM: &str = "2";

/// The heading of a step.
pub(crate) fn heading(number: usize, text: &str) {
    println!("\n{}", paint(BOLD, &format!("{number}. {text}")));
}

/// The command that a person would type.
pub(crate) fn command(text: &str) {
    println!("   {} {}", paint(DIM, "$"), paint(GREEN, text));
}

/// The answer to it, shortened to what matters.
pub(crate) fn answer(text: &str) {
    let pretty = match serde_json::from_str::<Json>(text) {
        Ok(json) => json.pretty(0),
        Err(_) => text.to_owned(),
    };
    let lines: Vec<&str> = pretty.lines().collect();
    for line in lines.iter().take(LINES_MAX) {
        println!("   {line}");
    }
    if let Some(more) = lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        println!("   {}", paint(DIM, &format!("… {more} more lines")));
    }
}

/// Colours only for people: a terminal that does not ask for none.
#[expect(clippy::disallowed_methods, reason = "no-color.org: the environment decides on colours")]
fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var("NO_COLOR").is_err() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}
