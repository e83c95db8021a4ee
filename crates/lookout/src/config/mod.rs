//! Configuration: a TOML file, environment variables over it, and defaults that run without both.
//!
//! Reading goes text → [`tree`] (values with their places) → one struct per concern
//! ([`mod@section`]) → [`Settings`], which the rest of the binary uses. Every key is declared once,
//! in its section; the documentation in `docs/config.md` is made from there.

mod auth;
mod cache;
mod chains;
mod compat;
mod endpoint;
mod environment;
mod follow;
mod legacy;
mod limits;
mod log;
mod reference;
mod section;
mod server;
mod setting;
mod store;
mod suggest;
mod telemetry;
#[cfg(test)]
mod tests;
mod tree;
mod watch;

use std::path::{Path, PathBuf};

use lookout_api::{ApiConfig, ChannelSettings, Limits, OidcConfig};
use lookout_chain::ChainSpec;
use lookout_store::Scopes;

pub(crate) use endpoint::Endpoint;
pub(crate) use environment::Environment;
pub(crate) use follow::{Follow, FollowFrom};
pub(crate) use log::LogFormat;
pub(crate) use setting::parse_listen;
pub(crate) use tree::Problem;
pub(crate) use watch::MailTls;

use section::{Check, Section, Setting, section};
use tree::{Entry, Origin};

/// Read when it exists and no other file is named.
const DEFAULT_FILE: &str = "lookout.toml";
/// Largest configuration file in bytes: thousands of chains fit, a wrong path to a log does not.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Keys that a running server cannot change.
const NEEDS_RESTART: [&str; 10] = [
    "server.listen",
    "store.",
    "warehouse.",
    "bus.",
    "cache.",
    "telegram.",
    "email.",
    "webhooks.",
    "log.format",
    "telemetry.",
];

section! {
    /// The whole configuration.
    Config {
        /// Where HTTP is served and what a request may be.
        server: server::ServerSection = server::ServerSection::default(),
        /// The database of tenants, keys and everything they own. Takes effect after a restart.
        store: store::StoreSection = store::StoreSection::default(),
        /// Events and transfers of followed chains. Takes effect after a restart.
        warehouse: watch::WarehouseSection = watch::WarehouseSection::default(),
        /// The frames of followed chains, on their way to everything that is computed from them.
        /// Takes effect after a restart.
        bus: watch::BusSection = watch::BusSection::default(),
        /// Answers of upstreams, kept by block hash, so that they never go stale and need no time
        /// to live. Takes effect after a restart.
        cache: cache::CacheSection = cache::CacheSection::default(),
        /// One chain. `NAME` is its name in routes, of a-z, 0-9 and `-`. Once any chain is
        /// configured, only the configured ones are read.
        chains: chains::ChainsSection = chains::ChainsSection::default(),
        /// Which chains the routes of older services read.
        compat: compat::CompatSection = compat::CompatSection::default(),
        /// Who may call. API keys are made with `lookout keys create`, not here.
        auth: auth::AuthSection = auth::AuthSection::default(),
        /// The Telegram bot that sends alerts. Takes effect after a restart.
        telegram: watch::TelegramSection = watch::TelegramSection::default(),
        /// The mail server for alerts by mail. Takes effect after a restart.
        email: watch::EmailSection = watch::EmailSection::default(),
        /// Where webhooks of tenants may lead. Takes effect after a restart.
        webhooks: watch::WebhooksSection = watch::WebhooksSection::default(),
        /// How often a caller may call; 0 switches a limit off.
        limits: limits::LimitsSection = limits::LimitsSection::default(),
        /// What is logged to standard error, and in which form.
        log: log::LogSection = log::LogSection::default(),
        /// Where traces go. Prometheus metrics need no setting: they are at `/metrics`. Takes
        /// effect after a restart.
        telemetry: telemetry::TelemetrySection = telemetry::TelemetrySection::default(),
    }
}

impl Check for Config {}

/// A configuration that has been read and checked as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    config: Config,
    /// The chains to read.
    pub(crate) chains: Vec<ChainSpec>,
    /// The chains to follow, in the order of `chains`.
    pub(crate) follows: Vec<Follow>,
    blocks_chain: String,
    balance_chain: String,
    /// The file it was read from, if any.
    pub(crate) file: Option<PathBuf>,
    /// Things worth telling that are no errors.
    pub(crate) notices: Vec<String>,
}

impl Settings {
    /// Reads the named file, or `lookout.toml` where that exists, and lays the environment over it.
    pub(crate) fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Problem> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let mut root = match file {
            Some(file) => tree::parse(&file.display().to_string(), &read_file(file)?)?,
            None => Entry::empty(),
        };
        environment.lay_over(&mut root)?;
        let mut settings = Self::of(&root, environment)?;
        settings.file = file.map(Path::to_owned);
        Ok(settings)
    }

    fn of(root: &Entry, environment: &Environment) -> Result<Self, Problem> {
        let config = Config::read(root)?;
        let mut chains = config.chains.specs();
        let follows = config.chains.follows();
        let mut notices = legacy::notices(environment, !chains.is_empty());
        if chains.is_empty() {
            chains = legacy::default_chains(environment)?;
        }
        let mut compat_chain = |key: &'static str, set: Option<&String>, default| {
            compat_chain(&chains, key, set, default, &mut notices).map_err(|reason| {
                let entry = root.get("compat").and_then(|section| section.get(key));
                entry.unwrap_or(root).problem(reason)
            })
        };
        let (blocks, balance) = (&config.compat.blocks_chain, &config.compat.balance_chain);
        let blocks_chain = compat_chain("blocks_chain", blocks.as_ref(), compat::BLOCKS_CHAIN)?;
        let balance_chain = compat_chain("balance_chain", balance.as_ref(), compat::BALANCE_CHAIN)?;
        Ok(Self { config, chains, follows, blocks_chain, balance_chain, file: None, notices })
    }

    /// What the API takes.
    pub(crate) fn api(&self) -> ApiConfig {
        let (server, limits) = (&self.config.server, &self.config.limits);
        let oidc = self.config.auth.oidc.as_ref().and_then(|oidc| {
            Some(OidcConfig {
                issuer: oidc.issuer.clone()?,
                audience: oidc.audience.clone()?,
                jwks_url: oidc.jwks_url.as_ref()?.0.to_string(),
            })
        });
        ApiConfig {
            blocks_chain: self.blocks_chain.clone(),
            balance_chain: self.balance_chain.clone(),
            anonymous: self.config.auth.anonymous,
            body_bytes_max: server.body_bytes_max,
            batch_max: server.batch_max,
            request_timeout: server.request_timeout_ms.0,
            limits: Limits {
                per_key_per_second: limits.requests_per_second_per_key,
                per_address_per_second: limits.requests_per_second_per_address,
                burst: limits.burst,
            },
            trusted_proxies: server.trusted_proxies.0.clone(),
            cors_origins: server.cors_origins.0.clone(),
            oidc,
            channels: ChannelSettings {
                guard: self.guard(),
                mail: self.config.email.host.is_some(),
                ..ChannelSettings::default()
            },
        }
    }

    /// Whether callers other than those of this machine are let in by the configuration alone.
    pub(crate) fn lets_callers_in(&self) -> bool {
        self.config.auth.anonymous != Scopes::NONE || self.config.auth.oidc.is_some()
    }

    /// The address to listen on.
    pub(crate) fn listen(&self) -> std::net::SocketAddr {
        self.config.server.listen
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> &lookout_store::StoreUrl {
        self.config.store.location()
    }

    /// Where the warehouse is.
    pub(crate) fn warehouse(&self) -> &lookout_warehouse::WarehouseUrl {
        &self.config.warehouse.url
    }

    /// Where the bus is.
    pub(crate) fn bus(&self) -> &lookout_bus::BusUrl {
        &self.config.bus.url
    }

    /// The Telegram bot.
    pub(crate) fn telegram(&self) -> &watch::TelegramSection {
        &self.config.telegram
    }

    /// The mail server.
    pub(crate) fn email(&self) -> &watch::EmailSection {
        &self.config.email
    }

    /// Where webhooks may lead.
    pub(crate) fn guard(&self) -> lookout_store::GuardSettings {
        let webhooks = &self.config.webhooks;
        let networks = webhooks.allow_private.0.iter();
        lookout_store::GuardSettings {
            // Checked when it was read.
            allow_private: networks.filter_map(|network| network.parse().ok()).collect(),
            allow_http: webhooks.allow_http,
        }
    }

    /// Most memory for cached answers, in bytes.
    pub(crate) fn cache_bytes_max(&self) -> u64 {
        self.config.cache.bytes_max
    }

    /// Form of the log.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.config.log.format
    }

    /// What to log.
    pub(crate) fn log_filter(&self) -> tracing_subscriber::EnvFilter {
        self.config.log.level.filter()
    }

    /// Where traces go, if anywhere.
    pub(crate) fn otlp_endpoint(&self) -> Option<&Endpoint> {
        self.config.telemetry.otlp_endpoint.as_ref()
    }

    /// The keys that differ from `old`, apart from those that only a restart can change, which
    /// come second.
    pub(crate) fn changes(&self, old: &Self) -> (Vec<String>, Vec<String>) {
        let mut changed = Vec::new();
        self.config.changes(&old.config, "", &mut changed);
        let is_followed = |chain: &str| {
            let mut follows = self.follows.iter().chain(&old.follows);
            follows.any(|follow| follow.chain == chain)
        };
        let needs_restart = |path: &String| {
            let follow =
                path.strip_prefix("chains.").is_some_and(|path| match path.split_once('.') {
                    Some((_, key)) => key.starts_with("follow"),
                    // A chain that came or went.
                    None => is_followed(path),
                });
            follow || NEEDS_RESTART.iter().any(|prefix| path.starts_with(prefix))
        };
        let (restart, now) = changed.into_iter().partition(needs_restart);
        (now, restart)
    }

    /// The configuration as TOML, without secrets.
    pub(crate) fn show(&self) -> String {
        let compat = compat::CompatSection {
            blocks_chain: Some(self.blocks_chain.clone()),
            balance_chain: Some(self.balance_chain.clone()),
        };
        let mut text = String::new();
        let mut add = |name: &str, keys: Vec<(&'static str, String)>| {
            if !keys.is_empty() {
                let lines: Vec<_> = keys.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
                text.push_str(&format!("[{name}]\n{}\n", lines.concat()));
            }
        };
        add("server", self.config.server.shown());
        add("store", self.config.store.shown());
        add("warehouse", self.config.warehouse.shown());
        add("bus", self.config.bus.shown());
        add("cache", self.config.cache.shown());
        add("compat", compat.shown());
        add("auth", self.config.auth.shown());
        if let Some(oidc) = &self.config.auth.oidc {
            add("auth.oidc", oidc.shown());
        }
        add("telegram", self.config.telegram.shown());
        add("email", self.config.email.shown());
        add("webhooks", self.config.webhooks.shown());
        add("limits", self.config.limits.shown());
        add("log", self.config.log.shown());
        add("telemetry", self.config.telemetry.shown());
        text.pop();
        text + &chains::show_specs(&self.chains, &self.follows)
    }
}

/// The chain of a compatible route: the one set, else the usual one, else the only one.
fn compat_chain(
    chains: &[ChainSpec],
    key: &str,
    set: Option<&String>,
    default: &str,
    notices: &mut Vec<String>,
) -> Result<String, String> {
    let has = |name: &str| chains.iter().any(|chain| chain.name == name);
    let names = || chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>().join(", ");
    match (set, chains) {
        (Some(name), _) if has(name) => Ok(name.clone()),
        (Some(name), _) => Err(format!("no chain `{name}`; configured chains: {}", names())),
        (None, _) if has(default) => Ok(default.to_owned()),
        (None, [only]) => {
            notices.push(format!("compat.{key} is `{}`, the only chain", only.name));
            Ok(only.name.clone())
        }
        (None, _) => {
            notices.push(format!(
                "compat.{key} is `{default}`, which is not configured; its routes answer 404. \
                 Set it to one of: {}",
                names()
            ));
            Ok(default.to_owned())
        }
    }
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let problem = |reason: String| Problem {
        origin: Origin::None,
        path: String::new(),
        reason: format!("cannot read the configuration file `{}`: {reason}", path.display()),
    };
    let length = std::fs::metadata(path).map_err(|e| problem(e.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(problem(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))
}

/// Every key with its default and meaning, as Markdown.
pub(crate) fn reference() -> String {
    reference::page()
}
