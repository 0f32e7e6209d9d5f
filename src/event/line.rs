//! Lines of the API server's own log as detectors see them: of a closed set of kinds.
//!
//! Lines come from [`crate::decode::apiserver`]. A request line is turned into the audit event that
//! it tells the least of (verb, URI, code, user agent, address, audit ID), so that the facts and
//! fields of requests work; it names no user and no object, and facts of those say nothing. The
//! kinds of other lines follow from how their messages begin, as kube-apiserver 1.12 to 1.36 write
//! them (`dispatcher.go`, `metrics.go` of audit, `authentication.go`, `wrap.go`, `runtime.go`).

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::audit::{AuditEvent, ResponseStatus, Stage};
use crate::decode::apiserver::{Line, Message, Request, Severity};

macro_rules! kinds {
    ($( $variant:ident = $name:literal, $doc:literal; )*) => {
        /// What a line is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum LineKind { $( #[doc = $doc] $variant, )* }

        impl LineKind {
            /// Every kind with its name in `lines` and what it stands for.
            pub const ALL: &[(LineKind, &'static str, &'static str)] =
                &[$( (LineKind::$variant, $name, $doc), )*];
        }
    };
}

kinds! {
    Request = "request", "a request, as the HTTP log tells it";
    AuthenticationFailure = "authentication-failure", "a credential was refused, with the reason and without the address";
    TlsFailure = "tls-failure", "a TLS handshake failed, with the address";
    WebhookFailedOpen = "webhook-failed-open", "an admission webhook could not be asked, and the request was let pass";
    WebhookFailedClosed = "webhook-failed-closed", "an admission webhook could not be asked, and the request was refused";
    AuditBackendError = "audit-backend-error", "audit events were lost on their way out of the API server";
    Panic = "panic", "the API server panicked, in one request or as a whole";
    Other = "other", "any other line";
}

impl LineKind {
    pub fn parse(name: &str) -> Option<LineKind> {
        LineKind::ALL
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(kind, _, _)| *kind)
    }

    pub fn as_str(self) -> &'static str {
        LineKind::ALL[self as usize].1
    }

    pub fn of(line: &Line<'_>) -> LineKind {
        let message = match line {
            Line::Request(_) => return LineKind::Request,
            Line::Other(message) => message,
        };
        // Structured messages are quoted, the older ones are not.
        let text = message.message.trim_start_matches('"');
        let begins = |prefix: &str| {
            text.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if begins("unable to authenticate the request") {
            LineKind::AuthenticationFailure
        } else if begins("http: tls handshake error from") {
            LineKind::TlsFailure
        } else if begins(FAILED_OPEN) {
            LineKind::WebhookFailedOpen
        } else if begins("failed calling webhook, failing closed") {
            LineKind::WebhookFailedClosed
        } else if begins("error in audit plugin") {
            LineKind::AuditBackendError
        } else if begins("apiserver panic'd")
            || begins("observed a panic")
            || (message.severity.is_none() && begins("panic: "))
        {
            LineKind::Panic
        } else {
            LineKind::Other
        }
    }
}

const FAILED_OPEN: &str = "failed calling webhook, failing open";

/// One line beside the [`AuditEvent`] made of it.
#[derive(Debug, Clone, Copy)]
pub struct LineView<'e> {
    pub kind: LineKind,
    /// Behind the klog header; empty of a request.
    pub message: &'e str,
    /// `file.go:line`, empty of a request and of text without a header.
    pub source: &'e str,
    pub severity: Option<Severity>,
}

impl<'e> LineView<'e> {
    pub fn new(line: &Line<'e>) -> LineView<'e> {
        let kind = LineKind::of(line);
        match line {
            Line::Request(_) => LineView {
                kind,
                message: "",
                source: "",
                severity: None,
            },
            Line::Other(message) => LineView {
                kind,
                message: message.message,
                source: message.source,
                severity: message.severity,
            },
        }
    }

    /// `info`, `warning`, `error` or `fatal`; empty where the line does not say.
    pub fn severity(&self) -> &'static str {
        match self.severity {
            None => "",
            Some(Severity::Info) => "info",
            Some(Severity::Warning) => "warning",
            Some(Severity::Error) => "error",
            Some(Severity::Fatal) => "fatal",
        }
    }

    /// The webhook that failed; empty of other kinds.
    pub fn webhook(&self) -> &'e str {
        if !matches!(
            self.kind,
            LineKind::WebhookFailedOpen | LineKind::WebhookFailedClosed
        ) {
            return "";
        }
        let rest = self.message.get("failed calling webhook, failing ".len()..);
        rest.and_then(|rest| rest.split_once(' '))
            .map_or("", |(_, rest)| rest.split(": ").next().unwrap_or(rest))
    }
}

/// When the line was written: by its header, unless its record, which follows within minutes, says
/// otherwise. Text that someone else chose may look like a header, and must not move the clock.
pub fn time(line: &Line<'_>, record: Option<Timestamp>) -> Option<Timestamp> {
    let (Line::Request(Request { time, .. }) | Line::Other(Message { time, .. })) = line;
    match (*time, record) {
        (Some(time), Some(record)) if time.duration_since(record).abs() > MAX_DELAY => Some(record),
        (time, record) => time.or(record),
    }
}

/// How long a line may be on its way from the API server to the record that holds it.
const MAX_DELAY: SignedDuration = SignedDuration::from_hours(1);

/// What the line tells of a request, as an audit event; of other lines, its time and the address of
/// a TLS failure.
pub fn event<'e>(line: &'e Line<'_>) -> AuditEvent<'e> {
    let request = match line {
        Line::Request(request) => request,
        Line::Other(message) => {
            return AuditEvent {
                source_ips: tls_client(message).into_iter().collect(),
                stage_time: message.time,
                ..AuditEvent::default()
            };
        }
    };
    AuditEvent {
        audit_id: Cow::Borrowed(&request.audit_id),
        stage: Stage::ResponseComplete,
        request_uri: Cow::Borrowed(&request.uri),
        verb: Cow::Borrowed(verb(&request.verb)),
        source_ips: request
            .source_ip
            .map(|address| Cow::Owned(address.to_string()))
            .into_iter()
            .collect(),
        user_agent: Cow::Borrowed(&request.user_agent),
        response_status: request.code.map(|code| ResponseStatus {
            code: i64::from(code),
            ..ResponseStatus::default()
        }),
        request_received: request.time,
        stage_time: request.time,
        ..AuditEvent::default()
    }
}

/// The Kubernetes verb; `get` also of the lists and watches that old lines call `GET`.
fn verb(verb: &str) -> &str {
    match verb {
        "GET" | "HEAD" => "get",
        "LIST" => "list",
        "WATCH" => "watch",
        "POST" | "CREATE" => "create",
        "PUT" | "UPDATE" => "update",
        "PATCH" | "APPLY" => "patch",
        "DELETE" => "delete",
        "DELETECOLLECTION" => "deletecollection",
        other => other,
    }
}

/// The peer in `http: TLS handshake error from 203.0.113.9:51234: EOF`.
fn tls_client<'m>(message: &Message<'m>) -> Option<Cow<'m, str>> {
    let (_, rest) = message.message.split_once("handshake error from ")?;
    let (peer, _) = rest.split_once(": ")?;
    let (address, _) = peer.rsplit_once(':')?;
    Some(Cow::Borrowed(address.trim_matches(['[', ']'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_the_message() {
        for (text, kind) in [
            (
                r#"I1008 04:37:11.770951 1 httplog.go:132] "HTTP" verb="LIST" URI="/api/v1/pods" resp=401"#,
                "request",
            ),
            (
                r#"E1120 10:00:00.000001 1 authentication.go:73] "Unable to authenticate the request" err="[invalid bearer token]""#,
                "authentication-failure",
            ),
            (
                "E1120 10:00:00.000001 1 authentication.go:64] Unable to authenticate the request due to an error: x509: certificate has expired",
                "authentication-failure",
            ),
            (
                "I1120 10:00:00.000001 1 log.go:245] http: TLS handshake error from 203.0.113.9:51234: EOF",
                "tls-failure",
            ),
            (
                r#"W1120 10:00:00.000001 1 dispatcher.go:225] Failed calling webhook, failing open policy.example.com: failed calling webhook "policy.example.com": context deadline exceeded"#,
                "webhook-failed-open",
            ),
            (
                "W1120 10:00:00.000001 1 dispatcher.go:225] Failed calling webhook, failing closed policy.example.com: x",
                "webhook-failed-closed",
            ),
            (
                "E1120 10:00:00.000001 1 metrics.go:109] Error in audit plugin 'webhook' affecting 400 audit events: timeout",
                "audit-backend-error",
            ),
            (
                "E1120 10:00:00.000001 1 wrap.go:58] \"apiserver panic'd\" method=\"GET\" URI=\"/api\"",
                "panic",
            ),
            ("panic: runtime error: index out of range [5]", "panic"),
            (
                "I1120 10:00:00.000001 1 x.go:1] panic: quoted by someone",
                "other",
            ),
            ("goroutine 1 [running]:", "other"),
            ("", "other"),
        ] {
            assert_eq!(
                LineKind::of(&Line::parse(text, None)).as_str(),
                kind,
                "{text}"
            );
        }
        for (index, (kind, name, _)) in LineKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
            assert_eq!(LineKind::parse(name), Some(*kind));
        }
    }

    #[test]
    fn a_header_cannot_move_the_clock() {
        let record = "2026-11-20T10:00:05Z".parse().ok();
        for (text, expected) in [
            (
                "I1120 10:00:00.000001 1 x.go:1] x",
                "2026-11-20T10:00:00.000001Z",
            ),
            ("I0101 00:00:00.000000 1 x.go:1] x", "2026-11-20T10:00:05Z"),
            ("no header", "2026-11-20T10:00:05Z"),
        ] {
            let time = time(&Line::parse(text, record), record);
            assert_eq!(
                time.map(|time| time.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_webhook_and_an_address_are_read() {
        let line = Line::parse(
            "W1120 10:00:00.000001 1 dispatcher.go:225] Failed calling webhook, failing open policy.example.com: failed: x",
            None,
        );
        assert_eq!(LineView::new(&line).webhook(), "policy.example.com");
        for (peer, address) in [
            ("203.0.113.9:51234", "203.0.113.9"),
            ("[2001:db8::1]:51234", "2001:db8::1"),
        ] {
            let text = format!(
                "I1120 10:00:00.000001 1 log.go:245] http: TLS handshake error from {peer}: EOF"
            );
            assert_eq!(event(&Line::parse(&text, None)).source_ips, [address]);
        }
    }
}
