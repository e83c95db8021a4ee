//! The jobs that are there without anybody making them.

use std::time::Duration;

use lookout_store::{Actor, PAGE_LIMIT_MAX, Page, Store, StoreError, TENANT_DEFAULT};
use tokio_util::sync::CancellationToken;

/// Between two looks for tenants that came since: their jobs run once a day.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
const ACTOR: Actor = Actor::System("serve");

/// Makes those of each tenant, where it never had them: the clean-up of what it deletes is its own.
/// What serves all tenants is the default one's: balances of the followed chains.
pub(super) async fn ensure(store: &Store, followed: &[String]) -> Result<(), StoreError> {
    let chains = followed.iter().map(String::as_str);
    store.ensure_default_jobs(TENANT_DEFAULT, chains, &ACTOR).await?;
    let mut page = Page::first(PAGE_LIMIT_MAX);
    loop {
        let tenants = store.list_tenants(&page).await?;
        let Some(last) = tenants.last() else { return Ok(()) };
        page.after = Some(last.id.clone());
        for tenant in tenants.iter().filter(|tenant| tenant.deleted_at.is_none()) {
            store.ensure_default_jobs(&tenant.id, std::iter::empty(), &ACTOR).await?;
        }
    }
}

/// Does so again and again, for tenants that come later.
pub(super) async fn keep(store: Store, followed: Vec<String>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        if let Err(error) = ensure(&store, &followed).await {
            tracing::warn!(%error, "cannot look for tenants without their jobs; trying on");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lookout_store::{NewKey, Scopes, StoreUrl};
    use lookout_types::{FixedClock, UnixMillis};

    use super::*;

    const NOW: UnixMillis = 1_760_000_000_000;

    async fn jobs(store: &Store, tenant: &str) -> Vec<String> {
        let jobs = store.list_jobs(tenant, false, &Page::default()).await.unwrap();
        jobs.into_iter().map(|job| job.spec.name).collect()
    }

    #[tokio::test]
    async fn every_tenant_has_its_clean_up_and_the_default_one_the_balances() {
        let clock = Arc::new(FixedClock::at(NOW));
        let store = Store::open(&StoreUrl::SqliteMemory, clock).await.unwrap();
        store.migrate().await.unwrap();
        let key = |tenant: &str| NewKey {
            tenant: tenant.to_owned(),
            name: "test".to_owned(),
            scopes: "*".parse::<Scopes>().unwrap(),
            expires_at: None,
        };
        store.create_key(key("acme"), &Actor::Cli).await.unwrap();
        for _ in 0..2 {
            ensure(&store, &["anvil".to_owned()]).await.unwrap();
            assert_eq!(jobs(&store, TENANT_DEFAULT).await, ["balances-anvil", "purge"]);
            assert_eq!(jobs(&store, "acme").await, ["purge"]);
        }
        // One that was deleted stays so.
        store.delete_job("acme", "purge", &Actor::Cli).await.unwrap();
        ensure(&store, &[]).await.unwrap();
        assert_eq!(jobs(&store, "acme").await, [] as [&str; 0]);
    }
}
