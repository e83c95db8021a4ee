//! Windows of rules, in parts.

use lookout_types::ChainId;
use sqlx::{AnyConnection, Row};

use super::rows::{Bound, Insert, LIST, bind_list, with_list};
use super::{KeptWindows, RULES, WatchCommit, to_number};
use crate::{Store, StoreError};

/// Parts read at once: some megabytes.
const PARTS_PAGE: i64 = 128;

const READING: &str = "reading the windows of rules";
const KEEPING: &str = "keeping the windows of rules";

impl Store {
    /// The parts kept with a frame, in the order of their names.
    pub(super) async fn window_parts(
        &self,
        chain: ChainId,
        at: i64,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let failed = StoreError::database(READING);
        let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let rows = sqlx::query(
                "SELECT p.part, p.state, s.sequence FROM window_parts p \
                 JOIN window_snapshots s ON s.chain_id = p.chain_id \
                 WHERE p.chain_id = $1 AND p.part > $2 ORDER BY p.part LIMIT $3",
            )
            .bind(to_number(chain.0)?)
            .bind(parts.last().map(|(part, _)| part.clone()).unwrap_or_default())
            .bind(PARTS_PAGE)
            .fetch_all(self.pool())
            .await
            .map_err(&failed)?;
            if rows.is_empty() {
                return Ok(parts);
            }
            for row in &rows {
                if row.try_get::<i64, _>("sequence").map_err(&failed)? != at {
                    return Err(StoreError::Conflict(
                        "the windows of rules were kept anew while they were read; try again"
                            .to_owned(),
                    ));
                }
                let part = row.try_get("part").map_err(&failed)?;
                parts.push((part, row.try_get("state").map_err(&failed)?));
            }
        }
    }
}

/// Writes what changed, with the frame at which it was so.
pub(super) async fn keep(
    store: &Store,
    connection: &mut AnyConnection,
    commit: &WatchCommit,
    windows: &KeptWindows,
) -> Result<(), StoreError> {
    let failed = StoreError::database(KEEPING);
    let chain = to_number(commit.cursor.chain.0)?;
    sqlx::query(
        "INSERT INTO window_snapshots \
         (chain_id, sequence, head_height, head_hash, base_height) \
         VALUES ($1, $2, $3, $4, \
         (SELECT base_height FROM consumers WHERE name = $5 AND chain_id = $1)) \
         ON CONFLICT (chain_id) DO UPDATE SET sequence = excluded.sequence, \
         head_height = excluded.head_height, head_hash = excluded.head_hash, \
         base_height = excluded.base_height",
    )
    .bind(chain)
    .bind(to_number(commit.cursor.sequence)?)
    .bind(commit.cursor.head.map(|head| to_number(head.number)).transpose()?)
    .bind(commit.cursor.head.map(|head| head.hash.0.to_vec()))
    .bind(RULES)
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    for names in windows.gone.chunks(LIST) {
        let query = with_list("DELETE FROM window_parts WHERE chain_id = $1 AND part IN ({})", 2);
        bind_list(query.bind(chain), names.iter().map(String::as_str))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
    }
    let insert = Insert {
        before: "INSERT INTO window_parts (chain_id, part, state)",
        columns: 3,
        after: "ON CONFLICT (chain_id, part) DO UPDATE SET state = excluded.state",
        doing: KEEPING,
    };
    let bind = |query: Bound, (part, state): &(String, Vec<u8>)| {
        Ok(query.bind(chain).bind(part.clone()).bind(state.clone()))
    };
    insert.run(store.engine(), connection, &windows.changed, bind).await.map(|_| ())
}
