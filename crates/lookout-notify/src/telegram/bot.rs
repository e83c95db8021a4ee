//! The bot's other half: reads what people write to it, links chats, answers commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lookout_store::{BotKey, ChatKind, Store, TelegramChat, Turn};
use lookout_types::{Clock, Secret, UnixMillis};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::ApiError;
use super::commands::{Commands, Heard};
use super::{CALL_TIMEOUT, Telegram, message, paces};

/// How long Telegram holds a request for updates open, in seconds.
const POLL_SECONDS: u64 = 25;
/// Longest that such a request takes.
const POLL_TIMEOUT: Duration = Duration::from_secs(POLL_SECONDS + 15);
/// How long one instance may read a bot's updates without a sign of life, in milliseconds: above
/// one poll.
const LEASE_MS: i64 = 60_000;
/// Between two looks at which bots there are.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Before another look when another instance reads the bot.
const OTHERS_PAUSE: Duration = Duration::from_secs(10);
/// Before another try with a token that Telegram does not know.
const TOKEN_PAUSE: Duration = Duration::from_secs(600);
/// First and longest pause after Telegram could not be reached.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Most answers of a bot that wait for their chat's turn; what comes beyond is not answered.
const ANSWERS_WAITING_MAX: usize = 64;
/// Longest that an answer waits, in milliseconds; later nobody waits for it any more.
const ANSWER_AGE_MAX_MS: i64 = 60_000;
/// Longest sleep before looking again whether it is an answer's turn.
const TURN_SLEEP_MAX: Duration = Duration::from_millis(100);

/// What the bots are made of.
#[derive(Debug)]
pub struct BotsParts {
    /// Holds channels, codes and how far updates are read.
    pub store: Store,
    /// Telegram.
    pub telegram: Arc<Telegram>,
    /// The store's clock.
    pub clock: Arc<dyn Clock>,
    /// Ends them.
    pub stop: CancellationToken,
}

/// Every bot's ear: the server's, and those that channels bring along.
#[derive(Debug)]
pub struct Bots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    telegram: Arc<Telegram>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    /// This instance, among those that share the store.
    instance: String,
}

/// One bot.
#[derive(Debug)]
struct Ear {
    shared: Arc<Shared>,
    key: BotKey,
    id: String,
    answers: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Update {
    message: Option<Message>,
    channel_post: Option<Message>,
    my_chat_member: Option<Membership>,
}

#[derive(Deserialize)]
struct Message {
    chat: Chat,
    from: Option<User>,
    text: Option<String>,
    migrate_to_chat_id: Option<i64>,
}

#[derive(Deserialize)]
struct Membership {
    chat: Chat,
    new_chat_member: Member,
}

#[derive(Deserialize)]
struct Member {
    status: String,
}

#[derive(Deserialize)]
struct User {
    id: i64,
}

#[derive(Deserialize)]
struct Chat {
    id: i64,
    #[serde(rename = "type")]
    kind: ChatKind,
    title: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
}

impl From<Chat> for TelegramChat {
    fn from(chat: Chat) -> Self {
        let names = [chat.title, chat.first_name, chat.last_name];
        let title = names.into_iter().flatten().collect::<Vec<_>>().join(" ");
        Self { id: chat.id, title, kind: chat.kind }
    }
}

impl Bots {
    /// The bots; [`Bots::run`] starts them.
    pub fn new(parts: BotsParts) -> Self {
        let BotsParts { store, telegram, clock, stop } = parts;
        let instance = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Self { shared: Arc::new(Shared { store, telegram, clock, stop, instance }) }
    }

    /// Listens until it is stopped, also to bots of channels that come later.
    pub async fn run(self) {
        let mut ears: HashMap<String, CancellationToken> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut signal = self.shared.store.signals().deliveries.listen();
        while !self.shared.stop.is_cancelled() {
            let keys = match self.keys().await {
                Ok(keys) => Some(keys),
                Err(error) => {
                    tracing::error!(%error, "cannot list Telegram bots");
                    None
                }
            };
            if let Some(keys) = keys {
                let ids: Vec<String> = keys.iter().map(BotKey::id).collect();
                ears.retain(|id, stop| {
                    let stays = ids.contains(id);
                    if !stays {
                        stop.cancel();
                    }
                    stays
                });
                for (key, id) in keys.into_iter().zip(ids) {
                    if ears.contains_key(&id) {
                        continue;
                    }
                    let stop = self.shared.stop.child_token();
                    ears.insert(id.clone(), stop.clone());
                    let answers = Arc::new(Semaphore::new(ANSWERS_WAITING_MAX));
                    let ear = Ear { shared: Arc::clone(&self.shared), key, id, answers };
                    tasks.spawn(async move { ear.listen(&stop).await });
                }
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                changed = signal.changed() => {
                    drop(changed);
                    // Alerts raise it too, and far more often than anybody adds a bot.
                    let pause = tokio::time::sleep(PAUSE_FIRST);
                    self.shared.stop.run_until_cancelled(pause).await;
                }
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn keys(&self) -> Result<Vec<BotKey>, lookout_store::StoreError> {
        let server = self.shared.telegram.server_token.clone();
        let own = self.shared.store.telegram_tokens().await?;
        let mut keys: Vec<BotKey> =
            server.into_iter().map(|token| BotKey { token, is_server: true }).collect();
        for token in own {
            if keys.iter().all(|key| key.token != token) {
                keys.push(BotKey { token, is_server: false });
            }
        }
        Ok(keys)
    }
}

impl Ear {
    async fn listen(&self, stop: &CancellationToken) {
        let Some(Some(name)) = stop.run_until_cancelled(self.introduce()).await else { return };
        let shared = &self.shared;
        let key = self.key.clone();
        let commands = Commands::new(shared.store.clone(), Arc::clone(&shared.clock), key, name);
        let mut answers = JoinSet::new();
        let mut pause = PAUSE_FIRST;
        loop {
            let hear = self.hear(&commands, &mut answers);
            let wait = match stop.run_until_cancelled(hear).await {
                None => break,
                Some(Ok(())) => {
                    pause = PAUSE_FIRST;
                    continue;
                }
                Some(Err(Deaf::Elsewhere)) => OTHERS_PAUSE,
                Some(Err(Deaf::Failed)) => {
                    pause = (pause * 2).min(PAUSE_MAX);
                    pause
                }
                Some(Err(Deaf::Token)) => TOKEN_PAUSE,
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        if let Err(error) = shared.store.release_bot(&self.id, &shared.instance).await {
            tracing::warn!(%error, "cannot give a Telegram bot back");
        }
    }

    /// Asks who the bot is and tells Telegram its commands; the bot's name.
    async fn introduce(&self) -> Option<String> {
        let mut pause = PAUSE_FIRST;
        loop {
            let me = self.call("getMe", &json!({}), CALL_TIMEOUT).await;
            let wait = match me {
                Ok(me) => {
                    let commands = json!({ "commands": Commands::listed() });
                    if let Err(error) = self.call("setMyCommands", &commands, CALL_TIMEOUT).await {
                        tracing::warn!(%error, "cannot list a Telegram bot's commands");
                    }
                    let name = me["username"].as_str().unwrap_or_default().to_owned();
                    if let Err(error) = self.shared.store.name_bot(&self.key, &name).await {
                        tracing::error!(%error, "cannot keep the name of a Telegram bot");
                    }
                    return Some(name);
                }
                Err(error) => self.wait_after(&error, &mut pause),
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn wait_after(&self, error: &ApiError, pause: &mut Duration) -> Duration {
        let is_server = self.key.is_server;
        match error {
            ApiError::Refused { code: 401 | 404, .. } => {
                tracing::error!(%error, is_server, bot = self.id, "a Telegram bot's token is wrong");
                TOKEN_PAUSE
            }
            ApiError::Refused { retry_after: Some(after), .. } => *after,
            _ => {
                tracing::warn!(%error, is_server, bot = self.id, "cannot talk to Telegram");
                *pause = (*pause * 2).min(PAUSE_MAX);
                *pause
            }
        }
    }

    async fn call(
        &self,
        method: &str,
        request: &Value,
        timeout: Duration,
    ) -> Result<Value, ApiError> {
        self.shared.telegram.api.call(&self.key.token, method, request, timeout).await
    }

    /// One poll.
    async fn hear(&self, commands: &Commands, answers: &mut JoinSet<()>) -> Result<(), Deaf> {
        let (store, instance) = (&self.shared.store, &self.shared.instance);
        let until = self.shared.clock.now().saturating_add(LEASE_MS);
        let offset = store.take_bot(&self.id, instance, until).await.map_err(Deaf::store)?;
        let offset = offset.ok_or(Deaf::Elsewhere)?;
        let request = json!({
            "offset": offset, "timeout": POLL_SECONDS,
            "allowed_updates": ["message", "channel_post", "my_chat_member"],
        });
        let updates = match self.call("getUpdates", &request, POLL_TIMEOUT).await {
            Ok(updates) => updates,
            Err(error) => return Err(self.deaf(&error)),
        };
        while answers.try_join_next().is_some() {}
        for update in updates.as_array().map(Vec::as_slice).unwrap_or_default() {
            let Some(number) = update["update_id"].as_i64() else { continue };
            match serde_json::from_value::<Update>(update.clone()) {
                Ok(update) => self.take(update, commands, answers).await.map_err(Deaf::store)?,
                Err(error) => tracing::debug!(%error, "an update of Telegram is not understood"),
            }
            let next = number.saturating_add(1);
            if !store.save_update(&self.id, instance, next).await.map_err(Deaf::store)? {
                return Err(Deaf::Elsewhere);
            }
        }
        Ok(())
    }

    fn deaf(&self, error: &ApiError) -> Deaf {
        let is_server = self.key.is_server;
        match error {
            ApiError::Refused { code: 401 | 404, .. } => {
                tracing::error!(%error, is_server, bot = self.id, "a Telegram bot's token is wrong");
                Deaf::Token
            }
            ApiError::Refused { code: 409, .. } => {
                tracing::warn!(%error, is_server, bot = self.id, "somebody else reads a Telegram bot");
                Deaf::Elsewhere
            }
            _ => {
                tracing::warn!(%error, is_server, bot = self.id, "cannot read a Telegram bot");
                Deaf::Failed
            }
        }
    }

    async fn take(
        &self,
        update: Update,
        commands: &Commands,
        answers: &mut JoinSet<()>,
    ) -> Result<(), lookout_store::StoreError> {
        if let Some(membership) = update.my_chat_member {
            if ["left", "kicked"].contains(&membership.new_chat_member.status.as_str()) {
                let reason = "the bot was removed from the chat";
                self.shared.store.drop_chat(&self.key, membership.chat.id, reason).await?;
            }
            return Ok(());
        }
        let Some(message) = update.message.or(update.channel_post) else { return Ok(()) };
        if let Some(to) = message.migrate_to_chat_id {
            self.shared.store.move_chat(&self.key, message.chat.id, to).await?;
            return Ok(());
        }
        let Some(text) = message.text else { return Ok(()) };
        let chat = TelegramChat::from(message.chat);
        let user = message.from.map_or(0, |user| user.id);
        let Some(answer) = commands.answer(&Heard { chat: &chat, user, text: &text }).await? else {
            return Ok(());
        };
        self.say(chat, answer, answers);
        Ok(())
    }

    /// Answers when it is the chat's turn, without keeping others waiting.
    fn say(&self, chat: TelegramChat, text: String, answers: &mut JoinSet<()>) {
        let Ok(permit) = Arc::clone(&self.answers).try_acquire_owned() else {
            tracing::warn!(
                bot = self.id,
                "too many answers of a Telegram bot wait; one is dropped"
            );
            return;
        };
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        answers.spawn(async move {
            if wait_turn(&shared, &key.token, &chat).await {
                let message = message(chat.id, &text);
                if let Err(error) = shared.telegram.post(&key, &message).await {
                    tracing::warn!(%error, "cannot answer a Telegram chat");
                }
            }
            drop(permit);
        });
    }
}

/// Whether the chat's turn came in time.
async fn wait_turn(shared: &Shared, token: &Secret, chat: &TelegramChat) -> bool {
    let turn = |pace: crate::send::Pace| Turn {
        destination: pace.destination,
        every_ms: i64::try_from(pace.every.as_millis()).unwrap_or(i64::MAX),
    };
    let turns: Vec<_> = paces(token, chat.id, Some(chat.kind)).into_iter().map(turn).collect();
    let latest: UnixMillis = shared.clock.now().saturating_add(ANSWER_AGE_MAX_MS);
    loop {
        let wait = match shared.store.take_turn(&turns).await {
            Ok(None) => return true,
            Ok(Some(wait)) if shared.clock.now().saturating_add(wait) < latest => wait,
            Ok(Some(_)) => return false,
            Err(error) => {
                tracing::error!(%error, "cannot pace an answer to a Telegram chat");
                return false;
            }
        };
        let wait = u64::try_from(wait).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait.max(1)).min(TURN_SLEEP_MAX)).await;
        if shared.clock.now() >= latest {
            return false;
        }
    }
}

/// Why a bot does not hear.
#[derive(Debug)]
enum Deaf {
    Elsewhere,
    Failed,
    Token,
}

impl Deaf {
    fn store(error: lookout_store::StoreError) -> Self {
        tracing::error!(%error, "cannot read a Telegram bot's updates");
        Self::Failed
    }
}
