//! Deliveries while this machine's clock jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lanner::alert::Severity;
use lanner::deliver::{Options, start};
use lanner::wall::Wall;
use tokio_util::sync::CancellationToken;

use crate::common::{Outbox, eventually};
use crate::http::{Reply, Server};
use crate::queue::webhook;

#[tokio::test]
async fn a_clock_that_jumps_delays_no_delivery_and_buries_none() {
    for years in [10, -10] {
        let jump = Arc::new(AtomicI64::new(0));
        let (shown, began) = (Arc::clone(&jump), Instant::now());
        let wall = Wall::with(move || {
            let jump = SignedDuration::from_hours(shown.load(Ordering::SeqCst));
            (Timestamp::now() + jump, began.elapsed())
        });
        let options = Options {
            min_delay: Duration::from_millis(20),
            max_delay: Duration::from_millis(80),
            wall: Arc::new(wall),
            ..Options::default()
        };
        // Twelve failures are more than it takes to give up what is too old.
        let server = Server::start(vec![Reply::status(503); 12]).await;
        let outbox = Outbox::new();
        outbox.add("r", "a-1", Severity::High);
        let deliveries = start(
            Arc::clone(&outbox.store),
            vec![("r".to_owned(), webhook(&server.url("/")))],
            Arc::new(()),
            options,
            &CancellationToken::new(),
        );
        eventually("it has failed", || server.requests().len() >= 2).await;
        jump.store(years * 365 * 24, Ordering::SeqCst);
        eventually("it arrives", || outbox.pending("r") == 0).await;
        assert_eq!(outbox.dead("r"), 0, "after {years} years");
        assert_eq!(server.requests().len(), 13);
        deliveries.join(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn what_was_written_by_another_clock_is_delivered_at_once() {
    // Written in the future and tried then; the clock was set right while the process was down.
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let entry = outbox.entries("r").remove(0);
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 365);
    outbox.store.retry_at(entry.seq, later, "HTTP 503").unwrap();
    let server = Server::start(vec![]).await;
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("r".to_owned(), webhook(&server.url("/")))],
        Arc::new(()),
        Options::default(),
        &CancellationToken::new(),
    );
    eventually("it arrives", || outbox.pending("r") == 0).await;
    deliveries.join(Duration::from_secs(5)).await;
}
