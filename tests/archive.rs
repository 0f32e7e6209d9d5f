//! Archives of every shape and compression give the same records; what cannot be read is said.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use lanner::decode::{Decoder, Payload};
use lanner::event::Body;
use lanner::source::archive::{ArchiveError, ArchiveOptions, Input, inputs};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A record as AKS writes it, unlike any other by its number.
fn record(number: usize) -> Value {
    let mut log = event(number).to_string();
    log.push('\n');
    json!({
        "time": "2026-11-20T10:00:00.123456789Z",
        "resourceId": "/SUBSCRIPTIONS/0A/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/BLUE",
        "category": "kube-audit",
        "properties": { "log": log, "pod": "kube-apiserver-0" },
    })
}

fn event(number: usize) -> Value {
    json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": format!("00000000-0000-4000-8000-{number:012}"),
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/web/pods?a=1&b=[2]",
        "verb": "create",
        "user": { "username": "ana@example.org", "groups": ["system:authenticated"] },
        "sourceIPs": ["192.0.2.7"],
        "objectRef": { "resource": "pods", "namespace": "web", "name": format!("p{number}") },
        "responseStatus": { "code": 201 },
        "requestObject": { "metadata": { "annotations": { "note": "}]{[\"\\, é 😀\n" } } },
        "requestReceivedTimestamp": "2026-11-20T10:00:00.100000Z",
        "stageTimestamp": "2026-11-20T10:00:00.110000Z",
    })
}

fn lines(values: &[Value], ending: &str) -> Vec<u8> {
    let mut text = String::new();
    for value in values {
        text.push_str(&value.to_string());
        text.push_str(ending);
    }
    text.into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Small blocks, so that every record meets a boundary.
fn small_blocks() -> ArchiveOptions {
    ArchiveOptions {
        block: 700,
        ..ArchiveOptions::default()
    }
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Name of the object, or what else the record is.
    records: Vec<String>,
    damaged: usize,
    errors: Vec<&'static str>,
}

/// The body without its white space.
fn body(body: Body) -> String {
    match body {
        Body::Text(text) => serde_json::from_str::<Value>(&text).unwrap().to_string(),
        Body::Absent | Body::Unreadable => format!("{body:?}"),
    }
}

fn read_input(input: &Input, options: &ArchiveOptions, outcome: &mut Outcome) {
    let mut reader = match input.open(options) {
        Ok(reader) => reader,
        Err(error) => return outcome.errors.push(error.as_str()),
    };
    let mut decoder = Decoder::default();
    let mut position = 0;
    loop {
        match reader.next_batch() {
            Ok(None) => break,
            Ok(Some(batch)) => {
                assert!(batch.from.0 >= position, "positions must not go back");
                assert!(batch.to > batch.from);
                position = batch.to.0;
                for chunk in &batch.chunks {
                    assert!(chunk.position >= batch.from.0 && chunk.position < batch.to.0);
                    decoder.decode(chunk, &mut |record| {
                        outcome.damaged += usize::from(record.damage.is_some());
                        outcome.records.push(match &record.payload {
                            Payload::Audit(event) => {
                                let object = event.object_ref.as_ref();
                                let name = object.map_or("", |object| &object.name);
                                format!("{name} {}", body(event.request_object))
                            }
                            Payload::Nothing(ignored) => ignored.as_str().to_owned(),
                            payload => format!("{payload:?}"),
                        });
                    });
                }
            }
            Err(error) => outcome.errors.push(error.as_str()),
        }
    }
}

fn read_with(path: &Path, options: &ArchiveOptions) -> Outcome {
    let mut outcome = Outcome::default();
    for input in inputs(&[path.to_str().unwrap().to_owned()]).unwrap() {
        read_input(&input, options, &mut outcome);
    }
    outcome
}

fn read(path: &Path) -> Outcome {
    let small = read_with(path, &small_blocks());
    assert_eq!(small, read_with(path, &ArchiveOptions::default()));
    small
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn every_shape_gives_the_same_records() {
    let folder = Folder::new();
    let records: Vec<Value> = (0..20).map(record).collect();
    let events: Vec<Value> = (0..20).map(event).collect();
    let plain = lines(&records, "\n");
    let expected = read(&folder.write("plain", &plain));
    assert_eq!(expected.records.len(), 20);
    assert!(expected.records[19].starts_with("p19 {"));
    assert_eq!((expected.damaged, &expected.errors), (0, &vec![]));

    let document = json!({ "records": records });
    let list = json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events });
    let (first, second) = plain.split_at(plain.len() / 3);
    let two = |compress: fn(&[u8]) -> Vec<u8>| [compress(first), compress(second)].concat();
    let skippable = [
        &[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9],
        &zstd(&plain)[..],
    ]
    .concat();
    let unended = plain.strip_suffix(b"\n").unwrap();
    let pretty = |value: &Value| serde_json::to_vec_pretty(value).unwrap();
    let shapes: &[(&str, Vec<u8>)] = &[
        ("CRLF", lines(&records, "\r\n")),
        ("blank lines", lines(&records, "\n\n \r\n")),
        ("no newline at the end", unended.to_vec()),
        ("byte order mark", [b"\xef\xbb\xbf", &plain[..]].concat()),
        ("gzip of two members", two(gzip)),
        ("zstd of two frames", two(zstd)),
        ("zstd behind a skippable frame", skippable),
        ("document", document.to_string().into_bytes()),
        ("pretty document", pretty(&document)),
        ("gzip of a pretty document", gzip(&pretty(&document))),
        (
            "two documents",
            lines(
                &[
                    json!({"records": records[..7]}),
                    json!({"records": records[7..]}),
                ],
                "\n",
            ),
        ),
        (
            "documents without a break",
            lines(
                &[
                    json!({"records": records[..7]}),
                    json!({"records": records[7..]}),
                ],
                "",
            ),
        ),
        ("array", json!(records).to_string().into_bytes()),
        ("pretty array", pretty(&json!(records))),
        (
            "arrays in an array",
            json!([records[..3], records[3..]]).to_string().into_bytes(),
        ),
    ];
    for (shape, bytes) in shapes {
        assert_eq!(read(&folder.write(shape, bytes)), expected, "{shape}");
    }

    let expected = read(&folder.write("raw", &lines(&events, "\n")));
    assert_eq!(expected.records.len(), 20);
    assert_eq!((expected.damaged, &expected.errors), (0, &vec![]));
    let shapes: &[(&str, Vec<u8>)] = &[
        ("event list", list.to_string().into_bytes()),
        ("pretty array of events", pretty(&json!(events))),
        ("array of events", json!(events).to_string().into_bytes()),
        ("pretty list", pretty(&list)),
        ("pretty events", events.iter().flat_map(pretty).collect()),
    ];
    for (shape, bytes) in shapes {
        assert_eq!(read(&folder.write(shape, bytes)), expected, "{shape}");
    }
}

#[test]
fn a_folder_is_read_in_the_order_of_its_hours() {
    let folder = Folder::new();
    let hours = [
        "m=9/d=30/h=23",
        "m=10/d=1/h=9",
        "m=10/d=1/h=10",
        "m=10/d=2/h=0",
    ];
    for (number, hour) in hours.iter().enumerate().rev() {
        let bytes = lines(&[record(number)], "\r\n");
        let bytes = if number % 2 == 0 { bytes } else { gzip(&bytes) };
        folder.write(
            &format!("resourceId=/X/y=2026/{hour}/m=00/PT1H.json"),
            &bytes,
        );
    }
    folder.write("resourceId=/X/y=2026/.hidden", b"not ours");
    let names = |outcome: Outcome| -> Vec<String> {
        assert_eq!((outcome.damaged, outcome.errors), (0, vec![]));
        let name = |record: &String| record.split(' ').next().unwrap().to_owned();
        outcome.records.iter().map(name).collect()
    };
    assert_eq!(names(read(folder.0.path())), ["p0", "p1", "p2", "p3"]);
    let hour_10 = folder.0.path().join("**/h=10/**/PT1H.json");
    assert_eq!(names(read(&hour_10)), ["p2"]);
    let all = folder.0.path().to_str().unwrap().to_owned();
    let twice = [hour_10.to_str().unwrap().to_owned(), all];
    let paths: Vec<String> = inputs(&twice)
        .unwrap()
        .iter()
        .map(|input| input.partition.id.to_string())
        .collect();
    assert_eq!(paths.len(), 4, "a file named twice is read once: {paths:?}");
}

#[test]
fn what_is_not_there_is_said() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing").to_str().unwrap().to_owned();
    assert!(
        matches!(inputs(std::slice::from_ref(&missing)), Err(ArchiveError::NoMatch(path)) if path == missing)
    );
    let none = format!("{missing}/*.json");
    assert!(matches!(inputs(&[none]), Err(ArchiveError::NoMatch(_))));
    let bad = format!("{missing}/[");
    assert!(matches!(inputs(&[bad]), Err(ArchiveError::BadGlob { .. })));

    let path = folder.write("vanishes", &lines(&[record(0)], "\n"));
    let input = inputs(&[path.to_str().unwrap().to_owned()])
        .unwrap()
        .remove(0);
    fs::remove_file(path).unwrap();
    let mut outcome = Outcome::default();
    read_input(&input, &ArchiveOptions::default(), &mut outcome);
    assert_eq!(outcome.errors, ["open"]);
}

#[test]
fn a_bomb_is_stopped() {
    let folder = Folder::new();
    let start = lines(&[record(0)], "\n");
    let bytes = [&start[..], &vec![b' '; 40 << 20]].concat();
    for compress in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
        let path = folder.write("bomb", &compress(&bytes));
        let ratio = ArchiveOptions {
            ratio_from: 1 << 20,
            ..ArchiveOptions::default()
        };
        let far = ArchiveOptions {
            max_inflated: 8 << 20,
            ..ArchiveOptions::default()
        };
        for options in [ratio, far] {
            let outcome = read_with(&path, &options);
            assert_eq!(outcome.errors, ["bomb"]);
            assert!(outcome.records[0].starts_with("p0 "));
        }
        assert_eq!(
            read_with(&path, &ArchiveOptions::default()).errors,
            Vec::<&str>::new()
        );
    }
}

#[test]
fn what_was_read_of_a_damaged_file_is_judged() {
    let folder = Folder::new();
    let records: Vec<Value> = (0..2000).map(record).collect();
    let plain = lines(&records, "\n");
    for compress in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
        let whole = compress(&plain);
        let cut = read(&folder.write("cut", &whole[..whole.len() - 9]));
        assert_eq!(cut.errors, ["read"]);
        assert!(cut.records.len() > 100, "{}", cut.records.len());

        let other = compress(&lines(&records[..5], "\n"));
        let outcome = read(&folder.write("tail", &[&other[..], b"garbage"].concat()));
        assert_eq!(outcome.errors, ["read"]);
        assert_eq!(outcome.records.len(), 5);
        assert_eq!(outcome.damaged, 0);
    }
}

#[test]
fn a_document_that_is_cut_off_says_so() {
    let folder = Folder::new();
    let records: Vec<Value> = (0..20).map(record).collect();
    for text in [
        json!({ "records": records }).to_string(),
        serde_json::to_string_pretty(&json!({ "records": records })).unwrap(),
        serde_json::to_string_pretty(&records).unwrap(),
    ] {
        let inside = text.rfind("p19").unwrap();
        let outcome = read(&folder.write("inside", &text.as_bytes()[..inside]));
        assert_eq!(outcome.records.len(), 20);
        assert_eq!((outcome.damaged, outcome.errors.len()), (1, 0));
        let between = text.len() - text.trim_end_matches(['}', ']', '\n', ' ']).len();
        let end = text.len() - between + 1;
        let outcome = read_with(
            &folder.write("between", &text.as_bytes()[..end]),
            &small_blocks(),
        );
        assert_eq!(
            outcome.damaged + outcome.errors.len(),
            1,
            "{}",
            &text[end - 20..end]
        );
    }
}

#[test]
fn a_record_that_is_too_long_is_skipped_and_its_head_judged() {
    let folder = Folder::new();
    let options = ArchiveOptions {
        block: 4 << 10,
        max_record: 32 << 10,
        ..ArchiveOptions::default()
    };
    let mut long = event(1);
    long["responseObject"] = json!({ "data": "}\"]x".repeat(100_000) });
    let records = [event(0), long, event(2)];
    let shapes = [
        lines(&records, "\n"),
        serde_json::to_vec_pretty(&records).unwrap(),
        serde_json::to_vec_pretty(&json!({ "kind": "EventList", "items": records })).unwrap(),
    ];
    for bytes in shapes {
        let outcome = read_with(&folder.write("long", &bytes), &options);
        assert_eq!(outcome.errors, ["record-too-long"]);
        assert_eq!(outcome.damaged, 1);
        assert_eq!(outcome.records.len(), 3);
        assert!(outcome.records[1].starts_with("p1 "));
        assert!(outcome.records[2].starts_with("p2 "));
    }
}

#[test]
fn damaged_lines_cost_no_other_line() {
    let folder = Folder::new();
    let first = record(0).to_string().into_bytes();
    let others = lines(&[record(1), record(2)], "\n");
    for cut in 1..first.len() {
        let bytes = [&first[..cut], b"\n", &others[..]].concat();
        let outcome = read_with(&folder.write("cut", &bytes), &ArchiveOptions::default());
        assert_eq!(outcome.records.len(), 3, "cut at {cut}");
        assert_eq!(outcome.damaged, 1, "cut at {cut}");
    }
}

#[test]
fn other_formats_are_named() {
    let folder = Folder::new();
    for (bytes, found) in [
        (&b"Obj\x01\x04\x14avro.codec"[..], "an Avro container"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\xff\xfe{\x00\"\x00", "UTF-16 text"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "a binary file"),
    ] {
        let path = folder.write("other", bytes);
        let input = inputs(&[path.to_str().unwrap().to_owned()])
            .unwrap()
            .remove(0);
        let mut reader = input.open(&ArchiveOptions::default()).unwrap();
        let error = reader.next_batch().unwrap_err();
        assert!(error.to_string().contains(found), "{error}");
        assert!(matches!(reader.next_batch(), Ok(None)));
    }
    assert_eq!(read(&folder.write("empty", b"")), Outcome::default());
    assert_eq!(read(&folder.write("blank", b" \r\n\n")), Outcome::default());
}

/// What `lanner replay` reports of `path`, or of `bytes` on standard input, without its source.
fn replay(path: &str, bytes: &[u8]) -> Vec<Value> {
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args([
            "replay",
            "--each",
            "--profile",
            "all",
            "--format",
            "ndjson",
            path,
        ])
        .write_stdin(bytes)
        .assert()
        .success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let mut reported: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for alert in &mut reported {
        let alert = alert.as_object_mut().unwrap();
        // When it was detected is the only time that is ours.
        alert.remove("detected_at");
        for evidence in alert["evidence"].as_array_mut().unwrap() {
            evidence.as_object_mut().unwrap().remove("source");
            evidence.as_object_mut().unwrap().remove("position");
        }
    }
    reported
}

#[test]
fn standard_input_is_read_as_a_file_is() {
    let folder = Folder::new();
    let mut exec = event(0);
    exec["verb"] = json!("get");
    exec["objectRef"]["subresource"] = json!("exec");
    exec["requestURI"] = json!("/api/v1/namespaces/web/pods/p0/exec?command=sh");
    exec["responseStatus"]["code"] = json!(101);
    let plain = lines(&[exec, event(1)], "\n");
    let path = folder.write("plain", &plain);
    let expected = replay(path.to_str().unwrap(), b"");
    assert!(
        !expected.is_empty(),
        "the records must give something to compare"
    );
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        assert_eq!(replay("-", &bytes), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a file holds, its chunks are bytes of it, in order, and its reading ends.
    #[test]
    fn any_bytes_are_read_to_their_end(
        tokens in vec(select(&["{", "}", "[", "]", ",", ":", "\"", "\\", "\n", " ", "1", "\"records\":[", "\"items\":", "{\"a\":1}", "\u{feff}", "é", "\0"][..]), 0..40),
        block in 1..48usize,
        max_record in 8..64usize,
        compressed in any::<bool>(),
    ) {
        let bytes = tokens.concat().into_bytes();
        let folder = Folder::new();
        let path = folder.write("any", &if compressed { zstd(&bytes) } else { bytes.clone() });
        let input = inputs(&[path.to_str().unwrap().to_owned()]).unwrap().remove(0);
        let options = ArchiveOptions { block, max_record, ..ArchiveOptions::default() };
        let mut reader = input.open(&options).unwrap();
        let mut read = 0;
        for _ in 0..1000 {
            match reader.next_batch() {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => for chunk in batch.chunks {
                    let start = usize::try_from(chunk.position).unwrap();
                    prop_assert!(start >= read);
                    read = start + chunk.bytes.len();
                    prop_assert_eq!(&chunk.bytes[..], &bytes[start..read]);
                },
                Err(error) => prop_assert!(!error.as_str().is_empty()),
            }
        }
        prop_assert!(false, "the reader does not end");
    }
}
