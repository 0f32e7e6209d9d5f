//! Deliveries to servers that are not ours: aiosmtpd, and a receiver that checks signatures with the
//! `standardwebhooks` library. Both need Python with these packages, named by `LANNER_PYTHON`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lanner::alert::Severity;
use lanner::config::secret::Secret;
use lanner::deliver::email::{Email, EmailConfig, Tls};
use lanner::deliver::webhook::{Webhook, WebhookConfig};
use lanner::deliver::{Attempt, FailureReason, Notification, Options, Receiver, start};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::common::{Outbox, alert, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server in Python, ended with the test.
struct Server {
    child: Child,
    port: u16,
    out: PathBuf,
    folder: TempDir,
}

impl Server {
    /// Starts `tests/real/SCRIPT`; `{}` in an argument stands for the server's own folder.
    fn start(script: &str, arguments: &[&str]) -> Server {
        let python = std::env::var("LANNER_PYTHON").expect("LANNER_PYTHON names a Python");
        let folder = TempDir::new().unwrap();
        let own = folder.path().to_str().unwrap();
        let out = folder.path().join("out.ndjson");
        let mut child = Command::new(python)
            .arg(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("tests/real")
                    .join(script),
            )
            .arg("--out")
            .arg(&out)
            .args(arguments.iter().map(|argument| argument.replace("{}", own)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().strip_prefix("listening ").expect(script);
        Server {
            port: port.parse().unwrap(),
            child,
            out,
            folder,
        }
    }

    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn notification() -> Notification {
    Notification {
        notification_id: "5d1f0c-2".to_owned(),
        severity: Severity::High,
        body: serde_json::to_string(&alert("5d1f0c-2", Severity::High)).unwrap(),
    }
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let headers = mail["headers"].as_array().unwrap();
    let found = headers.iter().find(|header| header[0] == name);
    found.map_or("", |header| header[1].as_str().unwrap())
}

#[tokio::test]
#[ignore = "needs Python's aiosmtpd; tests/real.sh runs it"]
async fn real_mail_server() {
    let kinds = [
        (Tls::None, "none"),
        (Tls::Starttls, "starttls"),
        (Tls::Implicit, "implicit"),
    ];
    for (tls, name) in kinds {
        let mut arguments = vec!["--tls", name, "--make-cert", "{}"];
        if tls != Tls::Implicit {
            arguments.extend(["--user", "lanner", "--password", "hush"]);
        }
        let server = Server::start("smtp_server.py", &arguments);
        let mut config = EmailConfig {
            port: Some(server.port),
            tls,
            ..EmailConfig::to("localhost", "lanner@example.com", &["oncall@example.com"])
        };
        if tls != Tls::Implicit {
            config.username = Some("lanner".to_owned());
            config.password = Some(Secret::new("hush"));
        }
        if tls != Tls::None {
            let untrusting = Email::new("oncall", &config).unwrap();
            let attempt = untrusting.deliver(&notification()).await;
            assert!(
                matches!(
                    attempt,
                    Attempt::Retry {
                        reason: FailureReason::Tls,
                        ..
                    }
                ),
                "{name}: {attempt:?}"
            );
            assert!(server.records().is_empty());
            config.ca_file = Some(server.certificate());
        }
        let email = Email::new("oncall", &config).unwrap();
        let attempt = email.deliver(&notification()).await;
        assert_eq!(attempt, Attempt::Delivered, "{name}");

        let mails = server.records();
        assert_eq!(mails.len(), 1, "{name}");
        let mail = &mails[0];
        assert_eq!(mail["tls"], tls != Tls::None, "{name}");
        assert_eq!(mail["rcpt_tos"][0], "oncall@example.com");
        assert_eq!(mail["defects"].as_array().unwrap().len(), 0, "{mail}");
        assert_eq!(header(mail, "message-id"), "<5d1f0c-2@lanner.example.com>");
        assert!(header(mail, "subject").starts_with("[HIGH] mallory@example.com ran"));
        for body in ["text", "html"] {
            let body = mail[body].as_str().unwrap();
            assert!(body.contains("Command execution in a pod") && body.contains("cart-7d9f"));
        }
    }
}

#[tokio::test]
#[ignore = "needs Python's standardwebhooks; tests/real.sh runs it"]
async fn real_webhook_receiver() {
    let modes = "500,429:1,close,reset,redirect,hang,503";
    let server = Server::start(
        "webhook_receiver.py",
        &["--secret", SECRET, "--modes", modes],
    );
    let config = WebhookConfig {
        signing_secret: Some(Secret::new(SECRET)),
        timeout_secs: 1,
        ..WebhookConfig::to(&format!("http://127.0.0.1:{}/hook", server.port))
    };
    let outbox = Outbox::new();
    outbox.add("webhook.soc", "5d1f0c-1", Severity::High);
    outbox.add("webhook.soc", "5d1f0c-2", Severity::High);
    let options = Options {
        min_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(100),
        ..Options::default()
    };
    let webhook = Webhook::new("soc", &config).unwrap();
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("webhook.soc".to_owned(), Box::new(webhook))],
        Arc::new(()),
        options,
        &CancellationToken::new(),
    );
    eventually("both arrive", || outbox.pending("webhook.soc") == 0).await;
    deliveries.join(Duration::from_secs(5)).await;

    let requests = server.records();
    assert!(
        requests.iter().all(|request| request["verified"] == true),
        "{requests:#?}"
    );
    assert!(requests.iter().all(|request| request["path"] == "/hook"));
    let taken: Vec<_> = requests
        .iter()
        .filter(|request| request["mode"] == "200")
        .map(|request| request["headers"]["webhook-id"].as_str().unwrap())
        .collect();
    let mut ids = taken.clone();
    ids.sort();
    assert_eq!(ids, ["5d1f0c-1", "5d1f0c-2"], "each is taken once");
    for request in &requests {
        assert_eq!(
            request["alert"]["notification_id"],
            request["headers"]["webhook-id"]
        );
    }
}

#[tokio::test]
#[ignore = "needs Python's standardwebhooks; tests/real.sh runs it"]
async fn real_webhook_over_tls() {
    // The mail server makes the certificate.
    let maker = Server::start(
        "smtp_server.py",
        &["--tls", "implicit", "--make-cert", "{}"],
    );
    let file = |name: &str| maker.folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let server = Server::start(
        "webhook_receiver.py",
        &["--secret", SECRET, "--cert", &certificate, "--key", &key],
    );
    let mut config = WebhookConfig {
        signing_secret: Some(Secret::new(SECRET)),
        ..WebhookConfig::to(&format!("https://localhost:{}/hook", server.port))
    };
    let attempt = Webhook::new("soc", &config)
        .unwrap()
        .deliver(&notification())
        .await;
    assert!(
        matches!(
            attempt,
            Attempt::Retry {
                reason: FailureReason::Tls,
                ..
            }
        ),
        "{attempt:?}"
    );
    config.ca_file = Some(maker.certificate());
    let attempt = Webhook::new("soc", &config)
        .unwrap()
        .deliver(&notification())
        .await;
    assert_eq!(attempt, Attempt::Delivered);
    assert_eq!(server.records()[0]["verified"], true);
}
