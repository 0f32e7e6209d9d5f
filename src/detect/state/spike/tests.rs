use jiff::Timestamp;
use proptest::prelude::*;

use super::super::window::Counting;
use super::*;

const SPAN: i64 = 600;
const LEAST: u32 = 5;
const LIMIT: u32 = 50;

fn ask(state: &mut Spikes, key: u128, value: u64, seconds: i64) -> Answer {
    let counting = Counting {
        count: LIMIT,
        window: SignedDuration::from_secs(SPAN),
        distinct: true,
        spike: true,
    };
    let time = Timestamp::from_second(1_700_000_400 + seconds).expect("in range");
    state.ask(&Ask {
        hit: counting.hit(Digest128(key), 1, value, time),
        least: LEAST,
        learn: SignedDuration::from_hours(24),
    })
}

/// So many different values within a minute; the last answer.
fn burst(state: &mut Spikes, seconds: i64, count: u64) -> Answer {
    let answers = (0..count).map(|value| ask(state, 7, value, seconds + value as i64 % 60));
    answers.last().expect("at least one")
}

#[test]
fn of_what_is_unknown_the_least_is_enough() {
    let mut state = Spikes::new(false);
    assert!(!burst(&mut state, 0, 4).is_spike());
    let answer = burst(&mut state, 10_000, 5);
    assert!(answer.is_spike());
    assert_eq!(answer.known, Known::TooLittle { spans: 1 });
}

#[test]
fn what_is_usual_is_no_spike_and_far_more_is() {
    let mut state = Spikes::new(false);
    for day in 0..30 {
        burst(&mut state, day * 86_400, 9);
    }
    let usual = burst(&mut state, 30 * 86_400, 9);
    assert!(!usual.is_spike(), "{usual:?}");
    assert!(
        matches!(usual.known, Known::Enough { spans: 30, .. }),
        "{usual:?}"
    );
    let more = burst(&mut state, 31 * 86_400, 30);
    assert!(more.is_spike() && more.bar > 9, "{more:?}");
}

#[test]
fn one_burst_teaches_next_to_nothing() {
    let (mut calm, mut burst_once) = (Spikes::new(false), Spikes::new(false));
    for state in [&mut calm, &mut burst_once] {
        for day in 0..30 {
            burst(state, day * 86_400, 9);
        }
    }
    burst(&mut burst_once, 30 * 86_400, 5_000);
    let [calm, taught] = [&mut calm, &mut burst_once].map(|state| burst(state, 32 * 86_400, 1));
    assert!(taught.bar <= calm.bar + 2, "{calm:?} {taught:?}");
}

#[test]
fn patient_poisoning_gains_no_more_than_the_limit() {
    let mut state = Spikes::new(false);
    for day in 0..400 {
        burst(&mut state, day * 86_400, (5 + day as u64).min(200));
    }
    assert!(burst(&mut state, 400 * 86_400, LIMIT as u64).is_spike());
}

#[test]
fn a_single_event_from_the_future_does_not_end_the_learning() {
    let mut state = Spikes::new(false);
    ask(&mut state, 7, 1, 100 * 365 * 86_400);
    for day in 0..30 {
        burst(&mut state, day * 86_400, 9);
    }
    let usual = burst(&mut state, 30 * 86_400, 9);
    assert!(matches!(usual.known, Known::Enough { .. }), "{usual:?}");
    assert!(!usual.is_spike());
}

#[test]
fn a_restored_state_answers_alike() {
    let mut state = Spikes::new(true);
    let mut restored = Spikes::new(false);
    for day in 0..20 {
        burst(&mut state, day * 86_400, 9);
        if day == 10 {
            let bytes = postcard::to_stdvec(&state.snapshot()).expect("written");
            restored.restore(postcard::from_bytes(&bytes).expect("read"));
            state.take_delta();
        }
    }
    state
        .take_delta()
        .into_iter()
        .for_each(|hit| restored.apply(hit));
    let [a, b] = [&mut state, &mut restored].map(|state| burst(state, 20 * 86_400, 12));
    assert_eq!(a, b);
}

proptest! {
    /// Events that change places by less than two minutes make a spike of the same windows.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        events in proptest::collection::vec((0_i64..60, 0_i64..SPAN, 0_u64..12, 0_i64..120_000), 30..300),
    ) {
        let mut events: Vec<(i64, u64, i64)> = events
            .into_iter()
            .map(|(span, within, value, late)| (span * 7 * SPAN / 2 + within, value, late))
            .collect();
        let answers = |events: &[(i64, u64, i64)]| {
            let mut state = Spikes::new(false);
            let mut spiking = std::collections::BTreeSet::new();
            for (seconds, value, _) in events {
                let answer = ask(&mut state, 7, *value, *seconds);
                if answer.is_spike() {
                    // Bursts are far enough apart that this names one.
                    spiking.insert(seconds / (7 * SPAN / 2));
                }
            }
            spiking
        };
        events.sort_by_key(|(seconds, _, _)| *seconds);
        let in_order = answers(&events);
        events.sort_by_key(|(seconds, _, late)| seconds * 1000 + late);
        let shuffled = answers(&events);
        prop_assert_eq!(in_order, shuffled);
    }
}
