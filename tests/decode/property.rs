//! What holds for any event, any cut and any bytes.

use lanner::decode::{Payload, audit, wire};
use lanner::event::{AuditEvent, Body, Level, ObjectRef, ResponseStatus, Stage, User};
use lanner::source::Framing;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::support::{decode, seen_bytes, with_event};

/// An event's members as JSON texts, in the order in which they are to be written.
#[derive(Debug, Clone)]
struct Members(Vec<(&'static str, String)>);

impl Members {
    fn text(&self) -> String {
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    fn get(&self, key: &str) -> Option<Value> {
        let (_, text) = self.0.iter().find(|(name, _)| *name == key)?;
        serde_json::from_str(text).unwrap()
    }

    /// The event that the members make, read by serde_json's `Value`.
    fn event(&self) -> AuditEvent<'_> {
        let text = |key: &str| self.get(key).map_or(String::new(), |value| string(&value));
        let body = |key: &str| {
            let found = self.0.iter().find(|(name, _)| *name == key);
            found.map_or(Body::Absent, |(_, text)| match text.as_str() {
                "null" => Body::Absent,
                text => Body::Text(text.into()),
            })
        };
        let time = |key: &str| self.get(key).map(|value| string(&value).parse().unwrap());
        AuditEvent {
            level: Level::parse(&text("level")),
            audit_id: text("auditID").into(),
            stage: Stage::parse(&text("stage")),
            request_uri: text("requestURI").into(),
            verb: text("verb").into(),
            user: self.get("user").map_or_else(User::default, user),
            impersonated_user: self.get("impersonatedUser").map(user),
            source_ips: self.get("sourceIPs").map_or_else(Vec::new, strings),
            user_agent: text("userAgent").into(),
            object_ref: self.get("objectRef").map(|value| ObjectRef {
                resource: string(&value["resource"]).into(),
                name: string(&value["name"]).into(),
                ..ObjectRef::default()
            }),
            response_status: self.get("responseStatus").map(|value| ResponseStatus {
                code: value["code"].as_i64().unwrap(),
                message: string(&value["message"]).into(),
                ..ResponseStatus::default()
            }),
            request_object: body("requestObject"),
            response_object: body("responseObject"),
            request_received: time("requestReceivedTimestamp"),
            stage_time: time("stageTimestamp"),
            annotations: self.get("annotations").map_or_else(Vec::new, |value| {
                let entries = value.as_object().unwrap();
                entries
                    .iter()
                    .map(|(key, value)| (key.clone().into(), string(value).into()))
                    .collect()
            }),
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn strings(value: Value) -> Vec<std::borrow::Cow<'static, str>> {
    let items = value.as_array().unwrap();
    items.iter().map(|item| string(item).into()).collect()
}

fn user(value: Value) -> User<'static> {
    let extra = value["extra"].as_object().unwrap();
    User {
        username: string(&value["username"]).into(),
        uid: "".into(),
        groups: strings(value["groups"].clone()),
        extra: extra
            .iter()
            .map(|(key, value)| (key.clone().into(), strings(value.clone())))
            .collect(),
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:/ -]{0,12}",
        r#"(["\\{}\[\],:/&<>é😀\n\r\t]|\\u0041|\\"|\u{0}|\u{7f}|\u{2028}|[a-z]){0,12}"#,
        any::<String>(),
    ]
}

fn any_body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any_text(), inner), 0..4)
                .prop_map(|entries| json!(entries.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

fn any_user() -> impl Strategy<Value = Value> {
    (
        any_text(),
        vec(any_text(), 0..3),
        vec((any_text(), vec(any_text(), 0..2)), 0..2),
    )
        .prop_map(|(name, groups, extra)| {
            let extra: serde_json::Map<_, _> = extra
                .into_iter()
                .map(|(key, values)| (key, json!(values)))
                .collect();
            json!({ "username": name, "groups": groups, "extra": extra })
        })
}

fn any_time() -> impl Strategy<Value = Value> {
    (0..4_000_000_000i64, 0..1_000_000_000i32).prop_map(|(second, nanosecond)| {
        json!(
            jiff::Timestamp::new(second, nanosecond)
                .unwrap()
                .to_string()
        )
    })
}

/// Members of a valid event in any order, with at least a verb.
fn any_members() -> impl Strategy<Value = Members> {
    let text = || any_text().prop_map(Value::from);
    let level = select(&["Metadata", "Request", "RequestResponse"][..]).prop_map(Value::from);
    let stage = select(&["ResponseStarted", "ResponseComplete", "Panic"][..]).prop_map(Value::from);
    let object = (any_text(), any_text())
        .prop_map(|(resource, name)| json!({ "resource": resource, "name": name }));
    let status = (100..600i64, any_text())
        .prop_map(|(code, message)| json!({ "metadata": {}, "code": code, "message": message }));
    let annotations = vec(("k[a-z]{0,3}", any_text()), 0..3).prop_map(|entries| {
        json!(
            entries
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
        )
    });
    let head = (
        option::of(level),
        option::of(text()),
        option::of(stage),
        option::of(text()),
        "[a-z]{1,8}".prop_map(Value::from),
        option::of(any_user()),
        option::of(any_user()),
    );
    let tail = (
        option::of(vec(any_text(), 0..3).prop_map(Value::from)),
        option::of(text()),
        option::of(object),
        option::of(status),
        option::of(any_body()),
        option::of(any_body()),
        option::of(any_time()),
        option::of(any_time()),
        option::of(annotations),
        option::of(any_body()),
    );
    (head, tail)
        .prop_map(|(head, tail)| {
            [
                ("kind", Some(json!("Event"))),
                ("apiVersion", Some(json!("audit.k8s.io/v1"))),
                ("level", head.0),
                ("auditID", head.1),
                ("stage", head.2),
                ("requestURI", head.3),
                ("verb", Some(head.4)),
                ("user", head.5),
                ("impersonatedUser", head.6),
                ("sourceIPs", tail.0),
                ("userAgent", tail.1),
                ("objectRef", tail.2),
                ("responseStatus", tail.3),
                ("requestObject", tail.4),
                ("responseObject", tail.5),
                ("requestReceivedTimestamp", tail.6),
                ("stageTimestamp", tail.7),
                ("annotations", tail.8),
                ("unknown", tail.9),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?.to_string())))
            .collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(Members)
}

/// A record around `log`, its members in the order that `order` gives.
fn enclose(log: &str, as_string: bool, properties_as_string: bool, order: &[usize]) -> String {
    let log = if as_string {
        json!(format!("{log}\n")).to_string()
    } else {
        log.to_owned()
    };
    let mut properties = format!(r#"{{"pod":"p","log":{log},"stream":"stdout"}}"#);
    if properties_as_string {
        properties = json!(properties).to_string();
    }
    let members = [
        r#""time":"2026-11-20T10:00:00Z""#.to_owned(),
        r#""resourceId":"/X""#.to_owned(),
        r#""category":"kube-audit""#.to_owned(),
        format!("\"properties\":{properties}"),
    ];
    let members: Vec<&str> = order.iter().map(|index| members[*index].as_str()).collect();
    format!("{{{}}}", members.join(" , "))
}

fn any_order() -> impl Strategy<Value = Vec<usize>> {
    Just(vec![0, 1, 2, 3]).prop_shuffle()
}

/// Text that looks like JSON more often than bytes would.
fn any_soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        select(
            &[
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
                "\"",
                "\\",
                "\\\"",
                "\n",
                " ",
                "null",
                "true",
                "-1.5e3",
                "\"records\":[",
                "\"items\":[",
                "\"properties\":{",
                "\"properties\":\"",
                "\"log\":\"",
                "\"log\":{",
                "\"kind\":\"Event\"",
                "\"category\":\"kube-audit\"",
                "\"log_s\":\"{",
                "\"category\":\"kube-apiserver\"",
                "\"verb\":\"get\"",
                "\"user\":{",
                "\"sourceIPs\":[",
                "\"annotations\":{",
                "\"requestObject\":",
                "\"AuditId\":\"",
                "\"ObjectRef\":\"{",
                "{\\\"kind\\\":\\\"Event\\\",\\\"verb\\\":",
                "\\ud800",
                "\\u00",
                "é",
                "\u{feff}",
            ][..]
        )
        .prop_map(|token| token.as_bytes().to_vec()),
        vec(any::<u8>(), 1..4),
    ];
    vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

/// No document is empty without saying so.
fn holds_nothing(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let Ok(value) = serde_json::from_slice::<Value>(line) else {
        return line.iter().all(u8::is_ascii_whitespace)
            || String::from_utf8_lossy(line)
                .split_whitespace()
                .all(|part| part.bytes().all(|byte| b"[],".contains(&byte)));
    };
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(|items| {
            items
                .iter()
                .all(|item| holds_nothing(item.to_string().as_bytes()))
        })
    };
    is_empty(&value) || is_empty(&value["records"]) || is_empty(&value["items"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_event_is_the_same_in_every_envelope(
        members in any_members(),
        order in any_order(),
        as_string in any::<bool>(),
        properties_as_string in any::<bool>(),
    ) {
        let text = members.text();
        let expected = members.event();
        with_event(&text, |event, damage| {
            assert_eq!((event, damage), (&expected, None));
        });
        let record = enclose(&text, as_string, properties_as_string, &order);
        with_event(&record, |event, damage| {
            assert_eq!((event, damage), (&expected, None), "{record}");
        });
    }

    #[test]
    fn salvage_reads_what_the_strict_parse_reads(members in any_members()) {
        let text = members.text();
        let error = serde_json::from_str::<i32>("[").unwrap_err();
        let (payload, damage) = audit::rescue(&text, &error);
        prop_assert_eq!(damage, Some(wire::reason(&error)));
        prop_assert_eq!(payload, audit::finish(audit::parse(&text).unwrap()));
    }

    #[test]
    fn a_cut_keeps_what_came_before_it(members in any_members(), at in any::<Index>()) {
        let text = members.text();
        let cut = 1 + at.index(text.len() - 1);
        let bytes = &text.as_bytes()[..cut];
        // The members that are whole before the cut; a number's end is not known.
        let mut length = 1;
        let mut whole = Vec::new();
        let mut begun = "";
        for (key, value) in &members.0 {
            if length + key.len() + 3 < cut {
                begun = key;
            }
            length += key.len() + value.len() + 3;
            if length < cut || length == cut && value.ends_with(['"', '}', ']']) {
                whole.push((*key, value.clone()));
            }
            length += 1;
        }
        let whole = Members(whole);
        let keys: Vec<&str> = whole.0.iter().map(|(key, _)| *key).collect();
        let mut count = 0;
        decode(bytes, Framing::Lines, &mut |record| {
            count += 1;
            assert!(record.damage.is_some());
            let Payload::Audit(event) = &record.payload else {
                // There must have been nothing to judge, or nothing that said what it is.
                assert!(!(keys.contains(&"kind") && keys.contains(&"verb")), "{record:?}");
                return;
            };
            let expected = whole.event();
            let mut found = (**event).clone();
            for (body, found, key) in [
                (&expected.request_object, &mut found.request_object, "requestObject"),
                (&expected.response_object, &mut found.response_object, "responseObject"),
            ] {
                // A body that is `null` is as one that was not met.
                if *body == Body::Absent {
                    let logged = match (expected.level, key) {
                        // It is there, whatever the level says.
                        _ if begun == key && !keys.contains(&key) => true,
                        (Level::Metadata, _) => false,
                        (Level::Request, key) => key == "requestObject",
                        (Level::RequestResponse | Level::Unknown, _) => true,
                    };
                    assert_eq!(*found, if logged { Body::Unreadable } else { Body::Absent });
                    *found = Body::Absent;
                }
            }
            // Of an object that is cut, the whole members are kept.
            for (key, reset) in [
                ("user", (|event| event.user = User::default()) as fn(&mut AuditEvent)),
                ("impersonatedUser", |event| event.impersonated_user = None),
                ("objectRef", |event| event.object_ref = None),
                ("responseStatus", |event| event.response_status = None),
                ("annotations", |event| event.annotations.clear()),
            ] {
                if !keys.contains(&key) {
                    reset(&mut found);
                }
            }
            assert_eq!(found, expected);
        });
        prop_assert_eq!(count, 1);
    }

    #[test]
    fn a_cut_envelope_is_damage_and_says_nothing_false(
        members in any_members(),
        order in any_order(),
        as_string in any::<bool>(),
        properties_as_string in any::<bool>(),
        at in any::<Index>(),
    ) {
        let expected = members.event();
        let record = enclose(&members.text(), as_string, properties_as_string, &order);
        let cut = 1 + at.index(record.len() - 1);
        let mut count = 0;
        decode(&record.as_bytes()[..cut], Framing::Lines, &mut |record| {
            count += 1;
            assert!(record.damage.is_some());
            if let Payload::Audit(event) = &record.payload {
                let same = |found: &str, expected: &str| found.is_empty() || found == expected;
                assert!(same(&event.verb, &expected.verb));
                assert!(same(&event.request_uri, &expected.request_uri));
                assert!(same(&event.user.username, &expected.user.username));
                assert!(event.source_ips.is_empty() || event.source_ips == expected.source_ips);
                let body = event.request_object;
                let unread = matches!(body, Body::Unreadable | Body::Absent);
                assert!(unread || body == expected.request_object, "{body:?}");
            }
        });
        prop_assert_eq!(count, 1);
    }

    #[test]
    fn anything_is_counted_and_nothing_panics(soup in any_soup(), value in any::<bool>()) {
        if value {
            decode(&soup, Framing::Value, &mut |_| ());
        }
        for line in soup.split(|byte| *byte == b'\n') {
            prop_assert!(!seen_bytes(line).is_empty() || holds_nothing(line));
        }
    }

    #[test]
    fn a_changed_byte_panics_nowhere(
        members in any_members(),
        order in any_order(),
        as_string in any::<bool>(),
        changes in vec((any::<Index>(), select(&b"\"\\{}[],:0x\xff\x00\n "[..])), 1..4),
    ) {
        let mut record = enclose(&members.text(), as_string, false, &order).into_bytes();
        for (at, byte) in changes {
            let at = at.index(record.len());
            record[at] = byte;
        }
        for line in record.split(|byte| *byte == b'\n') {
            prop_assert!(!seen_bytes(line).is_empty() || holds_nothing(line));
        }
    }
}
