//! Telegram: which chat is meant by a channel, and how far a bot's updates have been read.

mod chats;

use lookout_types::{Secret, UnixMillis};
use serde_json::json;
use sqlx::{AnyConnection, Row};

use crate::audit::NewAudit;
use crate::key::{random_text, sha256};
use crate::{Actor, ChannelConfig, ChannelSecrets, ChatKind, Store, StoreError};

pub use chats::{ChainStatus, ChatChannel, ChatRule, ChatStatus};

/// How long a code for linking a chat works, in milliseconds: a day.
pub const LINK_CODE_TTL_MS: i64 = 24 * 60 * 60 * 1000;
/// Length of a code: 62^22 is above 2^128, and a deep link carries up to 64 characters.
const CODE_LENGTH: usize = 22;
/// Longest title of a chat that is kept, in characters.
const TITLE_CHARS_MAX: usize = 128;
/// Most bots whose updates are read: each holds a connection to Telegram.
const BOTS_MAX: i64 = 500;

const LINKING: &str = "linking a Telegram chat";
const READING: &str = "reading the updates of a Telegram bot";

/// Which bot a chat talks to. `Debug` does not show its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotKey {
    /// Its token.
    pub token: Secret,
    /// Whether it is the server's, which serves every channel without a token of its own.
    pub is_server: bool,
}

impl BotKey {
    /// Its name in the store, which tells nothing about the token.
    pub fn id(&self) -> String {
        let hash = sha256(self.token.expose().as_bytes());
        hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it serves the channel with these secrets.
    pub(crate) fn serves(&self, secrets: &ChannelSecrets) -> bool {
        match &secrets.token {
            Some(token) => *token == self.token,
            None => self.is_server,
        }
    }
}

/// A chat as Telegram tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelegramChat {
    /// Telegram's number of it.
    pub id: i64,
    /// Its title, or the person's name.
    pub title: String,
    /// What kind of chat it is.
    pub kind: ChatKind,
}

impl Store {
    /// Makes a code that links the chat in which it is sent to this channel; codes made for it
    /// before end. The code is kept as its hash only, works once and for [`LINK_CODE_TTL_MS`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown channel, another tenant's, and one that is not a
    /// Telegram channel.
    pub async fn make_link_code(
        &self,
        tenant: &str,
        channel_id: &str,
    ) -> Result<String, StoreError> {
        let now = self.now();
        let code = random_text(CODE_LENGTH)?;
        let mut tx = self.begin_write(LINKING).await?;
        let row = sqlx::query(
            "SELECT id FROM channels WHERE tenant_id = $1 AND id = $2 AND kind = 'telegram' \
             AND deleted_at IS NULL",
        )
        .bind(tenant.to_owned())
        .bind(channel_id.to_owned())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::database(LINKING))?;
        if row.is_none() {
            return Err(no_channel(channel_id));
        }
        sqlx::query(
            "DELETE FROM telegram_codes \
             WHERE expires_at <= $1 OR (tenant_id = $2 AND channel_id = $3)",
        )
        .bind(now)
        .bind(tenant.to_owned())
        .bind(channel_id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(LINKING))?;
        sqlx::query(
            "INSERT INTO telegram_codes (code_hash, tenant_id, channel_id, expires_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(sha256(code.as_bytes()).to_vec())
        .bind(tenant.to_owned())
        .bind(channel_id.to_owned())
        .bind(now.saturating_add(LINK_CODE_TTL_MS))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(LINKING))?;
        tx.commit().await.map_err(StoreError::database(LINKING))?;
        Ok(code)
    }

    /// Links the chat in which a code was sent to the code's channel, which becomes active.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a code that is unknown, used, ended or made for another bot's
    /// channel.
    pub async fn link_chat(
        &self,
        code: &str,
        bot: &BotKey,
        chat: &TelegramChat,
        user: i64,
    ) -> Result<ChatChannel, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(LINKING).await?;
        let row = sqlx::query(
            "DELETE FROM telegram_codes WHERE code_hash = $1 AND expires_at > $2 \
             RETURNING tenant_id, channel_id",
        )
        .bind(sha256(code.as_bytes()).to_vec())
        .bind(now)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::database(LINKING))?;
        // The code itself may still be secret: someone may have mistyped it.
        let unknown = || StoreError::NotFound { what: "code", id: "that was sent".to_owned() };
        let row = row.ok_or_else(unknown)?;
        let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(LINKING));
        let (tenant, channel) = (text("tenant_id")?, text("channel_id")?);
        let linked = chats::find_channel(&mut tx, &tenant, &channel).await?;
        let linked = linked.filter(|(_, secrets)| bot.serves(secrets)).ok_or_else(unknown)?.0;
        let title: String = chat.title.chars().take(TITLE_CHARS_MAX).collect();
        let config = ChannelConfig::Telegram {
            chat_id: Some(chat.id),
            chat_title: Some(title),
            chat_kind: Some(chat.kind),
        };
        write_config(&mut tx, &tenant, &channel, &config, now).await?;
        sqlx::query(
            "UPDATE channels SET state = 'active', reason = NULL WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.clone())
        .bind(channel.clone())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(LINKING))?;
        let detail = json!({ "chatId": chat.id, "chatKind": chat.kind, "user": user });
        self.audit_telegram(&mut tx, &tenant, "channel.link", &channel, &detail, now).await?;
        tx.commit().await.map_err(StoreError::database(LINKING))?;
        self.signals().deliveries.raise();
        Ok(ChatChannel { state: "active".to_owned(), ..linked })
    }

    /// The tokens of bots that belong to channels, each once.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn telegram_tokens(&self) -> Result<Vec<Secret>, StoreError> {
        let failed = StoreError::database("listing Telegram bots");
        // Channels on the server's bot have no token and are left out before the limit counts.
        let rows = sqlx::query(
            "SELECT DISTINCT secrets FROM channels WHERE kind = 'telegram' \
             AND secrets LIKE '%\"token\":%' AND deleted_at IS NULL ORDER BY secrets LIMIT $1",
        )
        .bind(BOTS_MAX)
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        let mut tokens: Vec<Secret> = Vec::new();
        for row in &rows {
            let text: String = row.try_get("secrets").map_err(&failed)?;
            let secrets = ChannelSecrets::read(&text, "a Telegram bot")?;
            tokens.extend(secrets.token.filter(|token| !tokens.contains(token)));
        }
        Ok(tokens)
    }

    /// Keeps the name under which people find a bot.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn name_bot(&self, bot: &BotKey, username: &str) -> Result<(), StoreError> {
        let mut tx = self.begin_write(READING).await?;
        if bot.is_server {
            // There is one, also after its token was changed.
            sqlx::query("UPDATE telegram_bots SET is_server = 0 WHERE is_server = 1")
                .execute(&mut *tx)
                .await
                .map_err(StoreError::database(READING))?;
        }
        sqlx::query(
            "INSERT INTO telegram_bots (bot, username, is_server, next_update, lease, lease_until) \
             VALUES ($1, $2, $3, 0, '', 0) ON CONFLICT (bot) DO UPDATE \
             SET username = excluded.username, is_server = excluded.is_server",
        )
        .bind(bot.id())
        .bind(username.to_owned())
        .bind(i64::from(bot.is_server))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(READING))?;
        tx.commit().await.map_err(StoreError::database(READING))
    }

    /// The link that opens a channel's bot with a code; `None` while the bot's name is not known.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown channel and for another tenant's.
    pub async fn link_url(
        &self,
        tenant: &str,
        channel_id: &str,
        code: &str,
    ) -> Result<Option<String>, StoreError> {
        let failed = StoreError::database(LINKING);
        let mut connection = self.pool().acquire().await.map_err(&failed)?;
        let found = chats::find_channel(&mut connection, tenant, channel_id).await?;
        let (_, secrets) = found.ok_or_else(|| no_channel(channel_id))?;
        let query = match secrets.token {
            Some(token) => {
                sqlx::query("SELECT username FROM telegram_bots WHERE bot = $1 AND username <> ''")
                    .bind(BotKey { token, is_server: false }.id())
            }
            None => sqlx::query(
                "SELECT username FROM telegram_bots WHERE is_server = 1 AND username <> ''",
            ),
        };
        let row = query.fetch_optional(&mut *connection).await.map_err(&failed)?;
        let name = row.map(|row| row.try_get::<String, _>("username"));
        let name = name.transpose().map_err(&failed)?;
        Ok(name.map(|name| format!("https://t.me/{name}?start={code}")))
    }

    /// Takes or renews the right to read a bot's updates: Telegram lets one at a time. `Some` holds
    /// the first update that is not done; `None` while another instance reads.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn take_bot(
        &self,
        bot: &str,
        lease: &str,
        until: UnixMillis,
    ) -> Result<Option<i64>, StoreError> {
        let rows = sqlx::query(
            "INSERT INTO telegram_bots (bot, username, is_server, next_update, lease, lease_until) \
             VALUES ($1, '', 0, 0, $2, $3) ON CONFLICT (bot) DO UPDATE \
             SET lease = excluded.lease, lease_until = excluded.lease_until \
             WHERE telegram_bots.lease = excluded.lease OR telegram_bots.lease_until <= $4 \
             RETURNING next_update",
        )
        .bind(bot.to_owned())
        .bind(lease.to_owned())
        .bind(until)
        .bind(self.now())
        // To the end, which is where SQLite commits; after the first row it would be cut off.
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        let read = |row: &sqlx::any::AnyRow| row.try_get("next_update");
        rows.first().map(read).transpose().map_err(StoreError::database(READING))
    }

    /// Keeps how far a bot's updates are done; `false` when another instance reads them now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn save_update(
        &self,
        bot: &str,
        lease: &str,
        next_update: i64,
    ) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE telegram_bots SET next_update = $1 WHERE bot = $2 AND lease = $3")
                .bind(next_update)
                .bind(bot.to_owned())
                .bind(lease.to_owned())
                .execute(self.pool())
                .await
                .map_err(StoreError::database(READING))?;
        Ok(done.rows_affected() > 0)
    }

    /// Gives the right to read a bot's updates back, so that the next need not wait for its end.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn release_bot(&self, bot: &str, lease: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE telegram_bots SET lease_until = 0 WHERE bot = $1 AND lease = $2")
            .bind(bot.to_owned())
            .bind(lease.to_owned())
            .execute(self.pool())
            .await
            .map_err(StoreError::database(READING))?;
        Ok(())
    }

    async fn audit_telegram(
        &self,
        connection: &mut AnyConnection,
        tenant: &str,
        action: &str,
        target: &str,
        detail: &serde_json::Value,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let actor = &Actor::System("telegram");
        let row = NewAudit { tenant, actor, action, target, detail };
        self.insert_audit(connection, row, now).await
    }
}

fn no_channel(id: &str) -> StoreError {
    StoreError::NotFound { what: "Telegram channel", id: id.escape_debug().take(100).collect() }
}

async fn write_config(
    connection: &mut AnyConnection,
    tenant: &str,
    channel: &str,
    config: &ChannelConfig,
    now: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE channels SET config = $1, updated_at = $2, revision = revision + 1, \
         wait_until = NULL, failures = 0 WHERE tenant_id = $3 AND id = $4",
    )
    .bind(config.write()?)
    .bind(now)
    .bind(tenant.to_owned())
    .bind(channel.to_owned())
    .execute(connection)
    .await
    .map_err(StoreError::database(LINKING))?;
    Ok(())
}
