//! What survives a crash: positions, the outbox and the detectors' state, in one SQLite file.
//!
//! The ordered half of [`crate::detect`] commits, for each batch and in one transaction, how far it
//! has read ([`crate::source::Position`]), the notifications that came of it, and what changed in its
//! state. [`crate::deliver`] reads the outbox and says what became of each notification. Every call
//! blocks on the disk: asynchronous callers use a blocking thread.

mod inspect;
mod outbox;
mod quarantine;
mod snapshot;
mod sqlite;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::Connection;
use serde::Deserialize;

use crate::failpoint::fail_point;
use crate::source::{Partition, Position};

pub use inspect::{Entry, Inspector, Place, Released};
pub use outbox::{Evicted, NewNotification, OutboxCount, Pending};
pub use quarantine::Quarantined;
pub use sqlite::StoreError;

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// The folder that holds `lanner.db` and its snapshots; made where it is missing.
    pub path: PathBuf,
    /// Bytes of undelivered notifications kept for one receiver.
    pub receiver_quota: u64,
    /// Bytes of damaged records kept.
    pub quarantine_quota: u64,
}

/// What a start finds of the last run.
#[derive(Debug, Default)]
pub struct Recovered {
    pub positions: HashMap<Partition, Position>,
    /// The last snapshot of the detectors' state, as given to [`Store::snapshot`].
    pub snapshot: Option<Vec<u8>>,
    /// The deltas committed since that snapshot, oldest first.
    pub deltas: Vec<Vec<u8>>,
    /// Set where the database was damaged or gone, and the above comes from a snapshot file.
    pub damage: Option<Damage>,
}

/// What was wrong with the database at the start, and what was made of it; already logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub reason: String,
    /// Where the damaged database lies now; `None` where there was none.
    pub moved_to: Option<PathBuf>,
    /// The snapshot file that the state comes from; `None` means that everything is read again.
    pub snapshot: Option<PathBuf>,
}

/// What one batch changes; all of it becomes durable, or nothing.
#[derive(Debug, Default)]
pub struct Commit {
    pub positions: Vec<(Arc<Partition>, Position)>,
    pub notifications: Vec<NewNotification>,
    /// What changed in the detectors' state since the last commit.
    pub delta: Option<Vec<u8>>,
    pub quarantine: Vec<Quarantined>,
}

/// What a commit did beyond writing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Notifications that the outbox did not know yet.
    pub notifications: u64,
    /// Receivers whose quota was reached, and what they lost by it.
    pub evicted: Vec<Evicted>,
    /// Quarantined records, the oldest, that the new ones pushed out.
    pub quarantine_dropped: u64,
}

/// The open store; one process at a time. Usable from several threads.
#[derive(Debug)]
pub struct Store {
    // Closed first: only the last connection moves the journal into the database, and this one
    // may not write.
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
    config: StoreConfig,
    delta_bytes: AtomicU64,
    /// Held, and so locked, until both connections are closed.
    _lock: sqlite::Lock,
}

impl Store {
    /// Opens the store, or makes it. A damaged database is moved aside, and state, positions and
    /// undelivered notifications come from the newest whole snapshot file.
    pub fn open(config: &StoreConfig) -> Result<(Store, Recovered), StoreError> {
        let folder = &config.path;
        sqlite::make_folder(folder)?;
        sqlite::refuse_network(folder)?;
        let lock = sqlite::Lock::take(folder)?;
        fail_point!("start.locked");
        let database = folder.join(sqlite::DATABASE);

        let mut damage = None;
        let (mut writer, mut recovered) = match sqlite::open_whole(&database) {
            Ok(found) => found,
            Err(StoreError::Damaged(reason)) => {
                let moved_to = sqlite::move_aside(folder)?;
                fail_point!("start.moved");
                damage = Some(Damage {
                    reason,
                    moved_to: Some(moved_to),
                    snapshot: None,
                });
                sqlite::open_whole(&database)?
            }
            Err(error) => return Err(error),
        };
        if sqlite::is_fresh(&writer)? {
            let newest = snapshot::newest(folder)?;
            if let Some((path, _)) = &newest {
                damage
                    .get_or_insert_with(|| Damage {
                        reason: "the database is missing".to_owned(),
                        moved_to: None,
                        snapshot: None,
                    })
                    .snapshot = Some(path.clone());
            }
            sqlite::create(&mut writer, newest.as_ref().map(|(_, contents)| contents))?;
            fail_point!("start.created");
            recovered = sqlite::recover(&writer)?;
        }
        if let Some(damage) = &damage {
            damage.log(&database);
        }

        recovered.damage = damage;
        fail_point!("start.opened");
        let delta_bytes = recovered
            .deltas
            .iter()
            .map(|delta| delta.len() as u64)
            .sum();
        let store = Store {
            reader: Mutex::new(sqlite::open_reader(&database)?),
            writer: Mutex::new(writer),
            config: config.clone(),
            delta_bytes: AtomicU64::new(delta_bytes),
            _lock: lock,
        };
        Ok((store, recovered))
    }

    /// What a start would find, read beside a process that holds the store.
    pub fn peek(config: &StoreConfig) -> Result<Recovered, StoreError> {
        sqlite::recover(&sqlite::open_beside(&config.path)?)
    }

    /// Writes one batch's outcome; returns once it is on the disk. After an error nothing of it is
    /// written, and the same commit may be tried again.
    pub fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let now = Timestamp::now();
        let mut writer = self.writer();
        let transaction = sqlite::begin(&mut writer)?;
        {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO position (source, id, position) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET position = excluded.position",
            )?;
            for (partition, position) in &commit.positions {
                statement.execute((&*partition.source, &*partition.id, position.0))?;
            }
        }
        fail_point!("commit.positions");
        let (notifications, evicted) = outbox::add(
            &transaction,
            &commit.notifications,
            now,
            self.config.receiver_quota,
        )?;
        if let Some(delta) = &commit.delta {
            transaction
                .prepare_cached("INSERT INTO delta (delta, checksum) VALUES (?1, ?2)")?
                .execute((delta, sqlite::checksum(delta)))?;
        }
        let quarantine_dropped = quarantine::add(
            &transaction,
            &commit.quarantine,
            now,
            self.config.quarantine_quota,
        )?;
        fail_point!("commit.inside");
        fail_point!("commit.disk", StoreError::Full);
        fail_point!(
            "commit.damage",
            StoreError::Damaged("as a test wants it".to_owned())
        );
        transaction.commit()?;
        if let Some(delta) = &commit.delta {
            self.delta_bytes
                .fetch_add(delta.len() as u64, Ordering::Relaxed);
        }
        Ok(Committed {
            notifications,
            evicted,
            quarantine_dropped,
        })
    }

    /// As [`Store::replace`], and the second copy at once.
    pub fn snapshot(&self, state: &[u8]) -> Result<(), StoreError> {
        self.replace(state.to_vec())?.write()
    }

    /// Replaces snapshot and deltas by `state`, which must be the state as of the last commit. Gives
    /// what is to be written besides: where that cannot be, the database already has the snapshot, and
    /// the error costs nothing but the second copy.
    pub fn replace(&self, state: Vec<u8>) -> Result<SecondCopy, StoreError> {
        let now = Timestamp::now();
        let contents = {
            let mut writer = self.writer();
            let transaction = sqlite::begin(&mut writer)?;
            transaction.execute("DELETE FROM snapshot", [])?;
            transaction.execute(
                "INSERT INTO snapshot (created, state, checksum) VALUES (?1, ?2, ?3)",
                (now.as_millisecond(), &state, sqlite::checksum(&state)),
            )?;
            transaction.execute("DELETE FROM delta", [])?;
            outbox::forget_delivered(&transaction, now)?;
            let contents = snapshot::Contents {
                created: now.as_millisecond(),
                positions: sqlite::positions(&transaction)?,
                state,
                outbox: outbox::undelivered(&transaction)?,
            };
            fail_point!("snapshot.inside");
            transaction.commit()?;
            self.delta_bytes.store(0, Ordering::Relaxed);
            contents
        };
        fail_point!("snapshot.committed");
        Ok(SecondCopy {
            folder: self.config.path.clone(),
            contents,
        })
    }

    /// Bytes of the deltas committed since the last snapshot.
    pub fn deltas_size(&self) -> u64 {
        self.delta_bytes.load(Ordering::Relaxed)
    }

    /// The folder that the store lies in.
    pub fn path(&self) -> &Path {
        &self.config.path
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held rolled its transaction back: the connection is sound.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot with positions and undelivered notifications, for a file of its own beside the database.
#[derive(Debug)]
pub struct SecondCopy {
    folder: PathBuf,
    contents: snapshot::Contents,
}

impl SecondCopy {
    /// Writes the file; the last two of these are kept. Needs nothing of the database, but one at a
    /// time.
    pub fn write(&self) -> Result<(), StoreError> {
        snapshot::write(&self.folder, &self.contents)
    }
}

impl Damage {
    fn log(&self, database: &Path) {
        let moved_to = self.moved_to.as_deref().map(Path::display);
        match &self.snapshot {
            Some(snapshot) => tracing::error!(
                database = %database.display(),
                reason = %self.reason,
                moved_to = moved_to.map(tracing::field::display),
                snapshot = %snapshot.display(),
                "the database cannot be used; state and positions come from a snapshot, and what came after it is read again"
            ),
            None => tracing::error!(
                database = %database.display(),
                reason = %self.reason,
                moved_to = moved_to.map(tracing::field::display),
                "the database cannot be used and there is no whole snapshot; starting anew"
            ),
        }
    }
}
