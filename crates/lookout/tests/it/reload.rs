//! The configuration is read again on a file change and on SIGHUP; a bad file changes nothing.

use lookout_test::{Anvil, Fleet};
use serde_json::json;

use crate::{CHAIN, on};

#[tokio::test]
async fn a_new_chain_appears_without_a_restart() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let Some(second) = Anvil::builder().chain_id(99).for_test().await else { return };
    second.mine(7).await.unwrap();
    let builder = on(&anvil);
    let app = builder.clone().start().await.unwrap();
    assert_eq!(app.get("/v1/chains/second/head").await.status, 404);

    let both = builder.clone().chain("second", 99, &[second.url()]);
    app.write_config(&both.config()).unwrap();
    app.wait_for("/v1/chains/second/head", |answer| {
        answer.status == 200 && answer.json()["data"]["latest"]["number"] == 7
    })
    .await
    .unwrap();
    assert_eq!(app.get(&format!("/v1/chains/{CHAIN}/head")).await.status, 200);

    app.write_config(&builder.config()).unwrap();
    app.wait_for("/v1/chains/second", |answer| answer.status == 404).await.unwrap();
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let builder = on(&anvil);
    let app = builder.clone().start().await.unwrap();
    for (bad, says) in [
        ("[server\n", "lookout.toml"),
        (&*format!("{}\n[serever]\nlisten = \"127.0.0.1:0\"\n", builder.config()), "server"),
        ("[chains.anvil]\nid = \"x\"\nupstreams = []\n", "id"),
    ] {
        let seen = app.logs().len();
        app.write_config(bad).unwrap();
        app.wait_for("/healthz", |_| {
            app.logs().iter().skip(seen).any(|line| line.contains("not reloaded"))
        })
        .await
        .unwrap();
        let logs = app.logs();
        let line = logs.iter().skip(seen).find(|line| line.contains("not reloaded")).unwrap();
        assert!(line.contains(says), "{bad:?}: {line}");
        assert!(app.call(CHAIN, "eth_chainId", json!([])).await.is_ok());
    }
    // And once more on the signal, now that the file is whole again.
    app.write_config(&builder.config()).unwrap();
    app.signal("HUP").await.unwrap();
    app.wait_log("configuration").await.unwrap();
    assert!(app.call(CHAIN, "eth_chainId", json!([])).await.is_ok());
}

#[tokio::test]
async fn an_upstream_can_be_exchanged_under_load() {
    let Some(anvil) = Anvil::for_test().await else { return };
    anvil.mine(40).await.unwrap();
    let fleet = Fleet::start(anvil.url(), 2, 1).await.unwrap();
    let with = |n: usize| {
        lookout_test::TestApp::builder(crate::LOOKOUT).chain(
            CHAIN,
            anvil.chain_id(),
            &[fleet[n].url()],
        )
    };
    let app = with(0).start().await.unwrap();
    app.write_config(&with(1).config()).unwrap();
    for height in 0..40 {
        let answer = app.get(&format!("/block/{height}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let endpoint = fleet[1].url();
    app.wait_for(&format!("/v1/chains/{CHAIN}/upstreams"), |answer| {
        let items = answer.json()["items"].clone();
        items.as_array().is_some_and(|items| items.len() == 1) && items[0]["endpoint"] == endpoint
    })
    .await
    .unwrap();
}
