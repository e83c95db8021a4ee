//! Deliveries as tenants see them: the list, tests, and another try for those that died.

use std::time::Duration;

use lookout_types::UnixMillis;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use tokio::time::Instant;

use crate::audit::NewAudit;
use crate::{Actor, ChannelState, Page, Store, StoreError};

/// Most tests of one channel that wait or are under way: they are for people who look on.
const TESTS_QUEUED_MAX: i64 = 5;
/// Most deliveries that one call queues again; keeps the transaction short.
const REPLAY_MAX: i64 = 10_000;
/// Between two looks at a delivery whose end is waited for. Another instance may end it, and its
/// signal is not heard here.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const READING: &str = "reading deliveries";
const TESTING: &str = "queueing a test";
const REPLAYING: &str = "queueing a delivery again";

/// Names of an enum's values in the store and in answers.
macro_rules! names {
    ($(#[$about:meta])* $type:ident $what:literal { $($(#[$doc:meta])* $variant:ident $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$doc])* $variant,)* }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in the store and in answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The one of this name.
            ///
            /// # Errors
            /// [`StoreError::Invalid`] lists the names there are.
            pub fn parse(text: &str) -> Result<Self, StoreError> {
                let found = Self::ALL.iter().copied().find(|one| one.as_str() == text);
                found.ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    let shown: String = text.escape_debug().take(40).collect();
                    let names = names.join(", ");
                    StoreError::Invalid(format!(concat!("`{}` is no ", $what, ": expected one of {}"), shown, names))
                })
            }
        }
    };
}

names! {
    /// What a delivery carries.
    DeliveryKind "kind of delivery" {
        /// A confirmed alert.
        Alert "alert",
        /// The retraction of one that was sent.
        Retraction "retraction",
        /// A message to try the channel with.
        Test "test",
    }
}

names! {
    /// How far a delivery has come.
    DeliveryState "state of a delivery" {
        /// It waits for its time.
        Queued "queued",
        /// A worker sends it.
        Sending "sending",
        /// The receiver has taken it.
        Sent "sent",
        /// A silence held it back.
        Silenced "silenced",
        /// Its alert or its channel went away before.
        Cancelled "cancelled",
        /// All tries failed, or the receiver refused it; it can be replayed.
        Dead "dead",
    }
}

impl DeliveryState {
    /// Whether nothing more happens to it by itself.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Sending)
    }
}

/// One alert's way to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryInfo {
    /// Its id, a `UUIDv7`; receivers of webhooks see it as `webhook-id`.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// The channel.
    pub channel_id: String,
    /// The alert; `None` for a test.
    pub alert_id: Option<String>,
    /// What it carries.
    pub kind: DeliveryKind,
    /// How far it has come.
    pub state: DeliveryState,
    /// Tries that ended in any way.
    pub attempts: i64,
    /// Not tried before.
    pub due_at: UnixMillis,
    /// The receiver's name of the message, where it gives one.
    pub message_id: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it was queued first.
    pub created_at: UnixMillis,
    /// When it came to its end.
    pub ended_at: Option<UnixMillis>,
}

impl DeliveryInfo {
    /// Whether something is known: how it ended, or why its first try failed.
    pub fn has_outcome(&self) -> bool {
        // A receiver that only asks to wait costs no try, but says so.
        let tried = self.attempts > 0 || self.error.is_some();
        self.state.is_final() || self.state == DeliveryState::Queued && tried
    }
}

/// Which deliveries to list; `None` for all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Of this channel.
    pub channel: Option<String>,
    /// Of this alert.
    pub alert: Option<String>,
    /// In this state; `dead` is the dead-letter view.
    pub state: Option<DeliveryState>,
    /// Of this kind.
    pub kind: Option<DeliveryKind>,
}

/// What a replay of a whole channel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Deliveries that are queued again.
    pub queued: u64,
    /// Whether more are dead, so that another call helps.
    pub more: bool,
}

const COLUMNS: &str = "SELECT tenant_id, id, channel_id, alert_id, kind, state, attempts, due_at, \
     message_id, error, created_at, ended_at FROM deliveries";
/// A retracted alert is not told after all; of the dead, it stays where it is.
const REPLAYABLE: &str = "tenant_id = $1 AND channel_id = $2 AND state = 'dead' AND NOT \
     (kind = 'alert' AND EXISTS (SELECT 1 FROM alerts a WHERE a.tenant_id = deliveries.tenant_id \
     AND a.id = deliveries.alert_id AND a.state = 'retracted'))";

impl Store {
    /// The deliveries of a tenant that fit the filter, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_deliveries(
        &self,
        tenant: &str,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Vec<DeliveryInfo>, StoreError> {
        let mut statement = format!("{COLUMNS} WHERE tenant_id = $1 AND id < $2");
        let mut values = vec![tenant.to_owned(), page.below().to_owned()];
        let ids = [("channel_id", &filter.channel), ("alert_id", &filter.alert)];
        for (column, id) in ids {
            if let Some(id) = id {
                values.push(id.clone());
                statement.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        // Written out rather than bound, so that an index on one state can serve.
        if let Some(state) = filter.state {
            statement.push_str(&format!(" AND state = '{}'", state.as_str()));
        }
        if let Some(kind) = filter.kind {
            statement.push_str(&format!(" AND kind = '{}'", kind.as_str()));
        }
        statement.push_str(&format!(" ORDER BY id DESC LIMIT {}", page.limit()?));
        // Made of constants and placeholders alone.
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = query.bind(value);
        }
        let rows = query.fetch_all(self.pool()).await.map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// One delivery of a tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn get_delivery(&self, tenant: &str, id: &str) -> Result<DeliveryInfo, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(READING))?;
        find(&mut connection, tenant, id).await
    }

    /// Queues a message to try a channel with.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or deleted channel and for another tenant's;
    /// [`StoreError::Conflict`] when it is not active; [`StoreError::Limit`] while other tests wait.
    pub async fn queue_test(
        &self,
        tenant: &str,
        channel_id: &str,
        actor: &Actor,
    ) -> Result<DeliveryInfo, StoreError> {
        let channel = self.get_channel(tenant, channel_id).await?;
        match channel.state {
            ChannelState::Active => {}
            ChannelState::Unlinked => {
                return Err(StoreError::Conflict(
                    "no chat is linked to this channel yet; send its bot /start with the code"
                        .to_owned(),
                ));
            }
            ChannelState::Disabled => {
                let why = channel.reason.as_deref().unwrap_or("for no known reason");
                return Err(StoreError::Conflict(format!(
                    "the channel is disabled ({why}); enable it first"
                )));
            }
        }
        let now = self.now();
        let id = self.next_id(now);
        let mut tx = self.begin_write(TESTING).await?;
        let due_at = now.min(self.shared_now(&mut tx).await?);
        check_tests(&mut tx, tenant, channel_id).await?;
        sqlx::query(
            "INSERT INTO deliveries \
             (tenant_id, id, channel_id, kind, state, attempts, due_at, created_at) \
             VALUES ($1, $2, $3, 'test', 'queued', 0, $4, $5)",
        )
        .bind(tenant.to_owned())
        .bind(id.clone())
        .bind(channel_id.to_owned())
        .bind(due_at)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(TESTING))?;
        let detail = json!({ "delivery": id });
        let (action, target) = ("channel.test", channel_id);
        let row = NewAudit { tenant, actor, action, target, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        let delivery = find(&mut tx, tenant, &id).await?;
        tx.commit().await.map_err(StoreError::database(TESTING))?;
        self.signals().deliveries.raise();
        Ok(delivery)
    }

    /// Queues a dead delivery again, as if it had never been tried.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's;
    /// [`StoreError::Conflict`] when it is not dead, its channel is deleted, or its alert was
    /// retracted since.
    pub async fn replay_delivery(
        &self,
        tenant: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<DeliveryInfo, StoreError> {
        let mut tx = self.begin_write(REPLAYING).await?;
        let now = self.now().min(self.shared_now(&mut tx).await?);
        let before = find(&mut tx, tenant, id).await?;
        if before.state != DeliveryState::Dead {
            let state = before.state.as_str();
            return Err(StoreError::Conflict(format!(
                "this delivery is {state}; only a dead one is replayed"
            )));
        }
        self.check_undeleted(&mut tx, tenant, &before.channel_id).await?;
        let done = sqlx::query(AssertSqlSafe(format!(
            "UPDATE deliveries SET state = 'queued', attempts = 0, due_at = $4, ended_at = NULL, \
             error = NULL, throttled_since = NULL \
             WHERE {REPLAYABLE} AND id = $3"
        )))
        .bind(tenant.to_owned())
        .bind(before.channel_id)
        .bind(id.to_owned())
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(REPLAYING))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Conflict(
                "the alert of this delivery was retracted, so it is not told any more".to_owned(),
            ));
        }
        let detail = json!({ "attempts": before.attempts, "error": before.error });
        let (action, target) = ("delivery.replay", id);
        let row = NewAudit { tenant, actor, action, target, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        let after = find(&mut tx, tenant, id).await?;
        tx.commit().await.map_err(StoreError::database(REPLAYING))?;
        self.signals().deliveries.raise();
        Ok(after)
    }

    /// Queues the oldest dead deliveries of a channel again, up to 10,000 of them. Those whose
    /// alert was retracted stay dead.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown or deleted channel and for another tenant's.
    pub async fn replay_dead(
        &self,
        tenant: &str,
        channel_id: &str,
        actor: &Actor,
    ) -> Result<Replayed, StoreError> {
        self.get_channel(tenant, channel_id).await?;
        let mut tx = self.begin_write(REPLAYING).await?;
        let now = self.now().min(self.shared_now(&mut tx).await?);
        self.check_undeleted(&mut tx, tenant, channel_id).await?;
        let done = sqlx::query(AssertSqlSafe(format!(
            "UPDATE deliveries SET state = 'queued', attempts = 0, due_at = $3, ended_at = NULL, \
             error = NULL, throttled_since = NULL \
             WHERE tenant_id = $1 AND id IN (SELECT id FROM deliveries WHERE {REPLAYABLE} \
             ORDER BY id LIMIT {REPLAY_MAX})"
        )))
        .bind(tenant.to_owned())
        .bind(channel_id.to_owned())
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(REPLAYING))?;
        let queued = done.rows_affected();
        if queued > 0 {
            let detail = json!({ "deliveries": queued });
            let (action, target) = ("channel.replay", channel_id);
            let row = NewAudit { tenant, actor, action, target, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        let left = sqlx::query(AssertSqlSafe(format!(
            "SELECT id FROM deliveries WHERE {REPLAYABLE} LIMIT 1"
        )))
        .bind(tenant.to_owned())
        .bind(channel_id.to_owned())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::database(REPLAYING))?;
        tx.commit().await.map_err(StoreError::database(REPLAYING))?;
        self.signals().deliveries.raise();
        Ok(Replayed { queued, more: left.is_some() })
    }

    /// Refuses a channel that is deleted, and keeps it from being deleted until the transaction ends.
    async fn check_undeleted(
        &self,
        connection: &mut AnyConnection,
        tenant: &str,
        channel_id: &str,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT id FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL{}",
            self.engine().lock_row()
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.to_owned())
            .bind(channel_id.to_owned())
            .fetch_optional(connection)
            .await
            .map_err(StoreError::database(REPLAYING))?;
        row.map(|_| ()).ok_or_else(|| {
            StoreError::Conflict("its channel is deleted; restore the channel first".to_owned())
        })
    }

    /// Waits for the end of a delivery, or of its first try, for as long as `patience`; answers
    /// what is known of it then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown id and for another tenant's.
    pub async fn await_delivery(
        &self,
        tenant: &str,
        id: &str,
        patience: Duration,
    ) -> Result<DeliveryInfo, StoreError> {
        let until = Instant::now() + patience;
        let mut changes = self.signals().deliveries.listen();
        loop {
            let delivery = self.get_delivery(tenant, id).await?;
            if delivery.has_outcome() || Instant::now() >= until {
                return Ok(delivery);
            }
            let next_look = until.min(Instant::now() + LOOK_EVERY);
            tokio::select! {
                changed = changes.changed() => {
                    // Only a store that is going away closes it; then time alone is left.
                    if changed.is_err() { tokio::time::sleep_until(next_look).await; }
                }
                () = tokio::time::sleep_until(next_look) => {}
            }
        }
    }
}

async fn check_tests(
    connection: &mut AnyConnection,
    tenant: &str,
    channel_id: &str,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS tests FROM deliveries WHERE tenant_id = $1 AND channel_id = $2 \
         AND kind = 'test' AND state IN ('queued', 'sending')",
    )
    .bind(tenant.to_owned())
    .bind(channel_id.to_owned())
    .fetch_one(connection)
    .await
    .map_err(StoreError::database(TESTING))?;
    let tests: i64 = row.try_get("tests").map_err(StoreError::database(TESTING))?;
    if tests >= TESTS_QUEUED_MAX {
        return Err(StoreError::Limit(format!(
            "{tests} tests of this channel are still waiting, the most there may be; look at \
             its deliveries"
        )));
    }
    Ok(())
}

async fn find(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<DeliveryInfo, StoreError> {
    let statement = format!("{COLUMNS} WHERE tenant_id = $1 AND id = $2");
    let row = sqlx::query(AssertSqlSafe(statement))
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(READING))?;
    let unknown =
        || StoreError::NotFound { what: "delivery", id: id.escape_debug().take(100).collect() };
    row.as_ref().map_or_else(|| Err(unknown()), read)
}

fn read(row: &AnyRow) -> Result<DeliveryInfo, StoreError> {
    let failed = StoreError::database(READING);
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let maybe = |column| row.try_get::<Option<String>, _>(column).map_err(&failed);
    let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
    let id = text("id")?;
    let corrupt = |error: StoreError| StoreError::Corrupt(format!("delivery `{id}`: {error}"));
    let kind = DeliveryKind::parse(&text("kind")?).map_err(corrupt)?;
    let state = DeliveryState::parse(&text("state")?).map_err(corrupt)?;
    Ok(DeliveryInfo {
        tenant: text("tenant_id")?,
        channel_id: text("channel_id")?,
        alert_id: maybe("alert_id")?,
        kind,
        state,
        attempts: number("attempts")?,
        due_at: number("due_at")?,
        message_id: maybe("message_id")?,
        error: maybe("error")?,
        created_at: number("created_at")?,
        ended_at: row.try_get("ended_at").map_err(&failed)?,
        id,
    })
}
