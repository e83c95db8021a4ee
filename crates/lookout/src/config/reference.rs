//! `docs/config.md`, made from the sections.

use super::Config;
use super::section::{Key, Kind, Section, Setting};
use super::suggest::variable;

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the sections in crates/lookout/src/config. To write it anew:
     LOOKOUT_TEST_BLESS=1 cargo test -p lookout the_reference_is_up_to_date -->

Lookout runs with no configuration at all. What you change, you change in `lookout.toml` (in the
working directory, or named by `--config` or `LOOKOUT_CONFIG`), or by an environment variable, which
wins over the file. `lookout config check` prints what Lookout understood, without secrets.
[lookout.toml](../lookout.example.toml) shows a whole file.

**Environment.** The variable of `server.listen` is `LOOKOUT_SERVER__LISTEN`: `LOOKOUT_`, then the
path in capitals with two underscores for each dot. Lists are comma-separated. A chain's upstreams
are a list of URLs (`LOOKOUT_CHAINS__ETHEREUM__UPSTREAMS=https://a.example,https://b.example`) or
single keys by index (`LOOKOUT_CHAINS__ETHEREUM__UPSTREAMS__0__URL`). In a chain's name `_` stands
for `-`. An unknown `LOOKOUT_` variable is an error, so that a typo does not pass unseen.

**Secrets.** A URL may hold a key or a password. Keep it in the environment, or in a file that a
`*_file` key names. Logs, errors and `config check` show only scheme, host and port.

**Reload.** A running server reads its file again when the file changes and on SIGHUP. A file with
a mistake changes nothing and is logged once. Keys that need a restart say so below.

**Other variables.**

| variable | meaning |
|---|---|
| `LOOKOUT_CONFIG` | path of the configuration file, as `--config` |
| `LOOKOUT_LOG` | log level, over `log.level` |
| `INFURA_PROJECT_ID` | with no chain configured: Ethereum and Polygon are read from this Infura project |
| `INFURA_URL` | with no chain configured: Ethereum is read from this URL |
| `CACHE_TTL_SECONDS` | accepted and without effect: answers are cached by block hash, so none goes stale |

With no chain configured and no Infura variable, Ethereum and Polygon are read from public
endpoints that ask for no key. They are shared and rate-limited: fine to try, not to depend on.
";

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for key in <Config as Section>::KEYS {
        add_section(&mut page, key.name, key.kind, &describe(key));
    }
    page
}

fn describe(key: &Key) -> String {
    key.docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn add_section(page: &mut String, path: &str, kind: Kind, about: &str) {
    let (path, keys) = match kind {
        Kind::Value(_) => return,
        Kind::Section(keys) => (path.to_owned(), keys),
        Kind::Named(keys) => (format!("{path}.NAME"), keys),
        Kind::List(keys) => (format!("{path}[]"), keys),
    };
    page.push_str(&format!("\n## `[{path}]`\n\n{about}\n\n"));
    page.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let Kind::Value(takes) = key.kind else { continue };
        let default = default_of(&path, key.name).unwrap_or_else(|| "—".to_owned());
        let variable = variable(&format!("{path}.{}", key.name).replace("[]", "[0]"));
        page.push_str(&format!(
            "| `{}` | {takes} | {default} | {}<br>`{variable}` |\n",
            key.name,
            describe(key).replace('|', "\\|"),
        ));
    }
    for key in keys {
        add_section(page, &format!("{path}.{}", key.name), key.kind, &describe(key));
    }
}

/// The default as TOML, where there is one.
fn default_of(path: &str, name: &str) -> Option<String> {
    let config = Config::default();
    let shown = match path {
        "server" => config.server.shown(),
        "store" => config.store.shown(),
        "warehouse" => config.warehouse.shown(),
        "bus" => config.bus.shown(),
        "cache" => config.cache.shown(),
        "email" => config.email.shown(),
        "webhooks" => config.webhooks.shown(),
        "chains.NAME" => super::chains::ChainSection::default().shown(),
        "limits" => config.limits.shown(),
        "log" => config.log.shown(),
        "auth" => config.auth.shown(),
        "compat" => return compat_default(name),
        _ => Vec::new(),
    };
    shown.into_iter().find(|(key, _)| *key == name).map(|(_, text)| format!("`{text}`"))
}

fn compat_default(name: &str) -> Option<String> {
    let chain = match name {
        "blocks_chain" => super::compat::BLOCKS_CHAIN,
        _ => super::compat::BALANCE_CHAIN,
    };
    chain.to_owned().show().map(|text| format!("`{text}`"))
}
