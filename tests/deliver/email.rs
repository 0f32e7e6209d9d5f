//! Deliveries by e-mail, against a mail server on loopback that refuses in every way it may.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Outbox, alert, eventually};
use crate::smtp::{Script, Server};
use lanner::alert::Severity;
use lanner::config::secret::Secret;
use lanner::deliver::email::{Email, EmailConfig, Tls};
use lanner::deliver::{Attempt, FailureReason, Notification, Options, Receiver, start};
use tokio_util::sync::CancellationToken;

fn config(server: &Server) -> EmailConfig {
    EmailConfig {
        port: Some(server.port),
        tls: Tls::None,
        timeout_secs: 2,
        ..EmailConfig::to(
            "127.0.0.1",
            "Lanner <lanner@example.com>",
            &["oncall@example.com", "soc@example.com"],
        )
    }
}

fn notification() -> Notification {
    let mut alert = alert("5d1f0c-2", Severity::High);
    alert
        .summary
        .push_str(" – ünïcode\r\nBcc: mallory@example.com");
    Notification {
        notification_id: "5d1f0c-2".to_owned(),
        severity: Severity::High,
        body: serde_json::to_string(&alert).unwrap(),
    }
}

async fn one_attempt(script: Script) -> (Attempt, Server) {
    let server = Server::start(script).await;
    let email = Email::new("oncall", &config(&server)).unwrap();
    (email.deliver(&notification()).await, server)
}

#[tokio::test]
async fn a_mail_has_what_its_reader_and_their_programs_need() {
    let (attempt, server) = one_attempt(|_, _| None).await;
    assert_eq!(attempt, Attempt::Delivered);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!(
        mail.recipients,
        ["<oncall@example.com>", "<soc@example.com>"]
    );
    assert_eq!(mail.header("message-id"), "<5d1f0c-2@lanner.example.com>");
    assert_eq!(mail.header("references"), "<5d1f0c@lanner.example.com>");
    assert_eq!(mail.header("in-reply-to"), "<5d1f0c@lanner.example.com>");
    assert_eq!(mail.header("auto-submitted"), "auto-generated");
    assert!(mail.header("from").contains("<lanner@example.com>"));
    assert!(mail.header("to").contains("soc@example.com"));
    assert!(
        mail.header("subject")
            .starts_with("[HIGH] mallory@example.com ran")
    );
    assert_eq!(mail.header("bcc"), "");
    assert!(
        mail.header("content-type")
            .starts_with("multipart/alternative")
    );
    assert!(
        mail.text
            .contains("Content-Type: text/plain; charset=utf-8")
    );
    assert!(mail.text.contains("Content-Type: text/html; charset=utf-8"));
}

#[tokio::test]
async fn a_login_is_made_where_one_is_configured() {
    let server = Server::start(|line, _| {
        let expected = "AUTH PLAIN AGxhbm5lcgBodXNo";
        (line.starts_with("AUTH") && line != expected).then_some("535 wrong")
    })
    .await;
    let with = |password: &str| EmailConfig {
        username: Some("lanner".to_owned()),
        password: Some(Secret::new(password)),
        ..config(&server)
    };
    let email = Email::new("oncall", &with("hush")).unwrap();
    assert_eq!(email.deliver(&notification()).await, Attempt::Delivered);
    let email = Email::new("oncall", &with("wrong")).unwrap();
    let attempt = email.deliver(&notification()).await;
    // The mail is not at fault, so it waits until somebody mends the login.
    assert!(
        matches!(&attempt, Attempt::Retry { reason: FailureReason::Auth, detail, .. } if !detail.contains("hush")),
        "{attempt:?}"
    );
}

#[tokio::test]
async fn refusals_for_now_and_for_good_are_told_apart() {
    let script: Script = |line, _| (line == ".").then_some("554 policy\x1b[2J");
    let (attempt, _server) = one_attempt(script).await;
    let Attempt::Rejected { reason, detail } = attempt else {
        panic!("{attempt:?}");
    };
    assert_eq!(reason, FailureReason::ClientError);
    assert!(detail.contains("policy\\x1b[2J"), "{detail}");

    let script: Script = |line, _| line.starts_with("MAIL").then_some("451 greylisted");
    let (attempt, _server) = one_attempt(script).await;
    assert!(
        matches!(&attempt, Attempt::Retry { reason: FailureReason::ServerError, detail, .. } if detail.contains("greylisted")),
        "{attempt:?}"
    );
    let script: Script = |line, _| (line == ".").then_some("");
    let (attempt, _server) = one_attempt(script).await;
    assert!(
        matches!(
            attempt,
            Attempt::Retry {
                reason: FailureReason::Connect,
                ..
            }
        ),
        "{attempt:?}"
    );
}

#[tokio::test]
async fn one_bad_address_does_not_keep_the_mail_from_the_others() {
    let script: Script = |line, _| line.contains("<soc@").then_some("550 no such user");
    let (attempt, server) = one_attempt(script).await;
    assert_eq!(attempt, Attempt::Delivered);
    assert_eq!(server.mails().len(), 1);
    assert_eq!(server.mails()[0].recipients, ["<oncall@example.com>"]);

    let script: Script = |line, _| line.starts_with("RCPT").then_some("550 no such user");
    let (attempt, _server) = one_attempt(script).await;
    assert!(matches!(attempt, Attempt::Rejected { .. }), "{attempt:?}");
}

#[tokio::test]
async fn who_has_a_mail_does_not_get_it_again() {
    // The second address is refused for good at first, so that all are tried singly, then put off.
    let server = Server::start(|line, nth| match line.contains("<soc@") {
        true if nth < 2 => Some("550 no"),
        true if nth < 4 => Some("450 later"),
        _ => None,
    })
    .await;
    let email = Email::new("oncall", &config(&server)).unwrap();
    let notification = notification();
    let attempt = email.deliver(&notification).await;
    assert!(matches!(attempt, Attempt::Retry { .. }), "{attempt:?}");
    assert_eq!(email.deliver(&notification).await, Attempt::Delivered);
    let recipients: Vec<_> = server
        .mails()
        .into_iter()
        .map(|mail| mail.recipients)
        .collect();
    assert_eq!(
        recipients,
        [["<oncall@example.com>"], ["<soc@example.com>"]]
    );
}

#[tokio::test]
async fn without_starttls_nothing_is_sent() {
    let server = Server::start(|_, _| None).await;
    let config = EmailConfig {
        tls: Tls::Starttls,
        ..config(&server)
    };
    let email = Email::new("oncall", &config).unwrap();
    let attempt = email.deliver(&notification()).await;
    assert!(matches!(attempt, Attempt::Retry { .. }), "{attempt:?}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_server_that_is_down_gets_the_mail_later() {
    let server = Server::start(|line, nth| {
        (line.starts_with("MAIL") && nth < 2).then_some("421 shutting down")
    })
    .await;
    let outbox = Outbox::new();
    outbox.add("email.oncall", "5d1f0c-1", Severity::High);
    let email = Email::new("oncall", &config(&server)).unwrap();
    let options = Options {
        min_delay: Duration::from_millis(20),
        ..Options::default()
    };
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("email.oncall".to_owned(), Box::new(email))],
        Arc::new(()),
        options,
        &CancellationToken::new(),
    );
    eventually("the mail arrives", || outbox.pending("email.oncall") == 0).await;
    deliveries.join(Duration::from_secs(5)).await;
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        mails[0].header("message-id"),
        "<5d1f0c-1@lanner.example.com>"
    );
}
