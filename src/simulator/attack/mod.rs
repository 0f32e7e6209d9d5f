//! Attacks: campaigns of the six founding families, each with its steps in the truth.
//!
//! A [`Play`] is a way to attack; [`Attackers::plan`] deals plays out over a round, each to an actor
//! of its own at a moment of its own, hidden among ordinary life.

mod dashboard;
mod exec;
mod intrusion;
mod notable;
mod port_forward;
mod rbac;
mod source_ip;
mod technique;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::event::{Client, Event};
use super::identity::Identity;
use super::rng::Rng;
use super::site::{Duty, Person, Site, person, uses_websocket};
use super::truth::{Campaign, Family, Step, Truth, Verdict};
use super::world::{ADMIN_REASON, World};
use super::{Campaigns, Emission, Payload};

/// One way to attack.
pub(crate) struct Play {
    name: &'static str,
    family: Family,
    /// Rows of the coverage table that name it.
    rows: &'static [&'static str],
    attack: &'static [&'static str],
    run: fn(&mut Stage<'_>),
}

impl Play {
    const fn of(
        family: Family,
        name: &'static str,
        rows: &'static [&'static str],
        attack: &'static [&'static str],
        run: fn(&mut Stage<'_>),
    ) -> Play {
        Play {
            name,
            family,
            rows,
            attack,
            run,
        }
    }
}

/// Plays of all families.
fn plays() -> impl Iterator<Item = &'static Play> {
    [
        dashboard::PLAYS,
        port_forward::PLAYS,
        exec::PLAYS,
        rbac::ESCALATION,
        rbac::BINDINGS,
        source_ip::PLAYS,
    ]
    .into_iter()
    .flatten()
}

/// Deals out campaigns; remembers which plays and actors were used.
pub(crate) struct Attackers {
    rng: Rng,
    /// Those whose identities were not misused yet.
    staff: Vec<Person>,
    people: Vec<Person>,
    strangers: u32,
    /// Plays not dealt yet, by family.
    decks: Vec<(Family, Vec<&'static Play>)>,
}

impl Attackers {
    pub fn new(seed: u64, site: &Site) -> Attackers {
        Attackers {
            rng: Rng::stream(seed, "attack"),
            staff: site.people.clone(),
            people: site.people.clone(),
            strangers: 0,
            decks: Family::ALL.map(|family| (family, Vec::new())).to_vec(),
        }
    }

    /// Plans a round's campaigns from `begin` on.
    pub fn plan(
        &mut self,
        begin: Timestamp,
        plans: &Campaigns,
        worlds: &mut [World],
        truth: &mut Truth,
        end: Timestamp,
        out: &mut Vec<Emission>,
    ) {
        let mut dealt: Vec<(&'static Play, Verdict)> = Vec::new();
        for family in Family::ALL {
            for _ in 0..plans.per_family {
                dealt.push((self.deal(family), Verdict::Attack));
            }
        }
        for _ in 0..plans.intrusions {
            dealt.push((&intrusion::PLAY, Verdict::Attack));
        }
        if plans.notable {
            dealt.extend(notable::PLAYS.iter().map(|play| (play, Verdict::Notable)));
        }
        let round = plans.round.as_secs_f64();
        for (play, verdict) in dealt {
            let (from, until) = plans.window;
            let at = begin + Duration::from_secs_f64(round * self.rng.between(from, until));
            let world = &mut worlds[self.rng.below(worlds.len())];
            let actor = match verdict {
                Verdict::Attack => self.actor(),
                Verdict::Notable => self.rng.pick(&self.people).clone(),
            };
            world.clock = at;
            let mut stage = Stage {
                // Steps take their time, but a campaign ends in its round.
                pace: (round / 1000.0).clamp(0.01, 12.0),
                now: at,
                actor,
                id: truth.campaigns.len() as u32,
                attacks: verdict == Verdict::Attack,
                rng: &mut self.rng,
                world,
                end,
                act: 0,
                technique: "",
                title: None,
                steps: Vec::new(),
                out,
            };
            (play.run)(&mut stage);
            let campaign = Campaign {
                id: stage.id,
                name: stage.title.take().map_or(play.name.into(), Into::into),
                family: play.family,
                verdict,
                rows: play.rows.iter().map(|row| (*row).into()).collect(),
                attack: play.attack.iter().map(|id| (*id).into()).collect(),
                actor: stage.actor.identity.name.clone(),
                cluster: stage.world.envelope.resource_id.to_lowercase(),
                steps: stage.steps,
            };
            truth.campaigns.push(campaign);
        }
    }

    /// The next play of a family; each comes once before any comes again.
    fn deal(&mut self, family: Family) -> &'static Play {
        let deck = self
            .decks
            .iter_mut()
            .find(|(of, _)| *of == family)
            .map(|(_, deck)| deck)
            .expect("every family has a deck");
        if deck.is_empty() {
            deck.extend(plays().filter(|play| play.family == family));
        }
        let place = self.rng.below(deck.len());
        deck.swap_remove(place)
    }

    /// Whose identity is misused: of the staff while there is one unused, then a contractor's.
    fn actor(&mut self) -> Person {
        if !self.staff.is_empty() && self.rng.chance(0.6) {
            let place = self.rng.below(self.staff.len());
            return self.staff.swap_remove(place);
        }
        self.strangers += 1;
        let name = format!("contractor-{}@example.com", self.strangers);
        Person {
            identity: person(&mut self.rng, &name, Duty::Developer),
            duty: Duty::Developer,
            begins: 0,
            host: 100 + (self.strangers % 27) as u8,
            agent: "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0",
        }
    }
}

/// What a play acts on.
pub(crate) struct Stage<'a> {
    now: Timestamp,
    pace: f64,
    actor: Person,
    id: u32,
    attacks: bool,
    /// What would come after it never happens.
    end: Timestamp,
    act: u32,
    technique: &'static str,
    /// In place of the play's name.
    title: Option<String>,
    pub rng: &'a mut Rng,
    pub world: &'a mut World,
    steps: Vec<Step>,
    out: &'a mut Vec<Emission>,
}

impl Stage<'_> {
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The attacker with the actor's own credential, at the actor's own place of work.
    pub fn insider(&mut self) -> Client {
        let client = self.world.at_work(&self.actor, self.rng);
        client.allowed_by(ADMIN_REASON)
    }

    /// The actor's credential in foreign hands, from `address`.
    pub fn outsider(&self, address: &str, agent: &str) -> Client {
        self.world
            .outside(&self.actor.identity, address, agent, ADMIN_REASON)
    }

    /// A service account's token, taken from a pod.
    pub fn stolen(&mut self, namespace: &str, account: &str) -> Arc<Identity> {
        let node = self.world.nodes[0].name.clone();
        let pod = format!("{account}-{}", self.rng.suffix(5));
        Identity::service_account(self.rng, namespace, account, &pod, &node)
    }

    /// The verb of a connection's upgrade: by WebSocket or by SPDY.
    pub fn upgrade(&mut self) -> &'static str {
        if uses_websocket(self.actor.agent) {
            "get"
        } else {
            "create"
        }
    }

    /// Someone's pod: namespace, workload and name. Intruders stay out of one another's; who works
    /// there for good reasons does not.
    pub fn victim(&mut self) -> (String, String, String) {
        let free: Vec<usize> = (0..self.world.apps.len())
            .filter(|app| {
                let others = |(by, of): &(u32, usize)| *by != self.id && of == app;
                !self.attacks || !self.world.broken_into.iter().any(others)
            })
            .collect();
        let place = match free.as_slice() {
            [] => self.rng.below(self.world.apps.len()),
            free => *self.rng.pick(free),
        };
        if self.attacks {
            self.world.reached.push((self.id, place));
        }
        let app = &self.world.apps[place];
        let pod = self.rng.pick(&app.pods);
        (app.namespace.clone(), app.name.clone(), pod.name.clone())
    }

    /// A request that shows the attack.
    pub fn strike(&mut self, action: &str, event: Event) {
        self.step(action, event, true);
    }

    /// A request that goes with it and proves nothing.
    pub fn prepare(&mut self, action: &str, event: Event) {
        self.step(action, event, false);
    }

    /// A long-running request that shows the attack, with both its stages.
    pub fn strike_long(&mut self, action: &str, event: Event, seconds: f64) {
        let lasts = Duration::from_secs_f64(seconds * self.pace);
        let [started, complete] = event.long(lasts);
        self.step(action, started, true);
        self.emit(complete);
    }

    fn step(&mut self, action: &str, event: Event, decisive: bool) {
        self.note(action, &event, decisive);
        self.emit(event);
        let wait = self.rng.between(4.0, 30.0) * self.pace;
        self.now += Duration::from_secs_f64(wait);
        self.world.clock = self.now;
    }

    /// What the cluster does because of it: controllers that make pods of a template.
    pub fn follow(&mut self, action: &str, event: Event) {
        self.note(action, &event, false);
        self.emit(event);
    }

    fn note(&mut self, action: &str, event: &Event, decisive: bool) {
        if event.staged >= self.end {
            return;
        }
        self.steps.push(Step {
            audit_id: event.audit_id.clone(),
            time: event.staged,
            action: action.to_owned(),
            decisive,
            act: self.act,
            technique: self.technique.into(),
        });
    }

    /// The next act begins, after `pause` seconds.
    pub fn begin(&mut self, technique: &'static str, pause: f64) {
        self.act += 1;
        self.technique = technique;
        self.now += Duration::from_secs_f64(pause);
        self.world.clock = self.now;
    }

    fn emit(&mut self, event: Event) {
        self.out.push(Emission {
            time: event.staged,
            cluster: self.world.index,
            truth: Some(self.id),
            payload: Payload::Audit(Box::new(event)),
        });
    }
}
