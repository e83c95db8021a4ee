//! Tables, and the rows that describe a chain.

use lookout_types::{BlockRef, ChainId, Hash, Height};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::WarehouseError;

/// Written into the file; another layout, key hash or content version gets a new one.
const SCHEMA_VERSION: i64 = 1;
/// Marks the file as a Lookout warehouse (`LOOK`).
const APPLICATION_ID: i64 = 0x4c4f_4f4b;

/// Tables of the whole file. Each chain has its own set besides, so that forgetting a chain is
/// dropping tables.
const TABLES: &str = "
    CREATE TABLE writer (epoch INTEGER NOT NULL) STRICT;
    INSERT INTO writer VALUES (0);
    -- `disorder_s`: how far any block's time was behind an earlier block's.
    -- `retained`: whether retention deleted blocks.
    CREATE TABLE chains (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        chain TEXT NOT NULL UNIQUE,
        sequence INTEGER NOT NULL,
        head INTEGER,
        head_hash BLOB,
        disorder_s INTEGER NOT NULL,
        retained INTEGER NOT NULL
    ) STRICT;
";

/// A chain as its row describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChainRow {
    pub(super) chain: ChainId,
    /// Part of its tables' names.
    pub(super) number: i64,
    pub(super) sequence: u64,
    pub(super) head: Option<BlockRef>,
    pub(super) disorder_s: u64,
    pub(super) retained: bool,
}

/// Makes or checks the tables.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), WarehouseError> {
    let failed = WarehouseError::database("reading its schema");
    let version: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(&failed)?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    if version != 0 || tables != 0 {
        return Err(WarehouseError::Schema { found: version, known: SCHEMA_VERSION });
    }
    let failed = WarehouseError::database("creating its schema");
    let transaction = connection.transaction().map_err(&failed)?;
    transaction.execute_batch(TABLES).map_err(&failed)?;
    let marks =
        format!("PRAGMA user_version={SCHEMA_VERSION}; PRAGMA application_id={APPLICATION_ID};");
    transaction.execute_batch(&marks).map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

/// Adds a chain with its tables.
pub(super) fn add_chain(
    connection: &Connection,
    chain: ChainId,
) -> Result<ChainRow, WarehouseError> {
    let failed = WarehouseError::database("adding a chain");
    connection
        .execute("INSERT INTO chains VALUES (NULL, ?1, 0, NULL, NULL, 0, 0)", [chain.to_string()])
        .map_err(&failed)?;
    let number = connection.last_insert_rowid();
    // `content` comes last: what stands before it is read without touching its pages.
    let tables = format!(
        "CREATE TABLE blocks_{number} (
            height INTEGER PRIMARY KEY,
            hash BLOB NOT NULL,
            time_max INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            epoch_entries INTEGER NOT NULL,
            content BLOB NOT NULL
        ) STRICT;
        CREATE TABLE entries_{number} (entry INTEGER PRIMARY KEY) STRICT;
        CREATE TABLE epochs_{number} (epoch INTEGER PRIMARY KEY, height INTEGER NOT NULL) STRICT;
        CREATE TABLE frames_{number} (sequence INTEGER PRIMARY KEY, identity BLOB NOT NULL) STRICT;"
    );
    connection.execute_batch(&tables).map_err(&failed)?;
    Ok(ChainRow { chain, number, sequence: 0, head: None, disorder_s: 0, retained: false })
}

/// Removes a chain with its tables.
pub(super) fn drop_chain(connection: &Connection, row: &ChainRow) -> Result<(), WarehouseError> {
    let n = row.number;
    let drops = format!(
        "DROP TABLE blocks_{n}; DROP TABLE entries_{n}; DROP TABLE epochs_{n};
        DROP TABLE frames_{n}; DELETE FROM chains WHERE number = {n};"
    );
    connection.execute_batch(&drops).map_err(WarehouseError::database("forgetting a chain"))
}

/// The row of a chain; `None` before its first frame.
pub(super) fn chain_row(
    connection: &Connection,
    chain: ChainId,
) -> Result<Option<ChainRow>, WarehouseError> {
    let read = |row: &Row<'_>| {
        let head: Option<i64> = row.get(2)?;
        let hash: Option<[u8; 32]> = row.get(3)?;
        Ok(ChainRow {
            chain,
            number: row.get(0)?,
            sequence: row.get::<_, i64>(1)?.cast_unsigned(),
            head: head.zip(hash).map(|(height, hash)| BlockRef {
                number: height.cast_unsigned(),
                hash: Hash(hash),
            }),
            disorder_s: row.get::<_, i64>(4)?.cast_unsigned(),
            retained: row.get(5)?,
        })
    };
    let failed = WarehouseError::database("reading a chain's cursor");
    let sql = "SELECT number, sequence, head, head_hash, disorder_s, retained
        FROM chains WHERE chain = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(&failed)?;
    statement.query_row([chain.to_string()], read).optional().map_err(&failed)
}

/// Writes the row of a chain.
pub(super) fn save_chain(connection: &Connection, row: &ChainRow) -> Result<(), WarehouseError> {
    let failed = WarehouseError::database("writing a chain's cursor");
    let sql = "UPDATE chains SET sequence = ?2, head = ?3, head_hash = ?4, disorder_s = ?5,
        retained = ?6 WHERE number = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(&failed)?;
    let head = row.head.map(|head| (head.number.cast_signed(), head.hash.0));
    let changed = statement
        .execute((
            row.number,
            row.sequence.cast_signed(),
            head.map(|(number, _)| number),
            head.map(|(_, hash)| hash),
            row.disorder_s.cast_signed(),
            row.retained,
        ))
        .map_err(&failed)?;
    // Zero rows would mean a cursor that silently stays behind its blocks.
    if changed == 1 { Ok(()) } else { Err(failed(rusqlite::Error::StatementChangedRows(changed))) }
}

/// Lowest and highest height held. Heights have no gaps, because each block is its head's child.
pub(super) fn held(
    connection: &Connection,
    row: &ChainRow,
) -> Result<Option<(Height, Height)>, WarehouseError> {
    let failed = WarehouseError::database("reading which heights are held");
    let sql = format!("SELECT min(height) FROM blocks_{}", row.number);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let low: Option<i64> = statement.query_row([], |row| row.get(0)).map_err(&failed)?;
    Ok(low.map(i64::cast_unsigned).zip(row.head.map(|head| head.number)))
}
