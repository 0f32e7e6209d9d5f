//! Closed alerts and incidents of a replay, until all are known and can be printed in their order.
//!
//! They come from [`super::group`] and [`super::incident`] as they close, and stand here as the JSON
//! that is printed, but for what an alert's detector says of itself, which is kept once, and for the
//! alert's incident, which may still be joined with others. What exceeds [`IN_MEMORY`] goes to a
//! temporary file, and the order in which it is to be printed to a database that goes to another, so
//! that memory holds no more of many alerts than of few.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::incident::{Closing, Incident};
use super::parts::{Advice, Identity, Middle, Rest};
use super::{Alert, SCHEMA};

/// Bytes of JSON held before they go to a file.
const IN_MEMORY: usize = 2 << 20;

/// A time is a [`Moment`], and a place a time and an id behind it, so that both are ordered by their
/// bytes. Of an alert, the incident is what was known when it closed, which holds where its incident
/// has no room for the step.
const TABLES: &str = "
PRAGMA journal_mode = OFF;
CREATE TABLE alert (
    place BLOB NOT NULL, first_seen BLOB NOT NULL, fingerprint BLOB NOT NULL, incident BLOB,
    about INTEGER NOT NULL, at INTEGER NOT NULL,
    identity INTEGER NOT NULL, middle INTEGER NOT NULL, evidence INTEGER NOT NULL
) STRICT;
CREATE TABLE incident (
    place BLOB NOT NULL, several INTEGER NOT NULL, at INTEGER NOT NULL, length INTEGER NOT NULL
) STRICT;
CREATE TABLE step (
    fingerprint BLOB NOT NULL, place BLOB NOT NULL,
    first_seen BLOB NOT NULL, last_seen BLOB NOT NULL
) STRICT;
BEGIN;
";

/// Made once everything is there, and of all columns, so that the table is not looked at again.
const INDEX: &str =
    "CREATE INDEX IF NOT EXISTS of_alert ON step (fingerprint, place, first_seen, last_seen)";

const INCIDENTS: &str = "SELECT several, at, length FROM incident ORDER BY place";

/// Each alert with the first of the incidents that it began within.
const ALERTS: &str = "
SELECT coalesce((
    SELECT substr(step.place, 18) FROM step
    WHERE step.fingerprint = alert.fingerprint
        AND step.first_seen <= alert.first_seen AND alert.first_seen <= step.last_seen
    ORDER BY step.place LIMIT 1
), incident), about, at, identity, middle, evidence
FROM alert ORDER BY place
";

/// What is to be printed.
#[derive(Debug)]
pub struct Shelf {
    text: Text,
    order: Connection,
    about: Vec<About>,
    /// Places in `about`, by the detector's id.
    known: HashMap<String, u32>,
}

/// What the alerts of one detector have in common, as JSON.
#[derive(Debug)]
struct About {
    detector: Vec<u8>,
    advice: Vec<u8>,
}

impl Shelf {
    pub fn new() -> rusqlite::Result<Shelf> {
        // Without a name, SQLite's own temporary file.
        let order = Connection::open("")?;
        order.execute_batch(TABLES)?;
        Ok(Shelf {
            text: Text::default(),
            order,
            about: Vec::new(),
            known: HashMap::new(),
        })
    }

    /// Keeps a closed alert.
    pub fn put(&mut self, alert: &Alert) -> io::Result<()> {
        let about = match self.known.get(&alert.detector.id) {
            Some(about) => *about,
            None => {
                let about = self.about.len() as u32;
                self.about.push(About::of(alert)?);
                self.known.insert(alert.detector.id.clone(), about);
                about
            }
        };
        let at = self.text.end() as i64;
        let identity = self.text.add(&Identity::of(alert))?;
        let middle = self.text.add(&Middle::of(alert))?;
        let evidence = self.text.add(&Rest::of(alert))?;
        let first_seen = moment(alert.first_seen);
        let incident = alert.incident.as_deref().map(number);
        let row = params![
            place(first_seen, number(&alert.id)),
            first_seen,
            number(&alert.fingerprint).to_be_bytes(),
            incident.map(u128::to_be_bytes),
            about,
            at,
            identity,
            middle,
            evidence,
        ];
        self.insert("INSERT INTO alert VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)?;
        self.text.bound()
    }

    /// Keeps which alerts are steps of an incident that nothing can join any more.
    pub fn put_steps(&mut self, closing: &mut Closing) -> io::Result<()> {
        let id = number(closing.id());
        let first = closing.steps().filter_map(|(_, first, _)| first).min();
        let incident = (first, id);
        for (fingerprint, first_seen, last_seen) in closing.steps() {
            self.put_step(fingerprint, [first_seen, last_seen], incident)?;
        }
        Ok(())
    }

    /// As [`Shelf::put_steps`]; and the incident itself, to be printed.
    pub fn put_incident(&mut self, incident: &Incident) -> io::Result<()> {
        let of = (incident.first_seen, number(&incident.id));
        for step in &incident.steps {
            let seen = [step.first_seen, step.last_seen];
            self.put_step(number(&step.fingerprint), seen, of)?;
        }
        let at = self.text.end() as i64;
        let length = self.text.add(incident)?;
        let (first_seen, id) = of;
        let several = incident.steps.len() > 1;
        let row = params![place(moment(first_seen), id), several, at, length];
        self.insert("INSERT INTO incident VALUES (?, ?, ?, ?)", row)?;
        self.text.bound()
    }

    fn put_step(
        &mut self,
        fingerprint: u128,
        seen: [Option<Timestamp>; 2],
        (first_seen, id): (Option<Timestamp>, u128),
    ) -> io::Result<()> {
        let [from, to] = seen.map(moment);
        let row = params![
            fingerprint.to_be_bytes(),
            place(moment(first_seen), id),
            from,
            to
        ];
        self.insert("INSERT INTO step VALUES (?, ?, ?, ?)", row)
    }

    fn insert(&self, statement: &str, row: impl rusqlite::Params) -> io::Result<()> {
        let insert = || self.order.prepare_cached(statement)?.execute(row);
        insert().map(drop).map_err(no_place)
    }

    /// Gives the JSON of every incident, in the order of time, and whether it has several steps.
    pub fn incidents(
        &mut self,
        mut print: impl FnMut(&[u8], bool) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut json = Vec::new();
        type Kept = (bool, i64, u32);
        each(&self.order, INCIDENTS, |(several, at, length): Kept| {
            self.text.read(at, length, &mut json)?;
            print(&json, several)
        })
    }

    /// Gives the JSON of every alert, as [`Alert`] is serialised, in the order of time, each with its
    /// incident as it turned out to be.
    pub fn alerts(&mut self, mut print: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.order.execute_batch(INDEX).map_err(no_place)?;
        let (mut parts, mut json) = (Vec::new(), Vec::new());
        type Kept = (Option<[u8; 16]>, u32, i64, u32, u32, u32);
        each(&self.order, ALERTS, |row: Kept| {
            let (incident, about, at, identity, middle, evidence) = row;
            self.text
                .read(at, identity + middle + evidence, &mut parts)?;
            let (identity, others) = parts.split_at(identity as usize);
            let (middle, evidence) = others.split_at(middle as usize);
            let about = &self.about[about as usize];
            json.clear();
            write!(json, r#"{{"schema":"{SCHEMA}","#)?;
            json.extend_from_slice(inside(identity));
            match incident.map(u128::from_be_bytes) {
                Some(id) => write!(json, r#","incident":"{id:032x}","#)?,
                None => json.extend_from_slice(br#","incident":null,"#),
            }
            json.extend_from_slice(br#""detector":"#);
            json.extend_from_slice(&about.detector);
            for part in [inside(middle), inside(&about.advice), inside(evidence)] {
                json.push(b',');
                json.extend_from_slice(part);
            }
            json.push(b'}');
            print(&json)
        })
    }
}

/// Gives each row of `query` to `print`, until that fails.
fn each<R>(
    order: &Connection,
    query: &str,
    mut print: impl FnMut(R) -> io::Result<()>,
) -> io::Result<()>
where
    R: for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error>,
{
    let mut query = order.prepare(query).map_err(no_place)?;
    let mut rows = query.query([]).map_err(no_place)?;
    while let Some(row) = rows.next().map_err(no_place)? {
        print(R::try_from(row).map_err(no_place)?)?;
    }
    Ok(())
}

/// What went wrong with the temporary files, and where they lie.
fn no_place(error: impl fmt::Display) -> io::Error {
    let folder = std::env::temp_dir();
    let folder = folder.display();
    io::Error::other(format!(
        "alerts wait in temporary files in {folder} to be printed in their order: {error}; TMPDIR says where there is more room"
    ))
}

/// A time, or none, which is before all others: an octet that says which, and nanoseconds.
type Moment = [u8; 17];

fn moment(time: Option<Timestamp>) -> Moment {
    let mut moment = [0; 17];
    if let Some(time) = time {
        moment[0] = 1;
        // What is below zero is so ordered before what is not.
        let nanoseconds = time.as_nanosecond() ^ i128::MIN;
        moment[1..].copy_from_slice(&nanoseconds.to_be_bytes());
    }
    moment
}

fn place(first_seen: Moment, id: u128) -> [u8; 33] {
    let mut place = [0; 33];
    place[..17].copy_from_slice(&first_seen);
    place[17..].copy_from_slice(&id.to_be_bytes());
    place
}

impl About {
    fn of(alert: &Alert) -> serde_json::Result<About> {
        Ok(About {
            detector: serde_json::to_vec(&*alert.detector)?,
            advice: serde_json::to_vec(&Advice::of(alert))?,
        })
    }
}

/// Without the braces.
fn inside(object: &[u8]) -> &[u8] {
    &object[1..object.len() - 1]
}

/// An id's digits are hexadecimal.
fn number(id: &str) -> u128 {
    u128::from_str_radix(id, 16).unwrap_or(0)
}

/// Text, of which what is older lies in a file.
#[derive(Debug, Default)]
struct Text {
    file: Option<File>,
    /// Bytes in the file.
    filed: u64,
    recent: Vec<u8>,
}

impl Text {
    fn end(&self) -> u64 {
        self.filed + self.recent.len() as u64
    }

    /// Adds an object; its length.
    fn add(&mut self, object: &impl Serialize) -> io::Result<u32> {
        let before = self.recent.len();
        serde_json::to_writer(&mut self.recent, object)?;
        u32::try_from(self.recent.len() - before).map_err(io::Error::other)
    }

    fn bound(&mut self) -> io::Result<()> {
        if self.recent.len() < IN_MEMORY {
            return Ok(());
        }
        self.file_away().map_err(no_place)
    }

    fn file_away(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.seek(SeekFrom::Start(self.filed))?;
        file.write_all(&self.recent)?;
        self.filed = self.end();
        self.recent.clear();
        Ok(())
    }

    fn read(&mut self, at: i64, length: u32, to: &mut Vec<u8>) -> io::Result<()> {
        let (at, length) = (at as u64, length as usize);
        to.clear();
        if let Some(within) = at.checked_sub(self.filed) {
            let range: Range<usize> = within as usize..within as usize + length;
            to.extend_from_slice(&self.recent[range]);
            return Ok(());
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.seek(SeekFrom::Start(at))?;
        file.take(length as u64).read_to_end(to)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::alert::incident::Step;
    use crate::alert::{Actor, DetectorRef, Kind, ObjectId, Severity, SourceIp, Status};

    fn alert(id: u128, seconds: i64, detector: &str) -> Alert {
        let time = Timestamp::from_second(seconds).expect("a time");
        Alert {
            schema: SCHEMA.to_owned(),
            id: format!("{id:032x}"),
            fingerprint: format!("{:032x}", id / 10),
            notification_id: format!("{id:032x}-1"),
            incident: None,
            detector: Arc::new(DetectorRef {
                id: detector.to_owned(),
                revision: 3,
                hash: "0f".to_owned(),
                title: format!("\"{detector}\""),
                kind: Kind::Threat,
            }),
            severity: Severity::High,
            status: Status::Closed,
            summary: "a \"summary\"\n".to_owned(),
            reason: "{}".to_owned(),
            cluster: "/c".to_owned(),
            cluster_name: "c".to_owned(),
            first_seen: Some(time),
            last_seen: Some(time),
            detected_at: None,
            count: 7,
            actor: Actor::default(),
            source_ip: SourceIp::default(),
            user_agent: "ü".repeat(300),
            object: ObjectId::default(),
            attack: ["T1609".to_owned()].into(),
            guide: detector.into(),
            triage: "Look.".into(),
            remedy: "}".into(),
            references: [].into(),
            evidence: Vec::new(),
        }
    }

    fn incident(id: u128, fingerprint: u128, from: i64, to: i64) -> Incident {
        let time = |seconds| Timestamp::from_second(seconds).ok();
        let json = serde_json::json!({
            "schema": "", "id": format!("{id:032x}"), "notification_id": "", "replaces": [],
            "severity": "low", "status": "closed", "summary": "", "account": "", "cluster": "",
            "cluster_name": "", "first_seen": time(from), "last_seen": time(to),
            "detected_at": null, "count": 1, "actors": [], "source_ips": [], "tactics": [],
            "attack": [], "joined_by": [], "steps": [], "beyond": 0,
        });
        let mut incident: Incident = serde_json::from_value(json).expect("an incident");
        let step = serde_json::json!({
            "alert": "", "fingerprint": format!("{fingerprint:032x}"), "detector": "", "title": "",
            "kind": "threat", "severity": "low", "summary": "", "actor": "", "impersonated": null,
            "source_ip": SourceIp::default(), "place": "", "user_agent": "",
            "object": ObjectId::default(), "tactics": [], "attack": [], "first_seen": time(from),
            "last_seen": time(to), "count": 1, "audit_ids": [],
        });
        let step: Step = serde_json::from_value(step).expect("a step");
        incident.steps = vec![step];
        incident
    }

    fn printed(shelf: &mut Shelf) -> Vec<String> {
        let mut lines = Vec::new();
        let print = |json: &[u8]| {
            lines.push(String::from_utf8(json.to_vec()).expect("UTF-8"));
            Ok(())
        };
        shelf.alerts(print).expect("it prints");
        lines
    }

    #[test]
    fn alerts_come_out_as_they_are_serialised_in_order_with_their_incident() {
        let mut shelf = Shelf::new().expect("a database");
        let mut alerts = [
            alert(51, 30, "pod-exec"),
            alert(50, 30, "port-forward"),
            alert(40, 20, "pod-exec"),
            alert(41, 90, "pod-exec"),
        ];
        for alert in &alerts {
            shelf.put(alert).expect("it keeps");
        }
        for (id, fingerprint, from, to) in [(9, 4, 10, 20), (8, 4, 80, 99), (7, 5, 31, 99)] {
            let incident = incident(id, fingerprint, from, to);
            shelf.put_incident(&incident).expect("it keeps");
        }
        alerts.sort_by_key(|alert| (alert.first_seen, number(&alert.id)));
        alerts[0].incident = Some(format!("{:032x}", 9));
        alerts[3].incident = Some(format!("{:032x}", 8));
        let expected = alerts.map(|alert| serde_json::to_string(&alert).expect("JSON"));
        assert_eq!(printed(&mut shelf), expected);
    }

    #[test]
    fn times_are_ordered_by_their_bytes() {
        let times = [
            None,
            Some(Timestamp::MIN),
            Timestamp::from_second(-2).ok(),
            Some(Timestamp::UNIX_EPOCH),
            Timestamp::from_nanosecond(1).ok(),
            Timestamp::from_second(1_800_000_000).ok(),
            Some(Timestamp::MAX),
        ];
        assert!(times.is_sorted() && times.map(moment).is_sorted());
    }

    #[test]
    fn what_does_not_fit_into_memory_comes_back_from_the_file() {
        let mut shelf = Shelf::new().expect("a database");
        let mut alert = alert(0, 0, "pod-exec");
        alert.summary = "x".repeat(1 << 20);
        for id in 0..70 {
            alert.id = format!("{id:032x}");
            shelf.put(&alert).expect("it keeps");
        }
        assert!(shelf.text.filed > 0 && shelf.text.recent.len() < IN_MEMORY);
        let lines = printed(&mut shelf);
        assert_eq!(lines.len(), 70);
        for (id, line) in lines.iter().enumerate() {
            alert.id = format!("{id:032x}");
            assert_eq!(*line, serde_json::to_string(&alert).expect("JSON"));
        }
    }
}
