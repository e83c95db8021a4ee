//! Removes for good what was deleted long ago, and history that has grown old.

use lookout_types::UnixMillis;
use serde_json::json;
use sqlx::AnyConnection;

use crate::audit::NewAudit;
use crate::idempotency::IDEMPOTENCY_MAX_AGE_MS;
use crate::{Actor, Store, StoreError};

/// Rows that one transaction removes: a fraction of a second, so that others can write in between.
const CHUNK_ROWS: i64 = 500;

const PURGING: &str = "purging";

/// How old rows must be to go, in milliseconds. `None` keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeAges {
    /// Rules, channels, silences, ABIs and jobs, since they were deleted.
    pub deleted_ms: i64,
    /// Runs of jobs, since they ended.
    pub runs_ms: i64,
    /// Deliveries, since they ended.
    pub deliveries_ms: Option<i64>,
    /// Alerts that are confirmed or retracted, since they were noticed; not while a delivery tells
    /// of them.
    pub alerts_ms: Option<i64>,
}

/// How many rows went, by table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged(Vec<(&'static str, u64)>);

impl Purged {
    /// Tables and rows, those without any included.
    pub fn counts(&self) -> &[(&'static str, u64)] {
        &self.0
    }

    /// All rows.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, rows)| rows).sum()
    }
}

/// What to remove from a table: `$1` is the tenant, `$2` the time before which rows are old, `$3`
/// how many go at once. The statements of a step run in one transaction, the counted one last.
struct Step {
    table: &'static str,
    before: &'static [&'static str],
    delete: &'static str,
}

macro_rules! chunk {
    ($table:literal, $key:literal, $old:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE tenant_id = $1 AND ",
            $key,
            " IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE tenant_id = $1 AND ",
            $old,
            " ORDER BY ",
            $key,
            " LIMIT $3)"
        )
    };
}

/// A version that the rules consumer may still be watching stays, and with it the rule. What a
/// rule once watched stays too while it has alerts: they could not be told again without it.
const RULES: Step = Step {
    table: "rules",
    before: &[],
    delete: chunk!(
        "rules",
        "id",
        "deleted_at < $2 AND NOT EXISTS (SELECT 1 FROM rule_versions v \
         WHERE v.tenant_id = rules.tenant_id AND v.rule_id = rules.id \
         AND v.from_height IS NOT NULL AND v.until_height IS NULL)"
    ),
};
const RULE_VERSIONS: Step = Step {
    table: "rule_versions",
    before: &[],
    delete: "DELETE FROM rule_versions WHERE tenant_id = $1 AND rule_id IN (\
         SELECT DISTINCT v.rule_id FROM rule_versions v WHERE v.tenant_id = $1 \
         AND v.created_at < $2 \
         AND NOT EXISTS (SELECT 1 FROM rules r WHERE r.tenant_id = $1 AND r.id = v.rule_id) \
         AND NOT EXISTS (SELECT 1 FROM alerts a WHERE a.tenant_id = $1 AND a.rule_id = v.rule_id) \
         ORDER BY v.rule_id LIMIT $3)",
};
const RULE_FAILURES: Step = Step {
    table: "rule_failures",
    before: &[],
    delete: "DELETE FROM rule_failures WHERE tenant_id = $1 AND rule_id IN (\
         SELECT DISTINCT f.rule_id FROM rule_failures f WHERE f.tenant_id = $1 \
         AND $2 > 0 \
         AND NOT EXISTS (SELECT 1 FROM rule_versions v \
         WHERE v.tenant_id = $1 AND v.rule_id = f.rule_id) ORDER BY f.rule_id LIMIT $3)",
};
const CHANNELS: Step = Step {
    table: "channels",
    before: &[],
    delete: chunk!(
        "channels",
        "id",
        "deleted_at < $2 AND NOT EXISTS (SELECT 1 FROM deliveries d \
         WHERE d.tenant_id = channels.tenant_id AND d.channel_id = channels.id \
         AND d.ended_at IS NULL)"
    ),
};
const SILENCES: Step =
    Step { table: "silences", before: &[], delete: chunk!("silences", "id", "deleted_at < $2") };
const ABIS: Step =
    Step { table: "abis", before: &[], delete: chunk!("abis", "id", "deleted_at < $2") };
/// With their runs, which are nobody's then.
const JOBS: Step = Step {
    table: "jobs",
    before: &[chunk!(
        "job_runs",
        "id",
        "job IN (SELECT name FROM jobs WHERE tenant_id = $1 AND deleted_at < $2)"
    )],
    delete: chunk!(
        "jobs",
        "name",
        "deleted_at < $2 AND NOT EXISTS (SELECT 1 FROM job_runs r \
         WHERE r.tenant_id = jobs.tenant_id AND r.job = jobs.name)"
    ),
};
const RUNS: Step =
    Step { table: "job_runs", before: &[], delete: chunk!("job_runs", "id", "finished_at < $2") };
const DELIVERIES: Step =
    Step { table: "deliveries", before: &[], delete: chunk!("deliveries", "id", "ended_at < $2") };
const ALERTS: Step = Step {
    table: "alerts",
    before: &[],
    delete: chunk!(
        "alerts",
        "id",
        "created_at < $2 AND state <> 'pending' AND NOT EXISTS (SELECT 1 FROM deliveries d \
         WHERE d.tenant_id = alerts.tenant_id AND d.alert_id = alerts.id)"
    ),
};

impl Store {
    /// Removes a tenant's old rows, some hundred at a time, and every tenant's old idempotency
    /// keys. `go_on` is asked before each chunk and may end the purge early. The audit log has what was
    /// removed, chunk by chunk.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn purge(
        &self,
        tenant: &str,
        ages: &PurgeAges,
        actor: &Actor,
        mut go_on: impl FnMut(&Purged) -> bool + Send,
    ) -> Result<Purged, StoreError> {
        let now = self.now();
        let mut purged = Purged::default();
        // Deliveries before the alerts and channels they hold on to, those before the rules.
        for (step, age_ms) in [
            (&DELIVERIES, ages.deliveries_ms),
            (&ALERTS, ages.alerts_ms),
            (&CHANNELS, Some(ages.deleted_ms)),
            (&SILENCES, Some(ages.deleted_ms)),
            (&RULES, Some(ages.deleted_ms)),
            (&RULE_VERSIONS, Some(ages.deleted_ms)),
            (&RULE_FAILURES, Some(ages.deleted_ms)),
            (&ABIS, Some(ages.deleted_ms)),
            (&RUNS, Some(ages.runs_ms)),
            (&JOBS, Some(ages.deleted_ms)),
        ] {
            let Some(age_ms) = age_ms else { continue };
            purged.0.push((step.table, 0));
            while go_on(&purged) {
                let before = now.saturating_sub(age_ms);
                let rows = self.purge_chunk(step, tenant, before, actor).await?;
                count(&mut purged, rows);
                if rows == 0 {
                    break;
                }
            }
        }
        purged.0.push(("idempotency", 0));
        while go_on(&purged) {
            let rows = self.purge_keys(now).await?;
            count(&mut purged, rows);
            if rows == 0 {
                break;
            }
        }
        Ok(purged)
    }

    /// Removes one chunk; how many rows went.
    async fn purge_chunk(
        &self,
        step: &Step,
        tenant: &str,
        before: UnixMillis,
        actor: &Actor,
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin_write(PURGING).await?;
        let mut rows = 0;
        for statement in step.before {
            rows += delete(&mut tx, statement, tenant, before).await?;
        }
        rows += delete(&mut tx, step.delete, tenant, before).await?;
        if rows > 0 {
            let (detail, target) = (json!({ "rows": rows, "olderThan": before }), step.table);
            let row = NewAudit { tenant, actor, action: "purge", target, detail: &detail };
            self.insert_audit(&mut tx, row, self.now()).await?;
        }
        tx.commit().await.map_err(StoreError::database(PURGING))?;
        Ok(rows)
    }

    async fn purge_keys(&self, now: UnixMillis) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM idempotency WHERE (tenant_id, key) IN (SELECT tenant_id, key \
             FROM idempotency WHERE created_at < $1 ORDER BY tenant_id, key LIMIT $2)",
        )
        .bind(now.saturating_sub(IDEMPOTENCY_MAX_AGE_MS))
        .bind(CHUNK_ROWS)
        .execute(self.pool())
        .await
        .map_err(StoreError::database(PURGING))?;
        Ok(done.rows_affected())
    }
}

fn count(purged: &mut Purged, rows: u64) {
    if let Some((_, of_table)) = purged.0.last_mut() {
        *of_table += rows;
    }
}

async fn delete(
    connection: &mut AnyConnection,
    statement: &'static str,
    tenant: &str,
    before: UnixMillis,
) -> Result<u64, StoreError> {
    let done = sqlx::query(statement)
        .bind(tenant.to_owned())
        .bind(before)
        .bind(CHUNK_ROWS)
        .execute(connection)
        .await
        .map_err(StoreError::database(PURGING))?;
    Ok(done.rows_affected())
}
