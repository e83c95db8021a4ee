//! A stand-in for Telegram's Bot API that enforces the real limits.
//!
//! It answers as Telegram does, errors included, keeps a journal of what it accepted, and counts
//! every breach of a limit. Its time is that of the given clock, so that a test of 20 messages a
//! minute need not take minutes.

mod clock;
mod limits;
mod methods;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use lookout_types::{Clock, UnixMillis};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use limits::Limits;

pub use clock::FastClock;

/// A Bot API server on a port of its own; it ends with this value.
pub struct TelegramServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: CancellationToken,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct SentMessage {
    /// The bot's token.
    pub token: String,
    /// The chat.
    pub chat: i64,
    /// Its number in the chat.
    pub id: i64,
    /// Its text.
    pub text: String,
    /// The message it answers.
    pub reply_to: Option<i64>,
    /// When, by the server's clock.
    pub at: UnixMillis,
    /// All that was asked for.
    pub request: Value,
}

/// What goes wrong with the next messages.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Status 502 and no JSON; the message is not accepted.
    ServerError,
    /// The message is accepted, but the connection breaks before the answer.
    AnswerLost,
    /// 429 with so many seconds to wait.
    TooMany(u32),
    /// 400: the entities are not liked.
    EntitiesRefused,
    /// 400: nothing is liked.
    Refused,
}

/// What the connections share.
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Wakes those who wait for updates.
    updates: Notify,
}

#[derive(Default)]
struct State {
    bots: BTreeMap<String, Bot>,
    chats: BTreeMap<i64, Chat>,
    journal: Vec<SentMessage>,
    faults: VecDeque<Fault>,
    limits: Limits,
    violations: Vec<String>,
    calls: BTreeMap<String, u64>,
}

struct Bot {
    id: i64,
    username: String,
    updates: VecDeque<(i64, Value)>,
    next_update: i64,
    is_polled: bool,
}

#[derive(Clone)]
struct Chat {
    kind: String,
    title: String,
    next_message: i64,
    /// Why the bot may not write there.
    forbidden: Option<String>,
    moved_to: Option<i64>,
}

impl TelegramServer {
    /// Starts one whose limits go by this clock.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(clock: Arc<dyn Clock>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let shared = Shared { clock, state: Mutex::default(), updates: Notify::new() };
        let (shared, running) = (Arc::new(shared), CancellationToken::new());
        tokio::spawn(serve::accept(listener, Arc::clone(&shared), running.clone()));
        Ok(Self { address, shared, running })
    }

    /// Where it is, in place of `https://api.telegram.org`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bot known.
    pub fn add_bot(&self, token: &str, username: &str) {
        let id = token.split(':').next().and_then(|id| id.parse().ok()).unwrap_or(1);
        let bot = Bot {
            id,
            username: username.to_owned(),
            updates: VecDeque::new(),
            next_update: 1,
            is_polled: false,
        };
        self.shared.state.lock().bots.insert(token.to_owned(), bot);
    }

    /// Ends a bot's token, as its owner can.
    pub fn revoke(&self, token: &str) {
        self.shared.state.lock().bots.remove(token);
    }

    /// Makes a chat known; `kind` is `private`, `group`, `supergroup` or `channel`.
    pub fn add_chat(&self, id: i64, kind: &str, title: &str) {
        let chat = Chat {
            kind: kind.to_owned(),
            title: title.to_owned(),
            next_message: 1,
            forbidden: None,
            moved_to: None,
        };
        self.shared.state.lock().chats.insert(id, chat);
    }

    /// From now on the bot may not write there: the user blocked it, the group removed it.
    pub fn forbid(&self, chat: i64) {
        if let Some(chat) = self.shared.state.lock().chats.get_mut(&chat) {
            let private = chat.kind == "private";
            let reason = if private {
                "bot was blocked by the user"
            } else {
                "bot was kicked from the group chat"
            };
            chat.forbidden = Some(format!("Forbidden: {reason}"));
        }
    }

    /// A group grows into a supergroup, which has another number.
    pub fn migrate(&self, from: i64, to: i64) {
        let mut state = self.shared.state.lock();
        if let Some(chat) = state.chats.get_mut(&from) {
            let new = Chat { kind: "supergroup".to_owned(), moved_to: None, ..chat.clone() };
            chat.moved_to = Some(to);
            state.chats.insert(to, new);
        }
    }

    /// Lets the next messages go wrong, one after the other.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state.lock().faults.extend(faults);
    }

    /// A user writes to a bot.
    pub fn say(&self, token: &str, chat: i64, user: i64, text: &str) {
        let message = {
            let state = self.shared.state.lock();
            let known = state.chats.get(&chat);
            let kind = known.map_or("private", |chat| chat.kind.as_str());
            let title = known.map_or("?", |chat| chat.title.as_str());
            // Only people have first names, and only the others titles.
            let name = if kind == "private" { "first_name" } else { "title" };
            json!({
                "message_id": 1, "date": 0, "text": text,
                "from": {"id": user, "is_bot": false, "first_name": "Ada"},
                "chat": {"id": chat, "type": kind, name: title},
            })
        };
        self.push_update(token, json!({ "message": message }));
    }

    /// An update for a bot, without its number.
    pub fn push_update(&self, token: &str, mut update: Value) {
        if let Some(bot) = self.shared.state.lock().bots.get_mut(token) {
            let number = bot.next_update;
            bot.next_update += 1;
            if let Some(fields) = update.as_object_mut() {
                fields.insert("update_id".to_owned(), json!(number));
            }
            bot.updates.push_back((number, update));
        }
        self.shared.updates.notify_waiters();
    }

    /// Every message that was accepted, in order.
    pub fn journal(&self) -> Vec<SentMessage> {
        self.shared.state.lock().journal.clone()
    }

    /// The messages accepted after the first so many.
    pub fn journal_from(&self, count: usize) -> Vec<SentMessage> {
        self.shared.state.lock().journal.iter().skip(count).cloned().collect()
    }

    /// How often a method was called, whatever came of it.
    pub fn calls(&self, method: &str) -> u64 {
        self.shared.state.lock().calls.get(method).copied().unwrap_or(0)
    }

    /// Every breach of a limit, in words.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state.lock().violations.clone()
    }
}

impl Drop for TelegramServer {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

#[cfg(test)]
mod tests;
