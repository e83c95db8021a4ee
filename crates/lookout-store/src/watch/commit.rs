//! One transaction per batch of frames.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};

use super::rebuild::Target;
use super::rows::{Bound, Insert};
use super::steps::Writer;
use super::{
    NewRuleFailure, RULES, WATCHED_BLOCKS, WatchChanges, WatchCommit, WatchCommitted, WatchStep,
    WatchedBlock, balances, to_count, to_number, versions, windows,
};
use crate::{Store, StoreError};

const COMMITTING: &str = "committing what rules matched";

impl Store {
    /// Commits what a batch of frames comes to, with the cursor behind it; then tells those who
    /// wait for alerts and deliveries.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is committed then.
    pub async fn commit_watch(&self, commit: &WatchCommit) -> Result<WatchCommitted, StoreError> {
        let failed = StoreError::database(COMMITTING);
        let (chain, now) = (commit.cursor.chain, self.now());
        let mut tx = self.begin_write(COMMITTING).await?;
        let target = match move_cursor(&mut tx, commit).await? {
            Moved::Here(target) => target,
            Moved::Elsewhere(found) => return Ok(WatchCommitted::Elsewhere(found)),
        };
        versions::take_up(&mut tx, chain, &commit.taken_up).await?;
        let revision = next_revision(&mut tx).await?;
        let beside = Writer::beside(self, &mut tx, chain, now);
        let mut writer = Writer { revision, target, ..beside };
        for step in &commit.steps {
            writer.step(step).await?;
        }
        if writer.target.is_some_and(|target| target.is_reached(&commit.cursor)) {
            writer.end_rebuild().await?;
        }
        writer.failures(&commit.failures).await?;
        writer.keep(commit).await?;
        let changes = writer.changes;
        tx.commit().await.map_err(failed)?;
        let WatchChanges { matched, confirmed, retracted, dropped, .. } = changes;
        if matched + confirmed + retracted + dropped > 0 {
            self.signals().alerts.raise();
        }
        if changes.queued > 0 {
            self.signals().deliveries.raise();
        }
        Ok(WatchCommitted::Done(changes))
    }
}

/// Numbers this commit among those that change alerts; the row stays locked to its end.
async fn next_revision(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    let failed = StoreError::database(COMMITTING);
    let row = sqlx::query(
        "UPDATE alert_revision SET revision = revision + 1 WHERE id = 1 RETURNING revision",
    );
    let row = row.fetch_one(connection).await.map_err(&failed)?;
    row.try_get("revision").map_err(failed)
}

/// What became of the cursor.
enum Moved {
    /// It is where it should be; while alerts are rebuilt, this is where it was before.
    Here(Option<Target>),
    /// Another instance has moved it, to this sequence.
    Elsewhere(u64),
}

/// Moves the cursor first, which locks it.
async fn move_cursor(
    connection: &mut AnyConnection,
    commit: &WatchCommit,
) -> Result<Moved, StoreError> {
    let failed = StoreError::database(COMMITTING);
    let chain = to_number(commit.cursor.chain.0)?;
    if commit.after == 0 {
        sqlx::query(
            "INSERT INTO consumers (name, chain_id, sequence) VALUES ($1, $2, 0) \
             ON CONFLICT DO NOTHING",
        )
        .bind(RULES)
        .bind(chain)
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    }
    let (head, lowest) = (commit.cursor.head, lowest(commit));
    let moved = sqlx::query(
        "UPDATE consumers SET sequence = $1, head_height = $2, head_hash = $3, first_time = \
         CASE WHEN first_height IS NULL OR first_height > $4 THEN $10 ELSE first_time END, \
         first_height = \
         CASE WHEN first_height IS NULL OR first_height > $4 THEN $4 ELSE first_height END, \
         base_height = CASE WHEN $8 = 1 THEN $9 ELSE base_height END \
         WHERE name = $5 AND chain_id = $6 AND sequence = $7 \
         RETURNING rebuild_sequence, rebuild_height, rebuild_floor, rebuild_hash",
    )
    .bind(to_number(commit.cursor.sequence)?)
    .bind(head.map(|head| to_number(head.number)).transpose()?)
    .bind(head.map(|head| head.hash.0.to_vec()))
    .bind(lowest.map(|first| to_number(first.block.number)).transpose()?)
    .bind(RULES)
    .bind(chain)
    .bind(to_number(commit.after)?)
    .bind(i64::from(!commit.steps.is_empty()))
    .bind(commit.base.map(to_number).transpose()?)
    .bind(lowest.map(|first| to_number(first.time)).transpose()?)
    .fetch_optional(&mut *connection)
    .await
    .map_err(&failed)?;
    if let Some(row) = moved {
        return Target::read(&row).map(Moved::Here);
    }
    let row = sqlx::query("SELECT sequence FROM consumers WHERE name = $1 AND chain_id = $2")
        .bind(RULES)
        .bind(chain)
        .fetch_optional(connection)
        .await
        .map_err(&failed)?;
    let found: Option<i64> = row.map(|row| row.try_get("sequence")).transpose().map_err(failed)?;
    found.map_or(Ok(0), to_count).map(Moved::Elsewhere)
}

/// The lowest block applied.
fn lowest(commit: &WatchCommit) -> Option<&WatchedBlock> {
    let applied = commit.steps.iter().filter_map(|step| match step {
        WatchStep::Applied { blocks, .. } => blocks.first(),
        WatchStep::Undone { .. } | WatchStep::Read(_) => None,
    });
    applied.min_by_key(|first| first.block.number)
}

impl Writer<'_> {
    /// Counts records without an answer. They are not taken back when their block is undone: the
    /// rule's owner wants to know all the same.
    pub(super) async fn failures(&mut self, failures: &[NewRuleFailure]) -> Result<(), StoreError> {
        if failures.is_empty() {
            return Ok(());
        }
        let rule_ids = failures.iter().map(|failure| failure.rule_id.as_str());
        self.routes.load(self.connection, rule_ids).await?;
        let mut together: BTreeMap<_, (u64, &NewRuleFailure)> = BTreeMap::new();
        for failure in failures {
            let key = (&failure.rule_id, failure.rule_version, &failure.reason);
            let (count, last) = together.entry(key).or_insert((0, failure));
            (*count, *last) = (count.saturating_add(failure.count), failure);
        }
        let insert = Insert {
            before: "INSERT INTO rule_failures \
                     (tenant_id, rule_id, rule_version, reason, count, last_height, last_record)",
            columns: 7,
            after: "ON CONFLICT (tenant_id, rule_id, rule_version, reason) DO UPDATE SET \
                    count = rule_failures.count + excluded.count, \
                    last_height = excluded.last_height, last_record = excluded.last_record",
            doing: "counting failures of rules",
        };
        let rows = together.into_values().filter_map(|(count, failure)| {
            let route = self.routes.get(&failure.rule_id)?;
            Some((route.tenant.as_str(), count, failure))
        });
        let rows: Vec<_> = rows.collect();
        let bind = |query: Bound, (tenant, count, failure): &(&str, u64, &NewRuleFailure)| {
            Ok(query
                .bind((*tenant).to_owned())
                .bind(failure.rule_id.clone())
                .bind(i64::from(failure.rule_version))
                .bind(failure.reason.clone())
                .bind(to_number(*count)?)
                .bind(to_number(failure.height)?)
                .bind(failure.record.clone()))
        };
        insert.run(self.store.engine(), self.connection, &rows, bind).await.map(|_| ())
    }

    /// Keeps the windows, and lets go of what only blocks that are final could bring back.
    async fn keep(&mut self, commit: &WatchCommit) -> Result<(), StoreError> {
        let failed = StoreError::database(COMMITTING);
        let chain = to_number(self.chain.0)?;
        if let Some(windows) = &commit.windows {
            windows::keep(self.store, self.connection, commit, windows).await?;
        }
        if let Some(below) =
            commit.cursor.head.and_then(|head| head.number.checked_sub(WATCHED_BLOCKS))
        {
            sqlx::query("DELETE FROM watched_blocks WHERE chain_id = $1 AND height <= $2")
                .bind(chain)
                .bind(to_number(below)?)
                .execute(&mut *self.connection)
                .await
                .map_err(&failed)?;
        }
        match commit.final_height {
            None => Ok(()),
            Some(height) => balances::prune(self.connection, self.chain, height).await,
        }
    }
}
