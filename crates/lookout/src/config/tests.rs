//! The configuration as users meet it: what is understood, what is refused and in which words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_chain::PoolSettings;
use lookout_store::{Scope, Scopes, StoreUrl};
use lookout_types::ChainId;
use proptest::prelude::*;
use proptest::sample::select;

use super::environment::Environment;
use super::section::{Key, Kind, Section};
use super::{Config, Problem, Settings, reference, tree};

const CHAIN: &str = "[chains.ethereum]\nid = 1\nupstreams = [{ url = \"http://node:8545\" }]\n";

fn load<const N: usize>(text: &str, variables: [(&str, &str); N]) -> Result<Settings, Problem> {
    let environment = Environment::from(variables);
    let mut root = tree::parse("lookout.toml", text)?;
    environment.lay_over(&mut root)?;
    Settings::of(&root, &environment)
}

#[track_caller]
fn ok<const N: usize>(text: &str, variables: [(&str, &str); N]) -> Settings {
    load(text, variables).unwrap()
}

#[track_caller]
fn refused<const N: usize>(text: &str, variables: [(&str, &str); N]) -> String {
    load(text, variables).unwrap_err().to_string()
}

fn names(settings: &Settings) -> Vec<(&str, u64, Vec<&str>)> {
    let mut names = Vec::new();
    for chain in &settings.chains {
        let upstreams = chain.upstreams.iter().map(|upstream| upstream.name.as_str());
        names.push((chain.name.as_str(), chain.id.0, upstreams.collect()));
    }
    names
}

#[test]
fn nothing_at_all_reads_ethereum_and_polygon_from_public_endpoints() {
    let settings = ok("", []);
    assert_eq!(
        names(&settings),
        [
            ("ethereum", 1, vec!["ethereum-rpc.publicnode.com", "eth.drpc.org", "1rpc.io"]),
            ("polygon", 137, vec!["polygon-bor-rpc.publicnode.com", "polygon.drpc.org", "1rpc.io"]),
        ]
    );
    let api = settings.api();
    assert_eq!((api.blocks_chain.as_str(), api.balance_chain.as_str()), ("polygon", "ethereum"));
    assert_eq!(settings.listen(), "127.0.0.1:8000".parse().unwrap());
    assert_eq!(settings.store(), &StoreUrl::SqliteFile("lookout.db".into()));
    assert_eq!(api.body_bytes_max, 2 << 20);
    assert!(settings.notices.is_empty() && !settings.lets_callers_in());
}

#[test]
fn a_whole_file_is_understood() {
    let text = r#"
        [server]
        listen = "0.0.0.0:80"
        body_bytes_max = 1_000
        batch_max = 7
        request_timeout_ms = 1500
        trusted_proxies = ["10.0.0.0/8", "::1"]
        cors_origins = ["https://app.example", "http://localhost:3000"]
        [store]
        url = "postgres://me:pw@db/lookout"
        [cache]
        url = "memory:"
        bytes_max = 0x1000
        [log]
        format = "json"
        level = "warn,lookout_chain=debug"
        [auth]
        anonymous = ["chains:read"]
        [auth.oidc]
        issuer = "https://id.example/"
        audience = "lookout"
        jwks_url = "https://id.example/keys"
        [limits]
        requests_per_second_per_key = 5
        requests_per_second_per_address = 6
        burst = 7
        [compat]
        blocks_chain = "main"
        [chains.main]
        id = 1
        call_timeout_ms = 2000
        hedge_budget_percent = 10
        quorum = 1
        upstreams = [
          { url = "https://a.example/key", name = "own", requests_per_second = 9 },
          "wss://b.example",
          "https://b.example/other",
        ]
        [chains.op-mainnet]
        id = 10
        upstreams = ["http://[::1]:8545"]
    "#;
    let settings = ok(text, []);
    let api = settings.api();
    assert_eq!((api.body_bytes_max, api.batch_max), (1000, 7));
    assert_eq!(api.request_timeout, Duration::from_millis(1500));
    assert_eq!(api.trusted_proxies, ["10.0.0.0/8", "::1"]);
    assert_eq!(api.anonymous, Scopes::from(Scope::ChainsRead));
    assert_eq!(api.oidc.unwrap().jwks_url, "https://id.example/keys");
    assert_eq!((api.limits.per_key_per_second, api.limits.burst), (5, 7));
    assert_eq!((api.blocks_chain.as_str(), api.balance_chain.as_str()), ("main", "ethereum"));
    assert!(settings.notices[0].contains("compat.balance_chain is `ethereum`, which is not"));
    assert_eq!(settings.cache_bytes_max(), 4096);
    assert_eq!(
        names(&settings),
        [
            ("main", 1, vec!["own", "b.example", "b.example-2"]),
            ("op-mainnet", 10, vec!["[::1]:8545"]),
        ]
    );
    let chain = &settings.chains[0];
    assert_eq!(chain.upstreams[0].requests_per_second, Some(9));
    assert_eq!(chain.upstreams[0].url.as_str(), "https://a.example/key");
    let expected = PoolSettings {
        call_timeout: Duration::from_secs(2),
        hedge_budget: 0.1,
        quorum: 1,
        ..PoolSettings::default()
    };
    assert_eq!(chain.settings, expected);
}

#[test]
fn a_chain_without_settings_has_the_defaults_of_the_pool() {
    assert_eq!(ok(CHAIN, []).chains[0].settings, PoolSettings::default());
}

#[test]
fn the_only_chain_serves_the_compatible_routes() {
    let settings = ok("[chains.dev]\nid = 31337\nupstreams = [\"http://localhost:8545\"]", []);
    let api = settings.api();
    assert_eq!((api.blocks_chain.as_str(), api.balance_chain.as_str()), ("dev", "dev"));
    assert_eq!(settings.notices.len(), 2);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!("[server]\nlisten = \"127.0.0.1:1\"\nbatch_max = 3\n{CHAIN}");
    let settings = ok(
        &text,
        [
            ("LOOKOUT_SERVER__LISTEN", "localhost:2"),
            ("LOOKOUT_SERVER__CORS_ORIGINS", "https://a.example, https://b.example"),
            ("LOOKOUT_STORE__URL", "sqlite::memory:"),
            ("LOOKOUT_AUTH__ANONYMOUS", "chains:read,audit:read"),
            ("LOOKOUT_CHAINS__ETHEREUM__ID", "5"),
            ("LOOKOUT_CHAINS__ETHEREUM__UPSTREAMS__0__REQUESTS_PER_SECOND", "4"),
            ("LOOKOUT_CHAINS__MY_CHAIN__ID", "1_000"),
            ("LOOKOUT_CHAINS__MY_CHAIN__UPSTREAMS", "http://x:1,http://y:2/key"),
            ("LOOKOUT_CHAINS__THIRD__ID", "3"),
            ("LOOKOUT_CHAINS__THIRD__UPSTREAMS__0__URL", "http://x:1"),
            ("LOOKOUT_CHAINS__THIRD__UPSTREAMS__1__URL", "http://z:1"),
            // None of these is a key.
            ("LOOKOUT_CONFIG", "elsewhere.toml"),
            ("LOOKOUT_LOG", "debug"),
            ("LOOKOUT_TEST_ANYTHING", "1"),
            ("LOOKOUTSIDE", "1"),
        ],
    );
    assert_eq!(settings.listen(), "127.0.0.1:2".parse().unwrap());
    let api = settings.api();
    assert_eq!(api.batch_max, 3);
    assert_eq!(api.cors_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(api.anonymous, Scopes::from(Scope::ChainsRead).with(Scope::AuditRead));
    assert_eq!(settings.store(), &StoreUrl::SqliteMemory);
    assert_eq!(
        names(&settings),
        [
            ("ethereum", 5, vec!["node:8545"]),
            ("my-chain", 1000, vec!["x:1", "y:2"]),
            ("third", 3, vec!["x:1", "z:1"]),
        ]
    );
    assert_eq!(settings.chains[0].upstreams[0].requests_per_second, Some(4));
    // An empty list closes what the file opened.
    let open = "[auth]\nanonymous = [\"chains:read\"]";
    assert!(ok(open, []).lets_callers_in());
    assert!(!ok(open, [("LOOKOUT_AUTH__ANONYMOUS", "")]).lets_callers_in());
}

/// A file and what is said about it.
const FILE_MISTAKES: &[(&str, &str)] = &[
    // Names
    (
        "[server]\nlissten = 1",
        "lookout.toml:2:1: server.lissten: unknown key; did you mean `server.listen`?",
    ),
    ("\n  [sevrer]\nlisten = 1", "lookout.toml:2:4: sevrer: unknown key; did you mean `server`?"),
    ("listen = 1", "lookout.toml:1:1: listen: unknown key; did you mean `server.listen`?"),
    (
        "[limits]\nzzzzzzzz = 1",
        "lookout.toml:2:1: limits.zzzzzzzz: unknown key; known here: requests_per_second_per_key, requests_per_second_per_address, burst",
    ),
    (
        "[chains.x]\nid = 1\nupstrems = []",
        "lookout.toml:3:1: chains.x.upstrems: unknown key; did you mean `chains.x.upstreams`?",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [{ ulr = \"http://x\" }]",
        "lookout.toml:3:16: chains.x.upstreams[0].ulr: unknown key; did you mean `chains.x.upstreams[0].url`?",
    ),
    (
        "[auth.oidc]\nisuer = \"x\"",
        "lookout.toml:2:1: auth.oidc.isuer: unknown key; did you mean `auth.oidc.issuer`?",
    ),
    // TOML itself
    ("[server\nlisten = 1", "lookout.toml:1:8: "),
    ("[server]\nlisten = \"a", "lookout.toml:2:"),
    ("[server]\n[server]", "lookout.toml:2:2: duplicate key"),
    ("[chains.x]\nid = 1\n[chains.x]", "lookout.toml:3:"),
    // Types and values
    ("server = 1", "lookout.toml:1:1: server: expected a section, not an integer"),
    (
        "[server]\nlisten = 8000",
        "lookout.toml:2:1: server.listen: expected an address such as 127.0.0.1:8000, not an integer",
    ),
    (
        "[server]\nlisten = \"8000\"",
        "lookout.toml:2:1: server.listen: `8000` is not an address and port such as 127.0.0.1:8000",
    ),
    (
        "[server]\nbatch_max = \"5\"",
        "lookout.toml:2:1: server.batch_max: expected an integer, not text",
    ),
    (
        "[server]\nbatch_max = -1",
        "lookout.toml:2:1: server.batch_max: -1 is not between 0 and 18446744073709551615",
    ),
    (
        "[server]\nbatch_max = 0",
        "lookout.toml:2:1: server.batch_max: 0 allows no request; expected at least 1",
    ),
    (
        "[server]\nbatch_max = 1.5",
        "lookout.toml:2:1: server.batch_max: expected an integer, not a number with a fraction",
    ),
    (
        "[server]\nbatch_max = true",
        "lookout.toml:2:1: server.batch_max: expected an integer, not a boolean",
    ),
    (
        "[server]\nbatch_max = 99999999999999999999",
        "lookout.toml:2:1: server.batch_max: the number is too large",
    ),
    (
        "[server]\nrequest_timeout_ms = 0",
        "lookout.toml:2:1: server.request_timeout_ms: a time of 0 ms allows nothing; expected at least 1",
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/33\"]",
        "lookout.toml:2:34: server.trusted_proxies[1]: `10.0.0.0/33` is not an address or a block such as 10.0.0.0/8",
    ),
    (
        "[server]\ncors_origins = [\"https://a.example/\"]",
        "lookout.toml:2:17: server.cors_origins[0]: `https://a.example/` is not a web origin: expected scheme://host[:port] and nothing after it",
    ),
    (
        "[auth]\nanonymous = [\"chains:rad\"]",
        "lookout.toml:2:14: auth.anonymous[0]: unknown scope `chains:rad`; known scopes: chains:read,",
    ),
    (
        "[auth]\nanonymous = \"chains:read\"",
        "lookout.toml:2:1: auth.anonymous: expected a list, not text",
    ),
    (
        "[auth.oidc]\nissuer = \"x\"",
        "lookout.toml:1:7: auth.oidc.audience: missing; issuer, audience and jwks_url are needed together",
    ),
    (
        "[log]\nformat = \"xml\"",
        "lookout.toml:2:1: log.format: `xml` is not one of `pretty` `json`",
    ),
    (
        "[log]\nlevel = \"verbose\"",
        "lookout.toml:2:1: log.level: `verbose` is not a log level; expected one of off, error,",
    ),
    (
        "[store]\nurl = \"mysql://x\"",
        "lookout.toml:2:1: store.url: not a store URL: the scheme `mysql` is not supported; expected sqlite:FILE",
    ),
    (
        "[cache]\nurl = \"redis://x\"",
        "lookout.toml:2:1: cache.url: a Redis cache is not supported yet; use `memory:`",
    ),
    ("[limits]\nburst = 0", "lookout.toml:2:1: limits.burst: 0 allows no request"),
    (
        "[telemetry]\notlp_endpoint = \"grpc://x\"",
        "lookout.toml:2:1: telemetry.otlp_endpoint: this is a URL of a scheme that is not supported; expected http, https",
    ),
    (
        "[bus]\nurl = \"nats://x\"",
        "lookout.toml:2:1: bus.url: not a bus URL: the scheme is not supported; expected local:",
    ),
    (
        "[warehouse]\nurl = \"mysql://x\"",
        "lookout.toml:2:1: warehouse.url: not a warehouse URL: the scheme `mysql` is not supported; expected sqlite:FILE",
    ),
    (
        "[email]\nhost = \"mail.example\"",
        "lookout.toml:1:2: email.from: missing; mail needs a sender such as `Lookout <alerts@example.org>`",
    ),
    ("[email]\nport = 70000", "lookout.toml:2:1: email.port: expected a port from 1 to 65535"),
    (
        "[email]\ntls = \"ssl\"",
        "lookout.toml:2:1: email.tls: `ssl` is not one of `starttls` `tls` `none`",
    ),
    ("[email]\nca_file = \"/dev/null\"", "lookout.toml:2:1: email.ca_file: `/dev/null` is empty"),
    (
        "[webhooks]\nallow_http = 1",
        "lookout.toml:2:1: webhooks.allow_http: expected true or false, not an integer",
    ),
    ("[telegram]\ntoken = \"\"", "lookout.toml:2:1: telegram.token: empty"),
    // Chains
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nfollow = \"logs\"\nfollow_from = \"first\"",
        "lookout.toml:5:1: chains.x.follow_from: expected a height such as 19000000, or `latest`",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nfollow = \"blocks\"\nfollow_topics = [\"0x1\"]",
        "lookout.toml:5:18: chains.x.follow_topics[0]: `0x1` is no topic: expected 0x and 64 hex digits",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nfollow_addresses = [\"0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48\"]",
        "lookout.toml:4:1: chains.x.follow_addresses: only used with `follow = \"logs\"`",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nfollow = \"logs\"\nfollow_quorum = 3",
        "lookout.toml:5:1: chains.x.follow_quorum: expected 1 or 2",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nfollow = \"logs\"\nfollow_quorum = 2",
        "lookout.toml:5:1: chains.x.follow_quorum: 2 takes two upstreams; there is one",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\", \"http://y\"]\nfollow_quorum = 2",
        "lookout.toml:4:1: chains.x.follow_quorum: only used with `follow = \"logs\"`",
    ),
    (
        "[chains.Eth]\nid = 1",
        "lookout.toml:1:9: chains.Eth: `Eth` is not a chain name: expected 1 to 32 of a-z, 0-9 and -",
    ),
    (
        "[chains.x]\nupstreams = [\"http://x\"]",
        "lookout.toml:1:9: chains.x.id: missing; for example `id = 1` for Ethereum",
    ),
    ("[chains.x]\nid = 0", "lookout.toml:2:1: chains.x.id: no chain has the id 0"),
    (
        "[chains.x]\nid = 1",
        "lookout.toml:1:9: chains.x.upstreams: a chain needs at least one upstream",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = []",
        "lookout.toml:3:1: chains.x.upstreams: a chain needs at least one upstream",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [{ name = \"a\" }]",
        "lookout.toml:3:14: chains.x.upstreams[0].url: missing",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [{ url = \"http://x\", url_file = \"/dev/null\" }]",
        "lookout.toml:3:34: chains.x.upstreams[0].url_file: `/dev/null` is empty",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"ftp://x\"]",
        "lookout.toml:3:14: chains.x.upstreams[0]: this is a URL of a scheme that is not supported; expected https, http, wss, ws",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"node:8545\"]",
        "lookout.toml:3:14: chains.x.upstreams[0]: this is a URL of a scheme that is not supported",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"/x\"]",
        "lookout.toml:3:14: chains.x.upstreams[0]: this is a text that is not a URL (relative URL without a base); expected https://HOST",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [{ url = \"http://x\", name = \"a\" }, { url = \"http://y\", name = \"a\" }]",
        "lookout.toml:3:1: chains.x.upstreams: two upstreams have the name `a`",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\n[chains.y]\nid = 1\nupstreams = [\"http://x\"]",
        "lookout.toml:5:1: chains.y.id: chain `x` has the id 1 already",
    ),
    (
        "[chains.x]\nkind = \"bitcoin\"",
        "lookout.toml:2:1: chains.x.kind: `bitcoin` is not supported yet; use `evm`",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nhedge_budget_percent = 101",
        "lookout.toml:4:1: chains.x.hedge_budget_percent: more than 100 percent",
    ),
    (
        "[chains.x]\nid = 1\nupstreams = [\"http://x\"]\nquorum = 0",
        "lookout.toml:4:1: chains.x.quorum: 0 is not possible",
    ),
    (
        "[compat]\nblocks_chain = \"x\"",
        "lookout.toml:2:1: compat.blocks_chain: no chain `x`; configured chains: ethereum, polygon",
    ),
];

#[test]
fn every_mistake_in_a_file_names_its_place_and_the_remedy() {
    for (text, message) in FILE_MISTAKES {
        let said = refused(text, []);
        assert!(said.starts_with(message), "\n{text}\nsaid    {said}\nexpected {message}");
        assert!(!said.contains('\n') && !said.ends_with('.'), "{said}");
    }
}

#[test]
fn every_mistake_in_the_environment_names_the_variable() {
    for (variable, value, message) in [
        ("LOOKOUT_SERVER__LISSTEN", "x", "unknown variable; did you mean LOOKOUT_SERVER__LISTEN?"),
        ("LOOKOUT_STORE_URL", "x", "unknown variable; did you mean LOOKOUT_STORE__URL?"),
        ("LOOKOUT_LISTEN", "x", "unknown variable; did you mean LOOKOUT_SERVER__LISTEN?"),
        (
            "LOOKOUT_CHAINS__ETHEREUM__IDD",
            "1",
            "unknown variable; did you mean LOOKOUT_CHAINS__ETHEREUM__ID?",
        ),
        ("LOOKOUT_ZZZZZZZZZ", "1", "unknown variable; known here: server, store, "),
        (
            "LOOKOUT_SERVER",
            "x",
            "`server` is a section; set one of its keys, as in LOOKOUT_SERVER__KEY",
        ),
        ("LOOKOUT_SERVER__LISTEN__PORT", "1", "`server.listen` is a single value, not a section"),
        ("LOOKOUT_SERVER__BATCH_MAX", "many", "`many` is not an integer"),
        ("LOOKOUT_SERVER__BATCH_MAX", "", "`` is not an integer"),
        ("LOOKOUT_CHAINS__ETHEREUM__ID", "0x1", "`0x1` is not an integer"),
        (
            "LOOKOUT_CHAINS__ETHEREUM__UPSTREAMS__7__URL",
            "http://x",
            "`chains.ethereum.upstreams` has no item `7`",
        ),
        ("LOOKOUT_CHAINS__ETHEREUM__UPSTREAMS", "", "a chain needs at least one upstream"),
        (
            "LOOKOUT_CHAINS__ETHEREUM__UPSTREAMS",
            "http://x,hunter2",
            "this is a text that is not a URL",
        ),
        ("LOOKOUT_STORE__URL", "hunter2://x", "not a store URL"),
        (
            "LOOKOUT_STORE__URL_FILE",
            "/nowhere/url",
            "`/nowhere/url` cannot be read: No such file or directory",
        ),
    ] {
        let text = format!("[server]\nlisten = \"127.0.0.1:1\"\n{CHAIN}");
        let said = refused(&text, [(variable, value)]);
        let expected = format!("{variable}: {message}");
        assert!(said.starts_with(&expected), "\nsaid    {said}\nexpected {expected}");
        assert!(!said.contains("hunter"), "{said}");
    }
}

#[test]
fn older_variables_keep_working() {
    let urls = |settings: &Settings| -> Vec<String> {
        let all = settings.chains.iter().flat_map(|chain| &chain.upstreams);
        all.map(|upstream| upstream.url.to_string()).collect()
    };
    let settings = ok("", [("INFURA_PROJECT_ID", "abc123")]);
    assert_eq!(
        urls(&settings),
        ["https://mainnet.infura.io/v3/abc123", "https://polygon-mainnet.infura.io/v3/abc123"]
    );
    let settings = ok("", [("INFURA_URL", "https://mainnet.infura.io/v3/x")]);
    assert_eq!(urls(&settings)[0], "https://mainnet.infura.io/v3/x");
    assert_eq!(urls(&settings).len(), 4, "polygon stays public");
    let settings = ok(CHAIN, [("INFURA_PROJECT_ID", "abc123"), ("CACHE_TTL_SECONDS", "10")]);
    assert_eq!(urls(&settings), ["http://node:8545/"]);
    assert!(settings.notices[0].starts_with("CACHE_TTL_SECONDS has no effect"));
    assert!(settings.notices[1].starts_with("INFURA_PROJECT_ID has no effect"));
    assert_eq!(ok("", [("INFURA_PROJECT_ID", ""), ("INFURA_URL", "")]), ok("", []));
    for (variable, value) in [("INFURA_PROJECT_ID", "hunter2/../"), ("INFURA_URL", "hunter2")] {
        let said = refused("", [(variable, value)]);
        assert!(said.starts_with(variable) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn secrets_come_from_files_and_are_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let url = write("url", "https://u:hunter2@node.example:1/v3/hunter3?k=hunter4\n");
    let store = write("store", "postgres://me:hunter5@db/lookout\n");
    let text = format!(
        "[store]\nurl_file = {store:?}\n[telemetry]\notlp_endpoint = \"http://o:hunter6@c:1/hunter7\"\n\
         [telegram]\ntoken = \"hunter10\"\n[email]\npassword = \"hunter11\"\n\
         [chains.x]\nid = 1\nupstreams = [{{ url_file = {url:?} }}, \"wss://hunter8@b.example/hunter9\"]"
    );
    let settings = ok(&text, []);
    let upstream = &settings.chains[0].upstreams[0];
    assert_eq!(upstream.url.as_str(), "https://u:hunter2@node.example:1/v3/hunter3?k=hunter4");
    assert_eq!(upstream.name, "node.example:1");
    assert_eq!(settings.store().to_string(), "postgres://db/lookout");
    assert_eq!(settings.config.telegram.secret().unwrap().expose(), "hunter10");
    assert_eq!(settings.config.email.secret().unwrap().expose(), "hunter11");
    for shown in [settings.show(), format!("{settings:?}"), format!("{settings:#?}")] {
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("https://node.example:1"), "{shown}");
    }

    let both = "url = \"http://x\", url_file";
    let said = refused(&text.replace("{ url_file", &format!("{{ {both}")), []);
    assert!(said.ends_with("url_file: `url` is set too; keep one of the two"), "{said}");
    let said = refused(&text.replace("[store]", "[store]\nurl = \"sqlite:x\""), []);
    assert!(said.ends_with("store.url_file: `url` is set too; keep one of the two"), "{said}");

    let bad = write("bad", "hunter2");
    for (path, reason) in [
        (bad, "holds a text that is not a URL"),
        (write("empty", " \n"), "is empty"),
        (write("huge", &"hunter2".repeat(10_000)), "cannot be read: it is larger than 65536 bytes"),
        (folder.path().to_owned(), "cannot be read: Is a directory"),
        (folder.path().join("none"), "cannot be read: No such file or directory"),
    ] {
        let text = format!("[chains.x]\nid = 1\nupstreams = [{{ url_file = {path:?} }}]");
        let said = refused(&text, []);
        let expected = format!("chains.x.upstreams[0].url_file: `{}` {reason}", path.display());
        assert!(said.contains(&expected), "{said}");
        assert!(!said.contains("hunter"), "{said}");
    }
}

#[test]
fn a_missing_or_oversized_file_is_named() {
    let environment = Environment::default();
    let said = Settings::load(Some(Path::new("/nowhere/l.toml")), &environment).unwrap_err();
    let said = said.to_string();
    assert!(said.starts_with("cannot read the configuration file `/nowhere/l.toml`: No such"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.toml");
    std::fs::write(&path, "#".repeat((4 << 20) + 1)).unwrap();
    let said = Settings::load(Some(&path), &environment).unwrap_err().to_string();
    assert!(said.ends_with("it is larger than 4194304 bytes"), "{said}");
}

#[test]
fn what_config_check_prints_is_a_configuration_that_says_the_same() {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:5\"\ncors_origins = [\"*\"]\n[log]\nlevel = \"debug\"\n\
         [auth]\nanonymous = [\"*\"]\n[auth.oidc]\nissuer = \"i\"\naudience = \"a\"\n\
         jwks_url = \"https://id.example\"\n{CHAIN}hedge_budget_percent = 7\nfollow = \"logs\"\n\
         follow_from = 17\nfollow_addresses = [\"0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48\"]\n\
         [webhooks]\nallow_http = true\nallow_private = [\"10.0.0.0/8\"]\n"
    );
    let settings = ok(&text, []);
    let again = ok(&settings.show(), []);
    assert_eq!(again.chains, settings.chains);
    assert_eq!(again.follows, settings.follows);
    assert_eq!(again.follows[0].from, super::FollowFrom::Height(17));
    assert_eq!(again.follows[0].wants.addresses.len(), 1);
    assert_eq!(again.api(), settings.api());
    assert_eq!(again.show(), settings.show());
}

#[test]
fn changes_are_told_by_key_and_by_whether_they_need_a_restart() {
    let changes = |old: &str, new: &str| ok(new, []).changes(&ok(old, []));
    let none = (Vec::<String>::new(), Vec::<String>::new());
    assert_eq!(changes(CHAIN, CHAIN), none);
    let (now, restart) = changes(
        &format!("{CHAIN}[chains.b]\nid = 2\nupstreams = [\"http://x/secret\"]"),
        "[server]\nlisten = \"127.0.0.1:1\"\nbatch_max = 2\n[log]\nlevel = \"debug\"\nformat = \"json\"\n\
         [store]\nurl = \"sqlite:x\"\n[auth]\nanonymous = [\"*\"]\n\
         [chains.b]\nid = 2\nupstreams = [\"http://x/other\"]\n[chains.c]\nid = 3\nupstreams = [\"http://x\"]",
    );
    assert_eq!(
        now,
        [
            "server.batch_max",
            "chains.b.upstreams",
            "chains.c",
            "chains.ethereum",
            "auth.anonymous",
            "log.level"
        ]
    );
    assert_eq!(restart, ["server.listen", "store.url", "log.format"]);
}

#[test]
fn the_example_file_is_valid() {
    let text = include_str!("../../../../lookout.example.toml");
    let settings = ok(text, []);
    assert_eq!(settings.chains[0].id, ChainId(1));
    // Every line that is commented out is valid too.
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
        .filter(|line| !line.contains("_file"))
        .collect();
    ok(&all, []);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "only where the page is to be written anew")]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let page = reference();
    if std::env::var("LOOKOUT_TEST_BLESS").is_ok() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let hint = "run LOOKOUT_TEST_BLESS=1 cargo test -p lookout the_reference_is_up_to_date";
    assert!(written == page, "docs/config.md differs from the sections: {hint}");
}

#[test]
fn every_key_is_documented_with_a_sentence() {
    fn walk(path: &str, keys: &[Key], page: &str) {
        for key in keys {
            let path = format!("{path}.{}", key.name);
            let about = key.docs.concat();
            assert!(about.trim_end().ends_with('.'), "{path}: {about}");
            match key.kind {
                Kind::Value(_) => assert!(page.contains(&format!("| `{}` |", key.name)), "{path}"),
                Kind::Section(keys) | Kind::Named(keys) | Kind::List(keys) => {
                    walk(&path, keys, page);
                }
            }
        }
    }
    walk("", <Config as Section>::KEYS, &reference());
}

/// Where a value can go, for the properties below.
fn paths() -> Vec<String> {
    fn walk(path: &str, keys: &[Key], paths: &mut Vec<String>) {
        for key in keys {
            let path = format!("{path}{}", key.name);
            match key.kind {
                Kind::Value(_) => {}
                Kind::Section(keys) => walk(&format!("{path}__"), keys, paths),
                Kind::Named(keys) => walk(&format!("{path}__x__"), keys, paths),
                Kind::List(keys) => walk(&format!("{path}__0__"), keys, paths),
            }
            paths.push(format!("LOOKOUT_{}", path.to_uppercase()));
        }
    }
    let mut paths = Vec::new();
    walk("", <Config as Section>::KEYS, &mut paths);
    paths
}

proptest! {
    /// Whatever a variable holds, the answer is a configuration or one line that names it.
    #[test]
    fn any_value_of_any_variable_is_read_or_refused(
        variable in select(paths()),
        value in "[ -~]{0,20}|[a-z]{1,6}:(//)?[ -~]{0,20}|-?[0-9_]{1,25}|\\PC{0,10}",
    ) {
        if let Err(problem) = load("", [(variable.as_str(), value.as_str())]) {
            let said = problem.to_string();
            prop_assert!(!said.contains('\n'), "{}", said);
            prop_assert!(said.contains("LOOKOUT_") || said.starts_with("chains.x"), "{}", said);
        }
    }

    /// Whatever a file holds, the answer is a configuration or a place in the file.
    #[test]
    fn any_file_is_read_or_refused(at in 0..400_usize, with in "\\PC{0,3}", cut in 0..10_usize) {
        let whole = include_str!("../../../../lookout.example.toml");
        let text: String = whole.chars().skip(600).take(1500).collect();
        let head: String = text.chars().take(at).collect();
        let tail: String = text.chars().skip(at + cut).collect();
        if let Err(problem) = load(&format!("{head}{with}{tail}"), []) {
            prop_assert!(problem.to_string().starts_with("lookout.toml:"), "{}", problem);
        }
    }
}
