//! A store and its files belong to one server at a time; another one is told so.

use std::process::Output;

use super::scene::Scene;

#[tokio::test]
async fn a_second_server_and_a_backfill_are_refused_while_one_serves() {
    let scene = Scene::new(4, 5, 2).await;
    let mut app = scene.server().start().await.unwrap();
    scene.settled(&app).await;
    let second = app.run(&["serve", "--listen", "127.0.0.1:0"]).await.unwrap();
    refused(&second, &["another lookout serves from the store", "stop that one", "store.url"]);
    let backfill = app.run(&["backfill", "--chain", "sim", "--from", "0", "--to", "3"]).await;
    refused(&backfill.unwrap(), &["another lookout serves from the store", "stop that one"]);
    let rules = app.folder().join("rule.json");
    let rule = r#"{"name":"x","chain":"sim","watch":{"kind":"transfer","asset":"any"}}"#;
    std::fs::write(&rules, rule).unwrap();
    let test = app.run(&["rules", "test", "rule.json", "--from", "0"]).await.unwrap();
    refused(&test, &["POST /v1/rules/backtest"]);

    // The same store file from another folder, with frames and events of its own.
    let other = tempfile::tempdir().unwrap();
    let store = app.folder().join("lookout.db");
    let elsewhere =
        scene.server().env("LOOKOUT_STORE__URL", &format!("sqlite:{}", store.display()));
    std::fs::write(other.path().join("lookout.toml"), elsewhere.config()).unwrap();
    let second = elsewhere.run(other.path(), &["serve"]).await.unwrap();
    refused(&second, &["another lookout serves from the store", "stop that one"]);
    // And a store of its own, but the frames or the events of the first.
    let own = |name: &str, url: String| scene.server().env(name, &url);
    let frames = format!("local:{}", app.folder().join("lookout-frames").display());
    let second = own("LOOKOUT_BUS__URL", frames).run(other.path(), &["serve"]).await.unwrap();
    refused(&second, &["is in use by another lookout; stop that one", "bus.url"]);
    let events = format!("sqlite:{}", app.folder().join("events.db").display());
    let second = own("LOOKOUT_WAREHOUSE__URL", events).run(other.path(), &["serve"]).await.unwrap();
    refused(&second, &["is in use by another", "warehouse.url"]);

    scene.chain.extend(3, 2);
    scene.settled(&app).await;
    // Killed, it leaves nothing behind that would keep the next one out.
    app.kill().await.unwrap();
    app.restart().await.unwrap();
    scene.settled(&app).await;
}

/// It ended with code 1 and one line that says why and what to do.
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}
