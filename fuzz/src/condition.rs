//! A detector's condition in CEL: refused, or a cheap yes or no for any event.
//!
//! The text up to the first line break is the condition, the rest is an event.

use lanner::decode::{Decoder, Payload};
use lanner::detect::condition::Condition;
use lanner::event::View;
use lanner::source::Framing;

use super::shared::{ENGINE, chunk};

const EVENT: &[u8] = br#"{"kind":"Event","auditID":"a","requestURI":"/api/v1/namespaces/n/pods/p?a=b","verb":"get","user":{"username":"ada@example.com","groups":["g"]},"sourceIPs":["203.0.113.7"],"userAgent":"kubectl/v1.36.0","objectRef":{"resource":"pods","namespace":"n","name":"p"},"responseStatus":{"code":200}}"#;

pub fn run(data: &[u8]) {
    let (source, event) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, EVENT),
    };
    let Ok(source) = std::str::from_utf8(source) else {
        return;
    };
    let Ok(condition) = Condition::compile(source) else {
        return;
    };
    Decoder::default().decode(&chunk(event, Framing::Lines), &mut |record| {
        if let Payload::Audit(event) = &record.payload {
            let site = ENGINE.sites.of(&record.origin.cluster);
            let view = View::new(event, &record.origin, site);
            let holds = condition.holds(&view);
            assert_eq!(condition.holds(&view), holds);
        }
    });
}
