//! An audit event, whole or not: every fact and field of it can be asked for, in any order, and what
//! the library finds can be judged, grouped, told of and remembered.

use lanner::alert::group::alert_of;
use lanner::alert::render;
use lanner::decode::{Content, Decoder, Payload, audit};
use lanner::detect::order::Learning;
use lanner::detect::{Judge, Scratch};
use lanner::event::fact::FACTS;
use lanner::event::field::FIELDS;
use lanner::event::memo::Memo;
use lanner::event::{Fact, Field, View};
use lanner::source::Framing;

use super::alert;
use super::shared::{ENGINE, chunk, matches};

pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let (content, _) = audit::read(text);
        if let Content::Event(event) = &content {
            // What is written of an event says the same when it is read again.
            assert_eq!(audit::read(text).0, Content::Event(event.clone()));
        }
    }
    Decoder::default().decode(&chunk(data, Framing::Value), &mut |record| {
        let Payload::Audit(event) = &record.payload else {
            return;
        };
        let site = ENGINE.sites.of(&record.origin.cluster);
        let memo = Memo::default();
        let forwards = View::new(event, &record.origin, site);
        let backwards = View::with_memo(event, &record.origin, site, Some(&memo));
        let again = View::with_memo(event, &record.origin, site, Some(&memo));
        let facts = || {
            FACTS
                .iter()
                .map(|info| Fact::parse(info.name).expect("it is a fact"))
        };
        let expected: Vec<_> = facts().map(|fact| forwards.fact(fact)).collect();
        let mut found: Vec<_> = facts().rev().map(|fact| backwards.fact(fact)).collect();
        found.reverse();
        assert_eq!(
            found, expected,
            "facts depend on the order they are asked in"
        );
        let found: Vec<_> = facts().map(|fact| again.fact(fact)).collect();
        assert_eq!(found, expected, "facts depend on what is remembered");
        for info in FIELDS {
            let field = Field::parse(info.name).expect("it is a field");
            assert_eq!(forwards.field(field).text(), again.field(field).text());
        }
    });
    let mut scratch = Scratch::new(None);
    let found = matches(
        &ENGINE,
        &mut Decoder::default(),
        &mut scratch,
        data,
        Framing::Value,
    );
    let mut judge = Judge::new(Learning::Archive);
    for found in found {
        let judgement = judge.judge(&ENGINE, found);
        let detector = ENGINE.detector(judgement.found.detector);
        let time = judgement.found.occurrence.clock();
        let told = alert_of(detector, &judgement, time);
        assert!(told.summary.len() < 16 << 10, "a summary without bounds");
        alert::check(&told);
        assert!(!render::one_line(&told).contains('\n'));
    }
}
