//! Rules as they are read.

use lookout_rules::{Needs, RuleDocument};
use lookout_types::{ChainId, Height, UnixMillis};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::chain_column;
use crate::{Page, Store, StoreError};

const READING: &str = "reading rules";
/// Most reasons of failures read for one page: a rule has about ten, most have none.
const FAILURES_MAX: i64 = 10_000;

/// Whether a rule watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleState {
    /// It does.
    Active,
    /// Not until it is resumed.
    Paused,
    /// Not until it is restored; it goes for good after a while.
    Deleted,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its id.
    pub id: String,
    /// The chain that it watches.
    pub chain: ChainId,
    /// The rule as its owner wrote it.
    pub document: RuleDocument,
    /// The newest version, from 1.
    pub version: u32,
    /// First height that the newest version watches; `None` until it was taken up.
    pub from_height: Option<Height>,
    /// Whether it was paused; a deleted rule keeps it.
    pub paused: bool,
    /// What its owner should know.
    pub notes: Vec<String>,
    /// What has to be read for it besides logs.
    pub needs: Needs,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was changed last.
    pub updated_at: UnixMillis,
    /// When it was deleted; `None` while it is not.
    pub deleted_at: Option<UnixMillis>,
}

/// Which rules of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFilter {
    /// Of this chain; of any when `None`.
    pub chain: Option<ChainId>,
    /// In this state; in any but deleted when `None`.
    pub state: Option<RuleState>,
}

/// Records that a version of a rule had no answer for, by reason.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleFailure {
    /// The rule.
    pub rule_id: String,
    /// The version.
    pub version: u32,
    /// Why.
    pub reason: String,
    /// How many records.
    pub count: u64,
    /// The height of the newest.
    pub last_height: Height,
    /// The newest record.
    pub last_record: Value,
}

impl RuleState {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Deleted => "deleted",
        }
    }
}

impl RuleInfo {
    /// Whether it watches.
    pub fn state(&self) -> RuleState {
        match (self.deleted_at, self.paused) {
            (Some(_), _) => RuleState::Deleted,
            (None, true) => RuleState::Paused,
            (None, false) => RuleState::Active,
        }
    }
}

macro_rules! select_rules {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.chain_id, r.document, r.version, r.paused, r.notes, \
             r.needs_transactions, r.needs_receipts, r.created_at, r.updated_at, r.deleted_at, \
             v.from_height FROM rules r LEFT JOIN rule_versions v \
             ON v.tenant_id = r.tenant_id AND v.rule_id = r.id AND v.version = r.version ",
            $rest
        )
    };
}

impl Store {
    /// Forgets failures of a chain's rules whose reason begins like this.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_rule_failures(
        &self,
        chain: ChainId,
        beginning: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM rule_failures WHERE SUBSTR(reason, 1, LENGTH($2)) = $2 \
             AND rule_id IN (SELECT id FROM rules WHERE chain_id = $1)",
        )
        .bind(
            i64::try_from(chain.0)
                .map_err(|_| StoreError::Invalid(format!("chain id {chain} is above 2^63 - 1")))?,
        )
        .bind(beginning.to_owned())
        .execute(self.pool())
        .await
        .map_err(StoreError::database("forgetting failures of rules"))?;
        Ok(())
    }

    /// One rule of a tenant, deleted ones included.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn get_rule(&self, tenant: &str, id: &str) -> Result<RuleInfo, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(READING))?;
        rule_of(&mut connection, tenant, id).await
    }

    /// The rules of a tenant, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_rules(
        &self,
        tenant: &str,
        filter: &RuleFilter,
        page: &Page,
    ) -> Result<Vec<RuleInfo>, StoreError> {
        let chain = filter.chain.map(chain_column).transpose()?.unwrap_or(-1);
        let paused: i16 = match filter.state {
            Some(RuleState::Paused) => 1,
            Some(RuleState::Active) => 0,
            Some(RuleState::Deleted) | None => -1,
        };
        let query = if filter.state == Some(RuleState::Deleted) {
            select_rules!(
                "WHERE r.tenant_id = $1 AND r.id < $2 AND ($3 < 0 OR r.chain_id = $3) \
                 AND ($4 < 0 OR r.paused = $4) AND r.deleted_at IS NOT NULL \
                 ORDER BY r.id DESC LIMIT $5"
            )
        } else {
            select_rules!(
                "WHERE r.tenant_id = $1 AND r.id < $2 AND ($3 < 0 OR r.chain_id = $3) \
                 AND ($4 < 0 OR r.paused = $4) AND r.deleted_at IS NULL \
                 ORDER BY r.id DESC LIMIT $5"
            )
        };
        let rows = sqlx::query(query)
            .bind(tenant.to_owned())
            .bind(page.below().to_owned())
            .bind(chain)
            .bind(paused)
            .bind(page.limit()?)
            .fetch_all(self.pool())
            .await;
        rows.map_err(StoreError::database(READING))?.iter().map(read).collect()
    }

    /// What the newest versions of rules had no answer for, of those with ids from `first` to `last`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rule_failures(
        &self,
        tenant: &str,
        first: &str,
        last: &str,
    ) -> Result<Vec<RuleFailure>, StoreError> {
        let rows = sqlx::query(
            "SELECT f.rule_id, f.rule_version, f.reason, f.count, f.last_height, f.last_record \
             FROM rule_failures f JOIN rules r ON r.tenant_id = f.tenant_id AND r.id = f.rule_id \
             AND r.version = f.rule_version \
             WHERE f.tenant_id = $1 AND f.rule_id >= $2 AND f.rule_id <= $3 \
             ORDER BY f.rule_id, f.reason LIMIT $4",
        )
        .bind(tenant.to_owned())
        .bind(first.to_owned())
        .bind(last.to_owned())
        .bind(FAILURES_MAX)
        .fetch_all(self.pool())
        .await;
        rows.map_err(StoreError::database(READING))?.iter().map(read_failure).collect()
    }
}

pub(super) fn no_rule(id: &str) -> StoreError {
    StoreError::NotFound { what: "rule", id: id.escape_debug().take(100).collect() }
}

/// A rule within a transaction.
pub(super) async fn rule_of(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<RuleInfo, StoreError> {
    let row = sqlx::query(select_rules!("WHERE r.tenant_id = $1 AND r.id = $2"))
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(READING))?;
    row.as_ref().map_or_else(|| Err(no_rule(id)), read)
}

fn corrupt(what: &str, id: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{what} of rule `{id}`: {error}"))
}

fn read(row: &AnyRow) -> Result<RuleInfo, StoreError> {
    let failed = StoreError::database(READING);
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
    let flag = |column| row.try_get::<i16, _>(column).map(|flag| flag != 0).map_err(&failed);
    let id = text("id")?;
    let document =
        serde_json::from_str(&text("document")?).map_err(|e| corrupt("document", &id, e))?;
    let notes = serde_json::from_str(&text("notes")?).map_err(|e| corrupt("notes", &id, e))?;
    let from_height: Option<i64> = row.try_get("from_height").map_err(&failed)?;
    Ok(RuleInfo {
        chain: ChainId(number("chain_id")?.try_into().map_err(|e| corrupt("chain", &id, e))?),
        document,
        version: number("version")?.try_into().map_err(|e| corrupt("version", &id, e))?,
        from_height: from_height
            .map(u64::try_from)
            .transpose()
            .map_err(|e| corrupt("first height", &id, e))?,
        paused: flag("paused")?,
        notes,
        needs: Needs {
            transactions: flag("needs_transactions")?,
            receipts: flag("needs_receipts")?,
        },
        created_at: number("created_at")?,
        updated_at: number("updated_at")?,
        deleted_at: row.try_get("deleted_at").map_err(&failed)?,
        id,
    })
}

fn read_failure(row: &AnyRow) -> Result<RuleFailure, StoreError> {
    let failed = StoreError::database(READING);
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
    let rule_id = text("rule_id")?;
    let record = text("last_record")?;
    Ok(RuleFailure {
        version: number("rule_version")?
            .try_into()
            .map_err(|e| corrupt("a failure's version", &rule_id, e))?,
        reason: text("reason")?,
        count: number("count")?.try_into().map_err(|e| corrupt("a count", &rule_id, e))?,
        last_height: number("last_height")?
            .try_into()
            .map_err(|e| corrupt("a failure's height", &rule_id, e))?,
        last_record: serde_json::from_str(&record)
            .map_err(|e| corrupt("a failure's record", &rule_id, e))?,
        rule_id,
    })
}
