//! Linked chats on every engine.

use lookout_types::{ErrorKind, Secret};

use super::outbox::Filled;
use super::{NOW, Rig, on_file, on_memory, on_postgres};
use crate::{
    BotKey, ChannelConfig, ChatKind, LINK_CODE_TTL_MS, Page, TENANT_DEFAULT, TelegramChat,
};

suite!(
    memory,
    super::on_memory,
    [
        a_code_links_once,
        a_code_is_for_its_bot,
        chats_see_what_is_theirs,
        a_chat_moves_and_goes,
        one_instance_reads_a_bot,
    ]
);
suite!(
    file,
    super::on_file,
    [
        a_code_links_once,
        a_code_is_for_its_bot,
        chats_see_what_is_theirs,
        a_chat_moves_and_goes,
        one_instance_reads_a_bot,
    ]
);
suite!(
    postgres,
    super::on_postgres,
    [
        a_code_links_once,
        a_code_is_for_its_bot,
        chats_see_what_is_theirs,
        a_chat_moves_and_goes,
        one_instance_reads_a_bot,
    ]
);

const UNLINKED: &str = r#"{"kind":"telegram","chatId":null,"chatTitle":null,"chatKind":null}"#;

fn server() -> BotKey {
    BotKey { token: Secret::new("1:server"), is_server: true }
}

fn own() -> BotKey {
    BotKey { token: Secret::new("2:own"), is_server: false }
}

fn chat(id: i64) -> TelegramChat {
    TelegramChat { id, title: "ops ü".into(), kind: ChatKind::Group }
}

async fn a_code_links_once(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.channel("c", UNLINKED, "{}").await;
    b.run("UPDATE channels SET state = 'unlinked'").await;
    for (tenant, id) in [("default", "x"), ("other", "c")] {
        let error = b.store.make_link_code(tenant, id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let old = b.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    let code = b.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    assert_eq!(code.len(), 22);
    for wrong in [old.as_str(), "", "x", "' OR 1=1 --"] {
        let error = b.store.link_chat(wrong, &server(), &chat(-5), 9).await.unwrap_err();
        assert_eq!(error.to_string(), "no code `that was sent`");
    }
    let linked = b.store.link_chat(&code, &server(), &chat(-5), 9).await.unwrap();
    assert_eq!((linked.id.as_str(), linked.state.as_str()), ("c", "active"));
    assert_eq!(b.store.chat_channels(&server(), -5).await.unwrap(), [linked]);
    b.store.link_chat(&code, &server(), &chat(-6), 9).await.unwrap_err();
    let log = b.store.audit_log(TENANT_DEFAULT, &Page::default()).await.unwrap();
    assert_eq!((log[0].action.as_str(), log[0].detail["user"].as_i64()), ("channel.link", Some(9)));
    assert!(!log[0].detail.to_string().contains(&code));
    let late = b.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    b.advance(LINK_CODE_TTL_MS).await;
    b.store.link_chat(&late, &server(), &chat(-5), 9).await.unwrap_err();
}

async fn a_code_is_for_its_bot(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.channel("c", UNLINKED, r#"{"token":"2:own"}"#).await;
    b.channel("s", UNLINKED, "{}").await;
    let code = b.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    b.store.link_chat(&code, &server(), &chat(1), 9).await.unwrap_err();
    // A failed try does not use it up.
    b.store.link_chat(&code, &own(), &chat(1), 9).await.unwrap();
    assert!(b.store.chat_channels(&server(), 1).await.unwrap().is_empty());
    assert_eq!(b.store.chat_channels(&own(), 1).await.unwrap().len(), 1);
    let code = b.store.make_link_code(TENANT_DEFAULT, "s").await.unwrap();
    b.store.link_chat(&code, &own(), &chat(1), 9).await.unwrap_err();
    assert_eq!(b.store.telegram_tokens().await.unwrap(), [Secret::new("2:own")]);
    assert!(!format!("{:?} {}", own(), own().id()).contains("own"), "{:?}", own());
    let url = |channel| b.store.link_url(TENANT_DEFAULT, channel, "x");
    assert_eq!(url("s").await.unwrap(), None);
    b.store.name_bot(&server(), "OldBot").await.unwrap();
    let renewed = BotKey { token: Secret::new("3:renewed"), is_server: true };
    b.store.name_bot(&renewed, "NewBot").await.unwrap();
    b.store.name_bot(&own(), "OwnBot").await.unwrap();
    assert_eq!(url("s").await.unwrap().as_deref(), Some("https://t.me/NewBot?start=x"));
    assert_eq!(url("c").await.unwrap().as_deref(), Some("https://t.me/OwnBot?start=x"));
    assert_eq!(url("none").await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn chats_see_what_is_theirs(rig: &Rig) {
    let b = Filled::new(rig).await;
    for (id, number) in [("c", 5), ("d", 55), ("e", 5)] {
        let config = ChannelConfig::Telegram {
            chat_id: Some(number),
            chat_title: None,
            chat_kind: Some(ChatKind::Private),
        };
        b.channel(id, &config.write().unwrap(), "{}").await;
    }
    b.run("UPDATE channels SET deleted_at = 5 WHERE id = 'e'").await;
    for (id, channels, chain, paused) in
        [("r1", r#"["c"]"#, 1, 0), ("r2", r#"["d","c"]"#, 137, 1), ("r3", r#"["d"]"#, 10, 0)]
    {
        b.run(&format!(
            "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, \
             channels, confirmations, created_at, updated_at) VALUES ('default', '{id}', \
             'rule {id}', {chain}, '', 1, {paused}, '{channels}', 0, 0, 0)"
        ))
        .await;
    }
    let found = b.store.chat_channels(&server(), 5).await.unwrap();
    assert_eq!(found.len(), 1);
    let rules = b.store.chat_rules(&found[0]).await.unwrap();
    let told: Vec<_> = rules.iter().map(|r| (r.name.as_str(), r.chain.0, r.is_paused)).collect();
    assert_eq!(told, [("rule r1", 1, false), ("rule r2", 137, true)]);
    let zero = if b.store.engine() == crate::engine::Engine::Sqlite { "x'00'" } else { "'\\x00'" };
    for height in [7, 8] {
        b.run(&format!(
            "INSERT INTO watched_blocks VALUES (1, {height}, {zero}, {}, 0)",
            height * 2
        ))
        .await;
    }
    let status = b.store.chat_status(&found[0]).await.unwrap();
    let chains: Vec<_> =
        status.chains.iter().map(|c| (c.chain.0, c.height, c.block_time)).collect();
    assert_eq!(chains, [(1, Some(8), Some(16)), (137, None, None)]);
    assert_eq!((status.queued, status.last_sent_at), (0, None));
    assert_eq!(b.store.mute_chat(&server(), 5, Some(NOW + 9), 1).await.unwrap(), 1);
    assert_eq!(b.store.chat_channels(&server(), 5).await.unwrap()[0].muted_until, Some(NOW + 9));
    assert_eq!(b.store.chat_channels(&server(), 55).await.unwrap()[0].muted_until, None);
    assert_eq!(b.store.mute_chat(&server(), 5, None, 1).await.unwrap(), 1);
    assert_eq!(b.store.mute_chat(&own(), 5, None, 1).await.unwrap(), 0);
}

async fn a_chat_moves_and_goes(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.channel("c", UNLINKED, "{}").await;
    let code = b.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    b.store.link_chat(&code, &server(), &chat(-5), 9).await.unwrap();
    assert_eq!(b.store.move_chat(&server(), -5, -1_005).await.unwrap(), 1);
    assert_eq!(b.store.move_chat(&server(), -5, -1_005).await.unwrap(), 0);
    assert_eq!(b.store.drop_chat(&own(), -1_005, "kicked").await.unwrap(), 0);
    assert_eq!(b.store.drop_chat(&server(), -1_005, "kicked").await.unwrap(), 1);
    let found = b.store.chat_channels(&server(), -1_005).await.unwrap();
    assert_eq!((found[0].state.as_str(), found[0].reason.as_deref()), ("disabled", Some("kicked")));
    // Linking again is how it comes back.
    let code = b.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    b.store.link_chat(&code, &server(), &chat(-6), 9).await.unwrap();
    let found = b.store.chat_channels(&server(), -6).await.unwrap();
    assert_eq!(found[0].state, "active");
}

async fn one_instance_reads_a_bot(rig: &Rig) {
    let b = Filled::new(rig).await;
    let take = |lease, until| b.store.take_bot("bot", lease, until);
    assert_eq!(take("x", NOW + 10).await.unwrap(), Some(0));
    assert_eq!(take("y", NOW + 10).await.unwrap(), None);
    assert!(b.store.save_update("bot", "x", 42).await.unwrap());
    assert_eq!(take("x", NOW + 20).await.unwrap(), Some(42));
    b.advance(20).await;
    assert_eq!(take("y", NOW + 40).await.unwrap(), Some(42));
    assert!(!b.store.save_update("bot", "x", 43).await.unwrap());
    b.store.release_bot("bot", "y").await.unwrap();
    assert_eq!(take("x", NOW + 60).await.unwrap(), Some(42));
}
