//! Brings the schema up to date: numbered SQL, checksummed, all pending ones in one transaction.

use sqlx::{Any, AnyConnection, Executor, Row, Transaction};

use crate::key::sha256;
use crate::{Store, StoreError};

/// One step of the schema.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    /// SHA-256 of the SQL, in hex; the same whatever line ends a checkout wrote.
    fn checksum(&self) -> String {
        use std::fmt::Write as _;
        let hash = sha256(self.sql.replace("\r\n", "\n").as_bytes());
        hash.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
    }
}

/// A migration that has just been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub name: String,
}

/// A migration that is still to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingMigration {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub name: String,
}

const READING: &str = "reading the migrations";
const MIGRATING: &str = "migrating";

impl Store {
    /// Applies every pending migration; safe to call from several instances at once.
    ///
    /// # Errors
    /// [`StoreError::SchemaNewer`] and [`StoreError::SchemaDiffers`] when this binary does not fit
    /// the database; nothing is changed then, nor when a migration fails.
    pub async fn migrate(&self) -> Result<Vec<AppliedMigration>, StoreError> {
        // Most starts find nothing to do, and then need no lock.
        if self.pending_migrations().await?.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin_write(MIGRATING).await?;
        if let Some(lock) = self.engine().lock_migrations() {
            tx.execute(lock).await.map_err(StoreError::database(MIGRATING))?;
        }
        tx.execute(
            "CREATE TABLE IF NOT EXISTS lookout_migrations (version BIGINT NOT NULL PRIMARY KEY, \
             name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)",
        )
        .await
        .map_err(StoreError::database(MIGRATING))?;
        // Read again: another instance may have been faster to the lock.
        let done = applied(&mut tx).await?;
        let pending = unapplied(self.engine().migrations(), &done)?;
        for migration in pending {
            self.apply(&mut tx, migration).await?;
        }
        tx.commit().await.map_err(StoreError::database(MIGRATING))?;
        let report = |m: &Migration| AppliedMigration { version: m.version, name: m.name.into() };
        Ok(pending.iter().map(report).collect())
    }

    async fn apply(
        &self,
        tx: &mut Transaction<'_, Any>,
        migration: &'static Migration,
    ) -> Result<(), StoreError> {
        sqlx::raw_sql(migration.sql)
            .execute(&mut **tx)
            .await
            .map_err(StoreError::database(MIGRATING))?;
        sqlx::query(
            "INSERT INTO lookout_migrations (version, name, checksum, applied_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(migration.version)
        .bind(migration.name)
        .bind(migration.checksum())
        .bind(self.now())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::database(MIGRATING))?;
        Ok(())
    }

    /// What [`Store::migrate`] would apply.
    ///
    /// # Errors
    /// As [`Store::migrate`].
    pub async fn pending_migrations(&self) -> Result<Vec<PendingMigration>, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(READING))?;
        let table = sqlx::query(self.engine().find_migrations_table())
            .fetch_optional(&mut *connection)
            .await
            .map_err(StoreError::database(READING))?;
        let done = match table {
            Some(_) => applied(&mut connection).await?,
            None => Vec::new(),
        };
        let pending = unapplied(self.engine().migrations(), &done)?;
        let report = |m: &Migration| PendingMigration { version: m.version, name: m.name.into() };
        Ok(pending.iter().map(report).collect())
    }
}

/// Version and checksum of each migration in the database, in order.
async fn applied(connection: &mut AnyConnection) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query("SELECT version, checksum FROM lookout_migrations ORDER BY version")
        .fetch_all(connection)
        .await
        .map_err(StoreError::database(READING))?;
    rows.iter()
        .map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?)))
        .collect::<Result<_, _>>()
        .map_err(StoreError::database(READING))
}

/// The known migrations past those in the database, after checking that the rest are the same.
fn unapplied(
    known: &'static [Migration],
    done: &[(i64, String)],
) -> Result<&'static [Migration], StoreError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    for (version, checksum) in done {
        if *version > newest {
            let found = done.last().map_or(*version, |(version, _)| *version);
            return Err(StoreError::SchemaNewer { found, known: newest });
        }
        let same = known.iter().any(|m| m.version == *version && m.checksum() == *checksum);
        if !same {
            return Err(StoreError::SchemaDiffers { version: *version });
        }
    }
    Ok(known.get(done.len()..).unwrap_or_default())
}
