//! The fuzz targets' bodies on what is committed: every seed, and everything that was ever found.
//!
//! Fuzzing itself is described in `fuzz/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod targets;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target)
}

/// Calls the target with each file of its folder, whole, cut at several places, and with single bytes
/// changed: a small share of what a fuzzer does, the same each time.
fn replay(name: &str) {
    let (_, run) = targets::TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .expect("the target exists");
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name))
        .expect("every target has seeds")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no seeds");
    for file in files {
        let seed = fs::read(&file).expect("the seed can be read");
        println!("{}", file.display());
        run(&seed);
        for share in 1..8 {
            run(&seed[..seed.len() * share / 8]);
            let mut changed = seed.clone();
            if let Some(byte) = changed.get_mut(seed.len() * share / 8) {
                *byte = b"\"\\{},\n\x00\xff"[share];
                run(&changed);
            }
        }
    }
}

#[test]
fn alert() {
    replay("alert");
}

#[test]
fn apiserver() {
    replay("apiserver");
}

#[test]
fn condition() {
    replay("condition");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn detector() {
    replay("detector");
}

#[test]
fn envelope() {
    replay("envelope");
}

#[test]
fn event() {
    replay("event");
}

#[test]
fn inflate() {
    replay("inflate");
}

#[test]
fn state() {
    replay("state");
}

#[test]
fn template() {
    replay("template");
}

#[test]
fn walker() {
    replay("walker");
}

#[test]
fn every_target_is_replayed_and_built() {
    let manifest = fs::read_to_string(folder("").join("../Cargo.toml")).expect("the manifest");
    let source = fs::read_to_string(file!()).expect("this file");
    for (name, _) in targets::TARGETS {
        assert!(source.contains(&format!("replay(\"{name}\")")), "{name}");
        assert!(
            manifest.contains(&format!("path = \"targets/{name}.rs\"")),
            "{name}"
        );
        let file = folder("").join(format!("../targets/{name}.rs"));
        let target = fs::read_to_string(file).expect("a file of its own");
        assert!(
            target.contains(&format!("lanner_fuzz::{name}::run")),
            "{name}"
        );
    }
}

/// The state of this version, written by itself, and broken at a thousand places.
#[test]
fn state_of_this_version() {
    let whole = targets::state::sample();
    targets::state::run(&whole);
    let step = (whole.len() / 1_000).max(1);
    for at in (2..whole.len()).step_by(step) {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at / step % 8);
        targets::state::run(&changed);
        if (at / step).is_multiple_of(8) {
            targets::state::run(&whole[..at]);
            changed[at] = 0xff;
            targets::state::run(&changed);
        }
    }
}

/// Writes the seeds anew: `cargo test --test fuzz -- --ignored`.
#[cfg(feature = "emulator")]
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    for (name, seeds) in seeds::all() {
        let folder = folder(name);
        fs::create_dir_all(&folder).expect("a folder");
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("{index:02}")), seed).expect("a file");
        }
    }
}

#[cfg(feature = "emulator")]
mod seeds {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
    use serde_json::Value;

    fn root(path: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn text(path: &str) -> String {
        fs::read_to_string(root(path)).expect("the file is there")
    }

    /// Of a minute of simulated traffic, the smallest record of each kind of event.
    fn records() -> Vec<String> {
        let simulator = Simulator::new(Scenario {
            seed: 5,
            start: "2026-11-20T15:00:00Z".parse().expect("a literal time"),
            duration: Duration::from_secs(60),
            clusters: ClusterSpec::three(12.0),
            clock: 0,
            campaigns: Campaigns {
                per_family: 2,
                intrusions: 0,
                quiet: Duration::ZERO,
                round: Duration::from_secs(60),
                window: (0.02, 0.7),
                notable: true,
            },
        });
        let mut kinds: BTreeMap<String, String> = BTreeMap::new();
        for record in simulator {
            let text = String::from_utf8(record.bytes.to_vec()).expect("it is text");
            let Some(log) = log(&text) else { continue };
            let event: Value = serde_json::from_str(&log).unwrap_or_default();
            let part = |pointer: &str| {
                let value = event.pointer(pointer).unwrap_or(&Value::Null);
                value.as_str().unwrap_or_default().to_owned()
            };
            let kind = format!(
                "{} {} {}",
                part("/objectRef/resource"),
                part("/objectRef/subresource"),
                if log.starts_with('{') {
                    part("/verb")
                } else {
                    log[..1].to_owned()
                },
            );
            let kept = kinds.entry(kind).or_insert_with(|| text.clone());
            if text.len() < kept.len() {
                *kept = text;
            }
        }
        let mut records: Vec<String> = kinds.into_values().filter(|r| r.len() < 4_000).collect();
        let every = (records.len() / 16).max(1);
        records = records.into_iter().step_by(every).collect();
        records
    }

    fn log(record: &str) -> Option<String> {
        let record: Value = serde_json::from_str(record).ok()?;
        let log = record.pointer("/properties/log")?.as_str()?;
        Some(log.trim_end().to_owned())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder
            .write_all(bytes)
            .expect("a buffer can be written to");
        encoder.finish().expect("a buffer can be written to")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 19).expect("a buffer can be written to")
    }

    fn blocks(page: &str, language: &str) -> Vec<Vec<u8>> {
        text(page)
            .split(&format!("```{language}\n"))
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .map(|block| block.as_bytes().to_vec())
            .collect()
    }

    pub fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let records = records();
        let bytes = |texts: &[String]| texts.iter().map(|t| t.as_bytes().to_vec()).collect();
        let mut logs: Vec<String> = records.iter().filter_map(|record| log(record)).collect();
        for fixture in ["exec", "role", "clusterrolebinding", "dashboard"] {
            let text = text(&format!("tests/fixtures/envelopes/{fixture}.json"));
            let document: Value = serde_json::from_str(&text).expect("it is JSON");
            for record in document["records"].as_array().into_iter().flatten() {
                logs.extend(log(&record.to_string()));
            }
        }
        let (events, lines): (Vec<String>, Vec<String>) =
            logs.into_iter().partition(|log| log.starts_with('{'));
        let mut walker: Vec<Vec<u8>> = bytes(&records);
        walker.push(format!("{{\"records\":[{}]}}", records[..2].join(",")).into_bytes());
        walker.push(records[..2].join("\r\n").into_bytes());
        walker.push(events[0].clone().into_bytes());
        // What comes more than once need not be read again.
        let repeated = records
            .iter()
            .filter(|record| log(record).is_some_and(|log| log.starts_with('{')));
        walker.extend(
            repeated
                .take(3)
                .map(|record| [record.as_str(); 3].join("\n").into_bytes()),
        );
        let envelope = (0u8..).zip(&events);
        let envelope = envelope.map(|(choice, event)| [&[choice], event.as_bytes()].concat());
        let mut apiserver: Vec<Vec<u8>> = bytes(&lines);
        apiserver.extend(
            [
                r#"I1120 10:00:00.123456       1 httplog.go:134] "HTTP" verb="LIST" URI="/api/v1/pods?limit=500" latency="1.2ms" userAgent="kubectl/v1.36" audit-ID="a" srcIP="203.0.113.7:4711" resp=200"#,
                r#"E1120 10:00:00.123456       1 authentication.go:73] "Unable to authenticate the request" err="[invalid bearer token]""#,
                "W1120 10:00:00.1 1 dispatcher.go:205] Failed calling webhook, failing open validation.example.com: failed calling webhook",
                "I1120 10:00:00.123456       1 log.go:245] http: TLS handshake error from 203.0.113.7:5512: EOF",
            ]
            .map(|line| line.as_bytes().to_vec()),
        );
        let detectors = [
            "pod-exec",
            "secrets-burst",
            "source-ip-new",
            "self-grant-then-use",
            "cluster-silent",
            "unauthenticated-scan",
        ];
        let detector = detectors.map(|id| {
            // Under a name of their own, with their first test only.
            let text = text(&format!("detectors/{id}.toml"));
            let tests: Vec<&str> = text.split("[[test]]").take(2).collect();
            tests
                .join("[[test]]")
                .replacen(&format!("id = \"{id}\""), "id = \"fuzz\"", 1)
                .into_bytes()
        });
        let mut config = blocks("README.md", "toml");
        config.push(
            text("config/default.toml")
                .lines()
                .filter(|line| !line.starts_with('#'))
                .collect::<Vec<_>>()
                .join("\n")
                .into_bytes(),
        );
        config.push(b"[webhook.a]\nurl = \"https://hooks.example.com\"\nsigning-secret = \"hush-hush-hush\"\nunknown = 1\n[email.b]\nhost = \"h\"\npassword = \"hush-hush-hush\"\nfrom = 1\n".to_vec());
        let condition = [
            r#"object.ns.startsWith("prod-")"#,
            r#"response.code >= 400 && "system:masters" in actor.groups"#,
            r#"user_agent.matches("^kubectl/v[0-9]+") || !(object.ns in ["a", "b"])"#,
            r#"verb == "get" ? size(object.name) > 3 : (object.name + "x").endsWith("y")"#,
            r#"-response.code < 3 && 1.5 <= double(response.code) && object.name != """#,
        ]
        .map(|condition| condition.as_bytes().to_vec());
        let plain = records[..3].join("\n").into_bytes();
        let zeros = vec![b'0'; 600 << 10];
        let inflate = vec![
            plain.clone(),
            gzip(&plain),
            zstd(&plain),
            [gzip(&plain[..500]), gzip(&plain[500..])].concat(),
            [
                zstd(&plain[..500]),
                b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc".to_vec(),
                zstd(&plain[500..]),
            ]
            .concat(),
            gzip(&zeros),
            zstd(&zeros),
            format!("{{\"records\":[{}]}}", records[..2].join(",")).into_bytes(),
        ];
        let templates = [
            r#"{"title": {{ subject }}, "severity": {{ alert.severity }}, "text": {{ text }}}"#,
            r#"{"who": {{ alert.actor.user | upper }}, "all": [{% for e in alert.evidence %}{{ e.excerpt }}{% if not loop.last %},{% endif %}{% endfor %}]}"#,
            "{{ alert | tojson }}",
            "<b>{{ alert.summary | replace('a', 'b') }}</b>{% set x = alert.count * 2 %}{{ x }}",
        ];
        let template = (0u8..).zip(templates);
        let template = template.map(|(choice, source)| [&[choice], source.as_bytes()].concat());
        let alert = [
            "ada@example.com\0kubectl exec\0\x1b]8;;https://evil.example\x07click\x1b]8;;\x07\0\x1b]52;c;aHVzaA==\x07",
            "<!channel> <https://evil.example|click> *b* `c` @here\0<img src=x onerror=alert(1)>\0[a](https://evil.example)",
            "a\r\nBcc: mallory@example.com\r\n\r\nbody\0user\u{202e}nimda\u{2066}\0\u{200b}\u{feff}\u{9b}2J",
            "password=hunter2 --token abcdef0123456789\0-----BEGIN PRIVATE KEY-----\\nMII\\n\0=cmd|' /C calc'!A0\0../../etc/passwd",
        ]
        .map(|text| text.as_bytes().to_vec());
        vec![
            ("walker", walker),
            ("event", bytes(&events)),
            ("envelope", envelope.collect()),
            ("apiserver", apiserver),
            ("detector", detector.to_vec()),
            ("config", config),
            ("condition", condition.to_vec()),
            ("inflate", inflate),
            ("state", vec![super::targets::state::sample()]),
            ("template", template.collect()),
            ("alert", alert.to_vec()),
        ]
    }
}
