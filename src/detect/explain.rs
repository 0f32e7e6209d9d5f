//! Why a finding is one, in a person's words: what was expected, and on how much evidence.

use jiff::{SignedDuration, Timestamp};

use super::detector::Detector;
use super::inventory::Bare;
use super::occurrence::Whom;
use super::order::Outcome;
use super::state::absence::Gap;
use super::state::first_seen::{Answer, MOST_EVENTS};
use super::state::sequence;
use super::state::spike::{self, Known};
use crate::event::{Category, Field};

/// How many within a window.
pub fn counted(reached: u32, distinct: Option<Field>, window: SignedDuration) -> String {
    let what = match distinct {
        Some(field) => format!("different values of {}", field.name()),
        None => "events".to_owned(),
    };
    format!("{reached} {what} within {}", duration_text(window))
}

/// Why a spike raised: what was counted, and what was expected on which evidence.
pub fn spike(answer: &spike::Answer, counted: String, new: Option<u32>) -> String {
    let bar = answer.bar;
    let counted = match new {
        Some(new) => format!("{counted}, {new} of them never seen before"),
        None => counted,
    };
    match answer.known {
        Known::Enough { spans, over, usual } => format!(
            "{counted}; {usual} is usual and fewer than {bar} were to be expected, by the {spans} such spans with any in {}",
            duration_text(over)
        ),
        Known::TooLittle { spans: 0 } => {
            format!("{counted}; nothing is known of what is usual here, and {bar} are enough")
        }
        Known::TooLittle { spans } => format!(
            "{counted}; only {spans} earlier {} known, too few to say what is usual, and {bar} are enough",
            if spans == 1 { "span is" } else { "spans are" }
        ),
    }
}

/// What a first-seen answer means, and why; `archive` where all that is known is the archive at hand.
pub fn novelty(answer: Answer, who: &str, archive: bool) -> (Outcome, String) {
    match answer {
        Answer::Known => (Outcome::Counted, "seen before".to_owned()),
        Answer::Learning => (Outcome::Learning, "learned".to_owned()),
        Answer::NewKey { watched } if watched.is_zero() => (
            Outcome::Alert,
            format!("nothing is known of {who} yet, so all of it is new"),
        ),
        Answer::NewKey { watched } => (
            Outcome::Alert,
            format!(
                "{who} was never seen here in {} of watching",
                duration_text(watched)
            ),
        ),
        Answer::NewValues {
            values,
            seen_for,
            events,
            known_values,
        } => {
            let within = if archive {
                "new within this archive: "
            } else {
                ""
            };
            let events = match events {
                1 => "1 event".to_owned(),
                MOST_EVENTS.. => "more than a million events".to_owned(),
                _ => format!("{events} events"),
            };
            let kinds = if known_values == 1 { "value" } else { "values" };
            (
                Outcome::Alert,
                format!(
                    "{within}first time that {who} shows {} in {}; {events} so far showed {known_values} {kinds}",
                    values.join(", "),
                    duration_text(seen_for),
                ),
            )
        }
    }
}

/// As a person says it: `14 days`, `5 minutes`.
pub fn duration_text(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "day"),
        7_200..=172_799 => (seconds / 3_600, "hour"),
        120..=7_199 => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// What the platform did, and for whom.
pub fn on_behalf(summary: &str, whom: &[Whom]) -> String {
    let whom: Vec<String> = whom
        .iter()
        .map(|Whom { user, address }| match address.as_str() {
            "" => user.clone(),
            address => format!("{user} ({address})"),
        })
        .collect();
    match whom.is_empty() {
        true => summary.to_owned(),
        false => format!("{summary}, asked for by {}", whom.join(" and ")),
    }
}

/// The steps of a sequence, with their times.
pub fn sequence(chain: &[sequence::Event]) -> String {
    let steps: Vec<String> = chain
        .iter()
        .map(|event| {
            let time = Timestamp::from_millisecond(event.at)
                .map(|time| format!("{time:.0}"))
                .unwrap_or_default();
            match event.audit_id.as_str() {
                "" => format!("{} at {time}", event.detector),
                id => format!("{} at {time} (audit id {id})", event.detector),
            }
        })
        .collect();
    let took = match chain {
        [first, .., last] => SignedDuration::from_millis(last.at - first.at),
        _ => SignedDuration::ZERO,
    };
    format!(
        "{} steps within {}: {}",
        chain.len(),
        duration_text(took),
        steps.join(", then ")
    )
}

/// An audit ID that stood for another request before.
pub fn reuse(audit_id: &str, before: i64) -> String {
    let time = Timestamp::from_second(before).map_or(String::new(), |time| time.to_string());
    format!(
        "audit ID {audit_id} stood for another request at {time}; the API server makes a new one for each, unless the client sends one"
    )
}

/// What no longer comes, and who is blind without it.
pub fn absence(gap: &Gap, detectors: &[Detector]) -> String {
    let time = |seconds: i64| {
        Timestamp::from_second(seconds)
            .map(|time| time.to_string())
            .unwrap_or_default()
    };
    let Some(category) = gap.category else {
        let lasted = duration_text(SignedDuration::from_secs(gap.to - gap.from));
        let end = if gap.open { "so far" } else { "until then" };
        return format!(
            "no record of any category between {} and {}, for {lasted} {end}; before that they came without a pause",
            time(gap.from),
            time(gap.to),
        );
    };
    let blind: Vec<&str> = detectors
        .iter()
        .filter(|detector| match category {
            Category::KubeAudit | Category::Raw => {
                detector.requires.contains(&Category::KubeAudit)
                    && !detector.requires.contains(&Category::KubeAuditAdmin)
            }
            other => detector.requires == [other],
        })
        .map(|detector| detector.id.as_str())
        .collect();
    let mut named = blind[..blind.len().min(NAMED)].join(", ");
    if blind.len() > NAMED {
        named.push_str(", …");
    }
    let since = match gap.never {
        true => format!("never a record of {}", category.as_str()),
        false => format!(
            "no record of {} since {}",
            category.as_str(),
            time(gap.from)
        ),
    };
    match blind.len() {
        0 => format!("{since}, while others come"),
        count => {
            format!("{since}, while others come; blind without it: {count} detectors ({named})")
        }
    }
}

/// How long a namespace has been without a network policy.
pub fn without_policy(bare: &Bare) -> String {
    let since = Timestamp::from_millisecond(bare.since)
        .map(|since| format!("{since:.0}"))
        .unwrap_or_default();
    let lasted = SignedDuration::from_millis(bare.until.saturating_sub(bare.since));
    format!(
        "no network policy in {} since {since}, {} and longer",
        bare.namespace,
        duration_text(lasted)
    )
}

/// Blind detectors that are named.
const NAMED: usize = 8;
