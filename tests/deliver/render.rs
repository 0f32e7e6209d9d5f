//! What people see of an alert, and that an attacker's text cannot be more than text in it.

use crate::common::{alert, bare, hostile};
use lanner::alert::{Severity, Status, render};

#[test]
fn a_terminal_shows_everything_once() {
    insta::assert_snapshot!(render::terminal(&alert("a-1", Severity::High), false));
}

#[test]
fn a_mail_in_plain_text() {
    insta::assert_snapshot!(render::mail_text(&alert("a-1", Severity::High)));
}

#[test]
fn lines_and_subjects_are_short() {
    let mut alert = alert("a-1", Severity::High);
    assert_eq!(
        render::one_line(&alert),
        "2026-11-20T10:04:30Z prod-weu pod-exec mallory@example.com ran \
         `sh -c 'cat /etc/shadow'` in shop/cart-7d9f"
    );
    assert_eq!(
        render::subject(&alert),
        "[HIGH] mallory@example.com ran `sh -c 'cat /etc/shadow'` in shop/cart-7d9f (prod-weu)"
    );
    alert.status = Status::Closed;
    alert.summary = "x".repeat(1_000);
    let subject = render::subject(&alert);
    assert!(subject.starts_with("[high, closed] xxx") && subject.ends_with("… (prod-weu)"));
    assert!(subject.chars().count() <= 150);
}

#[test]
fn an_alert_that_knows_nothing_is_rendered_too() {
    let alert = bare(Severity::Info);
    insta::assert_snapshot!(render::mail_text(&alert));
    for label in ["Who", "Evidence", "Look at first", "References"] {
        assert!(!render::mail_html(&alert).contains(&format!(">{label}<")));
    }
}

#[test]
fn hostile_text_stays_text() {
    let alert = hostile(Severity::Critical);
    let html = render::mail_html(&alert);
    assert!(!html.contains("<script"), "{html}");
    assert!(!html.contains("javascript:"));
    assert!(html.contains("&lt;script&gt;") && html.contains("{{ 7*7 }}"));
    assert_eq!(html.matches("<td").count(), html.matches("</td>").count());
    let printed = [
        render::terminal(&alert, false),
        render::mail_text(&alert),
        html,
        render::one_line(&alert),
        render::subject(&alert),
    ];
    for text in printed {
        let unseen = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(unseen), "{text:?}");
        assert!(!text.contains("\nBcc"), "{text}");
        assert!(text.len() < 30_000, "{} bytes", text.len());
    }
    assert!(!render::subject(&alert).contains('\n'));
    assert!(!render::one_line(&alert).contains('\n'));
}

#[test]
fn colour_is_only_where_it_is_wanted() {
    let alert = alert("a-1", Severity::Critical);
    assert!(!render::terminal(&alert, false).contains('\x1b'));
    assert!(render::terminal(&alert, true).contains("\x1b[1;37;41mCRITICAL\x1b[0m"));
}

#[test]
fn mails_load_nothing() {
    let html = render::mail_html(&alert("a-1", Severity::High));
    for remote in [
        "src=", "url(", "@import", "<link", "<img", "<script", "<form",
    ] {
        assert!(!html.contains(remote), "{remote}");
    }
    // For looking at it in a browser.
    if let Some(folder) = std::env::var_os("LANNER_WRITE_MAILS") {
        let folder = std::path::Path::new(&folder);
        std::fs::write(folder.join("mail.html"), html).unwrap();
        std::fs::write(
            folder.join("hostile.html"),
            render::mail_html(&hostile(Severity::High)),
        )
        .unwrap();
    }
}
