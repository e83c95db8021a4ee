//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lookout_store::{Scopes, TENANT_DEFAULT};
use lookout_types::Height;

const EXAMPLES: &str = "\
Examples:
  lookout serve
      Serve Ethereum and Polygon from public endpoints on http://127.0.0.1:8000
  INFURA_PROJECT_ID=0123456789abcdef lookout serve
      Serve both from Infura
  lookout serve --config lookout.toml --listen 127.0.0.1:9000
      Serve the chains of a configuration file
  lookout keys create --tenant acme --scopes chains:read --expires 90d
      Make a key; from then on every call needs one
  lookout config check
      Show what Lookout understands of its configuration

Exit codes: 0 done, 1 failed, 2 bad usage or configuration";

const SERVE_EXAMPLES: &str = "\
Without API keys Lookout listens on loopback only. To serve other machines, make a key
(`lookout keys create`), or open scopes to everyone (`auth.anonymous`), or name an issuer of
access tokens (`auth.oidc`).

Signals: SIGHUP reads the configuration again; SIGTERM and SIGINT end it after the requests under way";

const BACKFILL_EXAMPLES: &str = "\
The chain's `follow` settings say what of its blocks is kept. It can be stopped at any time and goes
on where it was; while `lookout serve` runs on the same files it refuses to start.

Examples:
  lookout backfill --chain ethereum --from 19000000 --to 19010000
  lookout backfill --chain ethereum --from 19000000 --to 19010000 --verify";

const RULES_EXAMPLES: &str = "\
Examples:
  lookout rules test large-transfers.json
  lookout rules test large-transfers.json --from 19000000 --to 19010000";

const CREATE_EXAMPLES: &str = "\
The key is printed once, alone on standard output, so that a script can keep it:
  KEY=$(lookout keys create --tenant acme --scopes chains:read,chains:send --name ci)

Scopes: chains:read, chains:send, events:read, rules:read, rules:write, alerts:read, channels:read,
channels:write, jobs:read, jobs:write, keys:read, keys:write, audit:read, or * for everything";

/// Your own blockchain data service: read chains through a pool of checked upstreams
#[derive(Debug, Parser)]
#[command(name = "lookout", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file [default: lookout.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "LOOKOUT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: the HTTP API, followed chains, rules and their alerts, jobs
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Check or explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Bring the store's schema up to date (`serve` does so too)
    Migrate,
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Read a stretch of a chain into the warehouse, or compare what is held with the chain
    #[command(after_help = BACKFILL_EXAMPLES)]
    Backfill(BackfillArgs),
    /// Check and try out rule files, or import those of other programs
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Print the OpenAPI document
    Openapi,
}

#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// The chain, by its configured name
    #[arg(long)]
    pub(crate) chain: String,
    /// First height
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) from: Height,
    /// Last height
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) to: Height,
    /// Change nothing: compare what is held with the chain, and map what is missing or different
    #[arg(long, conflicts_with = "rebuild")]
    pub(crate) verify: bool,
    /// Forget what is held of the chain first, to begin at another height
    #[arg(long)]
    pub(crate) rebuild: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check rule files; with heights, also say what they would have matched in held blocks
    #[command(after_help = RULES_EXAMPLES)]
    Test {
        /// JSON files of a rule each, or a list of rules; ABIs and labels.json lie beside them
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Try them on one block
        #[arg(long, value_name = "HEIGHT", conflicts_with_all = ["from", "to"])]
        block: Option<Height>,
        /// Try them from this height on
        #[arg(long, value_name = "HEIGHT")]
        from: Option<Height>,
        /// Try them up to this height [default: the newest held]
        #[arg(long, value_name = "HEIGHT", requires = "from")]
        to: Option<Height>,
        /// Try them on this chain, whatever theirs is: its name or its id
        #[arg(long)]
        chain: Option<String>,
    },
    /// Read the files of another program, and say what has no equivalent here
    #[command(subcommand)]
    Import(ImportCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// `OpenZeppelin` Monitor: a folder with networks, monitors and triggers
    Oz {
        /// The folder
        folder: PathBuf,
        /// Save the rules and channels instead of printing them
        #[arg(long)]
        apply: bool,
        /// Whose they become
        #[arg(long, default_value = TENANT_DEFAULT)]
        tenant: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on, over server.listen
    #[arg(long, value_name = "ADDR", value_parser = crate::config::parse_listen)]
    pub(crate) listen: Option<SocketAddr>,
    /// What this process does, comma-separated [default: all]
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    pub(crate) roles: Vec<Role>,
}

impl ServeArgs {
    /// Whether this process takes the role.
    pub(crate) fn takes(&self, role: Role) -> bool {
        self.roles.is_empty() || self.roles.contains(&role)
    }
}

/// Part of the work that a process can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Answer HTTP; without it only health and metrics are served
    Api,
    /// Follow chains into events
    Ingest,
    /// Check rules on what is followed
    Rules,
    /// Send alerts to channels
    Deliver,
    /// Run scheduled jobs
    Schedule,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration as understood, without secrets
    Check {
        /// Also try to connect to every upstream
        #[arg(long)]
        probe: bool,
    },
    /// Print every key with its default and meaning
    Reference,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, this once
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Who it is for; made when unknown
        #[arg(long, default_value = TENANT_DEFAULT)]
        tenant: String,
        /// What it may do, comma-separated
        #[arg(long, value_parser = Scopes::parse)]
        scopes: Scopes,
        /// A name to know it by
        #[arg(long, default_value = "")]
        name: String,
        /// When it ends: 90d, 12h, 30m, 45s, 2w or 1y from now [default: never]
        #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
        expires: Option<Duration>,
    },
    /// List keys, newest first, without their secrets
    List {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
    },
    /// End a key for good
    Revoke {
        /// Its id, or its start as shown in the list
        id: String,
    },
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    crate::lifetime::parse(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use lookout_store::Scope;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn right_lines_parse() {
        let Ok(Command::Serve(args)) = parse("lookout serve --listen localhost:0 --roles api")
        else {
            panic!("serve")
        };
        assert_eq!(args.listen, Some("127.0.0.1:0".parse().unwrap()));
        assert_eq!(args.roles, [Role::Api]);
        let line =
            "lookout keys create --tenant acme --scopes chains:read,keys:write --expires 90d";
        let Ok(Command::Keys(KeysCommand::Create { tenant, scopes, name, expires })) = parse(line)
        else {
            panic!("create")
        };
        assert_eq!((tenant.as_str(), name.as_str()), ("acme", ""));
        assert_eq!(scopes, Scopes::from(Scope::ChainsRead).with(Scope::KeysWrite));
        assert_eq!(expires, Some(Duration::from_secs(90 * 86_400)));
        let cli = Cli::try_parse_from(["lookout", "config", "check", "--config", "x"]).unwrap();
        assert_eq!(cli.config, Some("x".into()));
        assert!(matches!(parse("lookout openapi"), Ok(Command::Openapi)));
    }

    #[test]
    fn wrong_lines_end_with_code_2_and_say_why() {
        for (line, reason) in [
            ("lookout", "Usage: lookout"),
            ("lookout sreve", "similar"),
            (
                "lookout serve --roles igest",
                "possible values: api, ingest, rules, deliver, schedule",
            ),
            ("lookout serve --listen nowhere", "is not an address and port"),
            ("lookout keys create", "--scopes"),
            ("lookout keys create --scopes chains:rad", "known scopes: chains:read"),
            ("lookout keys create --scopes ,", "no scope given"),
            ("lookout keys create --scopes * --expires soon", "is not a time such as 90d"),
            ("lookout keys revoke", "<ID>"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(reason), "{line}: {error}");
        }
        assert_eq!(parse("lookout --help").unwrap_err().exit_code(), 0);
        assert!(parse("lookout --version").unwrap_err().to_string().starts_with("lookout 0."));
    }
}
