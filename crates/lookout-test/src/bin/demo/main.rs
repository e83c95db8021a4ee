//! `make demo`: Lookout on a real node, a short tour of it with real answers, then a live chain.
//!
//! It starts anvil and `lookout serve` in a temporary folder and ends both, whichever way it ends.

mod alerts;
mod answer;
mod chat;
mod screen;
mod stage;
mod tour;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use screen::Screen;
use stage::{Scene, Stage};

const USAGE: &str = "usage: demo --lookout PATH [--once] [--port PORT]

  --lookout PATH  the lookout binary to show
  --once          end after the tour, with code 0 if every answer was right
  --port PORT     where Lookout listens; by default 8000, or a free one where that is taken";
/// Time between two blocks once the tour is over: slow enough to read along.
const BLOCK_EVERY: Duration = Duration::from_secs(3);
/// Between two looks for alerts that have arrived.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Options {
    lookout: PathBuf,
    once: bool,
    port: Option<u16>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::stdout();
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            screen.failure(&format!("{error:#}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(&options, &mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failure(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let (mut lookout, mut once, mut port) = (None, false, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--lookout" => lookout = Some(arguments.next().context("--lookout takes a path")?),
            "--once" => once = true,
            "--port" => {
                let text = arguments.next().context("--port takes a number")?;
                port = Some(text.parse().with_context(|| format!("`{text}` is no port"))?);
            }
            other => bail!("unknown option `{other}`"),
        }
    }
    let lookout = PathBuf::from(lookout.context("--lookout is missing")?);
    let lookout = lookout
        .canonicalize()
        .with_context(|| format!("no lookout binary at {}", lookout.display()))?;
    Ok(Options { lookout, once, port })
}

/// Everything between the first line and the last; a signal ends it early, and in order.
async fn run(options: &Options, screen: &mut Screen) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut stage = None;
    let result = tokio::select! {
        result = show(options, screen, &mut stage) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    };
    // A start that was cut short leaves no stage; its processes ended as their values were dropped.
    if let Some(stage) = stage {
        stage.end().await?;
        result?;
        return screen.note("\nLookout and anvil have ended.");
    }
    result
}

async fn show(options: &Options, screen: &mut Screen, place: &mut Option<Stage>) -> Result<()> {
    screen.note("Starting anvil (an Ethereum node for development) and Lookout …")?;
    let stage = place.insert(Stage::start(&options.lookout, options.port).await?);
    let scene = stage.prepare().await?;
    tour::run(stage, &scene, screen).await?;
    if options.once {
        return Ok(());
    }
    live(stage, &scene, screen).await
}

/// Blocks, and the alerts that they bring, until somebody ends it.
async fn live(stage: &Stage, scene: &Scene, screen: &Screen) -> Result<()> {
    screen.title(
        "It keeps running: a block every few seconds, alerts as they come. Ctrl-C ends it",
    )?;
    screen.note("In another terminal:")?;
    screen.command(&format!("curl -sN '{}/v1/stream?topics=heads,events,alerts'", stage.base))?;
    let (mut blocks, mut looks) = (interval(BLOCK_EVERY), interval(LOOK_EVERY));
    for turn in [&mut blocks, &mut looks] {
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut count = 0;
    loop {
        tokio::select! {
            _ = blocks.tick() => {
                screen.note(&stage.next_block(scene, count).await?)?;
                count += 1;
            }
            _ = looks.tick() => {
                for message in stage.chat.arrived() {
                    screen.said("bot", &message.text)?;
                }
            }
        }
    }
}
