//! A record by the walker: tries it, hands on what was read, and counts what came again.
//!
//! Called by [`super::decoder`] where a record begins; what the walker leaves goes back there, to the
//! full parse.

use super::audit::{self, Parsed};
use super::decoder::{Place, Walk};
use super::envelope::{self, Log, Route};
use super::walker::{self, Again, Around, Bodies, Buffers, Found};
use super::{Fallback, Form, Ignored, Payload, Repeat};
use crate::event::Category;

/// What has to follow a record for it to be one by itself.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    Line,
    Element,
    Text,
}

impl Ends {
    fn here(self, rest: &[u8]) -> bool {
        match self {
            Ends::Line => matches!(rest, [] | [b'\n', ..] | [b'\r', b'\n', ..]),
            Ends::Element => matches!(rest, [b',' | b']', ..]),
            Ends::Text => rest.is_empty(),
        }
    }
}

/// A record that the walker has read.
struct Read<'a> {
    around: Option<Around<'a>>,
    found: Found<'a>,
    end: usize,
}

/// Why a record is not done with.
enum Left {
    For(Fallback),
    /// What this one is taken for is no longer what it was.
    Stale(Again),
}

impl From<Fallback> for Left {
    fn from(reason: Fallback) -> Left {
        Left::For(reason)
    }
}

fn read<'a>(text: &'a str, at: usize, buffers: Buffers<'a, '_>) -> Result<Read<'a>, Fallback> {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    if rest.starts_with(b"{\"kind\":\"Event\"") {
        let end = walker::raw_event(text, at, buffers)?;
        return Ok(Read {
            around: None,
            found: Found::Event,
            end,
        });
    }
    let walked = walker::record(text, at, buffers)?;
    Ok(Read {
        around: Some(walked.around),
        found: walked.log,
        end: walked.end,
    })
}

impl Walk<'_, '_> {
    /// Tries the record at `at` of `text`, which begins at `offset`, with the walker: where the record
    /// ends, if it was one that the walker can read.
    pub(super) fn walk(
        &mut self,
        text: &str,
        at: usize,
        offset: usize,
        ends: Ends,
    ) -> Option<usize> {
        if !self.decoder.walks || text.as_bytes().get(at) != Some(&b'{') {
            return None;
        }
        loop {
            match self.attempt(text, at, offset, ends) {
                Ok(end) => return Some(end),
                Err(Left::Stale(again)) => self.decoder.memory.repeats.forget(&again),
                Err(Left::For(reason)) => {
                    self.fallback = Some(reason);
                    return None;
                }
            }
        }
    }

    fn attempt(&mut self, text: &str, at: usize, offset: usize, ends: Ends) -> Result<usize, Left> {
        let mut room = std::mem::take(&mut self.decoder.room);
        let mut spare = std::mem::take(&mut self.decoder.spare);
        let bodies = Bodies::default();
        let mut event = Parsed::default();
        let buffers = Buffers {
            room: &mut room,
            bodies: &bodies,
            spare: &mut spare,
            memory: &mut self.decoder.memory,
            event: &mut event,
        };
        let end = match read(text, at, buffers) {
            Ok(read) if ends.here(&text.as_bytes()[read.end..]) => {
                let place = Place {
                    raw: &text.as_bytes()[at..read.end],
                    offset: offset + at,
                };
                let end = read.end;
                self.take(read, text, place, &bodies, &mut event)
                    .map(|()| end)
            }
            Ok(_) => Err(Fallback::Syntax.into()),
            Err(reason) => Err(reason.into()),
        };
        spare.keep(event.event);
        self.decoder.room = room;
        self.decoder.spare = spare;
        end
    }

    /// Hands on or counts what was read, and remembers what need not be read again.
    fn take(
        &mut self,
        read: Read<'_>,
        text: &str,
        place: Place<'_>,
        bodies: &Bodies,
        event: &mut Parsed<'_>,
    ) -> Result<(), Left> {
        let names = match (read.around, read.found) {
            (Some(around), Found::Again(again)) => {
                return match self.again(&around, again) {
                    true => Ok(()),
                    false => Err(Left::Stale(again)),
                };
            }
            (around, found) => {
                let names = around.as_ref().map(|around| around.names);
                self.walked(around, found, place, event)?;
                names
            }
        };
        let unread = bodies.request.get().is_none() && bodies.response.get().is_none();
        if unread
            && let Some(names) = names
            && let Some(note) = self.sink.note()
        {
            self.decoder.memory.repeats.put(text, names, note);
        }
        Ok(())
    }

    /// Counts an event that came again; `false` where it has to be read after all.
    fn again(&mut self, around: &Around<'_>, again: Again) -> bool {
        let repeats = &self.decoder.memory.repeats;
        if around.names != again.names || !self.sink.holds(repeats.note(&again)) {
            return false;
        }
        let route = envelope::route(&around.category);
        let origin = self.origin(&around.resource_id, route, around.time);
        self.sink.again(Repeat {
            origin,
            form: Form::Escaped,
            time: again.stage_time.or(again.received),
            note: self.decoder.memory.repeats.note(&again),
        });
        true
    }

    /// Hands on what the walker has read.
    fn walked(
        &mut self,
        around: Option<Around<'_>>,
        found: Found<'_>,
        place: Place<'_>,
        parsed: &mut Parsed<'_>,
    ) -> Result<(), Fallback> {
        let (form, origin, route) = match around {
            None => (Form::Raw, self.no_origin(), Route::Unsaid),
            Some(around) => {
                let route = envelope::route(&around.category);
                let origin = self.origin(&around.resource_id, route, around.time);
                (Form::Escaped, origin, route)
            }
        };
        let log = match found {
            Found::Event => {
                if route == Route::Known(Category::KubeApiserver) {
                    return Err(Fallback::Form);
                }
                let ignored = match route {
                    Route::Other => Some(Ignored::Category),
                    _ => audit::judge(parsed),
                };
                let payload = match ignored {
                    None => Payload::Audit(&parsed.event),
                    Some(ignored) => Payload::Nothing(ignored),
                };
                self.hand_on(origin, place, form, payload, None);
                return Ok(());
            }
            Found::Again(_) => return Err(Fallback::Form),
            Found::Missing => Log::Missing,
            Found::Text(text) => Log::Escaped(text),
        };
        self.log(log, origin, route, place, form, None);
        Ok(())
    }
}
