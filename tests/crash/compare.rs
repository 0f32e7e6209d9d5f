//! What two runs remember, compared without regard to the order of entries.

/// Fields that are not compared, by their names.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeftOut<'a> {
    pub fields: &'a [&'a str],
    /// A field all of which is compared.
    pub but_in: &'a str,
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
    branches(&lines, left_out).join("\n")
}

fn branches(lines: &[(usize, &str)], left_out: LeftOut<'_>) -> Vec<String> {
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
        if !left_out.fields.contains(&name) {
            let left_out = match !name.is_empty() && name == left_out.but_in {
                true => LeftOut::default(),
                false => left_out,
            };
            let mut branch = vec![format!("{}{text}", " ".repeat(depth))];
            let inside = branches(&lines[at + 1..next], left_out);
            match name {
                "pairs" => branch.extend(inside.iter().map(|pair| without_owner(pair).to_owned())),
                _ => branch.extend(inside),
            }
            out.push(branch.join("\n"));
        }
        at = next;
    }
    out.sort();
    out
}

/// A first-seen pair without whose it is. Where two identities show the same value at about the same time,
/// each on a partition of its own, it belongs to the one that is judged first, and nothing but what is
/// forgotten first depends on that.
fn without_owner(pair: &str) -> &str {
    const DIGITS_OF_OWNER: usize = 8;
    match pair.strip_suffix("\",") {
        Some(digits) => &digits[..digits.len().saturating_sub(DIGITS_OF_OWNER)],
        None => pair,
    }
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
fn of_one_field_nothing_is_left_out() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "read by its Debug")]
    struct Step {
        at: u32,
    }
    let left_out = LeftOut {
        fields: &["at"],
        but_in: "whole",
    };
    let all = |field: &str, at| canonical(&format!("{field}: {:#?}", Step { at }), left_out);
    assert_eq!(all("a", 1), all("a", 2));
    assert_ne!(all("whole", 1), all("whole", 2));
}

#[test]
fn a_pair_is_the_same_whoever_showed_it_first() {
    let contents = |field: &str, pair: &str| format!("{field}: [\n    \"{pair}\",\n]");
    let same = |field: &str, one: &str, other: &str| {
        let canonical = |pair: &str| canonical(&contents(field, pair), LeftOut::default());
        canonical(one) == canonical(other)
    };
    let pair = "0a9a03648c73cffb3764d90b2946329e";
    let [one, other] = ["ec470b05", "f1e5e1f2"].map(|owner| format!("{pair}{owner}"));
    assert!(same("pairs", &one, &other));
    assert!(!same("keys", &one, &other));
    assert!(!same("pairs", &one, &one.replace('a', "b")));
}
