//! Identical requests at the same time are one call to the upstream, whoever leaves early.

use std::sync::Arc;
use std::time::Duration;

use lookout_test::app::DONE_WITHIN;
use lookout_test::{Anvil, Behaviour, Fleet, TestApp};
use serde_json::json;

use crate::{CHAIN, LOOKOUT};

/// Clients that ask the same at once.
const CLIENTS: usize = 1_000;
/// What the upstream takes: long enough for all clients to have asked.
const LATENCY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_equal_requests_are_one_call_even_when_the_first_leaves() {
    let Some(anvil) = Anvil::for_test().await else { return };
    anvil.mine(3).await.unwrap();
    let fleet = Fleet::start(anvil.url(), 1, 1).await.unwrap();
    fleet[0].set([Behaviour::latency(LATENCY).only(&["eth_call"])]);
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &fleet.urls())
        .config_extra("[limits]\nrequests_per_second_per_address = 0")
        .start()
        .await
        .unwrap();
    let app = Arc::new(app);
    let ask = |app: Arc<TestApp>| async move {
        let call = json!({"to": "0x00000000000000000000000000000000000000cc", "data": "0x1234"});
        app.call(CHAIN, "eth_call", json!([call, "latest"])).await
    };
    let first = tokio::spawn(ask(Arc::clone(&app)));
    let asked = async {
        while fleet.calls("eth_call") == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DONE_WITHIN, asked).await.expect("the upstream is asked");
    let others: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(ask(Arc::clone(&app)))).collect();
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "0x");
    }
    assert_eq!(fleet.calls("eth_call"), 1);
}
