//! Files of the store cut off, garbled or gone after a crash, with everything told still to be
//! delivered.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kills::{Random, check, undisturbed};
use crate::stream::Stream;
use crate::world::{PATIENCE, World};

/// Does something to one file, and says what.
fn spoil(store: &Path, random: &mut Random) -> String {
    let mut files: Vec<_> = fs::read_dir(store)
        .expect("it is there")
        .map(|entry| entry.expect("it is read").path())
        .filter(|path| !path.ends_with("lanner.lock"))
        .collect();
    files.sort();
    let path = &files[random.below(files.len())];
    let name = path.file_name().expect("it has a name").display();
    let mut bytes = fs::read(path).expect("it is there");
    let at = random.below(bytes.len().max(1));
    match random.below(5) {
        0 => {
            fs::remove_file(path).expect("it is there");
            return format!("{name} is gone");
        }
        1 => bytes.truncate(at),
        2 => bytes[at..].fill(0),
        3 => {
            let end = bytes.len().min(at + 1 + random.below(2000));
            bytes[at..end].fill_with(|| random.below(256) as u8);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
    fs::write(path, &bytes).expect("it can be written");
    format!("{name} is changed from {at} on")
}

async fn spoiled(seed: u64, cases: usize) {
    let stream = Stream::new(seed);
    let expected = undisturbed(&stream).await;
    let mut random = Random::new(seed);
    for case in 0..cases {
        let mut world = World::new(&stream).await;
        world.is_down(true);
        let forced = ["", "snapshot.due=fail@1-3"][random.below(2)];
        let daemon = world.start(forced);
        daemon.started().await;
        world.publish(&stream, stream.messages.len() / 2);
        let begun = Instant::now();
        while !world.is_read() {
            assert!(begun.elapsed() < *PATIENCE, "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // As `kill -9`, so that the journal is there.
        drop(daemon);
        let times = 1 + random.below(3);
        let what: Vec<String> = (0..times)
            .map(|_| spoil(&world.path("store"), &mut random))
            .collect();
        println!("case {case} of seed {seed}: {what:?}");
        world.is_down(false);
        check(&stream, world, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_spoiled_everything_is_told_under_the_same_ids() {
    spoiled(41, 6).await;
}

/// `LANNER_CASES=300 LANNER_SEED=5 cargo test --test crash many_spoiled -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long"]
async fn many_spoiled_stores() {
    let number = |name: &str, default: usize| -> usize {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let seed = number("LANNER_SEED", 100);
    for seed in seed..seed + number("LANNER_CASES", 300).div_ceil(20) {
        spoiled(seed as u64, 20).await;
    }
}
