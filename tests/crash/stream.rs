//! A known stream: two clusters, each on a partition of its own, with attacks in it.
//!
//! On one partition order is kept, so that every run must make the same alerts under the same ids.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lanner::alert::Alert;
use lanner::detect::load;
use lanner::simulator::score::score;
use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator, Truth, Verdict};

pub const PARTITIONS: u32 = 2;

/// Records in a message at most.
const RECORDS: usize = 4;

pub struct Stream {
    /// Partition and body, in the order of time.
    pub messages: Vec<(String, Bytes)>,
    /// The site's lists, as configuration.
    pub site: String,
    truth: Truth,
}

impl Stream {
    /// Ends now, so that neither the clock nor the waiting of a run closes anything.
    pub fn new(seed: u64) -> Stream {
        let duration = Duration::from_secs(400);
        let mut clusters = ClusterSpec::three(4.0);
        clusters.truncate(PARTITIONS as usize);
        let start = Timestamp::now() - duration;
        let mut simulator = Simulator::new(Scenario {
            seed,
            start,
            duration,
            clusters,
            clock: Scenario::office_hours(start),
            campaigns: Campaigns {
                per_family: 6,
                intrusions: 0,
                quiet: std::time::Duration::ZERO,
                round: duration,
                window: (0.02, 0.7),
                notable: true,
            },
        });
        let mut messages = Vec::new();
        let mut waiting = vec![Vec::new(); PARTITIONS as usize];
        let mut finish = |cluster: usize, records: &mut Vec<Vec<u8>>| {
            let body = [&b"{\"records\":["[..], &records.join(&b','), b"]}"].concat();
            messages.push((cluster.to_string(), Bytes::from(body)));
            records.clear();
        };
        for record in simulator.by_ref() {
            let records = &mut waiting[record.cluster];
            records.push(record.bytes);
            if records.len() == RECORDS {
                finish(record.cluster, records);
            }
        }
        for (cluster, records) in waiting.iter_mut().enumerate() {
            finish(cluster, records);
        }
        let site = simulator.site().configuration();
        Stream {
            messages,
            site,
            truth: simulator.truth().clone(),
        }
    }

    /// The attacks that no alert shows, in words.
    pub fn missed(&self, alerts: &[Alert]) -> Vec<String> {
        let covers: BTreeMap<String, Vec<String>> = load::load(&load::shipped(), &[])
            .expect("the shipped detectors load")
            .into_iter()
            .map(|detector| (detector.id, detector.covers))
            .collect();
        let rows = |detector: &str| covers.get(detector).map_or(&[][..], Vec::as_slice);
        let score = score(&self.truth, alerts, rows, |campaign| {
            campaign.verdict == Verdict::Attack
        });
        let name = |id: &u32| format!("{} ({id})", self.truth.campaigns[*id as usize].name);
        assert!(!score.found.is_empty(), "there are attacks in the stream");
        score.missed.iter().map(name).collect()
    }
}
