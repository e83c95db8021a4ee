//! `make demo`: a real node, a real Lookout on it, some activity, and a tour of what it answers.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a demonstration speaks to people")]

mod activity;
mod show;
mod tour;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use lookout_test::{Anvil, TestApp, anvil, part};
use tokio::signal::unix::{SignalKind, signal};

/// Where Lookout listens when nothing is configured.
const USUAL_ADDRESS: &str = "127.0.0.1:8000";
const FREE_PORT: &str = "127.0.0.1:0";
/// The chain's name in the tour.
const CHAIN: &str = "anvil";

const USAGE: &str = "usage: demo --lookout PATH [--once]

  --lookout PATH  the built binary, for example target/debug/lookout
  --once          end after the tour, and listen on a free port";

struct Arguments {
    lookout: PathBuf,
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments> {
    let (mut lookout, mut once) = (None, false);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--lookout" => lookout = given.next().map(PathBuf::from),
            "--once" => once = true,
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(Arguments { lookout: lookout.context("--lookout PATH is missing")?, once })
}

async fn run(arguments: &Arguments) -> Result<()> {
    // Before anything is started, so that an early ctrl-C ends everything too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = demonstrate(arguments) => done,
        _ = interrupt.recv() => farewell(),
        _ = terminate.recv() => farewell(),
    }
}

fn farewell() -> Result<()> {
    println!("\nEnded: Lookout and the node are gone, and so is their temporary folder.");
    Ok(())
}

async fn demonstrate(arguments: &Arguments) -> Result<()> {
    let lookout = arguments.lookout.canonicalize().with_context(|| {
        format!("no binary at {}; build it with `cargo build`", arguments.lookout.display())
    })?;
    fetch_anvil()?;
    let node = Anvil::builder().start().await?;
    println!("anvil, a real Ethereum node for development, runs on {}", node.url());
    let scene = activity::play(&node).await?;
    let listen = if arguments.once { FREE_PORT } else { usual_or_free() };
    let app = TestApp::builder(lookout)
        .listen(listen)
        .chain(CHAIN, node.chain_id(), &[node.url()])
        .start()
        .await?;
    println!("lookout serves it on {} as chain `{CHAIN}`", app.url(""));
    tour::run(&app, &node, &scene).await?;
    println!("\nAll routes, to try in the browser: {}", app.url("/docs"));
    if arguments.once {
        return Ok(());
    }
    println!("A new block comes every few seconds. Ctrl-C ends everything.");
    activity::go_on(&node, &scene).await
}

/// Port 8000 is what people expect; another program may have it.
fn usual_or_free() -> &'static str {
    match TcpListener::bind(USUAL_ADDRESS) {
        Ok(_) => USUAL_ADDRESS,
        Err(_) => {
            println!("{USUAL_ADDRESS} is taken, so Lookout listens on a free port");
            FREE_PORT
        }
    }
}

fn fetch_anvil() -> Result<()> {
    if anvil::binary().is_ok() {
        return Ok(());
    }
    let script = part::repository().join("dev/get-anvil");
    let status = Command::new(&script)
        .stdout(std::process::Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(status.success(), "there is no anvil, and dev/get-anvil could not fetch one");
    Ok(())
}
