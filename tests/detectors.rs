//! The shipped detectors: they load, their own tests pass, and each says what it must.

use std::path::Path;

use lanner::detect::spec::Expect;
use lanner::detect::{Detector, Engine, load, mutate, selftest};
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
    let detectors = shipped();
    let has = |detector: &Detector, row: &str, expect: Expect| {
        detector.tests.iter().any(|test| {
            test.expect == expect
                && test
                    .row
                    .as_ref()
                    .is_some_and(|named| named.get_ref() == row)
        })
    };
    let mut missing = Vec::new();
    for detector in &detectors {
        for row in &detector.covers {
            if !has(detector, row, Expect::Alert) {
                missing.push(format!("{}: no test of {row} alerts", detector.id));
            }
            if !detectors
                .iter()
                .any(|detector| has(detector, row, Expect::Quiet))
            {
                missing.push(format!("no test of {row} stays quiet"));
            }
        }
        if !detector
            .tests
            .iter()
            .any(|test| test.expect == Expect::Quiet)
        {
            missing.push(format!("{}: no test stays quiet", detector.id));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn texts_are_there_for_whoever_is_woken() {
    for detector in shipped() {
        for (name, text) in [
            ("title", detector.reference.title.as_str()),
            ("description", &detector.description),
            ("triage", &*detector.triage),
            ("remedy", &*detector.remedy),
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

#[test]
fn no_mutant_survives() {
    let engine = Engine::new(shipped(), Sites::default());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/envelopes");
    let surveys = mutate::run(&engine, |_| true, &[&fixtures]);
    let mutants: usize = surveys.iter().map(|survey| survey.mutants).sum();
    assert!(
        mutants > surveys.len(),
        "only {mutants} mutants of {} detectors",
        surveys.len()
    );
    let unexplained: Vec<_> = surveys.iter().filter(|survey| !survey.is_fine()).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}

/// A detector that its tests say too little of, as a person sees it.
#[test]
fn survivors_are_named() {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .and_then(|()| std::fs::write(&path, text))
            .expect("the folder can be written to");
        path
    };
    write("own/pod-deleted.toml", WEAKLY_TESTED);
    let own = folder.path().join("own");
    let config = write(
        "lanner.toml",
        &format!("detectors-dir = {:?}\n", own.display().to_string()),
    );
    for format in ["table", "ndjson"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["detectors", "test", "--mutate", "pod-deleted"])
            .args(["--format", format, "--config"])
            .arg(&config)
            .output()
            .expect("the program starts");
        assert_eq!(
            output.status.code(),
            Some(4),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let shown = String::from_utf8(output.stdout).expect("its output is text");
        insta::assert_snapshot!(format!("survivors_{format}"), shown);
    }
}

const WEAKLY_TESTED: &str = r#"
id = "pod-deleted"
revision = 1
title = "Pods deleted"
kind = "threat"
severity = "low"
requires = ["kube-audit-admin"]
description = "Someone deletes pods."
false_positives = []
triage = "Ask who it was."
remedy = "Take the right away."

[match]
groups = [""]
resources = ["pods"]
verbs = ["delete", "deletecollection"]
facts = ["succeeded"]
not = ["actor.platform", "dry_run"]
when = 'object.ns != "kube-system"'

[[raise]]
facts = ["actor.human"]
severity = "medium"

[threshold]
key = ["cluster", "actor.user"]
distinct = "object.name"
count = 2
window = "10m"

[alert]
summary = "{{ actor.user }} deleted pods"
group_by = ["actor.user"]
quiet_for = "1h"

[[test]]
name = "two pods"
expect = "alert"
events = [{ verb = "delete" }, { verb = "delete", objectRef = { name = "web-1" } }]

[[test]]
name = "read"
expect = "quiet"
events = [{ verb = "get" }, { verb = "get", objectRef = { name = "web-1" } }]

[[equivalent]]
mutant = "match.groups: \"\""
reason = "No other group has pods."

[[equivalent]]
mutant = "threshold.count: +1"
reason = "Wrong: the first test notices it."

[[equivalent]]
mutant = "match.not: dryrun"
reason = "Wrong: there is no such fact."
"#;

/// A site's own detector, with what makes it right or wrong put in.
fn site_detector(fact: &str, expect: &str) -> String {
    format!(
        r#"id = "exec-in-production"
revision = 1
title = "Exec in production"
kind = "threat"
severity = "high"
requires = ["kube-audit"]
description = "Somebody ran a command in production."
false_positives = []
triage = "Ask them."
remedy = "Take the right away."

[match]
resources = ["pods"]
subresources = ["exec"]
facts = ["{fact}"]
when = 'object.ns.startsWith("prod-")'

[alert]
summary = "{{{{ actor.user }}}} ran a command in {{{{ object.ns }}}}"
group_by = ["cluster", "actor.user"]
quiet_for = "1h"

[[test]]
name = "elsewhere"
expect = "{expect}"
event = {{ objectRef = {{ subresource = "exec", namespace = "dev" }}, responseStatus = {{ code = 101 }} }}
"#
    )
}

#[test]
fn a_site_detector_is_refused_where_it_is_wrong_or_its_test_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("lanner.toml");
    std::fs::write(&config, "detectors-dir = \"own\"\n").expect("a file");
    std::fs::create_dir(folder.path().join("own")).expect("a folder");
    let check = |detector: &str| {
        let file = folder.path().join("own/exec-in-production.toml");
        std::fs::write(file, detector).expect("a file");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["check", "--config"])
            .arg(&config)
            .output()
            .expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };

    assert_eq!(check(&site_detector("succeeded", "quiet")).0, Some(0));
    let (code, said) = check(&site_detector("suceeded", "quiet"));
    assert_eq!(code, Some(78));
    assert!(said.contains("exec-in-production.toml:15:10"), "{said}");
    assert!(said.contains("did you mean `succeeded`?"), "{said}");
    let (code, said) = check(&site_detector("succeeded", "alert"));
    assert_eq!(code, Some(78));
    assert!(said.contains("the test \"elsewhere\" fails"), "{said}");
}
