//! Clusters with attacks in them, for tests that compare two ways through the same records.

use std::time::Duration;

use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};

/// Three clusters from `start` on, in which each kind of attack happens once.
pub fn attacked(seed: u64, start: &str, minutes: u64) -> Simulator {
    let duration = Duration::from_secs(minutes * 60);
    Simulator::new(Scenario {
        seed,
        start: start.parse().expect("a time"),
        duration,
        clusters: ClusterSpec::three(1.5),
        clock: 0,
        campaigns: Campaigns {
            per_family: 1,
            intrusions: 0,
            quiet: Duration::ZERO,
            round: duration,
            window: (0.1, 0.7),
            notable: true,
        },
    })
}
