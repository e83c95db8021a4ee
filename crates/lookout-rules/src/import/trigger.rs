//! Triggers as channels.

use serde_json::{Map, Value, json};

use super::message::Text;
use super::{Effect, Notes, items, text};

/// A channel, and what its messages say.
pub(super) struct Trigger {
    pub(super) request: Value,
    pub(super) message: Text,
}

/// Members of every trigger's configuration that are read here.
const MESSAGE: &str = "message";

pub(super) fn read(
    slug: &str,
    object: &Map<String, Value>,
    notes: &mut Notes<'_>,
) -> Option<Trigger> {
    notes.unread(object, &["name", "trigger_type", "config"]);
    let kind = text(object, "trigger_type");
    let empty = Map::new();
    let config = object.get("config").and_then(Value::as_object).unwrap_or(&empty);
    let name = match text(object, "name") {
        "" => slug,
        name => name,
    };
    let mut request = match kind {
        "slack" => service("slack", "slack_url", config, notes)?,
        "discord" => service("discord", "discord_url", config, notes)?,
        "telegram" => telegram(config, notes)?,
        "webhook" => webhook(config, notes)?,
        "email" => email(config, notes)?,
        "script" => {
            notes.add(
                Effect::Dropped,
                "scripts are not run; send the alerts to a webhook and run it there",
            );
            return None;
        }
        other => {
            notes.add(Effect::Dropped, format!("triggers of type `{other}` have no equivalent"));
            return None;
        }
    };
    request["name"] = name.into();
    if config.contains_key("retry_policy") {
        notes.add(
            Effect::Changed,
            "`retry_policy`: deliveries are tried again for days, as the receiver asks for",
        );
    }
    let message = config.get(MESSAGE).and_then(Value::as_object).unwrap_or(&empty);
    notes.unread(message, &["title", "body"]);
    let message =
        Text { title: text(message, "title").to_owned(), body: text(message, "body").to_owned() };
    Some(Trigger { request, message })
}

/// A secret that stands in the file; those that stand elsewhere are to be entered by hand.
fn secret(config: &Map<String, Value>, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    let value = config.get(name)?;
    if let Some(plain) = value.as_str() {
        return Some(plain.to_owned());
    }
    let object = value.as_object()?;
    let held = text(object, "value");
    match text(object, "type") {
        "plain" => Some(held.to_owned()),
        "environment" => {
            let reason = format!(
                "`{name}` is in the environment variable {held}; make the channel with its value"
            );
            notes.add(Effect::Manual, reason);
            None
        }
        kind => {
            let reason = format!("`{name}` is in `{kind}`; make the channel with its value");
            notes.add(Effect::Manual, reason);
            None
        }
    }
}

/// Notes that a trigger could not become a channel.
fn needed(value: Option<String>, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    if value.is_none() {
        notes.add(Effect::Dropped, format!("the channel cannot be made without `{name}`"));
    }
    value
}

fn service(
    kind: &str,
    member: &str,
    config: &Map<String, Value>,
    notes: &mut Notes<'_>,
) -> Option<Value> {
    notes.unread(config, &[member, MESSAGE, "retry_policy"]);
    let url = secret(config, member, notes);
    let url = needed(url, member, notes)?;
    Some(json!({ "kind": kind, "url": url }))
}

fn telegram(config: &Map<String, Value>, notes: &mut Notes<'_>) -> Option<Value> {
    notes.unread(config, &["token", "chat_id", "disable_web_preview", MESSAGE, "retry_policy"]);
    let token = secret(config, "token", notes);
    let token = needed(token, "token", notes)?;
    let chat = text(config, "chat_id");
    let Ok(chat_id) = chat.parse::<i64>() else {
        notes.add(
            Effect::Manual,
            format!("the chat `{chat}` has no number; link it by /start after the import"),
        );
        return Some(json!({ "kind": "telegram", "token": token }));
    };
    Some(json!({ "kind": "telegram", "token": token, "chatId": chat_id }))
}

fn webhook(config: &Map<String, Value>, notes: &mut Notes<'_>) -> Option<Value> {
    notes.unread(config, &["url", "method", "secret", MESSAGE, "retry_policy"]);
    let method = text(config, "method");
    if !method.is_empty() && !method.eq_ignore_ascii_case("post") {
        notes.add(Effect::Changed, format!("webhooks are sent by POST, not by {method}"));
    }
    let url = secret(config, "url", notes);
    let url = needed(url, "url", notes)?;
    notes.add(
        Effect::Changed,
        "webhooks follow Standard Webhooks: another body, and `webhook-signature` in the place of `X-Signature`",
    );
    let mut request = json!({ "kind": "webhook", "url": url });
    if let Some(secret) = secret(config, "secret", notes) {
        // Standard Webhooks has keys of its own form; a receiver has to learn the new one anyway.
        if secret.starts_with("whsec_") {
            request["secret"] = secret.into();
        } else {
            notes.add(
                Effect::Manual,
                "`secret` is no key of Standard Webhooks; a new one is made, give it to the receiver",
            );
        }
    }
    Some(request)
}

fn email(config: &Map<String, Value>, notes: &mut Notes<'_>) -> Option<Value> {
    let server = ["host", "port", "username", "password", "sender"];
    let read: Vec<_> = server.into_iter().chain(["recipients", MESSAGE, "retry_policy"]).collect();
    notes.unread(config, &read);
    notes.add(Effect::Manual, "the mail server and the sender stand in the configuration");
    let to: Vec<_> = items(config, "recipients").iter().filter_map(Value::as_str).collect();
    if to.is_empty() {
        notes.add(Effect::Dropped, "the trigger has no recipients");
        return None;
    }
    Some(json!({ "kind": "email", "to": to }))
}
