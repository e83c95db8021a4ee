//! Versions of rules: what matchers read.

use lookout_rules::RuleSource;
use lookout_types::UnixMillis;
use sqlx::{AnyConnection, Row};

use super::{CHANGING, chain_column, source};
use crate::StoreError;

/// A version to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) version: u32,
    pub(super) now: UnixMillis,
}

/// Lets one change of versions follow the other until the transaction ends. Taken before anything
/// else is read, so that what is read stays as it is.
pub(crate) async fn lock_revisions(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE rule_revision SET revision = revision WHERE id = 1")
        .execute(connection)
        .await
        .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

async fn next_revision(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    let failed = StoreError::database(CHANGING);
    let row = sqlx::query(
        "UPDATE rule_revision SET revision = revision + 1 WHERE id = 1 RETURNING revision",
    )
    .fetch_one(connection)
    .await
    .map_err(&failed)?;
    row.try_get("revision").map_err(failed)
}

/// Writes a version that watches as soon as a matcher takes it up.
pub(super) async fn insert_version(
    connection: &mut AnyConnection,
    tenant: &str,
    rule: &str,
    of: &RuleSource,
    Version { version, now }: Version,
) -> Result<(), StoreError> {
    let revision = next_revision(connection).await?;
    sqlx::query(
        "INSERT INTO rule_versions \
         (tenant_id, rule_id, version, chain_id, source, retired, revision, created_at) \
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7)",
    )
    .bind(tenant.to_owned())
    .bind(rule.to_owned())
    .bind(i64::from(version))
    .bind(chain_column(of.chain)?)
    .bind(source::json_text(of)?)
    .bind(revision)
    .bind(now)
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

/// Retires the version that watches, if one does.
pub(super) async fn retire(
    connection: &mut AnyConnection,
    tenant: &str,
    rule: &str,
) -> Result<(), StoreError> {
    let revision = next_revision(connection).await?;
    sqlx::query(
        "UPDATE rule_versions SET retired = 1, revision = $1 \
         WHERE tenant_id = $2 AND rule_id = $3 AND retired = 0",
    )
    .bind(revision)
    .bind(tenant.to_owned())
    .bind(rule.to_owned())
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

/// What a version is compiled from; `None` when there is no such version.
pub(super) async fn watched_source(
    connection: &mut AnyConnection,
    tenant: &str,
    rule: &str,
    version: u32,
) -> Result<Option<RuleSource>, StoreError> {
    let failed = StoreError::database(CHANGING);
    let row = sqlx::query(
        "SELECT source FROM rule_versions \
         WHERE tenant_id = $1 AND rule_id = $2 AND version = $3 AND retired = 0",
    )
    .bind(tenant.to_owned())
    .bind(rule.to_owned())
    .bind(i64::from(version))
    .fetch_optional(connection)
    .await
    .map_err(&failed)?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get("source").map_err(failed)?;
    let source: RuleSource = serde_json::from_str(&text).map_err(|error| {
        StoreError::Corrupt(format!("source of version {version} of rule `{rule}`: {error}"))
    })?;
    // Some of before have the whole ABI.
    Ok(Some(source.narrowed()))
}
