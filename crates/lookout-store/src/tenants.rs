//! Tenants: who owns keys and, later, everything else.

use lookout_types::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{Page, Store, StoreError};

/// The tenant of an installation without keys.
pub const TENANT_DEFAULT: &str = "default";

/// Longest name of a tenant: fits a DNS label, so that it can become part of a host name.
const TENANT_LENGTH_MAX: usize = 63;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantInfo {
    /// Its id, which is its name: lowercase letters, digits, `-` and `_`.
    pub id: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was deleted; `None` while it is not.
    pub deleted_at: Option<UnixMillis>,
}

impl Store {
    /// All tenants in order of their ids, deleted ones included.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_tenants(&self, page: &Page) -> Result<Vec<TenantInfo>, StoreError> {
        let failed = StoreError::database("listing tenants");
        let rows = sqlx::query(
            "SELECT tenant_id, created_at, deleted_at FROM tenants \
             WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2",
        )
        .bind(page.above().to_owned())
        .bind(page.limit()?)
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }
}

fn read(row: &AnyRow) -> Result<TenantInfo, sqlx::Error> {
    Ok(TenantInfo {
        id: row.try_get("tenant_id")?,
        created_at: row.try_get("created_at")?,
        deleted_at: row.try_get("deleted_at")?,
    })
}

/// Checks the name of a tenant.
pub(crate) fn check_tenant(tenant: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (1..=TENANT_LENGTH_MAX).contains(&tenant.len()) && tenant.bytes().all(plain) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "`{}` is not a tenant name: expected 1 to {TENANT_LENGTH_MAX} of a-z, 0-9, - and _",
        tenant.escape_debug().take(TENANT_LENGTH_MAX).collect::<String>()
    )))
}

/// Creates the tenant if it is unknown; tells whether it did.
pub(crate) async fn ensure_tenant(
    connection: &mut AnyConnection,
    tenant: &str,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO tenants (tenant_id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(tenant.to_owned())
    .bind(now)
    .execute(connection)
    .await
    .map_err(StoreError::database("creating a tenant"))?;
    Ok(done.rows_affected() > 0)
}
