//! The shipped detectors: they load, their own tests pass, and each says what it must.

use std::path::Path;

use lanner::detect::spec::Expect;
use lanner::detect::{Detector, Engine, load, selftest};
use lanner::event::Sites;

fn shipped() -> Vec<Detector> {
    match load::load(&load::shipped(), &[]) {
        Ok(detectors) => detectors,
        Err(problems) => panic!("{problems:#?}"),
    }
}

#[test]
fn self_tests_pass() {
    let engine = Engine::new(shipped(), Sites::default());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/envelopes");
    let report = selftest::run(&engine, |_| true, &[&fixtures]);
    for failure in &report.failures {
        eprintln!(
            "{}: {}: {}",
            failure.detector, failure.test, failure.message
        );
    }
    assert!(report.passed > 0, "no test ran");
    assert!(
        report.failures.is_empty(),
        "{} failed",
        report.failures.len()
    );
}

#[test]
fn every_covered_row_has_a_test_that_alerts_and_one_that_stays_quiet() {
    let mut missing = Vec::new();
    for detector in shipped() {
        for row in &detector.covers {
            let has = |expect: Expect| {
                detector.tests.iter().any(|test| {
                    test.expect == expect
                        && test
                            .row
                            .as_ref()
                            .is_some_and(|named| named.get_ref() == row)
                })
            };
            if !has(Expect::Alert) {
                missing.push(format!("{}: no test of {row} alerts", detector.id));
            }
            if !detector
                .tests
                .iter()
                .any(|test| test.expect == Expect::Quiet)
            {
                missing.push(format!("{}: no test stays quiet", detector.id));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn texts_are_there_for_whoever_is_woken() {
    for detector in shipped() {
        for (name, text) in [
            ("title", &detector.title),
            ("description", &detector.description),
            ("triage", &detector.triage),
            ("remedy", &detector.remedy),
        ] {
            assert!(!text.trim().is_empty(), "{}: {name} is empty", detector.id);
        }
        assert!(
            !detector.covers.is_empty(),
            "{}: covers nothing",
            detector.id
        );
        assert!(
            !detector.requires.is_empty(),
            "{}: requires nothing",
            detector.id
        );
    }
}
