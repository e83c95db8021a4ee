//! How fast Telegram lets a bot write.

use std::collections::{BTreeMap, VecDeque};

use lookout_types::UnixMillis;

/// Messages of one bot in a second.
const BOT_PER_SECOND: usize = 30;
/// Messages to one group in a minute.
const GROUP_PER_MINUTE: usize = 20;
/// Messages to one chat at once; one more each second.
const CHAT_BURST: i64 = 3;

const SECOND: UnixMillis = 1_000;
const MINUTE: UnixMillis = 60_000;

#[derive(Default)]
pub(super) struct Limits {
    bots: BTreeMap<String, VecDeque<UnixMillis>>,
    groups: BTreeMap<i64, VecDeque<UnixMillis>>,
    /// When each chat's burst is whole again.
    chats: BTreeMap<i64, UnixMillis>,
    /// Chats that were told to wait, and until when.
    waits: BTreeMap<i64, UnixMillis>,
}

impl Limits {
    /// Lets a message pass, or says what it breaks and how many seconds to wait.
    pub(super) fn pass(
        &mut self,
        token: &str,
        chat: i64,
        is_group: bool,
        now: UnixMillis,
    ) -> Result<(), (String, i64)> {
        if let Some(until) = self.waits.get(&chat).copied().filter(|until| now < *until) {
            return Err((
                format!("did not wait, {} ms too early", until - now),
                seconds(until - now),
            ));
        }
        let bot = self.bots.entry(token.to_owned()).or_default();
        if let Some(wait) = window(bot, now, SECOND, BOT_PER_SECOND) {
            return Err(("more than 30 messages of a bot in a second".to_owned(), wait));
        }
        let whole_at = self.chats.get(&chat).copied().unwrap_or(now).max(now);
        if whole_at - now > (CHAT_BURST - 1) * SECOND {
            let wait = whole_at - now - (CHAT_BURST - 1) * SECOND;
            return Err(("more than 1 message to a chat in a second".to_owned(), seconds(wait)));
        }
        if is_group {
            let group = self.groups.entry(chat).or_default();
            if let Some(wait) = window(group, now, MINUTE, GROUP_PER_MINUTE) {
                return Err(("more than 20 messages to a group in a minute".to_owned(), wait));
            }
            group.push_back(now);
        }
        self.bots.entry(token.to_owned()).or_default().push_back(now);
        self.chats.insert(chat, whole_at + SECOND);
        Ok(())
    }

    /// From now on the chat is to be left alone so long.
    pub(super) fn wait(&mut self, chat: i64, now: UnixMillis, seconds: i64) {
        self.waits.insert(chat, now + seconds * SECOND);
    }
}

/// Seconds to wait when a window is full.
fn window(
    past: &mut VecDeque<UnixMillis>,
    now: UnixMillis,
    length: UnixMillis,
    most: usize,
) -> Option<i64> {
    while past.front().is_some_and(|at| *at + length <= now) {
        past.pop_front();
    }
    let first = past.front().copied().filter(|_| past.len() >= most)?;
    Some(seconds(first + length - now))
}

fn seconds(millis: UnixMillis) -> i64 {
    (millis + SECOND - 1) / SECOND
}
