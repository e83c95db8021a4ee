//! Rules: what tenants watch, with every version that was ever watched.
//!
//! Each change first takes the one row of `rule_revision`, so that changes commit one after the
//! other, in the order of their revisions, and what a version is compiled from is read while nothing
//! else can change it.

mod read;
mod source;
mod versions;
mod windows;

use lookout_rules::{RuleDocument, RuleError, RuleSource};
use lookout_types::{ChainId, UnixMillis};
use serde_json::json;
use sqlx::{Any, AnyConnection, Row, Transaction};

use crate::audit::NewAudit;
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{Actor, Store, StoreError};

pub use read::{RuleFailure, RuleFilter, RuleInfo, RuleState};
pub(crate) use versions::lock_revisions;

use read::rule_of;
use source::compile;
use versions::{Version, insert_version};

/// Most rules of one tenant: what the matcher was measured with, a hundred times what people write
/// by hand.
pub const RULES_PER_TENANT_MAX: i64 = 100_000;

const CHANGING: &str = "changing a rule";

/// What a change does to a rule that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Pause,
    Resume,
    Delete,
    Restore,
}

impl Change {
    fn action(self) -> &'static str {
        match self {
            Self::Pause => "rule.pause",
            Self::Resume => "rule.resume",
            Self::Delete => "rule.delete",
            Self::Restore => "rule.restore",
        }
    }

    /// The state after it; `None` when it changes nothing.
    fn after(self, rule: &RuleInfo) -> Result<Option<Standing>, StoreError> {
        let before = Standing { paused: rule.paused, deleted: rule.deleted_at.is_some() };
        let after = match self {
            Self::Pause | Self::Resume if before.deleted => return Err(is_deleted(&rule.id)),
            Self::Pause => Standing { paused: true, ..before },
            Self::Resume => Standing { paused: false, ..before },
            Self::Delete => Standing { deleted: true, ..before },
            Self::Restore => Standing { deleted: false, ..before },
        };
        Ok((after != before).then_some(after))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    paused: bool,
    deleted: bool,
}

impl Standing {
    fn watches(self) -> bool {
        !self.paused && !self.deleted
    }
}

impl Store {
    /// Saves a new rule, which watches from the next block on, and makes its tenant when that is
    /// unknown. `chain` is the one that the document names.
    ///
    /// # Errors
    /// [`StoreError::Rule`] when it does not compile, or its ABI or a channel is unknown;
    /// [`StoreError::Limit`] when the tenant has too many.
    pub async fn create_rule(
        &self,
        tenant: &str,
        chain: ChainId,
        document: &RuleDocument,
        actor: &Actor,
    ) -> Result<RuleInfo, StoreError> {
        check_tenant(tenant)?;
        let now = self.now();
        let id = self.next_id(now);
        let mut tx = self.begin_write(CHANGING).await?;
        lock_revisions(&mut tx).await?;
        if ensure_tenant(&mut tx, tenant, now).await? {
            let (action, detail) = ("tenant.create", json!({}));
            let row = NewAudit { tenant, actor, action, target: tenant, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        check_room(&mut tx, tenant).await?;
        let source = self.source_in(&mut tx, tenant, chain, document).await?;
        let compiled = compile(&source, &id, 1)?;
        check_channels(&mut tx, tenant, document).await?;
        insert_rule(&mut tx, tenant, &id, &source, &compiled, now).await?;
        set_labels(&mut tx, tenant, &id, document).await?;
        insert_version(&mut tx, tenant, &id, &source, Version { version: 1, now }).await?;
        let detail = json!({ "name": document.name, "chain": document.chain, "version": 1 });
        let row = NewAudit { tenant, actor, action: "rule.create", target: &id, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        windows::check(&mut tx, tenant, &id).await?;
        self.end(tx, tenant, &id).await
    }

    /// Replaces a rule's document. What is watched gets a new version when it differs; channels and
    /// confirmations change without one. The same document changes nothing, but takes up an ABI that
    /// was replaced.
    ///
    /// # Errors
    /// As [`Store::create_rule`]; [`StoreError::NotFound`] for an unknown id and for another
    /// tenant's, [`StoreError::Conflict`] for a deleted rule.
    pub async fn update_rule(
        &self,
        tenant: &str,
        id: &str,
        chain: ChainId,
        document: &RuleDocument,
        actor: &Actor,
    ) -> Result<RuleInfo, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(CHANGING).await?;
        lock_revisions(&mut tx).await?;
        let before = rule_of(&mut tx, tenant, id).await?;
        if before.deleted_at.is_some() {
            return Err(is_deleted(id));
        }
        let source = self.source_in(&mut tx, tenant, chain, document).await?;
        let next = before.version + 1;
        let compiled = compile(&source, id, next)?;
        check_channels(&mut tx, tenant, document).await?;
        let watched = match before.paused {
            true => None,
            false => versions::watched_source(&mut tx, tenant, id, before.version).await?,
        };
        let renewed = watched.is_some_and(|watched| !same(&watched, &source));
        if !renewed && before.document == *document && before.chain == chain {
            return Ok(before);
        }
        if renewed {
            versions::retire(&mut tx, tenant, id).await?;
            insert_version(&mut tx, tenant, id, &source, Version { version: next, now }).await?;
        }
        let version = if renewed { next } else { before.version };
        let info = RuleRow { source: &source, compiled: &compiled, version };
        update_rule(&mut tx, tenant, id, &info, now).await?;
        set_labels(&mut tx, tenant, id, document).await?;
        let detail = json!({ "name": document.name, "chain": document.chain, "version": version });
        let row = NewAudit { tenant, actor, action: "rule.update", target: id, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        windows::check(&mut tx, tenant, id).await?;
        self.end(tx, tenant, id).await
    }

    /// Stops a rule until it is resumed. Pausing it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] for a deleted rule.
    pub async fn pause_rule(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<RuleInfo, StoreError> {
        self.change(tenant, id, actor, Change::Pause).await
    }

    /// Lets a paused rule watch again, from the next block on, as a new version with the labels and
    /// the ABI of now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] for a deleted rule; [`StoreError::Rule`]
    /// when what it refers to is gone.
    pub async fn resume_rule(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<RuleInfo, StoreError> {
        self.change(tenant, id, actor, Change::Resume).await
    }

    /// Stops a rule and hides it from lists. Deleting it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn delete_rule(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<RuleInfo, StoreError> {
        self.change(tenant, id, actor, Change::Delete).await
    }

    /// Brings a deleted rule back as it was: watching, as a new version, or paused.
    ///
    /// # Errors
    /// As [`Store::resume_rule`]; [`StoreError::Limit`] when the tenant has too many.
    pub async fn restore_rule(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<RuleInfo, StoreError> {
        self.change(tenant, id, actor, Change::Restore).await
    }

    async fn change(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
        change: Change,
    ) -> Result<RuleInfo, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(CHANGING).await?;
        lock_revisions(&mut tx).await?;
        let before = rule_of(&mut tx, tenant, id).await?;
        let Some(after) = change.after(&before)? else { return Ok(before) };
        if change == Change::Restore {
            check_room(&mut tx, tenant).await?;
        }
        let mut version = before.version;
        if after.watches() {
            version += 1;
            let document = &before.document;
            let source = self.source_in(&mut tx, tenant, before.chain, document).await?;
            let compiled = compile(&source, id, version)?;
            insert_version(&mut tx, tenant, id, &source, Version { version, now }).await?;
            let row = RuleRow { source: &source, compiled: &compiled, version };
            update_rule(&mut tx, tenant, id, &row, now).await?;
        } else {
            versions::retire(&mut tx, tenant, id).await?;
        }
        sqlx::query(
            "UPDATE rules SET paused = $1, deleted_at = $2, updated_at = $3 \
             WHERE tenant_id = $4 AND id = $5",
        )
        .bind(i16::from(after.paused))
        .bind(after.deleted.then_some(now))
        .bind(now)
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(CHANGING))?;
        let (action, detail) = (change.action(), json!({ "version": version }));
        let row = NewAudit { tenant, actor, action, target: id, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        windows::check(&mut tx, tenant, id).await?;
        self.end(tx, tenant, id).await
    }

    /// Commits, wakes the matchers, and gives the rule as it is now.
    async fn end(
        &self,
        mut tx: Transaction<'static, Any>,
        tenant: &str,
        id: &str,
    ) -> Result<RuleInfo, StoreError> {
        let info = rule_of(&mut tx, tenant, id).await?;
        tx.commit().await.map_err(StoreError::database(CHANGING))?;
        self.signals().rules.raise();
        Ok(info)
    }
}

/// Gives a rule that watches a new version, with what it refers to as it is now.
pub(crate) async fn renew(
    store: &Store,
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let rule = rule_of(connection, tenant, id).await?;
    let source = store.source_in(connection, tenant, rule.chain, &rule.document).await?;
    let version = rule.version + 1;
    let compiled = compile(&source, id, version)?;
    versions::retire(connection, tenant, id).await?;
    insert_version(connection, tenant, id, &source, Version { version, now }).await?;
    let row = RuleRow { source: &source, compiled: &compiled, version };
    update_rule(connection, tenant, id, &row, now).await
}

fn is_deleted(id: &str) -> StoreError {
    StoreError::Conflict(format!("rule `{id}` is deleted; restore it first"))
}

/// Whether two sources have the same matches.
fn same(a: &RuleSource, b: &RuleSource) -> bool {
    a.chain == b.chain
        && a.abi == b.abi
        && a.labels == b.labels
        && a.document.watched() == b.document.watched()
}

async fn check_room(connection: &mut AnyConnection, tenant: &str) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS rules FROM rules WHERE tenant_id = $1 AND deleted_at IS NULL",
    )
    .bind(tenant.to_owned())
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    let rules: i64 = row.try_get("rules").map_err(StoreError::database(CHANGING))?;
    if rules < RULES_PER_TENANT_MAX {
        return Ok(());
    }
    Err(StoreError::Limit(format!(
        "tenant `{tenant}` has {rules} rules, the most there may be; delete one first"
    )))
}

/// A channel that was deleted is refused as well: nobody would hear of the alerts.
async fn check_channels(
    connection: &mut AnyConnection,
    tenant: &str,
    document: &RuleDocument,
) -> Result<(), StoreError> {
    for channel in &document.channels {
        let known = sqlx::query(
            "SELECT id FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
        )
        .bind(tenant.to_owned())
        // Postgres refuses a zero byte with an error of its own; no id has one.
        .bind(channel.replace('\0', "?"))
        .fetch_optional(&mut *connection)
        .await
        .map_err(StoreError::database(CHANGING))?;
        if known.is_none() {
            let shown: String = channel.escape_debug().take(80).collect();
            return Err(StoreError::Rule(RuleError::Invalid(format!(
                "there is no channel `{shown}`; make it first, or leave it out of `channels`"
            ))));
        }
    }
    Ok(())
}

/// What a rule's row says of what is watched.
struct RuleRow<'a> {
    source: &'a RuleSource,
    compiled: &'a lookout_rules::Rule,
    version: u32,
}

async fn insert_rule(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    source: &RuleSource,
    compiled: &lookout_rules::Rule,
    now: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, channels, \
         confirmations, notes, needs_transactions, needs_receipts, created_at, updated_at) \
         VALUES ($1, $2, '', 0, '', 0, 0, '[]', 0, '[]', 0, 0, $3, $3)",
    )
    .bind(tenant.to_owned())
    .bind(id.to_owned())
    .bind(now)
    .execute(&mut *connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    update_rule(connection, tenant, id, &RuleRow { source, compiled, version: 1 }, now).await
}

async fn update_rule(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    row: &RuleRow<'_>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let RuleRow { source, compiled, version } = row;
    let document = &source.document;
    let needs = compiled.needs();
    sqlx::query(
        "UPDATE rules SET name = $1, chain_id = $2, document = $3, version = $4, channels = $5, \
         confirmations = $6, notes = $7, needs_transactions = $8, needs_receipts = $9, \
         updated_at = $10, window_s = $13 WHERE tenant_id = $11 AND id = $12",
    )
    .bind(document.name.clone())
    .bind(chain_column(source.chain)?)
    .bind(source::json_text(document)?)
    .bind(i64::from(*version))
    .bind(source::json_text(&document.channels)?)
    .bind(i64::try_from(document.confirmations).unwrap_or(i64::MAX))
    .bind(source::json_text(&compiled.notes())?)
    .bind(i16::from(needs.transactions))
    .bind(i16::from(needs.receipts))
    .bind(now)
    .bind(tenant.to_owned())
    .bind(id.to_owned())
    .bind(windows::length_s(document))
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

fn chain_column(chain: ChainId) -> Result<i64, StoreError> {
    i64::try_from(chain.0)
        .map_err(|_| StoreError::Invalid(format!("chain id {chain} is above 2^63 - 1")))
}

async fn set_labels(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    document: &RuleDocument,
) -> Result<(), StoreError> {
    let failed = StoreError::database(CHANGING);
    sqlx::query("DELETE FROM rule_labels WHERE tenant_id = $1 AND rule_id = $2")
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    for name in document.label_names() {
        sqlx::query("INSERT INTO rule_labels (tenant_id, name, rule_id) VALUES ($1, $2, $3)")
            .bind(tenant.to_owned())
            .bind(name)
            .bind(id.to_owned())
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
    }
    Ok(())
}
