//! What people can ask the bot: only linked chats hear anything about a tenant.

use std::sync::Arc;

use lookout_store::{BotKey, ChainStatus, ChatChannel, ChatKind, Store, StoreError, TelegramChat};
use lookout_types::{Clock, ErrorKind, UnixMillis};
use serde_json::{Value, json};

use super::text::{UNITS_MAX, cut, inert};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Longest that a chat is muted: what shall stay silent longer is a channel to be taken away.
const MUTE_MAX_MS: i64 = 7 * DAY_MS;
/// Longest name of a rule or channel shown, in UTF-16 units.
const NAME_UNITS_MAX: usize = 64;
/// Longest code that is looked up; Telegram's links carry no more.
const CODE_LENGTH_MAX: usize = 64;

const HELP: &str = "I send alerts of Lookout.\n\
     /rules lists the rules that alert here\n\
     /status tells how they are doing\n\
     /mute 1h holds alerts back, up to 7d; nothing is lost\n\
     /unmute sends them again";
const NOT_LINKED: &str = "This chat is not linked. Make a Telegram channel in Lookout and open its \
     link here, or send /start with its code.";

/// Something that somebody wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    pub(super) chat: &'a TelegramChat,
    pub(super) user: i64,
    pub(super) text: &'a str,
}

/// Answers commands sent to one bot.
#[derive(Debug)]
pub(super) struct Commands {
    store: Store,
    clock: Arc<dyn Clock>,
    bot: BotKey,
    /// Without the `@`.
    name: String,
}

impl Commands {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, bot: BotKey, name: String) -> Self {
        Self { store, clock, bot, name }
    }

    /// As Telegram shows them to people.
    pub(super) fn listed() -> Value {
        json!([
            { "command": "rules", "description": "rules that alert here" },
            { "command": "status", "description": "how they are doing" },
            { "command": "mute", "description": "hold alerts back, for example /mute 1h" },
            { "command": "unmute", "description": "send them again" },
        ])
    }

    /// What to answer, if anything.
    pub(super) async fn answer(&self, heard: &Heard<'_>) -> Result<Option<String>, StoreError> {
        let Some(command) = self.parse(heard) else { return Ok(None) };
        let (name, argument) = command;
        if name == "start" && !argument.is_empty() {
            return self.link(heard, argument).await.map(Some);
        }
        let channels = self.store.chat_channels(&self.bot, heard.chat.id).await?;
        if channels.is_empty() {
            return Ok(Some(NOT_LINKED.to_owned()));
        }
        let answer = match name {
            "rules" => self.rules(&channels).await?,
            "status" => self.status(&channels).await?,
            "mute" => self.mute(heard, argument).await?,
            "unmute" => {
                self.store.mute_chat(&self.bot, heard.chat.id, None, heard.user).await?;
                "Alerts are sent again.".to_owned()
            }
            _ => HELP.to_owned(),
        };
        Ok(Some(cut(&inert(&answer, UNITS_MAX + 2), UNITS_MAX)))
    }

    /// A command's name and argument. In groups, what is not for this bot by its name may be for
    /// another: only known commands count there.
    fn parse<'a>(&self, heard: &Heard<'a>) -> Option<(&'a str, &'a str)> {
        let is_private = heard.chat.kind == ChatKind::Private;
        let Some(line) = heard.text.trim().strip_prefix('/') else {
            return is_private.then_some(("help", ""));
        };
        let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, addressee) = command.split_once('@').unwrap_or((command, ""));
        if !addressee.is_empty() && !addressee.eq_ignore_ascii_case(&self.name) {
            return None;
        }
        let is_known = ["start", "help", "rules", "status", "mute", "unmute"].contains(&name);
        (is_known || is_private || !addressee.is_empty()).then_some((name, argument.trim()))
    }

    async fn link(&self, heard: &Heard<'_>, code: &str) -> Result<String, StoreError> {
        if code.len() > CODE_LENGTH_MAX {
            return Ok(NOT_LINKED.to_owned());
        }
        match self.store.link_chat(code, &self.bot, heard.chat, heard.user).await {
            Ok(channel) => {
                let name = shown(&channel.name);
                Ok(format!("Linked: alerts of channel {name} arrive here from now on.\n\n{HELP}"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(
                "This code is not known: it works once, for a day and for one bot. Make a new one \
                 in Lookout."
                    .to_owned(),
            ),
            Err(error) => Err(error),
        }
    }

    async fn rules(&self, channels: &[ChatChannel]) -> Result<String, StoreError> {
        let mut lines = Vec::new();
        for channel in channels {
            for rule in self.store.chat_rules(channel).await? {
                let state = if rule.is_paused { "paused" } else { "watching" };
                lines.push(format!("{} (chain {}): {state}", shown(&rule.name), rule.chain));
            }
        }
        if lines.is_empty() {
            return Ok("No rule alerts here.".to_owned());
        }
        lines.dedup();
        Ok(lines.join("\n"))
    }

    async fn status(&self, channels: &[ChatChannel]) -> Result<String, StoreError> {
        let now = self.clock.now();
        let mut lines = Vec::new();
        for channel in channels {
            let status = self.store.chat_status(channel).await?;
            let state = match (channel.muted_until, &channel.reason) {
                (_, Some(reason)) => format!("{}, {reason}", channel.state),
                (Some(until), _) if until > now => format!("muted until {}", time(until)),
                _ => channel.state.clone(),
            };
            lines.push(format!("Channel {}: {state}", shown(&channel.name)));
            lines.push(format!("waiting: {}", status.queued));
            let last = status.last_sent_at.map_or_else(|| "never".to_owned(), time);
            lines.push(format!("last message: {last}"));
            lines.extend(status.chains.iter().map(|chain| chain_line(chain, now)));
        }
        Ok(lines.join("\n"))
    }

    async fn mute(&self, heard: &Heard<'_>, argument: &str) -> Result<String, StoreError> {
        let Some(length) = duration_ms(argument) else {
            return Ok(
                "For how long? For example /mute 30m, /mute 1h, /mute 2d; at most 7d.".to_owned()
            );
        };
        let until = self.clock.now().saturating_add(length);
        self.store.mute_chat(&self.bot, heard.chat.id, Some(until), heard.user).await?;
        Ok(format!(
            "Alerts are held back until {}; then those that came meanwhile are sent. /unmute sends \
             them now.",
            time(until)
        ))
    }
}

fn shown(name: &str) -> String {
    cut(&inert(name, NAME_UNITS_MAX + 2), NAME_UNITS_MAX).replace('\n', " ")
}

fn chain_line(status: &ChainStatus, now: UnixMillis) -> String {
    match (status.height, status.block_time) {
        (Some(height), Some(seconds)) => {
            let age = (now / 1_000).saturating_sub(seconds).max(0);
            format!("chain {}: block {height}, {age} s old", status.chain)
        }
        _ => format!("chain {}: not followed yet", status.chain),
    }
}

fn time(at: UnixMillis) -> String {
    let time = jiff::Timestamp::from_second(at.div_euclid(1_000));
    time.map_or_else(|_| format!("{at} ms"), |time| time.to_string())
}

/// `30m`, `1h`, `2d`, from a minute to a week, in milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let unit = match unit.trim() {
        "m" | "min" => MINUTE_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        _ => return None,
    };
    let length = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (MINUTE_MS..=MUTE_MAX_MS).contains(&length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_minutes_hours_and_days_up_to_a_week() {
        for (text, length) in [
            ("1m", Some(MINUTE_MS)),
            ("30 min", Some(30 * MINUTE_MS)),
            ("1h", Some(HOUR_MS)),
            ("7d", Some(MUTE_MAX_MS)),
            ("8d", None),
            ("0m", None),
            ("1", None),
            ("h", None),
            ("-1h", None),
            ("1s", None),
            ("99999999999999999999h", None),
            ("9223372036854775807d", None),
            ("١h", None),
        ] {
            assert_eq!(duration_ms(text), length, "{text}");
        }
    }
}
