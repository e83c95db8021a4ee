//! The only statements in which SQLite and Postgres differ.

use crate::StoreUrl;
use crate::migrate::Migration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) fn of(url: &StoreUrl) -> Self {
        match url {
            StoreUrl::SqliteMemory | StoreUrl::SqliteFile(_) => Self::Sqlite,
            StoreUrl::Postgres { .. } => Self::Postgres,
        }
    }

    /// Opens a transaction that writes. SQLite takes the write lock at once: a transaction that
    /// reads first and asks for it later fails immediately when another writer was faster.
    pub(crate) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// Run inside a transaction: lets one instance migrate while the others wait.
    pub(crate) fn lock_migrations(self) -> Option<&'static str> {
        match self {
            // `BEGIN IMMEDIATE` has locked the file already.
            Self::Sqlite => None,
            // Any number that nothing else in the database uses: "lookout" in ASCII.
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(30521821819270516)"),
        }
    }

    /// One row when the table of migrations exists, none otherwise.
    pub(crate) fn find_migrations_table(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'lookout_migrations'"
            }
            Self::Postgres => {
                "SELECT table_name::TEXT FROM information_schema.tables \
                 WHERE table_schema = current_schema() AND table_name = 'lookout_migrations'"
            }
        }
    }

    /// Every migration, in order of version.
    pub(crate) fn migrations(self) -> &'static [Migration] {
        match self {
            Self::Sqlite => &[Migration {
                version: 1,
                name: "tenants_keys_audit",
                sql: include_str!("../migrations/sqlite/0001_tenants_keys_audit.sql"),
            }],
            Self::Postgres => &[Migration {
                version: 1,
                name: "tenants_keys_audit",
                sql: include_str!("../migrations/postgres/0001_tenants_keys_audit.sql"),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_have_the_same_migrations_but_for_type_names() {
        let normal = |sql: &str| -> String {
            let statements = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
            let text: Vec<_> = statements.flat_map(str::split_whitespace).collect();
            text.join(" ").replace("BYTEA", "BLOB").replace(" COLLATE \"C\"", "")
        };
        let (sqlite, postgres) = (Engine::Sqlite.migrations(), Engine::Postgres.migrations());
        assert_eq!(sqlite.len(), postgres.len());
        for (at, (s, p)) in (1..).zip(sqlite.iter().zip(postgres)) {
            assert_eq!((s.version, s.name), (at, p.name));
            assert_eq!(p.version, at);
            assert_eq!(normal(s.sql), normal(p.sql), "migration {at}");
        }
    }
}
