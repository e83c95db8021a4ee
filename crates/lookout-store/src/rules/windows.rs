//! How much windows may remember together: an entry for each block with records, as long as they last.

use lookout_rules::{RuleDocument, WindowDocument};
use sqlx::{AnyConnection, Row};

use super::CHANGING;
use crate::StoreError;

/// Days that the windows of a tenant's rules on one chain last at most together: 170 MB where blocks
/// come every 12 s, all of them have records for all rules. Or a hundred thousand windows of five
/// minutes.
const WINDOW_DAYS_MAX: i64 = 366;
const DAY_S: i64 = 86_400;

/// The seconds over which a rule takes records together. A silence remembers one time alone.
pub(super) fn length_s(document: &RuleDocument) -> i64 {
    match &document.window {
        Some(WindowDocument::Count { over, .. } | WindowDocument::Sum { over, .. }) => {
            i64::try_from(over.0).unwrap_or(i64::MAX)
        }
        Some(WindowDocument::Silence { .. }) | None => 0,
    }
}

/// Refuses a rule whose window is too much beside those that watch the same chain already.
pub(super) async fn check(
    connection: &mut AnyConnection,
    tenant: &str,
    rule: &str,
) -> Result<(), StoreError> {
    let failed = StoreError::database(CHANGING);
    let row = sqlx::query(
        "SELECT CAST(SUM(r.window_s) AS BIGINT) AS seconds FROM rules o \
         JOIN rules r ON r.tenant_id = o.tenant_id AND r.chain_id = o.chain_id \
         WHERE o.tenant_id = $1 AND o.id = $2 AND o.window_s > 0 AND o.paused = 0 \
         AND o.deleted_at IS NULL AND r.window_s > 0 AND r.paused = 0 AND r.deleted_at IS NULL",
    )
    .bind(tenant.to_owned())
    .bind(rule.to_owned())
    .fetch_one(connection)
    .await
    .map_err(&failed)?;
    let seconds: Option<i64> = row.try_get("seconds").map_err(failed)?;
    let seconds = seconds.unwrap_or(0);
    if seconds <= WINDOW_DAYS_MAX * DAY_S {
        return Ok(());
    }
    let days = (seconds - 1) / DAY_S + 1;
    Err(StoreError::Limit(format!(
        "with this rule the windows of tenant `{tenant}` on its chain would last {days} days together, \
         the limit is {WINDOW_DAYS_MAX}; shorten them, or pause rules"
    )))
}
