//! One simulated cluster: its nodes, workloads and the identities that act in it.

use std::sync::Arc;

pub use super::cast::Operator;
use super::cast::{OPERATORS, WORKLOAD_OF_TESTS, WORKLOADS};
use super::event::Client;
use super::identity::Identity;
use super::record::Envelope;
use super::rng::Rng;
use super::site::{self, Person, Site};

/// What a cluster is like.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    pub name: String,
    pub region: &'static str,
    pub nodes: usize,
    /// How busy machines are; 1 is an ordinary day. People do not get faster by it.
    pub tempo: f64,
    /// Whether nodes reach the API server by its public address.
    pub public_api: bool,
    /// Whether `kube-audit-admin` is sent beside `kube-audit`.
    pub both_categories: bool,
    /// Whether it has what grown clusters have, and their troubles: more operators, agents with rights
    /// on the nodes, an autoscaler.
    pub grown: bool,
}

impl ClusterSpec {
    /// The company's three clusters as they are for weeks, each with about `rate` records a second:
    /// as many nodes as a small company has, whose machines are more or less talkative.
    pub fn company(rate: f64) -> Vec<ClusterSpec> {
        const NODES: usize = 8;
        // Measured: records of such a cluster in a second at tempo 1.
        const AT_ONE: f64 = 60.0;
        ClusterSpec::three(1.0)
            .into_iter()
            .map(|spec| ClusterSpec {
                nodes: NODES,
                grown: true,
                tempo: rate / AT_ONE,
                ..spec
            })
            .collect()
    }

    /// Three clusters that differ, with about `rate` records a second in all.
    pub fn three(rate: f64) -> Vec<ClusterSpec> {
        // Measured: records that a node and what runs on it cause in a second at tempo 1.
        const PER_NODE: f64 = 0.62;
        let spec = |name: &str, region, share: f64, public_api, both_categories| {
            let nodes = ((rate * share / PER_NODE / 6.0) as usize).clamp(3, 400);
            let doubled = if both_categories { 1.55 } else { 1.0 };
            ClusterSpec {
                name: name.to_owned(),
                region,
                nodes,
                tempo: (rate * share / (PER_NODE * nodes as f64 * doubled)).max(0.05),
                public_api,
                both_categories,
                grown: false,
            }
        };
        vec![
            spec("prod-west", "westeurope", 0.5, true, false),
            spec("prod-north", "northeurope", 0.3, false, true),
            spec("stage-west", "westeurope", 0.2, false, false),
        ]
    }
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub kubelet: Client,
}

#[derive(Debug)]
pub struct Pod {
    pub name: String,
    pub node: usize,
    pub address: String,
}

/// A workload and its service account.
#[derive(Debug)]
pub struct App {
    pub namespace: String,
    pub name: String,
    pub image: String,
    pub release: u32,
    pub pods: Vec<Pod>,
    pub client: Client,
}

/// A component that runs in the cluster and talks to its API server.
#[derive(Debug)]
pub struct Agent {
    pub kind: Operator,
    pub client: Client,
}

/// Everything of one cluster that traffic is made of.
#[derive(Debug)]
pub struct World {
    pub index: usize,
    pub spec: ClusterSpec,
    pub envelope: Envelope,
    pub nodes: Vec<Node>,
    pub apps: Vec<App>,
    pub agents: Vec<Agent>,
    pub people: Vec<Person>,
    pub ci: Client,
    pub aks: Client,
    pub hcp: Client,
    pub controller_manager: Arc<Identity>,
    pub scheduler: Client,
    pub cloud_controller: Client,
    pub anonymous: Client,
    /// When the simulation began, and how far this world has come.
    pub opened: jiff::Timestamp,
    pub clock: jiff::Timestamp,
    /// AKS' hop before the API server.
    pub hop: String,
    egress: String,
    /// The node pools' number.
    pool: usize,
    /// Nodes that there ever were.
    pub numbered: usize,
    /// Workloads that an intruder has the token of, and workloads whose pods one reached into, each
    /// with the campaign. Nobody could tell apart two of whom one reaches into the pod that the other
    /// acts from.
    pub broken_into: Vec<(u32, usize)>,
    pub reached: Vec<(u32, usize)>,
    pub pipeline_broken_into: bool,
    revision: u64,
}

impl World {
    pub fn new(seed: u64, index: usize, spec: ClusterSpec, site: &Site) -> World {
        let mut rng = Rng::stream(seed, &format!("world {index} {}", spec.name));
        let rng = &mut rng;
        let hop = format!("172.31.{}.{}", 8 + rng.below(24), 4 + rng.below(200));
        let egress = format!("192.0.2.{}", 4 + index % 50);
        let resource_id = format!(
            "/SUBSCRIPTIONS/00000000-0000-4000-8000-00000000000A/RESOURCEGROUPS/RG-{0}/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/{0}",
            spec.name.to_uppercase()
        );
        let envelope = Envelope::new(rng, resource_id, index, spec.region);
        let pool = 10_000_000 + rng.below(80_000_000);
        let mut world = World {
            index,
            envelope,
            nodes: Vec::with_capacity(spec.nodes),
            apps: Vec::new(),
            agents: Vec::new(),
            people: site.people.clone(),
            ci: ci(&hop),
            aks: control_plane("aksService", "system:masters", "Go-http-client/2.0", &hop),
            hcp: control_plane(
                "hcpService",
                "system:masters",
                "kubectl/v1.32.3 (linux/amd64) kubernetes/32cc146",
                &hop,
            ),
            controller_manager: Identity::system("system:kube-controller-manager", &[]),
            scheduler: control_plane(
                "system:kube-scheduler",
                "",
                "kube-scheduler/v1.32.3 (linux/amd64) kubernetes/32cc146/leader-election",
                &hop,
            ),
            cloud_controller: control_plane(
                "system:cloud-controller-manager",
                "",
                "cloud-controller-manager/v1.32.3 (linux/amd64) kubernetes/$Format",
                &hop,
            ),
            anonymous: Client::new(
                &Identity::new("system:anonymous", "", &["system:unauthenticated"], &[]),
                &[&hop],
                "kube-probe/1.32",
                "RBAC: allowed by ClusterRoleBinding \"system:public-info-viewer\" of ClusterRole \"system:public-info-viewer\" to Group \"system:unauthenticated\"",
            ),
            opened: jiff::Timestamp::UNIX_EPOCH,
            clock: jiff::Timestamp::UNIX_EPOCH,
            hop,
            egress,
            pool: 0,
            numbered: spec.nodes,
            broken_into: Vec::new(),
            reached: Vec::new(),
            pipeline_broken_into: false,
            revision: 4_000_000 + rng.below(90_000_000) as u64,
            spec,
        };
        world.pool = pool;
        for i in 0..world.spec.nodes {
            let node = world.node(i);
            world.nodes.push(node);
        }
        world.staff_apps(rng);
        world.staff_operators(rng);
        world
    }

    /// The node of this number in its scale set.
    pub fn node(&self, number: usize) -> Node {
        let group = if number.is_multiple_of(5) {
            "system"
        } else {
            "user"
        };
        let name = format!("aks-{group}-{}-vmss{}", self.pool, base36(number));
        let identity = Identity::system(&format!("system:node:{name}"), &["system:nodes"]);
        let agent = "kubelet/v1.32.3 (linux/amd64) kubernetes/32cc146";
        let kubelet = self.client(&identity, number, agent, "");
        Node { name, kubelet }
    }

    fn staff_apps(&mut self, rng: &mut Rng) {
        for (namespace, names) in WORKLOADS {
            for name in names {
                if rng.chance(0.2) && (namespace, *name) != WORKLOAD_OF_TESTS {
                    continue;
                }
                let set = rng.suffix(9);
                let pods: Vec<Pod> = (0..2 + rng.below(3))
                    .map(|_| {
                        let node = rng.below(self.nodes.len());
                        Pod {
                            name: format!("{name}-{set}-{}", rng.suffix(5)),
                            node,
                            address: pod_address(rng, node),
                        }
                    })
                    .collect();
                let host = pods[0].node;
                let node = self.nodes[host].name.clone();
                let identity =
                    Identity::service_account(rng, namespace, name, &pods[0].name, &node);
                let reason = format!(
                    "RBAC: allowed by RoleBinding \"{name}/{namespace}\" of Role \"{name}\" to ServiceAccount \"{name}/{namespace}\""
                );
                let client = self.client(
                    &identity,
                    host,
                    &format!(
                        "{name}/v1.{}.0 (linux/amd64) kubernetes/$Format",
                        rng.below(30)
                    ),
                    &reason,
                );
                let release = 100 + rng.below(400) as u32;
                self.apps.push(App {
                    image: format!("registry.example.azurecr.io/{namespace}/{name}:1.{release}.0"),
                    namespace: namespace.to_owned(),
                    name: (*name).to_owned(),
                    release,
                    pods,
                    client,
                });
            }
        }
    }

    fn staff_operators(&mut self, rng: &mut Rng) {
        for (kind, namespace, account, agent, binding) in OPERATORS {
            if kind.is_of_grown_clusters() && !self.spec.grown {
                continue;
            }
            let host = rng.below(self.nodes.len());
            let node = self.nodes[host].name.clone();
            let pod = format!("{account}-{}-{}", rng.suffix(9), rng.suffix(5));
            let identity = Identity::service_account(rng, namespace, account, &pod, &node);
            let reason = format!(
                "RBAC: allowed by ClusterRoleBinding \"{binding}\" of ClusterRole \"{binding}\" to ServiceAccount \"{account}/{namespace}\""
            );
            let client = self.client(&identity, host, agent, &reason);
            self.agents.push(Agent { kind, client });
        }
    }

    /// A client on a node or in a pod of it: seen by the cluster's egress, or by its own address.
    pub fn client(
        &self,
        identity: &Arc<Identity>,
        node: usize,
        agent: &str,
        reason: &str,
    ) -> Client {
        if self.spec.public_api {
            Client::new(identity, &[&self.egress, &self.hop], agent, reason)
        } else {
            let address = format!("10.224.{}.{}", node / 250, 4 + node % 250);
            Client::new(identity, &[&address], agent, reason)
        }
    }

    /// A client from outside the cluster.
    pub fn outside(
        &self,
        identity: &Arc<Identity>,
        address: &str,
        agent: &str,
        reason: &str,
    ) -> Client {
        Client::new(identity, &[address, &self.hop], agent, reason)
    }

    /// A person at work, in the office by day and else on the VPN.
    pub fn at_work(&self, person: &Person, rng: &mut Rng) -> Client {
        let host = person.host;
        let address = match rng.below(10) {
            0..=5 => format!("203.0.113.{host}"),
            6..=8 => format!("203.0.113.{}", 128 + host),
            _ => format!("2001:db8:100:{:x}::{host:x}", rng.below(16)),
        };
        let reason = match person.duty {
            site::Duty::Platform => ADMIN_REASON,
            site::Duty::Developer => STAFF_REASON,
        };
        self.outside(&person.identity, &address, person.agent, reason)
    }

    pub fn agent(&self, kind: Operator) -> &Agent {
        self.agents
            .iter()
            .find(|agent| agent.kind == kind)
            .expect("asked for where it runs")
    }

    /// One of the controllers, by its own service account, as the controller manager runs them.
    pub fn controller(&self, name: &str) -> Client {
        let user = format!("system:serviceaccount:kube-system:{name}");
        let identity = Identity::new(
            &user,
            "",
            &[
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
            &[],
        );
        let agent =
            format!("kube-controller-manager/v1.32.3 (linux/amd64) kubernetes/32cc146/{user}");
        let reason = format!(
            "RBAC: allowed by ClusterRoleBinding \"system:controller:{name}\" of ClusterRole \"system:controller:{name}\" to ServiceAccount \"{name}/kube-system\""
        );
        Client::new(&identity, &[&self.hop], &agent, &reason)
    }

    /// What fills the secrets of service accounts, which runs as the controller manager itself.
    pub fn tokens_controller(&self) -> Client {
        let agent =
            "kube-controller-manager/v1.32.3 (linux/amd64) kubernetes/32cc146/tokens-controller";
        let reason = "RBAC: allowed by ClusterRoleBinding \"system:kube-controller-manager\" of ClusterRole \"system:kube-controller-manager\" to User \"system:kube-controller-manager\"";
        Client::new(&self.controller_manager, &[&self.hop], agent, reason)
    }

    /// The resource version of what is written now: it grows with time, also for what is planned ahead.
    pub fn revise(&self) -> u64 {
        let since = self.clock.duration_since(self.opened).as_millis();
        self.revision + u64::try_from(since).unwrap_or_default()
    }
}

pub const ADMIN_REASON: &str = "RBAC: allowed by ClusterRoleBinding \"platform-admins\" of ClusterRole \"cluster-admin\" to Group \"0a0a0a0a-1111-4222-8333-444444440001\"";
pub const STAFF_REASON: &str = "RBAC: allowed by ClusterRoleBinding \"staff-view\" of ClusterRole \"view\" to Group \"0a0a0a0a-1111-4222-8333-444444440002\"";

fn control_plane(name: &str, group: &str, agent: &str, hop: &str) -> Client {
    let groups: &[&str] = if group.is_empty() { &[] } else { &[group] };
    let reason = if group.is_empty() {
        format!(
            "RBAC: allowed by ClusterRoleBinding \"{name}\" of ClusterRole \"{name}\" to User \"{name}\""
        )
    } else {
        String::new()
    };
    Client::new(&Identity::system(name, groups), &[hop], agent, &reason)
}

fn ci(hop: &str) -> Client {
    let identity = Identity::new(
        site::CI_USER,
        site::CI_USER,
        &["system:authenticated"],
        &[("oid", site::CI_USER)],
    );
    Client::new(
        &identity,
        &["192.0.2.140", hop],
        "Helm/3.17.3",
        "RBAC: allowed by ClusterRoleBinding \"ci-deployer\" of ClusterRole \"ci-deployer\" to User \"5c0ffee5-0c1d-4e2f-8a3b-4c5d6e7f8091\"",
    )
}

pub fn pod_address(rng: &mut Rng, node: usize) -> String {
    format!("10.244.{}.{}", node % 250, 2 + rng.below(250))
}

/// Instance numbers as scale sets write them.
fn base36(number: usize) -> String {
    let mut digits = [b'0'; 6];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[rest % 36];
        rest /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}
