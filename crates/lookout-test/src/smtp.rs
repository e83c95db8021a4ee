//! A stand-in for a mail server: takes mail in clear on loopback, and keeps a journal.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for mail that a test expects.
const ARRIVE_WITHIN: Duration = Duration::from_secs(30);
/// Longest line that it takes (RFC 5321 allows 1000 in a message).
const LINE_BYTES_MAX: usize = 1000;

/// A step of a mail's way at which the server can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
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

/// The stand-in, on a port of its own; it ends with this value.
#[derive(Debug)]
pub struct SmtpServer {
    address: SocketAddr,
    state: Arc<State>,
    _running: DropGuard,
}

#[derive(Debug)]
struct State {
    refusals: Mutex<VecDeque<Refusal>>,
    journal: Mutex<Vec<Mail>>,
    violations: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl SmtpServer {
    /// Starts one that takes everything.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            refusals: Mutex::default(),
            journal: Mutex::default(),
            violations: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let token = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&state), token.clone()));
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

    /// All mails that it took.
    pub fn journal(&self) -> Vec<Mail> {
        self.state.journal.lock().clone()
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

async fn accept(listener: TcpListener, state: Arc<State>, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let state = Arc::clone(&state);
        // A client that goes away in the middle is no concern of a stand-in.
        let serve = async move { drop(converse(&state, stream).await) };
        tokio::spawn(token.clone().run_until_cancelled_owned(serve));
    }
}

/// One session.
async fn converse(state: &State, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    say(&mut write, "220 stand-in ESMTP").await?;
    let mut mail = Mail { from: String::new(), to: Vec::new(), data: String::new() };
    loop {
        let Some(line) = line(state, &mut read).await? else { return Ok(()) };
        let verb: String = line.chars().take(4).collect::<String>().to_ascii_uppercase();
        let argument = line.split_once(':').map_or("", |(_, rest)| rest);
        let address = argument.trim_start().split_once('>').map_or("", |(address, _)| address);
        let address = address.trim_start_matches('<').to_owned();
        let answer = match verb.as_str() {
            "EHLO" => "250-stand-in\r\n250-8BITMIME\r\n250 SMTPUTF8".to_owned(),
            "HELO" | "NOOP" => "250 ok".to_owned(),
            "RSET" => {
                (mail.from, mail.to) = (String::new(), Vec::new());
                "250 ok".to_owned()
            }
            "MAIL" => {
                mail.from = address;
                refused(state, Step::Mail).unwrap_or_else(|| "250 ok".to_owned())
            }
            "RCPT" => {
                let refused = refused(state, Step::Recipient);
                if refused.is_none() {
                    mail.to.push(address);
                }
                refused.unwrap_or_else(|| "250 ok".to_owned())
            }
            "DATA" => {
                say(&mut write, "354 go on").await?;
                mail.data = message(state, &mut read).await?;
                match refused(state, Step::Data) {
                    Some(answer) => answer,
                    None => {
                        state.journal.lock().push(mail.clone());
                        state.count.send_modify(|count| *count += 1);
                        "250 taken".to_owned()
                    }
                }
            }
            "QUIT" => {
                say(&mut write, "221 bye").await?;
                return Ok(());
            }
            _ => {
                state.violations.lock().push(format!("unknown command {line:?}"));
                "500 what".to_owned()
            }
        };
        say(&mut write, &answer).await?;
    }
}

/// The refusal of this mail, if it is at this step.
fn refused(state: &State, step: Step) -> Option<String> {
    let mut refusals = state.refusals.lock();
    let is_here = refusals.front().is_some_and(|refusal| refusal.step == step);
    if is_here { refusals.pop_front().map(|refusal| refusal.answer) } else { None }
}

async fn message(
    state: &State,
    read: &mut (impl AsyncBufReadExt + Unpin + Send),
) -> Result<String> {
    let mut data = String::new();
    loop {
        let Some(line) = line(state, read).await? else { bail!("the message broke off") };
        if line == "." {
            return Ok(data);
        }
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
        data.push_str("\r\n");
    }
}

/// A line without its end; `None` at the end of the connection.
async fn line(
    state: &State,
    read: &mut (impl AsyncBufReadExt + Unpin + Send),
) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    if read.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = match text.strip_suffix("\r\n") {
        Some(line) => line.to_owned(),
        None => {
            state.violations.lock().push(format!("a line without CRLF: {text:?}"));
            text.trim_end_matches('\n').to_owned()
        }
    };
    if line.len() > LINE_BYTES_MAX || line.contains('\r') {
        state.violations.lock().push(format!("a line of {} bytes", line.len()));
    }
    Ok(Some(line))
}

async fn say(write: &mut OwnedWriteHalf, answer: &str) -> Result<()> {
    // In one piece: two would wait for each other's acknowledgement.
    write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    Ok(())
}
