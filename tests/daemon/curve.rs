//! What a soak saw of the daemon, as a table and as a picture.

use std::fmt::Write as _;
use std::path::Path;

/// One look at the daemon.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub second: f64,
    pub resident: u64,
    pub files: u64,
    pub threads: u64,
    pub lag: u64,
    pub pending: u64,
    pub state: u64,
    pub records: u64,
}

/// Writes `curve.tsv` and `curve.svg`.
pub fn write(folder: &Path, samples: &[Sample]) -> std::io::Result<()> {
    std::fs::write(folder.join("curve.tsv"), table(samples))?;
    std::fs::write(folder.join("curve.svg"), picture(samples))
}

fn table(samples: &[Sample]) -> String {
    let mut text =
        "second\tresident_mib\tdescriptors\tthreads\tlag_messages\tpending\tstate_entries\trecords\n".to_owned();
    for sample in samples {
        let Sample {
            second,
            resident,
            files,
            threads,
            lag,
            pending,
            state,
            records,
        } = sample;
        let mib = *resident as f64 / f64::from(1 << 20);
        let _ = writeln!(
            text,
            "{second:.1}\t{mib:.1}\t{files}\t{threads}\t{lag}\t{pending}\t{state}\t{records}"
        );
    }
    text
}

/// A strip for each curve, from zero to its own highest value, which is written beside it.
fn picture(samples: &[Sample]) -> String {
    const WIDTH: f64 = 800.0;
    const STRIP: f64 = 90.0;
    const LEFT: f64 = 10.0;
    let end = samples.last().map_or(1.0, |sample| sample.second.max(1.0));
    type Curve = (&'static str, fn(&Sample) -> u64);
    let curves: [Curve; 6] = [
        ("resident, MiB", |sample| sample.resident >> 20),
        ("descriptors", |sample| sample.files),
        ("threads", |sample| sample.threads),
        ("lag, messages", |sample| sample.lag),
        ("entries of the state", |sample| sample.state),
        ("records read", |sample| sample.records),
    ];
    let height = STRIP * curves.len() as f64 + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + 2.0 * LEFT
    );
    for (at, (name, of)) in curves.iter().enumerate() {
        let highest = samples.iter().map(of).max().unwrap_or(0);
        let least = samples.iter().map(of).min().unwrap_or(0);
        let bottom = STRIP * (at as f64 + 1.0);
        let room = STRIP - 25.0;
        let mut points = String::new();
        for sample in samples {
            let x = LEFT + sample.second / end * WIDTH;
            let y = bottom - of(sample) as f64 / highest.max(1) as f64 * room;
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"{}\">{name}: {least} to {highest}</text>\n<path d=\"M{LEFT} {bottom}h{WIDTH}\" stroke=\"#d0d7de\"/>\n<polyline fill=\"none\" stroke=\"#1f6feb\" points=\"{}\"/>",
            bottom - room - 8.0,
            points.trim_end(),
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text>\n</svg>",
        LEFT + WIDTH,
        height - 10.0
    );
    text
}
