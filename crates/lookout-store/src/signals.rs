//! Tells the parts of this process that something in the store has changed, so that none waits for
//! its next look. Other instances are noticed by looking; a signal only makes it sooner.

use tokio::sync::watch;

/// Counters that go up after a change has committed.
#[derive(Debug, Default)]
pub struct Signals {
    /// Rules, their versions, labels.
    pub rules: Signal,
    /// Balances that a job has read.
    pub readings: Signal,
    /// Alerts: new, confirmed, retracted.
    pub alerts: Signal,
    /// Deliveries that became due, and channels that changed.
    pub deliveries: Signal,
    /// Jobs and runs.
    pub jobs: Signal,
}

/// One counter.
#[derive(Debug)]
pub struct Signal(watch::Sender<u64>);

impl Default for Signal {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Signal {
    /// Wakes everyone who listens.
    pub fn raise(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Listens from now on: `changed().await` returns after the next [`Signal::raise`].
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_raised_before_the_wait_is_not_missed() {
        let signals = Signals::default();
        let mut listener = signals.rules.listen();
        signals.rules.raise();
        signals.rules.raise();
        listener.changed().await.unwrap();
        assert!(!listener.has_changed().unwrap());
        assert!(!signals.alerts.listen().has_changed().unwrap());
    }
}
