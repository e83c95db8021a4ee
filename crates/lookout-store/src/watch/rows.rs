//! Many rows by few statements: inserts of several rows, and lists behind `IN`.

use std::fmt::Write as _;

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use crate::StoreError;
use crate::engine::Engine;

/// Ids behind one `IN`: enough that a statement costs little for each, and always as many, so that
/// it is prepared once.
pub(super) const LIST: usize = 50;

pub(super) type Bound = Query<'static, Any, AnyArguments>;

/// Values of one statement, about. Measured: SQLite peaks at about 20 rows of 10 columns, and the
/// driver looks each value up among all, so that wider rows go by fewer; Postgres at 100 rows.
const SQLITE_VALUES: usize = 200;
const POSTGRES_VALUES: usize = 1000;

/// Rows of one statement, largest first. What is left over goes by the smaller ones, so that few
/// statements are kept prepared.
fn sizes(engine: Engine, columns: usize) -> [usize; 3] {
    let values = match engine {
        Engine::Sqlite => SQLITE_VALUES,
        Engine::Postgres => POSTGRES_VALUES,
    };
    let most = (values / columns).max(1);
    [most, most.div_ceil(5), 1]
}

/// A multi-row insert: what stands before and after its rows, and how many columns they have.
#[derive(Clone, Copy)]
pub(super) struct Insert {
    pub(super) before: &'static str,
    pub(super) columns: usize,
    pub(super) after: &'static str,
    pub(super) doing: &'static str,
}

impl Insert {
    fn text(&self, rows: usize) -> String {
        let mut text = format!("{} VALUES ", self.before);
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            push_places(&mut text, row * self.columns + 1, self.columns);
            text.push(')');
        }
        text.push(' ');
        text.push_str(self.after);
        text
    }

    /// Inserts rows in their order; returns how many changed.
    pub(super) async fn run<T>(
        &self,
        engine: Engine,
        connection: &mut AnyConnection,
        rows: &[T],
        bind: impl Fn(Bound, &T) -> Result<Bound, StoreError>,
    ) -> Result<u64, StoreError> {
        let (mut left, mut changed) = (rows, 0);
        for size in sizes(engine, self.columns) {
            if left.len() < size {
                continue;
            }
            let text: std::sync::Arc<str> = self.text(size).into();
            let (whole, rest) = left.split_at(left.len() - left.len() % size);
            for chunk in whole.chunks(size) {
                let mut query = sqlx::query(AssertSqlSafe(text.clone()));
                for row in chunk {
                    query = bind(query, row)?;
                }
                let done = query.execute(&mut *connection).await;
                changed += done.map_err(StoreError::database(self.doing))?.rows_affected();
            }
            left = rest;
        }
        Ok(changed)
    }
}

/// `$first, …`, as many as wanted.
fn push_places(text: &mut String, first: usize, count: usize) {
    for place in first..first + count {
        let comma = if place == first { "" } else { ", " };
        // Writing to a string cannot fail.
        write!(text, "{comma}${place}").unwrap_or_default();
    }
}

/// `statement` with `{}` replaced by the places of a list that starts at `$first`.
pub(super) fn with_list(statement: &str, first: usize) -> Bound {
    let mut places = String::new();
    push_places(&mut places, first, LIST);
    sqlx::query(AssertSqlSafe(statement.replace("{}", &places)))
}

/// Binds at most [`LIST`] ids; the last one fills the places that are left.
pub(super) fn bind_list<'a>(mut query: Bound, ids: impl Iterator<Item = &'a str>) -> Bound {
    let (mut bound, mut last) = (0, "");
    for id in ids.take(LIST) {
        query = query.bind(id.to_owned());
        (bound, last) = (bound + 1, id);
    }
    for _ in bound..LIST {
        query = query.bind(last.to_owned());
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_through() {
        let insert = Insert { before: "INSERT INTO t (a, b)", columns: 2, after: "", doing: "" };
        assert_eq!(insert.text(1), "INSERT INTO t (a, b) VALUES ($1, $2) ");
        assert_eq!(insert.text(3), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4), ($5, $6) ");
    }
}
