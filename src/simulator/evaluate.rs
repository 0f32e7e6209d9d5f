//! What was found of a scenario, by technique: recall, false alarms, time to alert, and how well
//! incidents hold campaigns together.
//!
//! Comes in: the [`Truth`], and the findings, alerts and incidents of a replay of its archive. What
//! counts as said is what the default route tells people: threats and changes of medium severity and
//! above, whose alert was notified for this finding or for an earlier one of the same campaign. Only the time after [`Truth::attacked_from`] counts, so that what is ordinary was learned.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use super::truth::{Campaign, Truth, Verdict};
use crate::alert::incident::Incident;
use crate::alert::{Alert, Kind, Severity};

/// One finding of the replay.
#[derive(Debug, Clone)]
pub struct Finding {
    /// ARM id in lower case.
    pub cluster: String,
    pub audit_id: String,
    pub kind: Kind,
    pub severity: Severity,
    pub time: Timestamp,
    /// Of its alert.
    pub fingerprint: String,
    /// Whether it had its alert notified: it opened it, made it graver, or was another actor's.
    pub notified: bool,
}

/// The outcome of a scenario.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub seed: u64,
    pub campaigns: usize,
    /// Acts that show an attack, and those of them that were told.
    pub acts: usize,
    pub told: usize,
    pub techniques: BTreeMap<String, Recall>,
    pub missed: Vec<Missed>,
    pub cluster_days: f64,
    /// Alerts told that rest on no request of any campaign.
    pub false_alarms: Vec<FalseAlarm>,
    /// Such alerts below what is told.
    pub false_listed: usize,
    /// Alerts told of what people do for good reasons and attackers alike.
    pub notable: usize,
    /// Seconds from a campaign's first act that shows it to its first alert; sorted.
    pub seconds_to_alert: Vec<i64>,
    pub incidents: Vec<Held>,
}

#[derive(Debug, Default, Serialize)]
pub struct Recall {
    pub acts: usize,
    pub told: usize,
    /// Found, but below what is told.
    pub listed: usize,
}

/// An act that nobody was told of.
#[derive(Debug, Serialize)]
pub struct Missed {
    pub campaign: u32,
    pub name: String,
    pub technique: String,
    pub action: String,
    pub audit_id: String,
    /// Whether it is found, but below what is told.
    pub listed: bool,
}

#[derive(Debug, Serialize)]
pub struct FalseAlarm {
    pub detector: String,
    pub severity: Severity,
    pub cluster: String,
    pub time: Option<Timestamp>,
    pub summary: String,
}

/// A campaign of several acts, and the incident that holds most of it.
#[derive(Debug, Serialize)]
pub struct Held {
    pub campaign: u32,
    pub name: String,
    pub acts: usize,
    /// The part of the acts that the incident holds.
    pub held: f64,
    /// The part of the incident's steps that are of no act of the campaign.
    pub strangers: f64,
    pub steps: usize,
    /// What the strangers are.
    pub who: Vec<String>,
}

/// The part of a campaign's acts that its incident should hold, and of strangers that it may.
pub const HELD: f64 = 0.8;
pub const STRANGERS: f64 = 0.1;

impl Report {
    /// Of the acts that show an attack, those that were told.
    pub fn recall(&self) -> f64 {
        share(self.told, self.acts)
    }

    pub fn false_alarms_per_cluster_day(&self) -> f64 {
        self.false_alarms.len() as f64 / self.cluster_days.max(f64::MIN_POSITIVE)
    }

    /// Campaigns whose incident holds enough of them and little else.
    pub fn well_held(&self) -> usize {
        let well = |held: &&Held| held.held >= HELD && held.strangers <= STRANGERS;
        self.incidents.iter().filter(well).count()
    }

    /// Seconds within which the given part of the campaigns had its first alert.
    pub fn time_to_alert(&self, part: f64) -> Option<i64> {
        let last = self.seconds_to_alert.len().checked_sub(1)?;
        let at = (part * last as f64).round() as usize;
        self.seconds_to_alert.get(at.min(last)).copied()
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part as f64 / whole as f64
    }
}

fn is_told(kind: Kind, severity: Severity) -> bool {
    kind != Kind::Hygiene && severity >= Severity::Medium
}

/// A campaign's act: its number, and what it is called.
type Act<'t> = (u32, &'t str);

pub fn evaluate(
    truth: &Truth,
    findings: &[Finding],
    alerts: &[Alert],
    incidents: &[Incident],
) -> Report {
    let from = truth.attacked_from.or(truth.start);
    let counts = |time: Option<Timestamp>| time >= from;
    let mut report = Report {
        seed: truth.seed,
        cluster_days: cluster_days(truth),
        ..Report::default()
    };
    let mut requests: HashMap<(&str, &str), &Campaign> = HashMap::new();
    for campaign in &truth.campaigns {
        for step in &campaign.steps {
            let key = (campaign.cluster.as_str(), step.audit_id.as_str());
            requests.insert(key, campaign);
        }
    }
    // Whether each request was told of, or only found.
    let mut found: HashMap<(&str, &str), (bool, Timestamp)> = HashMap::new();
    // For whom each alert was last notified; who reads it looks no further than that.
    let mut notified: HashMap<&str, Option<u32>> = HashMap::new();
    for finding in findings {
        let key = (finding.cluster.as_str(), finding.audit_id.as_str());
        let whose = requests.get(&key).map(|campaign| campaign.id);
        if finding.notified {
            notified.insert(&finding.fingerprint, whose);
        }
        let told = is_told(finding.kind, finding.severity)
            && notified.get(finding.fingerprint.as_str()) == Some(&whose);
        let entry = found.entry(key).or_insert((told, finding.time));
        if told && (!entry.0 || finding.time < entry.1) {
            *entry = (true, finding.time);
        }
    }
    let attacks = truth.campaigns.iter();
    for campaign in attacks.filter(|campaign| campaign.verdict == Verdict::Attack) {
        let acts = acts(campaign);
        if acts.is_empty() {
            continue;
        }
        report.campaigns += 1;
        let mut first_told: Option<Timestamp> = None;
        for ((_, technique), steps) in &acts {
            let states: Vec<_> = steps
                .iter()
                .filter_map(|step| found.get(&(campaign.cluster.as_str(), step.audit_id.as_str())))
                .collect();
            let told = states.iter().any(|(told, _)| *told);
            let recall = report.techniques.entry((*technique).to_owned());
            let recall = recall.or_default();
            recall.acts += 1;
            report.acts += 1;
            if told {
                recall.told += 1;
                report.told += 1;
                let times = states.iter().filter(|(told, _)| *told);
                let first = times.map(|(_, time)| *time).min();
                first_told = first_told.into_iter().chain(first).min();
                continue;
            }
            recall.listed += usize::from(!states.is_empty());
            report.missed.push(Missed {
                campaign: campaign.id,
                name: campaign.name.to_string(),
                technique: (*technique).to_owned(),
                action: steps.first().map_or("", |step| &step.action).to_owned(),
                audit_id: steps.first().map_or("", |step| &step.audit_id).to_owned(),
                listed: !states.is_empty(),
            });
        }
        let decisive = campaign.steps.iter().filter(|step| step.decisive);
        let begun = decisive.map(|step| step.time).min();
        if let (Some(told), Some(begun)) = (first_told, begun) {
            let seconds = told.duration_since(begun).as_secs();
            report.seconds_to_alert.push(seconds.max(0));
        }
        if acts.len() > 1 {
            report.incidents.push(held(campaign, &acts, incidents));
        }
    }
    report.seconds_to_alert.sort_unstable();
    count_alerts(&mut report, findings, alerts, &requests, counts);
    report
}

fn cluster_days(truth: &Truth) -> f64 {
    let from = truth.attacked_from.or(truth.start);
    let (Some(from), Some(end)) = (from, truth.end) else {
        return 0.0;
    };
    end.duration_since(from).as_secs_f64() / 86_400.0 * truth.clusters.len() as f64
}

/// The acts that show the attack, each with the requests that do.
fn acts(campaign: &Campaign) -> BTreeMap<Act<'_>, Vec<&super::Step>> {
    let mut acts: BTreeMap<Act<'_>, Vec<&super::Step>> = BTreeMap::new();
    for step in campaign.steps.iter().filter(|step| step.decisive) {
        let name = match step.technique.as_ref() {
            "" => campaign.name.as_ref(),
            technique => technique,
        };
        acts.entry((step.act, name)).or_default().push(step);
    }
    acts
}

fn held(
    campaign: &Campaign,
    acts: &BTreeMap<Act<'_>, Vec<&super::Step>>,
    incidents: &[Incident],
) -> Held {
    let of: BTreeSet<&str> = campaign.steps.iter().map(|s| s.audit_id.as_str()).collect();
    let here = incidents
        .iter()
        .filter(|incident| incident.cluster == campaign.cluster);
    let best = here
        .map(|incident| {
            let ids: BTreeSet<&str> = incident.audit_ids().collect();
            let held = acts
                .values()
                .filter(|steps| {
                    steps
                        .iter()
                        .any(|step| ids.contains(step.audit_id.as_str()))
                })
                .count();
            (held, incident)
        })
        .max_by_key(|(held, incident)| (*held, std::cmp::Reverse(incident.steps.len())))
        .filter(|(held, _)| *held > 0);
    let mut who = Vec::new();
    let mut result = Held {
        campaign: campaign.id,
        name: campaign.name.to_string(),
        acts: acts.len(),
        held: 0.0,
        strangers: 0.0,
        steps: 0,
        who: Vec::new(),
    };
    if let Some((held, incident)) = best {
        for step in &incident.steps {
            if !step.audit_ids.iter().any(|id| of.contains(id.as_str())) {
                who.push(format!("{} by {}", step.detector, step.actor));
            }
        }
        result.held = share(held, acts.len());
        result.steps = incident.steps.len();
        result.strangers = who.len() as f64 / incident.steps.len().max(1) as f64;
        result.who = who;
    }
    result
}

/// Sorts alerts into those of attacks, of what is notable, and false ones.
fn count_alerts(
    report: &mut Report,
    findings: &[Finding],
    alerts: &[Alert],
    requests: &HashMap<(&str, &str), &Campaign>,
    counts: impl Fn(Option<Timestamp>) -> bool,
) {
    let mut by_alert: HashMap<&str, Vec<&Finding>> = HashMap::new();
    for finding in findings {
        by_alert
            .entry(&finding.fingerprint)
            .or_default()
            .push(finding);
    }
    for alert in alerts.iter().filter(|alert| counts(alert.first_seen)) {
        let within = |finding: &&&Finding| {
            alert.first_seen <= Some(finding.time) && Some(finding.time) <= alert.last_seen
        };
        let findings = by_alert.get(alert.fingerprint.as_str());
        let verdicts: Vec<Verdict> = findings
            .into_iter()
            .flatten()
            .filter(within)
            .filter_map(|finding| {
                requests.get(&(finding.cluster.as_str(), finding.audit_id.as_str()))
            })
            .map(|campaign| campaign.verdict)
            .collect();
        if verdicts.contains(&Verdict::Attack) {
            continue;
        }
        let told = is_told(alert.detector.kind, alert.severity);
        if !verdicts.is_empty() {
            report.notable += usize::from(told);
        } else if told {
            report.false_alarms.push(FalseAlarm {
                detector: alert.detector.id.clone(),
                severity: alert.severity,
                cluster: alert.cluster_name.clone(),
                time: alert.first_seen,
                summary: alert.summary.clone(),
            });
        } else if alert.detector.kind != Kind::Hygiene {
            report.false_listed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::truth::{Family, Step};
    use super::*;

    const CLUSTER: &str = "/c";

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).expect("in range")
    }

    fn step(id: &str, hours: i64, act: u32, decisive: bool) -> Step {
        Step {
            audit_id: id.to_owned(),
            time: at(hours),
            action: id.to_owned(),
            decisive,
            act,
            technique: format!("technique {act}").into(),
        }
    }

    fn campaign(id: u32, verdict: Verdict, steps: Vec<Step>) -> Campaign {
        Campaign {
            id,
            name: format!("campaign {id}").into(),
            family: Family::Intrusion,
            verdict,
            rows: Vec::new(),
            attack: Vec::new(),
            actor: "eve".to_owned(),
            cluster: CLUSTER.to_owned(),
            steps,
        }
    }

    fn finding(id: &str, hours: i64, severity: Severity, fingerprint: &str) -> Finding {
        Finding {
            cluster: CLUSTER.to_owned(),
            audit_id: id.to_owned(),
            kind: Kind::Threat,
            severity,
            time: at(hours),
            fingerprint: fingerprint.to_owned(),
            notified: true,
        }
    }

    fn alert(fingerprint: &str, hours: [i64; 2], severity: &str) -> Alert {
        let nothing =
            json!({"group": "", "resource": "", "subresource": "", "namespace": "", "name": ""});
        serde_json::from_value(json!({
            "schema": "lanner/alert/v1", "id": fingerprint, "fingerprint": fingerprint, "notification_id": "n", "incident": null,
            "detector": {"id": fingerprint, "revision": 1, "hash": "", "title": "", "kind": "threat"},
            "severity": severity, "status": "closed", "summary": fingerprint, "reason": "", "cluster": CLUSTER, "cluster_name": "c",
            "first_seen": at(hours[0]), "last_seen": at(hours[1]), "detected_at": null, "count": 1,
            "actor": {"user": "", "groups": [], "impersonated": null, "service_account": null},
            "source_ip": {"address": null, "network": null, "class": ""}, "user_agent": "", "object": nothing,
            "attack": [], "guide": "", "triage": "", "remedy": "", "references": [], "evidence": [],
        }))
        .expect("an alert")
    }

    /// Each step by the requests that it has.
    fn incident(steps: &[&[&str]]) -> Incident {
        let nothing =
            json!({"group": "", "resource": "", "subresource": "", "namespace": "", "name": ""});
        let steps: Vec<Value> = steps
            .iter()
            .map(|ids| {
                json!({"alert": "", "fingerprint": "", "detector": "d", "title": "", "kind": "threat", "severity": "high", "summary": "",
                    "actor": "eve", "impersonated": null, "source_ip": {"address": null, "network": null, "class": ""}, "place": "",
                    "user_agent": "", "object": nothing, "attack": [], "tactics": [], "first_seen": at(30), "last_seen": at(30),
                    "count": 1, "audit_ids": ids})
            })
            .collect();
        serde_json::from_value(json!({
            "schema": "lanner/incident/v1", "id": "i", "notification_id": "i-1", "replaces": [], "severity": "high", "status": "closed",
            "summary": "", "account": "", "cluster": CLUSTER, "cluster_name": "c", "first_seen": at(30), "last_seen": at(30),
            "detected_at": null, "count": 1, "actors": [], "source_ips": [], "tactics": [], "attack": [], "joined_by": [],
            "steps": steps, "beyond": 0,
        }))
        .expect("an incident")
    }

    fn truth() -> Truth {
        Truth {
            seed: 1,
            start: Some(at(0)),
            attacked_from: Some(at(24)),
            end: Some(at(72)),
            clusters: vec![CLUSTER.to_owned()],
            campaigns: vec![
                campaign(
                    0,
                    Verdict::Attack,
                    vec![
                        step("look", 29, 1, false),
                        step("a", 30, 1, true),
                        step("b", 30, 2, true),
                        step("b2", 30, 2, true),
                        step("c", 31, 3, true),
                    ],
                ),
                campaign(1, Verdict::Notable, vec![step("n", 40, 0, true)]),
            ],
        }
    }

    #[test]
    fn acts_count_once_and_only_what_is_told() {
        let findings = [
            finding("a", 30, Severity::High, "x"),
            finding("b2", 31, Severity::Medium, "y"),
            finding("c", 31, Severity::Low, "z"),
            finding("n", 40, Severity::High, "notable"),
            finding("life", 50, Severity::High, "false"),
        ];
        let alerts = [
            alert("x", [30, 30], "high"),
            alert("y", [31, 31], "medium"),
            alert("z", [31, 31], "low"),
            alert("notable", [40, 40], "high"),
            alert("false", [50, 50], "high"),
            alert("quiet", [51, 51], "low"),
            alert("learning", [5, 5], "critical"),
        ];
        let incidents = [
            incident(&[&["a"], &["b2", "c"]]),
            incident(&[&["a"], &["life"]]),
        ];
        let report = evaluate(&truth(), &findings, &alerts, &incidents);
        assert_eq!((report.acts, report.told), (3, 2));
        assert_eq!(report.missed.len(), 1);
        assert_eq!(report.missed[0].technique, "technique 3");
        assert!(report.missed[0].listed);
        assert_eq!(report.techniques["technique 2"].told, 1);
        assert_eq!(report.false_alarms.len(), 1);
        assert_eq!(report.false_alarms[0].detector, "false");
        assert_eq!((report.false_listed, report.notable), (1, 1));
        assert_eq!(report.cluster_days, 2.0);
        assert_eq!(report.false_alarms_per_cluster_day(), 0.5);
        assert_eq!(report.seconds_to_alert, [0]);
        assert_eq!(report.well_held(), 1);
    }

    #[test]
    fn what_joins_an_alert_that_others_opened_is_told_to_nobody() {
        let joins = |opened_by: &str| {
            let mut findings = [
                finding(opened_by, 29, Severity::High, "x"),
                finding("b", 30, Severity::High, "x"),
            ];
            findings[1].notified = false;
            let report = evaluate(&truth(), &findings, &[], &[]);
            report.techniques["technique 2"].told
        };
        assert_eq!(joins("life"), 0);
        assert_eq!(joins("a"), 1);
    }

    #[test]
    fn strangers_and_what_is_not_held_show() {
        let held = |incidents: &[Incident]| {
            let report = evaluate(&truth(), &[], &[], incidents);
            (report.incidents[0].held, report.incidents[0].strangers)
        };
        assert_eq!(held(&[]), (0.0, 0.0));
        let stranger = incident(&[&["a"], &["b"], &["c"], &["life"]]);
        assert_eq!(held(&[stranger]), (1.0, 0.25));
        let part = incident(&[&["b"], &["look"]]);
        assert_eq!(held(&[part]), (1.0 / 3.0, 0.0));
        let other = Incident {
            cluster: "/other".to_owned(),
            ..incident(&[&["a"], &["b"], &["c"]])
        };
        assert_eq!(held(&[other]), (0.0, 0.0));
    }

    #[test]
    fn an_alert_that_holds_an_attack_is_no_false_one() {
        // Its group was opened by ordinary life, hours before.
        let findings = [
            finding("life", 28, Severity::High, "x"),
            finding("a", 30, Severity::High, "x"),
        ];
        let report = evaluate(&truth(), &findings, &[alert("x", [28, 30], "high")], &[]);
        assert_eq!(report.false_alarms.len(), 0);
        assert_eq!(report.told, 1);
    }
}
