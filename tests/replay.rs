//! Replay as its user runs it: the same records give the same lines, however they are packed and on
//! however many threads they are read.
#![cfg(feature = "emulator")]

#[path = "support/clusters.rs"]
mod clusters;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lanner::simulator::archive;
use serde_json::Value;

/// Twenty minutes around a full hour, so that each cluster has two files.
fn write_archive(folder: &Path) {
    let mut simulator = clusters::attacked(7, "2026-11-20T14:50:00Z", 20);
    archive::write(&mut simulator, folder).expect("an archive");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|name| name == "PT1H.json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn replay(arguments: &[&str], path: &str, stdin: Stdio) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(["replay", "--profile", "all", "--format", "ndjson"])
        .args(arguments)
        .arg(path)
        .stdin(stdin)
        .output()
        .expect("the program starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn each(folder: &Path, threads: &str) -> Vec<u8> {
    let path = folder.to_str().expect("UTF-8");
    replay(&["--each", "--threads", threads], path, Stdio::null()).stdout
}

/// A record of a command in a pod.
fn exec() -> String {
    let path = "tests/fixtures/envelopes/exec.json";
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file")
}

/// The lines without what names the file.
fn without_source(lines: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(lines)
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).expect("JSON");
            line["evidence"][0]["source"] = Value::Null;
            line["evidence"][0]["position"] = Value::Null;
            // Without an audit ID, a request is known by its place.
            line["id"] = Value::Null;
            line["notification_id"] = Value::Null;
            line
        })
        .collect()
}

/// Puts each file of the archive into another folder, under another name and packed by `pack`.
fn packed(from: &Path, to: &Path, ending: &str, pack: impl Fn(&[u8]) -> Vec<u8>) {
    for file in files(from) {
        let relative = file.strip_prefix(from).expect("below the folder");
        let target = to.join(relative).with_extension(ending);
        fs::create_dir_all(target.parent().expect("a parent")).expect("folders");
        let content = pack(&fs::read(&file).expect("a file"));
        File::create(&target)
            .and_then(|mut file| file.write_all(&content))
            .expect("a file");
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    // Two members, as of a file that was appended to.
    let (first, second) = content.split_at(content.len() / 2);
    let mut out = Vec::new();
    for half in [first, second] {
        let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
        encoder
            .write_all(half)
            .and_then(|()| encoder.try_finish())
            .expect("in memory");
    }
    out
}

#[test]
fn threads_and_packing_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    write_archive(&plain);
    assert!(files(&plain).len() >= 6);

    let one = each(&plain, "1");
    let lines = without_source(&one);
    for outcome in ["alert", "counted", "learning", "duplicate"] {
        assert!(
            lines.iter().any(|line| line["outcome"] == outcome),
            "nothing was {outcome}"
        );
    }
    assert!(
        one == each(&plain, "2"),
        "two threads print something else than one"
    );
    assert!(
        one == each(&plain, "7"),
        "seven threads print something else than one"
    );

    let gz = folder.path().join("gz");
    packed(&plain, &gz, "json.gz", gzip);
    assert!(
        lines == without_source(&each(&gz, "2")),
        "gzip changes what is printed"
    );
    let zst = folder.path().join("zst");
    packed(&plain, &zst, "json.zst", |content| {
        zstd::encode_all(content, 1).expect("in memory")
    });
    assert!(
        lines == without_source(&each(&zst, "2")),
        "zstd changes what is printed"
    );
}

#[test]
fn alerts_are_the_same_on_every_run() {
    let folder = tempfile::tempdir().expect("a folder");
    write_archive(folder.path());
    let path = folder.path().to_str().expect("UTF-8");
    let alerts = |threads: &str| replay(&["--threads", threads], path, Stdio::null()).stdout;
    let once = alerts("1");
    assert!(!once.is_empty());
    for threads in ["2", "2", "5"] {
        assert!(
            once == alerts(threads),
            "{threads} threads give other alerts than one"
        );
    }
}

#[test]
fn incidents_hold_the_alerts_that_name_them() {
    let folder = tempfile::tempdir().expect("a folder");
    write_archive(folder.path());
    let path = folder.path().to_str().expect("UTF-8");
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let output = replay(arguments, path, Stdio::null()).stdout;
        String::from_utf8_lossy(&output)
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    let schema = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/incident.schema.json"
    ));
    let schema = serde_json::from_str(&schema.expect("a file")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let incidents = lines(&["--incidents"]);
    assert!(incidents == lines(&["--incidents", "--threads", "1"]));
    for incident in &incidents {
        let errors: Vec<_> = schema.iter_errors(incident).collect();
        assert!(errors.is_empty(), "{errors:?} in {incident}");
    }
    let several = incidents
        .iter()
        .filter(|incident| incident["steps"].as_array().is_some_and(|s| s.len() > 1));
    assert!(several.count() > 2);
    for alert in lines(&[]) {
        let of = incidents
            .iter()
            .find(|incident| incident["id"] == alert["incident"]);
        match of {
            None => assert_eq!(alert["detector"]["kind"], "hygiene"),
            Some(incident) => {
                let steps = incident["steps"].as_array().expect("steps");
                assert!(
                    steps
                        .iter()
                        .any(|step| step["fingerprint"] == alert["fingerprint"]),
                    "{alert}"
                );
            }
        }
    }
    let table = Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(["replay", "--format", "table", path])
        .output()
        .expect("the program starts");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.starts_with("INCIDENT "), "{table}");
    assert!(table.contains("In terms of ATT&CK"), "{table}");
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    write_archive(folder.path());
    let all = files(folder.path());
    let is_audit = |file: &&PathBuf| file.to_string_lossy().contains("logs-kube-audit/");
    let file = all.iter().find(is_audit).expect("a file of kube-audit");
    let path = file.to_str().expect("UTF-8");
    let from_file = replay(&["--each"], path, Stdio::null()).stdout;
    let stdin = Stdio::from(File::open(file).expect("a file"));
    let from_stdin = replay(&["--each"], "-", stdin).stdout;
    assert!(!from_file.is_empty());
    assert!(without_source(&from_file) == without_source(&from_stdin));
}

#[test]
fn without_room_for_what_waits_it_says_where_there_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let exec = exec();
    // Each is somebody else's, and so an alert of its own.
    let all: String = (0..1_500)
        .map(|number| {
            let line = exec.trim_end().replace("mona@", &format!("mona{number}@"));
            line.replace("8000-000000000001", &format!("8000-{number:012}")) + "\n"
        })
        .collect();
    let path = folder.path().join("execs.json");
    fs::write(&path, all).expect("a file");
    let run = |temporary: &str| {
        Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["replay", "--format", "ndjson"])
            .arg(&path)
            .env("TMPDIR", temporary)
            .output()
            .expect("the program starts")
    };
    let there = run(folder.path().to_str().expect("UTF-8"));
    assert!(there.status.success() && there.stdout.len() > 2 << 20);
    let nowhere = run("/nonexistent");
    assert_eq!(nowhere.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nowhere.stderr);
    assert!(
        said.contains("/nonexistent") && said.contains("TMPDIR"),
        "{said}"
    );
}

#[test]
fn fail_on_a_severity_has_its_own_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    write_archive(folder.path());
    let run = |severity: &str| {
        Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["replay", "--format", "ndjson", "--fail-on", severity])
            .arg(folder.path())
            .output()
            .expect("the program starts")
            .status
            .code()
    };
    assert_eq!(run("low"), Some(3));
    let none = Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(["replay", "/nonexistent/archive"])
        .output()
        .expect("the program starts");
    assert_eq!(none.status.code(), Some(69));
}

/// A record of ordinary reading, dated as a broken clock or a forger would.
fn from_the_future(number: usize) -> String {
    const OTHER: &str = "/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/OTHER";
    from_the_future_of(OTHER, number)
}

fn from_the_future_of(cluster: &str, number: usize) -> String {
    const TIME: &str = "2099-01-01T00:00:00.000000Z";
    let event = serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
        "auditID": format!("f0000000-0000-4000-8000-{number:012}"),
        "stage": "ResponseComplete", "verb": "get",
        "requestURI": "/api/v1/namespaces/shop/pods/web-0",
        "user": { "username": "nobody@example.com", "groups": ["system:authenticated"] },
        "sourceIPs": ["203.0.113.7"], "userAgent": "kubectl/v1.34.1",
        "objectRef": { "resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": TIME, "stageTimestamp": TIME,
    });
    let record = serde_json::json!({
        "category": "kube-audit", "time": TIME,
        "resourceId": cluster,
        "properties": { "log": format!("{event}\n"), "stream": "stdout" },
    });
    format!("{record}\n")
}

#[test]
fn a_record_from_its_own_future_makes_no_cluster_silent() {
    let folder = tempfile::tempdir().expect("a folder");
    write_archive(folder.path());
    for (number, path) in files(folder.path()).iter().enumerate() {
        let mut text = fs::read_to_string(path).expect("text");
        let first = text.lines().next().expect("a record");
        let record: Value = serde_json::from_str(first).expect("JSON");
        let cluster = record["resourceId"].as_str().expect("its cluster");
        text.push_str(&from_the_future_of(cluster, number));
        fs::write(path, text).expect("a file");
    }
    let lines = without_source(&each(folder.path(), "2"));
    let of = |id: &str| {
        lines
            .iter()
            .filter(|line| line["detector"]["id"] == id)
            .count()
    };
    assert!(of("pod-exec") > 0, "it was read");
    assert_eq!((of("cluster-silent"), of("category-missing")), (0, 0));
}

#[test]
fn records_from_the_future_change_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    write_archive(folder.path());
    let before = each(folder.path(), "2");
    // At the begin of every file, where its start is looked for, and all through it.
    for (file, path) in files(folder.path()).iter().enumerate() {
        let text = fs::read_to_string(path).expect("text");
        let mut forged = from_the_future(file);
        for (line, record) in text.split_inclusive('\n').enumerate() {
            forged.push_str(record);
            if line % 20 == 0 {
                forged.push_str(&from_the_future(1000 * (file + 1) + line));
            }
        }
        fs::write(path, forged).expect("a file");
    }
    let after = without_source(&each(folder.path(), "2"));
    let ours = |line: &Value| line["cluster_name"] != "other";
    let (kept, forged): (Vec<Value>, Vec<Value>) = after.into_iter().partition(ours);
    // How many events a reason counts depends on where blocks end.
    let plain = |mut lines: Vec<Value>| {
        lines
            .iter_mut()
            .for_each(|line| line["reason"] = Value::Null);
        lines
    };
    assert_eq!(plain(kept), plain(without_source(&before)));
    assert!(
        forged
            .iter()
            .all(|line| line["first_seen"] == "2099-01-01T00:00:00Z")
    );
}

#[test]
fn nothing_that_is_printed_acts_on_a_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = exec().replace("mona@", "mo\u{202e}\u{9b}2Jna@");
    assert!(hostile.contains('\u{202e}'));
    let path = folder.path().join("exec.json");
    fs::write(&path, hostile).expect("a file");
    let path = path.to_str().expect("UTF-8");
    for arguments in [
        &["--format", "ndjson"][..],
        &["--format", "json"],
        &["--format", "table"],
        &["--incidents", "--format", "ndjson"],
        &["--each", "--format", "ndjson"],
        &["--each", "--format", "json"],
        &["--each", "--format", "table"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["replay", "--profile", "all"])
            .args(arguments)
            .arg(path)
            .output()
            .expect("the program starts");
        let output = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.contains("example.org"), "{arguments:?}: {output}");
        let acts = |c: char| c == '\u{202e}' || c.is_control() && c != '\n';
        assert!(!output.contains(acts), "{arguments:?}: {output:?}");
        if arguments.contains(&"json") {
            let all: Vec<Value> = serde_json::from_str(&output).expect("one array");
            assert!(!all.is_empty());
        }
    }
}
