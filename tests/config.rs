//! What `lanner check` says of wrong configurations, and that right ones load.

use std::fmt::Write as _;

use lanner::alert::{Kind, Severity};
use lanner::config::diagnose::Level;
use lanner::config::{Diagnostic, Subject, load, load_text};
use lanner::event::field::{Field, FieldValue};

/// All that is found wrong with each text, rendered.
fn refused(cases: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (title, text) in cases {
        let found = match load_text("lanner.toml", text, &[]) {
            Ok(loaded) => {
                let known = ["pod-exec", "rbac-escalation", "crb-created"];
                loaded.check_detectors(&known)
            }
            Err(found) => found,
        };
        assert!(
            found.iter().any(|d| d.level == Level::Error),
            "{title}: nothing is wrong with\n{text}"
        );
        write!(out, "## {title}\n\n{}\n\n", render(&found)).unwrap();
    }
    for secret in ["hunter2", "4711", "T00/B00"] {
        assert!(!out.contains(secret), "{secret} shows in\n{out}");
    }
    out
}

fn render(found: &[Diagnostic]) -> String {
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// Without the expression, which would hold all the texts again.
#[track_caller]
fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(name, text) });
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    pairs.iter().map(owned).collect()
}

#[test]
fn unknown_keys_are_refused_with_place_and_nearest_name() {
    assert_snapshot(
        "unknown_keys",
        &refused(&[
            ("section", "[stroe]\npath = \"/var/lib/lanner\"\n"),
            ("key of a section", "[store]\npth = \"/x\"\n"),
            (
                "key of a named table",
                "[webhook.soc]\nurl = \"https://a.example\"\ntimout-secs = 5\n",
            ),
            (
                "misspelt secret",
                r#"[email.oncall]
host = "mail.example"
from = "a@b.example"
to = ["c@d.example"]
pasword = "hunter2"
"#,
            ),
            (
                "key of a cluster's list",
                r#"[cluster.west]
arm-id = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/west"
[cluster.west.lists]
trusted-network = []
"#,
            ),
            (
                "key of a route",
                "[[route]]\nseverty = \"high\"\nreceivers = [\"*\"]\n",
            ),
            (
                "key of a detector",
                "[detectors.pod-exec]\nenable = false\n",
            ),
            (
                "field of an exception",
                "[[detectors.pod-exec.exception]]\nreason = \"x\"\nactor.usr = \"jane\"\n",
            ),
            (
                "table without a name",
                "[webhook]\nurl = \"https://hooks.example/T00/B00\"\n",
            ),
            ("detector", "[detectors.pod-exce]\nenabled = false\n"),
        ]),
    );
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    assert_snapshot(
        "wrong_values",
        &refused(&[
            ("type", "[pipeline]\nworkers = \"four\"\n"),
            ("range", "[pipeline]\nworkers = 100000\n"),
            (
                "duration",
                "[pipeline]\nlateness = \"2 minuts\"\ndrain-timeout = \"0s\"\n",
            ),
            ("enumeration", "[alert]\nprofile = \"everything\"\n"),
            ("listen address", "[telemetry]\nlisten = \"localhost\"\n"),
            ("log filter", "[telemetry]\nlog-level = \"lanner=loud\"\n"),
            (
                "networks, both of them",
                r#"[lists]
trusted-networks = [
    "203.0.113.0/24",
    "203.0.113.0/33",
    "10.0.0.0/8",
    "west",
]
"#,
            ),
            (
                "network of an exception",
                r#"[[detectors.pod-exec.exception]]
reason = "x"
source_ip.address = "203.0.113.0/33"
"#,
            ),
            (
                "exceptions",
                r#"[[detectors.pod-exec.exception]]
object.ns = "x"

[[detectors.pod-exec.exception]]
reason = " "
expires = "soon"
response.code = "200"

[[detectors.pod-exec.exception]]
reason = "everything"
"#,
            ),
            (
                "start",
                "[eventhubs.prod]\nnamespace = \"n\"\nhub = \"h\"\nstart = \"yesterday\"\n",
            ),
            (
                "missing keys",
                "[webhook.soc]\n[email.oncall]\nhost = \"mail.example\"\n[eventhubs.prod]\nhub = \"h\"\n",
            ),
            (
                "secret of another type",
                "[webhook.soc]\nurl = \"https://a.example\"\nsigning-secret = 4711\n",
            ),
            (
                "broken text",
                "[store]\npath = \"/x\n[email.oncall]\npassword = hunter2\n",
            ),
            (
                "several at once",
                r#"[pipeline]
workers = true
worker = 1
lateness = 5
[store]
path = 7
[[route]]
receivers = "stdout"
[[route]]
kinds = ["threat", "treat"]
receivers = ["stdout"]
"#,
            ),
        ]),
    );
}

#[test]
fn contradictions_are_refused() {
    assert_snapshot(
        "contradictions",
        &refused(&[
            (
                "secret and its file",
                r#"[webhook.soc]
url = "https://a.example"
bearer-token = "hunter2"
bearer-token-file = "/run/x"
"#,
            ),
            (
                "file that is not there",
                "[webhook.soc]\nurl = \"https://a.example\"\nbearer-token-file = \"/nowhere/x\"\n",
            ),
            (
                "receiver of a route",
                r#"[webhook.soc]
url = "https://a.example"
[[route]]
receivers = ["webhook.sok"]
[[route]]
receivers = ["soc"]
"#,
            ),
            (
                "disabled receiver",
                "[stdout]\nenabled = false\n[[route]]\nreceivers = [\"stdout\"]\n",
            ),
            (
                "plain http",
                "[webhook.soc]\nurl = \"http://hooks.example/T00/B00\"\n",
            ),
            ("no URL", "[webhook.soc]\nurl = \"hooks.example/T00/B00\"\n"),
            (
                "mail without TLS",
                r#"[email.oncall]
host = "mail.example"
tls = "none"
from = "nobody"
to = []
username = "u"
"#,
            ),
            (
                "receivers",
                r#"[slack.a]
url = "http://hooks.slack.example/T00/B00"
[teams.a]
[pagerduty.a]
routing-ky = "hunter2"
[pagerduty.b]
[alertmanager.a]
url = "http://alertmanager.monitoring:9093"
resolve-after = "0s"
[ocsf.a]
url = "https://a.example"
signing-secret = "hunter2"
[eventhubs-output.a]
hub = "h"
[webhook.a]
url = "https://a.example"
body = '{"title": "{{ subject }}"}'
[webhook.b]
url = "https://a.example"
body = "{{ alert.sumary }}"
content-type = "text/plain"
[webhook.c]
url = "https://a.example"
content-type = "text/plain"
[webhook.d]
url = "https://a.example"
body-file = "/nowhere/x"
[email.b]
host = "mail.example"
from = "a@b.example"
to = ["c@d.example", "nobody"]
[[route]]
receivers = ["slak.a", "pagerduty.*"]
"#,
            ),
            (
                "ways to log in",
                r#"[eventhubs.a]
namespace = "n"
hub = "h"
auth = "connection-string"
[eventhubs.b]
namespace = "n"
hub = "h"
auth = "developer-tools"
client-id = "0"
[eventhubs.c]
hub = "h"
"#,
            ),
            (
                "clusters",
                r#"[cluster.a]
arm-id = "west"
[cluster.b]
arm-id = "WEST"
severity-shift = 9
"#,
            ),
            (
                "names",
                "[webhook.\"a b\\u001b\"]\nurl = \"https://a.example\"\n",
            ),
        ]),
    );
}

#[test]
fn variables_override_and_their_errors_name_them() {
    let text = r#"[webhook.soc]
url = "https://a.example"
signing-secret-file = "/nowhere"
"#;
    let good = variables(&[
        ("LANNER__STORE__PATH", "/data"),
        ("LANNER__PIPELINE__WORKERS", "3"),
        ("LANNER__STDOUT__ENABLED", "false"),
        ("LANNER__LISTS__TRUSTED_NETWORKS", "10.0.0.0/8, 192.0.2.1"),
        (
            "LANNER__WEBHOOK__SOC__SIGNING_SECRET",
            "whsec_bWFkZSBmb3IgdGhlIHRlc3RzIG9mIGxhbm5lciE=",
        ),
        ("LANNER__DETECTORS_DIR", "/etc/lanner/detectors"),
        ("LANNER__ALERT__PROFILE", ""),
        ("UNRELATED", "x"),
    ]);
    let loaded = load_text("lanner.toml", text, &good).unwrap_or_else(|e| panic!("{}", render(&e)));
    let config = &loaded.config;
    assert_eq!(config.store.path.to_str(), Some("/data"));
    assert_eq!(config.pipeline.workers, 3);
    assert!(!config.stdout.enabled);
    for address in ["10.1.1.1", "192.0.2.1"] {
        let trusted = &config.lists.trusted_networks;
        assert!(trusted.contains(address.parse().unwrap()));
    }
    let secret = config.deliver.webhook["soc"]
        .signing_secret
        .as_ref()
        .unwrap();
    assert_eq!(
        secret.expose(),
        "whsec_bWFkZSBmb3IgdGhlIHRlc3RzIG9mIGxhbm5lciE="
    );
    let folder = config.detectors_dir.as_deref().unwrap();
    assert_eq!(folder.to_str(), Some("/etc/lanner/detectors"));

    let mut out = format!("{}\n\n", render(&loaded.warnings));
    for pair in [
        ("LANNER__STROE__PATH", "/data"),
        ("LANNER__STORE__PTH", "/data"),
        ("LANNER__STORE__PATH__X", "/data"),
        ("LANNER__STORE____PATH", "/data"),
        ("LANNER__", "x"),
        ("LANNER__PIPELINE__WORKERS", "many"),
        ("LANNER__PIPELINE__LATENESS", "long"),
        ("LANNER__TELEMETRY__LISTEN", "9464"),
        ("LANNER__WEBHOOK__SOCK__SIGNING_SECRET", "hunter2"),
        ("LANNER__WEBHOOK__SOC__SIGNING_SECRET_FILE", "/nowhere/else"),
        ("LANNER__LISTS__TRUSTED_NETWORKS", "10.0.0.0/8,west"),
        ("LANNER__ROUTE", "high"),
        ("LANNER__WEBHOOK", "hunter2"),
    ] {
        let text = "[webhook.soc]\nurl = \"https://a.example\"\n";
        let errors = load_text("lanner.toml", text, &variables(&[pair])).unwrap_err();
        let shown = render(&errors);
        assert!(shown.contains(pair.0), "{pair:?}: {shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        write!(out, "## {}\n\n{shown}\n\n", pair.0).unwrap();
    }
    assert_snapshot("variables", &out);
}

#[test]
fn a_whole_configuration_loads() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("soc.key"),
        "whsec_bWFkZSBmb3IgdGhlIHRlc3RzIG9mIGxhbm5lciE=\n",
    )
    .unwrap();
    let file = folder.path().join("lanner.toml");
    std::fs::write(&file, WHOLE).unwrap();
    let loaded = load(Some(&file)).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    assert_eq!(loaded.warnings.len(), 1, "{}", render(&loaded.warnings));
    assert_eq!(loaded.warnings[0].key, "email.oncall.password");
    assert_eq!(loaded.check_detectors(&["pod-exec"]), []);
    assert_eq!(loaded.files, [file, folder.path().join("soc.key")]);
    let config = loaded.config;
    for secret in ["hunter2", "whsec_"] {
        assert!(!format!("{config:?}").contains(secret));
    }

    let webhook = &config.deliver.webhook["soc"];
    let secret = webhook.signing_secret.as_ref().unwrap();
    assert_eq!(
        secret.expose(),
        "whsec_bWFkZSBmb3IgdGhlIHRlc3RzIG9mIGxhbm5lciE="
    );
    assert_eq!(webhook.signing_secret_file, None);
    assert_eq!(config.detectors_dir, Some(folder.path().join("detectors")));

    let sites = config.sites();
    let site = sites.of(WEST);
    assert_eq!((&*site.name, &*site.environment), ("west", "production"));
    let (own, global) = (
        "203.0.113.5".parse().unwrap(),
        "198.51.100.5".parse().unwrap(),
    );
    assert!(site.lists.trusted_networks.contains(own));
    assert!(!site.lists.trusted_networks.contains(global));
    assert!(site.lists.protected_namespaces.contains("kube-system"));
    let other = sites.of("elsewhere");
    assert!(other.lists.trusted_networks.contains(global));
    let sites = config.sites();
    let shifted = |severity: Severity, cluster: &str| {
        severity.shifted(sites.of(&cluster.to_lowercase()).severity_shift)
    };
    assert_eq!(shifted(Severity::High, WEST), Severity::Critical);
    assert_eq!(shifted(Severity::Critical, WEST), Severity::Critical);
    assert_eq!(shifted(Severity::High, "elsewhere"), Severity::High);

    let subject = Subject {
        severity: Severity::Critical,
        kind: Kind::Threat,
        cluster: WEST,
        cluster_name: "west",
        namespace: "payments",
        detector: "pod-exec",
    };
    assert_eq!(config.route(subject), ["webhook.soc", "email.oncall"]);
    let high = Subject {
        severity: Severity::High,
        ..subject
    };
    assert_eq!(config.route(high), ["webhook.soc"]);
    let elsewhere = Subject {
        cluster_name: "east",
        cluster: "e",
        ..high
    };
    assert_eq!(config.route(elsewhere), [] as [&str; 0]);
    let hygiene = Subject {
        kind: Kind::Hygiene,
        ..elsewhere
    };
    assert_eq!(config.route(hygiene), ["stdout"]);
}

#[test]
fn an_exception_holds_where_all_its_fields_match_until_it_expires() {
    let loaded =
        load_text("lanner.toml", EXCEPTION, &[]).unwrap_or_else(|e| panic!("{}", render(&e)));
    let exception = &loaded.config.detectors["pod-exec"].exceptions[0];
    let field = |user: &'static str, address: &'static str| {
        move |field: Field| match field.name() {
            "actor.user" => FieldValue::from(user),
            "object.ns" => FieldValue::from("orders"),
            "user_agent.family" => FieldValue::from("kubectl"),
            "source_ip.address" => FieldValue::from(address),
            other => panic!("{other} was not asked for"),
        }
    };
    let backup = "system:serviceaccount:backup:runner";
    let now = |text: &str| Some(text.parse().unwrap());
    assert!(exception.holds(None, field(backup, "203.0.113.9")));
    assert!(exception.holds(now("2096-12-31T23:59:59Z"), field(backup, "203.0.113.9")));
    assert!(!exception.holds(now("2097-01-01T00:00:00Z"), field(backup, "203.0.113.9")));
    assert!(!exception.holds(None, field("jane", "203.0.113.9")));
    assert!(!exception.holds(None, field(backup, "198.51.100.9")));
    assert!(!exception.holds(None, field(backup, "")));
}

#[test]
fn without_a_file_threats_and_changes_go_to_standard_output() {
    let config = load_text("", "", &[]).unwrap().config;
    let subject = Subject {
        severity: Severity::Medium,
        kind: Kind::Change,
        cluster: "",
        cluster_name: "",
        namespace: "",
        detector: "",
    };
    assert_eq!(config.route(subject), ["stdout"]);
    let low = Subject {
        severity: Severity::Low,
        ..subject
    };
    assert_eq!(config.route(low), [] as [&str; 0]);
}

#[test]
fn a_file_that_cannot_be_read_is_said() {
    let missing = std::path::Path::new("/nowhere/lanner.toml");
    let errors = load(Some(missing)).unwrap_err();
    assert_eq!(errors[0].file, "/nowhere/lanner.toml");
    assert!(errors[0].message.contains("cannot be read"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_reload_is_all_or_nothing() {
    use lanner::config::reload::Watcher;
    use std::time::Duration;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lanner.toml");
    let secret = folder.path().join("soc.key");
    let write = |workers: &str| {
        let text = format!(
            "[pipeline]\nworkers = {workers}\n[webhook.soc]\nurl = \"https://a.example\"\nbearer-token-file = \"soc.key\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("1");
    std::fs::write(&secret, "one").unwrap();
    let loaded = load(Some(&file)).unwrap();

    // Changes of the file, of the secret beside it, and back from a mistake.
    let often = Duration::from_millis(10);
    let mut watcher = Watcher::every(often, &file, &loaded).unwrap();
    write("2");
    assert_eq!(watcher.changed().await.unwrap().config.pipeline.workers, 2);
    write("two");
    assert_eq!(
        watcher.changed().await.unwrap_err()[0].key,
        "pipeline.workers"
    );
    write("3");
    assert_eq!(watcher.changed().await.unwrap().config.pipeline.workers, 3);
    std::fs::write(&secret, "two").unwrap();
    let loaded = watcher.changed().await.unwrap();
    let token = loaded.config.deliver.webhook["soc"]
        .bearer_token
        .as_ref()
        .unwrap();
    assert_eq!(token.expose(), "two");

    // Without a change nothing comes, until SIGHUP asks.
    let idle = tokio::time::timeout(often * 50, watcher.changed()).await;
    assert!(idle.is_err());
    let id = std::process::id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &id])
        .status();
    assert!(sent.unwrap().success());
    assert!(watcher.changed().await.is_ok());
}

const WEST: &str =
    "/subscriptions/0/resourcegroups/rg/providers/microsoft.containerservice/managedclusters/west";

const WHOLE: &str = r#"
detectors-dir = "detectors"
[eventhubs.prod]
namespace = "contoso.servicebus.windows.net"
hub = "aks-audit"
start = "2026-11-20T10:00:00Z"
[webhook.soc]
url = "https://hooks.example/lanner"
signing-secret-file = "soc.key"
[email.oncall]
host = "127.0.0.1"
tls = "none"
from = "lanner@example.com"
to = ["On call <oncall@example.com>"]
username = "lanner"
password = "hunter2"
[lists]
trusted-networks = ["198.51.100.0/24"]
[cluster.west]
arm-id = "/subscriptions/0/resourceGroups/RG/providers/Microsoft.ContainerService/managedClusters/West"
environment = "production"
severity-shift = 1
[cluster.west.lists]
trusted-networks = ["203.0.113.0/24"]
[detectors.pod-exec]
severity = "low"
window = "10m"
[[route]]
severity = "critical"
receivers = ["email.oncall"]
continue = true
[[route]]
clusters = ["west"]
namespaces = ["pay*"]
receivers = ["webhook.*"]
[[route]]
kinds = ["hygiene"]
receivers = ["stdout"]
"#;

const EXCEPTION: &str = r#"
[[detectors.pod-exec.exception]]
reason = "The backup job runs pg_dump."
expires = 2096-12-31
actor.user = "system:serviceaccount:backup:*"
object.ns = ["payments", "orders"]
"user_agent.family" = "kubectl"
source_ip.address = "203.0.113.0/24"
"#;
