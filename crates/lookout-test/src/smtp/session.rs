//! Sessions of the mail server: commands in, answers out, encryption in between.

use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Encryption, Login, Mail, State, Step};

/// Longest line that it takes (RFC 5321 allows 1000 in a message).
const LINE_BYTES_MAX: usize = 1000;

/// What a session runs over.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) async fn accept(listener: TcpListener, state: Arc<State>, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let state = Arc::clone(&state);
        // A client that goes away in the middle is no concern of a stand-in.
        let serve = async move { drop(serve(&state, stream).await) };
        tokio::spawn(token.clone().run_until_cancelled_owned(serve));
    }
}

async fn serve(state: &State, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session {
        state,
        wire: BufReader::new(Box::new(stream)),
        is_encrypted: false,
        mail: Mail { from: String::new(), to: Vec::new(), data: String::new() },
    };
    if let Encryption::Implicit(config) = &state.encryption {
        session = session.encrypted(config).await?;
    }
    session.say("220 stand-in ESMTP").await?;
    session.converse().await
}

struct Session<'a> {
    state: &'a State,
    wire: BufReader<Box<dyn Wire>>,
    is_encrypted: bool,
    mail: Mail,
}

impl Session<'_> {
    /// The session behind a TLS handshake, knowing nothing of what came before.
    async fn encrypted(mut self, config: &Arc<ServerConfig>) -> Result<Self> {
        if !self.wire.buffer().is_empty() {
            self.violation("commands behind STARTTLS, before the handshake".to_owned());
        }
        let wire = TlsAcceptor::from(Arc::clone(config)).accept(self.wire.into_inner()).await?;
        self.wire = BufReader::new(Box::new(wire));
        self.is_encrypted = true;
        (self.mail.from, self.mail.to) = (String::new(), Vec::new());
        Ok(self)
    }

    async fn converse(mut self) -> Result<()> {
        loop {
            let Some(line) = self.line().await? else { return Ok(()) };
            let verb: String = line.chars().take(4).collect::<String>().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "STAR" => {
                    let offered = self.offered().cloned();
                    match (offered, self.refused(Step::StartTls)) {
                        (None, _) => "502 no".to_owned(),
                        (Some(_), Some(refusal)) => refusal,
                        (Some(config), None) => {
                            self.say("220 go on").await?;
                            self = self.encrypted(&config).await?;
                            continue;
                        }
                    }
                }
                "DATA" => self.take().await?,
                "QUIT" => return self.say("221 bye").await,
                _ => self.answer(&verb, &line),
            };
            self.say(&answer).await?;
        }
    }

    /// What it would encrypt with after STARTTLS.
    fn offered(&self) -> Option<&Arc<ServerConfig>> {
        match &self.state.encryption {
            Encryption::StartTls(config) if !self.is_encrypted => Some(config),
            _ => None,
        }
    }

    fn answer(&mut self, verb: &str, line: &str) -> String {
        let argument = line.split_once(':').map_or("", |(_, rest)| rest);
        let address = argument.trim_start().split_once('>').map_or("", |(address, _)| address);
        let address = address.trim_start_matches('<').to_owned();
        let ok = || "250 ok".to_owned();
        match verb {
            "EHLO" => {
                let start_tls = if self.offered().is_some() { "250-STARTTLS\r\n" } else { "" };
                // Logins are always offered: a client has to know when not to.
                format!("250-stand-in\r\n{start_tls}250-AUTH PLAIN\r\n250-8BITMIME\r\n250 SMTPUTF8")
            }
            "HELO" | "NOOP" => ok(),
            "RSET" => {
                (self.mail.from, self.mail.to) = (String::new(), Vec::new());
                ok()
            }
            "AUTH" => self.login(line),
            "MAIL" => {
                self.mail.from = address;
                self.refused(Step::Mail).unwrap_or_else(ok)
            }
            "RCPT" => {
                let is_unknown = self.state.unknown.lock().contains(&address);
                let unknown = is_unknown.then(|| "550 no such user".to_owned());
                let refused = self.refused(Step::Recipient).or(unknown);
                if refused.is_none() {
                    self.mail.to.push(address);
                }
                refused.unwrap_or_else(ok)
            }
            _ => {
                self.violation(format!("unknown command {line:?}"));
                "500 what".to_owned()
            }
        }
    }

    /// `AUTH PLAIN` with its answer in the same line (RFC 4616).
    fn login(&self, line: &str) -> String {
        let read = || -> Option<Login> {
            let bytes = STANDARD.decode(line.strip_prefix("AUTH PLAIN ")?).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let mut parts = text.split('\0').skip(1).map(str::to_owned);
            let (user, password) = (parts.next()?, parts.next()?);
            Some(Login { user, password, encrypted: self.is_encrypted })
        };
        match read() {
            Some(login) => {
                self.state.logins.lock().push(login);
                "235 welcome".to_owned()
            }
            None => {
                self.violation(format!("a login that is none: {line:?}"));
                "501 what".to_owned()
            }
        }
    }

    /// The message behind `DATA`.
    async fn take(&mut self) -> Result<String> {
        self.say("354 go on").await?;
        self.mail.data = self.message().await?;
        if let Some(refusal) = self.refused(Step::Data) {
            return Ok(refusal);
        }
        self.state.journal.lock().push(self.mail.clone());
        self.state.count.send_modify(|count| *count += 1);
        Ok("250 taken".to_owned())
    }

    /// The refusal of this mail, if it is at this step.
    fn refused(&self, step: Step) -> Option<String> {
        let mut refusals = self.state.refusals.lock();
        let is_here = refusals.front().is_some_and(|refusal| refusal.step == step);
        if is_here { refusals.pop_front().map(|refusal| refusal.answer) } else { None }
    }

    async fn message(&mut self) -> Result<String> {
        let mut data = String::new();
        loop {
            let line = self.line().await?.context("the message broke off")?;
            if line == "." {
                return Ok(data);
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
            data.push_str("\r\n");
        }
    }

    /// A line without its end; `None` at the end of the connection.
    async fn line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        if self.wire.read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let line = match text.strip_suffix("\r\n") {
            Some(line) => line.to_owned(),
            None => {
                self.violation(format!("a line without CRLF: {text:?}"));
                text.trim_end_matches('\n').to_owned()
            }
        };
        if line.len() > LINE_BYTES_MAX || line.contains('\r') {
            self.violation(format!("a line of {} bytes", line.len()));
        }
        if !self.is_encrypted {
            self.state.in_clear.lock().push(line.clone());
        }
        Ok(Some(line))
    }

    async fn say(&mut self, answer: &str) -> Result<()> {
        // In one piece: two would wait for each other's acknowledgement.
        self.wire.write_all(format!("{answer}\r\n").as_bytes()).await?;
        self.wire.flush().await?;
        Ok(())
    }

    fn violation(&self, what: String) {
        self.state.violations.lock().push(what);
    }
}
