//! Notifications between the decision to send them and the receiver's word that it has them.
//!
//! [`crate::detect`]'s commits add rows, [`crate::deliver`] takes the due ones and says what became
//! of them, and [`super::Inspector`] serves a person. A receiver that is down fills its own quota and
//! nobody else's: at the bound, the oldest of the lowest severity become dead letters.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, sqlite};
use crate::alert::Severity;

/// What a row costs beside its body: its own columns and its places in four indices.
const ROW: usize = 256;

/// Bytes of dead letters kept for one receiver; the oldest go.
const DEAD_LETTER_QUOTA: u64 = 16 << 20;

/// How long a delivered notification's id is remembered, so that none is written again.
const REMEMBER_DELIVERED: SignedDuration = SignedDuration::from_hours(14 * 24);

/// When a notification is due that a person asked for: before all others.
pub(super) const ASKED_FOR: i64 = 0;

/// Longest error text kept with a row.
const MAX_ERROR: usize = 500;

/// One message about an alert to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// The idempotency key; a receiver gets each id once.
    pub notification_id: String,
    /// The receiver's name: `webhook.soc`.
    pub receiver: String,
    pub severity: Severity,
    /// The alert as JSON.
    pub body: String,
    /// When the hub took in the messages that caused it.
    pub enqueued: Option<Timestamp>,
}

/// A notification that waits for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Names the row, also after it became a dead letter.
    pub seq: i64,
    pub notification_id: String,
    pub severity: Severity,
    pub body: String,
    /// Attempts that failed.
    pub attempts: u32,
    /// When it was written to the outbox, wall time.
    pub created: Timestamp,
    /// As of [`NewNotification`]; not known of what a person released or a snapshot file held.
    pub enqueued: Option<Timestamp>,
}

/// What a receiver lost because its quota was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    pub receiver: String,
    /// Notifications that became dead letters.
    pub notifications: u64,
    /// The gravest of these.
    pub severity: Severity,
    /// Older dead letters that were deleted to make room.
    pub deleted: u64,
}

/// How much waits for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxCount {
    pub receiver: String,
    pub pending: u64,
    pub pending_bytes: u64,
    /// When the oldest pending notification was written.
    pub oldest: Option<Timestamp>,
    pub dead: u64,
}

/// A row of the outbox in a snapshot file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Undelivered {
    receiver: String,
    notification_id: String,
    severity: i64,
    body: String,
    created: i64,
    attempts: i64,
}

impl Store {
    /// Notifications for `receiver` whose time has come, oldest first. One that was never tried is due
    /// whatever the clock said when it was written.
    pub fn due(
        &self,
        receiver: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        self.pending(
            "SELECT seq, notification_id, severity, body, attempts, created, enqueued FROM outbox
             WHERE receiver = ?1 AND (due <= ?2 OR attempts = 0) ORDER BY seq LIMIT ?3",
            (receiver, now.as_millisecond(), limit as i64),
        )
    }

    /// The oldest notification for `receiver`, due or not.
    pub fn oldest(&self, receiver: &str) -> Result<Option<Pending>, StoreError> {
        let found = self.pending(
            "SELECT seq, notification_id, severity, body, attempts, created, enqueued FROM outbox
             WHERE receiver = ?1 ORDER BY seq LIMIT 1",
            [receiver],
        )?;
        Ok(found.into_iter().next())
    }

    /// The oldest notification for `receiver` that a person asked to have tried now.
    pub fn asked_for(&self, receiver: &str) -> Result<Option<Pending>, StoreError> {
        let found = self.pending(
            "SELECT seq, notification_id, severity, body, attempts, created, enqueued FROM outbox
             WHERE receiver = ?1 AND due = ?2 ORDER BY seq LIMIT 1",
            (receiver, ASKED_FOR),
        )?;
        Ok(found.into_iter().next())
    }

    /// The least tried notification for `receiver` beside the one named.
    pub fn least_tried(&self, receiver: &str, but: i64) -> Result<Option<Pending>, StoreError> {
        let found = self.pending(
            "SELECT seq, notification_id, severity, body, attempts, created, enqueued FROM outbox
             WHERE receiver = ?1 AND seq <> ?2 ORDER BY attempts, seq LIMIT 1",
            (receiver, but),
        )?;
        Ok(found.into_iter().next())
    }

    /// When the next notification for `receiver` is due; `None` where nothing waits.
    pub fn next_due(&self, receiver: &str) -> Result<Option<Timestamp>, StoreError> {
        let due: Option<i64> = self
            .reader()
            .prepare_cached("SELECT min(due) FROM outbox WHERE receiver = ?1")?
            .query_row([receiver], |row| row.get(0))?;
        Ok(due.map(timestamp))
    }

    /// The receiver has it: removed, its id remembered.
    pub fn delivered(&self, seq: i64) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let transaction = sqlite::begin(&mut writer)?;
        // The row may have become a dead letter while it was on its way.
        for table in ["outbox", "dead_letter"] {
            transaction.execute(
                &format!(
                    "INSERT INTO delivered SELECT receiver, notification_id, ?2 FROM {table}
                     WHERE seq = ?1 ON CONFLICT DO NOTHING"
                ),
                (seq, Timestamp::now().as_millisecond()),
            )?;
            transaction.execute(&format!("DELETE FROM {table} WHERE seq = ?1"), [seq])?;
        }
        Ok(transaction.commit()?)
    }

    /// An attempt failed; the next one is at `when`.
    pub fn retry_at(&self, seq: i64, when: Timestamp, error: &str) -> Result<(), StoreError> {
        self.writer()
            .prepare_cached(
                "UPDATE outbox SET due = ?2, error = ?3, attempts = attempts + 1 WHERE seq = ?1",
            )?
            .execute((seq, when.as_millisecond(), bounded(error)))?;
        Ok(())
    }

    /// It will never be delivered: becomes a dead letter. Returns how many older dead letters were
    /// deleted to make room.
    pub fn dead(&self, seq: i64, reason: &str) -> Result<u64, StoreError> {
        let mut writer = self.writer();
        let transaction = sqlite::begin(&mut writer)?;
        let receiver = bury(&transaction, seq, reason, Timestamp::now())?;
        let deleted = match receiver {
            Some(receiver) => trim_dead(&transaction, &receiver)?,
            None => 0,
        };
        transaction.commit()?;
        Ok(deleted)
    }

    /// What waits for each receiver that has pending notifications or dead letters.
    pub fn outbox_counts(&self) -> Result<Vec<OutboxCount>, StoreError> {
        counts(&self.reader())
    }

    fn pending(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<Pending>, StoreError> {
        let reader = self.reader();
        let mut statement = reader.prepare_cached(query)?;
        let rows = statement.query_map(parameters, |row| {
            Ok(Pending {
                seq: row.get(0)?,
                notification_id: row.get(1)?,
                severity: severity(row.get(2)?),
                body: row.get(3)?,
                attempts: row.get(4)?,
                created: timestamp(row.get(5)?),
                enqueued: row.get::<_, Option<i64>>(6)?.map(timestamp),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Adds what is new and keeps each receiver within `quota` bytes; returns how many were new.
pub(super) fn add(
    transaction: &Transaction<'_>,
    notifications: &[NewNotification],
    now: Timestamp,
    quota: u64,
) -> Result<(u64, Vec<Evicted>), StoreError> {
    // `ON CONFLICT DO NOTHING` rather than `OR IGNORE`, which would also rule the triggers.
    let mut insert = transaction.prepare_cached(
        "INSERT INTO outbox
             (receiver, notification_id, severity, body, bytes, created, due, enqueued)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7
         WHERE NOT EXISTS (SELECT 1 FROM delivered WHERE receiver = ?1 AND notification_id = ?2)
           AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE receiver = ?1 AND notification_id = ?2)
         ON CONFLICT DO NOTHING",
    )?;
    let mut added = 0;
    let mut receivers = BTreeSet::new();
    for notification in notifications {
        let bytes = ROW + notification.body.len() + notification.notification_id.len();
        added += insert.execute((
            &notification.receiver,
            &notification.notification_id,
            notification.severity as i64,
            &notification.body,
            bytes as i64,
            now.as_millisecond(),
            notification.enqueued.map(Timestamp::as_millisecond),
        ))? as u64;
        receivers.insert(&*notification.receiver);
    }
    let mut evicted = Vec::new();
    for receiver in receivers {
        evicted.extend(keep_quota(transaction, receiver, now, quota)?);
    }
    Ok((added, evicted))
}

fn keep_quota(
    transaction: &Transaction<'_>,
    receiver: &str,
    now: Timestamp,
    quota: u64,
) -> Result<Option<Evicted>, StoreError> {
    let mut least = transaction.prepare_cached(
        "SELECT seq, severity FROM outbox WHERE receiver = ?1 ORDER BY severity, seq LIMIT 1",
    )?;
    let mut evicted = Evicted {
        receiver: receiver.to_owned(),
        notifications: 0,
        severity: Severity::Info,
        deleted: 0,
    };
    while usage(transaction, "outbox", receiver)?.1 > quota {
        let found: Option<(i64, i64)> = least
            .query_row([receiver], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((seq, grade)) = found else { break };
        bury(transaction, seq, "the receiver's quota was reached", now)?;
        evicted.notifications += 1;
        evicted.severity = evicted.severity.max(severity(grade));
    }
    if evicted.notifications == 0 {
        return Ok(None);
    }
    evicted.deleted = trim_dead(transaction, receiver)?;
    Ok(Some(evicted))
}

/// Moves a row to the dead letters; returns its receiver, or `None` where the row is gone.
fn bury(
    transaction: &Transaction<'_>,
    seq: i64,
    reason: &str,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO dead_letter
             SELECT seq, receiver, notification_id, severity, body, bytes, created, ?2, attempts, ?3
             FROM outbox WHERE seq = ?1",
        )?
        .execute((seq, now.as_millisecond(), bounded(reason)))?;
    Ok(transaction
        .prepare_cached("DELETE FROM outbox WHERE seq = ?1 RETURNING receiver")?
        .query_row([seq], |row| row.get(0))
        .optional()?)
}

fn trim_dead(transaction: &Transaction<'_>, receiver: &str) -> Result<u64, StoreError> {
    let mut remove = transaction.prepare_cached(
        "DELETE FROM dead_letter WHERE seq =
             (SELECT seq FROM dead_letter WHERE receiver = ?1 ORDER BY died, seq LIMIT 1)",
    )?;
    let mut deleted = 0;
    while usage(transaction, "dead_letter", receiver)?.1 > DEAD_LETTER_QUOTA {
        deleted += remove.execute([receiver])? as u64;
    }
    Ok(deleted)
}

/// Rows and bytes of one part of the store, as the triggers count them.
pub(super) fn usage(
    connection: &Connection,
    part: &str,
    receiver: &str,
) -> Result<(u64, u64), StoreError> {
    let found: Option<(i64, i64)> = connection
        .prepare_cached("SELECT items, bytes FROM usage WHERE part = ?1 AND receiver = ?2")?
        .query_row([part, receiver], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (items, bytes) = found.unwrap_or_default();
    Ok((items.max(0) as u64, bytes.max(0) as u64))
}

pub(super) fn counts(connection: &Connection) -> Result<Vec<OutboxCount>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT receiver,
                sum(items) FILTER (WHERE part = 'outbox'),
                sum(bytes) FILTER (WHERE part = 'outbox'),
                sum(items) FILTER (WHERE part = 'dead_letter'),
                (SELECT created FROM outbox WHERE outbox.receiver = usage.receiver
                 ORDER BY seq LIMIT 1)
         FROM usage WHERE part <> 'quarantine' GROUP BY receiver HAVING sum(items) > 0",
    )?;
    let number = |value: Option<i64>| value.unwrap_or(0).max(0) as u64;
    let rows = statement.query_map([], |row| {
        Ok(OutboxCount {
            receiver: row.get(0)?,
            pending: number(row.get(1)?),
            pending_bytes: number(row.get(2)?),
            dead: number(row.get(3)?),
            oldest: row.get::<_, Option<i64>>(4)?.map(timestamp),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads every row as a delivery would: SQLite's own check is of structure, and one row that cannot
/// be read would stand in its receiver's way for ever.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    let query = "SELECT receiver, notification_id, body, attempts FROM outbox";
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let read: rusqlite::Result<(String, String, String, u32)> = row.try_into();
        let is_whole =
            read.is_ok_and(|(_, _, body, _)| serde_json::from_str::<IgnoredAny>(&body).is_ok());
        if !is_whole {
            let reason = "a notification in the outbox cannot be read";
            return Err(StoreError::Damaged(reason.to_owned()));
        }
    }
    Ok(())
}

/// A process that starts tries everything at once and in its order, whatever the one before it had put
/// off, or had put off by a clock that was wrong: else what was said later would arrive first.
pub(super) fn forget_delays(connection: &Connection) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE outbox SET due = ?1 WHERE due > ?1",
        [Timestamp::now().as_millisecond()],
    )?;
    Ok(())
}

pub(super) fn forget_delivered(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = now.saturating_sub(REMEMBER_DELIVERED).unwrap_or(now);
    transaction.execute(
        "DELETE FROM delivered WHERE at < ?1",
        [before.as_millisecond()],
    )?;
    Ok(())
}

pub(super) fn undelivered(transaction: &Transaction<'_>) -> Result<Vec<Undelivered>, StoreError> {
    let mut statement = transaction.prepare(
        "SELECT receiver, notification_id, severity, body, created, attempts FROM outbox ORDER BY seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Undelivered {
            receiver: row.get(0)?,
            notification_id: row.get(1)?,
            severity: row.get(2)?,
            body: row.get(3)?,
            created: row.get(4)?,
            attempts: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Puts back what a snapshot file held; all of it is due at once.
pub(super) fn restore(
    transaction: &Transaction<'_>,
    rows: &[Undelivered],
) -> Result<(), StoreError> {
    let mut insert = transaction.prepare(
        "INSERT INTO outbox
             (receiver, notification_id, severity, body, bytes, created, attempts, due)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6)",
    )?;
    for row in rows {
        let bytes = ROW + row.body.len() + row.notification_id.len();
        insert.execute((
            &row.receiver,
            &row.notification_id,
            row.severity,
            &row.body,
            bytes as i64,
            row.created,
            row.attempts,
        ))?;
    }
    Ok(())
}

/// A severity as stored; what a person wrote into the file by hand is taken for the nearest.
pub(super) fn severity(grade: i64) -> Severity {
    Severity::ALL[grade.clamp(0, 4) as usize]
}

/// A time as stored; one outside jiff's range, which only a hand can have written, is the epoch.
pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ERROR)]
}
