//! A Telegram of the demo's own, with one chat in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use lookout_test::TelegramServer;
use lookout_test::telegram::SentMessage;
use lookout_types::SystemClock;

/// The bot's token, in the form of real ones; worth nothing.
pub(crate) const TOKEN: &str = "1000001:the-demo-only";
/// The user, and the private chat with him, which has the same number.
const USER: i64 = 1001;
/// Lookout sends within milliseconds; a busy machine takes longer.
const ARRIVES_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The chat, and how far it has been read.
pub(crate) struct Chat {
    server: TelegramServer,
    read: AtomicUsize,
}

impl Chat {
    /// Starts the stand-in.
    pub(crate) async fn start() -> Result<Self> {
        let server = TelegramServer::start(Arc::new(SystemClock)).await?;
        server.add_bot(TOKEN, "lookout_demo_bot");
        server.add_chat(USER, "private", "Ada");
        Ok(Self { server, read: AtomicUsize::new(0) })
    }

    /// In place of `https://api.telegram.org`.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// The user writes to the bot.
    pub(crate) fn say(&self, text: &str) {
        self.server.say(TOKEN, USER, USER, text);
    }

    /// What the bot has written and nobody has read yet.
    pub(crate) fn arrived(&self) -> Vec<SentMessage> {
        let new = self.server.journal_from(self.read.load(Ordering::Relaxed));
        self.read.fetch_add(new.len(), Ordering::Relaxed);
        new
    }

    /// The bot's next message; exactly one is expected.
    pub(crate) async fn next(&self) -> Result<SentMessage> {
        let wait = async {
            loop {
                let mut new = self.arrived();
                ensure!(new.len() < 2, "more than one message came: {new:?}");
                if let Some(message) = new.pop() {
                    return Ok(message);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let late = |_| anyhow::anyhow!("nothing arrived at Telegram within {ARRIVES_WITHIN:?}");
        tokio::time::timeout(ARRIVES_WITHIN, wait).await.map_err(late)?
    }

    /// What broke Telegram's limits.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.server.violations()
    }
}
