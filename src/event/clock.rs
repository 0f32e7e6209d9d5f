//! When an event happened, as far as its record can be believed.
//!
//! A record names its own time, and a broken API server, or whoever may write to the hub, can name
//! any. The detectors' memory runs on event time: a single record dated 2099 would close every alert,
//! empty every window, and have all that comes after it look too late to matter. But nothing can have
//! happened after the hub took in the message that tells of it, and the hub's time is the service's
//! own. It is the same whenever the message is read, so that a second reading finds the same.

use jiff::{SignedDuration, Timestamp};

/// By how much the API server's clock may be ahead of the hub's.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// What the times of one chunk's records are held against. In an archive nobody knows when a record
/// was taken in, so that it can only lend the time before it to one that tells none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    received: Option<Timestamp>,
    before: Option<Timestamp>,
}

/// Why a record's own time is not the one it counts at; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdated {
    /// It lies after the hub took the record in.
    Future,
    /// It tells none, or none that can be read.
    Untold,
}

impl Clock {
    /// `received` is when the hub took the chunk in; `before`, the last time told before it.
    pub fn new(received: Option<Timestamp>, before: Option<Timestamp>) -> Clock {
        Clock { received, before }
    }

    /// The time at which a record counts that tells `told`; `None` where nobody knows.
    pub fn time(&self, told: Option<Timestamp>) -> Option<Timestamp> {
        match self.misdated(told) {
            None => told,
            Some(_) => self.received.or(self.before),
        }
    }

    pub fn misdated(&self, told: Option<Timestamp>) -> Option<Misdated> {
        let Some(told) = told else {
            return Some(Misdated::Untold);
        };
        let received = self.received?;
        (told.duration_since(received) > AHEAD).then_some(Misdated::Future)
    }

    /// Goes on to the next record.
    pub fn passed(&mut self, time: Option<Timestamp>) {
        self.before = time.or(self.before);
    }

    /// The last time told.
    pub fn before(&self) -> Option<Timestamp> {
        self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happens_after_it_was_received() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let received = at("2026-11-20T10:00:00Z");
        let clock = Clock::new(received, at("2026-11-20T09:00:00Z"));
        for believed in [
            "2026-11-20T10:01:00Z",
            "2026-11-20T03:00:00Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(clock.time(at(believed)), at(believed));
            assert_eq!(clock.misdated(at(believed)), None);
        }
        for future in [
            "2026-11-20T10:01:01Z",
            "2099-01-01T00:00:00Z",
            "9999-12-30T22:00:00Z",
        ] {
            assert_eq!(clock.time(at(future)), received);
            assert_eq!(clock.misdated(at(future)), Some(Misdated::Future));
        }
        assert_eq!(clock.time(None), received);
        assert_eq!(clock.misdated(None), Some(Misdated::Untold));
    }

    #[test]
    fn in_an_archive_the_record_before_lends_its_time() {
        let mut clock = Clock::default();
        assert_eq!(clock.time(None), None);
        let told = "2099-01-01T00:00:00Z".parse().ok();
        assert_eq!(clock.time(told), told);
        clock.passed(told);
        clock.passed(None);
        assert_eq!(clock.time(None), told);
    }
}
