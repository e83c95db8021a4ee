//! Uploaded ABIs: what a tenant's contracts say, by name.
//!
//! The text of an ABI never changes: what was compiled or cached from an id stays right. Another
//! text is another upload, under the same name once the first is deleted.

use lookout_abi::{Abi, BUILTIN_NAMES};
use lookout_types::UnixMillis;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::audit::NewAudit;
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{Actor, Page, Store, StoreError};

/// Longest name of an ABI, in bytes: fits a query parameter and a line in a list.
const NAME_BYTES_MAX: usize = 64;
/// Most ABIs of one tenant that are not deleted: a contract each for a large protocol, several
/// times over.
const ABIS_PER_TENANT_MAX: i64 = 1_000;

const CREATING: &str = "saving an ABI";
const READING: &str = "reading ABIs";
const DELETING: &str = "deleting an ABI";
const RESTORING: &str = "restoring an ABI";

/// An uploaded ABI, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbiInfo {
    /// Its id, a `UUIDv7`.
    pub id: String,
    /// Its name, unique among those of the tenant that are not deleted.
    pub name: String,
    /// When it was uploaded.
    pub created_at: UnixMillis,
    /// When it was deleted; `None` while it is not.
    pub deleted_at: Option<UnixMillis>,
}

impl Store {
    /// Keeps an ABI under a name, and makes its tenant when that is unknown.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the name is no slug or is built in, or the text is no ABI;
    /// [`StoreError::Limit`] when the name is taken or the tenant has too many.
    pub async fn create_abi(
        &self,
        tenant: &str,
        name: &str,
        text: &str,
        actor: &Actor,
    ) -> Result<AbiInfo, StoreError> {
        check_tenant(tenant)?;
        check_name(name)?;
        // Postgres keeps no NUL in a text.
        if text.contains('\0') {
            return Err(StoreError::Invalid("the ABI holds a NUL character".to_owned()));
        }
        let abi = Abi::parse(text).map_err(|error| StoreError::Invalid(error.to_string()))?;
        if abi.events().is_empty() && abi.functions().is_empty() {
            let message = "the ABI has neither events nor functions";
            return Err(StoreError::Invalid(message.to_owned()));
        }
        let now = self.now();
        let info = AbiInfo {
            id: self.next_id(now),
            name: name.to_owned(),
            created_at: now,
            deleted_at: None,
        };
        let mut tx = self.begin_write(CREATING).await?;
        ensure_tenant(&mut tx, tenant, now).await?;
        check_room(&mut tx, tenant, name, CREATING).await?;
        sqlx::query(
            "INSERT INTO abis (tenant_id, id, name, abi, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant.to_owned())
        .bind(info.id.clone())
        .bind(info.name.clone())
        .bind(text.to_owned())
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(name_taken(name, CREATING))?;
        let detail = json!({
            "name": name, "events": abi.events().len(), "functions": abi.functions().len(),
        });
        let row =
            NewAudit { tenant, actor, action: "abi.create", target: &info.id, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CREATING))?;
        Ok(info)
    }

    /// The ABIs of a tenant, newest first, without deleted ones.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_abis(&self, tenant: &str, page: &Page) -> Result<Vec<AbiInfo>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, created_at, deleted_at FROM abis \
             WHERE tenant_id = $1 AND id < $2 AND deleted_at IS NULL ORDER BY id DESC LIMIT $3",
        )
        .bind(tenant.to_owned())
        .bind(page.below().to_owned())
        .bind(page.limit()?)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// The ABI of a tenant with this name or id; `None` when there is none or it is deleted.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_abi(
        &self,
        tenant: &str,
        name_or_id: &str,
    ) -> Result<Option<AbiInfo>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, created_at, deleted_at FROM abis \
             WHERE tenant_id = $1 AND (name = $2 OR id = $2) AND deleted_at IS NULL",
        )
        .bind(tenant.to_owned())
        .bind(name_or_id.to_owned())
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        row.as_ref().map(read).transpose()
    }

    /// The text of a tenant's ABI with this name or id, as it was uploaded; `None` when there is
    /// none or it is deleted. Built-in ABIs are not among them: see [`lookout_abi::builtin`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn abi_text(
        &self,
        tenant: &str,
        name_or_id: &str,
    ) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "SELECT abi FROM abis \
             WHERE tenant_id = $1 AND (name = $2 OR id = $2) AND deleted_at IS NULL",
        )
        .bind(tenant.to_owned())
        .bind(name_or_id.to_owned())
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        let text = row.map(|row| row.try_get("abi")).transpose();
        text.map_err(StoreError::database(READING))
    }

    /// Deletes an ABI; it can be restored until it is purged. Deleting it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn delete_abi(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<AbiInfo, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(DELETING).await?;
        let mut info = by_id(&mut tx, tenant, id, DELETING).await?;
        if info.deleted_at.is_none() {
            set_deleted(&mut tx, tenant, id, Some(now))
                .await
                .map_err(StoreError::database(DELETING))?;
            info.deleted_at = Some(now);
            let detail = json!({ "name": info.name });
            let row = NewAudit { tenant, actor, action: "abi.delete", target: id, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(DELETING))?;
        Ok(info)
    }

    /// Takes a deletion back. Restoring one that is not deleted changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's; [`StoreError::Limit`]
    /// when its name is taken by now, or the tenant has too many.
    pub async fn restore_abi(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<AbiInfo, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(RESTORING).await?;
        let mut info = by_id(&mut tx, tenant, id, RESTORING).await?;
        if info.deleted_at.is_some() {
            check_room(&mut tx, tenant, &info.name, RESTORING).await?;
            let set = set_deleted(&mut tx, tenant, id, None).await;
            set.map_err(name_taken(&info.name, RESTORING))?;
            info.deleted_at = None;
            let detail = json!({ "name": info.name });
            let row =
                NewAudit { tenant, actor, action: "abi.restore", target: id, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(RESTORING))?;
        Ok(info)
    }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let slug = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !slug {
        let shown: String = name.escape_debug().take(NAME_BYTES_MAX).collect();
        return Err(StoreError::Invalid(format!(
            "`{shown}` is not a name of an ABI: expected 1 to {NAME_BYTES_MAX} of a-z, 0-9, ., - and _, \
             a letter or digit first"
        )));
    }
    if BUILTIN_NAMES.contains(&name) {
        return Err(StoreError::Invalid(format!("`{name}` is built in; choose another name")));
    }
    // Names and ids stand in the same places, so that neither may be taken for the other.
    if Uuid::try_parse(name).is_ok() {
        return Err(StoreError::Invalid(format!("`{name}` is an id; choose another name")));
    }
    Ok(())
}

/// Refuses one ABI more than there may be, and a name that is taken.
async fn check_room(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
    doing: &'static str,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS abis, COALESCE(SUM(CASE WHEN name = $2 THEN 1 ELSE 0 END), 0) AS same \
         FROM abis WHERE tenant_id = $1 AND deleted_at IS NULL",
    )
    .bind(tenant.to_owned())
    .bind(name.to_owned())
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(doing))?;
    let count = |column| row.try_get::<i64, _>(column).map_err(StoreError::database(doing));
    if count("same")? > 0 {
        return Err(taken(name));
    }
    let abis = count("abis")?;
    if abis >= ABIS_PER_TENANT_MAX {
        return Err(StoreError::Limit(format!(
            "tenant `{tenant}` has {abis} ABIs, the most there may be; delete one first"
        )));
    }
    Ok(())
}

fn taken(name: &str) -> StoreError {
    StoreError::Limit(format!("there is an ABI `{name}` already; delete it or choose another name"))
}

/// For `map_err`: another writer may have been faster on an engine that lets two write at once.
fn name_taken(name: &str, doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| match &source {
        sqlx::Error::Database(error) if error.is_unique_violation() => taken(name),
        _ => StoreError::database(doing)(source),
    }
}

async fn by_id(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    doing: &'static str,
) -> Result<AbiInfo, StoreError> {
    let row = sqlx::query(
        "SELECT id, name, created_at, deleted_at FROM abis WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant.to_owned())
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await
    .map_err(StoreError::database(doing))?;
    let shown = || id.escape_debug().take(NAME_BYTES_MAX).collect();
    row.as_ref().map_or_else(|| Err(StoreError::NotFound { what: "ABI", id: shown() }), read)
}

async fn set_deleted(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    at: Option<UnixMillis>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE abis SET deleted_at = $1 WHERE tenant_id = $2 AND id = $3")
        .bind(at)
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(connection)
        .await
        .map(|_| ())
}

fn read(row: &AnyRow) -> Result<AbiInfo, StoreError> {
    let info = || -> Result<AbiInfo, sqlx::Error> {
        Ok(AbiInfo {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
            deleted_at: row.try_get("deleted_at")?,
        })
    };
    info().map_err(StoreError::database(READING))
}
