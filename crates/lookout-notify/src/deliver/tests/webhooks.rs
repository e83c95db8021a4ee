//! The engine and receivers that ask to wait.

use lookout_store::{
    Actor, ChannelChange, ChannelSecrets, DeliveryState, GuardSettings, NewChannel, TENANT_DEFAULT,
};
use lookout_test::Receiver;
use lookout_test::receiver::Fault;

use super::*;

fn guard() -> GuardSettings {
    GuardSettings { allow_private: vec!["127.0.0.0/8".parse().unwrap()], allow_http: true }
}

fn asks(code: u16, seconds: &str) -> Fault {
    Fault::Status { code, retry_after: Some(seconds.to_owned()) }
}

impl Rig {
    /// A channel to a receiver; its id.
    async fn webhook(&self, tenant: &str, url: String) -> String {
        let new = NewChannel {
            tenant: tenant.to_owned(),
            name: "hook".to_owned(),
            config: ChannelConfig::Webhook { url },
            secrets: ChannelSecrets::default(),
        };
        self.store.create_channel(new, &guard(), &Actor::Cli).await.unwrap().0.id
    }

    async fn delivery(&self, channel: &str, alert: &str) -> TestDelivery {
        self.deliveries().await.remove(&format!("alert-{channel}-{alert}")).unwrap()
    }

    async fn until_tried(&self, channel: &str, alert: &str) -> TestDelivery {
        let id = format!("alert-{channel}-{alert}");
        self.until(|all| all[&id].state == "queued" && all[&id].error.is_some()).await;
        self.delivery(channel, alert).await
    }
}

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn a_wait_that_one_asks_for_is_not_the_others() {
    let rig = Rig::real().await;
    let receiver = Receiver::start().await.unwrap();
    let slow = rig.webhook(TENANT_DEFAULT, receiver.url("/slow")).await;
    let other = rig.webhook(TENANT_DEFAULT, receiver.url("/other")).await;
    receiver.next([asks(429, "86400")]);
    rig.alerts(&slow, &["a"]).await;
    let waits = rig.until_tried(&slow, "a").await;
    assert_eq!(waits.attempts, 0);
    assert!(waits.due_at > rig.clock.now() + DAY / 2);
    // The same host, and all other destinations of the same tenant.
    rig.store.put_deliveries(&other, "alert", &["a"]).await.unwrap();
    assert_eq!(rig.until_ended(&format!("alert-{other}-a")).await.state, "sent");
    // More of the one that asked waits, but somebody who wants to know is told.
    rig.alerts(&slow, &["b"]).await;
    let test = rig.store.queue_test(TENANT_DEFAULT, &slow, &Actor::Cli).await.unwrap();
    receiver.next([asks(429, "86400")]);
    let patience = PATIENCE;
    let test = rig.store.await_delivery(TENANT_DEFAULT, &test.id, patience).await.unwrap();
    assert_eq!(test.state, DeliveryState::Queued);
    assert!(test.error.unwrap().contains("answered 429"));
    assert_eq!(rig.delivery(&slow, "b").await.state, "queued");
    assert_eq!(rig.delivery(&slow, "b").await.error, None);
    // Another address is another receiver: it was not the one that asked.
    let change = ChannelChange {
        name: "hook".to_owned(),
        config: ChannelConfig::Webhook { url: receiver.url("/new") },
        token: None,
        url: None,
    };
    rig.store.update_channel(TENANT_DEFAULT, &slow, change, &guard(), &Actor::Cli).await.unwrap();
    rig.until_all("sent").await;
    let at_new = receiver.journal().iter().filter(|got| got.path == "/new").count();
    assert_eq!(at_new, 3);
}

#[tokio::test]
async fn a_wait_of_nothing_is_a_failure_like_any_other() {
    let rig = Rig::real().await;
    let receiver = Receiver::start().await.unwrap();
    let channel = rig.webhook(TENANT_DEFAULT, receiver.url("/")).await;
    receiver.set([asks(429, "0")]);
    rig.alerts(&channel, &["a"]).await;
    let tried = rig.until_tried(&channel, "a").await;
    assert_eq!(tried.attempts, 1);
    assert!(tried.due_at > rig.clock.now() - 1_000);
    assert_eq!(receiver.journal().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_fails_and_asks_to_wait_may_have_been_told() {
    let rig = Rig::real().await;
    let receiver = Receiver::start().await.unwrap();
    let channel = rig.webhook(TENANT_DEFAULT, receiver.url("/")).await;
    receiver.next([asks(503, "3600"), asks(429, "3600")]);
    rig.alerts(&channel, &["a"]).await;
    let tried = rig.until_tried(&channel, "a").await;
    assert_eq!(tried.attempts, 1, "it may have taken it");
    assert!(tried.due_at > rig.clock.now() + 1_800_000, "but asked to wait");
    rig.store.run_sql("UPDATE alerts SET state = 'retracted'").await.unwrap();
    rig.store.put_deliveries(&channel, "retraction", &["a"]).await.unwrap();
    rig.store.run_sql("UPDATE channels SET wait_until = NULL").await.unwrap();
    let id = format!("retraction-{channel}-a");
    rig.until(|all| all[&id].error.is_some()).await;
    rig.store.run_sql("UPDATE channels SET wait_until = NULL").await.unwrap();
    rig.store.run_sql("UPDATE deliveries SET due_at = 0 WHERE state = 'queued'").await.unwrap();
    assert_eq!(rig.until_ended(&id).await.state, "sent");
    assert_eq!(rig.delivery(&channel, "a").await.state, "cancelled");
}

/// Of a chat in which more channels are than a bot would answer for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_channel_of_a_group_that_grows_follows_it() {
    let rig = Rig::fast().await;
    for n in 0..25 {
        rig.channel(&format!("c{n:02}"), GROUP, "{}").await;
    }
    rig.telegram.migrate(GROUP, -1_000);
    rig.alerts("c24", &["a"]).await;
    rig.until_all("sent").await;
    assert_eq!(rig.telegram.journal()[0].chat, -1_000);
    assert_eq!(rig.telegram.calls("sendMessage"), 2);
}
