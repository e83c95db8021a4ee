//! Lookout: a self-hosted blockchain data service in one binary.
//!
//! Does: read the command line and the configuration, and wire the crates together.
//! Does not: hold logic of its own; see the crate that a command names.
//! Units: times in milliseconds unless a name says otherwise.
//! Errors: one sentence on standard error; exit code 1 for a failure, 2 for bad usage or
//! configuration.
//! Source: ARCHITECTURE.md walks a call through the crates.

mod app;
mod backfill;
mod check;
mod cli;
mod command;
mod config;
mod exposure;
mod failure;
mod keys;
mod lifetime;
mod otlp;
mod reload;
mod rules;
mod serve;
mod table;
mod telemetry;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use app::App;
use cli::{Cli, Command, ConfigCommand};
use failure::Failure;

// The system's allocator gives memory of finished requests back late; measured by `make bench`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version go to standard output with code 0, mistakes to standard error with 2.
            let printed = message.print().is_ok();
            let code = u8::try_from(message.exit_code()).unwrap_or(2);
            return ExitCode::from(if printed { code } else { 1 });
        }
    };
    match run(cli) {
        Ok(output) => print(&output),
        Err(failure) => {
            report(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs the command and returns what it prints.
fn run(cli: Cli) -> Result<String, Failure> {
    // Upstreams, collectors and databases all speak TLS through this one provider. It can only be
    // installed already, by which it is installed.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start the runtime: {e}")))?;
    let app = App::new(cli.config)?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::serve(&app, args).await,
            Command::Config(ConfigCommand::Check { probe }) => check::check(&app, probe).await,
            Command::Config(ConfigCommand::Reference) => Ok(config::reference()),
            Command::Migrate => app.migrate().await,
            Command::Keys(command) => keys::run(&app, command).await,
            Command::Backfill(args) => command::backfill(&app, args).await,
            Command::Rules(command) => command::rules(&app, command).await,
            Command::Openapi => Ok(lookout_api::openapi_json()),
        }
    })
}

fn print(output: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let end = if output.is_empty() || output.ends_with('\n') { "" } else { "\n" };
    match stdout.write_all(output.as_bytes()).and_then(|()| stdout.write_all(end.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as in `lookout openapi | head`.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            let failure = Failure::failed(format!("cannot write to standard output: {e}"));
            report(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn report(failure: &Failure) {
    // Nowhere is left to say that even standard error is closed.
    writeln!(std::io::stderr(), "error: {failure}").unwrap_or_default();
}
