//! Lines of the API server's own log (category `kube-apiserver`): klog text, old and new.
//!
//! Old: `I0417 13:23:32.030695 1 wrap.go:47] GET /apis/x: (467.349µs) 200 [agent 10.129.0.1:40778]`.
//! New: `I0823 08:55:54.330840 1 httplog.go:132] "HTTP" verb="GET" URI="/api" … resp=200`, values
//! quoted as by Go's `%q`. Neither names the user, and neither has the year, which is taken from the
//! record's time. Text that is no request line keeps its message, for detectors that read it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

/// A record of the category `kube-apiserver`.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    Request(Request<'a>),
    Other(Message<'a>),
}

/// A request, as the API server's HTTP log tells it; what the line lacks is empty or `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request<'a> {
    /// In capitals: the HTTP method (old) or the Kubernetes verb (new: `LIST`, `WATCH`, `CONNECT`).
    pub verb: Cow<'a, str>,
    /// As sent, with its query.
    pub uri: Cow<'a, str>,
    pub code: Option<u16>,
    pub latency: Option<Duration>,
    pub user_agent: Cow<'a, str>,
    /// The peer of the connection.
    pub source_ip: Option<IpAddr>,
    /// Chosen by the client if it likes, as in audit events; never in old lines.
    pub audit_id: Cow<'a, str>,
    pub time: Option<Timestamp>,
}

/// Text that is no request line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message<'a> {
    /// `None` where the text has no klog header, as the later lines of a panic.
    pub severity: Option<Severity>,
    /// `file.go:line`, empty without a header.
    pub source: &'a str,
    /// The text behind the header.
    pub message: &'a str,
    pub time: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Error,
    Fatal,
}

/// Whether `text` begins as a klog line does.
pub fn has_header(text: &str) -> bool {
    Header::parse(text).is_some()
}

impl<'a> Line<'a> {
    /// Reads one line; `near` is the record's time, within half a year of the line's.
    pub fn parse(text: &'a str, near: Option<Timestamp>) -> Line<'a> {
        let text = text.trim_end();
        let Some(header) = Header::parse(text) else {
            return Line::Other(Message {
                message: text,
                time: near,
                ..Message::default()
            });
        };
        let time = near.map(|near| header.time_near(near).unwrap_or(near));
        let request = match header.message.strip_prefix("\"HTTP\"") {
            Some(pairs) => Some(structured(pairs)),
            None => wrapped(header.message),
        };
        match request {
            Some(request) => Line::Request(Request { time, ..request }),
            None => Line::Other(Message {
                severity: Some(header.severity),
                source: header.source,
                message: header.message,
                time,
            }),
        }
    }
}

/// `Lmmdd hh:mm:ss.uuuuuu threadid file:line] `.
struct Header<'a> {
    severity: Severity,
    /// `mmdd hh:mm:ss.uuuuuu`.
    stamp: &'a str,
    source: &'a str,
    message: &'a str,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Option<Header<'a>> {
        const STAMP: usize = "mmdd hh:mm:ss.uuuuuu".len();
        let severity = match text.as_bytes().first()? {
            b'I' => Severity::Info,
            b'W' => Severity::Warning,
            b'E' => Severity::Error,
            b'F' => Severity::Fatal,
            _ => return None,
        };
        let stamp = text.get(1..1 + STAMP)?;
        let fits = stamp.bytes().enumerate().all(|(index, byte)| match index {
            4 => byte == b' ',
            7 | 10 => byte == b':',
            13 => byte == b'.',
            _ => byte.is_ascii_digit(),
        });
        if !fits {
            return None;
        }
        let (origin, message) = text[1 + STAMP..].split_once(']')?;
        Some(Header {
            severity,
            stamp,
            source: origin.rsplit(' ').next().unwrap_or(""),
            message: message.strip_prefix(' ').unwrap_or(message),
        })
    }

    /// The line's time in the year that brings it nearest to `near`.
    fn time_near(&self, near: Timestamp) -> Option<Timestamp> {
        let number = |at: usize, length: usize| self.stamp[at..at + length].parse::<i32>().ok();
        let small = |at: usize| number(at, 2).and_then(|value| i8::try_from(value).ok());
        let clock = civil::Time::new(
            small(5)?,
            small(8)?,
            small(11)?,
            number(14, 6)?.checked_mul(1000)?,
        )
        .ok()?;
        let year = TimeZone::UTC.to_datetime(near).year();
        [year.checked_sub(1), Some(year), year.checked_add(1)]
            .into_iter()
            .flatten()
            .filter_map(|year| {
                let date = civil::Date::new(year, small(0)?, small(2)?).ok()?;
                TimeZone::UTC.to_timestamp(date.to_datetime(clock)).ok()
            })
            .min_by_key(|time| time.duration_since(near).abs())
    }
}

/// The pairs behind `"HTTP"`.
fn structured(pairs: &str) -> Request<'_> {
    let mut request = Request::default();
    let mut rest = pairs.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = pair_value(after);
        match key {
            "verb" => request.verb = value,
            "URI" => request.uri = value,
            "resp" => request.code = value.parse().ok(),
            "latency" => request.latency = go_duration(&value),
            "userAgent" | "UserAgent" => request.user_agent = value,
            "srcIP" => request.source_ip = peer(&value),
            "audit-ID" => request.audit_id = value,
            _ => {}
        }
        rest = after.trim_start();
    }
    request
}

/// The value at the start of `text`, and what follows it.
fn pair_value(text: &str) -> (Cow<'_, str>, &str) {
    if !text.starts_with('"') {
        let end = text.find(' ').unwrap_or(text.len());
        return (Cow::Borrowed(&text[..end]), &text[end..]);
    }
    let (inner, after) = match super::scan::string_end(text.as_bytes(), 0) {
        Some(end) => (&text[1..end - 1], &text[end..]),
        None => (&text[1..], ""),
    };
    (go_unquote(inner), after)
}

/// What stands between the quotes of Go's `%q`, unquoted; what cannot be read stays as written.
fn go_unquote(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let kind = escape.chars().next();
        let digits = |length: usize| {
            let digits = escape.get(1..1 + length)?;
            u32::from_str_radix(digits, 16).ok()
        };
        let short = |byte: u8| Some((char::from(byte), 1));
        let (char, length) = match kind {
            Some('x') => match digits(2).and_then(|value| u8::try_from(value).ok()) {
                // A byte of text that is not UTF-8.
                Some(byte) => {
                    bytes.push(byte);
                    rest = &escape[3..];
                    continue;
                }
                None => None,
            },
            Some('u') => digits(4).and_then(char::from_u32).map(|char| (char, 5)),
            Some('U') => digits(8).and_then(char::from_u32).map(|char| (char, 9)),
            Some('n') => short(b'\n'),
            Some('t') => short(b'\t'),
            Some('r') => short(b'\r'),
            Some('a') => short(7),
            Some('b') => short(8),
            Some('f') => short(12),
            Some('v') => short(11),
            Some('"') => short(b'"'),
            Some('\\') => short(b'\\'),
            _ => None,
        }
        .unwrap_or(('\\', 0));
        bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Cow::Owned(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// `VERB URI: (latency) CODE [agent address]`; the space before the bracket may be missing, and so
/// may all that follows the code.
fn wrapped(message: &str) -> Option<Request<'_>> {
    let (verb, rest) = message.split_once(' ')?;
    if verb.is_empty() || !verb.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    // A URI holds no space, so that only what follows it can be mistaken for its end.
    let (token, rest) = rest.split_once(' ')?;
    let (uri, latency, rest) = match token.strip_suffix(':') {
        Some(uri) => {
            let (latency, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let latency = latency.strip_prefix('(')?.strip_suffix(')')?;
            (uri, latency, rest)
        }
        None => {
            let (uri, latency) = token.strip_suffix(')')?.rsplit_once(":(")?;
            (uri, latency, rest)
        }
    };
    let latency = go_duration(latency)?;
    let code_end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let code = rest[..code_end].parse().ok();
    let tail = rest[code_end..].trim_start();
    let tail = tail.split('\n').next().unwrap_or(tail);
    let (user_agent, source_ip) = tail
        .strip_prefix('[')
        .and_then(|tail| tail.rsplit_once(']'))
        .and_then(|(tail, _)| tail.rsplit_once(' '))
        .and_then(|(agent, address)| Some((agent, peer(address)?)))
        .map_or(("", None), |(agent, address)| (agent, Some(address)));
    Some(Request {
        verb: Cow::Borrowed(verb),
        uri: Cow::Borrowed(uri),
        code,
        latency: Some(latency),
        user_agent: Cow::Borrowed(user_agent),
        source_ip,
        ..Request::default()
    })
}

/// `10.0.0.1:1234`, `[::1]:1234`, or either without its port.
fn peer(text: &str) -> Option<IpAddr> {
    let bare = |text: &str| text.parse::<IpAddr>().ok();
    text.parse::<SocketAddr>()
        .map(|address| address.ip())
        .ok()
        .or_else(|| bare(text.trim_matches(['[', ']'])))
}

/// Go's `time.Duration` as printed: `467.349µs`, `1m2.5s`, `0s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "ns" => 1e-9,
            "µs" | "μs" | "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near() -> Option<Timestamp> {
        Some("2026-01-01T00:00:03Z".parse().unwrap())
    }

    fn request(text: &str) -> Request<'_> {
        match Line::parse(text, near()) {
            Line::Request(request) => request,
            other => panic!("no request: {other:?}"),
        }
    }

    fn other(text: &str) -> Message<'_> {
        match Line::parse(text, near()) {
            Line::Other(message) => message,
            request => panic!("no message: {request:?}"),
        }
    }

    #[test]
    fn reads_old_request_lines() {
        let plain = "I1231 23:59:58.000001       7 wrap.go:47] LIST /api/v1/pods?limit=500: (1m2.5s) 200 [curl/8.1 (x) y 192.0.2.9:40778]\n";
        let expected = Request {
            verb: "LIST".into(),
            uri: "/api/v1/pods?limit=500".into(),
            code: Some(200),
            latency: Some(Duration::from_millis(62_500)),
            user_agent: "curl/8.1 (x) y".into(),
            source_ip: Some("192.0.2.9".parse().unwrap()),
            audit_id: "".into(),
            // The year before that of the record, which came in after midnight.
            time: Some("2025-12-31T23:59:58.000001Z".parse().unwrap()),
        };
        assert_eq!(request(plain), expected);
        assert_eq!(request(&plain.replace(": (", ":(")), expected);
        // A URI may hold what looks like its end.
        let uri = "/api/x:(1ms)?a=b:(2s)";
        let line = plain.replace("/api/v1/pods?limit=500", uri);
        assert_eq!(request(&line).uri, uri);
        assert_eq!(request(&line.replace(": (1m", ":(1m")).uri, uri);
        // The agent is the client's to choose, the address is not.
        let forged = plain.replace("curl/8.1", "x 10.0.0.1:1] 500 [y");
        assert_eq!(request(&forged).source_ip, expected.source_ip);
        assert_eq!(request(&forged).code, Some(200));
        let line = plain.replace("192.0.2.9", "[2001:db8::1]");
        assert_eq!(request(&line).source_ip, "2001:db8::1".parse().ok());
        // Elided in the middle, or without its tail.
        let elided = request(
            "I0101 00:00:01.000000 7 wrap.go:47] GET /a: (5µs) 404 [agent (linu...2.9:40778]",
        );
        assert_eq!((elided.code, elided.source_ip), (Some(404), None));
        let bare = request(
            "I0101 00:00:01.000000 7 wrap.go:47] GET /a: (5us) 500\ngoroutine 1 [running]: x]",
        );
        assert_eq!((bare.code, bare.user_agent.as_ref()), (Some(500), ""));
    }

    #[test]
    fn reads_new_request_lines() {
        let line = r#"I0101 00:00:01.500000      10 httplog.go:132] "HTTP" verb="WATCH" URI="/api/v1/secrets?watch=true" latency="5m0.000123s" userAgent="a \"b\" verb=\"x\" resp=1 \x1b[0m \u00e9 \xff" audit-ID="5 6" srcIP="[::1]:1234" apf_iseats=1 hijacked=true resp=200"#;
        assert_eq!(
            request(line),
            Request {
                verb: "WATCH".into(),
                uri: "/api/v1/secrets?watch=true".into(),
                code: Some(200),
                latency: Some(Duration::from_micros(300_000_123)),
                user_agent: "a \"b\" verb=\"x\" resp=1 \x1b[0m é \u{fffd}".into(),
                source_ip: Some("::1".parse().unwrap()),
                audit_id: "5 6".into(),
                time: Some("2026-01-01T00:00:01.5Z".parse().unwrap()),
            }
        );
        let cut = request(&line[..line.find(" audit-ID").unwrap() - 9]);
        assert_eq!((cut.verb.as_ref(), cut.code), ("WATCH", None));
    }

    #[test]
    fn keeps_other_text() {
        let line = "E0101 00:00:02.000000       1 authentication.go:63] \"Unable to authenticate the request\" err=\"[invalid bearer token]\"";
        assert_eq!(
            other(line),
            Message {
                severity: Some(Severity::Error),
                source: "authentication.go:63",
                message: "\"Unable to authenticate the request\" err=\"[invalid bearer token]\"",
                time: Some("2026-01-01T00:00:02Z".parse().unwrap()),
            }
        );
        assert_eq!(other("W0101 00:00:02.0000001 a.go:2] x").source, "a.go:2");
        for text in [
            "goroutine 7 [running]:",
            "",
            "I0101",
            "I0101 00:00:02.0000001 x",
            "é0101 00:00:02.000000 1 a.go:1] x",
        ] {
            assert_eq!(
                other(text),
                Message {
                    message: text,
                    time: near(),
                    ..Message::default()
                }
            );
        }
        // No such day: the record's time must do.
        assert_eq!(other("I1399 77:00:02.000000 1 a.go:1] x").time, near());
    }

    proptest! {
        #[test]
        fn reads_anything(head in "(I0101 00:00:01.000000 1 a.go:1\\] )?", text in r#"([A-Z]{1,4} |"HTTP" |[a-zA-Z-]{1,4}="|"|\\x[0-9a-f]?|\\u00e9|\\|\(|1.5µs|: ?\(|\)|\[|\]|[ =é0-9.]|\PC){0,20}"#) {
            Line::parse(&format!("{head}{text}"), near());
        }

        #[test]
        fn a_quoted_value_comes_back(value in any::<String>()) {
            // JSON's escapes are a subset of Go's, where no surrogates are needed.
            let line = format!("I0101 00:00:01.000000 1 a.go:1] \"HTTP\" userAgent={} resp=7", serde_json::to_string(&value).unwrap());
            let request = request(&line);
            prop_assert_eq!(request.user_agent.as_ref(), &value);
            prop_assert_eq!(request.code, Some(7));
        }
    }
}
