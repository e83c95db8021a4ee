//! Pacing: when a destination may be sent to next, shared by all instances.

use lookout_types::UnixMillis;
use sqlx::{AnyConnection, Row};

use crate::{Store, StoreError};

/// How long a row that holds nothing back is kept, in milliseconds: a day, far above any pace.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// Most destinations of one message; a bot and a chat are two.
const TURNS_MAX: usize = 8;

const PACING: &str = "pacing a destination";

/// One message's claim on a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// A name of the destination without secrets, such as a hash.
    pub destination: String,
    /// Least time to the next message there, in milliseconds.
    pub every_ms: i64,
}

impl Store {
    /// Takes a turn at all of these destinations, or at none: `Some` tells in how many milliseconds
    /// it may work.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on too many destinations, [`StoreError::Database`].
    pub async fn take_turn(&self, turns: &[Turn]) -> Result<Option<i64>, StoreError> {
        let not_ready = self.not_ready(turns).await?;
        let mut tx = self.begin_write(PACING).await?;
        let now = self.shared_now(&mut tx).await?;
        if let Some(at) = not_ready.filter(|at| *at > now) {
            return Ok(Some(at.saturating_sub(now)));
        }
        if !take(&mut tx, turns, now).await? {
            return Ok(Some(1));
        }
        tx.commit().await.map_err(StoreError::database(PACING))?;
        Ok(None)
    }

    /// Forgets destinations that have been ready for long; how many they were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn purge_pacing(&self) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM pacing WHERE ready_at < $1")
            .bind(self.now().saturating_sub(KEPT_MS))
            .execute(self.pool())
            .await
            .map_err(StoreError::database(PACING))?;
        Ok(done.rows_affected())
    }

    /// When the last of these destinations is ready; `None` when all are.
    pub(crate) async fn not_ready(&self, turns: &[Turn]) -> Result<Option<UnixMillis>, StoreError> {
        if turns.len() > TURNS_MAX {
            let message = format!("a message has at most {TURNS_MAX} destinations to pace");
            return Err(StoreError::Invalid(message));
        }
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(PACING))?;
        let now = self.shared_now(&mut connection).await?;
        let mut latest = None;
        for turn in turns {
            let row = sqlx::query("SELECT ready_at FROM pacing WHERE destination = $1")
                .bind(turn.destination.clone())
                .fetch_optional(&mut *connection)
                .await
                .map_err(StoreError::database(PACING))?;
            let Some(row) = row else { continue };
            let at: i64 = row.try_get("ready_at").map_err(StoreError::database(PACING))?;
            if at > now {
                latest = latest.max(Some(at));
            }
        }
        Ok(latest)
    }
}

/// Takes a turn at each; `false`, with the transaction to be rolled back, when one is not ready.
pub(crate) async fn take(
    connection: &mut AnyConnection,
    turns: &[Turn],
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let mut turns: Vec<_> = turns.iter().collect();
    // One order for all, so that two instances never wait for each other.
    turns.sort_by(|a, b| a.destination.cmp(&b.destination));
    turns.dedup_by(|a, b| a.destination == b.destination);
    for turn in turns {
        let done = sqlx::query(
            "INSERT INTO pacing (destination, ready_at) VALUES ($1, $2) \
             ON CONFLICT (destination) DO UPDATE SET ready_at = excluded.ready_at \
             WHERE pacing.ready_at <= $3",
        )
        .bind(turn.destination.clone())
        .bind(now.saturating_add(turn.every_ms))
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(PACING))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Holds destinations back until a time at least.
pub(crate) async fn hold(
    connection: &mut AnyConnection,
    ready: &[(String, UnixMillis)],
) -> Result<(), StoreError> {
    let mut ready: Vec<_> = ready.iter().collect();
    ready.sort();
    for (destination, at) in ready {
        sqlx::query(
            "INSERT INTO pacing (destination, ready_at) VALUES ($1, $2) \
             ON CONFLICT (destination) DO UPDATE SET ready_at = excluded.ready_at \
             WHERE pacing.ready_at < excluded.ready_at",
        )
        .bind(destination.clone())
        .bind(*at)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(PACING))?;
    }
    Ok(())
}
