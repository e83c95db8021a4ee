//! Labels: named sets of addresses, of which every rule that uses one keeps its own copy.

use lookout_rules::MAX_LIST_ITEMS;
use lookout_types::{Address, UnixMillis};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::audit::NewAudit;
use crate::rules::{lock_revisions, renew};
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{Actor, Page, Store, StoreError};

/// Most labels of one tenant: more than a team can keep in mind.
pub const LABELS_PER_TENANT_MAX: i64 = 1_000;
/// Longest name of a label, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Most addresses that one change may write, over all rules that use the label: about 100 MB of rows,
/// a few seconds.
const ADDRESSES_COPIED_MAX: usize = 2_000_000;

const CHANGING: &str = "changing a label";
const READING: &str = "reading labels";

/// A label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelInfo {
    /// Its name.
    pub name: String,
    /// Its addresses, sorted, each once.
    pub addresses: Vec<Address>,
    /// When it was set last.
    pub updated_at: UnixMillis,
    /// How many rules use it, paused ones included.
    pub rules: u64,
}

macro_rules! select_labels {
    ($rest:literal) => {
        concat!(
            "SELECT l.name, l.addresses, l.updated_at, (SELECT COUNT(*) FROM rule_labels u \
             JOIN rules r ON r.tenant_id = u.tenant_id AND r.id = u.rule_id \
             WHERE u.tenant_id = l.tenant_id AND u.name = l.name AND r.deleted_at IS NULL) AS rules \
             FROM labels l ",
            $rest
        )
    };
}

impl Store {
    /// The labels of a tenant, by name.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_labels(
        &self,
        tenant: &str,
        page: &Page,
    ) -> Result<Vec<LabelInfo>, StoreError> {
        let rows = sqlx::query(select_labels!(
            "WHERE l.tenant_id = $1 AND l.name > $2 ORDER BY l.name LIMIT $3"
        ))
        .bind(tenant.to_owned())
        .bind(page.above().to_owned())
        .bind(page.limit()?)
        .fetch_all(self.pool())
        .await;
        rows.map_err(StoreError::database(READING))?.iter().map(read).collect()
    }

    /// Sets a label, making it when it is unknown. The rules that use it get a new version each, which
    /// watches from the next block on. The same addresses change nothing.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a wrong name or too many addresses, [`StoreError::Limit`] when the
    /// tenant has too many labels or too many rules use this one.
    pub async fn set_label(
        &self,
        tenant: &str,
        name: &str,
        addresses: &[Address],
        actor: &Actor,
    ) -> Result<LabelInfo, StoreError> {
        check_tenant(tenant)?;
        check_name(name)?;
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > MAX_LIST_ITEMS {
            return Err(StoreError::Invalid(format!(
                "a label holds at most {MAX_LIST_ITEMS} addresses, this one has {}; split it",
                addresses.len()
            )));
        }
        let now = self.now();
        let mut tx = self.begin_write(CHANGING).await?;
        lock_revisions(&mut tx).await?;
        if ensure_tenant(&mut tx, tenant, now).await? {
            let (action, detail) = ("tenant.create", json!({}));
            let row = NewAudit { tenant, actor, action, target: tenant, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        let before = find(&mut tx, tenant, name).await?;
        match &before {
            Some(before) if before.addresses == addresses => return Ok(before.clone()),
            Some(_) => {}
            None => check_room(&mut tx, tenant).await?,
        }
        write(&mut tx, tenant, name, &addresses, now).await?;
        let rules = self.renew(&mut tx, tenant, name, addresses.len(), now).await?;
        let detail = json!({ "addresses": addresses.len(), "rulesRenewed": rules });
        let row = NewAudit { tenant, actor, action: "label.set", target: name, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        let after = find(&mut tx, tenant, name).await?;
        tx.commit().await.map_err(StoreError::database(CHANGING))?;
        self.signals().rules.raise();
        after.ok_or_else(|| no_label(name))
    }

    /// Deletes a label for good.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] while a rule uses it.
    pub async fn delete_label(
        &self,
        tenant: &str,
        name: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(CHANGING).await?;
        lock_revisions(&mut tx).await?;
        let label = find(&mut tx, tenant, name).await?.ok_or_else(|| no_label(name))?;
        if label.rules > 0 {
            let users = using(&mut tx, tenant, name, 1).await?;
            let first = users.first().map_or("", |user| user.0.as_str());
            return Err(StoreError::Conflict(format!(
                "label `{name}` is used by {} rules, such as `{first}`; change them first",
                label.rules
            )));
        }
        sqlx::query("DELETE FROM labels WHERE tenant_id = $1 AND name = $2")
            .bind(tenant.to_owned())
            .bind(name.to_owned())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::database(CHANGING))?;
        let detail = json!({ "addresses": label.addresses.len() });
        let row = NewAudit { tenant, actor, action: "label.delete", target: name, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CHANGING))
    }

    /// Gives each rule that watches with a label a version with the label as it is now; how many.
    async fn renew(
        &self,
        connection: &mut AnyConnection,
        tenant: &str,
        name: &str,
        addresses: usize,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let most = ADDRESSES_COPIED_MAX / addresses.max(1);
        let users = using(connection, tenant, name, most.saturating_add(1)).await?;
        if users.len() > most {
            return Err(StoreError::Limit(format!(
                "label `{name}` would have {addresses} addresses and is used by more than {most} \
                 rules; split it, or put its addresses into fewer rules"
            )));
        }
        let watching: Vec<_> = users.into_iter().filter(|(_, paused)| !paused).collect();
        for (id, _) in &watching {
            renew(self, connection, tenant, id, now).await?;
        }
        Ok(watching.len())
    }
}

fn no_label(name: &str) -> StoreError {
    StoreError::NotFound { what: "label", id: name.escape_debug().take(NAME_BYTES_MAX).collect() }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if fits && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "the name of a label has 1 to {NAME_BYTES_MAX} bytes and no control characters"
    )))
}

/// The addresses of a label's row.
pub(crate) fn parse_addresses(name: &str, text: &str) -> Result<Vec<Address>, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt(format!("label `{name}`: {reason}"));
    let texts: Vec<String> = serde_json::from_str(text).map_err(|e| corrupt(e.to_string()))?;
    let parsed = texts.iter().map(|text| text.parse().map_err(|e| corrupt(format!("{text}: {e}"))));
    parsed.collect()
}

fn read(row: &AnyRow) -> Result<LabelInfo, StoreError> {
    let failed = StoreError::database(READING);
    let name: String = row.try_get("name").map_err(&failed)?;
    let addresses: String = row.try_get("addresses").map_err(&failed)?;
    let rules: i64 = row.try_get("rules").map_err(&failed)?;
    Ok(LabelInfo {
        addresses: parse_addresses(&name, &addresses)?,
        updated_at: row.try_get("updated_at").map_err(&failed)?,
        rules: u64::try_from(rules).unwrap_or_default(),
        name,
    })
}

async fn find(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
) -> Result<Option<LabelInfo>, StoreError> {
    let row = sqlx::query(select_labels!("WHERE l.tenant_id = $1 AND l.name = $2"))
        .bind(tenant.to_owned())
        .bind(name.replace('\0', "?"))
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(READING))?;
    row.as_ref().map(read).transpose()
}

async fn check_room(connection: &mut AnyConnection, tenant: &str) -> Result<(), StoreError> {
    let failed = StoreError::database(CHANGING);
    let row = sqlx::query("SELECT COUNT(*) AS labels FROM labels WHERE tenant_id = $1")
        .bind(tenant.to_owned())
        .fetch_one(connection)
        .await
        .map_err(&failed)?;
    let labels: i64 = row.try_get("labels").map_err(failed)?;
    if labels < LABELS_PER_TENANT_MAX {
        return Ok(());
    }
    Err(StoreError::Limit(format!(
        "tenant `{tenant}` has {labels} labels, the most there may be; delete one first"
    )))
}

async fn write(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
    addresses: &[Address],
    now: UnixMillis,
) -> Result<(), StoreError> {
    let texts: Vec<_> = addresses.iter().map(|address| format!("{address:x}")).collect();
    sqlx::query(
        "INSERT INTO labels (tenant_id, name, addresses, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, name) DO UPDATE SET addresses = $3, updated_at = $4",
    )
    .bind(tenant.to_owned())
    .bind(name.to_owned())
    .bind(json!(texts).to_string())
    .bind(now)
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

/// The rules that use a label and are not deleted, with whether they are paused.
async fn using(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
    limit: usize,
) -> Result<Vec<(String, bool)>, StoreError> {
    let failed = StoreError::database(READING);
    let rows = sqlx::query(
        "SELECT r.id, r.paused FROM rule_labels u \
         JOIN rules r ON r.tenant_id = u.tenant_id AND r.id = u.rule_id \
         WHERE u.tenant_id = $1 AND u.name = $2 AND r.deleted_at IS NULL ORDER BY r.id LIMIT $3",
    )
    .bind(tenant.to_owned())
    .bind(name.to_owned())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
    .map_err(&failed)?;
    let users = rows.iter().map(|row| {
        let paused: i16 = row.try_get("paused")?;
        Ok((row.try_get("id")?, paused != 0))
    });
    users.collect::<Result<_, _>>().map_err(failed)
}
