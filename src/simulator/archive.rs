//! A scenario as an archive: the hourly folders of a storage account, and the truth beside them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Simulator;

/// Writes all records as `insights-logs-CATEGORY/resourceId=…/y=…/m=…/d=…/h=…/m=00/PT1H.json` under
/// `folder`, one record a line, and `truth.json`. Returns the number of records and bytes.
pub fn write(simulator: &mut Simulator, folder: &Path) -> io::Result<(u64, u64)> {
    let (mut records, mut bytes) = (0, 0);
    // Only the files of the current hour are open.
    let mut open: HashMap<(usize, &'static str), BufWriter<File>> = HashMap::new();
    let mut hour = None;
    while let Some(record) = simulator.next() {
        let now = record.time.as_second().div_euclid(3600);
        if hour != Some(now) {
            for (_, mut file) in open.drain() {
                file.flush()?;
            }
            hour = Some(now);
        }
        let file = match open.entry((record.cluster, record.category)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let id = &simulator.worlds[record.cluster].envelope.resource_id;
                let file = create(folder, record.category, id, record.time)?;
                entry.insert(BufWriter::new(file))
            }
        };
        file.write_all(&record.bytes)?;
        file.write_all(b"\n")?;
        records += 1;
        bytes += record.bytes.len() as u64 + 1;
    }
    for (_, mut file) in open {
        file.flush()?;
    }
    let truth = serde_json::to_vec_pretty(simulator.truth())?;
    fs::write(folder.join("truth.json"), truth)?;
    Ok((records, bytes))
}

/// Opens the file of the hour of `time`.
fn create(folder: &Path, category: &str, resource_id: &str, time: Timestamp) -> io::Result<File> {
    let hour = TimeZone::UTC.to_datetime(time);
    let path = folder
        .join(format!("insights-logs-{category}"))
        .join(format!(
            "resourceId={}",
            resource_id.trim_start_matches('/')
        ))
        .join(hour.strftime("y=%Y/m=%m/d=%d/h=%H/m=00").to_string());
    fs::create_dir_all(&path)?;
    File::options()
        .create(true)
        .append(true)
        .open(path.join("PT1H.json"))
}
