//! What the store holds: snapshot and changes of the state, and notifications, from a file that
//! another version, a bad disk or a stranger's hand may have written.
//!
//! The first two bytes say how long the snapshot is; what follows it is a change of the state.

use jiff::SignedDuration;
use lanner::alert::Severity;
use lanner::decode::Decoder;
use lanner::deliver::Notification;
use lanner::detect::Scratch;
use lanner::detect::order::Learning;
use lanner::pipeline::memory::Memory;
use lanner::source::Framing;
use lanner::store::Recovered;

use super::alert;
use super::shared::{ENGINE, matches};

/// Events of several detectors that remember.
const EVENTS: &str = include_str!("state.ndjson");

pub fn run(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (snapshot, delta) = rest.split_at(length);
    let recovered = Recovered {
        snapshot: Some(snapshot.to_vec()),
        deltas: vec![delta.to_vec()],
        ..Recovered::default()
    };
    let (mut memory, _) = Memory::recover(&recovered, Learning::Own, Some(&ENGINE));
    memory.entries();
    let written = memory
        .snapshot(&ENGINE)
        .expect("what was read can be written");
    let again = Recovered {
        snapshot: Some(written),
        ..Recovered::default()
    };
    let (again, is_whole) = Memory::recover(&again, Learning::Own, Some(&ENGINE));
    assert!(is_whole, "what is written cannot be read");
    assert_eq!(
        again.entries(),
        memory.entries(),
        "a snapshot holds less than the state"
    );
    live_on(&mut memory);
    memory.take_delta();

    let notification = Notification {
        notification_id: "0-1".to_owned(),
        severity: Severity::High,
        body: String::from_utf8_lossy(rest).into_owned(),
    };
    if let Ok(told) = notification.alert() {
        alert::check(&told);
    }
    if let Some(Ok(incident)) = notification.incident() {
        lanner::alert::render::incident(&incident, false);
    }
}

/// What comes after: events, and the clock.
fn live_on(memory: &mut Memory) {
    let found = matches(
        &ENGINE,
        &mut Decoder::default(),
        &mut Scratch::new(None),
        EVENTS.as_bytes(),
        Framing::Lines,
    );
    for found in found {
        let judgement = memory.judge.judge(&ENGINE, found);
        let mut judged = vec![judgement];
        while let Some(raised) = memory.judge.raised() {
            judged.push(raised);
        }
        for judgement in judged {
            let time = judgement.found.occurrence.clock();
            let repeat = SignedDuration::from_hours(8);
            memory.groups.add(&ENGINE, &judgement, time, repeat);
        }
    }
    let now = "2026-11-20T11:00:00Z".parse().expect("it is a time");
    memory.judge.tick(&ENGINE, now, true);
    memory.groups.close_quiet(now);
}

/// State as this version writes it, in the target's form.
pub fn sample() -> Vec<u8> {
    let mut memory = Memory::new(Learning::Own);
    live_on(&mut memory);
    let snapshot = memory.snapshot(&ENGINE).expect("it can be written");
    let delta = memory.take_delta().expect("something changed");
    let length = u16::try_from(snapshot.len()).expect("it is short");
    [&length.to_le_bytes()[..], &snapshot, &delta].concat()
}
