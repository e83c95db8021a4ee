//! Mail over SMTP: plain text, one message for many alerts.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use lookout_store::{ChannelConfig, ChannelSecrets};
use lookout_types::{Clock, Secret, UnixMillis};
use sha2::{Digest, Sha256};

use super::digest::{BETWEEN, cut, pieces, subject, units};
use super::{Pace, Parcel, Receipt, SendError, Sender, SetupError, wrong_kind};

/// Longest that handing over a mail takes, all steps of it: servers look for spam and viruses before
/// they answer, and giving up too early sends it twice. Below the time that a parcel has.
const MAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest body: what people may still scroll through.
const BODY_MAX: usize = 100_000;
/// Longest subject, in characters: clients show less.
const SUBJECT_MAX: usize = 120;
/// Most alerts of one mail.
const ITEMS_MAX: usize = 100;
/// Between two mails to the same recipients: nobody reads faster, and providers count.
const PACE_RECIPIENTS: Duration = Duration::from_secs(10);
/// Between two mails through the server.
const PACE_SERVER: Duration = Duration::from_millis(200);
/// Longest part of a server's answer that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 200;
/// Answers about this server's own account, which its operator can mend: authentication required,
/// mechanism too weak, credentials refused, encryption needed (RFC 4954).
const OPERATORS_FAULT: [&str; 4] = ["530", "534", "535", "538"];

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Encrypted from the first byte, usually on port 465.
    Implicit,
    /// Encrypted after STARTTLS, which must work; usually on port 587.
    StartTls,
    /// In clear, the password included: for a relay on this machine.
    None,
}

/// The mail server of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpSettings {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub tls: SmtpTls,
    /// Certificates of authorities (PEM) that are trusted besides the system's.
    pub authorities: Option<String>,
    /// The account, if it asks for one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The sender's address, `name@host` or `Name <name@host>`.
    pub from: String,
}

/// Sends mail.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    server: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("server", &self.server)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl Email {
    /// Through this server. Does not connect yet.
    ///
    /// # Errors
    /// [`SetupError::Mail`] when the sender's address or the host's name cannot be used.
    pub fn new(settings: &SmtpSettings, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let SmtpSettings { host, port, tls, user, password, from, .. } = settings;
        let failed =
            |reason: String| SetupError::Mail { from: from.clone(), host: host.clone(), reason };
        let mailbox: Mailbox = from.parse().map_err(|_| failed("no mail address".to_owned()))?;
        let parameters = || parameters(settings).map_err(|error| failed(error.to_string()));
        let tls = match tls {
            SmtpTls::Implicit => Tls::Wrapper(parameters()?),
            SmtpTls::StartTls => Tls::Required(parameters()?),
            SmtpTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(*port)
            .tls(tls)
            .timeout(Some(MAIL_TIMEOUT))
            .hello_name(ClientId::Domain(mailbox.email.domain().to_owned()));
        if let (Some(user), Some(password)) = (user, password) {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            builder = builder.credentials(credentials);
        }
        let server = format!("{host}:{port}");
        Ok(Self { transport: builder.build(), from: mailbox, server, clock })
    }

    fn message(&self, to: &[String], parcel: &Parcel) -> Result<Message, SendError> {
        let refused = |reason: String| SendError::refused(reason);
        let mut builder = Message::builder()
            .from(self.from.clone())
            .date(system_time(self.clock.now()))
            .message_id(Some(self.message_id(parcel)))
            .subject(subject_line(parcel))
            .header(ContentType::TEXT_PLAIN);
        for address in to {
            let address =
                address.parse().map_err(|_| refused(format!("`{address}` is no mail address")))?;
            builder = builder.to(Mailbox::new(None, address));
        }
        builder = with_thread(builder, parcel.reply_to.as_deref());
        let body = pieces(parcel, BODY_MAX, units).join(BETWEEN);
        let mut message = builder.body(body).map_err(|error| refused(error.to_string()))?;
        // RFC 3834: so that no vacation notice answers.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }

    /// The same for every try with the same deliveries, so that mailboxes can drop a repeat; another
    /// when one has come along, which must not be dropped with it.
    fn message_id(&self, parcel: &Parcel) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let id = &parcel.id;
        let local =
            if parcel.items.len() < 2 && (1..=64).contains(&id.len()) && id.bytes().all(plain) {
                id.to_owned()
            } else {
                let mut hash = Sha256::new_with_prefix(id);
                parcel.items.iter().for_each(|item| hash.update(format!(",{}", item.delivery)));
                hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
            };
        format!("<{local}@{}>", self.from.email.domain())
    }

    /// Hands a message over for these recipients.
    async fn hand_over(&self, to: Vec<Address>, message: &[u8]) -> Result<(), SendError> {
        let envelope = Envelope::new(Some(self.from.email.clone()), to);
        let envelope = envelope.map_err(|error| SendError::refused(error.to_string()))?;
        let sent = self.transport.send_raw(&envelope, message).await;
        sent.map(|_| ()).map_err(|error| judge(&error))
    }

    /// To all recipients together; where the server refuses, to each by itself, so that one whom it
    /// does not know takes the mail from nobody else.
    async fn deliver(&self, message: &Message) -> Result<(), SendError> {
        let (to, bytes) = (message.envelope().to().to_vec(), message.formatted());
        let refused = match self.hand_over(to.clone(), &bytes).await {
            Err(SendError::Refused { reason }) if to.len() > 1 => reason,
            ended => return ended,
        };
        let (mut taken, mut left) = (0, None);
        let recipients = to.len();
        for one in to {
            match self.hand_over(vec![one], &bytes).await {
                Ok(()) => taken += 1,
                Err(SendError::Refused { .. }) => {}
                // The others first: those who have it get it again with the next try.
                Err(error) => left = Some(error),
            }
        }
        match left {
            Some(error) => Err(error),
            None if taken == 0 => Err(SendError::refused(refused)),
            None => {
                let refusing = recipients - taken;
                tracing::warn!(
                    refusing,
                    recipients,
                    reason = refused,
                    "the mail server refused some recipients of a mail, the others have it"
                );
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Sender for Email {
    async fn send(
        &self,
        config: &ChannelConfig,
        _: &ChannelSecrets,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError> {
        let ChannelConfig::Email { to } = config else { return Err(wrong_kind(config)) };
        let message = self.message(to, parcel)?;
        // The transport's own limit is for each step; this one is for all of them.
        match tokio::time::timeout(MAIL_TIMEOUT, self.deliver(&message)).await {
            Ok(Ok(())) => Ok(Receipt { message_id: Some(self.message_id(parcel)) }),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let seconds = MAIL_TIMEOUT.as_secs();
                Err(SendError::retry(format!("the mail server did not take it within {seconds} s")))
            }
        }
    }

    fn items_max(&self, _: &ChannelConfig) -> usize {
        ITEMS_MAX
    }

    fn paces(&self, config: &ChannelConfig, _: &ChannelSecrets) -> Vec<Pace> {
        let ChannelConfig::Email { to } = config else { return Vec::new() };
        vec![
            Pace::new("email", &to.join(","), PACE_RECIPIENTS),
            Pace::new("smtp", &self.server, PACE_SERVER),
        ]
    }
}

/// What a server must show: a certificate for its name, from an authority that is trusted.
fn parameters(settings: &SmtpSettings) -> Result<TlsParameters, smtp::Error> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(authorities) = &settings.authorities {
        builder = builder.add_root_certificate(Certificate::from_pem(authorities.as_bytes())?);
    }
    builder.build()
}

/// One line: no character of it can begin another header.
fn subject_line(parcel: &Parcel) -> String {
    let subject = subject(parcel);
    let line: String = subject
        .chars()
        .map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c })
        .collect();
    format!("[Lookout] {}", cut(line.trim(), SUBJECT_MAX, |text| text.chars().count()))
}

/// A retraction answers the mail that it takes back.
fn with_thread(builder: MessageBuilder, reply_to: Option<&str>) -> MessageBuilder {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.@<>".contains(&b);
    match reply_to.filter(|id| id.len() <= 400 && id.bytes().all(plain)) {
        Some(id) => builder.in_reply_to(id.to_owned()).references(id.to_owned()),
        None => builder,
    }
}

fn system_time(now: UnixMillis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or(0))
}

fn judge(error: &smtp::Error) -> SendError {
    if let Some(reason) = insecure(error) {
        return SendError::retry(format!("the mail server is not sent to: {reason}"));
    }
    let told: String = error
        .to_string()
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARS_MAX)
        .collect();
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    if error.is_permanent() && !OPERATORS_FAULT.contains(&code.as_str()) {
        return SendError::refused(format!("the mail server refused it: {told}"));
    }
    if error.is_timeout() {
        return SendError::retry("the mail server did not answer in time");
    }
    SendError::retry(format!("the mail server did not take it: {told}"))
}

/// Why a connection is not safe; nothing goes out on such a one, neither a password nor mail. All of
/// it can be mended by the operator, so that another try makes sense.
fn insecure(error: &smtp::Error) -> Option<String> {
    if error.is_client() && error.to_string().contains("STARTTLS is not supported") {
        return Some("it offers no STARTTLS, which `email.tls` asks for".to_owned());
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = wrapped.and_then(|error| error.downcast_ref::<rustls::Error>());
        if let Some(error) = tls.or_else(|| inner.downcast_ref()) {
            return Some(untrusted(error));
        }
        cause = inner.source();
    }
    None
}

/// What is wrong, without the names of the operator's servers.
fn untrusted(error: &rustls::Error) -> String {
    use rustls::{CertificateError as Bad, Error};
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "its certificate is of no authority that is trusted; `email.ca_file` adds one".into()
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "its certificate is for another name than `email.host`".into()
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired".into()
        }
        Error::InvalidCertificate(other) => format!("its certificate is not valid ({other})"),
        Error::InvalidMessage(_) => {
            "it does not speak TLS; `email.tls` must fit `email.port`".into()
        }
        other => format!("no encryption could be agreed on ({other})"),
    }
}
