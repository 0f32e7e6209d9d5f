//! Messages of every size that a hub takes, and events that vanish under a reader.

use std::collections::HashMap;

use bytes::Bytes;
use lanner::emulator::{HubConfig, Retention};
use lanner::source::eventhubs::HubSnapshot;

use crate::breaks::hasty;
use crate::reading::{HUB, Reading, config, emulator_with, events, publish};

/// The largest message of the service's lower tiers, and of dedicated clusters.
const LARGEST: [usize; 2] = [1 << 20, 20 << 20];

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_size_come_whole() {
    let emulator = emulator_with(HubConfig::new(HUB, 1)).await;
    let sizes = [0, 1, 65_000, 65_536, LARGEST[0], LARGEST[1], 3];
    for size in sizes {
        let body: Vec<u8> = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
        emulator
            .publish(HUB, "0", Bytes::from(body))
            .expect("the partition exists");
    }
    // Twenty megabytes take a busy machine, unoptimised, longer than a hasty call.
    let mut patient = hasty(config(&emulator));
    patient.pace.stall = std::time::Duration::from_secs(20);
    patient.pace.call = std::time::Duration::from_secs(20);
    let mut reading = Reading::start(patient, HashMap::new());
    reading.until_count(sizes.len()).await;
    for (body, size) in reading.read["0"].iter().zip(sizes) {
        assert_eq!(body.len(), size);
        let whole = body
            .bytes()
            .enumerate()
            .all(|(at, byte)| byte == b'a' + (at % 23) as u8);
        assert!(whole, "of {size} bytes");
    }
    assert_eq!(reading.status.snapshot().partitions[0].reconnects, 0);
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_vanish_under_a_reader_are_counted() {
    let emulator = emulator_with(HubConfig {
        retention: Retention {
            events: 5,
            bytes: usize::MAX,
        },
        ..HubConfig::new(HUB, 1)
    })
    .await;
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    publish(&emulator, "0", 0..3);
    reading.until_count(3).await;
    // While connections are refused, more comes than the hub keeps.
    emulator.faults().refuse_connections(true);
    emulator.drop_connections();
    publish(&emulator, "0", 3..20);
    reading.until_status(|hub| !hub.is_ready()).await;
    emulator.faults().refuse_connections(false);
    reading.until_count(3 + 5).await;
    assert_eq!(reading.read["0"][3..], events(15..20));
    let snapshot = reading.until_status(HubSnapshot::is_ready).await;
    assert_eq!(snapshot.partitions[0].lost, 12);

    // The link stands, and is served too late.
    emulator.faults().stall_deliveries(true);
    publish(&emulator, "0", 20..40);
    emulator.faults().stall_deliveries(false);
    reading
        .until(|reading| {
            reading.read["0"]
                .last()
                .is_some_and(|last| last == "event 39")
        })
        .await;
    let skipped = 40 - 12 - reading.count();
    let snapshot = reading.status.snapshot();
    assert_eq!(snapshot.partitions[0].lost, 12 + skipped as u64);
    reading.stop().await;
    emulator.shutdown().await;
}
