use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::alert::group::{Cause, Groups, alert_of};
use crate::detect::Outcome;
use crate::detect::matches::{Digest128, Match, StateKey};
use crate::detect::occurrence::{Occurrence, Whom, Word};
use crate::detect::order::{Judge, Judgement, Learning};
use crate::detect::{Detector, Engine, load};
use crate::event::tie::{Role, TraceKind};
use crate::event::{AuditEvent, Stage, User};

const BEGIN: i64 = 1_790_000_000;
const HOUR: i64 = 3_600;

fn detectors() -> Vec<Detector> {
    load::load(&load::shipped(), &[]).expect("the shipped detectors load")
}

fn index(detectors: &[Detector], id: &str) -> crate::detect::index::DetectorIndex {
    let place = detectors.iter().position(|detector| detector.id == id);
    place.expect("a shipped detector") as _
}

/// `user` does something at `seconds` that leaves `traces`, as one who acts.
fn judgement(
    detectors: &[Detector],
    id: &str,
    user: &str,
    seconds: i64,
    traces: &[(TraceKind, &str)],
) -> Judgement {
    let ties: Vec<_> = traces
        .iter()
        .map(|(kind, value)| (Role::Acts, *kind, *value))
        .collect();
    tied(detectors, id, user, seconds, &ties)
}

/// The alert of a detector's findings that agree in `group`.
fn fingerprint_of(id: &str, group: &str) -> Digest128 {
    Digest128::of([id.as_bytes(), group.as_bytes()])
}

fn tied(
    detectors: &[Detector],
    id: &str,
    user: &str,
    seconds: i64,
    traces: &[(Role, TraceKind, &str)],
) -> Judgement {
    let time = Timestamp::from_second(BEGIN + seconds).expect("a time");
    let audit_id = format!("{id} {user} {seconds}");
    let event = AuditEvent {
        audit_id: audit_id.as_str().into(),
        stage: Stage::ResponseComplete,
        verb: "get".into(),
        user: User {
            username: user.into(),
            ..User::default()
        },
        source_ips: vec!["203.0.113.9".into()],
        user_agent: "curl".into(),
        ..AuditEvent::default()
    };
    let mut occurrence = Occurrence::tied(&event, "/c", time, traces);
    occurrence.came_from = "outside the trusted networks";
    let found = Match {
        detector: index(detectors, id),
        severity: Severity::High,
        exception: None,
        fingerprint: fingerprint_of(id, user),
        habit: None,
        usual: false,
        state: StateKey::None,
        summary: format!("{user} (203.0.113.9) did {id}").into(),
        known: None,
        on_behalf_of: Vec::new(),
        note: None,
        occurrence: Arc::new(occurrence),
    };
    Judgement {
        found,
        outcome: Outcome::Alert,
        reason: String::new(),
    }
}

fn add(incidents: &mut Incidents, detectors: &[Detector], judgement: &Judgement) -> Digest128 {
    let detector = &detectors[judgement.found.detector as usize];
    let alert = alert_of(detector, judgement, Timestamp::UNIX_EPOCH);
    let finding = Finding {
        found: &judgement.found,
        alert: &alert,
    };
    incidents.add(&finding).expect("no hygiene").0
}

fn closed(incidents: &mut Incidents) -> Vec<Incident> {
    let mut closed: Vec<Incident> = incidents
        .close_all()
        .into_iter()
        .map(|closing| closing.incident())
        .collect();
    closed.sort_by(|a, b| a.id.cmp(&b.id));
    closed
}

#[test]
fn what_wakes_nobody_joins_by_who_did_it_from_where() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let object = (TraceKind::Object, "deployments shop/web");
    let bob = (TraceKind::Identity, "bob");
    add(
        &mut incidents,
        &detectors,
        &judgement(&detectors, "pod-exec", "eve", 0, &[EVE, object]),
    );
    for (user, seconds, traces) in [("bob", 60, [bob, object]), ("eve", 120, [EVE, object])] {
        let mut low = judgement(&detectors, "permissions-listed", user, seconds, &traces);
        low.found.severity = Severity::Low;
        add(&mut incidents, &detectors, &low);
    }
    let mut closed = closed(&mut incidents);
    closed.sort_by_key(|incident| incident.steps.len());
    let actors: Vec<_> = closed.iter().map(|incident| &incident.actors[..]).collect();
    assert_eq!(actors, [["bob"], ["eve"]]);
    assert_eq!(closed[1].steps.len(), 2);
}

/// Everyday work of who goes wrong is no part of it, but what is done to the same thing is, and so is
/// what is new.
#[test]
fn everyday_work_joins_by_the_object_only() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let web = |found: &mut Match, name: &str| {
        let occurrence = Arc::get_mut(&mut found.occurrence).expect("nobody else has it");
        occurrence.set(Word::Resource, "deployments");
        occurrence.set(Word::Name, name);
    };
    let mut grave = judgement(&detectors, "pod-privileged", "eve", 0, &[EVE]);
    web(&mut grave.found, "web");
    let incident = add(&mut incidents, &detectors, &grave);
    let address = (TraceKind::Address, "203.0.113.9 with curl");
    for (seconds, severity, usual, object, traces, joins) in [
        (60, Severity::Low, true, "api", &[EVE][..], false),
        (61, Severity::Low, true, "web", &[EVE], true),
        (62, Severity::Low, false, "api", &[EVE], true),
        (63, Severity::Medium, true, "db", &[EVE], true),
        (64, Severity::High, false, "cart", &[EVE, address], true),
        (65, Severity::Low, true, "other", &[EVE, address], true),
    ] {
        let mut next = judgement(&detectors, "port-forward", "eve", seconds, traces);
        next.found.fingerprint = fingerprint_of("port-forward", &seconds.to_string());
        next.found.severity = severity;
        next.found.usual = usual;
        web(&mut next.found, object);
        let joined = add(&mut incidents, &detectors, &next) == incident;
        assert_eq!(joined, joins, "{seconds}");
    }
    // Who deletes everything deletes what they worked on in the morning.
    let mut deleted = judgement(&detectors, "mass-delete", "eve", 66, &[EVE]);
    web(&mut deleted.found, "api");
    deleted.found.state = StateKey::Count {
        novelty: None,
        key: Digest128(1),
        distinct: Some(1),
    };
    assert_eq!(add(&mut incidents, &detectors, &deleted), incident);
    let alone = closed(&mut incidents);
    assert_eq!(alone.len(), 2);
    let told = alone.iter().find(|incident| incident.steps.len() > 1);
    let by: Vec<&str> = told.map_or(vec![], |of| {
        of.joined_by.iter().map(|t| t.value.as_str()).collect()
    });
    assert_eq!(by, ["eve", "203.0.113.9 with curl"]);
}

#[test]
fn of_a_long_step_the_first_and_the_last_requests_are_named() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    for at in 0..101 {
        let shuffled = at * 37 % 101;
        let next = judgement(&detectors, "pod-exec", "eve", shuffled, &[EVE]);
        add(&mut incidents, &detectors, &next);
    }
    let named: Vec<String> = (0..16)
        .chain(85..101)
        .map(|at| format!("pod-exec eve {at}"))
        .collect();
    assert_eq!(closed(&mut incidents)[0].steps[0].audit_ids, named);
}

#[test]
fn what_was_found_of_the_actor_on_an_earlier_day_is_usual() {
    let engine = Engine::new(detectors(), Default::default());
    let mut judge = Judge::new(Learning::Own);
    let mut usual = |id: &str, user: &str, hours: i64, severity: Severity, agent: &str| {
        let judgement = judgement(&engine.detectors, id, user, hours * HOUR, &[EVE]);
        let mut found = judgement.found;
        let occurrence = Arc::get_mut(&mut found.occurrence).expect("it is new");
        occurrence.set(Word::UserAgent, agent);
        found.severity = severity;
        let judged = judge.judge(&engine, found);
        assert_eq!(judged.outcome, Outcome::Alert);
        judged.found.usual
    };
    let low = Severity::Low;
    assert!(!usual("pod-exec", "eve", 0, low, "kubectl/v1.32"));
    assert!(!usual("pod-exec", "eve", 11, low, "kubectl/v1.32"));
    assert!(usual("pod-exec", "eve", 30, low, "kubectl/v1.33"));
    assert!(!usual("pod-exec", "eve", 31, low, "curl/8"));
    assert!(!usual(
        "pod-exec",
        "eve",
        32,
        Severity::Medium,
        "kubectl/v1.33"
    ));
    assert!(!usual("port-forward", "eve", 30, low, "kubectl/v1.32"));
    assert!(!usual("pod-exec", "bob", 30, low, "kubectl/v1.32"));
}

/// The platform fills secrets, and makes pods, for one intruder as for another.
#[test]
fn what_the_platform_does_joins_by_what_it_does_it_to() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let platform = "system:kube-controller-manager";
    for (seconds, secret) in [(0, "secrets a/token"), (60, "secrets b/token")] {
        let made = (Role::Made, TraceKind::Object, secret);
        let took = (Role::Took, TraceKind::Object, secret);
        let eve = (Role::Acts, TraceKind::Identity, secret);
        let filled = tied(
            &detectors,
            "token-secret-filled",
            platform,
            seconds,
            &[made],
        );
        add(&mut incidents, &detectors, &filled);
        let read = tied(
            &detectors,
            "secrets-listed",
            secret,
            seconds + 9,
            &[took, eve],
        );
        add(&mut incidents, &detectors, &read);
    }
    let closed = closed(&mut incidents);
    let steps: Vec<usize> = closed.iter().map(|of| of.steps.len()).collect();
    assert_eq!(steps, [2, 2]);
}

/// Who is in the incident of a token that is abroad from 100 on, if somebody went into its pod at
/// `reached`.
fn actors_beside_the_thief(reached: i64) -> usize {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let pod = "shop/web-0";
    let took = [
        (Role::Acts, TraceKind::Identity, "bob"),
        (Role::Took, TraceKind::CarriedOff, pod),
    ];
    let went = tied(&detectors, "pod-exec", "bob", reached, &took);
    let abroad = |seconds| {
        let acts = [
            (Role::Acts, TraceKind::Credential, "JTI=1"),
            (Role::Acts, TraceKind::CarriedOff, pod),
        ];
        tied(&detectors, "secrets-listed", "sa", seconds, &acts)
    };
    for found in [abroad(100), went, abroad(300)] {
        add(&mut incidents, &detectors, &found);
    }
    let closed = closed(&mut incidents);
    let thief = closed
        .iter()
        .find(|of| of.actors.iter().any(|actor| actor == "sa"));
    thief.expect("it acted").actors.len()
}

#[test]
fn whoever_goes_into_a_pod_has_carried_off_what_is_abroad_only_afterwards() {
    assert_eq!(actors_beside_the_thief(50), 2);
    assert_eq!(actors_beside_the_thief(200), 1);
}

#[test]
fn a_pod_that_one_finding_is_about_joins_nothing() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let eve = (Role::Acts, TraceKind::Identity, "eve");
    let took = |kind| (Role::Took, kind, "shop/web-0");
    let traces = [eve, took(TraceKind::Pod), took(TraceKind::CarriedOff)];
    for (id, seconds, traces) in [
        ("pod-exec", 0, &traces[..]),
        ("secrets-listed", 9, &traces[..1]),
    ] {
        let found = tied(&detectors, id, "eve", seconds, traces);
        add(&mut incidents, &detectors, &found);
    }
    let closed = closed(&mut incidents);
    let joined: Vec<&str> = closed[0]
        .joined_by
        .iter()
        .map(|t| t.value.as_str())
        .collect();
    assert_eq!(joined, ["eve"]);
}

#[test]
fn what_the_platform_does_for_somebody_is_theirs() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    for (seconds, user) in [(0, "eve"), (60, "bob")] {
        let identity = (Role::Acts, TraceKind::Identity, user);
        let listed = tied(&detectors, "secrets-listed", user, seconds, &[identity]);
        add(&mut incidents, &detectors, &listed);
        let mut filled = tied(
            &detectors,
            "token-secret-filled",
            "platform",
            seconds + 9,
            &[],
        );
        filled.found.on_behalf_of = vec![Whom {
            user: user.to_owned(),
            address: "203.0.113.9".to_owned(),
        }];
        add(&mut incidents, &detectors, &filled);
    }
    let closed = closed(&mut incidents);
    let steps: Vec<usize> = closed.iter().map(|of| of.steps.len()).collect();
    assert_eq!(steps, [2, 2]);
}

const EVE: (TraceKind, &str) = (TraceKind::Identity, "eve");

#[test]
fn steps_are_joined_over_what_they_share_and_told_in_order() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let token = (TraceKind::Credential, "JTI=1");
    let account = (TraceKind::Identity, "sa");
    for (id, user, seconds, traces) in [
        ("token-requested", "eve", 120, &[EVE, token][..]),
        ("permissions-listed", "eve", 0, &[EVE]),
        ("secrets-listed", "sa", 600, &[token, account]),
        ("pod-exec", "bob", 300, &[(TraceKind::Identity, "bob")]),
    ] {
        add(
            &mut incidents,
            &detectors,
            &judgement(&detectors, id, user, seconds, traces),
        );
    }
    let mut closed = closed(&mut incidents);
    closed.sort_by_key(|incident| incident.steps.len());
    let [bob, eve] = closed.as_slice() else {
        panic!("{closed:#?}");
    };
    assert_eq!(bob.actors, ["bob"]);
    assert_eq!(eve.actors, ["eve", "sa"]);
    let steps: Vec<&str> = eve
        .steps
        .iter()
        .map(|step| step.detector.as_str())
        .collect();
    assert_eq!(
        steps,
        ["permissions-listed", "token-requested", "secrets-listed"]
    );
    assert_eq!(
        eve.tactics,
        ["privilege-escalation", "credential-access", "discovery"]
    );
    assert_eq!(
        eve.account,
        "Between 14:13 and 14:23 UTC on 2026-09-21, eve from 203.0.113.9 (outside the trusted \
         networks) first did permissions-listed, then did token-requested; then sa did \
         secrets-listed. In terms of ATT&CK: privilege escalation, credential access and \
         discovery."
    );
    assert_eq!(
        eve.summary,
        "eve and another identity: 3 steps within 10 minutes (privilege escalation, credential \
         access and discovery)"
    );
    let joined: Vec<&str> = eve.joined_by.iter().map(|t| t.value.as_str()).collect();
    assert_eq!(joined, ["eve", "JTI=1"]);
}

#[test]
fn what_shares_nothing_or_comes_too_late_is_apart() {
    let detectors = detectors();
    let mut incidents = Incidents::new(SignedDuration::from_hours(1));
    for (id, user, seconds, traces) in [
        ("pod-exec", "eve", 0, &[EVE][..]),
        ("secrets-listed", "eve", HOUR + 1, &[EVE]),
        ("secrets-listed", "", 10, &[]),
        ("permissions-listed", "", 20, &[]),
    ] {
        let judgement = judgement(&detectors, id, user, seconds, traces);
        add(&mut incidents, &detectors, &judgement);
    }
    assert_eq!(incidents.len(), 4);
    let before = incidents.close_quiet(Timestamp::from_second(BEGIN + HOUR + 30).expect("a time"));
    assert_eq!(before.len(), 3);
    // What comes between joins what lies on both sides.
    let mut incidents = Incidents::new(SignedDuration::from_hours(1));
    for seconds in [0, 2 * HOUR, HOUR] {
        let judgement = judgement(&detectors, "pod-exec", "eve", seconds, &[EVE]);
        add(&mut incidents, &detectors, &judgement);
    }
    assert_eq!(incidents.len(), 1);
}

/// What each does leads to what comes after it, and never the other way round.
#[test]
fn what_one_makes_or_takes_joins_what_is_done_with_it_later() {
    use Role::{Acts, Bears, Made, Took};
    let detectors = detectors();
    let incidents = |first: Role, later: Role| {
        let pod = TraceKind::Pod;
        let mut incidents = Incidents::default();
        let one = tied(&detectors, "pod-exec", "", 0, &[(first, pod, "shop/web")]);
        let two = tied(
            &detectors,
            "secrets-listed",
            "",
            60,
            &[(later, pod, "shop/web")],
        );
        let (first, second) = (add(&mut incidents, &detectors, &one), &two);
        let second = add(&mut incidents, &detectors, second);
        // Late, it is the same.
        let mut turned = Incidents::default();
        add(&mut turned, &detectors, &two);
        add(&mut turned, &detectors, &one);
        assert_eq!(turned.len(), incidents.len());
        first == second
    };
    for (first, later, joined) in [
        (Made, Took, true),
        (Made, Acts, true),
        (Made, Bears, true),
        (Took, Acts, true),
        (Took, Bears, true),
        (Acts, Acts, true),
        (Made, Made, false),
        (Took, Took, false),
        (Took, Made, false),
        (Acts, Made, false),
        (Acts, Took, false),
        (Acts, Bears, false),
        (Bears, Acts, false),
        (Bears, Bears, false),
    ] {
        assert_eq!(incidents(first, later), joined, "{first:?}, then {later:?}");
    }
}

#[test]
fn a_receiver_is_told_at_once_then_of_news_when_the_pause_is_over() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let now = |seconds| Timestamp::from_second(BEGIN + seconds).expect("a time");
    let pause = SignedDuration::from_secs(30);
    let step = |incidents: &mut Incidents, id, seconds| {
        let judgement = judgement(&detectors, id, "eve", seconds, &[EVE]);
        let key = add(incidents, &detectors, &judgement);
        incidents.tell(key, vec!["webhook.soc".to_owned()]);
    };
    step(&mut incidents, "pod-exec", 10);
    let told = incidents.take_due(now(0), pause);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, ["webhook.soc"]);
    assert!(told[0].0.notification_id.contains("-1-"));
    step(&mut incidents, "secrets-listed", 20);
    assert!(incidents.take_due(now(10), pause).is_empty());
    // What is owed is not forgotten by a restart.
    let snapshot = incidents.snapshot();
    let mut incidents = Incidents::default();
    incidents.apply(snapshot);
    let told = incidents.take_due(now(31), pause);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0.steps.len(), 2);
    assert!(told[0].0.notification_id.contains("-2-"));
    assert!(told[0].0.replaces.is_empty());
    // An earlier step, which came late, gives the incident its id.
    step(&mut incidents, "permissions-listed", 0);
    let again = incidents.take_due(now(99), pause);
    assert_eq!(again[0].0.replaces, [told[0].0.id.clone()]);
    assert!(incidents.take_due(now(999), pause).is_empty());
    let closed = incidents.close_all();
    assert_eq!(closed[0].receivers(), ["webhook.soc"]);
    assert_eq!(closed[0].incident().status, Status::Closed);
    assert!(!closed[0].is_owed());
}

#[test]
fn what_one_hostile_identity_does_is_bounded() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    for i in 0..3_000 {
        let pod = format!("pod-{i}");
        let user = format!("eve-{i}");
        let traces = [EVE, (TraceKind::Pod, pod.as_str())];
        let judgement = judgement(&detectors, "pod-exec", &user, i, &traces);
        add(&mut incidents, &detectors, &judgement);
    }
    let closed = closed(&mut incidents);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].count, 3_000);
    assert_eq!(closed[0].steps.len(), 128);
    assert!(serde_json::to_vec(&closed[0]).expect("JSON").len() < 200_000);
}

#[test]
fn a_clock_that_is_set_back_keeps_no_news_waiting() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    let debounce = SignedDuration::from_secs(60);
    let told = |incidents: &mut Incidents, seconds: i64, at: i64| {
        let judgement = judgement(&detectors, "pod-exec", "eve", seconds, &[EVE]);
        let key = add(incidents, &detectors, &judgement);
        incidents.tell(key, vec!["webhook.soc".to_owned()]);
        let now = Timestamp::from_second(BEGIN + at).expect("a time");
        incidents.take_due(now, debounce).len()
    };
    assert_eq!(told(&mut incidents, 0, 0), 1);
    assert_eq!(told(&mut incidents, 1, 30), 0, "it waits for more");
    assert_eq!(told(&mut incidents, 2, -HOUR), 1);
    assert_eq!(told(&mut incidents, 3, 30 - HOUR), 0);
    assert_eq!(told(&mut incidents, 4, 60 - HOUR), 1);
}

#[test]
fn alerts_name_their_incident() {
    let detectors = detectors();
    let engine = Engine::new(detectors, Default::default());
    let mut groups = Groups::default();
    let mut named = BTreeSet::new();
    for (id, seconds) in [("pod-exec", 0), ("secrets-listed", 9)] {
        let judgement = judgement(&engine.detectors, id, "eve", seconds, &[EVE]);
        let now = judgement.found.occurrence.clock();
        let added = groups.add(&engine, &judgement, now, SignedDuration::MAX);
        assert!(added.cause.is_some());
        let shown = groups.shown(added.fingerprint);
        named.insert(shown.expect("it is open").incident);
    }
    assert_eq!(named.len(), 1);
    assert!(named.iter().all(Option::is_some));
}

/// Of what many do to one thing, each is told of, and nobody twice.
#[test]
fn another_actor_in_an_open_alert_is_news() {
    let engine = Engine::new(detectors(), Default::default());
    let mut groups = Groups::default();
    let mut causes = Vec::new();
    for (user, seconds) in [("ci", 0), ("ci", 9), ("eve", 20), ("ci", 30), ("eve", 40)] {
        let mut judgement = judgement(&engine.detectors, "pod-exec", user, seconds, &[EVE]);
        judgement.found.fingerprint = fingerprint_of("pod-exec", "the same object");
        let now = judgement.found.occurrence.clock();
        causes.push(
            groups
                .add(&engine, &judgement, now, SignedDuration::MAX)
                .cause,
        );
    }
    let another = Some(Cause::AnotherActor);
    assert_eq!(causes, [Some(Cause::Opened), None, another, None, None]);
}

/// `LANNER_GROUPS=1000000 cargo test --lib alerts_without_number -- --nocapture` for the shipped bound.
#[test]
fn alerts_without_number_close_to_make_room_and_are_counted() {
    let by_hand = std::env::var("LANNER_GROUPS").ok();
    let count: i64 = by_hand.map_or(3_000, |text| text.parse().expect("a number"));
    let limit = if count > 3_000 { 100_000 } else { 500 };
    let engine = Engine::new(detectors(), Default::default());
    let mut groups = Groups::bounded(limit);
    groups.set_quota(u64::MAX);
    let (mut told, mut closed) = (0, 0);
    for number in 0..count {
        let mut judgement = judgement(&engine.detectors, "pod-exec", "eve", number / 1000, &[]);
        judgement.found.fingerprint = fingerprint_of("pod-exec", &number.to_string());
        let now = judgement.found.occurrence.clock();
        let added = groups.add(&engine, &judgement, now, SignedDuration::MAX);
        told += i64::from(added.cause.is_some());
        // As the judging thread does after each batch.
        if number % 100 == 0 {
            closed += groups.close_quiet(Timestamp::MIN).len();
            groups.forget_delta();
        }
    }
    closed += groups.close_quiet(Timestamp::MIN).len();
    assert_eq!(told, count, "each is an alert of its own");
    assert_eq!(groups.len(), limit);
    assert_eq!(groups.evicted(), count as u64 - limit as u64);
    assert_eq!(
        closed as u64,
        groups.evicted(),
        "each is told to have closed"
    );
}

#[test]
fn alerts_and_incidents_keep_within_their_quota_and_the_quietest_go() {
    const QUOTA: usize = 1 << 20;
    let engine = Engine::new(detectors(), Default::default());
    let mut groups = Groups::default();
    groups.set_quota(QUOTA as u64);
    let mut last = None;
    for number in 0..2_000 {
        let user = format!("eve-{number}");
        let traces = [(TraceKind::Identity, user.as_str())];
        let mut judgement = judgement(&engine.detectors, "pod-exec", &user, number, &traces);
        judgement.found.summary = "x".repeat(400).into();
        let now = judgement.found.occurrence.clock();
        let added = groups.add(&engine, &judgement, now, SignedDuration::MAX);
        assert!(added.incident.is_some());
        last = Some(added.fingerprint);
    }
    let least = groups.len() * 400;
    assert!((least..QUOTA + 10_000).contains(&groups.bytes()));
    let incidents = &groups.incidents;
    let least = incidents.len() * 400;
    assert!((least..=QUOTA).contains(&incidents.bytes()));
    assert_eq!(groups.len() as u64 + groups.evicted(), 2_000);
    assert_eq!(incidents.len() as u64 + incidents.evicted(), 2_000);
    assert!(groups.shown(last.expect("there was one")).is_some());

    assert_eq!(groups.close_quiet(Timestamp::MAX).len(), 2_000);
    assert_eq!(groups.incidents.close_all().len(), 2_000);
    assert_eq!((groups.bytes(), groups.incidents.bytes()), (0, 0));
}

#[test]
fn an_incident_has_an_alerts_shape_for_receivers_that_know_only_these() {
    let detectors = detectors();
    let mut incidents = Incidents::default();
    for (id, seconds) in [("pod-exec", 0), ("secrets-listed", 9)] {
        let judgement = judgement(&detectors, id, "eve", seconds, &[EVE]);
        add(&mut incidents, &detectors, &judgement);
    }
    let incident = &closed(&mut incidents)[0];
    let alert = incident.to_alert();
    assert_eq!(alert.detector.title, "Incident of 2 steps");
    assert_eq!(alert.evidence.len(), 2);
    assert_eq!(alert.incident.as_deref(), Some(incident.id.as_str()));
    let json = serde_json::to_string(incident).expect("JSON");
    let back: Incident = serde_json::from_str(&json).expect("it reads what it writes");
    assert_eq!(&back, incident);
}

proptest! {
    #[test]
    fn the_order_in_which_findings_come_does_not_matter(
        findings in prop::collection::vec((0..4_usize, 0..6_i64, 0..40_i64, 0..5_usize, 0..5_usize), 1..40),
        order in any::<u64>(),
        cut in 0..40_usize,
    ) {
        const IDS: [&str; 4] = ["pod-exec", "secrets-listed", "token-requested", "port-forward"];
        const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
        let detectors = detectors_once();
        let judgements: Vec<Judgement> = findings
            .iter()
            .map(|(id, hours, minutes, user, pod)| {
                let role = Role::ALL[(minutes % 4) as usize];
                let traces = [
                    (Role::Acts, TraceKind::Identity, NAMES[*user]),
                    (role, TraceKind::Pod, NAMES[*pod]),
                ];
                let at = hours * HOUR + minutes * 60;
                let mut next = tied(detectors, IDS[*id], NAMES[*user], at, &traces[..1 + pod % 2]);
                if minutes % 3 == 0 {
                    next.found.severity = Severity::Low;
                    next.found.usual = minutes % 2 == 0;
                }
                let occurrence = Arc::get_mut(&mut next.found.occurrence).expect("it is new");
                occurrence.set(Word::Name, NAMES[(minutes % 5) as usize]);
                next
            })
            .collect();
        let run = |order: &[usize]| {
            let mut incidents = Incidents::new(SignedDuration::from_mins(45));
            for (count, at) in order.iter().enumerate() {
                add(&mut incidents, detectors, &judgements[*at]);
                if count == cut {
                    let bytes = postcard::to_stdvec(&incidents.snapshot()).expect("it is written");
                    incidents = Incidents::new(SignedDuration::from_mins(45));
                    incidents.apply(postcard::from_bytes(&bytes).expect("it is read"));
                }
            }
            let mut all = closed(&mut incidents);
            assert_eq!(incidents.bytes(), 0, "what goes is no longer counted");
            // Which alert a step names is settled by the request that opened the alert.
            for step in all.iter_mut().flat_map(|incident| &mut incident.steps) {
                step.alert.clear();
            }
            all
        };
        let straight: Vec<usize> = (0..judgements.len()).collect();
        let mut shuffled = straight.clone();
        shuffled.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
        prop_assert_eq!(run(&straight), run(&shuffled));
    }
}

fn detectors_once() -> &'static [Detector] {
    static DETECTORS: std::sync::LazyLock<Vec<Detector>> = std::sync::LazyLock::new(detectors);
    &DETECTORS
}
