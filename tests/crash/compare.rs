//! What two runs remember, compared without regard to the order of entries.

/// Fields that are not compared, by their names.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeftOut<'a> {
    pub fields: &'a [&'a str],
    /// A field all of which is compared.
    pub but_in: &'a str,
    /// More fields, of the nodes of a type that say they are of one of these detectors.
    pub of_detectors: &'a [String],
    pub types: &'a [&'a str],
    pub more: &'a [&'a str],
}

impl LeftOut<'_> {
    fn is_more(&self, node: &[(usize, &str)]) -> bool {
        let is_one = |(_, text): &(usize, &str)| {
            let id = text
                .strip_prefix("id: \"")
                .or_else(|| text.strip_prefix("detector: \""));
            let id = id.and_then(|id| id.strip_suffix("\","));
            id.is_some_and(|id| self.of_detectors.iter().any(|of| of == id))
        };
        let text = node[0].1.trim_end_matches(" {");
        let of_type = self.types.iter().any(|of| text.ends_with(of));
        of_type && node.iter().any(is_one)
    }
}

/// The lines of a pretty `Debug` output as a tree by their indentation, with siblings in the order of
/// their text.
pub fn canonical(debug: &str, left_out: LeftOut<'_>) -> String {
    let lines: Vec<(usize, &str)> = debug
        .lines()
        .map(|line| {
            let text = line.trim_start();
            (line.len() - text.len(), text)
        })
        .collect();
    branches(&lines, left_out, false).join("\n")
}

fn branches(lines: &[(usize, &str)], left_out: LeftOut<'_>, more: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (depth, text) = lines[at];
        let inner = lines[at + 1..]
            .iter()
            .take_while(|(other, _)| *other > depth)
            .count();
        let next = at + 1 + inner;
        let name = text.split_once(": ").map_or("", |(name, _)| name);
        if !(left_out.fields.contains(&name) || more && left_out.more.contains(&name)) {
            let more = more || left_out.is_more(&lines[at..next]);
            let left_out = match !name.is_empty() && name == left_out.but_in {
                true => LeftOut::default(),
                false => left_out,
            };
            let mut branch = vec![format!("{}{text}", " ".repeat(depth))];
            branch.extend(branches(&lines[at + 1..next], left_out, more));
            out.push(branch.join("\n"));
        }
        at = next;
    }
    out.sort();
    out
}

/// The lines that only one of both has, a few of each.
pub fn difference(left: &str, right: &str) -> String {
    let only = |one: &str, other: &str, sign: &str| -> Vec<String> {
        let mut others: std::collections::HashMap<&str, i64> = std::collections::HashMap::new();
        for line in other.lines() {
            *others.entry(line).or_default() += 1;
        }
        let mut only = Vec::new();
        for line in one.lines() {
            let left = others.entry(line).or_default();
            *left -= 1;
            if *left < 0 {
                only.push(format!("{sign} {line}"));
            }
        }
        only.truncate(40);
        only
    };
    [only(left, right, "-"), only(right, left, "+")]
        .concat()
        .join("\n")
}

#[test]
fn entries_may_come_in_any_order_but_not_be_mixed_up() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "read by its Debug")]
    struct Entry {
        key: u32,
        values: Vec<u32>,
        at: Option<u32>,
    }
    let entry = |key, values: &[u32], at| Entry {
        key,
        values: values.to_vec(),
        at: Some(at),
    };
    let left_out = LeftOut {
        fields: &["at"],
        ..LeftOut::default()
    };
    let all = |entries: &[Entry]| canonical(&format!("{entries:#?}"), left_out);
    let one = all(&[entry(1, &[5, 6], 0), entry(2, &[7], 0)]);
    assert_eq!(one, all(&[entry(2, &[7], 1), entry(1, &[6, 5], 2)]));
    assert_ne!(one, all(&[entry(2, &[5], 0), entry(1, &[6, 7], 0)]));
    assert_ne!(one, all(&[entry(1, &[5, 6], 0)]));
}

#[test]
fn of_some_detectors_more_is_left_out_and_of_one_field_nothing() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "read by its Debug")]
    struct Step {
        detector: String,
        at: u32,
        count: u32,
    }
    let left_out = LeftOut {
        fields: &["at"],
        but_in: "whole",
        of_detectors: &["busy".to_owned()],
        types: &["Step"],
        more: &["count"],
    };
    let all = |field: &str, detector: &str, at, count| {
        let detector = detector.to_owned();
        let step = Step {
            detector,
            at,
            count,
        };
        canonical(&format!("{field}: {step:#?}"), left_out)
    };
    assert_eq!(all("a", "busy", 1, 1), all("a", "busy", 2, 2));
    assert_eq!(all("a", "calm", 1, 1), all("a", "calm", 2, 1));
    assert_ne!(all("a", "calm", 1, 1), all("a", "calm", 1, 2));
    assert_ne!(all("whole", "busy", 1, 1), all("whole", "busy", 2, 1));
}
