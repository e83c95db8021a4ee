//! A rule whose versions are on different chains, on every engine.

use lookout_types::{ChainId, Cursor};

use super::Rig;
use crate::testing::{execute, rows};
use crate::{NewRuleFailure, Store, TakenUp, WatchCommit, WatchCommitted};

suite!(memory, crate::suite::on_memory, [each_chain_takes_up_its_own_versions]);
suite!(postgres, crate::suite::on_postgres, [each_chain_takes_up_its_own_versions]);

/// Commits what a chain's consumer takes up, with a failure of the version.
async fn take_up(store: &Store, chain: u64, after: u64, taken_up: Vec<TakenUp>, version: u32) {
    let commit = WatchCommit {
        after,
        cursor: Cursor { chain: ChainId(chain), sequence: after + 1, head: None },
        base: None,
        steps: Vec::new(),
        windows: None,
        taken_up,
        failures: vec![NewRuleFailure {
            rule_id: "r1".to_owned(),
            rule_version: version,
            reason: "division by zero".to_owned(),
            count: 1,
            height: 1,
            record: "{}".to_owned(),
        }],
        final_height: None,
    };
    let committed = store.commit_watch(&commit).await.unwrap();
    assert!(matches!(committed, WatchCommitted::Done(_)), "{committed:?}");
}

async fn each_chain_takes_up_its_own_versions(rig: &Rig) {
    let store = rig.migrated().await;
    execute(&store, "INSERT INTO tenants (tenant_id, created_at) VALUES ('acme', 0)").await;
    execute(
        &store,
        "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, channels, \
         confirmations, created_at, updated_at) VALUES ('acme', 'r1', 'n', 1, '', 3, 0, '[]', 0, \
         0, 0)",
    )
    .await;
    // On chain 1, moved to chain 137, and back.
    for (version, chain) in [(1, 1), (2, 137), (3, 1)] {
        execute(
            &store,
            &format!(
                "INSERT INTO rule_versions (tenant_id, rule_id, version, chain_id, source, \
                 retired, revision, created_at) VALUES ('acme', 'r1', {version}, {chain}, 's', 0, \
                 {version}, 0)"
            ),
        )
        .await;
    }
    let whose = |version| ("acme".to_owned(), "r1".to_owned(), version);
    let begins = |version, from| {
        let (tenant, rule_id, version) = whose(version);
        TakenUp::Begins { tenant, rule_id, version, from }
    };
    let ends = |version, until| {
        let (tenant, rule_id, version) = whose(version);
        TakenUp::Ends { tenant, rule_id, version, until }
    };
    let heights = "SELECT CAST(version AS TEXT), CAST(from_height AS TEXT), \
                   CAST(until_height AS TEXT) FROM rule_versions ORDER BY version";
    let told = async || -> Vec<String> {
        rows(&store, heights).await.into_iter().map(|row| row.join(" ")).collect()
    };
    take_up(&store, 1, 0, vec![begins(1, 500)], 1).await;
    // The other chain's heights are far below, and far above.
    take_up(&store, 137, 0, vec![begins(2, 20), ends(1, 20)], 2).await;
    assert_eq!(told().await, ["1 500 ", "2 20 ", "3  "]);
    take_up(&store, 137, 1, vec![ends(2, 90_000), begins(3, 90_000)], 2).await;
    assert_eq!(told().await, ["1 500 ", "2 20 90000", "3  "]);
    take_up(&store, 1, 1, vec![ends(1, 510), begins(3, 520), ends(2, 520)], 3).await;
    assert_eq!(told().await, ["1 500 510", "2 20 90000", "3 520 "]);

    // What a chain begins again with is forgotten of its own versions alone.
    store.reset_watch(ChainId(1)).await.unwrap();
    let failed = "SELECT CAST(rule_version AS TEXT), CAST(count AS TEXT) FROM rule_failures";
    assert_eq!(rows(&store, failed).await, [["2", "2"]]);
    assert_eq!(told().await, ["1 500 510", "2 20 90000", "3 520 "]);
}
