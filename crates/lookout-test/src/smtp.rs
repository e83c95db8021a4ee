//! A stand-in for a mail server: takes mail on loopback, in clear, after STARTTLS or encrypted from the
//! first byte, and keeps a journal of it, of logins, and of all that it heard in clear.

mod session;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for mail that a test expects.
const ARRIVE_WITHIN: Duration = Duration::from_secs(30);

/// A step of a mail's way at which the server can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `STARTTLS`, which it has offered.
    StartTls,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Recipient,
    /// The end of the message.
    Data,
}

/// An answer instead of the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where.
    pub step: Step,
    /// What it says, for example `550 no such user`.
    pub answer: String,
}

/// A mail that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The sender in the envelope.
    pub from: String,
    /// The recipients in the envelope.
    pub to: Vec<String>,
    /// The message as it came, lines ending in CRLF, dots unstuffed.
    pub data: String,
}

impl Mail {
    /// The headers, unfolded, in order.
    pub fn headers(&self) -> Vec<(String, String)> {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in head.split("\r\n") {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = headers.last_mut() {
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            } else {
                headers.push((line.to_owned(), String::new()));
            }
        }
        headers
    }

    /// The first header of this name, in lowercase.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Everything behind the headers, as it came.
    pub fn body(&self) -> &str {
        self.data.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// How a server encrypts.
#[derive(Debug, Clone, Default)]
pub enum Encryption {
    /// Not at all, and it does not say that it could.
    #[default]
    None,
    /// After STARTTLS, which it offers (RFC 3207).
    StartTls(Arc<ServerConfig>),
    /// From the first byte (RFC 8314).
    Implicit(Arc<ServerConfig>),
}

/// Somebody who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// With which password.
    pub password: String,
    /// Whether nobody on the way could read that.
    pub encrypted: bool,
}

/// The stand-in, on a port of its own; it ends with this value.
#[derive(Debug)]
pub struct SmtpServer {
    address: SocketAddr,
    state: Arc<State>,
    _running: DropGuard,
}

#[derive(Debug)]
struct State {
    encryption: Encryption,
    refusals: Mutex<VecDeque<Refusal>>,
    /// Mailboxes that it does not have.
    unknown: Mutex<Vec<String>>,
    journal: Mutex<Vec<Mail>>,
    logins: Mutex<Vec<Login>>,
    in_clear: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl SmtpServer {
    /// Starts one that takes everything, in clear.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        Self::encrypted(Encryption::None).await
    }

    /// Starts one that takes everything. It asks nobody to log in, and takes every login.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn encrypted(encryption: Encryption) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            encryption,
            refusals: Mutex::default(),
            unknown: Mutex::default(),
            journal: Mutex::default(),
            logins: Mutex::default(),
            in_clear: Mutex::default(),
            violations: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let token = CancellationToken::new();
        tokio::spawn(session::accept(listener, Arc::clone(&state), token.clone()));
        Ok(Self { address, state, _running: token.drop_guard() })
    }

    /// Its host.
    pub fn host(&self) -> String {
        self.address.ip().to_string()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Refuses the next mails, one for each.
    pub fn refuse(&self, refusals: impl IntoIterator<Item = Refusal>) {
        self.state.refusals.lock().extend(refusals);
    }

    /// Takes no mail for this address from now on.
    pub fn close_mailbox(&self, address: &str) {
        self.state.unknown.lock().push(address.to_owned());
    }

    /// All mails that it took.
    pub fn journal(&self) -> Vec<Mail> {
        self.state.journal.lock().clone()
    }

    /// All logins.
    pub fn logins(&self) -> Vec<Login> {
        self.state.logins.lock().clone()
    }

    /// Every line that came in clear: what anybody on the way could have read.
    pub fn in_clear(&self) -> Vec<String> {
        self.state.in_clear.lock().clone()
    }

    /// What clients did that SMTP does not allow.
    pub fn violations(&self) -> Vec<String> {
        self.state.violations.lock().clone()
    }

    /// Waits until it has taken this many mails.
    ///
    /// # Errors
    /// When they do not arrive within half a minute.
    pub async fn wait_for(&self, mails: usize) -> Result<Vec<Mail>> {
        let mut count = self.state.count.subscribe();
        let all = async {
            loop {
                let journal = self.journal();
                if journal.len() >= mails || count.changed().await.is_err() {
                    return journal;
                }
            }
        };
        let Ok(journal) = tokio::time::timeout(ARRIVE_WITHIN, all).await else {
            bail!("{mails} mails were expected, the journal is {:#?}", self.journal());
        };
        Ok(journal)
    }
}
