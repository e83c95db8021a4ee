//! `[bus]`, `[warehouse]`, `[telegram]`, `[email]`, `[webhooks]`: what watching chains needs.

use std::str::FromStr;

use lookout_bus::BusUrl;
use lookout_types::Secret;
use lookout_warehouse::WarehouseUrl;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::endpoint::Endpoint;
use super::section::{Check, section};
use super::server::Proxies;
use super::setting::{FromFile, SecretText, word_setting};
use super::tree::{Entry, Problem};

section! {
    /// The frames of followed chains.
    BusSection {
        /// `local:` or `local:FOLDER`, relative to the working directory. Later also
        /// `kafka://HOST:PORT/PREFIX`. With `local:`, one instance of those that share a Postgres
        /// store has the roles `ingest` and `rules`; another one is refused.
        url: BusUrl = BusUrl::Local("lookout-frames".into()),
    }
}

impl Check for BusSection {}

section! {
    /// Events and transfers of followed chains.
    WarehouseSection {
        /// `sqlite:FILE`, relative to the working directory. Later also
        /// `clickhouse://HOST:PORT/DATABASE`.
        url: WarehouseUrl = WarehouseUrl::SqliteFile("events.db".into()),
    }
}

impl Check for WarehouseSection {}

section! {
    /// The Telegram bot that sends alerts, made with `@BotFather`.
    TelegramSection {
        /// Its token. Channels may also bring a bot of their own.
        token: Option<SecretText> = None,
        /// File that holds the token, instead of `token`.
        token_file: Option<FromFile<SecretText>> = None,
        /// The Bot API server; change it for one of your own.
        api_url: Option<Endpoint> = None,
    }
}

impl Check for TelegramSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        one_of(entry, self.token.is_some() && self.token_file.is_some(), "token")
    }
}

section! {
    /// The mail server for alerts by mail.
    EmailSection {
        /// Its host; without it there are no mail channels.
        host: Option<String> = None,
        /// Its port.
        port: u32 = 587,
        /// How the connection is encrypted.
        tls: MailTls = MailTls::StartTls,
        /// File with certificates (PEM) of authorities that are trusted besides the system's, for a
        /// server whose certificate an authority of your own has signed.
        ca_file: Option<FromFile<Authorities>> = None,
        /// User to log in as; without it there is no login.
        user: Option<String> = None,
        /// Password of the user.
        password: Option<SecretText> = None,
        /// File that holds the password, instead of `password`.
        password_file: Option<FromFile<SecretText>> = None,
        /// Sender of the mails, such as `Lookout <alerts@example.org>`.
        from: Option<String> = None,
    }
}

word_setting! {
    /// Encryption of mail.
    MailTls {
        /// Plain first, then encrypted; refused when the server cannot.
        StartTls = "starttls",
        /// Encrypted from the start.
        Tls = "tls",
        /// Never, the password included; for a relay on this machine.
        None = "none",
    }
}

/// Certificates of authorities, as PEM; at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authorities(pub(crate) String);

impl FromStr for Authorities {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NONE: &str = "no certificates of authorities in PEM form";
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            roots.add(certificate.map_err(|_| NONE)?).map_err(|_| NONE)?;
        }
        if roots.is_empty() { Err(NONE) } else { Ok(Self(text.to_owned())) }
    }
}

impl Check for EmailSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        one_of(entry, self.password.is_some() && self.password_file.is_some(), "password")?;
        if self.host.is_some() && self.from.is_none() {
            let reason = "missing; mail needs a sender such as `Lookout <alerts@example.org>`";
            return Err(entry.problem_at("from", reason));
        }
        if !(1..=65_535).contains(&self.port) {
            return Err(entry.problem_at("port", "expected a port from 1 to 65535"));
        }
        Ok(())
    }
}

section! {
    /// Where webhooks of tenants may lead.
    WebhooksSection {
        /// Private addresses that they may reach all the same: addresses or blocks such as
        /// `10.0.0.0/8`. Everything else that is not on the public internet is refused.
        allow_private: Proxies = Proxies::default(),
        /// Whether `http` is allowed besides `https`.
        allow_http: bool = false,
    }
}

impl Check for WebhooksSection {}

fn one_of(entry: &Entry, both: bool, key: &str) -> Result<(), Problem> {
    if both {
        let reason = format!("`{key}` is set too; keep one of the two");
        return Err(entry.problem_at(&format!("{key}_file"), reason));
    }
    Ok(())
}

impl TelegramSection {
    /// The token, wherever it was set.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        let file = self.token_file.as_ref().map(|file| &file.value);
        self.token.as_ref().or(file).map(|token| &token.0)
    }
}

impl EmailSection {
    /// The password, wherever it was set.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        let file = self.password_file.as_ref().map(|file| &file.value);
        self.password.as_ref().or(file).map(|password| &password.0)
    }
}
