//! The simulated chain that other tests stand on is one that Lookout finds nothing wrong with.

use lookout_test::{SimChain, SimNode, TestApp};

#[tokio::test]
async fn a_simulated_chain_is_followed_through_reorgs_and_back() {
    let chain = SimChain::new(4242, 7);
    chain.extend(20, 5);
    let node = SimNode::start(chain.clone()).await.unwrap();
    let app = TestApp::builder(env!("CARGO_BIN_EXE_lookout")).chain("sim", 4242, &[node.url()]);
    let app = app.start().await.unwrap();
    let hex = |hash: [u8; 32]| format!("0x{}", const_hex(&hash));
    app.wait_head("sim", &hex(chain.head().hash)).await.unwrap();
    let old = chain.reorg(6, 8, 5);
    app.wait_head("sim", &hex(chain.head().hash)).await.unwrap();
    chain.switch_to(old);
    chain.extend(3, 5);
    app.wait_head("sim", &hex(chain.head().hash)).await.unwrap();
}

fn const_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
