//! Audit events and component logs in Azure's envelope, and batches of records as Azure sends them.
//!
//! The keys of a record and their order differ between regions and years: each cluster has one of
//! the styles seen.

use std::fmt::Write as _;

use bytes::Bytes;
use jiff::Timestamp;

use super::event::quote;
use super::rng::Rng;

/// The largest batch that Azure was seen to send is far below a hub's limit of 1 MiB.
pub const BATCH_BYTES: usize = 256 * 1024;

const OPERATION: &str = "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read";

/// What stands around the payload; fixed for a cluster.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// ARM id in upper case, as Azure writes it.
    pub resource_id: String,
    style: usize,
    namespace: String,
    pods: [(String, String); 2],
    underlay: String,
}

/// The number of styles of records.
pub const STYLES: usize = 3;

impl Envelope {
    pub fn new(rng: &mut Rng, resource_id: String, style: usize, region: &str) -> Envelope {
        let set = rng.hex(10);
        let mut pod = || {
            let suffix = rng.suffix(5);
            (format!("{set}-{suffix}"), rng.hex(64))
        };
        let pods = [pod(), pod()];
        Envelope {
            resource_id,
            style: style % STYLES,
            namespace: rng.hex(24),
            pods,
            underlay: format!("hcp-underlay-{region}-cx-{}", 100 + rng.below(800)),
        }
    }

    /// One record. `payload` is what the component `category` printed, without the line's end.
    pub fn record(
        &self,
        category: &str,
        stream: &str,
        payload: &str,
        time: Timestamp,
        writer: usize,
    ) -> Vec<u8> {
        let component = if category.starts_with("kube-audit") {
            "kube-apiserver"
        } else {
            category
        };
        let (pod, container) = &self.pods[writer % 2];
        let mut out = String::with_capacity(payload.len() * 5 / 4 + 900);
        let id = &self.resource_id;
        match self.style {
            0 => {
                let _ = write!(
                    out,
                    "{{\"category\":\"{category}\",\"operationName\":\"{OPERATION}\",\"properties\":{{\"pod\":\"{component}-{pod}\",\"log\":"
                );
                line(&mut out, payload);
                let _ = write!(
                    out,
                    ",\"stream\":\"{stream}\",\"containerID\":\"{container}\"}},\"resourceId\":\"{id}\",\"serviceBuild\":\"na\",\"time\":\"{time:.9}\"}}"
                );
            }
            1 => {
                let _ = write!(
                    out,
                    "{{\"operationName\":\"{OPERATION}\",\"category\":\"{category}\",\"ccpNamespace\":\"{}\",\"resourceId\":\"{id}\",\"properties\":{{\"log\":",
                    self.namespace
                );
                line(&mut out, payload);
                let _ = write!(
                    out,
                    ",\"stream\":\"{stream}\",\"pod\":\"{component}-{pod}\"}},\"time\":\"{time:.7}\",\"Cloud\":\"AzureCloud\",\"Environment\":\"prod\",\"UnderlayClass\":\"hcp-underlay\",\"UnderlayName\":\"{}\"}}",
                    self.underlay
                );
            }
            _ => {
                let _ = write!(
                    out,
                    "{{\"time\":\"{time:.7}\",\"resourceId\":\"{id}\",\"category\":\"{category}\",\"operationName\":\"{OPERATION}\",\"properties\":{{\"containerID\":\"{container}\",\"log\":"
                );
                line(&mut out, payload);
                let _ = write!(
                    out,
                    ",\"pod\":\"{component}-{pod}\",\"stream\":\"{stream}\"}},\"serviceBuild\":\"na\",\"ccpNamespace\":\"{}\"}}",
                    self.namespace
                );
            }
        }
        out.into_bytes()
    }
}

/// `payload` and a line's end as a JSON string.
fn line(out: &mut String, payload: &str) {
    if payload.starts_with('{') {
        // An audit event is JSON already and holds no control characters.
        out.push('"');
        let mut rest = payload;
        while let Some(place) = rest.find(['"', '\\']) {
            out.push_str(&rest[..place]);
            out.push('\\');
            out.push_str(&rest[place..=place]);
            rest = &rest[place + 1..];
        }
        out.push_str(rest);
        out.push_str("\\n\"");
    } else {
        quote(out, &format!("{payload}\n"));
    }
}

/// Collects records into `{"records":[…]}`.
#[derive(Debug, Default)]
pub struct Batcher {
    bytes: Vec<u8>,
    count: usize,
}

impl Batcher {
    /// Adds a record; gives the full batch that it no longer fits into.
    pub fn add(&mut self, record: &[u8]) -> Option<Bytes> {
        let full = (self.count > 0 && self.bytes.len() + record.len() + 3 > BATCH_BYTES)
            .then(|| self.finish())
            .flatten();
        self.bytes.extend_from_slice(if self.count == 0 {
            b"{\"records\":["
        } else {
            b","
        });
        self.bytes.extend_from_slice(record);
        self.count += 1;
        full
    }

    /// What has been collected; `None` where that is nothing.
    pub fn finish(&mut self) -> Option<Bytes> {
        if self.count == 0 {
            return None;
        }
        self.count = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(b"]}");
        Some(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_style_is_a_record_of_the_same_content() {
        let time: Timestamp = "2026-11-20T10:00:00.123456789Z".parse().unwrap();
        let payload = r#"{"kind":"Event","userAgent":"a\"b\\c"}"#;
        for style in 0..STYLES {
            let mut rng = Rng::new(1);
            let envelope = Envelope::new(&mut rng, "/SUBSCRIPTIONS/X".into(), style, "eastus");
            let bytes = envelope.record("kube-audit", "stdout", payload, time, 0);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["properties"]["log"], format!("{payload}\n"));
            assert_eq!(value["category"], "kube-audit");
            assert_eq!(value["resourceId"], "/SUBSCRIPTIONS/X");
            assert!(
                value["time"]
                    .as_str()
                    .unwrap()
                    .starts_with("2026-11-20T10:00:00.1234567")
            );
        }
    }

    #[test]
    fn batches_are_documents_below_their_bound() {
        let mut batcher = Batcher::default();
        let record = format!("{{\"x\":\"{}\"}}", "y".repeat(50_000));
        let mut batches: Vec<Bytes> = (0..11)
            .filter_map(|_| batcher.add(record.as_bytes()))
            .collect();
        batches.extend(batcher.finish());
        assert_eq!(batcher.finish(), None);
        let mut records = 0;
        for batch in &batches {
            assert!(batch.len() <= BATCH_BYTES);
            let value: serde_json::Value = serde_json::from_slice(batch).unwrap();
            records += value["records"].as_array().unwrap().len();
        }
        assert_eq!(records, 11);
    }
}
