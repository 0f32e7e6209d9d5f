//! A traffic simulator with ground truth: what AKS clusters log on ordinary days, and attacks in it.
//!
//! Comes in: a [`Scenario`] (seed, time, clusters, campaigns). Goes out: records as Azure writes
//! them, in the order of time ([`Simulator`] is an iterator), and the [`Truth`] of what is in them.
//! The same scenario gives the same bytes, always. The demo publishes them as they come due; an
//! [`archive`] holds them by the hour.
//!
//! ```text
//! site, cast, world  who and what there is       ─┐
//! life               ordinary routines, by turns  ├─ agenda (by time) → event → record → bytes
//! attack             campaigns, round by round   ─┘                       └→ truth
//! ```

pub mod archive;
mod attack;
mod body;
mod cast;
pub mod evaluate;
mod event;
mod identity;
mod life;
pub mod record;
mod rng;
pub mod score;
pub mod site;
pub mod truth;
mod world;

use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use event::Event;
use life::Routine;
use rng::Rng;
use site::Site;
use world::World;

pub use truth::{Campaign, Family, Step, Truth, Verdict};
pub use world::ClusterSpec;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub start: Timestamp,
    pub duration: Duration,
    pub clusters: Vec<ClusterSpec>,
    /// Hours that the site's clocks are ahead of UTC: decides who is at work at `start`.
    pub clock: i8,
    pub campaigns: Campaigns,
}

impl Scenario {
    /// The `clock` by which it is Wednesday afternoon at `start`, so that people are at work.
    pub fn office_hours(start: Timestamp) -> i8 {
        let now = TimeZone::UTC.to_datetime(start);
        let days = 2 - i16::from(now.weekday().to_monday_zero_offset());
        (days * 24 + 15 - i16::from(now.hour())) as i8
    }
}

/// How many attacks there are, and when.
#[derive(Debug, Clone)]
pub struct Campaigns {
    /// Attacks of each of the six families in a round; 0 for a quiet site.
    pub per_family: usize,
    /// Intrusions of many acts in a round.
    pub intrusions: usize,
    /// How long nothing is attacked, so that what is ordinary can be learned.
    pub quiet: Duration,
    /// Rounds follow one another for as long as the scenario lasts.
    pub round: Duration,
    /// The part of a round in which attacks begin; each at a moment of its own.
    pub window: (f64, f64),
    /// Whether people do what attackers do as well, for good reasons ([`Verdict::Notable`]).
    pub notable: bool,
}

/// One record of the stream.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the API server wrote it.
    pub time: Timestamp,
    /// Index into [`Scenario::clusters`].
    pub cluster: usize,
    pub category: &'static str,
    /// Set where it belongs to a campaign.
    pub mark: Option<Mark>,
    /// One JSON object, without a line's end.
    pub bytes: Vec<u8>,
}

/// What a record has to do with a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// [`Campaign::id`].
    pub campaign: u32,
    pub audit_id: String,
}

/// Something to be logged at a time.
#[derive(Debug)]
pub(crate) struct Emission {
    time: Timestamp,
    cluster: usize,
    truth: Option<u32>,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    Audit(Box<Event>),
    Line {
        category: &'static str,
        text: String,
    },
}

/// What routines write to.
pub(crate) struct Traffic<'a> {
    pub now: Timestamp,
    pub rng: &'a mut Rng,
    cluster: usize,
    out: &'a mut Vec<Emission>,
}

impl Traffic<'_> {
    pub fn send(&mut self, event: Event) {
        self.out.push(Emission {
            time: event.staged,
            cluster: self.cluster,
            truth: None,
            payload: Payload::Audit(Box::new(event)),
        });
    }

    pub fn send_all(&mut self, events: [Event; 2]) {
        events.into_iter().for_each(|event| self.send(event));
    }

    pub fn line(&mut self, category: &'static str, text: String) {
        self.out.push(Emission {
            time: self.now,
            cluster: self.cluster,
            truth: None,
            payload: Payload::Line { category, text },
        });
    }

    /// Lets time pass within a turn.
    pub fn pass(&mut self, low: f64, high: f64) {
        self.now += Duration::from_secs_f64(self.rng.between(low, high));
    }
}

/// Yields the scenario's records in the order of time.
pub struct Simulator {
    scenario: Scenario,
    end: Timestamp,
    site: Site,
    worlds: Vec<World>,
    rngs: Vec<Rng>,
    attackers: attack::Attackers,
    truth: Truth,
    agenda: BinaryHeap<Entry>,
    sequence: u64,
    ready: VecDeque<Record>,
}

struct Entry {
    time: Timestamp,
    sequence: u64,
    due: Due,
}

enum Due {
    Turn { world: usize, routine: Routine },
    Round(u32),
    Emit(Emission),
}

impl Simulator {
    pub fn new(scenario: Scenario) -> Simulator {
        let site = Site::new(scenario.seed);
        let worlds: Vec<World> = scenario
            .clusters
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                let mut world = World::new(scenario.seed, index, spec.clone(), &site);
                world.opened = scenario.start;
                world.clock = scenario.start;
                world
            })
            .collect();
        let rngs = (0..worlds.len())
            .map(|index| Rng::stream(scenario.seed, &format!("life {index}")))
            .collect();
        let mut simulator = Simulator {
            end: scenario.start + scenario.duration,
            attackers: attack::Attackers::new(scenario.seed, &site),
            truth: Truth {
                seed: scenario.seed,
                start: Some(scenario.start),
                end: Some(scenario.start + scenario.duration),
                attacked_from: Some(scenario.start + scenario.campaigns.quiet),
                clusters: worlds
                    .iter()
                    .map(|world| world.envelope.resource_id.to_lowercase())
                    .collect(),
                campaigns: Vec::new(),
            },
            agenda: BinaryHeap::new(),
            sequence: 0,
            ready: VecDeque::new(),
            scenario,
            site,
            worlds,
            rngs,
        };
        let start = simulator.scenario.start;
        for index in 0..simulator.worlds.len() {
            let turns = life::routines(&simulator.worlds[index], &mut simulator.rngs[index]);
            for (routine, wait) in turns {
                let due = Due::Turn {
                    world: index,
                    routine,
                };
                simulator.push(start + wait, due);
            }
        }
        let campaigns = &simulator.scenario.campaigns;
        if campaigns.per_family + campaigns.intrusions > 0 || campaigns.notable {
            let first = start + campaigns.quiet;
            simulator.push(first, Due::Round(0));
        }
        simulator
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The campaigns of the rounds that have begun.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The ARM id of a cluster, in lower case.
    pub fn cluster_id(&self, cluster: usize) -> String {
        self.worlds[cluster].envelope.resource_id.to_lowercase()
    }

    fn push(&mut self, time: Timestamp, due: Due) {
        self.sequence += 1;
        self.agenda.push(Entry {
            time,
            sequence: self.sequence,
            due,
        });
    }

    fn turn(&mut self, time: Timestamp, index: usize, routine: Routine) {
        let mut out = Vec::new();
        let world = &mut self.worlds[index];
        world.clock = time;
        let mut traffic = Traffic {
            now: time,
            rng: &mut self.rngs[index],
            cluster: index,
            out: &mut out,
        };
        let mut wait = life::turn(routine, world, &mut traffic, self.scenario.clock);
        match routine.pace() {
            // What operators do is rare enough as it is.
            life::Pace::Operators => wait = wait.div_f64(world.spec.tempo.max(0.05)),
            life::Pace::Machines => wait = wait.div_f64(world.spec.tempo),
            life::Pace::People => {}
        }
        // Nothing repeats within a millisecond, whatever the tempo.
        let wait = wait.max(Duration::from_millis(1));
        let due = Due::Turn {
            world: index,
            routine,
        };
        self.push(time + wait, due);
        self.emit_all(out);
    }

    fn emit_all(&mut self, emissions: Vec<Emission>) {
        for emission in emissions {
            self.push(emission.time, Due::Emit(emission));
        }
    }

    fn round(&mut self, time: Timestamp, number: u32) {
        let plans = self.scenario.campaigns.clone();
        let mut out = Vec::new();
        self.attackers.plan(
            time,
            &plans,
            &mut self.worlds,
            &mut self.truth,
            self.end,
            &mut out,
        );
        self.emit_all(out);
        self.push(time + plans.round, Due::Round(number + 1));
    }

    fn emit(&mut self, emission: Emission) {
        let index = emission.cluster;
        let world = &self.worlds[index];
        let rng = &mut self.rngs[index];
        let writer = rng.below(2);
        // The agent that ships the log adds its own time.
        let time = emission.time + Duration::from_nanos(20_000 + rng.below(400_000) as u64);
        let mark = match &emission.payload {
            Payload::Audit(event) => emission.truth.map(|campaign| Mark {
                campaign,
                audit_id: event.audit_id.clone(),
            }),
            Payload::Line { .. } => None,
        };
        let mut record = |category: &'static str, stream: &str, payload: &str| {
            self.ready.push_back(Record {
                time: emission.time,
                cluster: index,
                category,
                mark: mark.clone(),
                bytes: world
                    .envelope
                    .record(category, stream, payload, time, writer),
            });
        };
        match emission.payload {
            Payload::Line { category, text } => record(category, "stderr", &text),
            Payload::Audit(event) => {
                let mut text = String::with_capacity(2048);
                event.write(&mut text);
                record("kube-audit", "stdout", &text);
                if world.spec.both_categories && !matches!(event.verb, "get" | "list") {
                    record("kube-audit-admin", "stdout", &text);
                }
            }
        }
    }
}

impl Iterator for Simulator {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(record);
            }
            if self.agenda.peek()?.time >= self.end {
                return None;
            }
            let Entry { time, due, .. } = self.agenda.pop()?;
            match due {
                Due::Turn { world, routine } => self.turn(time, world, routine),
                Due::Round(number) => self.round(time, number),
                Due::Emit(emission) => self.emit(emission),
            }
        }
    }
}

/// The earliest first; of the same time, the one planned first.
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (other.time, other.sequence).cmp(&(self.time, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests;
