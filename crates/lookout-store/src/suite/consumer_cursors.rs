//! Consumers and how far they are, on every engine.

use lookout_types::{BlockRef, ChainId, Cursor, Hash};
use sqlx::Executor;

use super::Rig;

suite!(memory, crate::suite::on_memory, [consumers_are_told_by_chain]);
suite!(file, crate::suite::on_file, [consumers_are_told_by_chain]);
suite!(postgres, crate::suite::on_postgres, [consumers_are_told_by_chain]);

async fn consumers_are_told_by_chain(rig: &Rig) {
    let store = rig.migrated().await;
    let chain = ChainId(1);
    assert_eq!(store.consumer_cursors(chain).await.unwrap(), []);
    for (name, chain, hash) in [("rules", 1, Some([7_u8; 32])), ("ledger", 1, None), ("x", 2, None)]
    {
        sqlx::query(
            "INSERT INTO consumers (name, chain_id, sequence, head_height, head_hash) \
             VALUES ($1, $2, 5, $3, $4)",
        )
        .bind(name)
        .bind(chain)
        .bind(hash.map(|_| 9_i64))
        .bind(hash.map(|hash| hash.to_vec()))
        .execute(store.pool())
        .await
        .unwrap();
    }
    let head = Some(BlockRef { number: 9, hash: Hash([7; 32]) });
    let cursor = |head| Cursor { chain, sequence: 5, head };
    let told = store.consumer_cursors(chain).await.unwrap();
    assert_eq!(told, [("ledger".to_owned(), cursor(None)), ("rules".to_owned(), cursor(head))]);
    store.pool().execute("UPDATE consumers SET sequence = -1").await.unwrap();
    assert!(store.consumer_cursors(chain).await.is_err());
}
