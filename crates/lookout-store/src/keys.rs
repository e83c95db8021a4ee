//! API keys: create, list, revoke, and the check on every request.

use std::sync::Arc;

use lookout_types::{Secret, UnixMillis};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use subtle::ConstantTimeEq;

use crate::audit::NewAudit;
use crate::key::{self, KeyParts};
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{Actor, KeyInfo, NewKey, Page, Scopes, Store, StoreError};

/// Longest name of a key, in bytes: a line in a list.
const NAME_BYTES_MAX: usize = 100;
/// Most unrevoked keys of one tenant: far above what people manage by hand, far below what would
/// slow a list.
const KEYS_PER_TENANT_MAX: i64 = 1_000;

const CREATING: &str = "creating a key";
const LISTING: &str = "listing keys";
const REVOKING: &str = "revoking a key";
const CHECKING: &str = "checking a key";

macro_rules! select_keys {
    ($rest:literal) => {
        concat!(
            "SELECT k.tenant_id, k.id, k.name, k.lookup, k.secret_hash, k.scopes, k.created_at, \
             k.expires_at, k.revoked_at FROM api_keys k ",
            $rest
        )
    };
}

impl Store {
    /// Makes a key, and its tenant when that is unknown. The secret is returned this once.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] says what is wrong with `new`; [`StoreError::Limit`] when the
    /// tenant has too many keys; [`StoreError::NotFound`] when the tenant is deleted.
    pub async fn create_key(
        &self,
        new: NewKey,
        actor: &Actor,
    ) -> Result<(KeyInfo, Secret), StoreError> {
        let now = self.now();
        check(&new, now)?;
        let (secret, parts) = key::generate()?;
        let info = KeyInfo {
            id: self.next_id(now),
            tenant: new.tenant,
            name: new.name,
            prefix: key::prefix(&parts.lookup),
            scopes: new.scopes,
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let mut tx = self.begin_write(CREATING).await?;
        if ensure_tenant(&mut tx, &info.tenant, now).await? {
            let (action, detail) = ("tenant.create", json!({}));
            let (tenant, target) = (&info.tenant, &info.tenant);
            let row = NewAudit { tenant, actor, action, target, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        check_tenant_has_room(&mut tx, &info.tenant).await?;
        insert(&mut tx, &info, &parts).await?;
        let detail = json!({
            "name": info.name, "prefix": info.prefix,
            "scopes": info.scopes.to_string(), "expiresAt": info.expires_at,
        });
        let (tenant, target) = (&info.tenant, &info.id);
        let row = NewAudit { tenant, actor, action: "key.create", target, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CREATING))?;
        self.auth().clear();
        Ok((info, secret))
    }

    /// The keys of a tenant, or of all, newest first, revoked and expired ones included.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_keys(
        &self,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Vec<KeyInfo>, StoreError> {
        let (below, limit) = (page.below().to_owned(), page.limit()?);
        let query = match tenant {
            Some(tenant) => sqlx::query(select_keys!(
                "WHERE k.tenant_id = $1 AND k.id < $2 ORDER BY k.id DESC LIMIT $3"
            ))
            .bind(tenant.to_owned()),
            None => sqlx::query(select_keys!("WHERE k.id < $1 ORDER BY k.id DESC LIMIT $2")),
        };
        let rows = query.bind(below).bind(limit).fetch_all(self.pool()).await;
        rows.map_err(StoreError::database(LISTING))?.iter().map(read).collect()
    }

    /// One key of a tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn get_key(&self, tenant: &str, id: &str) -> Result<KeyInfo, StoreError> {
        let row = sqlx::query(select_keys!("WHERE k.tenant_id = $1 AND k.id = $2"))
            .bind(tenant.to_owned())
            .bind(id.to_owned())
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::database(LISTING))?;
        row.as_ref().map_or_else(|| Err(no_key(id)), read)
    }

    /// The key of any tenant with this id or this shown prefix; for the operator's command line.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub async fn find_key(&self, id_or_prefix: &str) -> Result<KeyInfo, StoreError> {
        let lookup = id_or_prefix.strip_prefix("lk_").unwrap_or("");
        let row = sqlx::query(select_keys!("WHERE k.id = $1 OR k.lookup = $2"))
            .bind(id_or_prefix.to_owned())
            .bind(lookup.to_owned())
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::database(LISTING))?;
        row.as_ref().map_or_else(|| Err(no_key(id_or_prefix)), read)
    }

    /// Ends a key for good, in this process at once and elsewhere within
    /// [`AUTH_CACHE_TTL_MS`](crate::AUTH_CACHE_TTL_MS). Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn revoke_key(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<KeyInfo, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(REVOKING).await?;
        let row = sqlx::query(select_keys!("WHERE k.tenant_id = $1 AND k.id = $2"))
            .bind(tenant.to_owned())
            .bind(id.to_owned())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::database(REVOKING))?;
        let mut info = row.as_ref().map_or_else(|| Err(no_key(id)), read)?;
        let done = sqlx::query(
            "UPDATE api_keys SET revoked_at = $1 \
             WHERE tenant_id = $2 AND id = $3 AND revoked_at IS NULL",
        )
        .bind(now)
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(REVOKING))?;
        if done.rows_affected() > 0 {
            info.revoked_at = Some(now);
            let detail = json!({ "name": info.name, "prefix": info.prefix });
            let row = NewAudit { tenant, actor, action: "key.revoke", target: id, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(REVOKING))?;
        self.auth().clear();
        Ok(info)
    }

    /// Whose key was presented; `None` when it is malformed, unknown, expired or revoked, or its
    /// tenant is deleted. Answered from memory for [`AUTH_CACHE_TTL_MS`](crate::AUTH_CACHE_TTL_MS).
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database cannot be asked: never taken for a wrong key.
    pub async fn authenticate(&self, presented: &str) -> Result<Option<Arc<KeyInfo>>, StoreError> {
        let Some(parts) = key::parse(presented) else {
            return Ok(None);
        };
        let now = self.now();
        let hash = key::sha256(presented.as_bytes());
        let answer = match self.auth().get(&hash, now) {
            Some(answer) => answer,
            None => {
                let generation = self.auth().generation();
                let answer = self.find_presented(&parts).await?.map(Arc::new);
                self.auth().insert(hash, answer.clone(), now, generation);
                answer
            }
        };
        // Checked on every call, so that a key ends at its time also within the cache's.
        Ok(answer.filter(|info| info.is_active(now)))
    }

    async fn find_presented(&self, parts: &KeyParts) -> Result<Option<KeyInfo>, StoreError> {
        let row = sqlx::query(select_keys!(
            "JOIN tenants t ON t.tenant_id = k.tenant_id AND t.deleted_at IS NULL \
             WHERE k.lookup = $1"
        ))
        .bind(parts.lookup.clone())
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::database(CHECKING))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let stored: Vec<u8> = row.try_get("secret_hash").map_err(StoreError::database(CHECKING))?;
        if bool::from(stored.ct_eq(&parts.secret_hash)) { read(&row).map(Some) } else { Ok(None) }
    }

    /// Whether a key was ever made. Revoked and expired ones count: an installation that has had
    /// keys must not fall open when the last one ends.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        let now = self.now();
        if let Some(known) = self.auth().has_keys(now) {
            return Ok(known);
        }
        let generation = self.auth().generation();
        let row = sqlx::query("SELECT id FROM api_keys LIMIT 1")
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::database("looking for keys"))?;
        self.auth().insert_has_keys(row.is_some(), now, generation);
        Ok(row.is_some())
    }
}

fn no_key(id: &str) -> StoreError {
    StoreError::NotFound { what: "key", id: id.escape_debug().take(NAME_BYTES_MAX).collect() }
}

fn check(new: &NewKey, now: UnixMillis) -> Result<(), StoreError> {
    let wrong = |message: String| Err(StoreError::Invalid(message));
    check_tenant(&new.tenant)?;
    if new.name.len() > NAME_BYTES_MAX || new.name.chars().any(char::is_control) {
        return wrong(format!(
            "the name of a key holds at most {NAME_BYTES_MAX} bytes and no control characters"
        ));
    }
    if new.scopes.is_empty() {
        return wrong("a key needs at least one scope".to_owned());
    }
    if new.expires_at.is_some_and(|end| end <= now) {
        return wrong("a key must expire in the future".to_owned());
    }
    Ok(())
}

/// Refuses a deleted tenant and one with too many keys.
async fn check_tenant_has_room(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT deleted_at FROM tenants WHERE tenant_id = $1")
        .bind(tenant.to_owned())
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::database(CREATING))?;
    let deleted: Option<i64> = row.try_get("deleted_at").map_err(StoreError::database(CREATING))?;
    if deleted.is_some() {
        return Err(StoreError::NotFound { what: "tenant", id: tenant.to_owned() });
    }
    let row = sqlx::query(
        "SELECT COUNT(*) AS keys FROM api_keys WHERE tenant_id = $1 AND revoked_at IS NULL",
    )
    .bind(tenant.to_owned())
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    let keys: i64 = row.try_get("keys").map_err(StoreError::database(CREATING))?;
    if keys >= KEYS_PER_TENANT_MAX {
        return Err(StoreError::Limit(format!(
            "tenant `{tenant}` has {keys} keys, the most there may be; revoke one first"
        )));
    }
    Ok(())
}

async fn insert(
    connection: &mut AnyConnection,
    info: &KeyInfo,
    parts: &KeyParts,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys \
         (tenant_id, id, name, lookup, secret_hash, scopes, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(info.tenant.clone())
    .bind(info.id.clone())
    .bind(info.name.clone())
    .bind(parts.lookup.clone())
    .bind(parts.secret_hash.to_vec())
    .bind(info.scopes.to_string())
    .bind(info.created_at)
    .bind(info.expires_at)
    .execute(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<KeyInfo, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(LISTING));
    let time =
        |column| row.try_get::<Option<i64>, _>(column).map_err(StoreError::database(LISTING));
    let id = text("id")?;
    let scopes = Scopes::parse(&text("scopes")?)
        .map_err(|e| StoreError::Corrupt(format!("scopes of key `{id}`: {e}")))?;
    Ok(KeyInfo {
        id,
        tenant: text("tenant_id")?,
        name: text("name")?,
        prefix: key::prefix(&text("lookup")?),
        scopes,
        created_at: row.try_get("created_at").map_err(StoreError::database(LISTING))?,
        expires_at: time("expires_at")?,
        revoked_at: time("revoked_at")?,
    })
}
