//! What blocks applied or undone do to alerts.

use std::collections::HashSet;

use lookout_types::{ChainId, Height, UnixMillis};
use sqlx::{AnyConnection, Row};

use super::deliveries::{AlertRef, NewDelivery};
use super::rebuild::{Before, Target};
use super::routes::Routes;
use super::rows::{Bound, Insert};
use super::{NewAlert, WatchChanges, WatchedBlock, alert_id, balances, to_number};
use super::{WATCHED_BLOCKS, WatchStep};
use crate::{Store, StoreError};

/// Alerts confirmed at once: bounds what is held of them in memory.
const CONFIRM_PAGE: i64 = 1000;

const WRITING: &str = "writing alerts";
const CONFIRMING: &str = "confirming alerts";
const UNDOING: &str = "undoing alerts";
const BLOCKS: &str = "writing watched blocks";

/// One commit while it is written.
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) connection: &'a mut AnyConnection,
    pub(super) chain: ChainId,
    pub(super) now: UnixMillis,
    pub(super) routes: Routes,
    pub(super) changes: WatchChanges,
    /// Number of this commit among those that change alerts.
    pub(super) revision: i64,
    /// Where the consumer stood before a reset, until it is there again.
    pub(super) target: Option<Target>,
}

/// An alert with all that its row has.
struct AlertRow<'a> {
    alert: &'a NewAlert,
    tenant: &'a str,
    channels: &'a [String],
    id: String,
    occurrence: u64,
    confirms_at: Height,
    confirmed: bool,
}

impl<'a> Writer<'a> {
    /// A writer of what changes no alert.
    pub(super) fn beside(
        store: &'a Store,
        connection: &'a mut AnyConnection,
        chain: ChainId,
        now: UnixMillis,
    ) -> Self {
        let (routes, changes) = (Routes::default(), WatchChanges::default());
        Self { store, connection, chain, now, routes, changes, revision: 0, target: None }
    }
}

impl Writer<'_> {
    pub(super) async fn step(&mut self, step: &WatchStep) -> Result<(), StoreError> {
        match step {
            WatchStep::Applied { blocks, alerts } => self.applied(blocks, alerts).await,
            WatchStep::Undone { from } => self.undone(*from).await,
            WatchStep::Read(taken) => self.read(taken).await,
        }
    }

    async fn applied(
        &mut self,
        blocks: &[WatchedBlock],
        alerts: &[NewAlert],
    ) -> Result<(), StoreError> {
        let (mut blocks, mut alerts) = (blocks, alerts);
        if let Some(target) = self.target {
            let (seen, new) = blocks.split_at(self.first_unseen(target, blocks).await?);
            let Some(first) = new.first() else { return self.apply_run(seen, alerts).await };
            let from = first.block.number;
            let (old, later) = alerts.split_at(alerts.partition_point(|each| each.height < from));
            self.apply_run(seen, old).await?;
            self.end_rebuild().await?;
            (blocks, alerts) = (new, later);
        }
        self.apply_run(blocks, alerts).await
    }

    async fn apply_run(
        &mut self,
        blocks: &[WatchedBlock],
        alerts: &[NewAlert],
    ) -> Result<(), StoreError> {
        let Some(head) = blocks.last().map(|last| last.block.number) else { return Ok(()) };
        self.write_blocks(blocks).await?;
        self.confirm(head).await?;
        if alerts.is_empty() { Ok(()) } else { self.insert(alerts, head).await }
    }

    async fn write_blocks(&mut self, blocks: &[WatchedBlock]) -> Result<(), StoreError> {
        let insert = Insert {
            before: "INSERT INTO watched_blocks (chain_id, height, hash, block_time, undone)",
            columns: 5,
            after: "ON CONFLICT (chain_id, height, hash) DO UPDATE SET undone = 0",
            doing: BLOCKS,
        };
        let chain = to_number(self.chain.0)?;
        let bind = |query: Bound, watched: &WatchedBlock| {
            Ok(query
                .bind(chain)
                .bind(to_number(watched.block.number)?)
                .bind(watched.block.hash.0.to_vec())
                .bind(to_number(watched.time)?)
                .bind(0_i16))
        };
        let keep = usize::try_from(WATCHED_BLOCKS).unwrap_or(usize::MAX);
        let newest = blocks.get(blocks.len().saturating_sub(keep)..).unwrap_or_default();
        insert.run(self.store.engine(), self.connection, newest, bind).await.map(|_| ())
    }

    /// Inserts alerts, confirmed where they need not wait.
    pub(super) async fn insert(
        &mut self,
        alerts: &[NewAlert],
        head: Height,
    ) -> Result<(), StoreError> {
        let rule_ids = alerts.iter().map(|alert| alert.key.rule_id.as_str());
        self.routes.load(self.connection, rule_ids).await?;
        let lowest = alerts.iter().map(|alert| alert.height).min().unwrap_or_default();
        let named = match self.target {
            Some(_) => Names::Again(self.before(lowest).await?),
            None => Names::Next(self.retracted(lowest, head).await?),
        };
        let mut rows = Vec::with_capacity(alerts.len());
        let mut seen = HashSet::with_capacity(alerts.len());
        let mut purged = Vec::new();
        for alert in alerts {
            let (occurrence, id) = named.of(alert);
            // A rule that is purged altogether has nobody to tell.
            let Some(route) = self.routes.get(&alert.key.rule_id) else {
                purged.push(id);
                continue;
            };
            let confirms_at = alert.height.saturating_add(route.confirmations);
            if seen.insert(id.clone()) {
                let (tenant, channels) = (&route.tenant, &route.channels);
                let confirmed = confirms_at <= head;
                rows.push(AlertRow {
                    alert,
                    tenant,
                    channels,
                    id,
                    occurrence,
                    confirms_at,
                    confirmed,
                });
            }
        }
        let connection = &mut *self.connection;
        let new = insert_rows(self.store, connection, self.chain, (self.now, self.revision), &rows)
            .await?;
        if self.target.is_some() {
            return self.stand(&purged, lowest).await;
        }
        let mut deliveries = Vec::new();
        for row in rows.iter().filter(|row| row.confirmed) {
            self.changes.confirmed += 1;
            deliveries.extend(row.channels.iter().map(|channel| NewDelivery {
                tenant: row.tenant.to_owned(),
                alert_id: row.id.clone(),
                channel_id: channel.clone(),
                kind: "alert",
            }));
        }
        self.changes.matched += new;
        self.changes.queued +=
            self.store.queue_deliveries(self.connection, &deliveries, self.now).await?;
        Ok(())
    }

    /// The ids of retracted alerts between two heights: what comes back gets another.
    async fn retracted(
        &mut self,
        low: Height,
        high: Height,
    ) -> Result<HashSet<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM alerts WHERE chain_id = $1 AND state = 'retracted' \
             AND height >= $2 AND height <= $3",
        )
        .bind(to_number(self.chain.0)?)
        .bind(to_number(low)?)
        .bind(to_number(high)?)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(StoreError::database(WRITING))?;
        let id = |row: &sqlx::any::AnyRow| row.try_get("id").map_err(StoreError::database(WRITING));
        rows.iter().map(id).collect()
    }

    /// Confirms what has waited long enough, and queues its deliveries.
    async fn confirm(&mut self, head: Height) -> Result<(), StoreError> {
        let (chain, head) = (to_number(self.chain.0)?, to_number(head)?);
        // What is confirmed during a rebuild was told when it was first. Alerts of readings stand
        // through a rebuild, so the heads that pass again, also of branches left since, are none of
        // theirs.
        let most_reading = i64::from(self.target.is_none());
        if self.target.is_none() {
            self.tell_confirmed(chain, head).await?;
        }
        let done = sqlx::query(
            "UPDATE alerts SET state = 'confirmed', confirmed_at = COALESCE(confirmed_at, $3), \
             changed = CASE WHEN confirmed_at IS NULL THEN \
             (SELECT revision FROM alert_revision WHERE id = 1) ELSE changed END \
             WHERE chain_id = $1 AND state = 'pending' AND confirms_at <= $2 AND replayed = 1 \
             AND is_reading <= $4",
        )
        .bind(chain)
        .bind(head)
        .bind(self.now)
        .bind(most_reading)
        .execute(&mut *self.connection)
        .await
        .map_err(StoreError::database(CONFIRMING))?;
        if self.target.is_none() {
            self.changes.confirmed += done.rows_affected();
        }
        Ok(())
    }

    /// Queues the deliveries of what is about to be confirmed.
    async fn tell_confirmed(&mut self, chain: i64, head: i64) -> Result<(), StoreError> {
        let failed = StoreError::database(CONFIRMING);
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT tenant_id, id, rule_id FROM alerts \
                 WHERE chain_id = $1 AND state = 'pending' AND confirms_at <= $2 \
                 AND replayed = 1 AND id > $3 ORDER BY id LIMIT $4",
            )
            .bind(chain)
            .bind(head)
            .bind(after.clone())
            .bind(CONFIRM_PAGE)
            .fetch_all(&mut *self.connection)
            .await
            .map_err(&failed)?;
            let mut due = Vec::with_capacity(rows.len());
            for row in &rows {
                let tenant = row.try_get("tenant_id").map_err(&failed)?;
                let id: String = row.try_get("id").map_err(&failed)?;
                after.clone_from(&id);
                let rule_id: String = row.try_get("rule_id").map_err(&failed)?;
                due.push((rule_id, AlertRef { tenant, id }));
            }
            self.routes.load(self.connection, due.iter().map(|(rule, _)| rule.as_str())).await?;
            let mut deliveries = Vec::new();
            for (rule_id, alert) in &due {
                let Some(route) = self.routes.get(rule_id) else { continue };
                deliveries.extend(route.channels.iter().map(|channel| NewDelivery {
                    tenant: alert.tenant.clone(),
                    alert_id: alert.id.clone(),
                    channel_id: channel.clone(),
                    kind: "alert",
                }));
            }
            let store = self.store;
            self.changes.queued +=
                store.queue_deliveries(self.connection, &deliveries, self.now).await?;
            if i64::try_from(rows.len()).unwrap_or(i64::MAX) < CONFIRM_PAGE {
                return Ok(());
            }
        }
    }

    /// All alerts of the followed chain from a height on are of blocks undone.
    async fn undone(&mut self, from: Height) -> Result<(), StoreError> {
        if self.target.is_none() {
            balances::undo(self.connection, self.chain, from).await?;
        }
        sqlx::query("UPDATE watched_blocks SET undone = 1 WHERE chain_id = $1 AND height >= $2")
            .bind(to_number(self.chain.0)?)
            .bind(to_number(from)?)
            .execute(&mut *self.connection)
            .await
            .map_err(StoreError::database(BLOCKS))?;
        if self.target.is_some() { self.undo_quietly(from).await } else { self.retract(from).await }
    }

    /// Takes back alerts from a height on: what was confirmed is retracted where it was told, what
    /// was not goes without a trace.
    async fn retract(&mut self, from: Height) -> Result<(), StoreError> {
        let failed = StoreError::database(UNDOING);
        let (chain, from) = (to_number(self.chain.0)?, to_number(from)?);
        let rows = sqlx::query(
            "SELECT tenant_id, id FROM alerts WHERE chain_id = $1 AND height >= $2 \
             AND state = 'confirmed' AND replayed = 1",
        )
        .bind(chain)
        .bind(from)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(&failed)?;
        let mut gone = Vec::with_capacity(rows.len());
        for row in &rows {
            let tenant = row.try_get("tenant_id").map_err(&failed)?;
            gone.push(AlertRef { tenant, id: row.try_get("id").map_err(&failed)? });
        }
        let store = self.store;
        let withdrawn = store.withdraw(self.connection, &gone, self.now).await?;
        let retract = sqlx::query(
            "UPDATE alerts SET state = 'retracted', retracted_at = $3, \
             changed = (SELECT revision FROM alert_revision WHERE id = 1) WHERE chain_id = $1 \
             AND height >= $2 AND state = 'confirmed' AND replayed = 1",
        );
        let retracted =
            retract.bind(chain).bind(from).bind(self.now).execute(&mut *self.connection);
        self.changes.retracted += retracted.await.map_err(&failed)?.rows_affected();
        let drop = sqlx::query(
            "DELETE FROM alerts WHERE chain_id = $1 \
             AND height >= $2 AND state = 'pending' AND replayed = 1",
        );
        let dropped = drop.bind(chain).bind(from).execute(&mut *self.connection).await;
        self.changes.dropped += dropped.map_err(&failed)?.rows_affected();
        self.changes.queued += withdrawn.queued;
        self.changes.cancelled += withdrawn.cancelled;
        Ok(())
    }
}

/// What is known of earlier alerts where new ones are named.
enum Names {
    /// The ids of retracted alerts: what comes back gets the next.
    Next(HashSet<String>),
    /// The alerts of before a reset: what comes again gets the one that stood.
    Again(Before),
}

impl Names {
    /// Occurrence and id of an alert.
    fn of(&self, alert: &NewAlert) -> (u64, String) {
        let mut occurrence = 1;
        let mut id = alert_id(&alert.key, occurrence);
        loop {
            let following = alert_id(&alert.key, occurrence + 1);
            let is_taken = match self {
                Self::Next(retracted) => retracted.contains(&id),
                Self::Again(before) => {
                    before.get(&id).copied().unwrap_or(false) && before.contains_key(&following)
                }
            };
            if !is_taken {
                return (occurrence, id);
            }
            (occurrence, id) = (occurrence + 1, following);
        }
    }
}

async fn insert_rows(
    store: &Store,
    connection: &mut AnyConnection,
    chain: ChainId,
    (now, revision): (UnixMillis, i64),
    rows: &[AlertRow<'_>],
) -> Result<u64, StoreError> {
    let insert = Insert {
        before: "INSERT INTO alerts (tenant_id, id, rule_id, rule_version, rule_name, chain_id, \
                 height, block_hash, block_time, record, occurrence, text, spans, facts, \
                 confirms_at, state, created_at, confirmed_at, replayed, is_reading, changed)",
        columns: 21,
        // One that waited before a reset waits on as it did, whatever the rule asks for by now: during
        // a rebuild nobody would be told.
        after: "ON CONFLICT (tenant_id, id) DO UPDATE SET replayed = 1, \
                state = CASE WHEN alerts.confirmed_at IS NULL THEN alerts.state \
                ELSE excluded.state END, \
                rule_name = excluded.rule_name, text = excluded.text, spans = excluded.spans, \
                facts = excluded.facts, \
                confirms_at = CASE WHEN alerts.confirmed_at IS NULL THEN alerts.confirms_at \
                ELSE excluded.confirms_at END WHERE alerts.replayed = 0",
        doing: WRITING,
    };
    let chain = to_number(chain.0)?;
    let bind = |query: Bound, row: &AlertRow<'_>| {
        let alert = row.alert;
        Ok(query
            .bind(row.tenant.to_owned())
            .bind(row.id.clone())
            .bind(alert.key.rule_id.clone())
            .bind(i64::from(alert.key.rule_version))
            .bind(alert.rule_name.clone())
            .bind(chain)
            .bind(to_number(alert.height)?)
            .bind(alert.key.block_hash.0.to_vec())
            .bind(to_number(alert.key.block_time)?)
            .bind(alert.record.clone())
            .bind(to_number(row.occurrence)?)
            .bind(alert.text.clone())
            .bind(alert.spans.clone())
            .bind(alert.facts.clone())
            .bind(to_number(row.confirms_at)?)
            .bind(if row.confirmed { "confirmed" } else { "pending" })
            .bind(now)
            .bind(row.confirmed.then_some(now))
            .bind(1_i16)
            .bind(i16::from(alert.is_reading))
            .bind(revision))
    };
    insert.run(store.engine(), connection, rows, bind).await
}
