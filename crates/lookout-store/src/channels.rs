//! Channels: create, list, change, delete, restore, enable, and the rotation of their keys.

mod rows;

use lookout_types::UnixMillis;
use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use self::rows::{
    CHANGING, CREATING, READING, Stored, check_room, find, insert, no_channel, write,
};
use crate::audit::NewAudit;
use crate::channel_check::{check, check_name};
use crate::outbox::make_due;
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{
    Actor, ChannelChange, ChannelConfig, ChannelInfo, ChannelSecrets, ChannelState, GuardSettings,
    NewChannel, Page, SignatureScheme, SigningKey, Store, StoreError,
};

/// Most signing keys of one channel that still sign: every one lengthens each request's header.
const SIGNING_KEYS_MAX: usize = 4;
/// Longest that a replaced key goes on signing: 30 days.
pub const KEY_KEEP_MS_MAX: i64 = 30 * 24 * 3_600_000;

impl Store {
    /// Makes a channel, and its tenant when that is unknown. A webhook without a signing key gets
    /// one for HMAC. The secrets that are returned are not shown again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] says what is wrong with `new`; [`StoreError::Limit`] when the tenant
    /// has too many channels.
    pub async fn create_channel(
        &self,
        mut new: NewChannel,
        guard: &GuardSettings,
        actor: &Actor,
    ) -> Result<(ChannelInfo, ChannelSecrets), StoreError> {
        let now = self.now();
        check_tenant(&new.tenant)?;
        check_name(&new.name)?;
        check(&new.config, &new.secrets, guard)?;
        let signs = matches!(new.config, ChannelConfig::Webhook { .. });
        match (signs, new.secrets.signing.is_empty()) {
            (true, true) => {
                new.secrets.signing.push(SigningKey::generate(SignatureScheme::Hmac, now)?);
            }
            (false, false) => {
                let kind = new.config.kind();
                return Err(StoreError::Invalid(format!("a {kind} channel signs nothing")));
            }
            _ => {}
        }
        let info = new_info(&new, self.next_id(now), now)?;
        let mut tx = self.begin_write(CREATING).await?;
        if ensure_tenant(&mut tx, &info.tenant, now).await? {
            let (tenant, target) = (&info.tenant, &info.tenant);
            let detail = json!({});
            let row = NewAudit { tenant, actor, action: "tenant.create", target, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        check_room(&mut tx, &info.tenant).await?;
        insert(&mut tx, &info, &new.secrets).await?;
        let row = audited(&info, actor, "channel.create");
        let detail = shown(&info);
        self.insert_audit(&mut tx, NewAudit { detail: &detail, ..row }, now).await?;
        tx.commit().await.map_err(StoreError::database(CREATING))?;
        self.signals().deliveries.raise();
        Ok((info, new.secrets))
    }

    /// The channels of a tenant, newest first: those that are not deleted, or those that are.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_channels(
        &self,
        tenant: &str,
        deleted: bool,
        page: &Page,
    ) -> Result<Vec<ChannelInfo>, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(READING))?;
        rows::list(&mut connection, tenant, deleted, page).await
    }

    /// One channel of a tenant that is not deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or deleted one and for another tenant's.
    pub async fn get_channel(&self, tenant: &str, id: &str) -> Result<ChannelInfo, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(READING))?;
        let stored = find(&mut connection, tenant, id).await?;
        if stored.info.deleted_at.is_some() { Err(no_channel(id)) } else { Ok(stored.info) }
    }

    /// Where a channel leads and what opens it, for those who send.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or deleted one and for another tenant's.
    pub async fn open_channel(
        &self,
        tenant: &str,
        id: &str,
    ) -> Result<(ChannelConfig, ChannelSecrets), StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(READING))?;
        let Stored { info, secrets } = find(&mut connection, tenant, id).await?;
        if info.deleted_at.is_some() { Err(no_channel(id)) } else { Ok((info.config, secrets)) }
    }

    /// Gives a channel another name, destination or secrets. It keeps its kind and its state.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] says what is wrong with the change; [`StoreError::NotFound`].
    pub async fn update_channel(
        &self,
        tenant: &str,
        id: &str,
        change: ChannelChange,
        guard: &GuardSettings,
        actor: &Actor,
    ) -> Result<ChannelInfo, StoreError> {
        check_name(&change.name)?;
        self.change_channel(tenant, id, actor, "channel.update", |stored, _| {
            if change.config.kind() != stored.info.config.kind() {
                return Err(StoreError::Invalid(format!(
                    "a channel keeps its kind, and this one is {}; make another channel",
                    stored.info.config.kind()
                )));
            }
            let config = merged(&stored.info.config, change.config);
            let mut secrets = stored.secrets.clone();
            secrets.token = change.token.or(secrets.token);
            secrets.url = change.url.or(secrets.url);
            // A chat that was linked by its code stays so: only a new id needs an own bot.
            if stored.info.config != config || stored.secrets != secrets {
                check_linked(&stored.info.config, &config, &secrets, guard)?;
            }
            stored.info.name = change.name;
            if stored.info.state == ChannelState::Unlinked {
                stored.info.state = config.state();
            }
            stored.info.own_bot = secrets.token.is_some();
            stored.info.config = config;
            stored.secrets = secrets;
            Ok(true)
        })
        .await
    }

    /// Deletes a channel, so that it can be restored. What was queued for it is cancelled.
    /// Deleting it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn delete_channel(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(CHANGING).await?;
        let mut stored = rows::find_locked(&mut tx, tenant, id).await?;
        if stored.info.deleted_at.is_some() {
            return Ok(());
        }
        stored.info.deleted_at = Some(now);
        sqlx::query(
            "UPDATE deliveries SET state = 'cancelled', error = 'the channel was deleted', \
             ended_at = $1 WHERE tenant_id = $2 AND channel_id = $3 AND state = 'queued'",
        )
        .bind(now)
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(CHANGING))?;
        self.commit(tx, &stored, actor, "channel.delete").await
    }

    /// Takes a deletion back. What it cancelled stays cancelled. Restoring a channel that is not
    /// deleted changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's; [`StoreError::Limit`]
    /// when the tenant has too many channels by now.
    pub async fn restore_channel(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<ChannelInfo, StoreError> {
        let mut tx = self.begin_write(CHANGING).await?;
        let mut stored = rows::find_locked(&mut tx, tenant, id).await?;
        if stored.info.deleted_at.is_some() {
            check_room(&mut tx, tenant).await?;
            stored.info.deleted_at = None;
            self.commit(tx, &stored, actor, "channel.restore").await?;
        }
        Ok(stored.info)
    }

    /// Sends to a disabled channel again; what waited for it is due. Enabling one that is not
    /// disabled changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or deleted one and for another tenant's.
    pub async fn enable_channel(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<ChannelInfo, StoreError> {
        self.change_channel(tenant, id, actor, "channel.enable", |stored, _| {
            if stored.info.state != ChannelState::Disabled {
                return Ok(false);
            }
            stored.info.state = stored.info.config.state();
            stored.info.reason = None;
            Ok(true)
        })
        .await
    }

    /// Stops sending to a channel, for a reason that its owner is shown.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or deleted one and for another tenant's.
    pub async fn disable_channel(
        &self,
        tenant: &str,
        id: &str,
        reason: &str,
        actor: &Actor,
    ) -> Result<ChannelInfo, StoreError> {
        self.change_channel(tenant, id, actor, "channel.disable", |stored, _| {
            stored.info.state = ChannelState::Disabled;
            stored.info.reason = Some(reason.chars().take(500).collect());
            Ok(true)
        })
        .await
    }

    /// Adds a signing key to a webhook; those before sign on beside it for `keep_ms`, so that the
    /// receiver can change over. The new key is returned this once.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for another kind of channel and for a time beyond
    /// [`KEY_KEEP_MS_MAX`]; [`StoreError::Limit`] while too many keys still sign;
    /// [`StoreError::NotFound`].
    pub async fn rotate_channel_key(
        &self,
        tenant: &str,
        id: &str,
        scheme: SignatureScheme,
        keep_ms: i64,
        actor: &Actor,
    ) -> Result<(ChannelInfo, SigningKey), StoreError> {
        if !(0..=KEY_KEEP_MS_MAX).contains(&keep_ms) {
            return Err(StoreError::Invalid("an old key is kept for at most 30 days".to_owned()));
        }
        let mut made = None;
        let info = self
            .change_channel(tenant, id, actor, "channel.rotate", |stored, now| {
                if !matches!(stored.info.config, ChannelConfig::Webhook { .. }) {
                    let kind = stored.info.config.kind();
                    return Err(StoreError::Invalid(format!("a {kind} channel signs nothing")));
                }
                let signing = &mut stored.secrets.signing;
                signing.retain(|key| key.is_current(now));
                if signing.len() >= SIGNING_KEYS_MAX {
                    return Err(StoreError::Limit(format!(
                        "{SIGNING_KEYS_MAX} keys of this channel still sign, the most there may \
                         be; rotate again when one has ended"
                    )));
                }
                let end = now.saturating_add(keep_ms);
                for key in signing.iter_mut() {
                    key.ends_at = Some(key.ends_at.map_or(end, |before| before.min(end)));
                }
                let key = SigningKey::generate(scheme, now)?;
                made = Some(key.clone());
                signing.push(key);
                signing.retain(|key| key.is_current(now));
                stored.info.signing =
                    signing.iter().map(SigningKey::info).collect::<Result<_, _>>()?;
                Ok(true)
            })
            .await?;
        let made = made.ok_or_else(|| StoreError::Corrupt("a rotation made no key".to_owned()))?;
        Ok((info, made))
    }

    /// Reads a channel that is not deleted, changes it, and writes it with its audit row; nothing
    /// is written when `change` says that nothing changed.
    async fn change_channel(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
        action: &'static str,
        change: impl FnOnce(&mut Stored, UnixMillis) -> Result<bool, StoreError> + Send,
    ) -> Result<ChannelInfo, StoreError> {
        let mut tx = self.begin_write(CHANGING).await?;
        let mut stored = rows::find_locked(&mut tx, tenant, id).await?;
        if stored.info.deleted_at.is_some() {
            return Err(no_channel(id));
        }
        let now = self.now();
        if change(&mut stored, now)? {
            stored.info.updated_at = now;
            make_due(&mut tx, tenant, id, now).await?;
            self.commit(tx, &stored, actor, action).await?;
        }
        Ok(stored.info)
    }

    async fn commit(
        &self,
        mut tx: Transaction<'static, Any>,
        stored: &Stored,
        actor: &Actor,
        action: &'static str,
    ) -> Result<(), StoreError> {
        write(&mut tx, stored).await?;
        let detail = shown(&stored.info);
        let row = NewAudit { detail: &detail, ..audited(&stored.info, actor, action) };
        self.insert_audit(&mut tx, row, self.now()).await?;
        tx.commit().await.map_err(StoreError::database(CHANGING))?;
        self.signals().deliveries.raise();
        Ok(())
    }
}

fn new_info(new: &NewChannel, id: String, now: UnixMillis) -> Result<ChannelInfo, StoreError> {
    Ok(ChannelInfo {
        id,
        tenant: new.tenant.clone(),
        name: new.name.clone(),
        config: new.config.clone(),
        own_bot: new.secrets.token.is_some(),
        signing: new.secrets.signing.iter().map(SigningKey::info).collect::<Result<_, _>>()?,
        state: new.config.state(),
        reason: None,
        muted_until: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    })
}

/// What was wanted, with the linked chat kept where no other is named.
fn merged(before: &ChannelConfig, wanted: ChannelConfig) -> ChannelConfig {
    match (before, &wanted) {
        (ChannelConfig::Telegram { .. }, ChannelConfig::Telegram { chat_id: None, .. }) => {
            before.clone()
        }
        (
            ChannelConfig::Telegram { chat_id, .. },
            ChannelConfig::Telegram { chat_id: wanted_id, .. },
        ) if chat_id == wanted_id => before.clone(),
        _ => wanted,
    }
}

/// As for a new channel, except that the chat it had may stay.
fn check_linked(
    before: &ChannelConfig,
    config: &ChannelConfig,
    secrets: &ChannelSecrets,
    guard: &GuardSettings,
) -> Result<(), StoreError> {
    if before == config && matches!(config, ChannelConfig::Telegram { .. }) {
        let unlinked = ChannelConfig::Telegram { chat_id: None, chat_title: None, chat_kind: None };
        return check(&unlinked, secrets, guard);
    }
    check(config, secrets, guard)
}

fn audited<'a>(info: &'a ChannelInfo, actor: &'a Actor, action: &'a str) -> NewAudit<'a> {
    const NOTHING: &Value = &Value::Null;
    NewAudit { tenant: &info.tenant, actor, action, target: &info.id, detail: NOTHING }
}

/// What the audit log says about a channel: no secret and no more than fits.
fn shown(info: &ChannelInfo) -> Value {
    let keys: Vec<_> = info.signing.iter().map(|key| key.scheme.as_str()).collect();
    json!({
        "name": info.name, "config": info.config, "state": info.state.as_str(),
        "reason": info.reason, "ownBot": info.own_bot, "keys": keys,
    })
}
