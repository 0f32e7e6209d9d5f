//! What a worker remembers of events that came to nothing: an API server writes the same event again
//! and again, with another audit ID, other times and other bodies.
//!
//! Fed by [`crate::decode::Decoder`] with events of which its receiver says that others like it come to
//! the same note, whatever stands in these places. What reading an event comes to depends on its text
//! alone, so that of one which agrees with a remembered one everywhere else only the places themselves
//! are read. Whether it agrees, a keyed hash of the text says, so that nobody who writes log content can
//! make one event be taken for another.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use ahash::{AHasher, RandomState};
use jiff::Timestamp;
use memchr::memmem::Finder;

use super::block::find_special;
use super::jump::jump;
use super::time::Minute;

/// What may stand in a place where events that come to the same differ.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// A string that is plain and not empty: an audit ID, or the object's version or uid.
    #[default]
    Text,
    /// An object or array.
    Body,
    Received,
    StageTime,
}

/// Where the gaps of an event stand that is being read.
#[derive(Debug, Default)]
pub struct Gaps {
    event: Range<usize>,
    /// Its head, and a hash of that.
    head: Option<(Head, Lanes)>,
    places: Vec<(Range<usize>, Gap)>,
    /// A value stood where a gap should be that cannot be one.
    spoiled: bool,
}

/// Honest events have six.
const MAX_GAPS: usize = 8;

impl Gaps {
    fn begin(&mut self, start: usize) {
        self.event = start..start;
        self.head = None;
        self.places.clear();
        self.spoiled = false;
    }

    pub fn end(&mut self, end: usize) {
        self.event.end = end;
    }

    /// A value stands at `place` of `text`, escaped: within its quotes where it has some.
    pub fn value(&mut self, text: &str, place: Range<usize>, gap: Gap) {
        let place = match gap {
            Gap::Body => Some(place),
            _ => within_quotes(text, place),
        };
        match place {
            Some(place) if self.places.len() < MAX_GAPS => self.places.push((place, gap)),
            _ => self.spoiled = true,
        }
    }
}

/// The inside of a plain string that is not empty.
fn within_quotes(text: &str, place: Range<usize>) -> Option<Range<usize>> {
    let value = text.get(place.clone())?;
    let inside = value.strip_prefix("\\\"")?.strip_suffix("\\\"")?;
    let plain = !inside.is_empty() && memchr::memchr(b'\\', inside.as_bytes()).is_none();
    plain.then_some(place.start + 2..place.end - 2)
}

/// An event that agrees with a remembered one.
#[derive(Debug, Clone, Copy)]
pub struct Again {
    place: usize,
    /// Of the names of the record that the remembered event was in; see `Repeats::names`.
    pub names: u64,
    pub length: usize,
    pub received: Option<Timestamp>,
    pub stage_time: Option<Timestamp>,
}

/// What stands behind an event's audit ID, by which events are told apart: stage, URI, verb, user,
/// addresses and client. Indices of the event.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Where the audit ID begins, which ends where the head begins.
    id: usize,
    start: usize,
    end: usize,
}

/// In a place of its own, of two of a processor's cache lines, which are fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Known {
    /// Of its head, and of the names that stand before it.
    key: u64,
    /// Of all that does not stand in a gap, and of these names.
    hash: u64,
    /// Of the names, wherever they stand.
    names: u64,
    /// The gaps behind the head, each with how many bytes there are before it.
    gaps: [(u16, Gap); MAX_GAPS],
    len: u8,
    /// Bytes behind the last one.
    rest: u16,
    note: Note,
    /// Met since it was last thought of being replaced.
    met: bool,
}

const _: () = assert!(size_of::<Known>() == 128, "one place, not two");

/// What an event came to; mostly a few numbers, which then stand with the rest of it.
#[derive(Debug)]
enum Note {
    Few([u64; FEW], u8),
    Many(Box<[u64]>),
}

const FEW: usize = 4;

impl Default for Note {
    fn default() -> Note {
        Note::Few([0; FEW], 0)
    }
}

impl Note {
    fn new(note: &[u64]) -> Note {
        let mut few = [0; FEW];
        match few.get_mut(..note.len()) {
            Some(place) => {
                place.copy_from_slice(note);
                Note::Few(few, note.len() as u8)
            }
            None => Note::Many(note.into()),
        }
    }

    fn get(&self) -> &[u64] {
        match self {
            Note::Few(few, len) => &few[..usize::from(*len)],
            Note::Many(many) => many,
        }
    }
}

/// Belongs to one worker thread.
#[derive(Debug)]
pub struct Repeats {
    hasher: RandomState,
    client: Finder<'static>,
    /// None until something is remembered.
    sets: Vec<Set>,
    /// Heads of events that might have been remembered: only what comes a second time is worth it.
    met_once: Vec<u32>,
    pub gaps: Gaps,
}

/// Small, so that a cache holds all of them.
#[derive(Debug, Default)]
struct Set {
    /// Of the keys, so that places that cannot fit are not looked at; zero is an empty place.
    tags: [u32; WAYS],
    turn: u8,
    /// Made with the first of them: of traffic that hardly repeats, few sets are used.
    known: Option<Box<[Known; WAYS]>>,
}

fn tag(key: u64) -> u32 {
    (key >> 32) as u32 | 1
}

/// Sets of the table, each of [`WAYS`]: a power of two.
const SETS: usize = 1 << 12;
const WAYS: usize = 8;

/// Slots of [`Repeats::met_once`].
const ONCE: usize = 1 << 17;

/// Honest heads are shorter.
const MAX_HEAD: usize = 4096;

/// How the API server begins an event, escaped, up to the level; and what follows the level.
const BEGINNING: &[u8] = br#"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\""#;
const BEFORE_ID: &[u8] = br#"\",\"auditID\":\""#;

/// What the head's last value stands behind. A search for quotes and backslashes, which are everywhere,
/// would stop everywhere.
const CLIENT: &[u8] = b"userAgent";
const BEFORE_CLIENT: &[u8] = br#"\":\""#;

impl Default for Repeats {
    fn default() -> Repeats {
        Repeats {
            hasher: RandomState::new(),
            client: Finder::new(CLIENT),
            sets: Vec::new(),
            met_once: Vec::new(),
            gaps: Gaps::default(),
        }
    }
}

impl Repeats {
    /// Where in the event that `event` begins with its head is; `None` for one that begins in another way
    /// than the API server's, which is never remembered.
    fn head(&self, event: &[u8]) -> Option<Head> {
        let level = event.strip_prefix(BEGINNING)?;
        let id = level[find_special(level, 0)?..].strip_prefix(BEFORE_ID)?;
        let rest = &id[find_special(id, 0)?..];
        if rest.len() == id.len() {
            return None;
        }
        let looked_at = &rest[..rest.len().min(MAX_HEAD)];
        let key = self.client.find(looked_at)?;
        let client = rest[key + CLIENT.len()..].strip_prefix(BEFORE_CLIENT)?;
        let client = rest.len() - client.len();
        let start = event.len() - rest.len();
        Some(Head {
            id: event.len() - id.len(),
            start,
            end: start + find_special(rest, client)?,
        })
    }

    /// A hash of a record's resource id and category.
    pub fn names(&self, resource_id: &str, category: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(resource_id.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(category.as_bytes());
        hasher.finish()
    }

    /// Whether the event at `at` of `text` is one that is remembered. `about` is of the names that have
    /// been read before it; the others may stand behind it.
    pub fn find(
        &mut self,
        text: &str,
        at: usize,
        about: u64,
        minute: &mut Minute,
    ) -> Option<Again> {
        self.gaps.begin(at);
        let event = text.get(at..)?;
        let head = self.head(event.as_bytes())?;
        let mut hasher = Lanes::new(&self.hasher, about);
        hasher.write(&event.as_bytes()[head.start..head.end]);
        let key = hasher.finish();
        let (head, hasher) = self.gaps.head.insert((head, hasher));
        let number = key as usize % SETS;
        let set = self.sets.get_mut(number)?;
        let all = set.known.as_deref_mut()?;
        let mut ways = (0..WAYS).filter(|way| set.tags[*way] == tag(key));
        ways.find_map(|way| {
            let place = number * WAYS + way;
            let known = Some(&mut all[way]).filter(|known| known.key == key)?;
            let (length, [received, stage_time]) =
                known.read(event, head, hasher.clone(), minute)?;
            known.met = true;
            Some(Again {
                place,
                names: known.names,
                length,
                received,
                stage_time,
            })
        })
    }

    pub fn note(&self, again: &Again) -> &[u64] {
        let known = self.sets[again.place / WAYS].known.as_deref();
        known.map_or(&[], |known| known[again.place % WAYS].note.get())
    }

    /// Forgets an event whose note no longer holds.
    pub fn forget(&mut self, again: &Again) {
        self.sets[again.place / WAYS].tags[again.place % WAYS] = 0;
    }

    /// Remembers the event that was looked for last, whose gaps were noted when it was read, and that
    /// came to `note` in a record of these names.
    pub fn put(&mut self, text: &str, names: u64, note: &[u64]) {
        let Some((_, hasher)) = &self.gaps.head else {
            return;
        };
        let key = hasher.finish();
        if self.met_once.is_empty() {
            self.met_once.resize(ONCE, 0);
            self.sets.resize_with(SETS, Set::default);
        }
        let met = &mut self.met_once[key as usize % ONCE];
        if std::mem::replace(met, tag(key)) != tag(key) {
            return;
        }
        if let Some(known) = self.known(text, names, note) {
            self.sets[key as usize % SETS].put(known);
        }
    }

    fn known(&self, text: &str, names: u64, note: &[u64]) -> Option<Known> {
        let Gaps {
            event,
            head,
            places,
            spoiled,
        } = &self.gaps;
        let ((id, Gap::Text), behind) = places.split_first()? else {
            return None;
        };
        let (head, hasher) = head.as_ref().filter(|_| !spoiled)?;
        if *id != (event.start + head.id..event.start + head.start) {
            return None;
        }
        let key = hasher.finish();
        let mut hasher = hasher.clone();
        hasher.write(&text.as_bytes()[event.start..id.start]);
        let mut gaps = [(0, Gap::Text); MAX_GAPS];
        let mut from = event.start + head.end;
        for ((place, gap), known) in behind.iter().zip(&mut gaps) {
            // None where it lies in the head.
            let before = text.get(from..place.start)?;
            hasher.write(before.as_bytes());
            *known = (u16::try_from(before.len()).ok()?, *gap);
            from = place.end;
        }
        let rest = text.get(from..event.end)?;
        hasher.write(rest.as_bytes());
        Some(Known {
            key,
            hash: hasher.finish(),
            names,
            gaps,
            len: behind.len() as u8,
            rest: u16::try_from(rest.len()).ok()?,
            note: Note::new(note),
            met: false,
        })
    }

    /// Forgets every event: what they came to may be another thing now.
    pub fn clear(&mut self) {
        self.sets.iter_mut().for_each(|set| set.tags.fill(0));
    }
}

/// A hash of long texts: four chains beside one another take a processor a third of the time of one.
#[derive(Debug, Clone)]
struct Lanes([AHasher; 4]);

/// Shorter texts are not worth the parting.
const WORTH_PARTING: usize = 128;

impl Lanes {
    fn new(state: &RandomState, seed: u64) -> Lanes {
        let mut lanes = Lanes(std::array::from_fn(|_| state.build_hasher()));
        for (lane, number) in lanes.0.iter_mut().zip(0..) {
            lane.write_u64(seed);
            lane.write_u8(number);
        }
        lanes
    }

    #[inline]
    fn write(&mut self, text: &[u8]) {
        if text.len() < WORTH_PARTING {
            self.0[0].write(text);
            return;
        }
        let [half, quarter] = [text.len() / 2, text.len() / 4];
        self.0[0].write(&text[..quarter]);
        self.0[1].write(&text[quarter..half]);
        self.0[2].write(&text[half..half + quarter]);
        self.0[3].write(&text[half + quarter..]);
    }

    fn finish(&self) -> u64 {
        let [first, others @ ..] = &self.0;
        let mut first = first.clone();
        for lane in others {
            first.write_u64(lane.finish());
        }
        first.finish()
    }
}

impl Set {
    /// Where there is no more room, those that were met since their last turn stay.
    fn put(&mut self, new: Known) {
        let known = self.known.get_or_insert_default();
        let way = match self.tags.iter().position(|tag| *tag == 0) {
            Some(empty) => empty,
            None => {
                let mut way = usize::from(self.turn) % WAYS;
                while std::mem::take(&mut known[way].met) {
                    way = (way + 1) % WAYS;
                }
                self.turn = (way + 1) as u8;
                way
            }
        };
        self.tags[way] = tag(new.key);
        known[way] = new;
    }
}

impl Known {
    /// The length of the event that `event` begins with, and its times, if it agrees with this one.
    fn read(
        &self,
        event: &str,
        head: &Head,
        mut hasher: Lanes,
        minute: &mut Minute,
    ) -> Option<(usize, [Option<Timestamp>; 2])> {
        let bytes = event.as_bytes();
        hasher.write(&bytes[..head.id]);
        let mut at = head.end;
        let mut times = [None; 2];
        for (length, gap) in &self.gaps[..usize::from(self.len)] {
            let from = at;
            at += usize::from(*length);
            hasher.write(bytes.get(from..at)?);
            let start = at;
            if *gap == Gap::Body {
                if !matches!(bytes.get(at), Some(b'{' | b'[')) {
                    return None;
                }
                at = jump::<true>(bytes, at + 1)?;
                continue;
            }
            // What follows is the closing quote, which belongs to the text behind the gap.
            at = find_special(bytes, at)?;
            let value = event.get(start..at).filter(|value| !value.is_empty())?;
            match gap {
                Gap::Received => times[0] = Some(minute.parse(value)?),
                Gap::StageTime => times[1] = Some(minute.parse(value)?),
                Gap::Text | Gap::Body => {}
            }
        }
        let from = at;
        at += usize::from(self.rest);
        hasher.write(bytes.get(from..at)?);
        (hasher.finish() == self.hash).then_some((at, times))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::{Cursor, ESCAPED};
    use super::super::spare::Spare;
    use super::super::users::Users;
    use super::super::{Bodies, event};
    use super::*;
    use crate::decode::audit::Parsed;

    fn event(id: &str, version: &str, second: u32, body: &str, reason: &str) -> String {
        format!(
            r#"{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Request\",\"auditID\":\"{id}\",\"stage\":\"ResponseComplete\",\"requestURI\":\"/a\",\"verb\":\"update\",\"user\":{{\"username\":\"u\"}},\"userAgent\":\"c/1\",\"objectRef\":{{\"resource\":\"leases\",\"resourceVersion\":\"{version}\"}},\"requestObject\":{body},\"requestReceivedTimestamp\":\"2026-11-20T10:00:0{second}.000001Z\",\"stageTimestamp\":\"2026-11-20T10:00:0{second}.5Z\",\"annotations\":{{\"reason\":\"{reason}\"}}}}\""#
        )
    }

    fn read(repeats: &mut Repeats, text: &str) {
        let mut room = [];
        let mut cursor = Cursor::new(text, 0, &mut room);
        let (bodies, mut parsed) = (Bodies::default(), Parsed::default());
        let (mut spare, mut users) = (Spare::default(), Users::default());
        let gaps = &mut repeats.gaps;
        event::read::<ESCAPED>(
            &mut cursor,
            &bodies,
            &mut spare,
            &mut users,
            gaps,
            &mut parsed,
        )
        .unwrap();
        gaps.end(cursor.at());
    }

    #[test]
    fn what_differs_in_its_gaps_alone_is_the_same_again() {
        let mut repeats = Repeats::default();
        let mut minute = Minute::default();
        let first = event("1", "7", 1, r#"{\"a\":1}"#, "r");
        assert!(repeats.find(&first, 0, 5, &mut minute).is_none());
        read(&mut repeats, &first);
        repeats.put(&first, 6, &[4, 2]);
        assert!(repeats.find(&first, 0, 5, &mut minute).is_none());
        read(&mut repeats, &first);
        repeats.put(&first, 6, &[4, 2]);
        let again = event("another", "123", 9, r#"[\"}\"]"#, "r");
        let text = format!("é{again} more");
        let found = repeats.find(&text, 2, 5, &mut minute).unwrap();
        assert_eq!((found.length, found.names), (again.len() - 2, 6));
        assert_eq!(repeats.note(&found), [4, 2]);
        let time = |text: &str| text.parse().ok();
        assert_eq!(found.received, time("2026-11-20T10:00:09.000001Z"));
        assert_eq!(found.stage_time, time("2026-11-20T10:00:09.5Z"));
    }
}
