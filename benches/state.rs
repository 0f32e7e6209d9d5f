//! What the detectors' memory costs: time per event, bytes per key, and a restart.
//!
//! `cargo bench --bench state [-- KEYS…]`, by default from 10⁴ to 10⁷. Each line is measured in a
//! process of its own, with the program's allocator; bytes are what the process holds of the
//! machine's memory (`VmRSS`) beyond what it held before. Beyond the shipped bounds of 2²⁰ keys and
//! 2²¹ pairs, these are raised, but for the last part, which is about the bounds.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use lanner::detect::matches::Digest128;
use lanner::detect::state::first_seen::{Ask, FirstSeen, Snapshot};
use lanner::detect::state::spike::{self, Spikes};
use lanner::detect::state::threshold::Thresholds;
use lanner::detect::state::window::Counting;
use lanner::store::{Commit, Store, StoreConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: i64 = 1_780_000_000;

/// Keys that others hold while one identity floods.
const OTHERS: u64 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, part, keys] = &arguments[..]
        && child == "--child"
    {
        let keys = keys.parse().expect("a number");
        match part.as_str() {
            "pairs-1" => pairs(keys, 1),
            "pairs-10" => pairs(keys, 10),
            "threshold" => thresholds(keys),
            "spike" => spikes(keys),
            _ => flood(keys),
        }
        return;
    }
    let mut sizes: Vec<u64> = arguments
        .iter()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000, 10_000_000];
    }
    println!("ns: per event. B: bytes of memory per pair or key. MB, ms: of a snapshot.");
    for part in ["pairs-1", "pairs-10", "threshold", "spike", "flood"] {
        for keys in &sizes {
            let program = std::env::current_exe().expect("this program has a path");
            let status = Command::new(program)
                .args(["--child", part, &keys.to_string()])
                .status()
                .expect("this program can be started again");
            assert!(status.success(), "{part} at {keys} failed");
        }
    }
}

/// Bytes of memory that the process holds.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0
}

/// As random as a digest is, and the same every time.
fn digest(kind: u64, number: u64) -> Digest128 {
    let mix = |mut bits: u64| {
        bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let (high, low) = (mix(number ^ mix(kind)), mix(number ^ mix(!kind)));
    Digest128(u128::from(high) << 64 | u128::from(low))
}

fn nanos(from: Instant, events: u64) -> f64 {
    from.elapsed().as_nanos() as f64 / events as f64
}

fn millis(from: Instant) -> f64 {
    from.elapsed().as_secs_f64() * 1e3
}

fn see(state: &mut FirstSeen, key: u64, owner: u64, value: u64) {
    let key = digest(1, key);
    state.count(key, 1);
    let answer = state.ask(&Ask {
        scope: Digest128(7),
        key,
        owner: digest(2, owner).0 as u64,
        values: &[(String::new(), digest(key.0 as u64, value))],
        time: Timestamp::from_second(START).expect("in range"),
        learn: Some(SignedDuration::from_hours(24)),
        teach: false,
        learn_keys: false,
    });
    black_box(answer);
}

/// So many pairs of identity and network, `each` of every identity.
fn pairs(count: u64, each: u64) {
    let before = resident();
    let bound = 2 * count as usize;
    let mut state = FirstSeen::bounded(true, bound, bound);
    let started = Instant::now();
    let mut delta = 0;
    let mut worst: f64 = 0.0;
    for batch in 0..count.div_ceil(1_000) {
        let started = Instant::now();
        for pair in batch * 1_000..(batch * 1_000 + 1_000).min(count) {
            see(&mut state, pair / each, pair / each, pair % each);
        }
        worst = worst.max(millis(started));
        let told = postcard::to_stdvec(&state.take_delta()).expect("written");
        delta += told.len();
    }
    let learned = nanos(started, count);
    let held = resident() - before;
    assert_eq!((state.len() as u64, state.evicted()), (count, 0));

    let asked = count.min(1_000_000);
    let started = Instant::now();
    for number in 0..asked {
        let pair = digest(9, number).0 as u64 % count;
        see(&mut state, pair / each, pair / each, pair % each);
    }
    let known = nanos(started, asked);
    state.take_delta();
    let recall = state.recall();
    let started = Instant::now();
    for number in 0..asked {
        let pair = digest(9, number).0 as u64 % count;
        let key = digest(1, pair / each);
        assert!(recall.knows(&digest(key.0 as u64, pair % each)));
    }
    let recalled = nanos(started, asked);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = StoreConfig {
        path: folder.path().to_owned(),
        receiver_quota: 1 << 20,
        quarantine_quota: 1 << 20,
    };
    let (store, _) = Store::open(&config).expect("a new store");
    store.commit(&Commit::default()).expect("written");
    let started = Instant::now();
    let bytes = postcard::to_stdvec(&state.snapshot()).expect("written");
    let encoded = millis(started);
    let started = Instant::now();
    let size = bytes.len() as f64 / 1e6;
    let copy = store.replace(bytes).map(|copy| (copy, millis(started)));
    let started = Instant::now();
    let written = copy.and_then(|(copy, took)| copy.write().map(|()| (took, millis(started))));
    drop((store, state));

    let loaded = written.is_ok().then(|| {
        let started = Instant::now();
        let (store, recovered) = Store::open(&config).expect("the store");
        let bytes = recovered.snapshot.expect("a snapshot");
        let snapshot: Snapshot = postcard::from_bytes(&bytes).expect("read");
        let mut state = FirstSeen::bounded(true, bound, bound);
        state.restore(snapshot);
        let took = millis(started);
        assert_eq!(state.len() as u64, count);
        drop(store);
        took
    });
    println!(
        "first_seen {count:>8} pairs, {each:>2} a key: new {learned:5.0} ns (worst thousand {worst:.1} ms), known {known:4.0} ns, \
         recall {recalled:4.0} ns, {:5.1} B, delta {:3.0} B; snapshot {size:6.1} MB, encode {encoded:5.0} ms, \
         database {} ms, second copy {} ms, restart {} ms",
        held / count as f64,
        delta as f64 / count as f64,
        written
            .as_ref()
            .map_or_else(|error| error.to_string(), |(took, _)| format!("{took:.0}")),
        written
            .as_ref()
            .map_or("-".to_owned(), |(_, took)| format!("{took:.0}")),
        loaded.map_or("-".to_owned(), |took| format!("{took:.0}")),
    );
}

fn counting(spike: bool) -> Counting {
    Counting {
        count: if spike { 50 } else { 10 },
        window: SignedDuration::from_mins(10),
        distinct: true,
        spike,
    }
}

/// So many keys with four events each, of a tenth as many identities.
fn thresholds(keys: u64) {
    let before = resident();
    let mut state = Thresholds::new(false);
    let counting = counting(false);
    let started = Instant::now();
    for event in 0..4 * keys {
        let key = event % keys;
        let time = Timestamp::from_second(START + event as i64 % 300).expect("in range");
        let hit = counting.hit(digest(3, key), digest(2, key / 10).0 as u64, event, time);
        black_box(state.ask(hit));
    }
    println!(
        "threshold  {keys:>8} keys: {:5.0} ns, {} kept, {} evicted, {:5.0} B",
        nanos(started, 4 * keys),
        state.len(),
        state.evicted(),
        (resident() - before) / state.len() as f64,
    );
}

/// So many keys with a past of twenty spans, of a tenth as many identities.
fn spikes(keys: u64) {
    // Twenty spans of ten million keys would take a minute, and show nothing else.
    let keys = keys.min(1_000_000);
    let before = resident();
    let mut state = Spikes::new(false);
    let counting = counting(true);
    let started = Instant::now();
    for event in 0..20 * keys {
        let (key, span) = (event % keys, event / keys);
        let time = Timestamp::from_second(START + span as i64 * 3_600).expect("in range");
        black_box(state.ask(&spike::Ask {
            hit: counting.hit(digest(4, key), digest(2, key / 10).0 as u64, event, time),
            least: 5,
            learn: SignedDuration::from_hours(2),
        }));
    }
    println!(
        "spike      {keys:>8} keys: {:5.0} ns, {} kept, {} evicted, {:5.0} B",
        nanos(started, 20 * keys),
        state.len(),
        state.evicted(),
        (resident() - before) / state.len() as f64,
    );
}

/// One identity makes up so many keys and values within the shipped bounds, beside others.
fn flood(keys: u64) {
    let before = resident();
    let mut state = FirstSeen::new(false);
    for other in 0..OTHERS {
        for network in 0..4 {
            see(&mut state, other, other, network);
        }
    }
    let started = Instant::now();
    for made_up in 0..keys {
        see(&mut state, OTHERS + made_up, OTHERS, made_up);
    }
    let took = nanos(started, keys);
    let recall = state.recall();
    for other in 0..OTHERS {
        let key = digest(1, other);
        let kept = (0..4).all(|network| recall.knows(&digest(key.0 as u64, network)));
        assert!(kept, "{other} has lost its baseline");
    }
    println!(
        "flood      {keys:>8} keys of one identity: {took:5.0} ns, {} pairs kept, {} evicted, none of {OTHERS} others'; {:.0} MB",
        state.len(),
        state.evicted(),
        (resident() - before) / 1e6,
    );
}
