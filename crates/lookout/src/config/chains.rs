//! `[chains.NAME]`: the chains and where to read them.

use std::collections::BTreeMap;
use std::time::Duration;

use lookout_chain::{ChainSpec, PoolSettings, UpstreamSpec, Wants, redact};
use lookout_types::ChainId;

use super::endpoint::UpstreamUrl;
use super::follow::{Addresses, Follow, FollowFrom, FollowMode, Topics};
use super::section::{Check, Kind, Section, Setting, section};
use super::setting::{FromFile, Millis, quoted, word_setting};
use super::tree::{Entry, Problem, Value};

/// Longest name of a chain: it is a path segment and a metric label.
const NAME_LENGTH_MAX: usize = 32;
/// Most chains, and most upstreams of one: each costs tasks and connections from the start.
const CHAINS_MAX: usize = 100;
const UPSTREAMS_MAX: usize = 50;
/// Most upstreams that are held against each other for logs: where two differ, receipts decide.
const FOLLOW_QUORUM_MAX: usize = 2;

section! {
    /// One chain.
    ChainSection {
        /// Only `evm` for now.
        kind: ChainKind = ChainKind::Evm,
        /// The id that every upstream must answer to `eth_chainId`.
        id: Option<ChainId> = None,
        /// One RPC endpoint of the chain; at least one is needed. A list of tables, or just of URLs.
        upstreams: Upstreams = Upstreams::default(),
        /// Longest that one upstream may take for one call.
        call_timeout_ms: Millis = Millis(PoolSettings::default().call_timeout),
        /// Longest that one request may take over all its tries.
        request_timeout_ms: Millis = Millis(PoolSettings::default().request_timeout),
        /// How often a head is polled where no subscription is offered.
        poll_interval_ms: Millis = Millis(PoolSettings::default().poll_interval),
        /// Largest answer read from an upstream, in bytes.
        response_bytes_max: usize = PoolSettings::default().response_bytes_max,
        /// Upstreams that must agree on a head, as far as that many are live.
        quorum: usize = PoolSettings::default().quorum,
        /// Blocks that an upstream may lag behind the highest before it stops counting.
        head_lag_max: u64 = PoolSettings::default().head_lag_max,
        /// Share of calls, in percent, that may be sent a second time when the first is slow.
        hedge_budget_percent: u32 = 5,
        /// Whether its blocks are followed into events, rules and alerts, and what of them. Takes
        /// effect after a restart, as do the next four.
        follow: FollowMode = FollowMode::Off,
        /// The first block followed: a height, or `latest` for the head at the first start.
        follow_from: FollowFrom = FollowFrom::Latest,
        /// With `follow = "logs"`: only logs of these contracts; none named: of all.
        follow_addresses: Addresses = Addresses::default(),
        /// With `follow = "logs"`: only logs whose first topic is one of these; none named: all.
        follow_topics: Topics = Topics::default(),
        /// With `follow = "logs"`: how many upstreams must have the same logs of a block, 1 or 2. With
        /// 1 they are held against the block's bloom filter, which does not show the loss of a log
        /// whose contract and topics all occur in others of its block. With 2 they are also compared
        /// with a second upstream's, and settled by the block's receipts where the two differ; that
        /// doubles the calls for logs. `follow = "blocks"` proves them by one.
        follow_quorum: usize = 1,
    }
}

section! {
    /// One RPC endpoint.
    UpstreamSection {
        /// `https`, `http`, `wss` or `ws`. It may hold keys, so it is never logged in full.
        url: Option<UpstreamUrl> = None,
        /// File that holds the URL, instead of `url`.
        url_file: Option<FromFile<UpstreamUrl>> = None,
        /// Name in metrics, logs and answers; by default the host. Unique within the chain.
        name: Option<String> = None,
        /// Requests a second that it allows; not set: no limit of ours.
        requests_per_second: Option<u32> = None,
    }
}

word_setting! {
    /// Family of a chain.
    ChainKind {
        /// Ethereum and everything that speaks its JSON-RPC.
        Evm = "evm",
        /// Bitcoin.
        Bitcoin = "bitcoin",
    }
}

impl Check for ChainSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        if self.kind == ChainKind::Bitcoin {
            return Err(entry.problem_at("kind", "`bitcoin` is not supported yet; use `evm`"));
        }
        if self.id.is_none() {
            return Err(entry.problem_at("id", "missing; for example `id = 1` for Ethereum"));
        }
        match self.upstreams.0.len() {
            0 => return Err(entry.problem_at("upstreams", "a chain needs at least one upstream")),
            1..=UPSTREAMS_MAX => {}
            _ => {
                let reason = format!("a chain takes at most {UPSTREAMS_MAX} upstreams");
                return Err(entry.problem_at("upstreams", reason));
            }
        }
        for (key, value) in
            [("quorum", self.quorum), ("response_bytes_max", self.response_bytes_max)]
        {
            if value == 0 {
                return Err(entry.problem_at(key, "0 is not possible; expected at least 1"));
            }
        }
        if self.hedge_budget_percent > 100 {
            return Err(entry.problem_at("hedge_budget_percent", "more than 100 percent"));
        }
        if !(1..=FOLLOW_QUORUM_MAX).contains(&self.follow_quorum) {
            return Err(entry.problem_at("follow_quorum", "expected 1 or 2"));
        }
        if self.follow_quorum > self.upstreams.0.len() {
            return Err(entry.problem_at("follow_quorum", "2 takes two upstreams; there is one"));
        }
        let filters = [
            ("follow_addresses", self.follow_addresses.0.is_empty()),
            ("follow_topics", self.follow_topics.0.is_empty()),
            ("follow_quorum", self.follow_quorum == 1),
        ];
        for (key, empty) in filters {
            if !empty && self.follow != FollowMode::Logs {
                return Err(entry.problem_at(key, "only used with `follow = \"logs\"`"));
            }
        }
        Ok(())
    }
}

impl Check for UpstreamSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => {
                return Err(entry.problem_at("url_file", "`url` is set too; keep one of the two"));
            }
            (None, None) => return Err(entry.problem_at("url", "missing")),
            _ => {}
        }
        if let Some(name) = &self.name {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                let reason = "expected 1 to 64 letters, digits, `-`, `_`, `.` or `:`";
                return Err(entry.problem_at("name", reason));
            }
        }
        if self.requests_per_second == Some(0) {
            return Err(entry.problem_at("requests_per_second", "0 allows no call; leave it out"));
        }
        Ok(())
    }
}

/// The upstreams of a chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Upstreams(Vec<UpstreamSection>);

impl Setting for Upstreams {
    const KIND: Kind = Kind::List(UpstreamSection::KEYS);

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let read = match &entry.value {
            Value::List(items) => items.iter().map(read_upstream).collect::<Result<_, _>>()?,
            Value::Untyped(_) => super::setting::texts(entry, "a URL")?
                .into_iter()
                .map(|(item, url)| from_url(item, url))
                .collect::<Result<_, _>>()?,
            // `LOOKOUT_CHAINS__NAME__UPSTREAMS__0__URL` where the file has no list.
            Value::Table(items) if is_numbered(items) => {
                items.values().map(read_upstream).collect::<Result<_, _>>()?
            }
            _ => return Err(entry.wrong_type("a list of upstreams")),
        };
        let upstreams = Self(read);
        upstreams.check_names(entry)?;
        Ok(upstreams)
    }

    fn show(&self) -> Option<String> {
        None
    }
}

/// Whether the keys are 0, 1, 2 and so on without a gap.
fn is_numbered(items: &BTreeMap<String, Entry>) -> bool {
    let numbers = |key: &String| key.parse::<usize>().is_ok_and(|n| n < items.len());
    !items.is_empty() && items.keys().all(numbers)
}

fn read_upstream(entry: &Entry) -> Result<UpstreamSection, Problem> {
    match &entry.value {
        Value::Text(url) | Value::Untyped(url) => from_url(entry, url.trim()),
        _ => UpstreamSection::read(entry),
    }
}

fn from_url(entry: &Entry, url: &str) -> Result<UpstreamSection, Problem> {
    let value = Value::Text(url.to_owned());
    let only = Entry { value, origin: entry.origin.clone(), path: entry.path.clone() };
    Ok(UpstreamSection { url: Some(UpstreamUrl::read(&only)?), ..UpstreamSection::default() })
}

impl Upstreams {
    fn check_names(&self, entry: &Entry) -> Result<(), Problem> {
        let named: Vec<_> = self.0.iter().filter_map(|u| u.name.as_deref()).collect();
        for (index, name) in named.iter().enumerate() {
            if named.iter().take(index).any(|other| other == name) {
                return Err(entry.problem(format!("two upstreams have the name `{name}`")));
            }
        }
        Ok(())
    }

    /// The specs, each with a name: the given one, or the host with a number where it is taken.
    fn specs(&self) -> Vec<UpstreamSpec> {
        let mut names: Vec<String> = self.0.iter().filter_map(|u| u.name.clone()).collect();
        let with_url = self.0.iter().filter_map(|upstream| Some((upstream, upstream.url()?)));
        let specs = with_url.map(|(upstream, url)| UpstreamSpec {
            name: upstream.name.clone().unwrap_or_else(|| free_name(url, &mut names)),
            url: url.0.clone(),
            requests_per_second: upstream.requests_per_second,
        });
        specs.collect()
    }
}

fn free_name(url: &UpstreamUrl, taken: &mut Vec<String>) -> String {
    let shown = redact(&url.0);
    let host = shown.split_once("://").map_or(shown.as_str(), |(_, host)| host).to_owned();
    let numbered = (2..).map(|n| format!("{host}-{n}"));
    let mut names = std::iter::once(host.clone()).chain(numbered);
    let name = names.find(|name| !taken.contains(name)).unwrap_or(host);
    taken.push(name.clone());
    name
}

impl UpstreamSection {
    fn url(&self) -> Option<&UpstreamUrl> {
        self.url.as_ref().or_else(|| self.url_file.as_ref().map(|file| &file.value))
    }
}

impl ChainSection {
    /// The chain as the pool takes it; `None` without an id, which [`Check`] refuses.
    fn spec(&self, name: &str) -> Option<ChainSpec> {
        let settings = PoolSettings {
            call_timeout: self.call_timeout_ms.0,
            request_timeout: self.request_timeout_ms.0,
            poll_interval: self.poll_interval_ms.0,
            response_bytes_max: self.response_bytes_max,
            quorum: self.quorum,
            head_lag_max: self.head_lag_max,
            hedge_budget: f64::from(self.hedge_budget_percent) / 100.0,
        };
        let upstreams = self.upstreams.specs();
        Some(ChainSpec { name: name.to_owned(), id: self.id?, upstreams, settings })
    }
}

impl ChainSection {
    /// What of it is followed, if anything.
    fn follow(&self, name: &str) -> Option<Follow> {
        let whole = match self.follow {
            FollowMode::Off => return None,
            FollowMode::Logs => false,
            FollowMode::Blocks => true,
        };
        let (addresses, topics) = (self.follow_addresses.0.clone(), self.follow_topics.0.clone());
        let confirmed = self.follow_quorum == FOLLOW_QUORUM_MAX;
        let wants = Wants { whole, addresses, topics, confirmed };
        Some(Follow { chain: name.to_owned(), id: self.id?, wants, from: self.follow_from })
    }
}

/// All configured chains, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ChainsSection(BTreeMap<String, ChainSection>);

impl Setting for ChainsSection {
    const KIND: Kind = Kind::Named(ChainSection::KEYS);

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let mut chains = BTreeMap::<String, ChainSection>::new();
        for (name, child) in entry.table()? {
            check_name(name, child)?;
            let chain = ChainSection::read(child)?;
            if let Some((other, _)) = chains.iter().find(|(_, other)| other.id == chain.id) {
                let id = chain.id.map(|id| id.to_string()).unwrap_or_default();
                let reason = format!("chain `{other}` has the id {id} already");
                return Err(child.problem_at("id", reason));
            }
            chains.insert(name.clone(), chain);
        }
        if chains.len() > CHAINS_MAX {
            return Err(entry.problem(format!("more than {CHAINS_MAX} chains")));
        }
        Ok(Self(chains))
    }

    fn show(&self) -> Option<String> {
        None
    }

    fn changes(&self, old: &Self, path: &str, changed: &mut Vec<String>) {
        for (name, chain) in &self.0 {
            let path = format!("{path}.{name}");
            match old.0.get(name) {
                Some(before) => chain.changes(before, &path, changed),
                None => changed.push(path),
            }
        }
        let gone = old.0.keys().filter(|name| !self.0.contains_key(*name));
        changed.extend(gone.map(|name| format!("{path}.{name}")));
    }
}

fn check_name(name: &str, entry: &Entry) -> Result<(), Problem> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(entry.problem(format!(
        "`{}` is not a chain name: expected 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and -",
        name.escape_debug()
    )))
}

impl ChainsSection {
    /// The chains that are followed.
    pub(crate) fn follows(&self) -> Vec<Follow> {
        self.0.iter().filter_map(|(name, chain)| chain.follow(name)).collect()
    }

    /// The chains as the pool takes them.
    pub(crate) fn specs(&self) -> Vec<ChainSpec> {
        self.0.iter().filter_map(|(name, chain)| chain.spec(name)).collect()
    }
}

/// A chain read from these URLs, with the defaults of everything else.
pub(crate) fn plain_spec(name: &str, id: u64, urls: Vec<UpstreamUrl>) -> ChainSpec {
    let upstream = |url| UpstreamSection { url: Some(url), ..UpstreamSection::default() };
    let upstreams = Upstreams(urls.into_iter().map(upstream).collect()).specs();
    // The public endpoints are shared by everyone: two seconds are a block's time on Polygon.
    let settings =
        PoolSettings { poll_interval: Duration::from_secs(2), ..PoolSettings::default() };
    ChainSpec { name: name.to_owned(), id: ChainId(id), upstreams, settings }
}

/// The specs as a user would write them, without the secret parts of URLs.
pub(crate) fn show_specs(specs: &[ChainSpec], follows: &[Follow]) -> String {
    let mut text = String::new();
    for spec in specs {
        text.push_str(&format!("\n[chains.{}]\nid = {}\nupstreams = [\n", spec.name, spec.id));
        for upstream in &spec.upstreams {
            let limit = upstream.requests_per_second;
            let limit = limit.map(|n| format!(", requests_per_second = {n}")).unwrap_or_default();
            let (name, url) = (quoted(&upstream.name), quoted(&redact(&upstream.url)));
            text.push_str(&format!("  {{ name = {name}, url = {url}{limit} }},\n"));
        }
        text.push_str("]\n");
        let chain = &spec.settings;
        text.push_str(&format!(
            "call_timeout_ms = {}\nrequest_timeout_ms = {}\npoll_interval_ms = {}\n\
             response_bytes_max = {}\nquorum = {}\nhead_lag_max = {}\n",
            chain.call_timeout.as_millis(),
            chain.request_timeout.as_millis(),
            chain.poll_interval.as_millis(),
            chain.response_bytes_max,
            chain.quorum,
            chain.head_lag_max,
        ));
        text.push_str(&format!("hedge_budget_percent = {:.0}\n", chain.hedge_budget * 100.0));
        if let Some(follow) = follows.iter().find(|follow| follow.chain == spec.name) {
            text.push_str(&follow.show());
        }
    }
    text
}
