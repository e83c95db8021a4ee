//! `lookout rules import oz DIR`: the files of `OpenZeppelin` Monitor as rules and channels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lookout_rules::{ImportedRule, Kept, OzFiles, OzFolder, OzImport, RuleId};
use lookout_store::{Actor, PAGE_LIMIT_MAX, Page, RuleFilter, Store};
use lookout_types::ChainId;
use serde_json::{Value, json};

use super::{Chains, files};
use crate::failure::Failure;

/// Most files of one folder: more than the largest installation keeps.
const FILES_MAX: usize = 10_000;
/// Members of channel requests that open something; they are carried over but never printed.
const SECRETS: [&str; 2] = ["token", "secret"];

/// What the command takes.
#[derive(Debug)]
pub(crate) struct ImportOz {
    /// The folder with `networks`, `monitors` and `triggers`.
    pub(crate) folder: PathBuf,
    /// The configured chains.
    pub(crate) chains: Chains,
    /// What is kept of those that are followed.
    pub(crate) kept: HashMap<ChainId, Kept>,
    /// Where the rules go, and whose they are; nothing is saved when `None`.
    pub(crate) apply: Option<(Store, String)>,
}

/// Reads the files and says what they become; saves it where `apply` says so. `make_channel` takes
/// the body of `POST /v1/channels` and gives the new channel's id.
///
/// # Errors
/// [`Failure`] when the folder cannot be read, or something could not be saved; what was saved stays,
/// and a second run leaves it out.
pub(crate) async fn import_oz(
    args: ImportOz,
    make_channel: impl AsyncFn(&Value) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let read = OzFiles {
        networks: folder(&args.folder.join("networks"))?,
        monitors: folder(&args.folder.join("monitors"))?,
        triggers: folder(&args.folder.join("triggers"))?,
    };
    if read.monitors.is_empty() {
        return Err(Failure::failed(format!(
            "`{}` holds no monitors/*.json",
            args.folder.display()
        )));
    }
    let name_of = |id| args.chains.iter().find(|(_, known)| *known == id).map(|(n, _)| n.clone());
    let import = lookout_rules::import_oz(&read, &name_of);
    let mut out = String::new();
    for finding in &import.findings {
        writeln!(out, "{finding}").unwrap_or_default();
    }
    match args.apply {
        None => out.push_str(&shown(&import)?),
        Some((store, tenant)) => {
            out.push_str(&apply((&store, &tenant), &args.kept, &import, make_channel).await?);
        }
    }
    Ok(out)
}

/// The JSON files of a folder, by name; none when it is missing.
fn folder(path: &Path) -> Result<OzFolder, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| Failure::failed(format!("cannot read `{shown}`: {error}"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(Failure::failed(format!("`{shown}` holds more than {FILES_MAX} files")));
        }
    }
    paths.sort();
    let files = paths.iter().map(|file| {
        let name = file.strip_prefix(path.parent().unwrap_or(path)).unwrap_or(file);
        Ok((name.display().to_string(), files::text(file).map_err(Failure::failed)?))
    });
    files.collect()
}

/// The result as JSON, without secrets.
fn shown(import: &OzImport) -> Result<String, Failure> {
    let rules = import.rules.iter().map(|rule| {
        let document = serde_json::to_value(&rule.document);
        document.map(|document| json!({ "rule": document, "paused": rule.paused }))
    });
    let failed = |error: serde_json::Error| Failure::failed(format!("a rule is no JSON: {error}"));
    let rules = rules.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let channels: BTreeMap<_, _> = import
        .channels
        .iter()
        .map(|(slug, channel)| (slug, without_secrets(&channel.request)))
        .collect();
    let all = json!({ "rules": rules, "channels": channels });
    serde_json::to_string_pretty(&all).map_err(failed)
}

fn without_secrets(request: &Value) -> Value {
    let mut request = request.clone();
    // The URLs of these are secrets; those of webhooks are not.
    let by_url = matches!(request["kind"].as_str(), Some("slack" | "discord"));
    if let Some(members) = request.as_object_mut() {
        for (name, value) in members.iter_mut() {
            if SECRETS.contains(&name.as_str()) || (by_url && name == "url") {
                *value = "(secret, left out)".into();
            }
        }
    }
    request
}

async fn apply(
    (store, tenant): (&Store, &str),
    kept: &HashMap<ChainId, Kept>,
    import: &OzImport,
    make_channel: impl AsyncFn(&Value) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let known = names(store, tenant).await?;
    let new: Vec<_> =
        import.rules.iter().filter(|rule| !known.contains(&rule.document.name)).collect();
    let used: BTreeSet<_> = new.iter().flat_map(|rule| &rule.document.channels).collect();
    let mut ids = BTreeMap::new();
    let mut failures = Vec::new();
    for (slug, channel) in import.channels.iter().filter(|(slug, _)| used.contains(slug)) {
        match make_channel(&channel.request).await {
            Ok(id) => {
                ids.insert(slug.as_str(), id);
            }
            Err(failure) => failures.push(format!("channel `{slug}`: {failure}")),
        }
    }
    let mut saved = 0_usize;
    for rule in &new {
        match save((store, tenant), kept, rule, &ids).await {
            Ok(()) => saved += 1,
            Err(failure) => failures.push(format!("rule `{}`: {failure}", rule.document.name)),
        }
    }
    let there = import.rules.len() - new.len();
    let said = format!(
        "saved {saved} rules and {} channels of tenant `{tenant}`; {there} rules of these names \
         were there already",
        ids.len()
    );
    if failures.is_empty() {
        return Ok(said);
    }
    Err(Failure::failed(format!("{said}; not saved: {}", failures.join("; "))))
}

async fn save(
    (store, tenant): (&Store, &str),
    kept: &HashMap<ChainId, Kept>,
    rule: &ImportedRule,
    channels: &BTreeMap<&str, String>,
) -> Result<(), Failure> {
    let mut document = rule.document.clone();
    // A channel that was not made is told; the rule is worth having without it.
    let ids = rule.document.channels.iter().filter_map(|slug| channels.get(slug.as_str()));
    document.channels = ids.cloned().collect();
    if let Some(kept) = kept.get(&rule.chain) {
        let compiled =
            store.rule_source(tenant, rule.chain, &document).await?.compile(RuleId(0), 1);
        let compiled = compiled.map_err(|error| Failure::failed(error.to_string()))?;
        kept.require(&compiled).map_err(|reason| Failure::failed(reason.to_string()))?;
    }
    let made = store.create_rule(tenant, rule.chain, &document, &Actor::Cli).await?;
    if rule.paused {
        store.pause_rule(tenant, &made.id, &Actor::Cli).await?;
    }
    Ok(())
}

/// The names of the tenant's rules.
async fn names(store: &Store, tenant: &str) -> Result<BTreeSet<String>, Failure> {
    let (mut names, mut page) = (BTreeSet::new(), Page::first(PAGE_LIMIT_MAX));
    loop {
        let rules = store.list_rules(tenant, &RuleFilter::default(), &page).await?;
        let Some(last) = rules.last() else { return Ok(names) };
        page.after = Some(last.id.clone());
        names.extend(rules.into_iter().map(|rule| rule.document.name));
    }
}
