//! The audit event (`audit.k8s.io/v1`), borrowed from the batch or from the unescaped payload.
//!
//! Made by [`crate::decode::audit`]; read through [`crate::event::View`]. Every string may have been
//! chosen by an attacker.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use memchr::memmem;

/// The stage of a request at which the API server wrote the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    RequestReceived,
    /// The headers of a long-running request (`watch`, `exec`, any `proxy`, …) have been sent.
    ResponseStarted,
    ResponseComplete,
    Panic,
    /// The key is missing (exports drop it) or holds something else: still judged.
    Unknown,
}

impl Stage {
    pub fn parse(text: &str) -> Stage {
        match text {
            "RequestReceived" => Stage::RequestReceived,
            "ResponseStarted" => Stage::ResponseStarted,
            "ResponseComplete" => Stage::ResponseComplete,
            "Panic" => Stage::Panic,
            _ => Stage::Unknown,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
            Stage::Unknown => "",
        }
    }
}

/// How much of the request the audit policy had logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    Metadata,
    Request,
    RequestResponse,
    Unknown,
}

impl Level {
    pub fn parse(text: &str) -> Level {
        match text {
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            _ => Level::Unknown,
        }
    }
}

/// The diagnostic category a record came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    KubeAudit,
    /// As `kube-audit`, without `get` and `list`.
    KubeAuditAdmin,
    KubeApiserver,
    /// A raw audit event without an envelope; it may hold every verb, like `kube-audit`.
    Raw,
}

impl Category {
    pub fn as_str(self) -> &'static str {
        match self {
            Category::KubeAudit => "kube-audit",
            Category::KubeAuditAdmin => "kube-audit-admin",
            Category::KubeApiserver => "kube-apiserver",
            Category::Raw => "raw",
        }
    }
}

/// What the envelope says around the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The cluster's ARM id in lower case; empty where the record names none.
    pub cluster: Arc<str>,
    pub category: Category,
    /// The envelope's `time`.
    pub time: Option<Timestamp>,
}

/// `user` and `impersonatedUser`. A 401 has an empty one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User<'a> {
    pub username: Cow<'a, str>,
    pub uid: Cow<'a, str>,
    pub groups: Vec<Cow<'a, str>>,
    pub extra: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>,
}

/// `objectRef`; absent (not empty) for non-resource URLs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectRef<'a> {
    pub resource: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub uid: Cow<'a, str>,
    pub api_group: Cow<'a, str>,
    pub api_version: Cow<'a, str>,
    pub resource_version: Cow<'a, str>,
    pub subresource: Cow<'a, str>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseStatus<'a> {
    /// HTTP code; 0 where the key is missing.
    pub code: i64,
    pub status: Cow<'a, str>,
    pub reason: Cow<'a, str>,
    pub message: Cow<'a, str>,
}

/// `requestObject` or `responseObject`, unparsed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Body<'a> {
    /// The level logs no such body, or the request had none.
    #[default]
    Absent,
    /// There is or was a body and it cannot be read: `skipped-too-big-size-object`, removed by the
    /// API server's truncation, or cut off. Facts of it are unknown, not false.
    Unreadable,
    /// The JSON text of the body.
    Text(BodyText<'a>),
}

/// The JSON text of a body, unescaped when first asked for; reads as a `str`.
///
/// Its strings and brackets are known to be sound; whether the rest of it is JSON, only a parse can
/// tell.
#[derive(Clone, Copy)]
pub struct BodyText<'a> {
    written: &'a str,
    /// Where the text goes if it has to be unescaped.
    plain: Option<&'a OnceCell<String>>,
}

impl<'a> BodyText<'a> {
    /// `written` is the inside of a JSON string, and `plain` has not been used before.
    pub fn escaped(written: &'a str, plain: &'a OnceCell<String>) -> BodyText<'a> {
        BodyText {
            written,
            plain: Some(plain),
        }
    }

    /// Whether a string of the text may hold `word`, which is of ASCII letters; `false` is certain.
    pub fn may_hold(self, word: &str) -> bool {
        // However often a text is escaped, a letter is written as itself or behind `\u`.
        let holds = |part: &str| memmem::find(self.written.as_bytes(), part.as_bytes()).is_some();
        holds(word) || holds("\\u")
    }

    pub fn get(self) -> &'a str {
        match self.plain {
            None => self.written,
            Some(plain) => plain.get_or_init(|| {
                let mut text = String::new();
                crate::decode::unescape::unescape(self.written, &mut text);
                text
            }),
        }
    }
}

impl<'a> From<&'a str> for BodyText<'a> {
    fn from(text: &'a str) -> BodyText<'a> {
        BodyText {
            written: text,
            plain: None,
        }
    }
}

impl Deref for BodyText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.get()
    }
}

impl PartialEq for BodyText<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl fmt::Debug for BodyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// One audit event; keys that are missing are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent<'a> {
    pub level: Level,
    /// Chosen by the client if it likes (`Audit-ID` header): any text, not unique.
    pub audit_id: Cow<'a, str>,
    pub stage: Stage,
    /// As sent: percent-encoded, with whatever detours the client took.
    pub request_uri: Cow<'a, str>,
    pub verb: Cow<'a, str>,
    pub user: User<'a>,
    pub impersonated_user: Option<User<'a>>,
    /// The proxy chain; all but the last may be set by the client.
    pub source_ips: Vec<Cow<'a, str>>,
    pub user_agent: Cow<'a, str>,
    pub object_ref: Option<ObjectRef<'a>>,
    pub response_status: Option<ResponseStatus<'a>>,
    pub request_object: Body<'a>,
    pub response_object: Body<'a>,
    pub request_received: Option<Timestamp>,
    pub stage_time: Option<Timestamp>,
    pub annotations: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Default for AuditEvent<'_> {
    fn default() -> Self {
        AuditEvent {
            level: Level::Unknown,
            audit_id: Cow::Borrowed(""),
            stage: Stage::Unknown,
            request_uri: Cow::Borrowed(""),
            verb: Cow::Borrowed(""),
            user: User::default(),
            impersonated_user: None,
            source_ips: Vec::new(),
            user_agent: Cow::Borrowed(""),
            object_ref: None,
            response_status: None,
            request_object: Body::Absent,
            response_object: Body::Absent,
            request_received: None,
            stage_time: None,
            annotations: Vec::new(),
        }
    }
}

impl<'a> AuditEvent<'a> {
    /// The annotation's value; of duplicate keys the last counts, as for Go's decoder.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_ref())
    }

    /// The event's place on the event clock: when its stage was reached, else when the request came.
    pub fn time(&self) -> Option<Timestamp> {
        self.stage_time.or(self.request_received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_hold_what_it_holds_however_it_is_written() {
        let cell = OnceCell::new();
        for (written, expected) in [
            (r#"{"serviceAccountName":"a"}"#, true),
            (r#"{"s\u0065rviceAccount":"a"}"#, true),
            (r#"{"service\\\"Account":"a"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(
                BodyText::from(written).may_hold("serviceAccount"),
                expected,
                "{written}"
            );
            let escaped = written.replace('\\', "\\\\").replace('"', "\\\"");
            let body = BodyText::escaped(&escaped, &cell);
            assert_eq!(body.may_hold("serviceAccount"), expected, "{escaped}");
        }
        assert!(cell.get().is_none(), "looking reads no body");
    }
}
