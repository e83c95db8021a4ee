//! Alerts in order of change, on every engine.

use lookout_types::ErrorKind;

use super::Rig;
use crate::{AlertPosition, ChangedAlert, Store};

suite!(memory, crate::suite::on_memory, [changes_are_read_in_order, nothing_is_passed_over]);
suite!(file, crate::suite::on_file, [changes_are_read_in_order, nothing_is_passed_over]);
suite!(postgres, crate::suite::on_postgres, [changes_are_read_in_order, nothing_is_passed_over]);

/// Id and state of everything after a position, read `limit` at a time.
async fn told(store: &Store, mut after: AlertPosition, limit: u32) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let some = store.alerts_changed("acme", &after, limit).await.unwrap();
        let Some(last) = some.last() else { return all };
        after = last.position();
        let pair = |told: ChangedAlert| (told.alert.id, told.alert.state.as_str().to_owned());
        all.extend(some.into_iter().map(pair));
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect()
}

async fn changes_are_read_in_order(rig: &Rig) {
    let store = rig.migrated().await;
    let start = store.alerts_tail("acme").await.unwrap();
    assert_eq!(start, AlertPosition::default());
    store.put_alert("acme", "b", "r1", "pending").await.unwrap();
    store.put_alert("other", "x", "r9", "confirmed").await.unwrap();
    assert_eq!(told(&store, start.clone(), 10).await, []);
    store.put_alert("acme", "a", "r1", "confirmed").await.unwrap();
    let after_a = store.alerts_tail("acme").await.unwrap();
    store.put_alert("acme", "b", "r1", "confirmed").await.unwrap();
    store.put_alert("acme", "a", "r1", "retracted").await.unwrap();
    for limit in [1, 2, 1000] {
        let all = told(&store, start.clone(), limit).await;
        assert_eq!(all, pairs(&[("b", "confirmed"), ("a", "retracted")]));
        assert_eq!(told(&store, after_a.clone(), limit).await, all);
    }
    let read = &store.alerts_changed("acme", &start, 1).await.unwrap()[0].alert;
    assert_eq!((read.chain.0, read.block.number, read.block_time), (1, 7, 100));
    assert_eq!((read.text.as_str(), read.rule_id.as_str()), ("it happened", "r1"));
    let error = store.alerts_changed("acme", &start, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Alerts of one commit have one number; a page may end between them.
async fn nothing_is_passed_over(rig: &Rig) {
    let store = rig.migrated().await;
    for id in ["a", "b", "c", "d", "e"] {
        store.put_alert("acme", id, "r1", "confirmed").await.unwrap();
    }
    sqlx::query("UPDATE alerts SET changed = 9 WHERE id > 'a'")
        .execute(store.pool())
        .await
        .unwrap();
    for limit in [1, 2, 3, 4] {
        let all = told(&store, AlertPosition::default(), limit).await;
        let ids: Vec<_> = all.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "d", "e"]);
    }
    let tail = store.alerts_tail("acme").await.unwrap();
    assert_eq!(tail, AlertPosition { changed: 9, id: "e".into() });
}
