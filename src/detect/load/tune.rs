//! Puts what the site's configuration says of a detector onto it.

use crate::config::DetectorConfig;
use crate::config::diagnose::Diagnostic;
use crate::detect::detector::{Detector, StateSpec};

/// Puts the site's tuning onto a detector; gives what does not fit it.
pub fn tune(detector: &mut Detector, tuning: &DetectorConfig) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut misfit = |key: &str, what: &str| {
        problems.push(Diagnostic::new(
            "",
            format!("detectors.{}.{key}", detector.id),
            format!("`{}` has no {what}", detector.id),
            Some(format!(
                "remove `{key}`; `lanner detectors show {}` says what it has",
                detector.id
            )),
        ));
    };
    if let Some(enabled) = tuning.enabled {
        detector.enabled = enabled;
    }
    if let Some(severity) = tuning.severity {
        // What the site says of the detector as a whole lifts or lowers its graver cases alike.
        detector.severity = severity;
        for raise in &mut detector.raise {
            raise.severity = raise.severity.max(severity);
        }
    }
    if let Some(quiet_for) = tuning.quiet_for {
        detector.quiet_for = quiet_for.signed();
    }
    match &mut detector.state {
        StateSpec::Threshold { count, window, .. } => {
            if let Some(tuned) = tuning.count {
                *count = u32::try_from(tuned).unwrap_or(u32::MAX);
            }
            if let Some(tuned) = tuning.window {
                *window = tuned.signed();
            }
        }
        StateSpec::Spike {
            count,
            limit,
            window,
            learn,
            ..
        } => {
            if let Some(tuned) = tuning.count {
                *count = u32::try_from(tuned).unwrap_or(u32::MAX);
            }
            if let Some(tuned) = tuning.limit {
                *limit = u32::try_from(tuned).unwrap_or(u32::MAX);
            }
            *limit = (*limit).max(*count);
            if let Some(tuned) = tuning.window {
                *window = tuned.signed();
            }
            if let Some(tuned) = tuning.learn {
                *learn = tuned.signed();
            }
        }
        StateSpec::Sequence { within, .. } | StateSpec::Reuse { within } => {
            if let Some(tuned) = tuning.window {
                *within = tuned.signed();
            }
            if tuning.count.is_some() {
                misfit("count", "threshold");
            }
        }
        StateSpec::Absence { after, .. } => {
            if let Some(tuned) = tuning.window {
                *after = tuned.signed();
            }
            if tuning.count.is_some() {
                misfit("count", "threshold");
            }
        }
        _ => {
            if tuning.count.is_some() {
                misfit("count", "threshold");
            }
            if tuning.window.is_some() {
                misfit("window", "window");
            }
        }
    }
    if tuning.limit.is_some() && !matches!(detector.state, StateSpec::Spike { .. }) {
        misfit("limit", "spike");
    }
    match (&mut detector.state, tuning.learn) {
        (StateSpec::FirstSeen { learn, .. }, Some(tuned)) => *learn = tuned.signed(),
        (StateSpec::Spike { .. }, Some(_)) => {}
        (_, Some(_)) => misfit("learn", "learning time"),
        (_, None) => {}
    }
    detector.exceptions = tuning.exceptions.clone();
    problems
}
