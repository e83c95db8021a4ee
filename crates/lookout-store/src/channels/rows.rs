//! Channels as rows.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{
    ChannelConfig, ChannelInfo, ChannelSecrets, ChannelState, Page, SigningKey, StoreError,
};

/// Most channels of one tenant that are not deleted: far above what people look after by hand.
const CHANNELS_PER_TENANT_MAX: i64 = 500;

pub(super) const CREATING: &str = "creating a channel";
pub(super) const READING: &str = "reading channels";
pub(super) const CHANGING: &str = "changing a channel";

macro_rules! select_channels {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_id, id, name, config, secrets, state, reason, muted_until, created_at, \
             updated_at, deleted_at FROM channels ",
            $rest
        )
    };
}

/// A row with its secrets.
pub(super) struct Stored {
    pub(super) info: ChannelInfo,
    pub(super) secrets: ChannelSecrets,
}

pub(crate) fn no_channel(id: &str) -> StoreError {
    StoreError::NotFound { what: "channel", id: id.escape_debug().take(100).collect() }
}

/// The channels of a tenant, newest first: those that are not deleted, or those that are.
pub(super) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    deleted: bool,
    page: &Page,
) -> Result<Vec<ChannelInfo>, StoreError> {
    let query = if deleted {
        sqlx::query(select_channels!(
            "WHERE tenant_id = $1 AND id < $2 AND deleted_at IS NOT NULL ORDER BY id DESC LIMIT $3"
        ))
    } else {
        sqlx::query(select_channels!(
            "WHERE tenant_id = $1 AND id < $2 AND deleted_at IS NULL ORDER BY id DESC LIMIT $3"
        ))
    };
    let (below, limit) = (page.below().to_owned(), page.limit()?);
    let rows = query.bind(tenant.to_owned()).bind(below).bind(limit).fetch_all(connection);
    let rows = rows.await.map_err(StoreError::database(READING))?;
    rows.iter().map(|row| Ok(read(row)?.info)).collect()
}

/// Reads a channel that is about to be changed. The row is written first, so that nobody else
/// changes it in between on either engine.
pub(super) async fn find_locked(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<Stored, StoreError> {
    sqlx::query("UPDATE channels SET updated_at = updated_at WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(CHANGING))?;
    find(connection, tenant, id).await
}

/// Refuses a tenant with too many channels.
pub(super) async fn check_room(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS channels FROM channels WHERE tenant_id = $1 AND deleted_at IS NULL",
    )
    .bind(tenant.to_owned())
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    let channels: i64 = row.try_get("channels").map_err(StoreError::database(CREATING))?;
    if channels >= CHANNELS_PER_TENANT_MAX {
        return Err(StoreError::Limit(format!(
            "tenant `{tenant}` has {channels} channels, the most there may be; delete one first"
        )));
    }
    Ok(())
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<Stored, StoreError> {
    let row = sqlx::query(select_channels!("WHERE tenant_id = $1 AND id = $2"))
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(READING))?;
    row.as_ref().map_or_else(|| Err(no_channel(id)), read)
}

pub(super) async fn insert(
    connection: &mut AnyConnection,
    info: &ChannelInfo,
    secrets: &ChannelSecrets,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO channels \
         (tenant_id, id, name, kind, config, secrets, state, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(info.tenant.clone())
    .bind(info.id.clone())
    .bind(info.name.clone())
    .bind(info.config.kind())
    .bind(info.config.write()?)
    .bind(secrets.write()?)
    .bind(info.state.as_str())
    .bind(info.created_at)
    .bind(info.updated_at)
    .execute(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    Ok(())
}

/// What is learned of a channel from now on is about what it is then: it is sent to afresh.
pub(super) async fn write(
    connection: &mut AnyConnection,
    stored: &Stored,
) -> Result<(), StoreError> {
    let Stored { info, secrets } = stored;
    sqlx::query(
        "UPDATE channels SET name = $1, config = $2, secrets = $3, state = $4, reason = $5, \
         updated_at = $6, deleted_at = $7, revision = revision + 1, wait_until = NULL, \
         failures = 0 WHERE tenant_id = $8 AND id = $9",
    )
    .bind(info.name.clone())
    .bind(info.config.write()?)
    .bind(secrets.write()?)
    .bind(info.state.as_str())
    .bind(info.reason.clone())
    .bind(info.updated_at)
    .bind(info.deleted_at)
    .bind(info.tenant.clone())
    .bind(info.id.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Stored, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(READING));
    let time = |column| row.try_get::<i64, _>(column).map_err(StoreError::database(READING));
    let maybe =
        |column| row.try_get::<Option<i64>, _>(column).map_err(StoreError::database(READING));
    let id = text("id")?;
    let secrets = ChannelSecrets::read(&text("secrets")?, &id)?;
    let info = ChannelInfo {
        tenant: text("tenant_id")?,
        name: text("name")?,
        config: ChannelConfig::read(&text("config")?, &id)?,
        own_bot: secrets.token.is_some(),
        signing: secrets.signing.iter().map(SigningKey::info).collect::<Result<_, _>>()?,
        state: ChannelState::parse(&text("state")?)?,
        reason: row.try_get("reason").map_err(StoreError::database(READING))?,
        muted_until: maybe("muted_until")?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        deleted_at: maybe("deleted_at")?,
        id,
    };
    Ok(Stored { info, secrets })
}
