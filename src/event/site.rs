//! What the site says about itself: lists of networks, users, namespaces and registries, and what
//! is known of each cluster.
//!
//! Comes from `[lists]` and `[cluster.NAME]` of the configuration; facts compare events with it.
//! The defaults, each with its reason, are in `config/default.toml`.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use ipnet::IpNet;
use serde::Deserialize;

use super::site_defaults::*;

/// A list of networks in CIDR notation; a bare address is a network of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    pub fn contains(&self, address: IpAddr) -> bool {
        // An IPv4 client may be written as an IPv4-mapped IPv6 address.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Networks(networks.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| {
                text.parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| {
                        serde::de::Error::custom(format!(
                            "`{text}` is no network; write one as 203.0.113.0/24 or 2001:db8::/32"
                        ))
                    })
            })
            .collect()
    }
}

/// A list of globs (`*`, `?`, `[a-z]`, `{a,b}`); an entry without them is a whole name.
#[derive(Clone, Default)]
pub struct Names {
    patterns: Vec<String>,
    /// The entries that are whole names.
    whole: HashSet<String, ahash::RandomState>,
    /// The others.
    globs: GlobSet,
}

impl Names {
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Names, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        let mut whole = HashSet::default();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let glob = Glob::new(pattern)?;
            if pattern.contains(['*', '?', '[', ']', '{', '}', '\\', '/']) {
                builder.add(glob);
            } else {
                whole.insert(pattern.to_owned());
            }
        }
        Ok(Names {
            patterns: patterns.iter().map(|p| p.as_ref().to_owned()).collect(),
            whole,
            globs: builder.build()?,
        })
    }

    pub fn contains(&self, name: &str) -> bool {
        // Most lists are empty or hold whole names, and most names are on none.
        (!self.whole.is_empty() && self.whole.contains(name))
            || (!self.globs.is_empty() && self.globs.is_match(name))
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// As configured.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.patterns.fmt(f)
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let patterns = Vec::<String>::deserialize(deserializer)?;
        Names::new(&patterns).map_err(serde::de::Error::custom)
    }
}

/// The site's lists. Every key has its default in `config/default.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Lists {
    /// Networks that clients of the API server come from; empty means "not configured".
    pub trusted_networks: Networks,
    /// Proxies in front of the API server, skipped when the client's address is looked for.
    pub trusted_hops: Networks,
    /// Addresses of nodes and pods, and of the cluster's own egress.
    pub node_networks: Networks,
    /// Networks that nobody honest comes from: Tor exits, indicators of a feed.
    pub threat_networks: Networks,
    /// Namespaces in which nobody but the platform works.
    pub protected_namespaces: Names,
    /// People who administrate the cluster.
    pub admin_users: Names,
    /// Identities that may act as others: access proxies, portals.
    pub impersonators: Names,
    /// Identities that deploy for others: GitOps controllers, CI.
    pub deployers: Names,

    /// Registries that images may come from, as `host` or `host/path`, lower case.
    pub allowed_registries: Names,
    /// Namespaces that may be created; empty means "not configured".
    pub allowed_namespaces: Names,
    /// People who may use the cluster; empty means "not configured".
    pub allowed_users: Names,
    /// Names that nodes of the cluster have.
    pub node_names: Names,
    /// Paths of the node that no ordinary workload mounts; a folder stands for all in it.
    pub sensitive_host_paths: Names,
    /// Linux capabilities that lead out of a container or into its neighbours' traffic.
    pub dangerous_capabilities: Names,
    /// Applications that are often exposed by mistake, matched against names and labels.
    pub sensitive_apps: Names,
    /// Workloads and namespaces of admission policy engines.
    pub policy_engines: Names,
    /// Workloads and namespaces of monitoring and security agents.
    pub monitoring_agents: Names,
    /// Repositories of debugging and bare operating system images, without registry.
    pub debug_images: Names,
}

impl Default for Lists {
    fn default() -> Lists {
        Lists {
            trusted_networks: Networks::default(),
            trusted_hops: shipped_networks(TRUSTED_HOPS),
            node_networks: Networks::default(),
            threat_networks: Networks::default(),
            protected_namespaces: shipped(PROTECTED_NAMESPACES),
            admin_users: Names::default(),
            impersonators: Names::default(),
            deployers: shipped(DEPLOYERS),

            allowed_registries: shipped(ALLOWED_REGISTRIES),
            allowed_namespaces: Names::default(),
            allowed_users: Names::default(),
            node_names: shipped(NODE_NAMES),
            sensitive_host_paths: shipped(SENSITIVE_HOST_PATHS),
            dangerous_capabilities: shipped(DANGEROUS_CAPABILITIES),
            sensitive_apps: shipped(SENSITIVE_APPS),
            policy_engines: shipped(POLICY_ENGINES),
            monitoring_agents: shipped(MONITORING_AGENTS),
            debug_images: shipped(DEBUG_IMAGES),
        }
    }
}

fn shipped(patterns: &[&str]) -> Names {
    Names::new(patterns).expect("the shipped patterns are globs, as a test checks")
}

fn shipped_networks(networks: &[&str]) -> Networks {
    networks
        .iter()
        .map(|text| {
            text.parse::<IpNet>()
                .expect("the shipped networks are in CIDR notation")
        })
        .collect()
}

/// One cluster as configured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    /// Configured name; empty where the cluster is not configured.
    pub name: String,
    pub environment: String,
    /// The cluster's API server has no public address.
    pub private_api: bool,
    /// Steps by which severities rise (or fall) here.
    pub severity_shift: i8,
    pub lists: Arc<Lists>,
}

/// All clusters; those not configured share one [`Site`].
#[derive(Debug, Clone, Default)]
pub struct Sites {
    pub default: Arc<Site>,
    /// By ARM id in lower case.
    pub by_cluster: BTreeMap<String, Arc<Site>>,
}

impl Sites {
    /// `cluster` is an ARM id in lower case.
    pub fn of(&self, cluster: &str) -> &Arc<Site> {
        self.by_cluster.get(cluster).unwrap_or(&self.default)
    }
}
