//! Alerts, as tenants read them.

use lookout_types::{BlockRef, ChainId, Hash, UnixMillis, UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::{Page, Store, StoreError};

const READING: &str = "reading alerts";

/// What became of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// It waits for its confirmations.
    Pending,
    /// It was sent, or is about to be.
    Confirmed,
    /// Its block was undone after it was sent.
    Retracted,
}

/// One match of a rule, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule_id: String,
    /// The rule's version that matched.
    pub rule_version: u32,
    /// The rule's name then.
    pub rule_name: String,
    /// The chain.
    pub chain: ChainId,
    /// The block.
    pub block: BlockRef,
    /// The block's time.
    pub block_time: UnixSeconds,
    /// Which record.
    pub record: Value,
    /// 1, or more when the same block came back after the alert was retracted.
    pub occurrence: u32,
    /// The message.
    pub text: String,
    /// Its marked stretches.
    pub spans: Vec<AlertSpan>,
    /// The values in the message, by name.
    pub facts: Value,
    /// The height of the head at which it is confirmed.
    pub confirms_at: u64,
    /// What became of it.
    pub state: AlertState,
    /// When it was found.
    pub created_at: UnixMillis,
    /// When it was confirmed.
    pub confirmed_at: Option<UnixMillis>,
    /// When it was retracted.
    pub retracted_at: Option<UnixMillis>,
}

/// A stretch of an alert's text, in UTF-16 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSpan {
    /// What it is.
    pub kind: SpanKind,
    /// Where it starts.
    pub offset: usize,
    /// How long it is.
    pub length: usize,
}

/// What a stretch of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpanKind {
    /// To stand out.
    Bold,
    /// Verbatim: an address, a hash, or text from a chain.
    Code,
}

/// Which alerts of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Of this rule.
    pub rule: Option<String>,
    /// Of this chain.
    pub chain: Option<ChainId>,
    /// In this state.
    pub state: Option<AlertState>,
    /// Of blocks of this time or later.
    pub from: Option<UnixSeconds>,
    /// Of blocks before this time.
    pub to: Option<UnixSeconds>,
}

impl AlertState {
    /// Its name in the store and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Retracted => "retracted",
        }
    }
}

/// Selects what [`read`] reads.
macro_rules! select_alerts {
    ($rest:literal) => {
        concat!(
            "SELECT id, rule_id, rule_version, rule_name, chain_id, height, block_hash, block_time, \
             record, occurrence, text, spans, facts, confirms_at, state, created_at, confirmed_at, \
             retracted_at, changed FROM alerts ",
            $rest
        )
    };
}

pub(crate) use select_alerts;

impl Store {
    /// The alerts of a tenant, newest block first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_alerts(
        &self,
        tenant: &str,
        filter: &AlertFilter,
        page: &Page,
    ) -> Result<Vec<Alert>, StoreError> {
        // An alert's id begins with its block's time, so that a stretch of time is a stretch of the
        // key.
        let from = filter.from.unwrap_or(0);
        let below = match filter.to {
            Some(to) => least_id(to).min(page.below().to_owned()),
            None => page.below().to_owned(),
        };
        let by_rule = filter.rule.is_some();
        let query = if by_rule {
            select_alerts!(
                "WHERE tenant_id = $1 AND id < $2 AND id >= $3 AND ($4 < 0 OR chain_id = $4) \
                 AND ($5 = '' OR state = $5) AND rule_id = $6 ORDER BY id DESC LIMIT $7"
            )
        } else {
            select_alerts!(
                "WHERE tenant_id = $1 AND id < $2 AND id >= $3 AND ($4 < 0 OR chain_id = $4) \
                 AND ($5 = '' OR state = $5) AND $6 = '' ORDER BY id DESC LIMIT $7"
            )
        };
        let chain = filter.chain.map_or(-1, |chain| i64::try_from(chain.0).unwrap_or(i64::MAX));
        let rows = sqlx::query(query)
            .bind(tenant.to_owned())
            .bind(below)
            .bind(least_id(from))
            .bind(chain)
            .bind(filter.state.map_or("", AlertState::as_str).to_owned())
            .bind(filter.rule.clone().unwrap_or_default())
            .bind(page.limit()?)
            .fetch_all(self.pool())
            .await;
        rows.map_err(StoreError::database(READING))?.iter().map(read).collect()
    }

    /// One alert of a tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn get_alert(&self, tenant: &str, id: &str) -> Result<Alert, StoreError> {
        let row = sqlx::query(select_alerts!("WHERE tenant_id = $1 AND id = $2"))
            .bind(tenant.to_owned())
            .bind(id.to_owned())
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::database(READING))?;
        let none = || {
            let id = id.escape_debug().take(100).collect();
            Err(StoreError::NotFound { what: "alert", id })
        };
        row.as_ref().map_or_else(none, read)
    }
}

/// The least `UUIDv7` of a second; the clock of an id has 48 bits of milliseconds.
fn least_id(seconds: UnixSeconds) -> String {
    let millis = seconds.saturating_mul(1000).min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80).to_string()
}

/// Reads a row of [`select_alerts`].
pub(crate) fn read(row: &AnyRow) -> Result<Alert, StoreError> {
    let failed = StoreError::database(READING);
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(&failed);
    let id = text("id")?;
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of alert `{id}`"));
    let number = |column| {
        let number = row.try_get::<i64, _>(column).map_err(&failed)?;
        u64::try_from(number).map_err(|_| corrupt(column))
    };
    let small = |column| u32::try_from(number(column)?).map_err(|_| corrupt(column));
    let json = |column| serde_json::from_str(&text(column)?).map_err(|_| corrupt(column));
    let spans = serde_json::from_str(&text("spans")?).map_err(|_| corrupt("spans"))?;
    let hash: Vec<u8> = row.try_get("block_hash").map_err(&failed)?;
    let hash = Hash(hash.try_into().map_err(|_| corrupt("block_hash"))?);
    let state = match text("state")?.as_str() {
        "pending" => AlertState::Pending,
        "confirmed" => AlertState::Confirmed,
        "retracted" => AlertState::Retracted,
        _ => return Err(corrupt("state")),
    };
    Ok(Alert {
        rule_id: text("rule_id")?,
        rule_version: small("rule_version")?,
        rule_name: text("rule_name")?,
        chain: ChainId(number("chain_id")?),
        block: BlockRef { number: number("height")?, hash },
        block_time: number("block_time")?,
        record: json("record")?,
        occurrence: small("occurrence")?,
        text: text("text")?,
        spans,
        facts: json("facts")?,
        confirms_at: number("confirms_at")?,
        state,
        created_at: row.try_get("created_at").map_err(&failed)?,
        confirmed_at: time("confirmed_at")?,
        retracted_at: time("retracted_at")?,
        id,
    })
}
