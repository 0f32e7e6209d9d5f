//! What hostile or careless people put into a log must not come out anywhere: credentials of many
//! kinds, in every place of a record, whole records and damaged ones.
#![cfg(feature = "emulator")]

#[path = "support/process.rs"]
#[expect(dead_code, reason = "what other tests of the daemon need")]
mod process;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig};
use lanner::store::{Store, StoreConfig};
use process::Daemon;
use serde_json::{Value, json};
use web::{free_port, get, serve, sum};

/// How long a test waits for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A credential, as it stands in a text, and the part of it that must be gone.
struct Planted {
    text: String,
    secret: String,
}

/// One of each kind. Every secret is made up, and unlike all others.
fn planted() -> Vec<Planted> {
    let letters = |seed: u64, length: usize| -> String {
        const ALPHABET: &[u8] = b"abcdefghijkLMNOPQRSTUVWxyz0123456789";
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                char::from(ALPHABET[(state >> 33) as usize % ALPHABET.len()])
            })
            .collect()
    };
    let mut seed = 0u64;
    let mut whole = |before: &str, length: usize, after: &str, shown: &str| {
        seed += 1;
        let core = letters(seed, length);
        let secret = format!("{before}{core}{after}");
        let text = shown.replace("{}", &secret);
        Planted { text, secret: core }
    };
    vec![
        whole("", 20, "", "curl -H 'Authorization: Bearer {}' https://x"),
        whole(
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.",
            60,
            "",
            "run --x {}",
        ),
        whole(
            "",
            44,
            "%3D",
            "wget https://a.blob.core.windows.net/c?sv=2024&sp=r&sig={}",
        ),
        whole("", 12, "", "mysql -u root -p{} shop"),
        whole("", 12, "", "PGPASSWORD={} psql -h db"),
        whole("", 12, "", "app --password {} --verbose"),
        whole("", 12, "", "app --client-secret={}"),
        whole(
            "",
            40,
            "==",
            "DefaultEndpointsProtocol=https;AccountName=x;AccountKey={};EndpointSuffix=core.windows.net",
        ),
        whole(
            "",
            40,
            "=",
            "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey={}",
        ),
        whole(
            "",
            12,
            "",
            "Server=tcp:db;User ID=app;Password={};Encrypt=true",
        ),
        whole("", 12, "", "postgres://app:{}@db.example.com:5432/app"),
        whole(
            "-----BEGIN PRIVATE KEY-----\n",
            64,
            "\n-----END PRIVATE KEY-----",
            "echo '{}'",
        ),
        whole("", 40, "", "AWS_SECRET_ACCESS_KEY={} aws s3 ls"),
        whole("ghp_", 36, "", "git clone https://x {}"),
        whole("xoxb-", 30, "", "notify {}"),
        whole("ya29.", 40, "", "gcloud {}"),
        whole("AIza", 35, "", "maps {}"),
        whole("glpat-", 24, "", "ci {}"),
        whole("whsec_", 32, "", "sign {}"),
        whole("abc8Q~", 34, "", "az {}"),
        whole("https://hooks.slack.com/services/T0/B0/", 24, "", "curl {}"),
        whole("$6$salt$", 43, "", "usermod -p '{}' root"),
    ]
}

/// Names that promise a credential, for values that say nothing by themselves.
const VARIABLES: [&str; 5] = [
    "DB_PASSWORD",
    "API_TOKEN",
    "CLIENT_SECRET",
    "ACCOUNT_KEY",
    "SAS",
];

fn base(audit_id: usize) -> Value {
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
        "auditID": format!("5d000000-0000-4000-8000-{audit_id:012}"),
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/pods",
        "verb": "create",
        "user": { "username": "mallory@example.com", "groups": ["system:authenticated"] },
        "sourceIPs": ["203.0.113.99"],
        "userAgent": "kubectl/v1.34.1",
        "objectRef": { "resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 201 },
        "requestReceivedTimestamp": format!("2026-11-20T10:{:02}:{:02}.000000Z", audit_id / 60 % 60, audit_id % 60),
        "stageTimestamp": format!("2026-11-20T10:{:02}:{:02}.100000Z", audit_id / 60 % 60, audit_id % 60),
        "annotations": { "authorization.k8s.io/decision": "allow" },
    })
}

fn percent(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Events with the credential in every place that a client can write to.
fn events(planted: &Planted, number: usize) -> Vec<Value> {
    let text = &planted.text;
    let mut events = Vec::new();
    let mut event = |change: &dyn Fn(&mut Value)| {
        let mut event = base(number * 100 + events.len());
        change(&mut event);
        events.push(event);
    };
    event(&|event| {
        let command = format!("command=sh&command=-c&command={}", percent(text));
        event["requestURI"] = json!(format!("/api/v1/namespaces/shop/pods/web-0/exec?{command}"));
        event["objectRef"]["subresource"] = json!("exec");
        event["verb"] = json!("get");
        event["responseStatus"]["code"] = json!(101);
        event["level"] = json!("Metadata");
    });
    let pod = |container: Value| {
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": { "name": "web-0", "namespace": "shop" },
            "spec": { "hostPID": true, "containers": [container] },
        })
    };
    event(&|event| {
        event["requestObject"] = pod(json!({
            "name": "c", "image": "docker.io/evil/miner:latest",
            "command": ["sh", "-c", text], "args": [text],
            "securityContext": { "privileged": true },
        }));
    });
    event(&|event| {
        let variable = VARIABLES[number % VARIABLES.len()];
        event["requestObject"] = pod(json!({
            "name": "c", "image": "nginx",
            "env": [{ "name": variable, "value": planted.secret }],
        }));
    });
    event(&|event| {
        let manifest = pod(json!({ "name": "c", "command": ["sh", "-c", text] }));
        let mut applied = pod(json!({ "name": "c", "image": "nginx" }));
        applied["metadata"]["annotations"] =
            json!({ "kubectl.kubernetes.io/last-applied-configuration": manifest.to_string() });
        event["requestObject"] = applied;
    });
    event(&|event| {
        event["objectRef"] =
            json!({ "resource": "configmaps", "namespace": "shop", "name": "app" });
        event["requestObject"] = json!({
            "kind": "ConfigMap", "metadata": { "name": "app" }, "data": { "app.properties": text },
        });
    });
    event(&|event| {
        let data = json!({ "any": planted.secret, "other": planted.secret });
        let secret = json!({ "kind": "Secret", "apiVersion": "v1", "data": data });
        event["objectRef"] = json!({ "resource": "secrets", "namespace": "shop", "name": "s" });
        event["requestObject"] = json!({
            "kind": "Secret", "apiVersion": "v1",
            "metadata": { "name": "s", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": secret.to_string(),
            } },
            "data": data, "stringData": { "any": text },
        });
        event["responseObject"] = event["requestObject"].clone();
    });
    event(&|event| event["userAgent"] = json!(format!("curl/8.5 ({text})")));
    event(&|event| {
        event["verb"] = json!("get");
        event["requestURI"] = json!(format!(
            "/api/v1/namespaces/shop/services/app/proxy/?q={}",
            percent(text)
        ));
        event["objectRef"] = json!({ "resource": "services", "subresource": "proxy", "namespace": "shop", "name": "app" });
    });
    event(&|event| {
        event["responseStatus"] = json!({ "code": 403, "status": "Failure", "reason": "Forbidden",
            "message": format!("pods \"x\" is forbidden: {text}") });
        event["annotations"]["authorization.k8s.io/decision"] = json!("forbid");
        event["annotations"]["authorization.k8s.io/reason"] = json!(text);
    });
    event(&|event| {
        event["user"]["extra"] = json!({ "authentication.kubernetes.io/credential-id": [text] });
    });
    events
}

fn record(category: &str, log: &str) -> String {
    json!({
        "category": category,
        "time": "2026-11-20T10:00:00Z",
        "resourceId": "/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/WEST",
        "properties": { "log": log, "stream": "stdout" },
    })
    .to_string()
}

/// Every record, whole, and damaged in the ways that there are.
fn records(planted: &[Planted]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for (number, planted) in planted.iter().enumerate() {
        let text = &planted.text;
        for event in events(planted, number) {
            let whole = record("kube-audit", &event.to_string());
            // Cut in the middle of the credential, behind it, and near the end.
            let at = whole.find(&planted.secret).expect("it is in there");
            let middle = at + planted.secret.len() / 2;
            let behind = at + planted.secret.len();
            for end in [middle, behind, whole.len() - 3] {
                records.push(whole.as_bytes()[..end].to_vec());
            }
            // Not UTF-8, and of a wrong type.
            let mut garbled = whole.clone().into_bytes();
            garbled[2] = 0xff;
            records.push(garbled);
            let mut wrong = event.clone();
            wrong["verb"] = json!(["create"]);
            records.push(record("kube-audit", &wrong.to_string()).into_bytes());
            records.push(wrong.to_string().into_bytes());
            records.push(whole.into_bytes());
        }
        for line in [
            format!(
                "I1120 10:00:00.123456       1 httplog.go:134] \"HTTP\" verb=\"GET\" URI=\"/x?a={}\" latency=\"1ms\" userAgent=\"{}\" audit-ID=\"a\" srcIP=\"203.0.113.7:1\" resp=401",
                percent(text),
                text.replace('"', "'")
            ),
            format!(
                "E1120 10:00:00.123456       1 wrap.go:58] apiserver panic'd on GET /x?a={text}"
            ),
            format!(
                "E1120 10:00:00.123456       1 authentication.go:73] \"Unable to authenticate the request\" err=\"{text}\""
            ),
        ] {
            records.push(record("kube-apiserver", &line).into_bytes());
        }
    }
    records
}

/// Where a credential shows in `bytes`: plain, percent-encoded, or half of it.
fn found(planted: &[Planted], bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    planted
        .iter()
        .flat_map(|planted| {
            let half = &planted.secret[..planted.secret.len() / 2];
            text.match_indices(half).map(|(at, _)| {
                let from = text.floor_char_boundary(at.saturating_sub(160));
                let to = text.ceil_char_boundary((at + 80).min(text.len()));
                format!("{}\n    in …{}…", planted.text, &text[from..to])
            })
        })
        .take(12)
        .collect()
}

fn assert_clean(planted: &[Planted], what: &str, bytes: &[u8]) {
    let found = found(planted, bytes);
    assert!(found.is_empty(), "{what} shows\n{}", found.join("\n"));
}

#[test]
fn replay_shows_no_credential() {
    let planted = planted();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("PT1H.json");
    fs::write(&file, records(&planted).join(&b'\n')).expect("a file");
    for arguments in [
        &["--each", "--format", "ndjson"][..],
        &["--each", "--format", "table"],
        &["--format", "json"],
        &["--format", "table"],
        &["--incidents", "--format", "ndjson"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["replay", "--profile", "all"])
            .args(arguments)
            .arg(&file)
            .env("RUST_BACKTRACE", "1")
            .output()
            .expect("the program starts");
        assert!(output.status.success());
        assert!(output.stdout.len() > 10_000, "there is much to say");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(arguments.contains(&"--incidents") || shown.contains("[redacted]"));
        assert_clean(&planted, &format!("{arguments:?}"), &output.stdout);
        assert_clean(&planted, &format!("{arguments:?}, errors,"), &output.stderr);
    }
}

type Bodies = Arc<Mutex<Vec<Bytes>>>;

async fn take(State(bodies): State<Bodies>, body: Bytes) -> StatusCode {
    bodies.lock().expect("no panic").push(body);
    StatusCode::NO_CONTENT
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_keeps_and_tells_no_credential() {
    let planted = planted();
    let emulator = Emulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![HubConfig::new("audit", 1)],
    })
    .await
    .expect("the emulator starts");
    let bodies = Bodies::default();
    let app = Router::new()
        .route("/{*any}", post(take))
        .with_state(Arc::clone(&bodies));
    let webhook = serve(app).await;
    let port = free_port();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display();
    let config = folder.path().join("lanner.toml");
    let text = format!(
        r#"
[eventhubs.audit]
hub = "audit"
auth = "connection-string"
connection-string-file = "{at}/hub"
[store]
path = "{at}/store"
[webhook.plain]
url = "http://{webhook}/plain"
[slack.chat]
url = "http://{webhook}/slack"
[teams.chat]
url = "http://{webhook}/teams"
[ocsf.lake]
url = "http://{webhook}/ocsf"
[alertmanager.am]
url = "http://{webhook}/am"
[alert]
profile = "all"
[telemetry]
listen = "127.0.0.1:{port}"
log-level = "debug"
[[route]]
severity = "info"
receivers = ["*"]
continue = true
[[route]]
severity = "info"
send = "incidents"
receivers = ["webhook.plain"]
"#
    );
    fs::write(folder.path().join("hub"), emulator.connection_string()).expect("a file");
    fs::write(&config, text).expect("a file");
    let stream =
        |name: &str| Stdio::from(fs::File::create(folder.path().join(name)).expect("a file"));
    let mut daemon = Daemon::spawn(&config, stream("out"), stream("err"));
    let records = records(&planted);
    let damaged = planted.len() * 5;
    for record in records {
        emulator
            .publish("audit", "0", Bytes::from(record))
            .expect("the partition exists");
    }
    let address = format!("http://127.0.0.1:{port}/metrics");
    let started = Instant::now();
    loop {
        let (_, shown) = get(&address).await;
        let read = sum(&shown, "lanner_partition_lag_messages") == 0.0
            && sum(&shown, "lanner_records_quarantined_total") >= damaged as f64;
        if read
            && sum(&shown, "lanner_outbox_pending") == 0.0
            && bodies.lock().expect("no panic").len() > 50
        {
            break;
        }
        let err = fs::read_to_string(folder.path().join("err")).unwrap_or_default();
        assert!(
            started.elapsed() < PATIENCE,
            "waited in vain\n{shown}\n{err}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_clean(&planted, "/metrics", get(&address).await.1.as_bytes());
    // What lies in the journal while it runs.
    for file in files(&folder.path().join("store")) {
        let bytes = fs::read(&file).unwrap_or_default();
        assert_clean(&planted, &file.display().to_string(), &bytes);
    }
    assert_eq!(daemon.stop().code(), Some(0));
    for body in bodies.lock().expect("no panic").iter() {
        assert_clean(&planted, "a notification", body);
    }
    for file in [folder.path().join("out"), folder.path().join("err")]
        .into_iter()
        .chain(files(&folder.path().join("store")))
    {
        let bytes = fs::read(&file).expect("it can be read");
        assert_clean(&planted, &file.display().to_string(), &bytes);
    }
    let (store, _) = Store::open(&StoreConfig {
        path: folder.path().join("store"),
        receiver_quota: 1 << 30,
        quarantine_quota: 1 << 30,
    })
    .expect("the store opens");
    let kept = store.quarantined(10_000).expect("it can be read");
    assert!(kept.len() >= damaged, "{}", kept.len());
    for (_, record) in kept {
        assert_clean(&planted, "quarantine", &record.raw);
    }
    emulator.shutdown().await;
}
