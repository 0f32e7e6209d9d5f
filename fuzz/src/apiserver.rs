//! Lines of the API server's own log, by themselves and as payloads of records.

use jiff::Timestamp;
use lanner::decode::Decoder;
use lanner::decode::apiserver::Line;
use lanner::detect::Scratch;
use lanner::event::line::{LineView, event, time};
use lanner::source::Framing;
use serde_json::json;

use super::shared::{ENGINE, matches};

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let record: Timestamp = "2026-11-20T10:00:00Z".parse().expect("it is a time");
    for near in [
        None,
        Some(record),
        Some(Timestamp::MIN),
        Some(Timestamp::MAX),
    ] {
        let line = Line::parse(&text, near);
        let view = LineView::new(&line);
        view.webhook();
        view.severity();
        event(&line);
        if let (Some(found), Some(near)) = (time(&line, near), near) {
            let apart = found.duration_since(near).abs();
            assert!(apart.as_hours() <= 1, "text moved the clock by {apart:?}");
        }
    }
    let record = json!({
        "time": "2026-11-20T10:00:00Z",
        "resourceId": "/S/A",
        "category": "kube-apiserver",
        "properties": { "log": text },
    });
    for mut decoder in [Decoder::default(), Decoder::full_parse()] {
        let mut scratch = Scratch::new(None);
        let record = record.to_string();
        matches(
            &ENGINE,
            &mut decoder,
            &mut scratch,
            record.as_bytes(),
            Framing::Value,
        );
    }
}
