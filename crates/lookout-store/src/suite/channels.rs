//! Channels, silences and deliveries as tenants see them, alike on every engine.

use lookout_types::{ChainId, ErrorKind, Secret};
use sqlx::Executor;

use super::{NOW, Rig};
use crate::{
    Actor, ChannelChange, ChannelConfig, ChannelInfo, ChannelSecrets, ChannelState, DeliveryFilter,
    DeliveryState, GuardSettings, NewChannel, NewSilence, Page, SignatureScheme, SilenceMatcher,
    Store, StoreError,
};

const SLACK: &str = "https://hooks.slack.com/services/T0/B0/hidden";
const TOKEN: &str = "123456:hidden-AAHdqTcvCH1vGWJxfSeofSAs0K5P";

macro_rules! on_every_engine {
    ([$($case:ident),* $(,)?]) => {
        suite!(memory, crate::suite::on_memory, [$($case),*]);
        suite!(file, crate::suite::on_file, [$($case),*]);
        suite!(postgres, crate::suite::on_postgres, [$($case),*]);
    };
}

mod deliveries;

on_every_engine!([
    channels_live_and_come_back,
    secrets_are_kept_and_never_listed,
    other_tenants_see_nothing,
    bad_channels_are_refused,
    a_change_keeps_what_it_does_not_name,
    keys_rotate_beside_each_other,
    a_deleted_channel_takes_its_queue_along,
    disabled_channels_wait_until_enabled,
    tenants_have_room_for_so_many,
    silences_hold_back_what_they_name,
    bad_silences_are_refused,
]);

fn webhook() -> ChannelConfig {
    ChannelConfig::Webhook { url: "https://example.com/hook".into() }
}

fn telegram(chat_id: Option<i64>) -> ChannelConfig {
    ChannelConfig::Telegram { chat_id, chat_title: None, chat_kind: None }
}

fn new(tenant: &str, name: &str, config: ChannelConfig) -> NewChannel {
    let mut secrets = ChannelSecrets::default();
    if matches!(config, ChannelConfig::Slack {}) {
        secrets.url = Some(Secret::new(SLACK));
    }
    NewChannel { tenant: tenant.into(), name: name.into(), config, secrets }
}

async fn make(store: &Store, tenant: &str, config: ChannelConfig) -> ChannelInfo {
    let new = new(tenant, "ops", config);
    store.create_channel(new, &GuardSettings::default(), &Actor::Cli).await.unwrap().0
}

fn change(config: ChannelConfig) -> ChannelChange {
    ChannelChange { name: "renamed".into(), config, token: None, url: None }
}

/// A row as the delivery engine leaves it behind.
async fn put(store: &Store, channel: &ChannelInfo, alert: &str, kind: &str, state: &str) -> String {
    let id = store.next_id(store.now());
    sqlx::query(
        "INSERT INTO deliveries (tenant_id, id, channel_id, alert_id, kind, state, attempts, \
         due_at, error, created_at, ended_at) VALUES ($1, $2, $3, $4, $5, $6, 3, 0, 'no', 1, 2)",
    )
    .bind(channel.tenant.clone())
    .bind(id.clone())
    .bind(channel.id.clone())
    .bind(alert.to_owned())
    .bind(kind.to_owned())
    .bind(state.to_owned())
    .execute(store.pool())
    .await
    .unwrap();
    id
}

async fn actions(store: &Store, tenant: &str) -> Vec<String> {
    let log = store.audit_log(tenant, &Page::default()).await.unwrap();
    log.into_iter().rev().map(|entry| entry.action).collect()
}

async fn channels_live_and_come_back(rig: &Rig) {
    let store = rig.migrated().await;
    let mut heard = store.signals().deliveries.listen();
    let made = make(&store, "acme", webhook()).await;
    assert!(heard.has_changed().unwrap());
    heard.mark_unchanged();
    assert_eq!((made.state, made.created_at, made.deleted_at), (ChannelState::Active, NOW, None));
    assert_eq!(store.get_channel("acme", &made.id).await.unwrap(), made);
    let chat = make(&store, "acme", telegram(None)).await;
    assert_eq!(chat.state, ChannelState::Unlinked);
    let all = store.list_channels("acme", false, &Page::default()).await.unwrap();
    assert_eq!(all, [chat.clone(), made.clone()]);
    let first = store.list_channels("acme", false, &Page::first(1)).await.unwrap();
    let rest = Page { limit: 5, after: Some(first[0].id.clone()) };
    let rest = store.list_channels("acme", false, &rest).await.unwrap();
    assert_eq!(rest, std::slice::from_ref(&made));

    rig.clock.advance(5);
    for _ in 0..2 {
        store.delete_channel("acme", &made.id, &Actor::Cli).await.unwrap();
    }
    let gone = store.get_channel("acme", &made.id).await.unwrap_err();
    assert_eq!(gone.to_string(), format!("no channel `{}`", made.id));
    assert_eq!(store.list_channels("acme", false, &Page::default()).await.unwrap(), [chat]);
    let deleted = store.list_channels("acme", true, &Page::default()).await.unwrap();
    assert_eq!(deleted.iter().map(|c| c.deleted_at).collect::<Vec<_>>(), [Some(NOW + 5)]);
    for _ in 0..2 {
        let back = store.restore_channel("acme", &made.id, &Actor::Cli).await.unwrap();
        assert_eq!(back, made);
    }
    let expected =
        ["tenant.create", "channel.create", "channel.create", "channel.delete", "channel.restore"];
    assert_eq!(actions(&store, "acme").await, expected);
}

async fn secrets_are_kept_and_never_listed(rig: &Rig) {
    let store = rig.migrated().await;
    let guard = GuardSettings::default();
    let made = make(&store, "acme", ChannelConfig::Slack {}).await;
    let mut own = new("acme", "bot", telegram(Some(-7)));
    own.secrets.token = Some(Secret::new(TOKEN));
    let (own, _) = store.create_channel(own, &guard, &Actor::Cli).await.unwrap();
    assert!(own.own_bot && own.state == ChannelState::Active);
    let (config, secrets) = store.open_channel("acme", &made.id).await.unwrap();
    assert_eq!((config, secrets.url), (ChannelConfig::Slack {}, Some(Secret::new(SLACK))));
    let (_, secrets) = store.open_channel("acme", &own.id).await.unwrap();
    assert_eq!(secrets.token, Some(Secret::new(TOKEN)));
    store.delete_channel("acme", &own.id, &Actor::Cli).await.unwrap();
    assert!(store.open_channel("acme", &own.id).await.is_err());
    let (hook, secrets) =
        store.create_channel(new("acme", "hook", webhook()), &guard, &Actor::Cli).await.unwrap();
    let key = secrets.signing[0].key.expose().to_owned();
    assert!(key.starts_with("whsec_"));
    let seen = format!(
        "{:?} {:?} {:?}",
        store.list_channels("acme", false, &Page::default()).await.unwrap(),
        store.audit_log("acme", &Page::default()).await.unwrap(),
        hook
    );
    assert!(!seen.contains("hidden") && !seen.contains(&key), "{seen}");
}

async fn other_tenants_see_nothing(rig: &Rig) {
    let store = rig.migrated().await;
    let ours = make(&store, "acme", webhook()).await;
    let delivery = store.queue_test("acme", &ours.id, &Actor::Cli).await.unwrap();
    make(&store, "other", webhook()).await;
    let (id, actor) = (ours.id.as_str(), &Actor::Cli);
    let none = |error: StoreError| assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    none(store.get_channel("other", id).await.unwrap_err());
    none(store.open_channel("other", id).await.unwrap_err());
    none(store.delete_channel("other", id, actor).await.unwrap_err());
    none(store.restore_channel("other", id, actor).await.unwrap_err());
    none(store.enable_channel("other", id, actor).await.unwrap_err());
    none(store.queue_test("other", id, actor).await.unwrap_err());
    none(store.replay_dead("other", id, actor).await.unwrap_err());
    none(store.get_delivery("other", &delivery.id).await.unwrap_err());
    none(store.replay_delivery("other", &delivery.id, actor).await.unwrap_err());
    let guard = GuardSettings::default();
    none(store.update_channel("other", id, change(webhook()), &guard, actor).await.unwrap_err());
    let scheme = SignatureScheme::Hmac;
    none(store.rotate_channel_key("other", id, scheme, 0, actor).await.unwrap_err());
    let page = Page::default();
    let filter = DeliveryFilter { channel: Some(ours.id.clone()), ..DeliveryFilter::default() };
    assert_eq!(store.list_deliveries("other", &filter, &page).await.unwrap(), []);
    assert_eq!(store.get_channel("acme", id).await.unwrap(), ours);
}

async fn bad_channels_are_refused(rig: &Rig) {
    let store = rig.migrated().await;
    let guard = GuardSettings::default();
    for (wrong, reason) in [
        (new("Acme", "x", webhook()), "is not a tenant name"),
        (new("acme", "", webhook()), "from 1 to 100 bytes"),
        (new("acme", &"x".repeat(101), webhook()), "from 1 to 100 bytes"),
        (new("acme", "a\r\nBcc: b", webhook()), "no control characters"),
        (
            new("acme", "x", ChannelConfig::Webhook { url: "https://127.0.0.1/".into() }),
            "127.0.0.1 is not on the public internet",
        ),
        (new("acme", "x", ChannelConfig::Discord {}), "url of the Discord webhook is missing"),
        (new("acme", "x", telegram(Some(5))), "linked by /start"),
    ] {
        let error = store.create_channel(wrong, &guard, &Actor::Cli).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
    }
    // Nothing of them is left, not even the tenant.
    assert_eq!(store.list_tenants(&Page::default()).await.unwrap(), []);
}

async fn a_change_keeps_what_it_does_not_name(rig: &Rig) {
    let store = rig.migrated().await;
    let (guard, actor) = (GuardSettings::default(), Actor::Cli);
    let slack = make(&store, "acme", ChannelConfig::Slack {}).await;
    rig.clock.advance(1);
    let changed =
        store.update_channel("acme", &slack.id, change(ChannelConfig::Slack {}), &guard, &actor);
    let changed = changed.await.unwrap();
    assert_eq!((changed.name.as_str(), changed.updated_at), ("renamed", NOW + 1));
    let (_, secrets) = store.open_channel("acme", &slack.id).await.unwrap();
    assert_eq!(secrets.url, Some(Secret::new(SLACK)));
    let mut moved = change(ChannelConfig::Slack {});
    moved.url = Some(Secret::new("https://evil.example/services/x"));
    let error = store.update_channel("acme", &slack.id, moved, &guard, &actor).await.unwrap_err();
    assert!(error.to_string().contains("begins with https://hooks.slack.com"), "{error}");
    let error = store
        .update_channel("acme", &slack.id, change(webhook()), &guard, &actor)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("keeps its kind, and this one is slack"), "{error}");

    // A chat that was linked by a code stays linked through a change of its name.
    let chat = make(&store, "acme", telegram(None)).await;
    let linked = r#"{"kind":"telegram","chatId":-5,"chatTitle":"ops","chatKind":"group"}"#;
    sqlx::query("UPDATE channels SET config = $1, state = 'active' WHERE id = $2")
        .bind(linked)
        .bind(chat.id.clone())
        .execute(store.pool())
        .await
        .unwrap();
    for config in [telegram(None), telegram(Some(-5))] {
        let chat =
            store.update_channel("acme", &chat.id, change(config), &guard, &actor).await.unwrap();
        assert_eq!(serde_json::to_string(&chat.config).unwrap(), linked);
        assert_eq!(chat.state, ChannelState::Active);
    }
    let other = change(telegram(Some(-6)));
    let error = store.update_channel("acme", &chat.id, other, &guard, &actor).await.unwrap_err();
    assert!(error.to_string().contains("linked by /start"), "{error}");
}

async fn keys_rotate_beside_each_other(rig: &Rig) {
    let store = rig.migrated().await;
    let (guard, actor) = (GuardSettings::default(), Actor::Cli);
    let (made, first) =
        store.create_channel(new("acme", "x", webhook()), &guard, &actor).await.unwrap();
    let scheme = SignatureScheme::Ed25519;
    let (info, second) =
        store.rotate_channel_key("acme", &made.id, scheme, 1_000, &actor).await.unwrap();
    let shown: Vec<_> = info.signing.iter().map(|key| (key.scheme, key.ends_at)).collect();
    assert_eq!(shown, [(SignatureScheme::Hmac, Some(NOW + 1_000)), (scheme, None)]);
    assert!(info.signing[1].public_key.as_ref().unwrap().starts_with("whpk_"));
    let (_, secrets) = store.open_channel("acme", &made.id).await.unwrap();
    assert_eq!(secrets.signing[0].key, first.signing[0].key);
    assert_eq!(secrets.signing[1], second);
    // The next rotation drops what has ended, and does not prolong what was about to end.
    rig.clock.advance(500);
    let (info, _) =
        store.rotate_channel_key("acme", &made.id, scheme, 9_000, &actor).await.unwrap();
    let ends: Vec<_> = info.signing.iter().map(|key| key.ends_at).collect();
    assert_eq!(ends, [Some(NOW + 1_000), Some(NOW + 9_500), None]);
    rig.clock.advance(500);
    let (info, _) = store.rotate_channel_key("acme", &made.id, scheme, 0, &actor).await.unwrap();
    assert_eq!(info.signing.len(), 1, "with no time to keep, the new key is alone");
    for _ in 0..3 {
        store.rotate_channel_key("acme", &made.id, scheme, 9_000, &actor).await.unwrap();
    }
    let error =
        store.rotate_channel_key("acme", &made.id, scheme, 9_000, &actor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let keep = crate::KEY_KEEP_MS_MAX + 1;
    for keep in [-1, keep] {
        let error = store.rotate_channel_key("acme", &made.id, scheme, keep, &actor).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let chat = make(&store, "acme", telegram(None)).await;
    let error = store.rotate_channel_key("acme", &chat.id, scheme, 0, &actor).await.unwrap_err();
    assert_eq!(error.to_string(), "a telegram channel signs nothing");
}

async fn a_deleted_channel_takes_its_queue_along(rig: &Rig) {
    let store = rig.migrated().await;
    let (ours, other) =
        (make(&store, "acme", webhook()).await, make(&store, "acme", webhook()).await);
    let queued = put(&store, &ours, "a", "alert", "queued").await;
    let sent = put(&store, &ours, "b", "alert", "sent").await;
    let elsewhere = put(&store, &other, "a", "alert", "queued").await;
    store.delete_channel("acme", &ours.id, &Actor::Cli).await.unwrap();
    let state = |id: String| {
        let store = store.clone();
        async move { store.get_delivery("acme", &id).await.unwrap() }
    };
    let cancelled = state(queued).await;
    assert_eq!((cancelled.state, cancelled.ended_at), (DeliveryState::Cancelled, Some(NOW)));
    assert_eq!(cancelled.error.as_deref(), Some("the channel was deleted"));
    assert_eq!(state(sent).await.state, DeliveryState::Sent);
    assert_eq!(state(elsewhere).await.state, DeliveryState::Queued);
}

async fn disabled_channels_wait_until_enabled(rig: &Rig) {
    let store = rig.migrated().await;
    let actor = Actor::Cli;
    let made = make(&store, "acme", webhook()).await;
    assert_eq!(store.enable_channel("acme", &made.id, &actor).await.unwrap(), made);
    let off = store.disable_channel("acme", &made.id, "answered 410", &actor).await.unwrap();
    assert_eq!((off.state, off.reason.as_deref()), (ChannelState::Disabled, Some("answered 410")));
    let error = store.queue_test("acme", &made.id, &actor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("answered 410"), "{error}");
    let on = store.enable_channel("acme", &made.id, &actor).await.unwrap();
    assert_eq!(on, made);
    let chat = make(&store, "acme", telegram(None)).await;
    let error = store.queue_test("acme", &chat.id, &actor).await.unwrap_err();
    assert!(error.to_string().contains("no chat is linked"), "{error}");
    store.disable_channel("acme", &chat.id, "gone", &actor).await.unwrap();
    let chat = store.enable_channel("acme", &chat.id, &actor).await.unwrap();
    assert_eq!(chat.state, ChannelState::Unlinked, "there is still no chat");
}

async fn tenants_have_room_for_so_many(rig: &Rig) {
    let store = rig.migrated().await;
    let first = make(&store, "acme", webhook()).await;
    for n in 1..500 {
        let copy = format!(
            "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
             updated_at) SELECT tenant_id, 'copy-{n}', name, kind, config, secrets, state, \
             created_at, updated_at FROM channels WHERE id = '{}'",
            first.id
        );
        store.pool().execute(sqlx::AssertSqlSafe(copy)).await.unwrap();
    }
    let one_more = new("acme", "x", webhook());
    let error =
        store.create_channel(one_more, &GuardSettings::default(), &Actor::Cli).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("500 channels"), "{error}");
    store.delete_channel("acme", "copy-7", &Actor::Cli).await.unwrap();
    make(&store, "acme", webhook()).await;
    let error = store.restore_channel("acme", "copy-7", &Actor::Cli).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

fn silence(matcher: SilenceMatcher) -> NewSilence {
    let comment = "upgrade".to_owned();
    NewSilence { tenant: "acme".into(), matcher, comment, starts_at: None, ends_at: NOW + 100 }
}

async fn silences_hold_back_what_they_name(rig: &Rig) {
    let store = rig.migrated().await;
    let actor = Actor::Cli;
    let channel = make(&store, "acme", webhook()).await;
    let of_channel =
        SilenceMatcher { channels: vec![channel.id.clone()], ..SilenceMatcher::default() };
    let first = store.create_silence(silence(of_channel), &actor).await.unwrap();
    let of_chain = SilenceMatcher { chains: vec![137], ..SilenceMatcher::default() };
    let later = NewSilence { starts_at: Some(NOW + 50), ..silence(of_chain) };
    let second = store.create_silence(later, &actor).await.unwrap();
    assert!(first.matcher.matches("any", &channel.id, ChainId(1)));
    assert!(!first.matcher.matches("any", "other", ChainId(1)));
    assert!(!second.matcher.matches("any", &channel.id, ChainId(1)));
    assert!(SilenceMatcher::default().matches("any", "any", ChainId(5)));
    let all = store.list_silences("acme", &Page::default()).await.unwrap();
    assert_eq!(all, [second.clone(), first.clone()]);
    let active = store.active_silences("acme").await.unwrap();
    assert_eq!(active, std::slice::from_ref(&first));
    rig.clock.advance(50);
    assert_eq!(store.active_silences("acme").await.unwrap(), [first.clone(), second.clone()]);
    for _ in 0..2 {
        store.delete_silence("acme", &first.id, &actor).await.unwrap();
    }
    let active = store.active_silences("acme").await.unwrap();
    assert_eq!(active, std::slice::from_ref(&second));
    assert_eq!(store.list_silences("acme", &Page::default()).await.unwrap(), active);
    rig.clock.advance(50);
    assert_eq!(store.active_silences("acme").await.unwrap(), [], "the end is not included");
    let error = store.delete_silence("other", &second.id, &actor).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no silence `{}`", second.id));
    let told = actions(&store, "acme").await;
    assert_eq!(told.iter().filter(|action| *action == "silence.delete").count(), 1);
}

async fn bad_silences_are_refused(rig: &Rig) {
    let store = rig.migrated().await;
    let everything = || silence(SilenceMatcher::default());
    let year = 366 * 24 * 3_600_000;
    let unknown = || vec!["0198c0de-0000-7000-8000-000000000000".to_owned()];
    let no_rule = SilenceMatcher { rules: unknown(), ..SilenceMatcher::default() };
    let no_channel = SilenceMatcher { channels: unknown(), ..SilenceMatcher::default() };
    let chains = SilenceMatcher { chains: vec![1; 101], ..SilenceMatcher::default() };
    for (wrong, reason) in [
        (NewSilence { ends_at: NOW, ..everything() }, "end in the future"),
        (NewSilence { starts_at: Some(NOW + 100), ..everything() }, "after it starts"),
        (NewSilence { ends_at: NOW + year + 1, ..everything() }, "at most a year"),
        (NewSilence { ends_at: i64::MAX, starts_at: Some(i64::MIN), ..everything() }, "a year"),
        (NewSilence { comment: "x".repeat(501), ..everything() }, "at most 500 bytes"),
        (NewSilence { comment: "\u{1b}".into(), ..everything() }, "no control characters"),
        (NewSilence { tenant: "A".into(), ..everything() }, "not a tenant name"),
        (silence(no_rule), "no rule `0198c0de"),
        (silence(no_channel), "no channel `0198c0de"),
        (silence(chains), "at most 100 chains"),
    ] {
        let error = store.create_silence(wrong, &Actor::Cli).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(store.list_silences("acme", &Page::default()).await.unwrap(), []);
}
