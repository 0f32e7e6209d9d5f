//! The store from outside: what a commit promises, and what a start finds after a crash, a torn
//! journal or a damaged database.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lanner::alert::Severity;
use lanner::source::{Partition, Position};
use lanner::store::{
    Commit, Inspector, NewNotification, Place, Quarantined, Released, Store, StoreConfig,
    StoreError,
};
use proptest::prelude::*;
use tempfile::TempDir;

const RECEIVER: &str = "webhook.soc";

fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        receiver_quota: 1 << 20,
        quarantine_quota: 1 << 20,
    }
}

fn partition(id: &str) -> Arc<Partition> {
    Arc::new(Partition {
        source: "ns/hub/$Default".into(),
        id: id.into(),
    })
}

fn notification(id: &str, severity: Severity) -> NewNotification {
    NewNotification {
        notification_id: id.to_owned(),
        receiver: RECEIVER.to_owned(),
        severity,
        body: format!("{{\"notification_id\":\"{id}\"}}"),
        enqueued: None,
    }
}

/// The `n`th batch of a run: one position, one notification, one delta, all saying `n`.
fn batch(n: i64) -> Commit {
    Commit {
        positions: vec![(partition("0"), Position(n))],
        notifications: vec![notification(&format!("n-{n}"), Severity::High)],
        delta: Some(n.to_le_bytes().to_vec()),
        quarantine: Vec::new(),
    }
}

fn ids(store: &Store) -> Vec<String> {
    store
        .due(RECEIVER, Timestamp::now(), 10_000)
        .unwrap()
        .into_iter()
        .map(|pending| pending.notification_id)
        .collect()
}

#[test]
fn a_store_of_the_version_before_is_brought_up_to_date() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    store.commit(&batch(1)).unwrap();
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("lanner.db")).unwrap();
    database
        .execute_batch("ALTER TABLE outbox DROP COLUMN enqueued; PRAGMA user_version = 1;")
        .unwrap();
    drop(database);
    let (store, recovered) = Store::open(&config(folder.path())).unwrap();
    assert_eq!(recovered.damage, None);
    let mut later = batch(2);
    later.notifications[0].enqueued = Some(Timestamp::UNIX_EPOCH);
    store.commit(&later).unwrap();
    let due = store.due(RECEIVER, Timestamp::now(), 10).unwrap();
    let enqueued: Vec<_> = due.iter().map(|pending| pending.enqueued).collect();
    assert_eq!(enqueued, [None, Some(Timestamp::UNIX_EPOCH)]);
}

/// The folder as a power cut would leave it: whatever is on the disk, without a shutdown.
fn crash_image(folder: &Path) -> TempDir {
    let image = TempDir::new().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // The index of the journal lives in memory and does not survive a power cut.
        if entry.path().extension() != Some("db-shm".as_ref()) {
            fs::copy(entry.path(), image.path().join(entry.file_name())).unwrap();
        }
    }
    image
}

#[test]
fn a_commit_is_found_again() {
    let folder = TempDir::new().unwrap();
    {
        let (store, recovered) = Store::open(&config(folder.path())).unwrap();
        assert!(recovered.positions.is_empty() && recovered.snapshot.is_none());
        assert_eq!(store.commit(&batch(1)).unwrap().notifications, 1);
        store.commit(&batch(2)).unwrap();
        assert_eq!(store.deltas_size(), 16);
    }
    let (store, recovered) = Store::open(&config(folder.path())).unwrap();
    assert_eq!(recovered.positions[&*partition("0")], Position(2));
    assert_eq!(recovered.deltas, [1i64.to_le_bytes(), 2i64.to_le_bytes()]);
    assert_eq!(recovered.damage, None);
    assert_eq!(ids(&store), ["n-1", "n-2"]);
    assert_eq!(store.deltas_size(), 16);
}

#[test]
fn a_crash_loses_no_commit() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    for n in 1..=5 {
        store.commit(&batch(n)).unwrap();
    }
    let image = crash_image(folder.path());
    let (store, recovered) = Store::open(&config(image.path())).unwrap();
    assert_eq!(recovered.positions[&*partition("0")], Position(5));
    assert_eq!(recovered.deltas.len(), 5);
    assert_eq!(ids(&store).len(), 5);
    assert_eq!(recovered.damage, None);
}

#[test]
fn a_snapshot_replaces_the_deltas() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    store.commit(&batch(1)).unwrap();
    store.snapshot(b"state 1").unwrap();
    assert_eq!(store.deltas_size(), 0);
    store.commit(&batch(2)).unwrap();
    drop(store);
    let (_, recovered) = Store::open(&config(folder.path())).unwrap();
    assert_eq!(recovered.snapshot.as_deref(), Some(&b"state 1"[..]));
    assert_eq!(recovered.deltas, [2i64.to_le_bytes()]);
    assert_eq!(recovered.positions[&*partition("0")], Position(2));
}

#[test]
fn a_notification_is_taken_once_for_each_receiver() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    let mut other = notification("a", Severity::Low);
    other.receiver = "email.oncall".to_owned();
    let commit = Commit {
        notifications: vec![
            notification("a", Severity::Low),
            notification("a", Severity::Low),
            other,
        ],
        ..Commit::default()
    };
    assert_eq!(store.commit(&commit).unwrap().notifications, 2);
    let seq = store.due(RECEIVER, Timestamp::now(), 1).unwrap()[0].seq;
    store.delivered(seq).unwrap();
    assert_eq!(store.commit(&commit).unwrap().notifications, 0, "delivered");
    let seq = store.due("email.oncall", Timestamp::now(), 1).unwrap()[0].seq;
    store.dead(seq, "refused").unwrap();
    assert_eq!(store.commit(&commit).unwrap().notifications, 0, "dead");
}

#[test]
fn a_retry_waits_for_its_time() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    store.commit(&batch(1)).unwrap();
    store.commit(&batch(2)).unwrap();
    let now = Timestamp::now();
    let first = store.due(RECEIVER, now, 1).unwrap().remove(0);
    let later = now + SignedDuration::from_secs(60);
    store.retry_at(first.seq, later, "503").unwrap();
    assert_eq!(ids(&store), ["n-2"]);
    let due = store.due(RECEIVER, later, 10).unwrap();
    assert_eq!(due[0].notification_id, "n-1");
    assert_eq!(due[0].attempts, 1);
    assert_eq!(store.oldest(RECEIVER).unwrap().unwrap().seq, first.seq);
    let other = store.least_tried(RECEIVER, first.seq).unwrap().unwrap();
    assert_eq!(other.seq, due[1].seq);
    assert!(store.next_due(RECEIVER).unwrap().unwrap() <= now);
    store.delivered(due[1].seq).unwrap();
    assert_eq!(
        store.next_due(RECEIVER).unwrap().unwrap().as_millisecond(),
        later.as_millisecond()
    );
    assert_eq!(store.next_due("email.nobody").unwrap(), None);
}

#[test]
fn at_the_quota_the_oldest_of_the_lowest_severity_go() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&StoreConfig {
        receiver_quota: 2_000,
        ..config(folder.path())
    })
    .unwrap();
    let grades = [
        ("a", Severity::Critical),
        ("b", Severity::Low),
        ("c", Severity::Medium),
        ("d", Severity::Low),
        ("e", Severity::High),
        ("f", Severity::High),
    ];
    let mut evicted = Vec::new();
    for (id, severity) in grades {
        let commit = Commit {
            notifications: vec![NewNotification {
                body: "x".repeat(200),
                enqueued: None,
                ..notification(id, severity)
            }],
            ..Commit::default()
        };
        evicted.extend(store.commit(&commit).unwrap().evicted);
    }
    assert_eq!(ids(&store), ["a", "c", "e", "f"]);
    let lost: Vec<_> = evicted
        .iter()
        .map(|lost| (&*lost.receiver, lost.notifications, lost.severity))
        .collect();
    assert_eq!(lost, [(RECEIVER, 1, Severity::Low); 2]);
    let counts = store.outbox_counts().unwrap();
    assert_eq!((counts[0].pending, counts[0].dead), (4, 2));
    assert!(counts[0].pending_bytes <= 2_000 && counts[0].oldest.is_some());
}

#[test]
fn quarantine_keeps_the_newest_within_its_quota() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&StoreConfig {
        quarantine_quota: 1_000,
        ..config(folder.path())
    })
    .unwrap();
    let mut dropped = 0;
    for n in 0..10 {
        let commit = Commit {
            quarantine: vec![Quarantined {
                source: "hub/0".to_owned(),
                position: format!("{n}#0"),
                reason: "cut_off".to_owned(),
                raw: vec![b'{'; 200],
            }],
            ..Commit::default()
        };
        dropped += store.commit(&commit).unwrap().quarantine_dropped;
    }
    let (kept, bytes) = store.quarantine_count().unwrap();
    assert!(bytes <= 1_000 && kept >= 3);
    assert_eq!(kept + dropped, 10);
    assert_eq!(store.quarantined(1).unwrap()[0].1.position, "9#0");
}

#[test]
fn a_damaged_database_costs_a_second_reading_and_no_more() {
    let folder = TempDir::new().unwrap();
    {
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        for n in 1..=3 {
            store.commit(&batch(n)).unwrap();
        }
        let delivered = store.due(RECEIVER, Timestamp::now(), 1).unwrap()[0].seq;
        store.delivered(delivered).unwrap();
        store.snapshot(b"state 3").unwrap();
        store.commit(&batch(4)).unwrap();
    }
    let database = folder.path().join("lanner.db");
    let mut bytes = fs::read(&database).unwrap();
    bytes[4096..].fill(0xA5);
    fs::write(&database, bytes).unwrap();

    let (store, recovered) = Store::open(&config(folder.path())).unwrap();
    let damage = recovered.damage.expect("the damage is told");
    assert!(damage.moved_to.expect("it was there").is_file());
    assert!(damage.snapshot.is_some());
    assert_eq!(recovered.snapshot.as_deref(), Some(&b"state 3"[..]));
    assert_eq!(recovered.positions[&*partition("0")], Position(3));
    assert_eq!(recovered.deltas.len(), 0);
    assert_eq!(ids(&store), ["n-2", "n-3"], "undelivered at the snapshot");
    store.commit(&batch(4)).unwrap();
    assert_eq!(ids(&store), ["n-2", "n-3", "n-4"]);
}

#[test]
fn a_flipped_bit_in_the_state_is_noticed() {
    let folder = TempDir::new().unwrap();
    {
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        store.snapshot(&[b'S'; 20_000]).unwrap();
    }
    let database = folder.path().join("lanner.db");
    let mut bytes = fs::read(&database).unwrap();
    let at = bytes.windows(64).position(|run| run == [b'S'; 64]).unwrap();
    bytes[at + 7] ^= 4;
    fs::write(&database, bytes).unwrap();
    let (_, recovered) = Store::open(&config(folder.path())).unwrap();
    assert!(recovered.damage.is_some());
    assert_eq!(recovered.snapshot.as_deref(), Some(&[b'S'; 20_000][..]));
}

/// What is structurally sound is not always text.
#[test]
fn a_notification_that_cannot_be_read_is_noticed() {
    let folder = TempDir::new().unwrap();
    {
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        store.commit(&batch(1)).unwrap();
        store.snapshot(b"state 1").unwrap();
    }
    for garbled in ["CAST(x'7bff7d' AS TEXT)", "'{\"notification_id'"] {
        let database = rusqlite::Connection::open(folder.path().join("lanner.db")).unwrap();
        database
            .execute(&format!("UPDATE outbox SET body = {garbled}"), [])
            .unwrap();
        drop(database);
        let (store, recovered) = Store::open(&config(folder.path())).unwrap();
        let damage = recovered.damage.expect("the damage is told");
        assert!(damage.reason.contains("outbox"), "{}", damage.reason);
        assert_eq!(ids(&store), ["n-1"]);
    }
}

/// Put off for a minute, or by a clock that was years ahead.
#[test]
fn who_starts_again_tries_everything_in_its_order() {
    for hours in [1, 20_000] {
        let folder = TempDir::new().unwrap();
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        store.commit(&batch(1)).unwrap();
        store.commit(&batch(2)).unwrap();
        let seq = store.due(RECEIVER, Timestamp::now(), 1).unwrap()[0].seq;
        let later = Timestamp::now() + SignedDuration::from_hours(hours);
        store.retry_at(seq, later, "503").unwrap();
        assert_eq!(ids(&store), ["n-2"]);
        drop(store);
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        assert_eq!(ids(&store), ["n-1", "n-2"]);
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    let folder = TempDir::new().unwrap();
    {
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        for n in 1..=4 {
            store.commit(&batch(n)).unwrap();
            store.snapshot(format!("state {n}").as_bytes()).unwrap();
        }
    }
    let mut snapshots: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("bin".as_ref()))
        .collect();
    snapshots.sort();
    assert_eq!(snapshots.len(), 2, "the last two are kept");
    let bytes = fs::read(&snapshots[1]).unwrap();
    fs::write(&snapshots[1], &bytes[..bytes.len() - 5]).unwrap();
    fs::write(folder.path().join("lanner.db"), b"not a database at all").unwrap();

    let (_, recovered) = Store::open(&config(folder.path())).unwrap();
    assert_eq!(recovered.snapshot.as_deref(), Some(&b"state 3"[..]));
    assert_eq!(recovered.positions[&*partition("0")], Position(3));
}

#[test]
fn damage_without_a_snapshot_starts_anew_and_says_so() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("lanner.db"), vec![7; 10_000]).unwrap();
    let (store, recovered) = Store::open(&config(folder.path())).unwrap();
    let damage = recovered.damage.expect("the damage is told");
    assert_eq!(damage.snapshot, None);
    assert!(recovered.positions.is_empty());
    store.commit(&batch(1)).unwrap();
}

#[test]
fn one_process_at_a_time() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    let error = Store::open(&config(folder.path())).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { .. }));
    let expected = format!("in use by process {}", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    drop(store);
    Store::open(&config(folder.path())).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    drop(Store::open(&config(folder.path())).unwrap());
    let database = rusqlite::Connection::open(folder.path().join("lanner.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let error = Store::open(&config(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 99 }));
    let error = Inspector::open(&config(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 99 }));
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("deep/store");
    let (store, _) = Store::open(&config(&folder)).unwrap();
    store.commit(&batch(1)).unwrap();
    store.snapshot(b"state").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "database, journal, lock and snapshot");
}

#[test]
fn a_person_can_list_retry_and_drop_beside_the_daemon() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    for n in 1..=3 {
        store.commit(&batch(n)).unwrap();
    }
    let now = Timestamp::now();
    let rows = store.due(RECEIVER, now, 10).unwrap();
    store.dead(rows[0].seq, "400 Bad Request").unwrap();
    let later = now + SignedDuration::from_hours(1);
    store.retry_at(rows[1].seq, later, "503").unwrap();

    let mut inspector = Inspector::open(&config(folder.path())).unwrap();
    let list = inspector.list(Some(RECEIVER), 10).unwrap();
    let seen: Vec<_> = list
        .iter()
        .map(|entry| (&*entry.notification_id, entry.place, &*entry.error))
        .collect();
    let expected = [
        ("n-1", Place::Dead, "400 Bad Request"),
        ("n-2", Place::Pending, "503"),
        ("n-3", Place::Pending, ""),
    ];
    assert_eq!(seen, expected);
    assert_eq!(ids(&store), ["n-3"]);
    assert_eq!(inspector.retry(rows[0].seq).unwrap(), Released::Done);
    assert_eq!(inspector.retry(rows[1].seq).unwrap(), Released::Done);
    assert_eq!(ids(&store), ["n-1", "n-2", "n-3"]);
    assert_eq!(inspector.drop(rows[2].seq).unwrap(), Released::Done);
    assert_eq!(inspector.drop(rows[2].seq).unwrap(), Released::Unknown);
    assert_eq!(inspector.counts().unwrap()[0].pending, 2);
}

#[test]
fn threads_share_a_store() {
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(&config(folder.path())).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=40 {
                store.commit(&batch(n)).unwrap();
            }
        });
        scope.spawn(|| {
            let mut delivered = 0;
            while delivered < 40 {
                for pending in store.due(RECEIVER, Timestamp::now(), 8).unwrap() {
                    store.delivered(pending.seq).unwrap();
                    delivered += 1;
                }
            }
        });
    });
    assert!(ids(&store).is_empty());
    assert!(store.outbox_counts().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However much of the journal's end a crash tears off or garbles, what is found is a whole
    /// number of commits: position, notifications and deltas agree.
    #[test]
    fn a_torn_journal_leaves_whole_commits(cut in 0.0f64..1.0, garble in any::<bool>()) {
        let folder = TempDir::new().unwrap();
        let (store, _) = Store::open(&config(folder.path())).unwrap();
        for n in 1..=8 {
            store.commit(&batch(n)).unwrap();
        }
        let image = crash_image(folder.path());
        let journal = image.path().join("lanner.db-wal");
        let mut bytes = fs::read(&journal).unwrap();
        let at = (bytes.len() as f64 * cut) as usize;
        if garble {
            bytes[at..].fill(0x5A);
        } else {
            bytes.truncate(at);
        }
        fs::write(&journal, bytes).unwrap();

        let (store, recovered) = Store::open(&config(image.path())).unwrap();
        let position = recovered.positions.get(&*partition("0")).map_or(0, |p| p.0);
        prop_assert!(recovered.damage.is_none());
        prop_assert_eq!(recovered.deltas.len() as i64, position);
        prop_assert_eq!(ids(&store).len() as i64, position);
        store.commit(&batch(position + 1)).unwrap();
    }
}
