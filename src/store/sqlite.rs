//! The database file: where it may lie, who may use it, its schema, and whether it is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::Recovered;
use super::snapshot::Contents;
use crate::failpoint::fail_point;
use crate::source::{Partition, Position};

pub(super) const DATABASE: &str = "lanner.db";
const LOCK: &str = "lanner.lock";

/// `user_version` of the schema below.
const SCHEMA_VERSION: i64 = 2;

/// How long a statement waits for another process, which can only be `lanner outbox`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Damaged databases kept beside the new one.
const DAMAGED_KEPT: usize = 2;

/// Sums over outbox, dead letters and quarantine are kept by triggers, so that a quota costs one
/// look-up and holds whatever way a row came or went. Times are milliseconds since 1970.
const SCHEMA: &str = "
CREATE TABLE position (
    source TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshot (
    seq INTEGER PRIMARY KEY, created INTEGER NOT NULL,
    state BLOB NOT NULL, checksum BLOB NOT NULL
) STRICT;
CREATE TABLE delta (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, delta BLOB NOT NULL, checksum BLOB NOT NULL
) STRICT;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    receiver TEXT NOT NULL, notification_id TEXT NOT NULL, severity INTEGER NOT NULL,
    body TEXT NOT NULL, bytes INTEGER NOT NULL, created INTEGER NOT NULL,
    due INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    enqueued INTEGER,
    UNIQUE (receiver, notification_id)
) STRICT;
CREATE INDEX outbox_order ON outbox (receiver, seq);
CREATE INDEX outbox_due ON outbox (receiver, due);
CREATE INDEX outbox_least ON outbox (receiver, severity, seq);
CREATE TABLE dead_letter (
    seq INTEGER PRIMARY KEY,
    receiver TEXT NOT NULL, notification_id TEXT NOT NULL, severity INTEGER NOT NULL,
    body TEXT NOT NULL, bytes INTEGER NOT NULL, created INTEGER NOT NULL,
    died INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE INDEX dead_letter_receiver ON dead_letter (receiver, died, seq);
CREATE INDEX dead_letter_notification ON dead_letter (receiver, notification_id);
CREATE TABLE delivered (
    receiver TEXT NOT NULL, notification_id TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (receiver, notification_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, created INTEGER NOT NULL,
    source TEXT NOT NULL, position TEXT NOT NULL, reason TEXT NOT NULL,
    raw BLOB NOT NULL, bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE usage (
    part TEXT NOT NULL, receiver TEXT NOT NULL, items INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (part, receiver)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER outbox_added AFTER INSERT ON outbox BEGIN
    INSERT INTO usage VALUES ('outbox', new.receiver, 1, new.bytes)
    ON CONFLICT DO UPDATE SET items = items + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER outbox_removed AFTER DELETE ON outbox BEGIN
    UPDATE usage SET items = items - 1, bytes = bytes - old.bytes
    WHERE part = 'outbox' AND receiver = old.receiver;
END;
CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letter BEGIN
    INSERT INTO usage VALUES ('dead_letter', new.receiver, 1, new.bytes)
    ON CONFLICT DO UPDATE SET items = items + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER dead_letter_removed AFTER DELETE ON dead_letter BEGIN
    UPDATE usage SET items = items - 1, bytes = bytes - old.bytes
    WHERE part = 'dead_letter' AND receiver = old.receiver;
END;
CREATE TRIGGER quarantine_added AFTER INSERT ON quarantine BEGIN
    INSERT INTO usage VALUES ('quarantine', '', 1, new.bytes)
    ON CONFLICT DO UPDATE SET items = items + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER quarantine_removed AFTER DELETE ON quarantine BEGIN
    UPDATE usage SET items = items - 1, bytes = bytes - old.bytes
    WHERE part = 'quarantine' AND receiver = '';
END;
";

/// Makes a database of version 1 one of version 2, where the outbox knows when an event came in.
const FROM_1: &str = "
ALTER TABLE outbox ADD COLUMN enqueued INTEGER;
PRAGMA user_version = 2;
";

/// Why the store cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the store in {} is in use by {holder}; stop that process or give this one another `store.path`",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
    #[error(
        "{} lies on {kind}, where a database is not safe; `store.path` must be on a local disk or a block volume",
        path.display()
    )]
    NetworkFileSystem { path: PathBuf, kind: &'static str },
    #[error(
        "the store was written by a newer lanner (schema {found}, this one knows {SCHEMA_VERSION}); run that version or give another `store.path`"
    )]
    TooNew { found: i64 },
    #[error("there is no store in {}", path.display())]
    Missing { path: PathBuf },
    /// Tried again once there is room.
    #[error("the disk that holds the store is full")]
    Full,
    /// At the next start the database is moved aside and state comes from a snapshot.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    #[error("the store cannot be read or written: {0}")]
    Sqlite(rusqlite::Error),
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| {
            if source.kind() == io::ErrorKind::StorageFull {
                return StoreError::Full;
            }
            StoreError::Io {
                action,
                path,
                source,
            }
        }
    }

    /// Whether the same call may succeed later without anybody changing the configuration.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            StoreError::Full | StoreError::Io { .. } | StoreError::Sqlite(_)
        )
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged(error.to_string())
            }
            _ => StoreError::Sqlite(error),
        }
    }
}

/// Makes the folder for its owner alone; one that exists keeps its permissions, because it may be a
/// volume's root that somebody else manages.
pub(super) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(StoreError::io("make the folder", folder))
}

/// Refuses file systems on which SQLite's locks and shared memory do not hold.
pub(super) fn refuse_network(folder: &Path) -> Result<(), StoreError> {
    match network_kind(folder)? {
        Some(kind) => Err(StoreError::NetworkFileSystem {
            path: folder.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}

/// What network file system the folder lies on, by the numbers of `statfs(2)`.
#[cfg(target_os = "linux")]
fn network_kind(folder: &Path) -> Result<Option<&'static str>, StoreError> {
    let found = rustix::fs::statfs(folder)
        .map_err(|error| StoreError::io("look at the file system of", folder)(error.into()))?;
    // The field is signed on some platforms, where SMB's numbers show as negative.
    Ok(match found.f_type as u32 {
        0x6969 => Some("NFS"),
        0x517B | 0xFE53_4D42 | 0xFF53_4D42 => Some("SMB (Azure Files)"),
        _ => None,
    })
}

#[cfg(not(target_os = "linux"))]
fn network_kind(_folder: &Path) -> Result<Option<&'static str>, StoreError> {
    Ok(None)
}

/// The right to use the store: a lock that the kernel drops with the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Lock, StoreError> {
        let path = folder.join(LOCK);
        let mut options = private();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(&path)
            .map_err(StoreError::io("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = (&file).take(100).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                return Err(StoreError::InUse {
                    path: folder.to_owned(),
                    holder: if known {
                        holder.trim().escape_debug().to_string()
                    } else {
                        "another process".to_owned()
                    },
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::io("lock", &path)(source));
            }
        }
        // Whose lock it is serves the message above alone: a full disk must not keep us from it.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = write!(file, "process {}", std::process::id());
        Ok(Lock { _file: file })
    }
}

/// Options that make a file readable by its owner alone.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Opens the database and takes from it what the last run left.
pub(super) fn open_whole(database: &Path) -> Result<(Connection, Recovered), StoreError> {
    let connection = open_checked(database)?;
    let recovered = if is_fresh(&connection)? {
        Recovered::default()
    } else {
        super::outbox::check(&connection)?;
        super::outbox::forget_delays(&connection)?;
        recover(&connection)?
    };
    Ok((connection, recovered))
}

/// Opens the database for writing and reads all of it once to see that it is whole.
fn open_checked(database: &Path) -> Result<Connection, StoreError> {
    // Made here, because SQLite would make it readable by everybody, and its journals take the
    // database's permissions.
    private()
        .append(true)
        .create(true)
        .open(database)
        .map_err(StoreError::io("open", database))?;
    let mut connection = Connection::open_with_flags(
        database,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::TooNew { found });
    }
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(verdict));
    }
    if found == 1 {
        let transaction = begin(&mut connection)?;
        transaction.execute_batch(FROM_1)?;
        transaction.commit()?;
    }
    Ok(connection)
}

pub(super) fn open_reader(database: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(
        database,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Opens an existing store beside the process that holds its lock.
pub(super) fn open_beside(folder: &Path) -> Result<Connection, StoreError> {
    let database = folder.join(DATABASE);
    if !database.is_file() {
        return Err(StoreError::Missing {
            path: folder.to_owned(),
        });
    }
    let connection = Connection::open_with_flags(
        &database,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "full")?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        0 => Err(StoreError::Missing {
            path: folder.to_owned(),
        }),
        1..=SCHEMA_VERSION => Ok(connection),
        _ => Err(StoreError::TooNew { found }),
    }
}

pub(super) fn is_fresh(connection: &Connection) -> Result<bool, StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(version == 0)
}

/// Makes the schema and fills it from a snapshot file, in one transaction: a crash in between
/// leaves a fresh database, and the next start does the same.
pub(super) fn create(
    connection: &mut Connection,
    contents: Option<&Contents>,
) -> Result<(), StoreError> {
    let transaction = begin(connection)?;
    transaction.execute_batch(SCHEMA)?;
    if let Some(contents) = contents {
        for (source, id, position) in &contents.positions {
            transaction.execute(
                "INSERT INTO position VALUES (?1, ?2, ?3)",
                (source, id, position),
            )?;
        }
        transaction.execute(
            "INSERT INTO snapshot (created, state, checksum) VALUES (?1, ?2, ?3)",
            (contents.created, &contents.state, checksum(&contents.state)),
        )?;
        super::outbox::restore(&transaction, &contents.outbox)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    fail_point!("start.creating");
    transaction.commit()?;
    Ok(())
}

/// Takes the write lock at once, so that a transaction that read can also write.
pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// All positions: source, id, position.
pub(super) fn positions(connection: &Connection) -> Result<Vec<(String, String, i64)>, StoreError> {
    let mut statement = connection.prepare("SELECT source, id, position FROM position")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn recover(connection: &Connection) -> Result<Recovered, StoreError> {
    let positions = positions(connection)?
        .into_iter()
        .map(|(source, id, position)| {
            let partition = Partition {
                source: source.into(),
                id: id.into(),
            };
            (partition, Position(position))
        })
        .collect();
    let snapshot = blobs(
        connection,
        "SELECT state, checksum FROM snapshot ORDER BY seq DESC LIMIT 1",
    )?
    .pop();
    let deltas = blobs(connection, "SELECT delta, checksum FROM delta ORDER BY seq")?;
    Ok(Recovered {
        positions,
        snapshot,
        deltas,
        damage: None,
    })
}

fn blobs(connection: &Connection, query: &str) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut blobs = Vec::new();
    while let Some(row) = rows.next()? {
        let (blob, expected): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if checksum(&blob) != *expected {
            let reason = "the checksum of the detectors' state does not fit";
            return Err(StoreError::Damaged(reason.to_owned()));
        }
        blobs.push(blob);
    }
    Ok(blobs)
}

/// SQLite itself would not notice a flipped bit in a blob. SHA-256.
pub(super) fn checksum(blob: &[u8]) -> [u8; 32] {
    Sha256::digest(blob).into()
}

/// Renames the database and its journals to `lanner.db.damaged-TIME…`, keeping the newest of them.
pub(super) fn move_aside(folder: &Path) -> Result<PathBuf, StoreError> {
    const INFIX: &str = "lanner.db.damaged-";
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let target = folder.join(format!("{INFIX}{stamp}"));
    for suffix in ["", "-wal", "-shm"] {
        if suffix == "-wal" {
            fail_point!("start.moving");
        }
        let from = folder.join(format!("{DATABASE}{suffix}"));
        let mut to = target.clone().into_os_string();
        to.push(suffix);
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("move aside", &from)(error)),
        }
    }
    let mut stamps: Vec<String> = fs::read_dir(folder)
        .map_err(StoreError::io("list", folder))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(INFIX))
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    stamps.sort();
    for old in stamps.iter().rev().skip(DAMAGED_KEPT) {
        for suffix in ["", "-wal", "-shm"] {
            // A left-over costs room and nothing else.
            let _ = fs::remove_file(folder.join(format!("{old}{suffix}")));
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::super::{Commit, Store, StoreConfig};
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_that_passes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = Store::open(&StoreConfig {
            path: folder.path().to_owned(),
            receiver_quota: 1 << 20,
            quarantine_quota: 1 << 20,
        })
        .expect("opens");
        let small = Commit {
            delta: Some(vec![1; 10]),
            ..Commit::default()
        };
        store.commit(&small).expect("fits");
        let limit = |pages: i64| {
            let writer = store.writer();
            writer
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .expect("a limit");
        };
        limit(1);
        let large = Commit {
            delta: Some(vec![1; 100_000]),
            ..Commit::default()
        };
        let error = store.commit(&large).expect_err("is full");
        assert!(matches!(error, StoreError::Full), "{error}");
        assert!(error.is_transient());
        assert_eq!(store.deltas_size(), 10);
        limit(1_000_000);
        store.commit(&large).expect("there is room again");
        assert_eq!(store.deltas_size(), 100_010);
    }
}
