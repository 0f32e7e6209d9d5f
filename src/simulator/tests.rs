use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;
use crate::decode::{Ignored, Payload as Decoded, decode};
use crate::source::Chunk;

fn scenario(seed: u64, seconds: u64, rate: f64) -> Scenario {
    Scenario {
        seed,
        start: "2026-11-20T10:00:00Z".parse().expect("a literal time"),
        duration: Duration::from_secs(seconds),
        clusters: ClusterSpec::three(rate),
        clock: 0,
        campaigns: Campaigns {
            per_family: 2,
            intrusions: 0,
            quiet: Duration::ZERO,
            round: Duration::from_secs(seconds),
            window: (0.05, 0.7),
            notable: false,
        },
    }
}

#[test]
fn a_seed_gives_the_same_bytes_in_the_order_of_time() {
    let digest = |seed| {
        let mut last = Timestamp::MIN;
        Simulator::new(scenario(seed, 20, 300.0))
            .inspect(|record| {
                assert!(record.time >= last, "{} after {last}", record.time);
                last = record.time;
            })
            .map(|record| record.bytes)
            .collect::<Vec<_>>()
    };
    let first = digest(7);
    assert!(first.len() > 2000, "{}", first.len());
    assert!(first == digest(7));
    assert!(first != digest(8));
}

#[test]
fn every_record_is_whole_and_names_its_cluster() {
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for record in Simulator::new(scenario(1, 60, 300.0)) {
        *categories.entry(record.category).or_default() += 1;
        let text = String::from_utf8_lossy(&record.bytes).into_owned();
        let chunk = Chunk {
            bytes: Bytes::from(record.bytes),
            position: 0,
            framing: crate::source::Framing::Value,
            enqueued: None,
        };
        let mut count = 0;
        decode(&chunk, &mut |decoded| {
            count += 1;
            assert_eq!(decoded.damage, None, "{text}");
            match &decoded.payload {
                Decoded::Audit(event) => {
                    assert!(event.time().is_some(), "{text}");
                    kinds.insert(format!("{} {:?}", event.verb, event.stage));
                }
                Decoded::ApiServer(_) => assert_eq!(record.category, "kube-apiserver"),
                Decoded::Nothing(Ignored::Category) => {
                    assert!(!record.category.starts_with("kube-a"), "{text}");
                }
                Decoded::Nothing(why) => panic!("{why:?}: {text}"),
            }
        });
        assert_eq!(count, 1, "{text}");
    }
    for category in [
        "kube-audit",
        "kube-audit-admin",
        "kube-apiserver",
        "kube-scheduler",
        "kube-controller-manager",
        "cluster-autoscaler",
        "guard",
    ] {
        assert!(categories.contains_key(category), "{categories:?}");
    }
    assert!(kinds.len() >= 9, "{kinds:?}");
}

#[test]
fn attacks_lie_in_their_window_and_are_logged() {
    let scenario = scenario(3, 60, 200.0);
    let start = scenario.start;
    let mut simulator = Simulator::new(scenario);
    let logged: BTreeSet<u32> = simulator
        .by_ref()
        .filter_map(|record| Some(record.mark?.campaign))
        .collect();
    let truth = simulator.truth();
    assert_eq!(truth.campaigns.len(), 12);
    for campaign in &truth.campaigns {
        let begin = campaign.begin().expect("campaigns have steps");
        let into = begin.duration_since(start).as_secs_f64();
        assert!((3.0..43.0).contains(&into), "{campaign:?}");
        assert!(campaign.steps.iter().any(|step| step.decisive));
        assert!(logged.contains(&campaign.id), "{campaign:?}");
    }
    let actors: BTreeSet<&str> = truth.campaigns.iter().map(|c| c.actor.as_str()).collect();
    assert_eq!(actors.len(), 12, "each has an actor of its own");
}

#[test]
fn the_rate_is_what_was_asked_for() {
    for rate in [300.0, 3000.0] {
        let mut scenario = scenario(5, 10, rate);
        scenario.campaigns.per_family = 0;
        let mut bytes = 0;
        let count = Simulator::new(scenario)
            .inspect(|r| bytes += r.bytes.len())
            .count();
        let real = count as f64 / 10.0;
        assert!(
            (0.6..1.6).contains(&(real / rate)),
            "{real} instead of {rate}"
        );
        assert!(
            (700..6000).contains(&(bytes / count)),
            "{} bytes a record",
            bytes / count
        );
    }
}

#[test]
fn office_hours_are_on_a_wednesday_whenever_it_is() {
    let start: Timestamp = "2026-11-16T00:30:00Z".parse().expect("a literal time");
    for hours in 0..7 * 24 {
        let now = start + Duration::from_secs(hours * 3600);
        let clock = i64::from(Scenario::office_hours(now));
        let local = TimeZone::UTC.to_datetime(now + jiff::SignedDuration::from_hours(clock));
        assert_eq!(local.weekday(), jiff::civil::Weekday::Wednesday, "{now}");
        assert_eq!(local.hour(), 15, "{now}");
    }
}
