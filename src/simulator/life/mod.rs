//! Ordinary life: what happens in a cluster whether or not anyone attacks it.
//!
//! Each [`Routine`] takes a turn now and then, writes its requests into [`Traffic`] and says when
//! its next turn is. Much of it looks like attacks on purpose: denied requests, tokens requested,
//! bindings applied, secrets read by who may read them, commands run in pods by the backup.

mod addons;
mod control;
mod deploys;
mod nodes;
mod operators;
mod people;
mod trouble;

use std::time::Duration;

use super::Traffic;
use super::rng::Rng;
use super::world::{Operator, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routine {
    /// A kubelet renews its lease.
    Lease(usize),
    NodeStatus(usize),
    PodStatus(usize),
    KubeletReads(usize),
    /// Agents that run on every node.
    NodeAgents(usize),
    LeaderElection,
    Controllers,
    Watches,
    Aks,
    Probes,
    ComponentLogs,
    Reviews,
    CronJobs,
    Autoscaling,
    Operator(Operator),
    Workloads,
    Ci,
    GitOpsChange,
    Upgrade,
    /// The cluster autoscaler adds a node, and takes one away.
    ScaleOut,
    /// A new version of an agent that runs on every node.
    AgentRelease,
    /// Something goes wrong.
    Trouble,
    Person(usize),
}

/// What makes more or less of a routine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A busier cluster has more of it.
    Machines,
    /// So has it, but a quiet one has it too.
    Operators,
    /// As often as people want it.
    People,
}

impl Routine {
    pub fn pace(self) -> Pace {
        match self {
            Routine::Operator(_) | Routine::Workloads => Pace::Operators,
            Routine::Person(_)
            | Routine::Ci
            | Routine::GitOpsChange
            | Routine::Upgrade
            | Routine::ScaleOut
            | Routine::AgentRelease
            | Routine::Trouble => Pace::People,
            _ => Pace::Machines,
        }
    }
}

/// All routines of a cluster, each with the time to its first turn.
pub(crate) fn routines(world: &World, rng: &mut Rng) -> Vec<(Routine, Duration)> {
    let machine = |seconds: f64| Duration::from_secs_f64(seconds / world.spec.tempo.max(0.01));
    let mut all = Vec::new();
    for node in 0..world.nodes.len() {
        for (routine, period) in [
            (Routine::Lease(node), 10.0),
            (Routine::NodeStatus(node), 60.0),
            (Routine::PodStatus(node), 30.0),
            (Routine::KubeletReads(node), 6.0),
            (Routine::NodeAgents(node), 8.0),
        ] {
            all.push((routine, machine(rng.unit() * period)));
        }
    }
    for routine in [
        Routine::LeaderElection,
        Routine::Controllers,
        Routine::Watches,
        Routine::Aks,
        Routine::Probes,
        Routine::ComponentLogs,
        Routine::Reviews,
        Routine::CronJobs,
        Routine::Autoscaling,
        Routine::Workloads,
    ] {
        all.push((routine, machine(rng.unit() * 5.0)));
    }
    for agent in &world.agents {
        let wait = machine(rng.unit() * 20.0);
        all.push((Routine::Operator(agent.kind), wait));
    }
    // A pipeline runs early on, so that even a short scenario shows who deploys.
    all.push((Routine::Ci, rng.turn(1.0)));
    all.push((Routine::GitOpsChange, rng.wait(600.0)));
    all.push((Routine::Upgrade, rng.wait(200_000.0)));
    if world.spec.grown {
        all.push((Routine::ScaleOut, rng.wait(20_000.0)));
        all.push((Routine::AgentRelease, rng.wait(300_000.0)));
        all.push((Routine::Trouble, rng.wait(9000.0)));
    }
    for person in 0..world.people.len() {
        let soon = if rng.chance(0.25) { 20.0 } else { 900.0 };
        all.push((
            Routine::Person(person),
            rng.turn(1.0).mul_f64(rng.unit() * soon),
        ));
    }
    all
}

/// Takes a turn; gives the time to the next one.
pub(crate) fn turn(
    routine: Routine,
    world: &mut World,
    t: &mut Traffic<'_>,
    clock: i8,
) -> Duration {
    match routine {
        Routine::Lease(node) => nodes::lease(node, world, t),
        Routine::NodeStatus(node) => nodes::node_status(node, world, t),
        Routine::PodStatus(node) => nodes::pod_status(node, world, t),
        Routine::KubeletReads(node) => nodes::reads(node, world, t),
        Routine::NodeAgents(node) => nodes::agents(node, world, t),
        Routine::LeaderElection => control::leader_election(world, t),
        Routine::Controllers => control::controllers(world, t),
        Routine::Watches => control::watches(world, t),
        Routine::Aks => control::aks(world, t),
        Routine::Probes => control::probes(world, t),
        Routine::ComponentLogs => control::component_logs(world, t),
        Routine::Reviews => control::reviews(world, t),
        Routine::CronJobs => deploys::cron_job(world, t),
        Routine::Autoscaling => deploys::autoscaling(world, t),
        Routine::Operator(kind) => operators::turn(kind, world, t),
        Routine::Workloads => operators::workload(world, t),
        Routine::Ci => deploys::pipeline(world, t),
        Routine::GitOpsChange => deploys::gitops_change(world, t),
        Routine::Upgrade => deploys::upgrade(world, t),
        Routine::ScaleOut => deploys::scale_out(world, t),
        Routine::AgentRelease => addons::agent_release(world, t),
        Routine::Trouble => trouble::trouble(world, t),
        Routine::Person(person) => people::turn(person, world, t, clock),
    }
}
