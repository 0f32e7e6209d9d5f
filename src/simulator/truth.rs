//! The ground truth of a scenario: which requests belong to which campaign, and what ought to be
//! said of them.
//!
//! Grows while campaigns are planned ([`super::attack`]); written beside an archive, and what the
//! demo checks alerts against.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The six families that Lanner was founded for, and what is of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    Dashboard,
    PortForward,
    Exec,
    RbacEscalation,
    ClusterRoleBinding,
    SourceIp,
    /// From initial access to impact, in many acts.
    Intrusion,
}

impl Family {
    /// The founding ones.
    pub const ALL: [Family; 6] = [
        Family::Dashboard,
        Family::PortForward,
        Family::Exec,
        Family::RbacEscalation,
        Family::ClusterRoleBinding,
        Family::SourceIp,
    ];

    /// In words, for people.
    pub fn title(self) -> &'static str {
        match self {
            Family::Dashboard => "dashboard access",
            Family::PortForward => "port-forward and proxying",
            Family::Exec => "exec and attach",
            Family::RbacEscalation => "RBAC escalation",
            Family::ClusterRoleBinding => "cluster role bindings",
            Family::SourceIp => "unexpected source IP",
            Family::Intrusion => "intrusions",
        }
    }
}

/// What a campaign is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// To be alerted.
    Attack,
    /// What people do for good reasons and an attacker would do alike: an alert is right, silence
    /// by the site's configuration too. Counts neither as found nor as false.
    Notable,
}

/// A request of a campaign.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    pub audit_id: String,
    pub time: Timestamp,
    pub action: String,
    /// Whether this step by itself shows what the campaign is; others are what surrounds it.
    pub decisive: bool,
    /// What an attacker does at once, by its number within the campaign: dumping secrets one by one is
    /// one act of many requests.
    pub act: u32,
    /// The act's technique, as the public lists have it; empty of what needs no name.
    pub technique: Cow<'static, str>,
}

/// One attack from begin to end, in one cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Campaign {
    /// Its index in [`Truth::campaigns`].
    pub id: u32,
    pub name: Cow<'static, str>,
    pub family: Family,
    pub verdict: Verdict,
    /// Rows of the coverage table, any of which explains it.
    #[serde(default)]
    pub rows: Vec<Cow<'static, str>>,
    /// ATT&CK technique ids.
    #[serde(default)]
    pub attack: Vec<Cow<'static, str>>,
    pub actor: String,
    /// ARM id in lower case.
    pub cluster: String,
    pub steps: Vec<Step>,
}

impl Campaign {
    pub fn begin(&self) -> Option<Timestamp> {
        self.steps.iter().map(|step| step.time).min()
    }

    pub fn end(&self) -> Option<Timestamp> {
        self.steps.iter().map(|step| step.time).max()
    }
}

/// All campaigns planned so far, in no order of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Truth {
    pub seed: u64,
    /// Of the scenario.
    #[serde(default)]
    pub start: Option<Timestamp>,
    #[serde(default)]
    pub end: Option<Timestamp>,
    /// When the first campaign may begin; before it, everything is ordinary.
    #[serde(default)]
    pub attacked_from: Option<Timestamp>,
    /// ARM ids of its clusters.
    #[serde(default)]
    pub clusters: Vec<String>,
    pub campaigns: Vec<Campaign>,
}

impl Truth {
    /// The campaign of a request and whether the request is decisive.
    pub fn find(&self, cluster: &str, audit_id: &str) -> Option<(&Campaign, &Step)> {
        self.campaigns
            .iter()
            .filter(|campaign| campaign.cluster == cluster)
            .find_map(|campaign| {
                let step = campaign.steps.iter().find(|s| s.audit_id == audit_id)?;
                Some((campaign, step))
            })
    }
}
