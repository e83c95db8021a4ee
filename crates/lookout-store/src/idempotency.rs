//! Answers to writes, kept under the caller's key, so that a repeated request is not done twice.
//!
//! A key is taken before its request is done and answered after it. In between a crash can leave
//! it taken: whether the request was done is then unknown, and it is refused rather than done
//! again, until the key is forgotten.

use lookout_types::UnixMillis;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Store, StoreError};

/// How long a key is remembered, in milliseconds: a day, longer than clients go on trying.
pub const IDEMPOTENCY_MAX_AGE_MS: i64 = 86_400_000;

const TAKING: &str = "taking an idempotency key";
const KEEPING: &str = "keeping the answer of an idempotency key";

/// An answer as it is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers as a JSON object, and the body; `None` when they were not kept.
    pub content: Option<(String, Vec<u8>)>,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is new: the request is to be done, and the ticket handed in with its answer.
    New(RequestTicket),
    /// The same request was answered with this.
    Answered(Answer),
    /// The same request was begun so many milliseconds ago and is not answered.
    UnderWay {
        /// By this store's clock.
        age_ms: i64,
    },
    /// The key belongs to another request.
    Other,
}

/// The right to answer a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTicket {
    tenant: String,
    key: String,
    begun_at: UnixMillis,
}

impl Store {
    /// Takes a key for a request, of which `hash` (SHA-256) says which it is.
    ///
    /// # Errors
    /// [`StoreError::Database`]: the request must not be done then.
    pub async fn begin_request(
        &self,
        tenant: &str,
        key: &str,
        hash: &[u8; 32],
    ) -> Result<Begun, StoreError> {
        let failed = StoreError::database(TAKING);
        let begun_at = self.now();
        let ticket = RequestTicket { tenant: tenant.to_owned(), key: key.to_owned(), begun_at };
        let done = sqlx::query(
            "INSERT INTO idempotency (tenant_id, key, request_hash, created_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.to_owned())
        .bind(key.to_owned())
        .bind(hash.to_vec())
        .bind(begun_at)
        .execute(self.pool())
        .await
        .map_err(&failed)?;
        if done.rows_affected() > 0 {
            return Ok(Begun::New(ticket));
        }
        let row = sqlx::query(
            "SELECT request_hash, status, headers, body, created_at FROM idempotency \
             WHERE tenant_id = $1 AND key = $2",
        )
        .bind(tenant.to_owned())
        .bind(key.to_owned())
        .fetch_optional(self.pool())
        .await
        .map_err(&failed)?;
        // Gone in between: its request has just failed. The next try finds the key free.
        let Some(row) = row else { return Ok(Begun::UnderWay { age_ms: 0 }) };
        let created_at: i64 = row.try_get("created_at").map_err(&failed)?;
        if begun_at.saturating_sub(created_at) >= IDEMPOTENCY_MAX_AGE_MS {
            return self.retake(ticket, hash, created_at).await;
        }
        read(&row, hash, begun_at.saturating_sub(created_at)).map_err(failed)
    }

    /// Takes a key whose time is over; only one of several who try at once gets it.
    async fn retake(
        &self,
        ticket: RequestTicket,
        hash: &[u8; 32],
        created_at: UnixMillis,
    ) -> Result<Begun, StoreError> {
        let done = sqlx::query(
            "UPDATE idempotency SET request_hash = $1, status = NULL, headers = NULL, \
             body = NULL, created_at = $2 WHERE tenant_id = $3 AND key = $4 AND created_at = $5",
        )
        .bind(hash.to_vec())
        .bind(ticket.begun_at)
        .bind(ticket.tenant.clone())
        .bind(ticket.key.clone())
        .bind(created_at)
        .execute(self.pool())
        .await
        .map_err(StoreError::database(TAKING))?;
        let mine = done.rows_affected() > 0;
        Ok(if mine { Begun::New(ticket) } else { Begun::UnderWay { age_ms: 0 } })
    }

    /// Keeps the answer of a key.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keep_answer(
        &self,
        ticket: &RequestTicket,
        answer: Answer,
    ) -> Result<(), StoreError> {
        let (headers, body) = answer.content.unzip();
        sqlx::query(
            "UPDATE idempotency SET status = $1, headers = $2, body = $3 \
             WHERE tenant_id = $4 AND key = $5 AND created_at = $6",
        )
        .bind(i16::try_from(answer.status).unwrap_or(i16::MAX))
        .bind(headers)
        .bind(body)
        .bind(ticket.tenant.clone())
        .bind(ticket.key.clone())
        .bind(ticket.begun_at)
        .execute(self.pool())
        .await
        .map(|_| ())
        .map_err(StoreError::database(KEEPING))
    }

    /// Frees a key whose request has failed, so that it can be tried again.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_request(&self, ticket: &RequestTicket) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM idempotency WHERE tenant_id = $1 AND key = $2 AND created_at = $3")
            .bind(ticket.tenant.clone())
            .bind(ticket.key.clone())
            .bind(ticket.begun_at)
            .execute(self.pool())
            .await
            .map(|_| ())
            .map_err(StoreError::database(KEEPING))
    }
}

fn read(row: &AnyRow, hash: &[u8; 32], age_ms: i64) -> Result<Begun, sqlx::Error> {
    let taken_by: Vec<u8> = row.try_get("request_hash")?;
    if taken_by != hash {
        return Ok(Begun::Other);
    }
    let status: Option<i16> = row.try_get("status")?;
    let Some(status) = status.and_then(|status| u16::try_from(status).ok()) else {
        return Ok(Begun::UnderWay { age_ms });
    };
    let headers: Option<String> = row.try_get("headers")?;
    let body: Option<Vec<u8>> = row.try_get("body")?;
    Ok(Begun::Answered(Answer { status, content: headers.zip(body) }))
}
