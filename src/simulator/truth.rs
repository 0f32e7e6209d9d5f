//! The ground truth of a scenario: which requests belong to which campaign, and what ought to be
//! said of them.
//!
//! Grows while campaigns are planned ([`super::attack`]); written beside an archive, and what the
//! demo checks alerts against.

use jiff::Timestamp;
use serde::Serialize;

/// The six families that Lanner was founded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    Dashboard,
    PortForward,
    Exec,
    RbacEscalation,
    ClusterRoleBinding,
    SourceIp,
}

impl Family {
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
        }
    }
}

/// What a campaign is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// To be alerted.
    Attack,
    /// What people do for good reasons and an attacker would do alike: an alert is right, silence
    /// by the site's configuration too. Counts neither as found nor as false.
    Notable,
}

/// A request of a campaign.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub audit_id: String,
    pub time: Timestamp,
    pub action: String,
    /// Whether this step by itself shows what the campaign is; others are what surrounds it.
    pub decisive: bool,
}

/// One attack from begin to end, in one cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Campaign {
    /// Its index in [`Truth::campaigns`].
    pub id: u32,
    pub name: &'static str,
    pub family: Family,
    pub verdict: Verdict,
    /// Rows of the coverage table, any of which explains it.
    pub rows: &'static [&'static str],
    /// ATT&CK technique ids.
    pub attack: &'static [&'static str],
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
#[derive(Debug, Clone, Default, Serialize)]
pub struct Truth {
    pub seed: u64,
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
