//! `kill -9` at every fail point and at any other time, against a run that nobody disturbs.

use std::time::{Duration, Instant};

use lanner::failpoint::NAMES;
use rustix::process::Signal;

use crate::stream::Stream;
use crate::world::{Daemon, Outcome, PATIENCE, World, is_killed};

/// What a run without any fault makes of the stream.
pub async fn undisturbed(stream: &Stream) -> Outcome {
    let mut world = World::new(stream).await;
    world.finish(stream).await;
    let outcome = world.outcome(stream);
    let missed = &outcome.missed;
    // Some are seen only by the detectors that are switched off.
    assert!(missed.len() <= 3, "{missed:?}");
    world.emulator.shutdown().await;
    outcome
}

pub async fn check(stream: &Stream, mut world: World, undisturbed: &Outcome) {
    world.finish(stream).await;
    let log = world.log();
    world.outcome(stream).assert_same(undisturbed, &log);
    world.emulator.shutdown().await;
}

/// Makes the database one that cannot be used, as a broken disk would.
fn damage(world: &World) {
    // The journal alone could mend it.
    for name in ["store/lanner.db", "store/lanner.db-wal"] {
        std::fs::write(world.path(name), vec![0x5A; 20_000]).expect("it can be written");
    }
}

/// Starts the daemon so that it is killed at the `nth` passage of a fail point, and gives it work
/// until it is.
async fn killed_at(world: &mut World, stream: &Stream, name: &str, nth: usize) {
    let mut fail_points = format!("{name}=kill@{nth}");
    if name.starts_with("snapshot.") && name != "snapshot.due" {
        fail_points.push_str(",snapshot.due=fail");
    }
    if [
        "start.moving",
        "start.moved",
        "start.creating",
        "start.created",
    ]
    .contains(&name)
    {
        damage(world);
    }
    let mut daemon = world.start(&fail_points);
    let mut told = false;
    let status = work(name, world, stream, &mut daemon, |daemon| {
        // Before that the signals would end it by themselves.
        if daemon.is_started() {
            match name.split_once('.') {
                Some(("reload", _)) => daemon.signal(Signal::HUP),
                // A second one would end it at once.
                Some(("stop", _)) if !std::mem::replace(&mut told, true) => {
                    daemon.signal(Signal::TERM);
                }
                _ => {}
            }
        }
    })
    .await;
    assert!(is_killed(status), "{name}: {status}; {}", daemon.log());
}

/// Publishes bit by bit until the daemon is gone.
async fn work(
    name: &str,
    world: &mut World,
    stream: &Stream,
    daemon: &mut Daemon,
    mut nudge: impl FnMut(&Daemon),
) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = daemon.has_ended() {
            return status;
        }
        assert!(
            begun.elapsed() < *PATIENCE,
            "{name} is not passed; {}",
            daemon.log()
        );
        world.publish(stream, 2);
        nudge(daemon);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_fail_point_it_loses_nothing_and_renames_nothing() {
    let stream = Stream::new(11);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    // Something is stored before anything is broken.
    killed_at(&mut world, &stream, "deliver.stored", 1).await;
    for name in NAMES {
        killed_at(&mut world, &stream, name, 1).await;
    }
    check(&stream, world, &expected).await;
}

/// Kills at random: at a fail point, at one of its first passages, or whenever it may be. Now and then
/// the database is damaged besides.
async fn killed_at_random(seed: u64, kills: usize) -> usize {
    let stream = Stream::new(seed);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    let mut random = Random::new(seed);
    let mut at_points = 0;
    for kill in 0..kills {
        let share = stream.messages.len() * (kill + 1) / (kills + 1);
        let name = NAMES[random.below(NAMES.len())];
        let mut fail_points = match random.below(2) {
            0 => format!("{name}=kill@{}", 1 + random.below(2)),
            _ => String::new(),
        };
        if random.below(3) == 0 && name != "snapshot.due" {
            fail_points.push_str(",snapshot.due=fail");
        }
        if random.below(12) == 0 && world.path("store/lanner.db").is_file() {
            damage(&world);
        }
        let life = Duration::from_millis(random.below(3000) as u64);
        // Most have begun to work; a start takes its time, by far the most in a test's build.
        let may_be_starting = random.below(4) == 0;
        let mut daemon = world.start(&fail_points);
        let mut begun = Instant::now();
        let mut is_alive = true;
        while is_alive && begun.elapsed() < life {
            if !may_be_starting && !daemon.is_reading() {
                begun = Instant::now();
            }
            world.publish_up_to(&stream, share, 3);
            tokio::time::sleep(Duration::from_millis(random.below(30) as u64)).await;
            is_alive = daemon.has_ended().is_none();
        }
        if is_alive {
            daemon.child.kill().expect("it still runs");
        } else {
            at_points += 1;
        }
        let status = daemon.child.wait().expect("it ends");
        assert!(
            is_killed(status),
            "{fail_points}: {status}; {}",
            daemon.log()
        );
    }
    check(&stream, world, &expected).await;
    at_points
}

/// Repeats itself from the same seed; what the daemon does at that moment does not. SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 1) as usize % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_it_loses_nothing_and_renames_nothing() {
    killed_at_random(21, 12).await;
}

/// `LANNER_KILLS=1000 cargo test --test crash a_thousand -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour"]
async fn a_thousand_kills() {
    const KILLS_IN_A_RUN: usize = 50;
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    };
    let kills: usize = number("LANNER_KILLS", 1000);
    let seed: usize = number("LANNER_SEED", 1);
    let begun = Instant::now();
    let (mut done, mut at_points) = (0, 0);
    while done < kills {
        let run = KILLS_IN_A_RUN.min(kills - done);
        at_points += killed_at_random((seed + done) as u64, run).await;
        done += run;
        let took = begun.elapsed().as_secs();
        println!("{done} kills survived, {at_points} of them at fail points; {took} s");
    }
}
