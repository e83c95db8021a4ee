//! The audit log: one row for every change, written in the change's own transaction.

use std::fmt;

use lookout_types::UnixMillis;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::tenants::check_tenant;
use crate::{Page, Store, StoreError};

/// Longest actor, action or target, in bytes: ids and names fit, whole bodies do not.
const WORD_BYTES_MAX: usize = 512;
/// Longest detail as JSON, in bytes: room for a changed setting, not for a document.
const DETAIL_BYTES_MAX: usize = 16 << 10;

/// Who changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Someone at this machine's command line.
    Cli,
    /// The holder of the API key with this id.
    Key(String),
    /// The subject of an OIDC token.
    Token(String),
    /// A caller without credentials, where none are asked for.
    Open,
    /// A part of Lookout itself, by its name.
    System(&'static str),
    /// The job of this name, of the tenant whose things it changes.
    Job(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cli => f.write_str("cli"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Token(subject) => write!(f, "token:{subject}"),
            Self::Open => f.write_str("open"),
            Self::System(part) => write!(f, "system:{part}"),
            Self::Job(name) => write!(f, "job:{name}"),
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The tenant whose thing was changed.
    pub tenant: String,
    /// The entry's id, a `UUIDv7`.
    pub id: String,
    /// When.
    pub at: UnixMillis,
    /// By whom, as [`Actor`] prints it.
    pub actor: String,
    /// What was done, for example `key.create`.
    pub action: String,
    /// The id of the thing.
    pub target: String,
    /// More about it, an object.
    pub detail: Value,
}

/// A change about to be written.
#[derive(Debug)]
pub(crate) struct NewAudit<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) actor: &'a Actor,
    pub(crate) action: &'a str,
    pub(crate) target: &'a str,
    pub(crate) detail: &'a Value,
}

const READING: &str = "reading the audit log";

impl Store {
    /// The changes of a tenant, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn audit_log(
        &self,
        tenant: &str,
        page: &Page,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, id, at, actor, action, target, detail FROM audit \
             WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        )
        .bind(tenant.to_owned())
        .bind(page.below().to_owned())
        .bind(page.limit()?)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// Writes a change that has no transaction of its own in this store.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a part is too long, [`StoreError::Database`].
    pub async fn record_audit(
        &self,
        tenant: &str,
        actor: &Actor,
        action: &str,
        target: &str,
        detail: &Value,
    ) -> Result<(), StoreError> {
        check_tenant(tenant)?;
        let doing = "writing the audit log";
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(doing))?;
        let new = NewAudit { tenant, actor, action, target, detail };
        self.insert_audit(&mut connection, new, self.now()).await
    }

    pub(crate) async fn insert_audit(
        &self,
        connection: &mut AnyConnection,
        new: NewAudit<'_>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let actor = new.actor.to_string();
        let detail = new.detail.to_string();
        for (what, text, max) in [
            ("actor", actor.as_str(), WORD_BYTES_MAX),
            ("action", new.action, WORD_BYTES_MAX),
            ("target", new.target, WORD_BYTES_MAX),
            ("detail", detail.as_str(), DETAIL_BYTES_MAX),
        ] {
            if text.len() > max {
                let message = format!("the {what} of an audit entry is longer than {max} bytes");
                return Err(StoreError::Invalid(message));
            }
        }
        sqlx::query(
            "INSERT INTO audit (tenant_id, id, at, actor, action, target, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.tenant.to_owned())
        .bind(self.next_id(now))
        .bind(now)
        .bind(actor)
        .bind(new.action.to_owned())
        .bind(new.target.to_owned())
        .bind(detail)
        .execute(connection)
        .await
        .map_err(StoreError::database("writing the audit log"))?;
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<AuditEntry, StoreError> {
    let text = |column| row.try_get(column).map_err(StoreError::database(READING));
    let detail: String = text("detail")?;
    let id: String = text("id")?;
    let detail = serde_json::from_str(&detail)
        .map_err(|e| StoreError::Corrupt(format!("detail of audit entry `{id}`: {e}")))?;
    Ok(AuditEntry {
        tenant: text("tenant_id")?,
        id,
        at: row.try_get("at").map_err(StoreError::database(READING))?,
        actor: text("actor")?,
        action: text("action")?,
        target: text("target")?,
        detail,
    })
}
