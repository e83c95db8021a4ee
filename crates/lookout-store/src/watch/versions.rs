//! Versions of rules, as the consumer takes them up.

use lookout_types::{ChainId, Height};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{to_count, to_number};
use crate::{Store, StoreError};

/// Versions read at once: most have a source of some kilobytes.
const VERSIONS_PAGE: i64 = 500;
/// Characters of sources read at once, about: with its labels one may have megabytes.
const CHARACTERS_PAGE: i64 = 16 << 20;

const READING: &str = "reading the rules to watch";
const TAKING_UP: &str = "taking up rules";

/// One version of a rule, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleVersion {
    /// Whose it is.
    pub tenant: String,
    /// The rule.
    pub rule_id: String,
    /// From 1.
    pub version: u32,
    /// All that it is compiled from, as JSON.
    pub source: String,
    /// First height that it watches; `None` until it is taken up.
    pub from_height: Option<Height>,
    /// First height that it no longer watches.
    pub until_height: Option<Height>,
    /// Whether it is to end.
    pub retired: bool,
    /// The change that left it like this.
    pub revision: i64,
}

/// The place of a version in the order of changes; the default is before the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct VersionsAfter {
    /// The change.
    pub revision: i64,
    /// The rule.
    pub rule_id: String,
    /// Its version.
    pub version: i64,
}

/// The heights that a version turned out to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenUp {
    /// It watches from a height on.
    Begins {
        /// Whose rule.
        tenant: String,
        /// The rule.
        rule_id: String,
        /// The version.
        version: u32,
        /// The first height.
        from: Height,
    },
    /// It, and every earlier version of the rule on the same chain, ends below a height.
    Ends {
        /// Whose rule.
        tenant: String,
        /// The rule.
        rule_id: String,
        /// The version.
        version: u32,
        /// The first height no longer watched.
        until: Height,
    },
}

impl RuleVersion {
    /// Its place in the order of changes.
    pub fn place(&self) -> VersionsAfter {
        VersionsAfter {
            revision: self.revision,
            rule_id: self.rule_id.clone(),
            version: i64::from(self.version),
        }
    }
}

impl Store {
    /// The number of the last change to any version of any rule.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rules_revision(&self) -> Result<i64, StoreError> {
        let failed = StoreError::database(READING);
        let row = sqlx::query("SELECT revision FROM rule_revision WHERE id = 1")
            .fetch_one(self.pool())
            .await
            .map_err(&failed)?;
        row.try_get("revision").map_err(failed)
    }

    /// Some of a chain's versions that were changed after a place, in the order of the changes, but
    /// those that ended at `final_height` or below. Empty when there are no more.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn rule_versions(
        &self,
        chain: ChainId,
        after: &VersionsAfter,
        final_height: Option<Height>,
    ) -> Result<Vec<RuleVersion>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, rule_id, version, source, from_height, until_height, retired, \
             revision FROM (SELECT p.*, SUM(LENGTH(source)) OVER \
             (ORDER BY revision, rule_id, version) - LENGTH(source) AS before FROM \
             (SELECT tenant_id, rule_id, version, source, from_height, until_height, retired, \
             revision FROM rule_versions WHERE chain_id = $1 AND revision >= $2 \
             AND (revision > $2 OR rule_id > $3 OR (rule_id = $3 AND version > $4)) \
             AND (until_height IS NULL OR until_height > $5) \
             ORDER BY revision, rule_id, version LIMIT $6) AS p) AS q WHERE q.before < $7 \
             ORDER BY revision, rule_id, version",
        )
        .bind(to_number(chain.0)?)
        .bind(after.revision)
        .bind(after.rule_id.clone())
        .bind(after.version)
        .bind(final_height.map_or(Ok(-1), |height| to_number(height.saturating_add(1)))?)
        .bind(VERSIONS_PAGE)
        .bind(CHARACTERS_PAGE)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// Whether a version of a chain ended at `final_height` or below.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn has_ended_versions(
        &self,
        chain: ChainId,
        final_height: Height,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT rule_id FROM rule_versions WHERE chain_id = $1 AND until_height <= $2 LIMIT 1",
        )
        .bind(to_number(chain.0)?)
        .bind(to_number(final_height.saturating_add(1))?)
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        Ok(row.is_some())
    }
}

/// Writes what versions of a chain watch. What is set already stays, but that an end may move down.
///
/// A rule may have been moved: its versions on other chains are theirs to take up, whose heights
/// are others.
pub(super) async fn take_up(
    connection: &mut AnyConnection,
    chain: ChainId,
    taken_up: &[TakenUp],
) -> Result<(), StoreError> {
    let failed = StoreError::database(TAKING_UP);
    let chain = to_number(chain.0)?;
    for each in taken_up {
        let query = match each {
            TakenUp::Begins { tenant, rule_id, version, from } => sqlx::query(
                "UPDATE rule_versions SET from_height = $1 \
                 WHERE tenant_id = $2 AND rule_id = $3 AND version = $4 AND chain_id = $5 \
                 AND from_height IS NULL",
            )
            .bind(to_number(*from)?)
            .bind(tenant.clone())
            .bind(rule_id.clone())
            .bind(i64::from(*version))
            .bind(chain),
            TakenUp::Ends { tenant, rule_id, version, until } => sqlx::query(
                "UPDATE rule_versions SET until_height = $1, \
                 from_height = COALESCE(from_height, $1) \
                 WHERE tenant_id = $2 AND rule_id = $3 AND version <= $4 AND chain_id = $5 \
                 AND (until_height IS NULL OR until_height > $1)",
            )
            .bind(to_number(*until)?)
            .bind(tenant.clone())
            .bind(rule_id.clone())
            .bind(i64::from(*version))
            .bind(chain),
        };
        query.execute(&mut *connection).await.map_err(&failed)?;
    }
    Ok(())
}

fn read(row: &AnyRow) -> Result<RuleVersion, StoreError> {
    let failed = StoreError::database(READING);
    let rule_id: String = row.try_get("rule_id").map_err(&failed)?;
    let version: i64 = row.try_get("version").map_err(&failed)?;
    let version = u32::try_from(version)
        .map_err(|_| StoreError::Corrupt(format!("rule `{rule_id}` has version {version}")))?;
    let height = |column| {
        let height: Option<i64> = row.try_get(column).map_err(&failed)?;
        height.map(to_count).transpose()
    };
    Ok(RuleVersion {
        tenant: row.try_get("tenant_id").map_err(&failed)?,
        rule_id,
        version,
        source: row.try_get("source").map_err(&failed)?,
        from_height: height("from_height")?,
        until_height: height("until_height")?,
        retired: row.try_get::<i16, _>("retired").map_err(&failed)? != 0,
        revision: row.try_get("revision").map_err(&failed)?,
    })
}
