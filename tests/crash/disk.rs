//! Disks that are full or read-only, real ones and feigned ones, and code of our own that fails, under
//! the daemon as it runs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::kills::{check, undisturbed};
use crate::stream::Stream;
use crate::world::{Daemon, PATIENCE, World};

const LANNER: &str = env!("CARGO_BIN_EXE_lanner");

/// Set for a test that runs where it may mount.
const MOUNTS: &str = "LANNER_TEST_MAY_MOUNT";

/// Whether this process may mount. Where it may not, the test named is run by another one that has a
/// namespace of its own; no rights are needed for that, unless the kernel refuses namespaces to
/// users, which is said.
fn may_mount(test: &str) -> bool {
    runs_apart(test, "-rm", &["true"])
}

/// As [`may_mount`], for a test that needs a file system on a block device: only the machine's own
/// root may mount one.
fn may_mount_devices(test: &str) -> bool {
    let script = "set -e; at=$(mktemp -d); truncate -s 8M $at/disk; mkfs.ext4 -q $at/disk; mkdir $at/on; \
                  mount -o loop $at/disk $at/on; umount $at/on; rm -r $at";
    runs_apart(test, "-m", &["sh", "-c", script])
}

fn runs_apart(test: &str, namespace: &str, probe: &[&str]) -> bool {
    if std::env::var_os(MOUNTS).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg(namespace);
        command
    };
    let allowed = unshare().args(probe).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("passed over: this machine lets nobody mount");
        return false;
    }
    let program = std::env::current_exe().expect("we run");
    let output = unshare()
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(MOUNTS, "1")
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn mount(arguments: &[&str], at: &Path) {
    let status = Command::new("mount").args(arguments).arg(at).status();
    assert!(status.expect("there is mount").success(), "{arguments:?}");
}

/// Gives the store a small disk of its own.
fn small_disk(world: &World) {
    let store = world.path("store");
    std::fs::create_dir(&store).expect("a folder");
    mount(&["-t", "tmpfs", "-o", "size=16m", "none"], &store);
}

/// Fills the disk to the last byte.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("a file");
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

async fn until_ready_is(daemon: &Daemon, wanted: u16) -> String {
    let begun = Instant::now();
    loop {
        let (status, text) = daemon.get("/readyz").await;
        if status == wanted {
            return text;
        }
        assert!(
            begun.elapsed() < *PATIENCE,
            "{status} {text}; {}",
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Publishes a part of the stream and waits until something of it is told.
async fn begin(world: &mut World, stream: &Stream, fail_points: &str) -> Daemon {
    let daemon = world.start(fail_points);
    daemon.started().await;
    world.publish(stream, stream.messages.len() / 3);
    let begun = Instant::now();
    while world.told() < 2 {
        assert!(
            begun.elapsed() < *PATIENCE,
            "nothing told; {}",
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_it_says_so_and_goes_on_when_there_is_room() {
    if !may_mount("disk::on_a_full_disk_it_says_so_and_goes_on_when_there_is_room") {
        return;
    }
    let stream = Stream::new(31);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    small_disk(&world);
    let daemon = begin(&mut world, &stream, "").await;
    until_ready_is(&daemon, 200).await;

    let ballast = world.path("store/ballast");
    fill(&ballast);
    world.publish(&stream, stream.messages.len() / 3);
    let text = until_ready_is(&daemon, 503).await;
    assert!(
        text.contains("the disk that holds the store is full"),
        "{text}"
    );
    assert_eq!(
        daemon.get("/livez").await.0,
        200,
        "a restart would not help"
    );
    std::fs::remove_file(&ballast).expect("it is there");
    let room = Instant::now();
    until_ready_is(&daemon, 200).await;
    println!("ready {:?} after there was room", room.elapsed());

    // The same once more, with a crash on the full disk.
    fill(&ballast);
    world.publish(&stream, stream.messages.len() / 6);
    until_ready_is(&daemon, 503).await;
    drop(daemon);
    let again = world.start("");
    let begun = Instant::now();
    while !again.is_started() && !again.log().contains("full") {
        assert!(begun.elapsed() < *PATIENCE, "{}", again.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(again);
    std::fs::remove_file(&ballast).expect("it is there");
    check(&stream, world, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_read_only_disk_it_does_not_start_and_says_why() {
    if !may_mount("disk::on_a_read_only_disk_it_does_not_start_and_says_why") {
        return;
    }
    let stream = Stream::new(32);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    small_disk(&world);
    drop(begin(&mut world, &stream, "").await);
    mount(&["-o", "remount,ro"], &world.path("store"));
    let daemon = world.start("");
    let from = world.log().len();
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(1));
    let log = world.log();
    let said = &log[from..];
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("store/lanner"), "it names the file: {said}");
    mount(&["-o", "remount,rw"], &world.path("store"));
    check(&stream, world, &expected).await;
}

/// As Linux does with a disk that fails: files that are open for writing can be written no more. It
/// stays so until somebody mounts it anew, which ends the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_is_said_and_mounted_anew_it_goes_on() {
    if !may_mount_devices("disk::a_disk_that_turns_read_only_is_said_and_mounted_anew_it_goes_on") {
        return;
    }
    let stream = Stream::new(37);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    let (disk, store) = (world.path("disk"), world.path("store"));
    File::create(&disk)
        .and_then(|file| file.set_len(64 << 20))
        .expect("a file");
    let made = Command::new("mkfs.ext4").arg("-q").arg(&disk).status();
    assert!(made.expect("there is mkfs").success());
    std::fs::create_dir(&store).expect("a folder");
    let disk = disk.to_str().expect("text");
    let whole = ["-o", "loop,errors=remount-ro", disk];
    mount(&whole, &store);
    let daemon = begin(&mut world, &stream, "").await;
    until_ready_is(&daemon, 200).await;

    mount(&["-o", "remount,abort"], &store);
    let since = Instant::now();
    world.publish(&stream, stream.messages.len() / 3);
    let text = until_ready_is(&daemon, 503).await;
    println!("said {:?} after the disk turned read-only", since.elapsed());
    assert!(text.contains("disk I/O error"), "{text}");
    assert_eq!(
        daemon.get("/livez").await.0,
        200,
        "a restart would not help"
    );
    drop(daemon);
    let status = Command::new("umount").arg(&store).status();
    assert!(status.expect("there is umount").success());
    mount(&whole, &store);
    check(&stream, world, &expected).await;
}

/// As with a log on a full disk, or a reader of the log that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let stream = Stream::new(36);
    let mut world = World::new(&stream).await;
    world.publish(&stream, stream.messages.len() / 3);
    let full = File::options().write(true).open("/dev/full");
    let mut daemon = Command::new(LANNER)
        .args(["run", "--config"])
        .arg(world.path("lanner.toml"))
        .stderr(full.expect("there is such a device"))
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    while world.told() < 2 {
        let ended = daemon.try_wait().expect("it is our child");
        assert!(ended.is_none(), "{ended:?}");
        assert!(begun.elapsed() < *PATIENCE, "nothing is told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.kill().expect("it still runs");
    daemon.wait().expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_fail_for_a_while_lose_nothing() {
    let stream = Stream::new(33);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    let daemon = begin(
        &mut world,
        &stream,
        "commit.disk=fail@6-9,snapshot.half=fail",
    )
    .await;
    let begun = Instant::now();
    while !daemon.log().contains("the store refuses a commit") {
        assert!(begun.elapsed() < *PATIENCE, "{}", daemon.log());
        world.publish(&stream, 3);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_ready_is(&daemon, 200).await;
    // Half a snapshot would keep the room that commits wait for.
    assert!(daemon.log().contains("the snapshot cannot be written"));
    assert!(!world.path("store/snapshot.tmp").exists());
    drop(daemon);
    check(&stream, world, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_breaks_under_it_ends_the_process_and_the_next_goes_on() {
    let stream = Stream::new(34);
    let expected = undisturbed(&stream).await;
    let mut world = World::new(&stream).await;
    let mut daemon = world.start("commit.damage=fail@5-");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = daemon.has_ended() {
            break status;
        }
        assert!(begun.elapsed() < *PATIENCE, "{}", daemon.log());
        world.publish(&stream, 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let log = daemon.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("the store cannot go on; the next start mends it"),
        "{log}"
    );
    check(&stream, world, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_ours_that_fails_stops_neither_reading_nor_judging() {
    let stream = Stream::new(35);
    let expected = undisturbed(&stream).await;

    // Whole batches fail, their messages by themselves do not: nothing is lost.
    let mut world = World::new(&stream).await;
    drop(begin(&mut world, &stream, "work.decoding=panic@2").await);
    assert!(
        world.log().contains("the fail point work.decoding"),
        "{}",
        world.log()
    );
    check(&stream, world, &expected).await;

    // A message fails whatever is tried; a match fails: both are in quarantine, the others are told.
    let mut world = World::new(&stream).await;
    let daemon = begin(
        &mut world,
        &stream,
        "work.decoding=panic@1-2,judge.match=panic@3",
    )
    .await;
    until_ready_is(&daemon, 200).await;
    let begun = Instant::now();
    let counted = loop {
        let (_, metrics) = daemon.get("/metrics").await;
        let counted = "lanner_records_quarantined_total{reason=\"defect\"} ";
        let counted = metrics.lines().find_map(|line| line.strip_prefix(counted));
        let counted: u64 = counted.map_or(0, |counted| counted.parse().expect("a number"));
        // The match fails once it is judged, after the batch did.
        if counted >= 1 && daemon.log().contains("judging a match failed") {
            break counted;
        }
        assert!(begun.elapsed() < *PATIENCE, "{counted}: {}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Where two workers failed on a batch each, their messages come through one by one.
    assert!(counted <= 3, "{counted}");
    drop(daemon);
    world.finish(&stream).await;
    let outcome = world.outcome(&stream);
    assert_eq!(outcome.quarantined, counted, "{}", world.log());
    let lost = expected.alerts.len() - outcome.alerts.len();
    assert!(lost <= 8, "{lost} alerts of {}", expected.alerts.len());
}
