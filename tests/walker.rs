//! Property tests of the walker; [`differential`], which is fuzzed too, says what holds.

#[path = "../fuzz/src/walker.rs"]
#[expect(dead_code, reason = "the fuzz target asks for matches too")]
mod differential;
#[path = "../fuzz/src/shared.rs"]
#[expect(dead_code, reason = "other targets use more of it")]
mod shared;

use differential::{compare, repeats};
use lanner::source::Framing;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

/// Values of an event's keys as JSON texts: most are as the API server writes them.
const TEXTS: &[&str] = &[
    r#""""#,
    r#""get""#,
    r#""/api/v1/pods?a=b\u0026c=\u003cd\u003e""#,
    r#""é\"q\\\\ \"\\\" \n\t\/\b\f\r""#,
    r#""\ud83d\ude00 \u00e9\u0000""#,
    r#""\ud83d""#,
    r#""{\"a\":[\"}\\\"]\"]}""#,
    r#""a\\""#,
    "null",
    "7",
    "{}",
];
const TIMES: &[&str] = &[
    r#""2026-11-20T10:00:00.012123Z""#,
    r#""2024-02-29T23:59:59Z""#,
    r#""2026-11-20T10:00:00.1234567891Z""#,
    r#""2026-02-30T10:00:00Z""#,
    r#""2026-11-20T10:00:60Z""#,
    r#""2026-11-20 10:00:00+01:00""#,
    r#""2026-11-20T10:00:00""#,
    r#""\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u000000Z""#,
    r#""""#,
    "null",
];
const LISTS: &[&str] = &[
    "[]",
    r#"["a"]"#,
    r#"["10.0.0.1","a\"b",null]"#,
    r#"["a",["b"]]"#,
    "null",
    "{}",
];
const USERS: &[&str] = &[
    "{}",
    r#"{"username":"u","uid":"1","groups":["a","b"],"extra":{"k":["v","w"],"l":[]}}"#,
    r#"{"groups":["a"],"groups":["b"],"extra":{"k":["v"]},"extra":null,"more":[1,{"a":"b"}]}"#,
    r#"{"username":"a\"\\","extra":{"k\n":["v"],"k\n":null}}"#,
    r#"{"username":1}"#,
    r#"{"uid":"1",}"#,
    "null",
    "[]",
];
const OBJECTS: &[&str] = &[
    r#"{"resource":"pods","namespace":"n","name":"x","uid":"u","apiGroup":"apps","apiVersion":"v1","resourceVersion":"1","subresource":"exec"}"#,
    r#"{"resource":"secrets","resource":"pods","other":true}"#,
    "{}",
    "null",
    "3",
];
const STATUSES: &[&str] = &[
    r#"{"metadata":{},"code":200}"#,
    r#"{"metadata":{},"status":"Failure","message":"User \"x\" cannot","reason":"Forbidden","details":{"kind":"pods","causes":[{"a":"b\"c"}]},"code":403}"#,
    r#"{"code":-1}"#,
    r#"{"code":007}"#,
    r#"{"code":1.5}"#,
    r#"{"code":123456789012345678901}"#,
    r#"{"metadata":{"a":}}"#,
    "null",
];
const ANNOTATIONS: &[&str] = &[
    r#"{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: \"a\" of \"b/c\""}"#,
    r#"{"audit.k8s.io/truncated":"true"}"#,
    r#"{"a":"1","a":"2"}"#,
    r#"{"a":1}"#,
    "{}",
    "null",
];
const BODIES: &[&str] = &[
    r#"{"kind":"Pod","spec":{"containers":[{"name":"c","args":["a\"b","\\\\\"","{[\"]}"],"n":1.5e3}]}}"#,
    r#"{"metadata":{"annotations":{"last":"{\"a\":{\"b\":\"c\\\"d\\\\\"}}\n"}},"é":"\u0026😀"}"#,
    r#"[{"op":"add","path":"/a","value":null}]"#,
    r#"{}"#,
    r#"{"requestReceivedTimestamp":"2020-01-01T00:00:00Z"}"#,
    r#"{"a":}"#,
    r#"{"a":[1,2}]"#,
    r#"{"a":"\ud800 \x"}"#,
    r#"{a\"b"}"#,
    r#"{"a":"b"#,
    r#"{"a":[{"b":1}]"#,
    r#"{"a":1}}"#,
    "{\"a\":\"\u{7f}\u{2028}\"}",
    r#""skipped-too-big-size-object""#,
    r#""skipped\u002dtoo-big-size-object""#,
    r#""text""#,
    "12",
    "null",
    "tru",
];
const UNKNOWN: &[&str] = &[
    r#"{"impersonationConstraint":"x","deep":[[[{"a":["b\"",1,true,null]}]]]}"#,
    r#""x""#,
    "[1,2]",
    "1e400",
    "01",
    "{]",
    "truefalse",
];

fn value_of(key: &str) -> &'static [&'static str] {
    match key {
        "user" | "impersonatedUser" => USERS,
        "sourceIPs" => LISTS,
        "objectRef" => OBJECTS,
        "responseStatus" => STATUSES,
        "requestObject" | "responseObject" => BODIES,
        "requestReceivedTimestamp" | "stageTimestamp" => TIMES,
        "annotations" => ANNOTATIONS,
        "authenticationMetadata" | "audit\\u0049D" => UNKNOWN,
        _ => TEXTS,
    }
}

const KEYS: &[&str] = &[
    "kind",
    "apiVersion",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "authenticationMetadata",
    "sourceIPs",
    "userAgent",
    "objectRef",
    "responseStatus",
    "requestObject",
    "responseObject",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations",
];

/// A member; `Index` so that most values come from the front of the list.
fn member(key: &'static str) -> impl Strategy<Value = String> {
    let values = value_of(key);
    (0..values.len(), 0..values.len(), any::<bool>()).prop_map(move |(one, other, plain)| {
        let index = if plain { one.min(other) / 2 } else { one };
        match (key, plain) {
            ("kind", true) => r#""kind":"Event""#.to_owned(),
            ("apiVersion", true) => r#""apiVersion":"audit.k8s.io/v1""#.to_owned(),
            ("level", true) => r#""level":"RequestResponse""#.to_owned(),
            ("stage", true) => r#""stage":"ResponseComplete""#.to_owned(),
            _ => format!("\"{key}\":{}", values[index]),
        }
    })
}

/// An event in Go's order of keys or in another, whole or not.
fn event() -> impl Strategy<Value = String> {
    let ordered = KEYS
        .iter()
        .map(|key| proptest::option::weighted(0.8, member(key)).boxed())
        .collect::<Vec<_>>()
        .prop_map(|members| members.into_iter().flatten().collect::<Vec<_>>());
    let any_order = vec(select(KEYS).prop_flat_map(member), 0..20);
    prop_oneof![3 => ordered, 1 => any_order]
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

/// How a payload is written as a string, and what is around it.
fn record() -> impl Strategy<Value = String> {
    let others = vec(
        select(
            &[
                r#""time":"2026-11-20T10:00:00.0125417Z""#,
                r#""time":"no time""#,
                r#""resourceId":"/SUBSCRIPTIONS/A""#,
                r#""resourceId":"/sub\"é""#,
                r#""resourceId":"/sub\"a\/b""#,
                r#""resourceId":null"#,
                r#""category":"kube-audit""#,
                r#""category":"Kube-Audit-Admin""#,
                r#""category":"kube-apiserver""#,
                r#""category":"guard""#,
                r#""operationName":"x""#,
                r#""Cloud":"AzureCloud""#,
                r#""extra":{"a":[1,2,{"b":"c"}]}"#,
                r#""n":01"#,
                r#""kind":"Event""#,
                r#""records":[]"#,
                r#""log_s":"I0417 13:23:32.030695 1 wrap.go:47] GET /: (1ms) 200""#,
                r#""properties":{}"#,
            ][..],
        ),
        0..6,
    );
    let log = prop_oneof![
        8 => event().prop_map(|event| json!(format!("{event}\n")).to_string()),
        1 => event().prop_map(|event| json!(event).to_string().replace("\\\"", "\\u0022")),
        1 => event().prop_map(|event| json!(event).to_string().replace('/', "\\/")),
        1 => event(),
        1 => select(&[r#""I0417 13:23:32.030695 1 x.go:1] m\u00e9\n""#, "null", r#""""#, r#""\x""#, "[]"][..])
            .prop_map(str::to_owned),
    ];
    let around = select(
        &[
            ("", ""),
            ("\"pod\":\"p\",", ",\"stream\":\"stdout\""),
            (" ", ","),
            ("\"a\":\"\\\"\\u0041\",", ""),
        ][..],
    );
    (others, log, around, any::<Index>()).prop_map(|(mut members, log, (before, after), at)| {
        let properties = format!(r#""properties":{{{before}"log":{log}{after}}}"#);
        let at = at.index(members.len() + 1);
        members.insert(at, &properties);
        format!("{{{}}}", members.join(","))
    })
}

fn text() -> impl Strategy<Value = String> {
    let value = || prop_oneof![4 => record(), 1 => event()];
    let end = select(&["\n", "\r\n", "", "\n\n", " ", "{}\n"][..]);
    prop_oneof![
        4 => value(),
        2 => vec((value(), end), 1..4)
            .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect()),
        1 => vec(value(), 0..4).prop_map(|records| format!(r#"{{"records":[{}]}}"#, records.join(","))),
        1 => vec(value(), 0..4).prop_map(|records| format!(r#"{{"a":1,"items":[ {} ] }}"#, records.join(" , "))),
    ]
}

/// `bytes` with each of the changes: where, with what, and of which kind.
fn damaged(mut bytes: Vec<u8>, changes: Vec<(Index, u8, u8)>) -> Vec<u8> {
    for (at, byte, kind) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => bytes[at] = byte,
            3 => bytes.insert(at, b"\\\"{}[],:\n\x00\xc3u"[usize::from(byte) % 12]),
            4 => drop(bytes.remove(at)),
            _ => {
                let from = at.saturating_sub(usize::from(byte));
                let part = bytes[from..at].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_read_the_same(text in text()) {
        compare(text.as_bytes());
    }

    #[test]
    fn both_ways_read_the_same_of_what_is_damaged(
        text in text(),
        changes in vec((any::<Index>(), any::<u8>(), 0..6u8), 1..4),
    ) {
        compare(&damaged(text.into_bytes(), changes));
    }

    #[test]
    fn what_is_taken_for_the_same_is_the_same(
        records in vec(record(), 1..4),
        order in vec(any::<Index>(), 2..12),
        changes in vec((any::<Index>(), any::<u8>(), 0..6u8), 0..4),
    ) {
        let lines = order.iter().map(|at| at.get(&records).as_str());
        let text = lines.collect::<Vec<_>>().join("\n").into_bytes();
        repeats(&damaged(text, changes), Framing::Lines);
    }

    #[test]
    fn what_was_read_before_changes_nothing(
        record in record(),
        changes in vec((any::<Index>(), any::<u8>(), 0..6u8), 1..4),
    ) {
        let mut text = format!("{record}\n").repeat(2).into_bytes();
        text.extend(damaged(record.into_bytes(), changes));
        compare(&text);
    }
}

/// A record as AKS writes it.
fn common(log: &str) -> String {
    format!(
        r#"{{"time":"2026-11-20T10:00:00.0125417Z","resourceId":"/SUBSCRIPTIONS/A","category":"kube-audit","operationName":"x","properties":{{"log":{},"stream":"stdout","pod":"p","containerID":"c"}},"serviceBuild":"na","Cloud":"AzureCloud"}}"#,
        json!(format!("{log}\n"))
    )
}

/// The head of an event as Go writes it, and its tail.
const HEAD: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/pods?a=b\u0026c","verb":"create","user":{"username":"u","groups":["g"],"extra":{"k":["v"]}},"sourceIPs":["10.0.0.1"],"userAgent":"k \"q\"","objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"requestObject":"#;
const TAIL: &str = r#","requestReceivedTimestamp":"2026-11-20T10:00:00.012123Z","stageTimestamp":"2026-11-20T10:00:00.012456Z","annotations":{"authorization.k8s.io/decision":"allow"}}"#;

#[test]
fn what_is_common_is_walked() {
    for body in [
        BODIES[0],
        BODIES[1],
        BODIES[2],
        r#""skipped-too-big-size-object""#,
        "null",
    ] {
        let event = format!("{HEAD}{body}{TAIL}");
        let record = common(&event);
        for text in [
            event.clone(),
            record.clone(),
            format!("{record}\r\n{record}\n"),
            format!(r#"{{"records":[{record},{record}]}}"#),
        ] {
            let records = text.matches("Event").count();
            // Once by lines, once as a value; of two lines, as a value, both are read together.
            let expected = if text.contains('\n') {
                records
            } else {
                2 * records
            };
            assert!(compare(text.as_bytes()) >= expected, "{text}");
        }
    }
}

/// An event of which no more than the places differ that make no difference.
fn like(id: u32, body: &str) -> String {
    let head = HEAD.replace(r#""auditID":"a""#, &format!(r#""auditID":"{id}""#));
    let head = head.replace(
        r#""apiVersion":"v1"}"#,
        &format!(r#""uid":"u-{id}","apiVersion":"v1","resourceVersion":"{id}"}}"#),
    );
    let tail = TAIL.replace(":00.012", &format!(":{:02}.012", id % 60));
    common(&format!("{head}{body}{tail}"))
}

#[test]
fn what_is_common_is_not_read_again() {
    let bodies = [BODIES[0], BODIES[1], BODIES[2], BODIES[3], BODIES[4]];
    let lines: Vec<String> = (0..10)
        .map(|id| like(id, bodies[id as usize % 5]))
        .collect();
    // Read are the first, the second, of which a body was asked for, and the third, which is remembered.
    assert_eq!(repeats(lines.join("\n").as_bytes(), Framing::Lines), 17);
    let whole = format!(r#"{{"records":[{}]}}"#, lines.join(","));
    assert_eq!(repeats(whole.as_bytes(), Framing::Value), 17);
    // With names behind the event, too.
    let behind = |line: &String| {
        let (names, event) = line.split_once(r#","properties":"#).unwrap();
        let (event, rest) = event.split_once(r#","serviceBuild""#).unwrap();
        format!(
            r#"{{"properties":{event},{},"serviceBuild"{rest}"#,
            &names[1..]
        )
    };
    let lines: Vec<String> = lines.iter().map(behind).collect();
    assert_eq!(repeats(lines.join("\n").as_bytes(), Framing::Lines), 17);
    // An event that its category, behind it, says is none has no note, nor that of the one before.
    let no_event = |line: &String| line.replace("kube-audit", "kube-apiserver");
    let mixed: Vec<String> = lines
        .iter()
        .flat_map(|line| [line.clone(), no_event(line), no_event(line)])
        .collect();
    repeats(mixed.join("\n").as_bytes(), Framing::Lines);
    // Of another cluster it is another event, which the names behind it tell.
    let of_both = |line: &String| {
        [
            line.clone(),
            line.replace("SUBSCRIPTIONS/A", "SUBSCRIPTIONS/B"),
        ]
    };
    let lines: Vec<String> = lines.iter().flat_map(of_both).collect();
    repeats(lines.join("\n").as_bytes(), Framing::Lines);
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts_again() {
    for key in ["auditID", "requestReceivedTimestamp", "stageTimestamp"] {
        for value in TEXTS.iter().chain(TIMES) {
            for first in [true, false] {
                let line = |id| {
                    let more = format!(
                        r#"\"{key}\":{},"#,
                        value.replace('\\', r"\\").replace('"', r#"\""#)
                    );
                    let at = match first {
                        true => r#"\"stage\":"#,
                        false => r#"\"annotations\":"#,
                    };
                    like(id, BODIES[0]).replace(at, &format!("{more}{at}"))
                };
                let lines: Vec<String> = (0..3).map(line).collect();
                repeats(lines.join("\n").as_bytes(), Framing::Lines);
            }
        }
    }
}

#[test]
fn what_differs_anywhere_else_is_read() {
    let record = like(7, BODIES[0]);
    let twice = format!("{record}\n{record}");
    assert_eq!(repeats(twice.as_bytes(), Framing::Lines), 1);
    for at in 0..record.len() {
        if !record.is_char_boundary(at) || !record.is_char_boundary(at + 1) {
            continue;
        }
        for byte in ["", "0", "x", "\\", "\"", "\u{1}"] {
            let other = format!("{}{byte}{}", &record[..at], &record[at + 1..]);
            repeats(
                format!("{record}\n{other}\n{record}").as_bytes(),
                Framing::Lines,
            );
        }
    }
}

#[test]
fn every_cut_of_a_record_is_the_same_damage() {
    let record = common(&format!("{HEAD}{}{TAIL}", BODIES[1]));
    for end in 0..record.len() {
        compare(&record.as_bytes()[..end]);
        // Behind one that has been read.
        compare(&[record.as_bytes(), b"\n", &record.as_bytes()[..end]].concat());
        // As when a line's end was lost.
        let spliced = [&record.as_bytes()[..end], record.as_bytes()].concat();
        compare(&spliced);
    }
}

#[test]
fn depth_is_damage_at_the_same_level() {
    for depth in [50, 99, 100, 101, 126, 127, 128, 129, 200] {
        let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        compare(common(&format!("{HEAD}{body}{TAIL}")).as_bytes());
        compare(format!("{HEAD}{body}{TAIL}").as_bytes());
    }
}
