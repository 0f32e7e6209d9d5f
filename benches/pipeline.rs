//! Replay from end to end, as the program that users run: speed and peak memory.
//!
//! `cargo bench --bench pipeline [-- FILE]`, as `decode`. Each line is `lanner replay --profile all`
//! as a process of its own; "read" is `wc -l` on the same file. Sizes are multiplied by writing the
//! archive again for the following days.

mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use memchr::memmem;

const ROUNDS: usize = 5;
const DAY: &[u8] = b"2026-11-20T";

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

fn run(program: &str, arguments: &[&str], file: &Path) -> anyhow::Result<Cost> {
    let before = children_cpu()?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_mib = 0.0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        peak_mib = kib.map_or(peak_mib, |kib| kib / 1024.0);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    anyhow::ensure!(ended.success(), "{program} {arguments:?}: {ended}");
    Ok(Cost {
        wall: start.elapsed().as_secs_f64(),
        cpu: children_cpu()? - before,
        peak_mib,
    })
}

/// User and system seconds of the children that have ended.
fn children_cpu() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    // Linux counts a hundred ticks a second for all of its readers.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// The archive, repeated for so many days.
fn write(bytes: &[u8], days: usize, path: &Path) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let finder = memmem::Finder::new(DAY);
    for day in 0..days {
        let named = format!("2026-12-{:02}T", day + 1);
        let mut from = 0;
        for at in finder.find_iter(bytes) {
            out.write_all(&bytes[from..at])?;
            out.write_all(named.as_bytes())?;
            from = at + DAY.len();
        }
        out.write_all(&bytes[from..])?;
    }
    out.flush()?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let bytes = support::archive()?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pipeline");
    std::fs::create_dir_all(&folder)?;
    let file = |name: &str| folder.join(name);
    for days in [1, 4, 16] {
        write(&bytes, days, &file(&format!("{days}.json")))?;
    }
    let plain = std::fs::read(file("1.json"))?;
    let mut gzip = GzEncoder::new(File::create(file("1.json.gz"))?, Compression::default());
    gzip.write_all(&plain)?;
    gzip.finish()?;
    zstd::stream::copy_encode(&plain[..], File::create(file("1.json.zst"))?, 3)?;
    let size = plain.len() as f64 / 1e6;
    drop(plain);

    let lanner = env!("CARGO_BIN_EXE_lanner");
    let one = [
        "replay",
        "--profile",
        "all",
        "--format",
        "ndjson",
        "--threads",
        "1",
    ];
    let two = [
        "replay",
        "--profile",
        "all",
        "--format",
        "ndjson",
        "--threads",
        "2",
    ];
    let jobs: [(&str, &str, &[&str], &str, f64); 7] = [
        ("read", "wc", &["-l"], "1.json", size),
        ("1 thread", lanner, &one, "1.json", size),
        ("2 threads", lanner, &two, "1.json", size),
        (".gz", lanner, &two, "1.json.gz", size),
        (".zst", lanner, &two, "1.json.zst", size),
        ("4 times", lanner, &two, "4.json", 4.0 * size),
        ("16 times", lanner, &two, "16.json", 16.0 * size),
    ];
    let mut costs = vec![Vec::new(); jobs.len()];
    for _ in 0..ROUNDS {
        for ((_, program, arguments, name, _), costs) in jobs.iter().zip(&mut costs) {
            costs.push(run(program, arguments, &file(name))?);
        }
    }
    println!("{size:.0} MB, {ROUNDS} rounds in turn, medians");
    println!(
        "{:10} {:>8} {:>14} {:>9}",
        "", "MB/s", "MB/CPU-second", "peak MiB"
    );
    for ((label, _, _, _, size), costs) in jobs.iter().zip(&costs) {
        let median = |of: fn(&Cost) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{label:10} {:8.0} {:14.0} {:9.0}",
            size / median(|cost| cost.wall),
            size / median(|cost| cost.cpu).max(0.01),
            median(|cost| cost.peak_mib),
        );
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
