//! Delivery as the configuration has it: senders, the engine, the bots' ears.

use std::sync::Arc;
use std::time::Duration;

use lookout_notify::{
    Bots, BotsParts, Deliverer, DelivererParts, SenderSettings, Senders, SmtpSettings, SmtpTls,
    TELEGRAM_API_URL, Telegram, TelegramSettings,
};

use super::Ground;
use crate::config::{MailTls, Settings};
use crate::failure::Failure;

/// Longest wait for a connection to Telegram; the time of an answer has its own limits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts delivering.
pub(super) async fn start(ground: &Ground<'_>) -> Result<(), Failure> {
    let (store, clock) = (ground.store, ground.clock);
    if ground.instance.is_alone() {
        // What a crash left behind need not wait for its lease to end.
        let orphans = store.requeue_orphans().await?;
        if orphans > 0 {
            tracing::info!(orphans, "deliveries that a crash interrupted are queued again");
        }
    }
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Failure::failed(format!("cannot set up the HTTP client: {error}")))?;
    let telegram = Arc::new(Telegram::new(telegram(ground.settings), http, store.clone()));
    let senders = Senders::new(&senders(ground.settings), Arc::clone(clock))
        .map_err(|error| Failure::usage(error.to_string()))?
        .with_telegram(Arc::clone(&telegram) as _);
    let deliverer = Deliverer::new(DelivererParts {
        store: store.clone(),
        senders,
        clock: Arc::clone(clock),
        stop: ground.stop.clone(),
    });
    ground.tasks.spawn(deliverer.run());
    let bots = Bots::new(BotsParts {
        store: store.clone(),
        telegram,
        clock: Arc::clone(clock),
        stop: ground.stop.clone(),
    });
    ground.tasks.spawn(bots.run());
    Ok(())
}

fn telegram(settings: &Settings) -> TelegramSettings {
    let section = settings.telegram();
    let api_url = section.api_url.as_ref().map_or(TELEGRAM_API_URL, |url| url.0.as_str());
    TelegramSettings { api_url: api_url.to_owned(), token: section.secret().cloned() }
}

fn senders(settings: &Settings) -> SenderSettings {
    let email = settings.email();
    let smtp = email.host.clone().map(|host| SmtpSettings {
        host,
        // Checked when it was read.
        port: u16::try_from(email.port).unwrap_or(587),
        tls: match email.tls {
            MailTls::StartTls => SmtpTls::StartTls,
            MailTls::Tls => SmtpTls::Implicit,
            MailTls::None => SmtpTls::None,
        },
        authorities: email.ca_file.as_ref().map(|file| file.value.0.clone()),
        user: email.user.clone(),
        password: email.secret().cloned(),
        from: email.from.clone().unwrap_or_default(),
    });
    SenderSettings { guard: settings.guard(), smtp, ..SenderSettings::default() }
}
