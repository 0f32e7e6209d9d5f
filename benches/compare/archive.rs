//! Writes an archive of the project's simulator, one record a line, with the sizes of real ones.
//!
//! `cargo run --example archive -- BYTES OUT`. The simulator's objects are shorter than
//! those of clusters that have lived for years; what they lack is mostly field ownership. So bodies
//! get more of that, and records that are short in any case are left out where there are too many,
//! until the sizes are spread as in the archives that the figures of `docs/performance.md` are for.
//! Attacks and what they leave in the log stay as they are.

use std::io::{BufWriter, Write};
use std::time::Duration;

use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
use memchr::memmem;

/// Upper bounds of sizes in bytes, the line's end included, and the share of records up to each.
const SPREAD: [(usize, f64); 5] = [
    (1470, 0.10),
    (2025, 0.40),
    (5022, 0.40),
    (19298, 0.09),
    (25307, 0.01),
];

/// Records a second in all: three busy clusters.
const RATE: f64 = 1000.0;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bytes), Some(path)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: archive BYTES OUT");
    };
    let bytes: usize = bytes.parse()?;
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut spread = Spread::default();
    let mut written = 0;
    for record in Simulator::new(scenario()) {
        let keep = record.mark.is_some();
        let mut line = record.bytes;
        line.push(b'\n');
        let Some(wanted) = spread.place(&line, keep) else {
            continue;
        };
        if wanted > line.len() {
            grow(&mut line, wanted);
        }
        out.write_all(&line)?;
        written += line.len();
        if written >= bytes {
            break;
        }
    }
    out.flush()?;
    Ok(())
}

/// Long enough for any archive that fits on a disk; the simulator is stopped when there is enough.
fn scenario() -> Scenario {
    let round = Duration::from_secs(300);
    Scenario {
        seed: 1,
        start: "2026-11-20T00:00:00Z".parse().expect("a literal time"),
        duration: Duration::from_secs(24 * 3600),
        clusters: ClusterSpec::three(RATE),
        clock: 14,
        campaigns: Campaigns {
            per_family: 1,
            intrusions: 0,
            quiet: std::time::Duration::ZERO,
            round,
            window: (0.05, 0.7),
            notable: true,
        },
    }
}

/// How many records there are of each size.
#[derive(Default)]
struct Spread {
    counts: [u64; SPREAD.len()],
    state: u64,
}

impl Spread {
    /// The size that a record is to have, or `None` where there are enough of its size.
    fn place(&mut self, line: &[u8], keep: bool) -> Option<usize> {
        let natural = SPREAD.iter().position(|(bound, _)| line.len() <= *bound)?;
        let total = self.counts.iter().sum::<u64>() as f64 + 1.0;
        let lacks = |at: usize| SPREAD[at].1 * total - self.counts[at] as f64;
        let reach = if keep || place_to_grow(line).is_none() {
            natural
        } else {
            SPREAD.len() - 1
        };
        let at = (natural..=reach).max_by(|a, b| lacks(*a).total_cmp(&lacks(*b)))?;
        if lacks(at) <= 0.0 && !keep {
            return None;
        }
        self.counts[at] += 1;
        if at == natural {
            return Some(line.len());
        }
        let (low, high) = (SPREAD[at - 1].0 + 1, SPREAD[at].0);
        Some(low + ((high - low) as f64 * self.random()) as usize)
    }

    /// From 0 to 1; the same on every run.
    fn random(&mut self) -> f64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as f64 / (1_u64 << 31) as f64
    }
}

/// Where more field ownership can stand: in the metadata of the answer, or else of the request. The
/// text is that of a string within the record, so that its quotes are escaped.
fn place_to_grow(line: &[u8]) -> Option<(usize, Around)> {
    let body = [&br#"\"responseObject\":{"#[..], br#"\"requestObject\":{"#]
        .iter()
        .find_map(|key| Some(memmem::find(line, key)? + key.len()))?;
    let rest = &line[body..];
    let fields = br#"\"managedFields\":["#;
    if let Some(found) = memmem::find(rest, fields) {
        return Some((body + found + fields.len(), Around::Managers));
    }
    let metadata = br#"\"metadata\":{\""#;
    let found = memmem::find(rest, metadata)?;
    Some((body + found + metadata.len() - 2, Around::Metadata))
}

enum Around {
    /// Within the list of managers.
    Managers,
    /// Within metadata that has none.
    Metadata,
}

/// Adds managers until `line` is `wanted` bytes long, or leaves it where not even one fits.
fn grow(line: &mut Vec<u8>, wanted: usize) {
    let Some((at, around)) = place_to_grow(line) else {
        return;
    };
    let (open, close) = match around {
        Around::Managers => ("", ","),
        Around::Metadata => (r#"\"managedFields\":["#, "],"),
    };
    let missing = wanted.saturating_sub(line.len() + open.len() + close.len());
    let mut managers = String::new();
    for number in 0.. {
        let comma = if number > 0 { "," } else { "" };
        let begin = format!(
            r#"{comma}{{\"manager\":\"operator-{number}\",\"operation\":\"Update\",\"apiVersion\":\"v1\",\"time\":\"2026-11-20T10:00:00Z\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{{"#
        );
        let end = "}}";
        let mut room = missing.saturating_sub(managers.len());
        if room < begin.len() + end.len() {
            break;
        }
        room -= begin.len() + end.len();
        managers.push_str(&begin);
        for field in 0..40 {
            let comma = if field > 0 { "," } else { "" };
            let text = format!(
                r#"{comma}\"k:{{\\\"name\\\":\\\"app{field}\\\"}}\":{{\".\":{{}},\"f:env\":{{}},\"f:image\":{{}},\"f:resources\":{{}}}}"#
            );
            if text.len() > room {
                break;
            }
            room -= text.len();
            managers.push_str(&text);
        }
        managers.push_str(end);
    }
    if managers.is_empty() {
        return;
    }
    // What is still missing makes the first one's name longer.
    let rest = missing - managers.len();
    managers.insert_str(managers.find("-0").unwrap_or(0), &"x".repeat(rest));
    let text = format!("{open}{managers}{close}");
    line.splice(at..at, text.into_bytes());
}
