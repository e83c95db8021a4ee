//! Statements of their own for tests, which set up and look at tables that others write.

mod outbox;

use sqlx::{AssertSqlSafe, Row};

pub use outbox::{TestAlert, TestDelivery};

use crate::Store;

/// Runs a statement; returns how many rows it changed.
///
/// # Panics
/// When it fails.
pub async fn execute(store: &Store, statement: &str) -> u64 {
    let done = sqlx::query(AssertSqlSafe(statement)).execute(store.pool()).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}")).rows_affected()
}

/// The rows of a query whose columns are all text; NULL is empty.
///
/// # Panics
/// When it fails.
pub async fn rows(store: &Store, query: &str) -> Vec<Vec<String>> {
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(store.pool()).await;
    let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
    let text = |row: &sqlx::any::AnyRow, at| {
        row.try_get::<Option<String>, _>(at).unwrap_or_else(|error| panic!("{query}: {error}"))
    };
    rows.iter()
        .map(|row| (0..row.len()).map(|at| text(row, at).unwrap_or_default()).collect())
        .collect()
}
