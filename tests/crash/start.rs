//! What a start makes of what it finds: a backlog in the hub, a state of another version.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::kills::check;
use crate::record;
use crate::stream::Stream;
use crate::world::{PATIENCE, World, is_killed};

/// An exec into always the same pod.
fn exec(number: i64, time: Timestamp) -> Bytes {
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z");
    record::exec("web-0", number, time)
}

/// The clock on the wall says that an alert has long been quiet; the hub holds more of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_hub_is_read_before_anything_is_said_to_be_quiet() {
    let mut stream = Stream::new(51);
    stream
        .site
        .push_str("[pipeline]\nlateness = \"1s\"\n[detectors.pod-exec]\nquiet-for = \"30s\"\n");
    let world = World::new(&stream).await;
    let then = Timestamp::now();
    let publish = |number, time| {
        let published = world.emulator.publish("audit", "0", exec(number, time));
        published.expect("the partition exists");
    };
    publish(0, then);
    let killed = world.start("commit.after=kill@1").ended().await;
    assert!(is_killed(killed), "{}", world.log());
    publish(1, then + SignedDuration::from_secs(20));
    tokio::time::sleep(Duration::from_secs(33)).await;
    let daemon = world.start("");
    let begun = Instant::now();
    while !world.is_read() {
        assert!(begun.elapsed() < *PATIENCE, "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than it takes to find out that there is no more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let alerts: Vec<_> = world.received();
    let of_exec = alerts
        .iter()
        .filter(|alert| alert.detector.id == "pod-exec");
    let mut ids: Vec<_> = of_exec.map(|alert| &alert.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_another_version_is_learned_anew_and_said() {
    let stream = Stream::new(52);
    let mut world = World::new(&stream).await;
    world.publish(&stream, stream.messages.len() / 3);
    world.finish_published().await;
    let database = world.path("store/lanner.db");
    let open = || rusqlite::Connection::open(&database).expect("it is there");
    let state = || -> Vec<u8> {
        let query = "SELECT state FROM snapshot";
        let state = open().query_row(query, [], |row| row.get(0));
        state.expect("there is a snapshot")
    };
    let mut other = state();
    let version = other[0];
    other[0] = 255;
    let checksum = Sha256::digest(&other);
    let changed = open().execute(
        "UPDATE snapshot SET state = ?1, checksum = ?2",
        (&other, checksum.as_slice()),
    );
    assert_eq!(changed, Ok(1));
    world.finish(&stream).await;
    assert!(world.log().contains("learning anew"), "{}", world.log());
    // The old one is not found again by the next start.
    assert_eq!(state()[0], version);
    let outcome = world.outcome(&stream);
    check(&stream, world, &outcome).await;
}
