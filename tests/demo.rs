//! The demo, as a newcomer runs it: all that it starts, and its own judgement.
#![cfg(feature = "emulator")]

use std::process::{Command, Stdio};

#[test]
fn every_attack_is_alerted_once_and_nothing_else() {
    let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(["demo", "--for", "12s", "--seed", "5"])
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("6 planted, 6 alerted"), "{text}");
    assert!(!text.contains('\x1b'), "no colours but on a terminal");
    assert_eq!(errors, "", "{text}");
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(["demo", "--for", "1s"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("5s at least"), "{errors}");
}
