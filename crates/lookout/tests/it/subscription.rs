//! Heads that an upstream pushes, and what happens when it stops.

use lookout_test::anvil::DEV_ADDRESSES;
use lookout_test::{Anvil, TestApp};

use crate::{CHAIN, LOOKOUT, caught_up};

#[tokio::test]
async fn heads_are_pushed_over_a_websocket_and_calls_go_through_it() {
    let Some(anvil) = Anvil::for_test().await else { return };
    anvil.mine(3).await.unwrap();
    let app = TestApp::builder(LOOKOUT)
        // Polled so rarely that only a pushed head can be followed in time.
        .config_extra(&format!(
            "[chains.{CHAIN}]\nid = {}\npoll_interval_ms = 60000\nupstreams = [{{ url = \"{}\" }}]",
            anvil.chain_id(),
            anvil.ws_url()
        ))
        .start()
        .await
        .unwrap();
    let upstreams = format!("/v1/chains/{CHAIN}/upstreams");
    app.wait_for(&upstreams, |answer| answer.json()["items"][0]["subscribed"] == true)
        .await
        .unwrap();
    for _ in 0..5 {
        anvil.mine(1).await.unwrap();
        caught_up(&app, &anvil).await;
    }
    let answer = app.get(&format!("/address/balance/{}", DEV_ADDRESSES[0])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    anvil.reorg(3).await.unwrap();
    caught_up(&app, &anvil).await;
}
