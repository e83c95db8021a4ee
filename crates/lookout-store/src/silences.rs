//! Silences: alerts that are not to be sent for a time.

use lookout_types::{ChainId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::audit::NewAudit;
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{Actor, Page, Store, StoreError};

/// Most silences of one tenant that have not ended: each is looked at for every delivery.
const SILENCES_PER_TENANT_MAX: i64 = 200;
/// Most rules, channels or chains of one silence.
const MATCHER_ITEMS_MAX: usize = 100;
/// Longest comment, in bytes: a few sentences.
const COMMENT_BYTES_MAX: usize = 500;
/// Longest that a silence lasts: a year. What shall stay silent longer is a rule to be paused.
const SILENCE_MS_MAX: i64 = 366 * 24 * 3_600_000;

const CREATING: &str = "creating a silence";
const READING: &str = "reading silences";
const DELETING: &str = "deleting a silence";

macro_rules! select_silences {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_id, id, matcher, comment, starts_at, ends_at, created_at, deleted_at \
             FROM silences ",
            $rest
        )
    };
}

/// What a silence holds back: what fits every list that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SilenceMatcher {
    /// Ids of rules; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Ids of channels; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Ids of chains; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<u64>,
}

impl SilenceMatcher {
    /// Whether it holds back this rule's alerts about this chain on this channel.
    pub fn matches(&self, rule: &str, channel: &str, chain: ChainId) -> bool {
        let any = |list: &[String], id: &str| list.is_empty() || list.iter().any(|item| item == id);
        any(&self.rules, rule)
            && any(&self.channels, channel)
            && (self.chains.is_empty() || self.chains.contains(&chain.0))
    }
}

/// A silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceInfo {
    /// Its id, a `UUIDv7`.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// What it holds back.
    pub matcher: SilenceMatcher,
    /// Why.
    pub comment: String,
    /// From when.
    pub starts_at: UnixMillis,
    /// Until when, itself not included.
    pub ends_at: UnixMillis,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was deleted; `None` while it is not.
    pub deleted_at: Option<UnixMillis>,
}

impl SilenceInfo {
    /// Whether it holds anything back at `now`.
    pub fn is_active(&self, now: UnixMillis) -> bool {
        self.deleted_at.is_none() && (self.starts_at..self.ends_at).contains(&now)
    }
}

/// A silence to be made.
#[derive(Debug, Clone)]
pub struct NewSilence {
    /// The tenant it belongs to; created when unknown.
    pub tenant: String,
    /// What it holds back.
    pub matcher: SilenceMatcher,
    /// Why.
    pub comment: String,
    /// From when; `None` for now.
    pub starts_at: Option<UnixMillis>,
    /// Until when.
    pub ends_at: UnixMillis,
}

impl Store {
    /// Makes a silence.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] says what is wrong with it, an unknown rule or channel included;
    /// [`StoreError::Limit`] when the tenant has too many.
    pub async fn create_silence(
        &self,
        new: NewSilence,
        actor: &Actor,
    ) -> Result<SilenceInfo, StoreError> {
        let now = self.now();
        check_tenant(&new.tenant)?;
        let starts_at = new.starts_at.unwrap_or(now);
        check(&new, starts_at, now)?;
        let info = SilenceInfo {
            id: self.next_id(now),
            tenant: new.tenant,
            matcher: new.matcher,
            comment: new.comment,
            starts_at,
            ends_at: new.ends_at,
            created_at: now,
            deleted_at: None,
        };
        let mut tx = self.begin_write(CREATING).await?;
        let tenant = &info.tenant;
        if ensure_tenant(&mut tx, tenant, now).await? {
            let detail = json!({});
            let (action, target) = ("tenant.create", tenant);
            let row = NewAudit { tenant, actor, action, target, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        check_room(&mut tx, tenant, now).await?;
        check_targets(&mut tx, &info).await?;
        insert(&mut tx, &info).await?;
        let detail = json!({
            "matcher": info.matcher, "comment": info.comment,
            "startsAt": info.starts_at, "endsAt": info.ends_at,
        });
        let (action, target) = ("silence.create", &info.id);
        let row = NewAudit { tenant, actor, action, target, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CREATING))?;
        self.signals().deliveries.raise();
        Ok(info)
    }

    /// The silences of a tenant that are not deleted, newest first; those that ended included.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_silences(
        &self,
        tenant: &str,
        page: &Page,
    ) -> Result<Vec<SilenceInfo>, StoreError> {
        let rows = sqlx::query(select_silences!(
            "WHERE tenant_id = $1 AND id < $2 AND deleted_at IS NULL ORDER BY id DESC LIMIT $3"
        ))
        .bind(tenant.to_owned())
        .bind(page.below().to_owned())
        .bind(page.limit()?)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// The silences of a tenant that hold something back now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn active_silences(&self, tenant: &str) -> Result<Vec<SilenceInfo>, StoreError> {
        let now = self.now();
        let rows = sqlx::query(select_silences!(
            "WHERE tenant_id = $1 AND deleted_at IS NULL AND starts_at <= $2 AND ends_at > $3 \
             ORDER BY id"
        ))
        .bind(tenant.to_owned())
        .bind(now)
        .bind(now)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// Ends a silence. Deleting it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn delete_silence(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(DELETING).await?;
        let row = sqlx::query(select_silences!("WHERE tenant_id = $1 AND id = $2"))
            .bind(tenant.to_owned())
            .bind(id.to_owned())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::database(DELETING))?;
        let no_silence =
            || StoreError::NotFound { what: "silence", id: id.escape_debug().take(100).collect() };
        let info = row.as_ref().map_or_else(|| Err(no_silence()), read)?;
        let done = sqlx::query(
            "UPDATE silences SET deleted_at = $1 \
             WHERE tenant_id = $2 AND id = $3 AND deleted_at IS NULL",
        )
        .bind(now)
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(DELETING))?;
        if done.rows_affected() > 0 {
            let detail = json!({ "matcher": info.matcher, "comment": info.comment });
            let (action, target) = ("silence.delete", id);
            let row = NewAudit { tenant, actor, action, target, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(DELETING))?;
        self.signals().deliveries.raise();
        Ok(())
    }
}

fn check(new: &NewSilence, starts_at: UnixMillis, now: UnixMillis) -> Result<(), StoreError> {
    let wrong = |message: String| Err(StoreError::Invalid(message));
    let hidden = |c: char| c.is_control() && c != '\n';
    if new.comment.len() > COMMENT_BYTES_MAX || new.comment.chars().any(hidden) {
        return wrong(format!(
            "the comment of a silence has at most {COMMENT_BYTES_MAX} bytes and no control characters"
        ));
    }
    if new.ends_at <= starts_at || new.ends_at <= now {
        return wrong("a silence must end in the future, and after it starts".to_owned());
    }
    if new.ends_at.saturating_sub(starts_at) > SILENCE_MS_MAX
        || starts_at.saturating_sub(now) > SILENCE_MS_MAX
    {
        return wrong("a silence starts within a year and lasts at most a year".to_owned());
    }
    let SilenceMatcher { rules, channels, chains } = &new.matcher;
    for (what, length) in
        [("rules", rules.len()), ("channels", channels.len()), ("chains", chains.len())]
    {
        if length > MATCHER_ITEMS_MAX {
            return wrong(format!("a silence names at most {MATCHER_ITEMS_MAX} {what}"));
        }
    }
    Ok(())
}

async fn check_room(
    connection: &mut AnyConnection,
    tenant: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS silences FROM silences \
         WHERE tenant_id = $1 AND deleted_at IS NULL AND ends_at > $2",
    )
    .bind(tenant.to_owned())
    .bind(now)
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    let silences: i64 = row.try_get("silences").map_err(StoreError::database(CREATING))?;
    if silences >= SILENCES_PER_TENANT_MAX {
        return Err(StoreError::Limit(format!(
            "tenant `{tenant}` has {silences} silences that have not ended, the most there may \
             be; delete one first"
        )));
    }
    Ok(())
}

/// Refuses rules and channels that are not there: a silence with a typing error holds back nothing.
async fn check_targets(
    connection: &mut AnyConnection,
    info: &SilenceInfo,
) -> Result<(), StoreError> {
    let rule = "SELECT id FROM rules WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL";
    let channel = "SELECT id FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL";
    for (what, statement, ids) in
        [("rule", rule, &info.matcher.rules), ("channel", channel, &info.matcher.channels)]
    {
        for id in ids {
            let found = sqlx::query(statement)
                .bind(info.tenant.clone())
                .bind(id.clone())
                .fetch_optional(&mut *connection)
                .await
                .map_err(StoreError::database(CREATING))?;
            if found.is_none() {
                let shown: String = id.escape_debug().take(100).collect();
                return Err(StoreError::Invalid(format!("no {what} `{shown}` to silence")));
            }
        }
    }
    Ok(())
}

async fn insert(connection: &mut AnyConnection, info: &SilenceInfo) -> Result<(), StoreError> {
    let matcher = serde_json::to_string(&info.matcher)
        .map_err(|error| StoreError::Invalid(format!("the matcher of a silence: {error}")))?;
    sqlx::query(
        "INSERT INTO silences \
         (tenant_id, id, matcher, comment, starts_at, ends_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(info.tenant.clone())
    .bind(info.id.clone())
    .bind(matcher)
    .bind(info.comment.clone())
    .bind(info.starts_at)
    .bind(info.ends_at)
    .bind(info.created_at)
    .execute(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<SilenceInfo, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(READING));
    let time = |column| row.try_get::<i64, _>(column).map_err(StoreError::database(READING));
    let id = text("id")?;
    let matcher = serde_json::from_str(&text("matcher")?)
        .map_err(|error| StoreError::Corrupt(format!("matcher of silence `{id}`: {error}")))?;
    Ok(SilenceInfo {
        id,
        tenant: text("tenant_id")?,
        matcher,
        comment: text("comment")?,
        starts_at: time("starts_at")?,
        ends_at: time("ends_at")?,
        created_at: time("created_at")?,
        deleted_at: row.try_get("deleted_at").map_err(StoreError::database(READING))?,
    })
}
