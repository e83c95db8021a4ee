//! Leasing a parcel: pick what is due, decide, pace, mark.

use std::collections::HashMap;

use lookout_types::{ChainId, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::plan::{ActiveSilence, Candidate, CandidateAlert, Given, Told, plan};
use super::settle::{IDS_PER_STATEMENT, change_in_chunks, values};
use super::{Lease, LeaseAsk, Leased, LeasedItem, LeasedParcel, Leasing};
use crate::alerts::{self, select_alerts};
use crate::{DeliveryKind, Store, StoreError, pacing};

/// Fewest rows looked at: where a parcel holds one delivery, silenced ones still go in bulk.
const LOOK_MIN: usize = 100;
/// Most rows looked at.
const LOOK_MAX: usize = 5_000;
/// Most silences of a tenant that are looked at; far above what it may have.
const SILENCES_MAX: i64 = 1_000;

const LEASING: &str = "leasing deliveries";

/// How a channel may be sent to.
struct Gate {
    revision: i64,
    failures: i64,
    /// Only tests are sent.
    tests: bool,
}

impl Store {
    /// Leases what is due on a channel, as one parcel, if its destinations are ready. Silenced and
    /// overtaken deliveries are ended on the way.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is changed then.
    pub async fn lease_parcel(&self, ask: LeaseAsk<'_>) -> Result<Leasing, StoreError> {
        if let Some(at) = self.not_ready(ask.turns).await? {
            return Ok(Leased::NotBefore(at).into());
        }
        let mut tx = self.begin_write(LEASING).await?;
        let now = self.shared_now(&mut tx).await?;
        let gate = match self.check_channel(&mut tx, ask, now).await? {
            Ok(gate) => gate,
            Err(answer) => return Ok(answer.into()),
        };
        let candidates = self.pick(&mut tx, ask, gate.tests, now).await?;
        if candidates.is_empty() {
            return Ok(Leased::Nothing.into());
        }
        let silences = match candidates.iter().any(|c| c.kind == DeliveryKind::Alert) {
            true => active_silences(&mut tx, ask.tenant, now).await?,
            false => Vec::new(),
        };
        let given = Given {
            channel: ask.channel,
            silences: &silences,
            items_max: ask.items_max.max(1),
            chars_max: ask.chars_max,
            now,
        };
        let mut decided = plan(&candidates, &given);
        end(&mut tx, ask.tenant, &decided.ended, now).await?;
        postpone(&mut tx, ask.tenant, &decided.waiting).await?;
        let Some(kind) = decided.kind else {
            tx.commit().await.map_err(StoreError::database(LEASING))?;
            return Ok(decided.with(Leased::Again));
        };
        if !pacing::take(&mut tx, ask.turns, now).await? {
            // Another instance was faster; all of this is decided again.
            return Ok(Leased::NotBefore(now + 1).into());
        }
        let lease = Lease {
            tenant: ask.tenant.to_owned(),
            channel: ask.channel.to_owned(),
            token: self.next_id(now),
            until: now.saturating_add(ask.lease_ms),
            revision: gate.revision,
            failures: gate.failures,
        };
        let chosen: Vec<&Candidate> =
            decided.chosen.iter().filter_map(|at| candidates.get(*at)).collect();
        mark(&mut tx, &lease, &chosen).await?;
        let (items, corrupt) = load(&mut tx, ask.tenant, &chosen).await?;
        end(&mut tx, ask.tenant, &corrupt, now).await?;
        tx.commit().await.map_err(StoreError::database(LEASING))?;
        if items.is_empty() {
            return Ok(decided.with(Leased::Again));
        }
        let reply_to = decided.reply_to.take();
        let parcel = LeasedParcel { lease, kind, reply_to, items };
        Ok(decided.with(Leased::Parcel(Box::new(parcel))))
    }

    /// How the channel may be sent to now; an answer when it may not.
    async fn check_channel(
        &self,
        connection: &mut AnyConnection,
        ask: LeaseAsk<'_>,
        now: UnixMillis,
    ) -> Result<Result<Gate, Leased>, StoreError> {
        let failed = StoreError::database(LEASING);
        let sql = format!(
            "SELECT muted_until, wait_until, revision, failures FROM channels \
             WHERE tenant_id = $1 AND id = $2 \
             AND state = 'active' AND deleted_at IS NULL{}",
            self.engine().lock_row()
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(ask.tenant.to_owned())
            .bind(ask.channel.to_owned())
            .fetch_optional(&mut *connection)
            .await
            .map_err(StoreError::database(LEASING))?;
        let Some(row) = row else { return Ok(Err(Leased::Nothing)) };
        let is_ahead = |column| {
            let until: Option<i64> = row.try_get(column).map_err(&failed)?;
            Ok::<_, StoreError>(until.is_some_and(|until| until > now))
        };
        let (is_muted, waits) = (is_ahead("muted_until")?, is_ahead("wait_until")?);
        let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
        let (revision, failures) = (number("revision")?, number("failures")?);
        let row = sqlx::query(
            "SELECT (SELECT MAX(lease_until) FROM deliveries \
             WHERE channel_id = $1 AND state = 'sending' AND lease_until > $2) AS until, \
             (SELECT MIN(due_at) FROM deliveries WHERE channel_id = $1 AND state = 'queued' \
             AND kind = 'test' AND due_at <= $2) AS test",
        )
        .bind(ask.channel.to_owned())
        .bind(now)
        .fetch_one(connection)
        .await
        .map_err(&failed)?;
        let time = |column| row.try_get::<Option<i64>, _>(column).map_err(&failed);
        // Somebody looks on, and wants to know whether it still does not work.
        let tests = time("test")?.is_some();
        if is_muted || (waits && !tests) {
            return Ok(Err(Leased::Nothing));
        }
        Ok(match time("until")? {
            Some(until) => Err(Leased::NotBefore(until)),
            None => Ok(Gate { revision, failures, tests }),
        })
    }

    /// The longest due deliveries, with what decides about them. Each table is asked alone, by its
    /// own index: joined, Postgres reads whole tables until it has statistics.
    async fn pick(
        &self,
        connection: &mut AnyConnection,
        ask: LeaseAsk<'_>,
        tests: bool,
        now: UnixMillis,
    ) -> Result<Vec<Candidate>, StoreError> {
        let sql = format!(
            "SELECT id, kind, alert_id, attempts, throttled_since, created_at FROM deliveries \
             WHERE channel_id = $1 AND tenant_id = $2 AND state = 'queued'{} AND due_at <= $3 \
             ORDER BY due_at, id LIMIT $4{}",
            if tests { " AND kind = 'test'" } else { "" },
            self.engine().skip_locked()
        );
        let limit = ask.items_max.clamp(LOOK_MIN, LOOK_MAX);
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(ask.channel.to_owned())
            .bind(ask.tenant.to_owned())
            .bind(now)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::database(LEASING))?;
        let mut candidates: Vec<_> = rows.iter().map(read_candidate).collect::<Result<_, _>>()?;
        add_alerts(connection, ask.tenant, &mut candidates).await?;
        add_told(connection, ask, &mut candidates).await?;
        Ok(candidates)
    }
}

fn read_candidate(row: &AnyRow) -> Result<Candidate, StoreError> {
    let failed = StoreError::database(LEASING);
    let kind: String = row.try_get("kind").map_err(&failed)?;
    Ok(Candidate {
        id: row.try_get("id").map_err(&failed)?,
        kind: DeliveryKind::parse(&kind)?,
        alert_id: row.try_get("alert_id").map_err(&failed)?,
        attempts: row.try_get("attempts").map_err(&failed)?,
        throttled_since: row.try_get("throttled_since").map_err(&failed)?,
        created_at: row.try_get("created_at").map_err(&failed)?,
        alert: None,
        told: None,
        chars: 0,
    })
}

/// Rows by ids, some hundred at a time; `sql` ends before the table `v` of ids.
async fn by_ids(
    connection: &mut AnyConnection,
    sql: &str,
    first: &[&str],
    ids: &[&str],
) -> Result<Vec<AnyRow>, StoreError> {
    let mut rows = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        // A list after IN needs no name, and takes none.
        let name = if sql.ends_with("FROM") { " v" } else { "" };
        let sql = format!("{sql} ({}){name}", values(first.len() + 1, chunk.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in first.iter().chain(chunk) {
            query = query.bind((*value).to_owned());
        }
        let found = query.fetch_all(&mut *connection).await;
        rows.extend(found.map_err(StoreError::database(LEASING))?);
    }
    Ok(rows)
}

async fn add_alerts(
    connection: &mut AnyConnection,
    tenant: &str,
    candidates: &mut [Candidate],
) -> Result<(), StoreError> {
    let failed = StoreError::database(LEASING);
    let ids: Vec<&str> = candidates.iter().filter_map(|c| c.alert_id.as_deref()).collect();
    let sql = "SELECT id, rule_id, chain_id, state, \
               CAST(LENGTH(text) + LENGTH(spans) + LENGTH(facts) + LENGTH(record) AS BIGINT) \
               AS chars FROM alerts WHERE tenant_id = $1 AND id IN";
    let mut found = HashMap::new();
    for row in by_ids(connection, sql, &[tenant], &ids).await? {
        let id: String = row.try_get("id").map_err(&failed)?;
        let state: String = row.try_get("state").map_err(&failed)?;
        let alert = CandidateAlert {
            rule_id: row.try_get("rule_id").map_err(&failed)?,
            chain_id: chain_id(row.try_get("chain_id").map_err(&failed)?)?,
            is_retracted: state == "retracted",
        };
        let chars: i64 = row.try_get("chars").map_err(&failed)?;
        found.insert(id, (alert, chars));
    }
    for candidate in candidates {
        let alert = candidate.alert_id.as_ref().and_then(|id| found.get(id));
        if let Some((alert, chars)) = alert {
            (candidate.alert, candidate.chars) = (Some(alert.clone()), *chars);
        }
    }
    Ok(())
}

/// For retractions: what became of their alerts' own deliveries on the channel.
async fn add_told(
    connection: &mut AnyConnection,
    ask: LeaseAsk<'_>,
    candidates: &mut [Candidate],
) -> Result<(), StoreError> {
    let failed = StoreError::database(LEASING);
    let is_retraction = |c: &&Candidate| c.kind == DeliveryKind::Retraction;
    let retractions = candidates.iter().filter(is_retraction);
    let ids: Vec<&str> = retractions.filter_map(|c| c.alert_id.as_deref()).collect();
    // One look into the index of alerts each. As a join, or with the channel as a plain column,
    // Postgres without statistics reads all of the channel for each.
    let sql = "SELECT (SELECT id FROM deliveries WHERE tenant_id = $1 AND alert_id = v.column1 \
               AND channel_id || '' = $2 AND kind = 'alert') AS told FROM";
    let rows = by_ids(connection, sql, &[ask.tenant, ask.channel], &ids).await?;
    let told = rows.iter().map(|row| row.try_get::<Option<String>, _>("told"));
    let told = told.collect::<Result<Vec<_>, _>>().map_err(&failed)?;
    let told: Vec<&str> = told.iter().flatten().map(String::as_str).collect();
    let sql = "SELECT id, alert_id, state, maybe_told, message_id FROM deliveries \
               WHERE tenant_id = $1 AND id IN";
    let mut found = HashMap::new();
    for row in by_ids(connection, sql, &[ask.tenant], &told).await? {
        let alert: String = row.try_get("alert_id").map_err(&failed)?;
        let told = Told {
            id: row.try_get("id").map_err(&failed)?,
            state: row.try_get("state").map_err(&failed)?,
            maybe_told: row.try_get::<i16, _>("maybe_told").map_err(&failed)? != 0,
            message_id: row.try_get("message_id").map_err(&failed)?,
        };
        found.insert(alert, told);
    }
    for candidate in candidates.iter_mut().filter(|c| c.kind == DeliveryKind::Retraction) {
        let told = candidate.alert_id.as_ref().and_then(|id| found.get(id));
        candidate.told = told.cloned();
    }
    Ok(())
}

fn chain_id(number: i64) -> Result<ChainId, StoreError> {
    let id = u64::try_from(number);
    id.map(ChainId).map_err(|_| StoreError::Corrupt(format!("{number} is no chain id")))
}

/// The silences of a tenant that hold at `now`.
async fn active_silences(
    connection: &mut AnyConnection,
    tenant: &str,
    now: UnixMillis,
) -> Result<Vec<ActiveSilence>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, matcher FROM silences WHERE tenant_id = $1 AND starts_at <= $2 \
         AND ends_at > $3 AND deleted_at IS NULL ORDER BY id LIMIT $4",
    )
    .bind(tenant.to_owned())
    .bind(now)
    .bind(now)
    .bind(SILENCES_MAX)
    .fetch_all(connection)
    .await
    .map_err(StoreError::database(LEASING))?;
    let read = |row: &AnyRow| {
        let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(LEASING));
        let id = text("id")?;
        let matcher = serde_json::from_str(&text("matcher")?)
            .map_err(|e| StoreError::Corrupt(format!("matcher of silence `{id}`: {e}")))?;
        Ok(ActiveSilence { id, matcher })
    };
    rows.iter().map(read).collect()
}

/// Ends deliveries that are not to be sent: those of one state and reason together.
async fn end(
    connection: &mut AnyConnection,
    tenant: &str,
    ended: &[(String, &'static str, String)],
    now: UnixMillis,
) -> Result<(), StoreError> {
    for group in ended.chunk_by(|a, b| a.1 == b.1 && a.2 == b.2) {
        let Some((_, state, reason)) = group.first() else { continue };
        let ids: Vec<&str> = group.iter().map(|(id, ..)| id.as_str()).collect();
        change_in_chunks(connection, &ids, LEASING, |count| {
            let sql = format!(
                "UPDATE deliveries SET state = $1, error = $2, ended_at = $3, lease = NULL, \
                 lease_until = NULL WHERE tenant_id = $4 AND id IN ({})",
                values(5, count)
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind((*state).to_owned());
            query.bind(reason.clone()).bind(now).bind(tenant.to_owned())
        })
        .await?;
    }
    Ok(())
}

async fn postpone(
    connection: &mut AnyConnection,
    tenant: &str,
    waiting: &[(String, UnixMillis)],
) -> Result<(), StoreError> {
    let Some((_, at)) = waiting.first() else { return Ok(()) };
    let ids: Vec<&str> = waiting.iter().map(|(id, _)| id.as_str()).collect();
    change_in_chunks(connection, &ids, LEASING, |count| {
        let sql = format!(
            "UPDATE deliveries SET due_at = $1 WHERE tenant_id = $2 AND id IN ({})",
            values(3, count)
        );
        sqlx::query(AssertSqlSafe(sql)).bind(*at).bind(tenant.to_owned())
    })
    .await?;
    Ok(())
}

async fn mark(
    connection: &mut AnyConnection,
    lease: &Lease,
    chosen: &[&Candidate],
) -> Result<(), StoreError> {
    let ids: Vec<&str> = chosen.iter().map(|candidate| candidate.id.as_str()).collect();
    change_in_chunks(connection, &ids, LEASING, |count| {
        let sql = format!(
            "UPDATE deliveries SET state = 'sending', lease = $1, lease_until = $2, \
             attempts = attempts + 1 WHERE tenant_id = $3 AND id IN ({})",
            values(4, count)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(lease.token.clone());
        query.bind(lease.until).bind(lease.tenant.clone())
    })
    .await?;
    Ok(())
}

type Corrupt = Vec<(String, &'static str, String)>;

/// The leased deliveries with their alerts, and those that cannot be read, which are dead: one bad
/// row must not hold up a channel.
async fn load(
    connection: &mut AnyConnection,
    tenant: &str,
    chosen: &[&Candidate],
) -> Result<(Vec<LeasedItem>, Corrupt), StoreError> {
    let ids: Vec<&str> = chosen.iter().filter_map(|c| c.alert_id.as_deref()).collect();
    let sql = select_alerts!("WHERE tenant_id = $1 AND id IN");
    let mut found = HashMap::new();
    for row in by_ids(connection, sql, &[tenant], &ids).await? {
        let id: String = row.try_get("id").map_err(StoreError::database(LEASING))?;
        found.insert(id, row);
    }
    let (mut items, mut corrupt) = (Vec::with_capacity(chosen.len()), Vec::new());
    for candidate in chosen {
        let row = candidate.alert_id.as_ref().and_then(|id| found.get(id));
        let alert = match row.map(alerts::read).transpose() {
            Ok(alert) => alert,
            Err(StoreError::Corrupt(reason)) => {
                let reason = format!("its alert cannot be read: {reason}");
                corrupt.push((candidate.id.clone(), "dead", reason));
                continue;
            }
            Err(error) => return Err(error),
        };
        items.push(LeasedItem {
            delivery: candidate.id.clone(),
            attempts: candidate.attempts.saturating_add(1),
            throttled_since: candidate.throttled_since,
            created_at: candidate.created_at,
            alert,
        });
    }
    Ok((items, corrupt))
}
