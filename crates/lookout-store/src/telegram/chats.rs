//! What a linked chat may see and do.

use lookout_types::{ChainId, UnixMillis};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{BotKey, LINKING, write_config};
use crate::outbox::forget_throttling;
use crate::{ChannelConfig, ChannelSecrets, ChatKind, Store, StoreError};

/// Most channels of one chat: several tenants may share a group.
const CHANNELS_MAX: usize = 20;
/// Most rules listed: a message holds about as many.
const RULES_MAX: i64 = 50;

const CHATTING: &str = "answering a Telegram chat";

/// A channel that leads to a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatChannel {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// unlinked, active, disabled.
    pub state: String,
    /// Why it is disabled.
    pub reason: Option<String>,
    /// Alerts are held back until then.
    pub muted_until: Option<UnixMillis>,
}

/// A rule that alerts to a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRule {
    /// Its name.
    pub name: String,
    /// Its chain.
    pub chain: ChainId,
    /// Whether it rests.
    pub is_paused: bool,
}

/// How a channel of a chat is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatStatus {
    /// Deliveries that wait.
    pub queued: i64,
    /// When the newest of those that were sent went out.
    pub last_sent_at: Option<UnixMillis>,
    /// The chains of the channel's rules.
    pub chains: Vec<ChainStatus>,
}

/// How far rules have been checked on a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainStatus {
    /// Which chain.
    pub chain: ChainId,
    /// The newest height checked; `None` before the first.
    pub height: Option<i64>,
    /// That block's time, in seconds.
    pub block_time: Option<i64>,
}

impl Store {
    /// The channels that lead to this chat through this bot.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn chat_channels(
        &self,
        bot: &BotKey,
        chat: i64,
    ) -> Result<Vec<ChatChannel>, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(CHATTING))?;
        let found = of_chat(&mut connection, bot, chat, CHANNELS_MAX).await?;
        Ok(found.into_iter().map(|(channel, _)| channel).collect())
    }

    /// The rules that alert to a channel, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn chat_rules(&self, channel: &ChatChannel) -> Result<Vec<ChatRule>, StoreError> {
        let failed = StoreError::database(CHATTING);
        let rows = sqlx::query(
            "SELECT name, chain_id, paused FROM rules WHERE tenant_id = $1 AND channels LIKE $2 \
             AND deleted_at IS NULL ORDER BY name, id LIMIT $3",
        )
        .bind(channel.tenant.clone())
        .bind(format!("%\"{}\"%", channel.id))
        .bind(RULES_MAX)
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        let mut rules = Vec::with_capacity(rows.len());
        for row in &rows {
            let paused: i64 = row.try_get("paused").map_err(&failed)?;
            rules.push(ChatRule {
                name: row.try_get("name").map_err(&failed)?,
                chain: chain(row)?,
                is_paused: paused != 0,
            });
        }
        Ok(rules)
    }

    /// How a channel is doing.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn chat_status(&self, channel: &ChatChannel) -> Result<ChatStatus, StoreError> {
        let failed = StoreError::database(CHATTING);
        let row = sqlx::query(
            "SELECT COUNT(*) AS queued, \
             (SELECT ended_at FROM deliveries WHERE tenant_id = $1 AND channel_id = $2 \
              AND state = 'sent' ORDER BY id DESC LIMIT 1) AS last_sent \
             FROM deliveries WHERE channel_id = $3 AND state = 'queued'",
        )
        .bind(channel.tenant.clone())
        .bind(channel.id.clone())
        .bind(channel.id.clone())
        .fetch_one(self.pool())
        .await
        .map_err(&failed)?;
        let chains = sqlx::query(
            "SELECT r.chain_id, MAX(w.height) AS height, MAX(w.block_time) AS block_time \
             FROM (SELECT DISTINCT chain_id FROM rules WHERE tenant_id = $1 AND channels LIKE $2 \
              AND deleted_at IS NULL) r \
             LEFT JOIN watched_blocks w ON w.chain_id = r.chain_id \
             GROUP BY r.chain_id ORDER BY r.chain_id",
        )
        .bind(channel.tenant.clone())
        .bind(format!("%\"{}\"%", channel.id))
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        let read = |row: &AnyRow| {
            Ok(ChainStatus {
                chain: chain(row)?,
                height: row.try_get("height").map_err(&failed)?,
                block_time: row.try_get("block_time").map_err(&failed)?,
            })
        };
        Ok(ChatStatus {
            queued: row.try_get("queued").map_err(&failed)?,
            last_sent_at: row.try_get("last_sent").map_err(&failed)?,
            chains: chains.iter().map(read).collect::<Result<_, StoreError>>()?,
        })
    }

    /// Holds a chat's alerts back until a time, or no longer; how many channels that concerns.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn mute_chat(
        &self,
        bot: &BotKey,
        chat: i64,
        until: Option<UnixMillis>,
        user: i64,
    ) -> Result<usize, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(CHATTING).await?;
        let found = of_chat(&mut tx, bot, chat, CHANNELS_MAX).await?;
        for (channel, _) in &found {
            forget_throttling(&mut tx, &channel.tenant, &channel.id).await?;
            sqlx::query(
                "UPDATE channels SET muted_until = $1, updated_at = $2, \
                 revision = revision + 1 WHERE tenant_id = $3 AND id = $4",
            )
            .bind(until)
            .bind(now)
            .bind(channel.tenant.clone())
            .bind(channel.id.clone())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::database(CHATTING))?;
            let action = if until.is_some() { "channel.mute" } else { "channel.unmute" };
            let detail = json!({ "until": until, "user": user });
            let (tenant, id) = (&channel.tenant, &channel.id);
            self.audit_telegram(&mut tx, tenant, action, id, &detail, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(CHATTING))?;
        self.signals().deliveries.raise();
        Ok(found.len())
    }

    /// Gives the channels of a chat its new number: a group that grew has another. How many there
    /// were.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn move_chat(&self, bot: &BotKey, from: i64, to: i64) -> Result<usize, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(LINKING).await?;
        // All of them, however many: one that stays behind leads nowhere.
        let found = of_chat(&mut tx, bot, from, usize::MAX).await?;
        for (channel, title) in &found {
            let (tenant, id) = (&channel.tenant, &channel.id);
            let config = ChannelConfig::Telegram {
                chat_id: Some(to),
                chat_title: title.clone(),
                chat_kind: Some(ChatKind::Supergroup),
            };
            write_config(&mut tx, tenant, id, &config, now).await?;
            let detail = json!({ "from": from, "to": to });
            self.audit_telegram(&mut tx, tenant, "channel.move", id, &detail, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(LINKING))?;
        Ok(found.len())
    }

    /// Disables the channels of a chat that the bot was removed from; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn drop_chat(
        &self,
        bot: &BotKey,
        chat: i64,
        reason: &str,
    ) -> Result<usize, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(LINKING).await?;
        let found = of_chat(&mut tx, bot, chat, usize::MAX).await?;
        for (channel, _) in &found {
            let (tenant, id) = (&channel.tenant, &channel.id);
            self.switch_channel_off(&mut tx, tenant, id, reason, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(LINKING))?;
        Ok(found.len())
    }
}

fn chain(row: &AnyRow) -> Result<ChainId, StoreError> {
    let number: i64 = row.try_get("chain_id").map_err(StoreError::database(CHATTING))?;
    let id = u64::try_from(number);
    id.map(ChainId).map_err(|_| StoreError::Corrupt(format!("{number} is no chain id")))
}

/// A channel with its secrets, if it is there.
pub(super) async fn find_channel(
    connection: &mut AnyConnection,
    tenant: &str,
    channel: &str,
) -> Result<Option<(ChatChannel, ChannelSecrets)>, StoreError> {
    let row = sqlx::query(
        "SELECT tenant_id, id, name, state, reason, muted_until, secrets FROM channels \
         WHERE tenant_id = $1 AND id = $2 AND kind = 'telegram' AND deleted_at IS NULL",
    )
    .bind(tenant.to_owned())
    .bind(channel.to_owned())
    .fetch_optional(connection)
    .await
    .map_err(StoreError::database(LINKING))?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get("secrets").map_err(StoreError::database(LINKING))?;
    let secrets = ChannelSecrets::read(&text, channel)?;
    Ok(Some((read(&row)?, secrets)))
}

/// The channels of a chat through a bot, with the chat's title.
async fn of_chat(
    connection: &mut AnyConnection,
    bot: &BotKey,
    chat: i64,
    channels_max: usize,
) -> Result<Vec<(ChatChannel, Option<String>)>, StoreError> {
    // The pattern only narrows what is read in full below.
    let rows = sqlx::query(
        "SELECT tenant_id, id, name, state, reason, muted_until, config, secrets FROM channels \
         WHERE kind = 'telegram' AND deleted_at IS NULL AND config LIKE $1 ORDER BY id",
    )
    .bind(format!("%\"chatId\":{chat},%"))
    .fetch_all(connection)
    .await
    .map_err(StoreError::database(CHATTING))?;
    let mut found = Vec::new();
    for row in &rows {
        let text =
            |column| row.try_get::<String, _>(column).map_err(StoreError::database(CHATTING));
        let id = text("id")?;
        let config = ChannelConfig::read(&text("config")?, &id)?;
        let secrets = ChannelSecrets::read(&text("secrets")?, &id)?;
        let ChannelConfig::Telegram { chat_id, chat_title, .. } = config else { continue };
        let is_full = found.len() >= channels_max;
        if chat_id == Some(chat) && bot.serves(&secrets) && !is_full {
            found.push((read(row)?, chat_title));
        }
    }
    Ok(found)
}

fn read(row: &AnyRow) -> Result<ChatChannel, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(CHATTING));
    let failed = StoreError::database(CHATTING);
    Ok(ChatChannel {
        tenant: text("tenant_id")?,
        id: text("id")?,
        name: text("name")?,
        state: text("state")?,
        reason: row.try_get("reason").map_err(&failed)?,
        muted_until: row.try_get("muted_until").map_err(&failed)?,
    })
}
