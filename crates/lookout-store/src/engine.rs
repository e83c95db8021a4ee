//! The only statements in which SQLite and Postgres differ.

use crate::StoreUrl;
use crate::migrate::Migration;

/// The migrations of an engine. Each is named once, so that both engines have the same.
macro_rules! migrations {
    ($engine:literal) => {
        migrations!($engine:
            1 "0001_" "tenants_keys_audit",
            2 "0002_" "rules",
            3 "0003_" "alerts",
            4 "0004_" "deliveries",
            5 "0005_" "leases",
            6 "0006_" "jobs",
            7 "0007_" "follows",
            8 "0008_" "channel_waits",
            9 "0009_" "fresh_readings",
            10 "0010_" "rules_base",
            11 "0011_" "window_parts",
        )
    };
    ($engine:literal: $($version:literal $number:literal $name:literal,)*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../migrations/", $engine, "/", $number, $name, ".sql")),
        }),*]
    };
}

macro_rules! due_jobs {
    ($lock:literal) => {
        concat!(
            "SELECT tenant_id, name, schedule, zone, misfire, catch_up_max, next_at FROM jobs \
             WHERE next_at <= $1 ORDER BY next_at LIMIT $2",
            $lock
        )
    };
}

macro_rules! claimable_run {
    ($lock:literal) => {
        concat!(
            "SELECT r.tenant_id, r.job, r.scheduled_at, r.id, r.cause, r.state, r.attempt, \
             r.failures, r.losses, j.settings, j.timeout_ms, j.retries \
             FROM job_runs r JOIN jobs j ON j.tenant_id = r.tenant_id AND j.name = r.job \
             WHERE r.due_at <= $1 AND j.kind = $2 AND j.deleted_at IS NULL \
             AND (r.state = 'running' OR NOT EXISTS (SELECT 1 FROM job_runs o \
             WHERE o.tenant_id = r.tenant_id AND o.job = r.job AND o.state = 'running')) \
             ORDER BY r.due_at, r.scheduled_at, r.tenant_id, r.job LIMIT 1",
            $lock
        )
    };
}

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

    /// Ends a SELECT inside a transaction whose one row no other may change meanwhile.
    pub(crate) fn lock_row(self) -> &'static str {
        match self {
            // `BEGIN IMMEDIATE` has locked the file already.
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Ends a SELECT inside a transaction: rows that another instance is changing are left to it.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// As [`Engine::skip_locked`], for one table of a join.
    pub(crate) fn skip_locked_of(self, table: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" FOR UPDATE OF {table} SKIP LOCKED"),
        }
    }

    /// One row, `now`, in milliseconds since 1970: the time that all instances share. `None` where
    /// all instances are on one machine, so that the store's own clock is that time.
    pub(crate) fn shared_time(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            // Not `now()`, which stands still within a transaction that had to wait for a lock.
            Self::Postgres => Some(
                "SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT) AS now",
            ),
        }
    }

    /// Due jobs; those that another instance is at are left to it.
    pub(crate) fn select_due_jobs(self) -> &'static str {
        match self {
            Self::Sqlite => due_jobs!(""),
            Self::Postgres => due_jobs!(" FOR UPDATE SKIP LOCKED"),
        }
    }

    /// The run of a kind that has waited longest; what another instance is taking up is left to it.
    pub(crate) fn select_claimable_run(self) -> &'static str {
        match self {
            Self::Sqlite => claimable_run!(""),
            Self::Postgres => claimable_run!(" FOR UPDATE OF r SKIP LOCKED"),
        }
    }

    /// Every migration, in order of version.
    pub(crate) fn migrations(self) -> &'static [Migration] {
        match self {
            Self::Sqlite => migrations!("sqlite"),
            Self::Postgres => migrations!("postgres"),
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
