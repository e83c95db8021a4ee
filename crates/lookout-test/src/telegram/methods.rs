//! The methods of the Bot API, as far as bots that only write and listen need them.

use lookout_types::UnixMillis;
use serde_json::{Value, json};

use super::{Fault, SentMessage, State};

/// Longest text, in UTF-16 units.
const TEXT_UNITS_MAX: usize = 4096;
const ENTITIES_MAX: usize = 100;
const ENTITY_TYPES: [&str; 8] =
    ["bold", "italic", "underline", "strikethrough", "code", "pre", "spoiler", "text_link"];

/// What is answered.
pub(super) enum Answer {
    Json(u16, Value),
    /// A status without JSON.
    Bare(u16),
    /// None: the connection breaks.
    Broken,
    /// Later: updates are to be waited for.
    Poll {
        offset: i64,
        seconds: u64,
    },
}

pub(super) fn ok(result: &Value) -> Answer {
    Answer::Json(200, json!({ "ok": true, "result": result }))
}

pub(super) fn refuse(code: u16, description: &str, parameters: &Value) -> Answer {
    let mut body = json!({ "ok": false, "error_code": code, "description": description });
    if let (Value::Object(body), false) = (&mut body, parameters.is_null()) {
        body.insert("parameters".to_owned(), parameters.clone());
    }
    Answer::Json(code, body)
}

fn bad(description: &str) -> Answer {
    refuse(400, &format!("Bad Request: {description}"), &Value::Null)
}

pub(super) fn answer(
    state: &mut State,
    token: &str,
    method: &str,
    request: &Value,
    now: UnixMillis,
) -> Answer {
    *state.calls.entry(method.to_owned()).or_default() += 1;
    let Some(bot) = state.bots.get(token) else {
        return match token.contains(':') {
            true => refuse(401, "Unauthorized", &Value::Null),
            false => refuse(404, "Not Found", &Value::Null),
        };
    };
    match method {
        "getMe" => ok(&json!({
            "id": bot.id, "is_bot": true, "first_name": "Bot", "username": bot.username,
        })),
        "getUpdates" => Answer::Poll {
            offset: request["offset"].as_i64().unwrap_or(0),
            seconds: request["timeout"].as_u64().unwrap_or(0),
        },
        "setMyCommands" | "deleteWebhook" => ok(&json!(true)),
        "sendMessage" => send(state, token, request, now),
        "editMessageText" => edit(state, token, request),
        _ => refuse(404, "Not Found: method not found", &Value::Null),
    }
}

fn send(state: &mut State, token: &str, request: &Value, now: UnixMillis) -> Answer {
    let Some(number) = request["chat_id"].as_i64() else { return bad("chat_id is empty") };
    let fault = state.faults.pop_front();
    match fault {
        Some(Fault::ServerError) => return Answer::Bare(502),
        Some(Fault::TooMany(seconds)) => {
            state.limits.wait(number, now, i64::from(seconds));
            return too_many(i64::from(seconds));
        }
        Some(Fault::Refused) => return bad("PEER_FLOOD"),
        Some(Fault::EntitiesRefused) if !request["entities"].is_null() => {
            return bad("can't parse entities");
        }
        _ => {}
    }
    let Some(chat) = state.chats.get(&number).cloned() else { return bad("chat not found") };
    if let Some(to) = chat.moved_to {
        let parameters = json!({ "migrate_to_chat_id": to });
        let reason = "Bad Request: group chat was upgraded to a supergroup chat";
        return refuse(400, reason, &parameters);
    }
    if let Some(reason) = &chat.forbidden {
        return refuse(403, reason, &Value::Null);
    }
    let text = request["text"].as_str().unwrap_or_default();
    if let Err(reason) = check_text(text, &request["entities"]) {
        state.violations.push(reason.clone());
        return bad(&reason);
    }
    if let Err((what, seconds)) = state.limits.pass(token, number, chat.kind != "private", now) {
        state.violations.push(format!("chat {number}: {what}"));
        state.limits.wait(number, now, seconds);
        return too_many(seconds);
    }
    let reply_to = request["reply_parameters"]["message_id"].as_i64();
    let is_there = |id| state.journal.iter().any(|sent| sent.chat == number && sent.id == id);
    let lenient = request["reply_parameters"]["allow_sending_without_reply"] == json!(true);
    if reply_to.is_some_and(|id| !is_there(id)) && !lenient {
        return bad("message to be replied not found");
    }
    let id = chat.next_message;
    if let Some(chat) = state.chats.get_mut(&number) {
        chat.next_message += 1;
    }
    state.journal.push(SentMessage {
        token: token.to_owned(),
        chat: number,
        id,
        text: text.to_owned(),
        reply_to,
        at: now,
        request: request.clone(),
    });
    if fault == Some(Fault::AnswerLost) {
        return Answer::Broken;
    }
    ok(&json!({ "message_id": id, "chat": { "id": number }, "date": now / 1000, "text": text }))
}

fn edit(state: &mut State, token: &str, request: &Value) -> Answer {
    let (chat, id) = (request["chat_id"].as_i64(), request["message_id"].as_i64());
    let text = request["text"].as_str().unwrap_or_default();
    if let Err(reason) = check_text(text, &request["entities"]) {
        return bad(&reason);
    }
    let sent = state
        .journal
        .iter_mut()
        .find(|sent| sent.token == token && Some(sent.chat) == chat && Some(sent.id) == id);
    let Some(sent) = sent else { return bad("message to edit not found") };
    text.clone_into(&mut sent.text);
    ok(&json!({ "message_id": id, "text": text }))
}

fn too_many(seconds: i64) -> Answer {
    let parameters = json!({ "retry_after": seconds });
    refuse(429, &format!("Too Many Requests: retry after {seconds}"), &parameters)
}

/// What Telegram, or whoever reads the message, would not like about a text.
fn check_text(text: &str, entities: &Value) -> Result<(), String> {
    let units: Vec<u16> = text.encode_utf16().collect();
    if text.trim().is_empty() {
        return Err("message text is empty".to_owned());
    }
    if units.len() > TEXT_UNITS_MAX {
        return Err("message is too long".to_owned());
    }
    let empty = Vec::new();
    let entities = entities.as_array().unwrap_or(&empty);
    if entities.len() > ENTITIES_MAX {
        return Err("too many entities".to_owned());
    }
    let mut code_end = 0;
    for entity in entities {
        let at = |name: &str| entity[name].as_u64().and_then(|at| usize::try_from(at).ok());
        let (Some(offset), Some(length)) = (at("offset"), at("length")) else {
            return Err("an entity without offset or length".to_owned());
        };
        let kind = entity["type"].as_str().unwrap_or_default();
        if !ENTITY_TYPES.contains(&kind) {
            return Err(format!("no entity is called {kind}"));
        }
        let end = offset.saturating_add(length);
        if length == 0 || end > units.len() {
            return Err("ENTITY_BOUNDS_INVALID".to_owned());
        }
        // The second half of a pair cannot begin anything.
        let splits = |at: usize| units.get(at).is_some_and(|unit| (0xdc00..0xe000).contains(unit));
        if splits(offset) || splits(end) {
            return Err("an entity splits a surrogate pair".to_owned());
        }
        if kind == "code" {
            if offset < code_end {
                return Err("code inside code".to_owned());
            }
            code_end = end;
        } else if offset < code_end {
            return Err("an entity inside code".to_owned());
        }
    }
    Ok(())
}
