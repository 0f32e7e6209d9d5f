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
            branch.extend(branches(&lines[at + 1..next], left_out));
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
