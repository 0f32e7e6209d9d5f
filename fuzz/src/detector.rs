//! A site's detector file: refused in words, or sound enough to run.

use std::sync::LazyLock;

use lanner::config::Config;
use lanner::decode::Decoder;
use lanner::detect::load::{Source, load, shipped};
use lanner::detect::{Engine, Scratch, selftest};
use lanner::source::Framing;

use super::shared::{matches, source};

/// One shipped file, so that `override` has something to work on.
static SHIPPED: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let mut shipped = shipped();
    shipped.retain(|source| source.file.ends_with("/pod-exec.toml"));
    shipped
});

/// An event that many match.
const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/n/pods/p/exec?command=sh&stdin=true","verb":"create","user":{"username":"ada@example.com","groups":["g","system:authenticated"]},"sourceIPs":["203.0.113.7"],"userAgent":"kubectl/v1.36.0","objectRef":{"resource":"pods","subresource":"exec","namespace":"n","name":"p","apiVersion":"v1"},"responseStatus":{"code":101},"requestReceivedTimestamp":"2026-11-20T10:00:00.1Z","stageTimestamp":"2026-11-20T10:00:00.2Z"}"#;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match load(&SHIPPED, &[source(text)]) {
        Ok(detectors) => {
            let engine = Engine::new(detectors, Config::defaults().sites());
            let mut scratch = Scratch::new(None);
            let mut decoder = Decoder::default();
            matches(
                &engine,
                &mut decoder,
                &mut scratch,
                EVENT.as_bytes(),
                Framing::Lines,
            );
            selftest::run(&engine, |id| id != "pod-exec", &[]);
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a word");
            for diagnostic in diagnostics {
                let shown = diagnostic.to_string();
                assert!(
                    !shown.chars().any(|c| c.is_control() && c != '\n'),
                    "{shown:?}"
                );
            }
        }
    }
}
