//! The simulated company: its networks, people and deploying identities, and what its configuration
//! of Lanner says of them.
//!
//! All addresses are reserved for documentation (RFC 5737, RFC 3849) or private; `example.com` is
//! reserved too (RFC 2606). Nobody in it is real.

use std::fmt::Write as _;
use std::sync::Arc;

use super::identity::Identity;
use super::rng::Rng;

/// Networks that people and CI come from.
pub const TRUSTED_NETWORKS: [&str; 3] = ["203.0.113.0/24", "2001:db8:100::/48", "192.0.2.128/26"];

/// Addresses of nodes and pods, and what the clusters' own traffic leaves with.
pub const NODE_NETWORKS: [&str; 2] = ["10.0.0.0/8", "192.0.2.0/26"];

/// A service principal that deploys from the CI's network.
pub const CI_USER: &str = "5c0ffee5-0c1d-4e2f-8a3b-4c5d6e7f8091";

/// The GitOps controllers' service accounts.
pub const GITOPS_USERS: [&str; 3] = [
    "system:serviceaccount:flux-system:kustomize-controller",
    "system:serviceaccount:flux-system:helm-controller",
    "system:serviceaccount:argocd:argocd-application-controller",
];

/// Runs backup commands in pods, by exec, every night and on demand.
pub const BACKUP_USER: &str = "system:serviceaccount:velero:velero";

/// The Entra group of the platform's administrators.
pub const ADMIN_GROUP: &str = "0a0a0a0a-1111-4222-8333-444444440001";
const STAFF_GROUP: &str = "0a0a0a0a-1111-4222-8333-444444440002";

const NAMES: [&str; 30] = [
    "ada", "bela", "cleo", "dara", "edda", "finn", "gwen", "hugo", "ines", "jona", "kaia", "lior",
    "mira", "nilo", "olga", "pavo", "quin", "runa", "sven", "tara", "ugo", "vera", "wim", "xena",
    "yara", "zeno", "alba", "bodo", "cira", "dion",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Works in the namespaces of one team.
    Developer,
    /// Administrates the clusters.
    Platform,
}

/// Someone on the staff.
#[derive(Debug, Clone)]
pub struct Person {
    pub identity: Arc<Identity>,
    pub duty: Duty,
    /// First hour of work, UTC; a day has nine.
    pub begins: i8,
    /// Last part of the addresses in office and VPN.
    pub host: u8,
    pub agent: &'static str,
}

/// What people use; versions differ as they do.
const AGENTS: [&str; 7] = [
    "kubectl/v1.32.3 (linux/amd64) kubernetes/32cc146",
    "kubectl/v1.31.2 (windows/amd64) kubernetes/5864a46",
    "kubectl/v1.33.1 (darwin/arm64) kubernetes/8adc0f0",
    "kubectl/v1.29.0 (darwin/arm64) kubernetes/3f7a50f",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Lens/2026.4 Chrome/134.0.0.0 Electron/35.1.0 Safari/537.36",
    "k9s/v0.50.6 (linux/amd64) kubernetes/$Format",
    "kubelogin/v0.2.7 kubectl/v1.32.3 (linux/amd64) kubernetes/32cc146",
];

/// Agents that upgrade connections by WebSocket (`get`) instead of SPDY (`create`).
pub fn uses_websocket(agent: &str) -> bool {
    !agent.contains("v1.29") && !agent.starts_with("k9s")
}

#[derive(Debug, Clone)]
pub struct Site {
    pub people: Vec<Person>,
}

impl Site {
    pub fn new(seed: u64) -> Site {
        let mut rng = Rng::stream(seed, "site");
        let people = NAMES
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let duty = if i % 6 == 0 {
                    Duty::Platform
                } else {
                    Duty::Developer
                };
                Person {
                    identity: person(&mut rng, &format!("{name}@example.com"), duty),
                    duty,
                    // Three offices around the world.
                    begins: [7, 14, 23][i % 3],
                    host: 10 + 3 * i as u8,
                    agent: AGENTS[if duty == Duty::Platform {
                        i % 4
                    } else {
                        rng.below(7)
                    }],
                }
            })
            .collect();
        Site { people }
    }

    /// What the site's `lanner.toml` says of itself: a `[lists]` table.
    pub fn lists(&self) -> String {
        let list = |items: &[&str]| {
            let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let admins: Vec<&str> = self
            .people
            .iter()
            .filter(|person| person.duty == Duty::Platform)
            .map(|person| person.identity.name.as_str())
            .collect();
        let mut deployers = GITOPS_USERS.to_vec();
        deployers.push(CI_USER);
        let mut out = String::from("[lists]\n");
        for (key, items) in [
            ("trusted-networks", TRUSTED_NETWORKS.as_slice()),
            ("node-networks", NODE_NETWORKS.as_slice()),
            ("admin-users", &admins),
            ("deployers", &deployers),
        ] {
            let _ = writeln!(out, "{key} = {}", list(items));
        }
        out
    }

    /// As [`Site::lists`], with the one exception that every site with GitOps writes.
    pub fn reviewed(&self) -> String {
        let gitops = GITOPS_USERS[0];
        format!(
            r#"{}
[[detectors.binding-subjects-changed.exception]]
reason = "Teams' bindings come from Git, where the platform's people review them."
actor.user = "{gitops}"
"#,
            self.lists()
        )
    }

    /// As [`Site::lists`], with the exceptions by which a site has learned what is ordinary: where
    /// nothing has had time to be learned.
    pub fn configuration(&self) -> String {
        let mut out = self.lists();
        let gitops = GITOPS_USERS[0];
        let _ = write!(
            out,
            r#"
[[detectors.pod-exec.exception]]
reason = "Backups freeze the database's disk for their snapshots."
actor.user = "{BACKUP_USER}"
object.ns = "payments"

[[detectors.binding-privileged-changed.exception]]
reason = "The pipeline applies the administrators' binding at every run, unchanged."
actor.user = "{CI_USER}"
object.name = "platform-admins"
source_ip.address = "192.0.2.128/26"

[[detectors.binding-subjects-changed.exception]]
reason = "Teams' bindings come from Git, where the platform's people review them."
actor.user = "{gitops}"
"#
        );
        out
    }
}

/// An Entra identity.
pub fn person(rng: &mut Rng, name: &str, duty: Duty) -> Arc<Identity> {
    let oid = rng.uuid();
    let groups: &[&str] = match duty {
        Duty::Platform => &[ADMIN_GROUP, STAFF_GROUP, "system:authenticated"],
        Duty::Developer => &[STAFF_GROUP, "system:authenticated"],
    };
    Identity::new(name, &oid, groups, &[("oid", &oid)])
}
