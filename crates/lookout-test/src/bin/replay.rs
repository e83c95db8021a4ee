//! Serves a synthetic chain of token transfers until it is ended: an upstream for measurements in
//! a process of its own, so that its cores can be told apart from the reader's.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lookout_test::replay::{Replay, ReplaySpec};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str =
    "usage: replay [--blocks N] [--transfers N] [--tokens N] [--seed N] [--chain-id N] [--port N]
  --blocks N     blocks above the genesis (5000)
  --transfers N  transfers in each block (100)
  --tokens N     token contracts, at most 255 (4)
  --seed N       decides who sends what to whom (1)
  --chain-id N   the EIP-155 id (31337)
  --port N       where it listens; a free one by default
It prints its URL as the first line and runs until it gets SIGTERM or SIGINT.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return say(&mut std::io::stdout(), USAGE);
    }
    // One thread: an upstream must not take the core that the reader is measured on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("no runtime").and_then(|runtime| {
        let (spec, port) = parse(arguments.into_iter())?;
        runtime.block_on(serve(spec, port))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut std::io::stderr(), &format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line; whoever cannot read it is not told so.
fn say(to: &mut impl Write, line: &str) -> ExitCode {
    match writeln!(to, "{line}").and_then(|()| to.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(ReplaySpec, u16)> {
    let (mut spec, mut port) = (ReplaySpec::default(), 0);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} takes a number"))?;
        let wrong = || format!("{argument} takes a number, not `{value}`");
        match argument.as_str() {
            "--blocks" => spec.blocks = value.parse().with_context(wrong)?,
            "--transfers" => spec.transfers_per_block = value.parse().with_context(wrong)?,
            "--tokens" => spec.tokens = value.parse().with_context(wrong)?,
            "--seed" => spec.seed = value.parse().with_context(wrong)?,
            "--chain-id" => spec.chain_id = value.parse().with_context(wrong)?,
            "--port" => port = value.parse().with_context(wrong)?,
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    Ok((spec, port))
}

async fn serve(spec: ReplaySpec, port: u16) -> Result<()> {
    let replay = Replay::start_on(spec, port).await?;
    let mut terminated = signal(SignalKind::terminate()).context("no signals")?;
    writeln!(std::io::stdout(), "{}", replay.url()).context("nobody reads the URL")?;
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("no signals")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(ReplaySpec, u16)> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let (spec, port) = read("--blocks 9 --tokens 2 --port 1234").unwrap();
        assert_eq!((spec.blocks, spec.tokens, port), (9, 2, 1234));
        assert_eq!(spec.transfers_per_block, ReplaySpec::default().transfers_per_block);
        assert!(read("--blocks").is_err() && read("--blocks x").is_err());
        assert!(read("--block 1").unwrap_err().to_string().contains("usage:"));
    }
}
