//! An incident in plain words: its paragraph and its headline.
//!
//! Made of the steps' summaries, so that it says nothing that no finding said. Texts from the log
//! stay what they are; each medium escapes the whole.

use std::fmt::Write;

use jiff::Timestamp;

use super::Step;
use crate::detect::techniques;

/// Steps that the paragraph tells one by one.
const MAX_TOLD: usize = 12;

/// Who, how much, towards what: `ada@example.com took 4 steps in 9 minutes: discovery, …`.
pub(super) fn headline(steps: &[Step], tactics: &[String]) -> String {
    let Some(first) = steps.first() else {
        return String::new();
    };
    if let [only] = steps {
        return only.summary.clone();
    }
    let mut out = actor(first);
    let others = steps
        .iter()
        .map(|step| &step.actor)
        .filter(|other| **other != first.actor)
        .collect::<std::collections::BTreeSet<_>>()
        .len();
    match others {
        0 => {}
        1 => out.push_str(" and another identity"),
        _ => {
            let _ = write!(out, " and {others} other identities");
        }
    }
    let _ = write!(out, ": {} steps", steps.len());
    if let (Some(from), Some(to)) = (first.first_seen, last_seen(steps)) {
        let _ = write!(out, " within {}", lasting(from, to));
    }
    if !tactics.is_empty() {
        let _ = write!(out, " ({})", words(tactics));
    }
    out
}

/// The paragraph. `beyond` counts findings of steps that are not among `steps`.
pub(super) fn paragraph(steps: &[Step], tactics: &[String], beyond: u64) -> String {
    let Some(first) = steps.first() else {
        return String::new();
    };
    let mut out = when(first.first_seen, last_seen(steps));
    let several = steps.len() > 1;
    let mut before: Option<&Step> = None;
    for (index, step) in steps.iter().take(MAX_TOLD).enumerate() {
        let same_actor = before.is_some_and(|before| before.actor == step.actor);
        let same_place = before.is_some_and(|before| {
            before.source_ip.address == step.source_ip.address && before.place == step.place
        });
        match (index, same_actor) {
            (0, _) => {
                let _ = write!(out, "{}{}", actor(step), from(step));
                out.push_str(if several { " first " } else { " " });
            }
            (_, true) if same_place => out.push_str(", then "),
            (_, true) => {
                let _ = write!(out, ", then{} ", from(step));
            }
            (_, false) => {
                let place = match same_place {
                    true => String::new(),
                    false => from(step),
                };
                let _ = write!(out, "; then {}{place} ", actor(step));
            }
        }
        out.push_str(&deed(step));
        if step.count > 1 {
            let _ = write!(out, " ({} times)", step.count);
        }
        before = Some(step);
    }
    let untold = steps.len().saturating_sub(MAX_TOLD);
    if untold > 0 {
        let _ = write!(out, ", and {untold} more steps followed");
    }
    out.push('.');
    if beyond > 0 {
        let _ = write!(
            out,
            " {beyond} more findings belong to it and are not listed."
        );
    }
    if !tactics.is_empty() {
        let _ = write!(out, " In terms of ATT&CK: {}.", words(tactics));
    }
    out
}

/// What the step's summary says was done, without who did it from where.
fn deed(step: &Step) -> String {
    let summary = step.summary.as_str();
    let address = step.source_ip.address.as_deref().unwrap_or_default();
    let rest = match summary.strip_prefix(step.actor.as_str()) {
        Some(rest) if !step.actor.is_empty() => rest,
        _ => return format!("caused “{summary}”"),
    };
    let mut rest = rest.to_owned();
    if !address.is_empty() {
        rest = rest.replace(&format!(" ({address})"), "");
        rest = rest.replace(&format!(" from {address}"), "");
    }
    let rest = rest.trim_start_matches([',', ' ']).trim_end_matches('.');
    match rest.is_empty() {
        true => format!("caused “{}”", step.title),
        false => rest.to_owned(),
    }
}

fn actor(step: &Step) -> String {
    match step.actor.is_empty() {
        true => "someone without an identity".to_owned(),
        false => step.actor.clone(),
    }
}

fn from(step: &Step) -> String {
    match (&step.source_ip.address, step.place.as_str()) {
        (Some(address), "") => format!(" from {address}"),
        (Some(address), place) => format!(" from {address} ({place})"),
        (None, _) => String::new(),
    }
}

fn last_seen(steps: &[Step]) -> Option<Timestamp> {
    steps.iter().filter_map(|step| step.last_seen).max()
}

/// `Between 14:02 and 14:11 UTC on 2026-11-20, `.
fn when(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let (Some(from), Some(to)) = (from, to) else {
        return String::new();
    };
    let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let minute = |time: Timestamp| time.strftime("%H:%M").to_string();
    if day(from) != day(to) {
        let full = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M").to_string();
        return format!("Between {} and {} UTC, ", full(from), full(to));
    }
    if minute(from) == minute(to) {
        return format!("At {} UTC on {}, ", minute(from), day(from));
    }
    format!(
        "Between {} and {} UTC on {}, ",
        minute(from),
        minute(to),
        day(from)
    )
}

fn lasting(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let (count, unit) = match seconds {
        0..=90 => (seconds.max(1), "second"),
        91..=5_399 => ((seconds + 30) / 60, "minute"),
        5_400..=172_799 => ((seconds + 1_800) / 3_600, "hour"),
        _ => ((seconds + 43_200) / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// `discovery, credential access and impact`.
fn words(tactics: &[String]) -> String {
    let names: Vec<&str> = tactics
        .iter()
        .map(|id| techniques::tactic_name(id))
        .collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
