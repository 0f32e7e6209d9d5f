//! Damaged records, kept for a person to look at, up to a bound.

use jiff::Timestamp;
use rusqlite::Transaction;

use super::outbox::usage;
use super::{Store, StoreError};

/// What a row costs beside its texts.
const ROW: usize = 64;

/// A record that could not be read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Hub and partition, or the file.
    pub source: String,
    /// Position and offset within, as in [`crate::alert::Evidence`].
    pub position: String,
    /// Which [`crate::decode::Damage`].
    pub reason: String,
    /// The record as received, redacted by the caller.
    pub raw: Vec<u8>,
}

/// Adds records and drops the oldest beyond `quota` bytes; returns how many were dropped.
pub(super) fn add(
    transaction: &Transaction<'_>,
    records: &[Quarantined],
    now: Timestamp,
    quota: u64,
) -> Result<u64, StoreError> {
    if records.is_empty() {
        return Ok(0);
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO quarantine (created, source, position, reason, raw, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for record in records {
        let bytes = ROW + record.source.len() + record.position.len() + record.raw.len();
        insert.execute((
            now.as_millisecond(),
            &record.source,
            &record.position,
            &record.reason,
            &record.raw,
            bytes as i64,
        ))?;
    }
    let mut dropped = 0;
    let mut remove = transaction
        .prepare_cached("DELETE FROM quarantine WHERE seq = (SELECT min(seq) FROM quarantine)")?;
    while usage(transaction, "quarantine", "")?.1 > quota {
        dropped += remove.execute([])? as u64;
    }
    Ok(dropped)
}

impl Store {
    /// Quarantined records and their bytes.
    pub fn quarantine_count(&self) -> Result<(u64, u64), StoreError> {
        usage(&self.reader(), "quarantine", "")
    }

    /// The newest quarantined records, newest first, with the time at which they came in.
    pub fn quarantined(&self, limit: usize) -> Result<Vec<(Timestamp, Quarantined)>, StoreError> {
        let reader = self.reader();
        let mut statement = reader.prepare_cached(
            "SELECT created, source, position, reason, raw FROM quarantine
             ORDER BY seq DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([limit as i64], |row| {
            let record = Quarantined {
                source: row.get(1)?,
                position: row.get(2)?,
                reason: row.get(3)?,
                raw: row.get(4)?,
            };
            Ok((super::outbox::timestamp(row.get(0)?), record))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
