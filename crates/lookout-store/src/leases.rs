//! Leases: which instance publishes a chain's frames.

use lookout_types::{ChainId, UnixMillis};
use sqlx::Row;

use crate::{Store, StoreError};

/// Longest name of a holder, in bytes: a host name and a process, with room.
const HOLDER_BYTES_MAX: usize = 200;
/// Milliseconds in a second.
const SECOND_MS: i64 = 1_000;

const TAKING: &str = "taking the lease of a chain";
const RENEWING: &str = "renewing the lease of a chain";
const READING: &str = "reading the lease of a chain";

/// The right to publish a chain's frames for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLease {
    /// The chain.
    pub chain: ChainId,
    /// Who holds it.
    pub holder: String,
    /// Grows with each take-over, so that whoever sees a higher one knows that this one is over.
    pub token: i64,
    /// When it ends, unless it is renewed; 0 once it was given back.
    pub until: UnixMillis,
}

impl Store {
    /// Takes the lease of a chain for `length_ms`, when it is free, has ended, or `holder` has it
    /// itself: after a crash the same holder need not wait. Two that run at the same time must go by
    /// different names.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another holder has it; [`StoreError::Invalid`] on a wrong name or
    /// length.
    pub async fn take_chain_lease(
        &self,
        chain: ChainId,
        holder: &str,
        length_ms: i64,
    ) -> Result<ChainLease, StoreError> {
        if holder.is_empty() || holder.len() > HOLDER_BYTES_MAX {
            return Err(StoreError::Invalid(format!(
                "the holder of a lease has a name of 1 to {HOLDER_BYTES_MAX} bytes"
            )));
        }
        let now = self.now();
        let until = end(now, length_ms)?;
        let rows = sqlx::query(
            "INSERT INTO chain_leases (chain_id, holder, token, until) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (chain_id) DO UPDATE SET holder = excluded.holder, \
             token = chain_leases.token + 1, until = excluded.until \
             WHERE chain_leases.until <= $4 OR chain_leases.holder = excluded.holder \
             RETURNING token",
        )
        .bind(chain.0.cast_signed())
        .bind(holder.to_owned())
        .bind(until)
        .bind(now)
        // To the end, which is where SQLite commits; after the first row it would be cut off.
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(TAKING))?;
        if let Some(row) = rows.first() {
            let token = row.try_get("token").map_err(StoreError::database(TAKING))?;
            return Ok(ChainLease { chain, holder: holder.to_owned(), token, until });
        }
        // Rows are never deleted; should one be, the chain is free, and that is said as such.
        let (holder, until) = match self.chain_lease(chain).await? {
            Some(held) => (held.holder, held.until),
            None => ("nobody".to_owned(), now),
        };
        let left_s = ((until - now).max(0) + SECOND_MS - 1) / SECOND_MS;
        Err(StoreError::Held { chain, holder, until, left_s })
    }

    /// Holds a lease for `length_ms` from now on. One that has ended is renewed too, as long as nobody
    /// has taken it since.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when someone has, or it was given back.
    pub async fn renew_chain_lease(
        &self,
        lease: &ChainLease,
        length_ms: i64,
    ) -> Result<ChainLease, StoreError> {
        let until = end(self.now(), length_ms)?;
        let done = sqlx::query(
            "UPDATE chain_leases SET until = $1 \
             WHERE chain_id = $2 AND holder = $3 AND token = $4 AND until > 0",
        )
        .bind(until)
        .bind(lease.chain.0.cast_signed())
        .bind(lease.holder.clone())
        .bind(lease.token)
        .execute(self.pool())
        .await
        .map_err(StoreError::database(RENEWING))?;
        if done.rows_affected() > 0 {
            return Ok(ChainLease { until, ..lease.clone() });
        }
        let reason = match self.chain_lease(lease.chain).await? {
            Some(held) if held.token == lease.token => "it was given back".to_owned(),
            Some(held) => format!("`{}` has taken over", held.holder),
            None => "it was deleted".to_owned(),
        };
        Err(StoreError::LeaseLost { chain: lease.chain, reason })
    }

    /// Gives a lease back, so that the next holder need not wait for its end. Nothing happens when
    /// someone has taken over already.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the lease ends by itself then.
    pub async fn release_chain_lease(&self, lease: &ChainLease) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE chain_leases SET until = 0 WHERE chain_id = $1 AND holder = $2 AND token = $3",
        )
        .bind(lease.chain.0.cast_signed())
        .bind(lease.holder.clone())
        .bind(lease.token)
        .execute(self.pool())
        .await
        .map(|_| ())
        .map_err(StoreError::database("giving back the lease of a chain"))
    }

    /// The lease of a chain as it stands, ended or not; `None` when nobody ever took it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn chain_lease(&self, chain: ChainId) -> Result<Option<ChainLease>, StoreError> {
        let row = sqlx::query("SELECT holder, token, until FROM chain_leases WHERE chain_id = $1")
            .bind(chain.0.cast_signed())
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::database(READING))?;
        let Some(row) = row else { return Ok(None) };
        let failed = StoreError::database(READING);
        Ok(Some(ChainLease {
            chain,
            holder: row.try_get("holder").map_err(&failed)?,
            token: row.try_get("token").map_err(&failed)?,
            until: row.try_get("until").map_err(&failed)?,
        }))
    }
}

fn end(now: UnixMillis, length_ms: i64) -> Result<UnixMillis, StoreError> {
    match now.checked_add(length_ms) {
        Some(until) if length_ms > 0 => Ok(until),
        _ => Err(StoreError::Invalid(format!("a lease of {length_ms} ms is not possible"))),
    }
}
