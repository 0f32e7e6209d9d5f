//! Runs the tests that stand in detector files, with the engine and the clock of replay.
//!
//! A test's events are records like any other: they are written as JSON, read by
//! [`crate::decode`], and judged in the order of the clock. `lanner detectors test` and the
//! project's own tests run all of them; a site runs those of its own files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::detector::{Detector, StateSpec};
use super::engine::Engine;
use super::inventory::{Lesson, lesson};
use super::load::merge_tables;
use super::matches::{Digest128, Match};
use super::occurrence::Place;
use super::order::{Judge, Learning, Outcome};
use super::scratch::{Counts, Scratch};
use super::spec::{Expect, Test};
use super::state::streams::Streams;
use crate::config::duration;
use crate::decode::apiserver::has_header;
use crate::decode::{Payload, decode};
use crate::event::clock::Clock;
use crate::event::{Lists, Site, Sites, View};
use crate::source::{Chunk, Framing, Partition};

/// When the first event of a test happens.
const BEGIN: &str = "2026-11-20T10:00:00Z";

/// How far apart the partitions may be, as by default; how many there are, and how often the records
/// are put on them anew.
const LATENESS: SignedDuration = SignedDuration::from_mins(2);
const PARTITIONS: u64 = 4;
const SHUFFLES: u64 = 6;

/// One test that did not end as it says.
#[derive(Debug, Clone)]
pub struct Failure {
    pub detector: String,
    pub test: String,
    pub message: String,
}

/// How many tests ran, and which failed.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: usize,
    pub failures: Vec<Failure>,
}

/// Runs the tests of the detectors whose ids `wanted` admits. `fixtures` are folders in which `raw`
/// files are looked for.
pub fn run(engine: &Engine, wanted: impl Fn(&str) -> bool, fixtures: &[&Path]) -> Report {
    let mut report = Report::default();
    for detector in engine
        .detectors
        .iter()
        .filter(|detector| wanted(&detector.id))
    {
        for (test, case) in cases(&engine.sites, detector, fixtures) {
            match case.and_then(|case| case.run(engine, detector)) {
                Ok(()) => report.passed += 1,
                Err(message) => report.failures.push(Failure {
                    detector: detector.id.clone(),
                    test,
                    message,
                }),
            }
        }
    }
    report
}

/// A test made ready: the records that it feeds, and where.
#[derive(Debug)]
pub struct Case<'t> {
    test: &'t Test,
    /// Id of the detector whose test it is.
    detector: &'t str,
    sites: Sites,
    records: Bytes,
    /// What the records teach the inventory; read when first asked for.
    lessons: OnceLock<Vec<Lesson>>,
    since: SignedDuration,
}

/// The detector's tests with their names, one for each combination that `each` asks for; or why a
/// test cannot run.
pub fn cases<'t>(
    sites: &Sites,
    detector: &'t Detector,
    fixtures: &[&Path],
) -> Vec<(String, Result<Case<'t>, String>)> {
    detector
        .tests
        .iter()
        .flat_map(|test| {
            variants(test).into_iter().map(move |(name, variant)| {
                let case = || {
                    let records = match &test.raw {
                        Some(raw) => read_fixture(raw.get_ref(), fixtures)?,
                        None => events_text(test, &variant)?,
                    };
                    Ok(Case {
                        test,
                        detector: &detector.id,
                        sites: sites_of(sites, test)?,
                        records: Bytes::from(records),
                        lessons: OnceLock::new(),
                        since: match &test.since {
                            Some(since) => duration::parse(since.trim_start_matches('+'))?,
                            None => SignedDuration::ZERO,
                        },
                    })
                };
                (name, case())
            })
        })
        .collect()
}

impl Case<'_> {
    /// Whether `detector`, one of `engine`, does with the records what the test expects, also where
    /// they come out of order.
    pub fn run(&self, engine: &Engine, detector: &Detector) -> Result<(), String> {
        let mut matches = self.matches(engine);
        let steps = match &detector.state {
            StateSpec::Sequence { steps, .. } => &steps[..],
            _ => &[],
        };
        matches.retain(|found| {
            let id = &engine.detector(found.detector).id;
            // An audit ID is used again by whatever is matched.
            let any = matches!(detector.state, StateSpec::Reuse { .. });
            any || *id == detector.id || steps.iter().any(|step| step.detectors.contains(id))
        });
        let found = self.verdict(engine, matches.clone())?;
        let records = matches.chunk_by(|a, b| Arc::ptr_eq(&a.occurrence, &b.occurrence));
        if records.count() < 2 {
            return Ok(());
        }
        for seed in 0..SHUFFLES {
            let in_order =
                |text| format!("partitions apart by less than {LATENESS} (shuffle {seed}): {text}");
            let shuffled = shuffled(&matches, seed);
            match self.verdict(engine, shuffled) {
                Err(message) => return Err(in_order(message)),
                Ok(other) if other != found => {
                    let message = format!("alerts of {other:?} instead of {found:?}");
                    return Err(in_order(message));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// When there were records, and when the last one came.
    fn streams(&self) -> (Streams, Timestamp) {
        let (mut streams, mut last) = (Streams::default(), Timestamp::MIN);
        decode(&self.chunk(), &mut |record| {
            let time = match &record.payload {
                Payload::Audit(event) => event.time(),
                _ => None,
            };
            if let Some(time) = time.or(record.origin.time) {
                streams.add(&record.origin.cluster, record.origin.category, time);
                last = last.max(time);
            }
        });
        (streams, last)
    }

    /// What the records teach, whichever detectors there are.
    fn lessons(&self) -> &[Lesson] {
        self.lessons.get_or_init(|| {
            let mut lessons = Vec::new();
            let partition = Arc::new(partition());
            decode(&self.chunk(), &mut |record| {
                if let Payload::Audit(event) = &record.payload {
                    let place = Place {
                        partition: &partition,
                        position: record.position,
                        clock: Clock::default(),
                    };
                    let site = self.sites.of(&record.origin.cluster);
                    let view = View::new(event, &record.origin, site);
                    lesson::read(&view, place, &mut lessons);
                }
            });
            lessons
        })
    }

    fn chunk(&self) -> Chunk {
        Chunk {
            bytes: self.records.clone(),
            position: 0,
            framing: Framing::Lines,
            enqueued: None,
        }
    }

    /// What all detectors of `engine` match of the records, in the order of the clock.
    pub fn matches(&self, engine: &Engine) -> Vec<Match> {
        let partition = Arc::new(partition());
        let chunk = self.chunk();
        let mut matches = Vec::new();
        let mut scratch = Scratch::new(None);
        decode(&chunk, &mut |record| {
            let (sites, origin) = (&self.sites, &record.origin);
            let place = Place {
                partition: &partition,
                position: record.position,
                clock: Clock::default(),
            };
            let scratch = &mut scratch;
            match &record.payload {
                Payload::Audit(event) => {
                    engine.detect_at(sites, event, origin, place, scratch, &mut matches);
                }
                Payload::ApiServer(line) => {
                    engine.detect_line_at(sites, line, origin, place, scratch, &mut matches);
                }
                Payload::Nothing(_) => {}
            }
        });
        matches.sort_by_key(|found| found.occurrence.clock());
        matches
    }

    /// Whether the matches become what the test expects of its detector; gives the alerts' groups.
    pub fn verdict(
        &self,
        engine: &Engine,
        matches: Vec<Match>,
    ) -> Result<BTreeSet<Digest128>, String> {
        let mut judge = Judge::new(Learning::Own);
        judge.count(Counts {
            lessons: self.lessons().to_vec(),
            ..Counts::default()
        });
        let mut judged: Vec<(Outcome, Match)> = Vec::new();
        for found in matches {
            let mut next = Some(judge.judge(engine, found));
            while let Some(judgement) = next {
                judged.push((judgement.outcome, judgement.found));
                next = judge.raised();
            }
        }
        if engine.detectors.iter().any(|detector| {
            detector.id == self.detector && matches!(detector.state, StateSpec::Absence { .. })
        }) {
            let (streams, last) = self.streams();
            judge.observe(&streams);
            judge.tick(engine, last, false);
            while let Some(judgement) = judge.raised() {
                judged.push((judgement.outcome, judgement.found));
            }
        }
        let since = begin().checked_add(self.since).unwrap_or(Timestamp::MAX);
        judged.retain(|(_, found)| {
            engine.detector(found.detector).id == self.detector
                && (self.since.is_zero() || found.occurrence.clock() >= since)
        });
        let alerted: Vec<&Match> = judged
            .iter()
            .filter(|(outcome, _)| outcome.is_finding())
            .map(|(_, found)| found)
            .collect();
        let groups = alerted.iter().map(|found| found.fingerprint).collect();
        match (self.test.expect, alerted.first()) {
            (Expect::Alert, None) => {
                let seen: Vec<&str> = judged.iter().map(|(outcome, _)| outcome.as_str()).collect();
                Err(if seen.is_empty() {
                    "expected an alert, but nothing matched".to_owned()
                } else {
                    format!("expected an alert, but every match was {}", seen.join(", "))
                })
            }
            (Expect::Quiet, Some(first)) => Err(format!("expected quiet, but: {}", first.summary)),
            (Expect::Alert, Some(first)) => match self.test.severity {
                Some(wanted) if !alerted.iter().any(|found| found.severity == wanted) => Err(
                    format!("expected severity {wanted}, but it was {}", first.severity),
                ),
                _ => Ok(groups),
            },
            (Expect::Quiet, None) => Ok(groups),
        }
    }
}

fn partition() -> Partition {
    Partition {
        source: "selftest".into(),
        id: "test".into(),
    }
}

/// The matches as they come from partitions that are apart by less than `lateness`: each keeps the
/// order of the clock, and a record lies on any of them.
fn shuffled(matches: &[Match], seed: u64) -> Vec<Match> {
    let random = |of: u64| {
        let digest = Digest128::of([&seed.to_le_bytes()[..], &of.to_le_bytes()]);
        digest.0 as u64
    };
    let delay = |partition: u64| match partition {
        0 => 0,
        1 => LATENESS.as_millis() as i64 - 1,
        other => (random(u64::MAX - other) % LATENESS.as_millis() as u64) as i64,
    };
    let mut arriving: Vec<(i64, &[Match])> = (0..)
        .zip(matches.chunk_by(|a, b| Arc::ptr_eq(&a.occurrence, &b.occurrence)))
        .map(|(record, matches)| {
            let time = matches[0].occurrence.clock().as_millisecond();
            (time + delay(random(record) % PARTITIONS), matches)
        })
        .collect();
    arriving.sort_by_key(|(time, _)| *time);
    arriving
        .into_iter()
        .flat_map(|(_, matches)| matches.iter().cloned())
        .collect()
}

/// The test's name and what is merged over its events, for each combination of `each`.
fn variants(test: &Test) -> Vec<(String, toml::Table)> {
    let mut variants = vec![(test.name.clone(), toml::Table::new())];
    for (key, values) in test.each.iter().flatten() {
        let values = match values {
            toml::Value::Array(values) => values.clone(),
            other => vec![other.clone()],
        };
        variants = variants
            .into_iter()
            .flat_map(|(name, table)| {
                values
                    .iter()
                    .map(|value| {
                        let mut table = table.clone();
                        merge_tables(&mut table, nest(key, value.clone()));
                        (format!("{name} ({key} = {value})"), table)
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    variants
}

/// `a.b = value` as nested tables.
fn nest(key: &str, value: toml::Value) -> toml::Table {
    let mut table = toml::Table::new();
    match key.split_once('.') {
        Some((parent, rest)) => {
            table.insert(parent.to_owned(), toml::Value::Table(nest(rest, value)));
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
    table
}

/// The sites' default with what the test's `config` changes in it.
fn sites_of(sites: &Sites, test: &Test) -> Result<Sites, String> {
    let mut site: Site = (*sites.default).clone();
    for (key, value) in test.config.iter().flatten() {
        match (key.as_str(), value) {
            ("lists", toml::Value::Table(lists)) => {
                // Lists that the test does not name have their shipped defaults.
                let lists: Lists = toml::Value::Table(lists.clone())
                    .try_into()
                    .map_err(|error| format!("config.lists: {error}"))?;
                site.lists = Arc::new(lists);
            }
            ("private-api", toml::Value::Boolean(private)) => site.private_api = *private,
            _ => {
                return Err(format!(
                    "config.{key} is no setting; lists, private-api are"
                ));
            }
        }
    }
    Ok(Sites {
        default: Arc::new(site),
        by_cluster: Default::default(),
    })
}

fn read_fixture(name: &str, fixtures: &[&Path]) -> Result<String, String> {
    fixtures
        .iter()
        .find_map(|folder| std::fs::read_to_string(folder.join(name)).ok())
        .ok_or_else(|| format!("raw = \"{name}\" is in none of the folders for fixtures"))
}

/// The test's events as JSON lines, each merged over [`base_event`].
fn events_text(test: &Test, variant: &toml::Table) -> Result<String, String> {
    let events: Vec<&toml::Table> = match (&test.event, &test.events) {
        (Some(event), _) => vec![event],
        (None, Some(events)) => events.iter().collect(),
        (None, None) => return Err("has no events".to_owned()),
    };
    let begin = begin();
    let mut text = String::new();
    let mut all = Vec::new();
    for event in events {
        repeat(event, &mut all)?;
    }
    for (index, (mut event, later)) in all.into_iter().enumerate() {
        let after = match event.remove("at") {
            Some(toml::Value::String(at)) => duration::parse(at.trim_start_matches('+'))?,
            Some(_) => return Err("`at` is no text as \"+90s\"".to_owned()),
            None => SignedDuration::ZERO,
        } + later;
        merge_tables(&mut event, variant.clone());
        let category = event.remove("category");
        let merged = match event.remove("line") {
            Some(toml::Value::String(line)) if event.is_empty() => {
                line_record(begin + after, &line)
            }
            Some(_) => return Err("`line` is a text that stands alone, or beside `at`".to_owned()),
            None => {
                let mut merged = base_event(begin + after, index);
                merge_json(&mut merged, to_json(toml::Value::Table(event)));
                match category {
                    Some(category) => json!({
                        "time": (begin + after).to_string(),
                        "category": to_json(category),
                        "properties": { "log": merged.to_string() },
                    }),
                    None => merged,
                }
            }
        };
        text.push_str(&merged.to_string());
        text.push('\n');
    }
    Ok(text)
}

fn begin() -> Timestamp {
    BEGIN.parse().expect("a valid time")
}

/// Puts the event to `all` as often as it says, each with how much later it is.
fn repeat(event: &toml::Table, all: &mut Vec<(toml::Table, SignedDuration)>) -> Result<(), String> {
    let mut event = event.clone();
    let mut number = |key: &str| match event.remove(key) {
        Some(toml::Value::Integer(number)) => u32::try_from(number)
            .map(Some)
            .map_err(|error| format!("`{key}`: {error}")),
        Some(_) => Err(format!("`{key}` is no number")),
        None => Ok(None),
    };
    let (times, days) = (number("times")?, number("days")?);
    let every = match event.remove("every") {
        Some(toml::Value::String(every)) => duration::parse(&every)?,
        Some(_) => return Err("`every` is no text as \"90s\"".to_owned()),
        None => SignedDuration::ZERO,
    };
    if times.is_none() && days.is_none() {
        all.push((event, SignedDuration::ZERO));
        return Ok(());
    }
    for day in 0..days.unwrap_or(1) {
        for number in 0..times.unwrap_or(1) {
            let mut value = toml::Value::Table(event.clone());
            fill_in(&mut value, &number.to_string());
            if let toml::Value::Table(event) = value {
                let day = SignedDuration::from_hours(24) * day as i32;
                all.push((event, day + every * number as i32));
            }
        }
    }
    Ok(())
}

/// Puts the number in place of `{n}` in every text.
fn fill_in(value: &mut toml::Value, number: &str) {
    match value {
        toml::Value::String(text) => *text = text.replace("{n}", number),
        toml::Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, number)),
        toml::Value::Table(table) => table
            .iter_mut()
            .for_each(|(_, value)| fill_in(value, number)),
        _ => {}
    }
}

/// A line of the API server's own log in its envelope; the stamp in its header becomes `time`.
fn line_record(time: Timestamp, line: &str) -> Value {
    let line = if has_header(line) {
        let stamp = time.strftime("%m%d %H:%M:%S%.6f").to_string();
        format!("{}{stamp}{}", &line[..1], &line[1 + stamp.len()..])
    } else {
        line.to_owned()
    };
    json!({
        "time": time.to_string(),
        "category": "kube-apiserver",
        "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "properties": { "log": line, "stream": "stderr", "pod": "kube-apiserver-6d5b9c7f4-x2x9z" },
    })
}

/// An ordinary person's `get` of a pod, which succeeded.
fn base_event(time: Timestamp, index: usize) -> Value {
    let time = format!("{time:.6}");
    json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": format!("00000000-0000-4000-8000-{index:012}"),
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/pods/web-0",
        "verb": "get",
        "user": {
            "username": "ada@example.com",
            "groups": ["6f1c0a9e-0000-4000-8000-00000000000a", "system:authenticated"],
        },
        "sourceIPs": ["203.0.113.7", "172.31.4.5"],
        "userAgent": "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
        "objectRef": {
            "resource": "pods",
            "namespace": "shop",
            "name": "web-0",
            "apiVersion": "v1",
        },
        "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": time,
        "stageTimestamp": time,
        "annotations": {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": "RBAC: allowed by RoleBinding \"shop-developers/shop\"",
        },
    })
}

/// Objects are merged by key; `"<missing>"` removes one, which TOML has no other way to say.
fn merge_json(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value == json!("<missing>") {
                    base.remove(&key);
                } else {
                    merge_json(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
    }
}

fn to_json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(truth) => json!(truth),
        toml::Value::Datetime(time) => json!(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(to_json).collect(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| (key, to_json(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::load;

    #[test]
    fn shuffling_moves_records_by_less_than_the_lateness() {
        let detectors = load::load(&load::shipped(), &[]).expect("the shipped ones load");
        let engine = Engine::new(detectors, Sites::default());
        let detector = engine
            .detectors
            .iter()
            .find(|detector| detector.id == "mass-delete")
            .expect("a shipped detector");
        let (_, case) = cases(&engine.sites, detector, &[]).remove(0);
        let matches = case.expect("its first test is made").matches(&engine);
        let mut moved = 0;
        for seed in 0..SHUFFLES {
            let mut latest = Timestamp::MIN;
            let shuffled = shuffled(&matches, seed);
            assert_eq!(shuffled.len(), matches.len());
            for found in &shuffled {
                let time = found.occurrence.clock();
                assert!(latest.duration_since(time) < LATENESS || latest < time);
                moved += usize::from(time < latest);
                latest = latest.max(time);
            }
        }
        assert!(moved > 100, "{moved} of {} came late", matches.len());
    }
}
