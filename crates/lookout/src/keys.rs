//! `lookout keys`: the operator's own way to API keys.

use lookout_store::{Actor, KeyInfo, NewKey, PAGE_LIMIT_MAX, Page, Store};
use lookout_types::UnixMillis;

use crate::app::App;
use crate::cli::KeysCommand;
use crate::failure::Failure;
use crate::table::columns;

/// Runs one of the key commands and returns what it prints.
pub(crate) async fn run(app: &App, command: KeysCommand) -> Result<String, Failure> {
    let store = app.store(&app.settings()?).await?;
    let output = on_store(&store, app.clock.now(), command).await;
    store.close().await;
    output
}

async fn on_store(store: &Store, now: UnixMillis, command: KeysCommand) -> Result<String, Failure> {
    match command {
        KeysCommand::Create { tenant, scopes, name, expires } => {
            let millis = expires.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
            let expires_at = millis.map(|millis| now.saturating_add(millis));
            let new = NewKey { tenant, name, scopes, expires_at };
            let (_, secret) = store.create_key(new, &Actor::Cli).await?;
            Ok(secret.expose().to_owned())
        }
        KeysCommand::List { tenant } => {
            let keys = all_keys(store, tenant.as_deref()).await?;
            Ok(list(&keys, now))
        }
        KeysCommand::Revoke { id } => {
            let key = store.find_key(&id).await?;
            store.revoke_key(&key.tenant, &key.id, &Actor::Cli).await?;
            Ok(format!("revoked {} of tenant `{}`", key.prefix, key.tenant))
        }
    }
}

async fn all_keys(store: &Store, tenant: Option<&str>) -> Result<Vec<KeyInfo>, Failure> {
    let (mut keys, mut page) = (Vec::new(), Page::first(PAGE_LIMIT_MAX));
    loop {
        let items = store.list_keys(tenant, &page).await?;
        let Some(last) = items.last() else { return Ok(keys) };
        page.after = Some(last.id.clone());
        keys.extend(items);
    }
}

fn list(keys: &[KeyInfo], now: UnixMillis) -> String {
    if keys.is_empty() {
        return "no keys".to_owned();
    }
    let heads = ["ID", "KEY", "TENANT", "NAME", "SCOPES", "CREATED", "EXPIRES", "STATE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(keys.iter().map(|key| {
        vec![
            key.id.clone(),
            format!("{}…", key.prefix),
            key.tenant.clone(),
            key.name.clone(),
            key.scopes.to_string(),
            day(key.created_at),
            key.expires_at.map_or_else(|| "never".to_owned(), day),
            state(key, now).to_owned(),
        ]
    }));
    columns(&rows)
}

fn state(key: &KeyInfo, now: UnixMillis) -> &'static str {
    match key.revoked_at {
        Some(_) => "revoked",
        None if key.is_active(now) => "active",
        None => "expired",
    }
}

/// RFC 3339 in UTC, to the second.
fn day(at: UnixMillis) -> String {
    let whole = at.div_euclid(1000);
    jiff::Timestamp::from_second(whole).map_or_else(|_| whole.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use lookout_store::{Scopes, StoreUrl};
    use lookout_types::FixedClock;

    use super::*;

    const NOW: i64 = 1_760_000_000_000;

    #[tokio::test]
    async fn a_key_is_printed_once_and_listed_without_its_secret() {
        let clock = Arc::new(FixedClock::at(NOW));
        let store = Store::open(&StoreUrl::SqliteMemory, clock).await.unwrap();
        store.migrate().await.unwrap();
        let listed = KeysCommand::List { tenant: None };
        assert_eq!(on_store(&store, NOW, listed).await.unwrap(), "no keys");
        let create = KeysCommand::Create {
            tenant: "acme".to_owned(),
            scopes: Scopes::ALL,
            name: "ci".to_owned(),
            expires: Some(Duration::from_secs(60)),
        };
        let key = on_store(&store, NOW, create).await.unwrap();
        let list = |now| on_store(&store, now, KeysCommand::List { tenant: None });
        let shown = list(NOW).await.unwrap();
        let (prefix, secret) = key.split_at(15);
        assert!(shown.contains(prefix) && !shown.contains(secret), "{shown}");
        assert!(shown.contains("2025-10-09T08:53:20Z  2025-10-09T08:54:20Z  active"), "{shown}");
        assert!(list(NOW + 60_000).await.unwrap().contains("expired"));

        let revoke = |id: &str| on_store(&store, NOW, KeysCommand::Revoke { id: id.to_owned() });
        let said = revoke(prefix).await.unwrap();
        assert_eq!(said, format!("revoked {prefix} of tenant `acme`"));
        assert!(list(NOW).await.unwrap().contains("revoked"));
        let failure = revoke("lk_nothing").await.unwrap_err();
        assert_eq!(failure.to_string(), "no key `lk_nothing`");
        assert_eq!(store.audit_log("acme", &Page::default()).await.unwrap()[0].actor, "cli");
    }
}
