//! What a channel may be set to: every wrong setting gets a sentence of its own.

use lookout_types::Secret;
use url::Url;

use crate::destination::URL_BYTES_MAX;
use crate::{ChannelConfig, ChannelSecrets, GuardSettings, StoreError};

/// Longest name of a channel, in bytes: a line in a list.
const NAME_BYTES_MAX: usize = 100;
/// Most recipients of one mail channel; beyond that a mailing list serves better.
const RECIPIENTS_MAX: usize = 20;
/// Longest address of mail (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const MAIL_BYTES_MAX: usize = 254;
/// Longest part of it before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;
/// Shortest secret part of a bot's token; Telegram's have 35 characters.
const TOKEN_SECRET_MIN: usize = 30;
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 128;

/// Hosts of Slack's incoming webhooks.
const SLACK_HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];
/// Hosts of Discord's webhooks.
const DISCORD_HOSTS: [&str; 4] =
    ["discord.com", "discordapp.com", "ptb.discord.com", "canary.discord.com"];

/// Checks the name of a channel.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return wrong(format!(
            "the name of a channel has from 1 to {NAME_BYTES_MAX} bytes and no control characters"
        ));
    }
    Ok(())
}

/// Checks where a channel leads and what opens it.
pub(crate) fn check(
    config: &ChannelConfig,
    secrets: &ChannelSecrets,
    guard: &GuardSettings,
) -> Result<(), StoreError> {
    let kind = config.kind();
    if secrets.token.is_some() && kind != "telegram" {
        return wrong(format!("a {kind} channel takes no token"));
    }
    if secrets.url.is_some() && !matches!(kind, "slack" | "discord") {
        return wrong(format!("a {kind} channel takes no secret url"));
    }
    match config {
        ChannelConfig::Telegram { chat_id, .. } => check_telegram(*chat_id, secrets),
        ChannelConfig::Slack {} | ChannelConfig::Discord {} => {
            config.service_url(secrets).map(drop)
        }
        ChannelConfig::Webhook { url } => match guard.check_url(url) {
            Ok(_) => Ok(()),
            Err(error) => wrong(error.to_string()),
        },
        ChannelConfig::Email { to } => check_recipients(to),
    }
}

fn check_telegram(chat_id: Option<i64>, secrets: &ChannelSecrets) -> Result<(), StoreError> {
    match (&secrets.token, chat_id) {
        // The server's bot may sit in chats of other tenants.
        (None, Some(_)) => wrong(
            "a chat of the server's own bot is linked by /start with a code, not by its id; \
             leave the chat id out, or give a token of your own bot",
        ),
        (_, Some(0)) => wrong("0 is no chat id"),
        (Some(token), _) => check_token(token),
        (None, None) => Ok(()),
    }
}

/// The bot id, a colon and a secret, as Telegram hands them out.
fn check_token(token: &Secret) -> Result<(), StoreError> {
    let parts = token.expose().split_once(':');
    let fits = parts.is_some_and(|(id, secret)| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (1..=20).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_digit())
            && (TOKEN_SECRET_MIN..=TOKEN_BYTES_MAX).contains(&secret.len())
            && secret.bytes().all(letter)
    });
    if fits {
        return Ok(());
    }
    wrong(
        "the token is not one of a Telegram bot: BotFather's are a number, a colon and 35 \
         characters",
    )
}

impl ChannelConfig {
    /// The secret URL of a Slack or Discord channel, which leads nowhere but to the service.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is missing or leads elsewhere, and for other channels.
    pub fn service_url(&self, secrets: &ChannelSecrets) -> Result<Url, StoreError> {
        match self {
            Self::Slack {} => slack_url(secrets.url.as_ref()),
            Self::Discord {} => discord_url(secrets.url.as_ref()),
            other => wrong(format!("a {} channel takes no secret url", other.kind())),
        }
    }
}

fn slack_url(url: Option<&Secret>) -> Result<Url, StoreError> {
    let url = secret_url(url, "Slack", &SLACK_HOSTS)?;
    if url.path_segments().is_none_or(|mut parts| parts.next() != Some("services")) {
        return wrong(
            "the url is not one of a Slack incoming webhook: its path begins with /services/",
        );
    }
    Ok(url)
}

fn discord_url(url: Option<&Secret>) -> Result<Url, StoreError> {
    let url = secret_url(url, "Discord", &DISCORD_HOSTS)?;
    let parts: Vec<&str> = url.path_segments().into_iter().flatten().collect();
    let versioned = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()))
    };
    let rest = match parts.as_slice() {
        ["api", version, rest @ ..] if versioned(version) => rest,
        ["api", rest @ ..] => rest,
        other => other,
    };
    let fits = matches!(rest, ["webhooks", id, token]
        if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && !token.is_empty());
    if fits {
        return Ok(url);
    }
    wrong("the url is not one of a Discord webhook: its path is /api/webhooks/, an id, and a token")
}

/// The secret URL of a service, which lives at known hosts. No error shows the URL.
fn secret_url(url: Option<&Secret>, service: &str, hosts: &[&str]) -> Result<Url, StoreError> {
    let Some(url) = url else {
        return wrong(format!("the url of the {service} webhook is missing"));
    };
    if url.expose().len() > URL_BYTES_MAX {
        return wrong(format!("the url has more than {URL_BYTES_MAX} bytes"));
    }
    let Ok(url) = url.expose().parse::<Url>() else {
        return wrong(format!("the url of the {service} webhook cannot be read"));
    };
    let known = url.host_str().is_some_and(|host| hosts.contains(&host));
    let plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
    if url.scheme() != "https" || !known || !plain {
        let hosts = hosts.join(" or https://");
        return wrong(format!("the url of a {service} webhook begins with https://{hosts}"));
    }
    Ok(url)
}

fn check_recipients(to: &[String]) -> Result<(), StoreError> {
    if !(1..=RECIPIENTS_MAX).contains(&to.len()) {
        return wrong(format!("a mail channel has from 1 to {RECIPIENTS_MAX} recipients"));
    }
    for (at, address) in to.iter().enumerate() {
        if !is_mail_address(address) {
            let shown: String = address.escape_debug().take(80).collect();
            return wrong(format!("`{shown}` is no mail address; expected name@host.example"));
        }
        if to.iter().take(at).any(|before| before.eq_ignore_ascii_case(address)) {
            return wrong(format!("`{address}` is named twice"));
        }
    }
    Ok(())
}

/// The dot-atom form of RFC 5322 at a domain name: no quotes, no comments, no address literals.
fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
        !part.is_empty() && part.bytes().all(fits)
    };
    let label = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&part.len())
            && part.bytes().all(fits)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= MAIL_BYTES_MAX
        && local.len() <= LOCAL_BYTES_MAX
        && local.split('.').all(atom)
        && domain.contains('.')
        && domain.split('.').all(label)
}

fn wrong<T>(message: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Invalid(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "123456:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";

    fn telegram(chat_id: Option<i64>) -> ChannelConfig {
        ChannelConfig::Telegram { chat_id, chat_title: None, chat_kind: None }
    }

    fn outcome(config: &ChannelConfig, token: Option<&str>, url: Option<&str>) -> String {
        let (token, url) = (token.map(Secret::new), url.map(Secret::new));
        let secrets = ChannelSecrets { token, url, signing: Vec::new() };
        let checked = check(config, &secrets, &GuardSettings::default());
        checked.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn telegram_chats_are_linked_or_belong_to_an_own_bot() {
        for (chat, token, expected) in [
            (None, None, "fine"),
            (None, Some(TOKEN), "fine"),
            (Some(-100_123), Some(TOKEN), "fine"),
            (Some(7), None, "linked by /start"),
            (Some(0), Some(TOKEN), "0 is no chat id"),
            (None, Some("123456"), "not one of a Telegram bot"),
            (None, Some("123456:short"), "not one of a Telegram bot"),
            (None, Some("abc:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0"), "not one of a Telegram bot"),
            (None, Some("1:AAHdqTcvCH1vGWJxfSeofSAs0K5PALD/../aw0"), "not one of a Telegram bot"),
        ] {
            let got = outcome(&telegram(chat), token, None);
            assert!(got.contains(expected), "{chat:?} {token:?}: {got}");
            assert!(token.is_none_or(|token| !got.contains(token)), "{got}");
        }
        assert!(outcome(&ChannelConfig::Slack {}, Some(TOKEN), None).contains("takes no token"));
    }

    #[test]
    fn slack_and_discord_urls_lead_to_slack_and_discord() {
        let slack = "https://hooks.slack.com/services/T0/B0/x";
        let discord = "https://discord.com/api/webhooks/12/token_x";
        let (to_slack, to_discord) = (ChannelConfig::Slack {}, ChannelConfig::Discord {});
        for (config, url, expected) in [
            (&to_slack, Some(slack), "fine"),
            (&to_discord, Some(discord), "fine"),
            (&to_discord, Some("https://discord.com/api/v10/webhooks/12/t?thread_id=3"), "fine"),
            (&to_slack, None, "url of the Slack webhook is missing"),
            (&to_slack, Some(discord), "begins with https://hooks.slack.com"),
            (&to_slack, Some("https://hooks.slack.com.evil.example/services/a"), "begins with"),
            (&to_slack, Some("https://hooks.slack.com@evil.example/services/a"), "begins with"),
            (&to_slack, Some("https://x@hooks.slack.com/services/a"), "begins with"),
            (&to_slack, Some("https://hooks.slack.com:444/services/a"), "begins with"),
            (&to_slack, Some("http://hooks.slack.com/services/a"), "begins with"),
            (&to_slack, Some("https://hooks.slack.com/api/a"), "its path begins with /services/"),
            (&to_slack, Some("hidden"), "cannot be read"),
            (&to_discord, Some(slack), "begins with https://discord.com"),
            (
                &to_discord,
                Some("https://discord.com/api/webhooks/x/t"),
                "its path is /api/webhooks/",
            ),
            (&to_discord, Some("https://discord.com/api/webhooks/12/"), "its path is"),
            (&to_discord, Some("https://discord.com/api/webhooks/12"), "its path is"),
        ] {
            let got = outcome(config, None, url);
            assert!(got.contains(expected), "{url:?}: {got}");
            assert!(!got.contains("hidden"), "{got}");
        }
        let hook = ChannelConfig::Webhook { url: "https://example.com/".into() };
        assert!(outcome(&hook, None, Some(slack)).contains("takes no secret url"));
    }

    #[test]
    fn mail_addresses_cannot_carry_anything_else() {
        let mail = |to: &[&str]| {
            let to = to.iter().map(|to| (*to).to_owned()).collect();
            outcome(&ChannelConfig::Email { to }, None, None)
        };
        assert_eq!(mail(&["ops@example.com", "o.p+s@mail.example.co"]), "fine");
        let long = format!("{}@example.com", "x".repeat(65));
        for bad in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "ops@host",
            "a@b@example.com",
            "ops@example.com\r\nBcc: all@example.com",
            "ops @example.com",
            "\"o p\"@example.com",
            "ops@[127.0.0.1]",
            "<ops@example.com>",
            "ops@example.com,b@example.com",
            "ops@-x.example",
            "öps@example.com",
            ".ops@example.com",
            long.as_str(),
        ] {
            let got = mail(&[bad]);
            assert!(got.contains("is no mail address") && !got.contains('\n'), "{bad:?}: {got}");
        }
        assert!(mail(&[]).contains("from 1 to 20 recipients"));
        assert!(mail(&["a@example.com"; 21]).contains("from 1 to 20 recipients"));
        assert!(mail(&["a@example.com", "A@example.com"]).contains("named twice"));
    }

    #[test]
    fn names_are_lines() {
        for bad in ["", "a\nb", "a\u{1b}[2J", &"x".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        check_name("Ops 🚨 <b>").unwrap();
    }
}
