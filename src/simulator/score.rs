//! Alerts against the truth: what was found, what was missed, what was raised for nothing.

use std::collections::BTreeMap;

use super::truth::{Campaign, Truth, Verdict};
use crate::alert::Alert;

/// The outcome of a scenario or of a part of it.
#[derive(Debug, Default)]
pub struct Score {
    /// Campaigns with the indices of the alerts that show them, in the order of the truth.
    pub found: BTreeMap<u32, Vec<usize>>,
    /// Attacks that no alert shows by a row of theirs.
    pub missed: Vec<u32>,
    /// Indices of alerts that rest on no request of any campaign.
    pub stray: Vec<usize>,
}

/// Judges `alerts`; `covers` gives the rows of the coverage table that a detector names.
///
/// An alert shows a campaign if its evidence names a request of it. A campaign is found if one of
/// these alerts rests on a decisive step and its detector covers a row of the campaign; alerts by
/// others on the same requests are no false alarms, but find nothing.
pub fn score<'c>(
    truth: &Truth,
    alerts: &[Alert],
    covers: impl Fn(&str) -> &'c [String],
    counts: impl Fn(&Campaign) -> bool,
) -> Score {
    let mut requests = BTreeMap::new();
    for campaign in &truth.campaigns {
        for step in &campaign.steps {
            requests.insert(
                (campaign.cluster.as_str(), step.audit_id.as_str()),
                (campaign, step),
            );
        }
    }
    let mut score = Score::default();
    for (index, alert) in alerts.iter().enumerate() {
        let rows = covers(&alert.detector.id);
        let mut known = false;
        for evidence in &alert.evidence {
            let key = (alert.cluster.as_str(), evidence.audit_id.as_str());
            let Some((campaign, step)) = requests.get(&key) else {
                continue;
            };
            known = true;
            let explains = rows
                .iter()
                .any(|row| campaign.rows.iter().any(|of| of == row));
            if step.decisive && explains {
                let by = score.found.entry(campaign.id).or_default();
                if !by.contains(&index) {
                    by.push(index);
                }
            }
        }
        if !known {
            score.stray.push(index);
        }
    }
    score.missed = truth
        .campaigns
        .iter()
        .filter(|campaign| campaign.verdict == Verdict::Attack && counts(campaign))
        .map(|campaign| campaign.id)
        .filter(|id| !score.found.contains_key(id))
        .collect();
    score
}
