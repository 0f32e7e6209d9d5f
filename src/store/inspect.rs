//! The outbox for a person: what waits and what died, beside the process that holds the store.

use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction};

use super::outbox::{ASKED_FOR, OutboxCount, counts, severity, timestamp, usage};
use super::{Recovered, StoreConfig, StoreError, sqlite};
use crate::alert::Severity;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Pending,
    Dead,
}

/// One row as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: i64,
    pub place: Place,
    pub receiver: String,
    pub notification_id: String,
    pub severity: Severity,
    pub body: String,
    pub created: Timestamp,
    pub attempts: u32,
    /// When it is tried next; for a dead letter, when it died.
    pub at: Timestamp,
    /// The last error, or why it died; may quote a receiver's answer.
    pub error: String,
}

/// What a person's command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    Done,
    /// No such notification; it may have been delivered meanwhile.
    Unknown,
}

/// A person's view of the outbox; works beside a running daemon, which sees within half a minute
/// what was changed.
#[derive(Debug)]
pub struct Inspector {
    connection: Connection,
}

impl Inspector {
    pub fn open(config: &StoreConfig) -> Result<Inspector, StoreError> {
        Ok(Inspector {
            connection: sqlite::open_beside(&config.path)?,
        })
    }

    /// Pending notifications and dead letters, oldest first, of one receiver or of all.
    pub fn list(&self, receiver: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, 0, receiver, notification_id, severity, body, created, attempts, due, error
             FROM outbox WHERE ?1 IS NULL OR receiver = ?1
             UNION ALL
             SELECT seq, 1, receiver, notification_id, severity, body, created, attempts, died, reason
             FROM dead_letter WHERE ?1 IS NULL OR receiver = ?1
             ORDER BY 1 LIMIT ?2",
        )?;
        let rows = statement.query_map((receiver, limit as i64), entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn counts(&self) -> Result<Vec<OutboxCount>, StoreError> {
        counts(&self.connection)
    }

    /// The numbers of all pending notifications, or of all dead letters, of one receiver or of all.
    pub fn numbers(&self, place: Place, receiver: Option<&str>) -> Result<Vec<i64>, StoreError> {
        let table = match place {
            Place::Pending => "outbox",
            Place::Dead => "dead_letter",
        };
        let mut statement = self.connection.prepare(&format!(
            "SELECT seq FROM {table} WHERE ?1 IS NULL OR receiver = ?1 ORDER BY seq"
        ))?;
        let rows = statement.query_map([receiver], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What the store's owner would find if it started now.
    pub fn recovered(&self) -> Result<Recovered, StoreError> {
        // One transaction, so that nothing is compacted between the parts.
        let transaction = self.connection.unchecked_transaction()?;
        sqlite::recover(&transaction)
    }

    /// The oldest pending notification's last error and next attempt, by receiver.
    pub fn troubles(&self) -> Result<Vec<(String, String, Timestamp)>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT receiver, error, due FROM outbox
             WHERE seq IN (SELECT min(seq) FROM outbox GROUP BY receiver) AND error <> ''",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, timestamp(row.get(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Quarantined records, their bytes, and when the newest came.
    pub fn quarantine(&self) -> Result<(u64, u64, Option<Timestamp>), StoreError> {
        let (records, bytes) = usage(&self.connection, "quarantine", "")?;
        let newest: Option<i64> = self.connection.query_row(
            "SELECT max(created) FROM quarantine WHERE seq = (SELECT max(seq) FROM quarantine)",
            [],
            |row| row.get(0),
        )?;
        Ok((records, bytes, newest.map(timestamp)))
    }

    /// Makes a pending notification due now, also where its receiver fails and is left in peace, or gives a dead letter another life.
    pub fn retry(&mut self, seq: i64) -> Result<Released, StoreError> {
        Ok(released(self.retry_all(&[seq])?))
    }

    /// As [`Inspector::retry`], of many at once, or of none; returns how many there were.
    pub fn retry_all(&mut self, numbers: &[i64]) -> Result<usize, StoreError> {
        let now = Timestamp::now().as_millisecond();
        let transaction = sqlite::begin(&mut self.connection)?;
        let mut retried = 0;
        for seq in numbers {
            retried += retry(&transaction, *seq, now)?;
        }
        transaction.commit()?;
        Ok(retried)
    }

    /// Deletes a notification or dead letter for good.
    pub fn drop(&mut self, seq: i64) -> Result<Released, StoreError> {
        Ok(released(self.drop_all(&[seq])?))
    }

    /// As [`Inspector::drop`], of many at once, or of none; returns how many there were.
    pub fn drop_all(&mut self, numbers: &[i64]) -> Result<usize, StoreError> {
        let transaction = sqlite::begin(&mut self.connection)?;
        let mut dropped = 0;
        for seq in numbers {
            dropped += transaction.execute("DELETE FROM outbox WHERE seq = ?1", [seq])?;
            dropped += transaction.execute("DELETE FROM dead_letter WHERE seq = ?1", [seq])?;
        }
        transaction.commit()?;
        Ok(dropped)
    }
}

fn retry(transaction: &Transaction<'_>, seq: i64, now: i64) -> Result<usize, StoreError> {
    let mut changed = transaction.execute(
        "UPDATE outbox SET due = ?2 WHERE seq = ?1",
        (seq, ASKED_FOR),
    )?;
    // Its age counts from now: the old one may be why it died.
    changed += transaction.execute(
        "INSERT INTO outbox (seq, receiver, notification_id, severity, body, bytes, created, due)
             SELECT seq, receiver, notification_id, severity, body, bytes, ?2, ?3
             FROM dead_letter WHERE seq = ?1",
        (seq, now, ASKED_FOR),
    )?;
    transaction.execute("DELETE FROM dead_letter WHERE seq = ?1", [seq])?;
    Ok(changed)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let dead: i64 = row.get(1)?;
    Ok(Entry {
        seq: row.get(0)?,
        place: if dead == 0 {
            Place::Pending
        } else {
            Place::Dead
        },
        receiver: row.get(2)?,
        notification_id: row.get(3)?,
        severity: severity(row.get(4)?),
        body: row.get(5)?,
        created: timestamp(row.get(6)?),
        attempts: row.get(7)?,
        at: timestamp(row.get(8)?),
        error: row.get(9)?,
    })
}

fn released(changed: usize) -> Released {
    if changed > 0 {
        Released::Done
    } else {
        Released::Unknown
    }
}
