//! Intrusions: from a foothold over several acts to damage, fast or over days, with one identity or
//! a chain of them.

use super::super::event::Client;
use super::super::identity::Identity;
use super::super::rng::Rng;
use super::super::site::CI_USER;
use super::super::truth::Family;
use super::technique::{
    CREDENTIALS, EVASION, EXECUTION, Ground, IMPACT, LATERAL, LOOKING, PERSISTENCE, RIGHTS,
    Technique, WORKLOADS, Who,
};
use super::{ADMIN_REASON, Play, Stage};

pub(super) const PLAY: Play = Play {
    name: "intrusion",
    family: Family::Intrusion,
    rows: &[],
    attack: &[],
    run: intrude,
};

/// How long the intruder takes, as the pace of acts and the pauses between them in seconds.
const TEMPI: [(&str, f64, f64); 3] = [
    ("within minutes", 0.05, 20.0),
    ("within an hour", 0.3, 300.0),
    ("over a night", 2.0, 2700.0),
];

fn intrude(s: &mut Stage<'_>) {
    let (tempo, pace, pause) = *s.rng.pick(&TEMPI);
    s.pace = pace;
    let (name, mut ground) = foothold(s);
    s.title = Some(format!("intrusion by {name}, {tempo}"));
    let shape: &[(&[Technique], f64)] = &[
        (LOOKING, 0.7),
        (CREDENTIALS, 0.8),
        (EXECUTION, 0.5),
        (RIGHTS, 0.6),
        (WORKLOADS, 0.6),
        (PERSISTENCE, 0.6),
        (EVASION, 0.4),
        (LATERAL, 0.5),
        (CREDENTIALS, 0.2),
        (IMPACT, 0.5),
    ];
    let mut acts = 0;
    for (stage, chance) in shape {
        // Who has done nothing yet does at least the last.
        if !(s.rng.chance(*chance) || acts == 0 && std::ptr::eq(*stage, IMPACT)) {
            continue;
        }
        let possible: Vec<&Technique> = stage
            .iter()
            .filter(|technique| technique.by.contains(&ground.who))
            .collect();
        if possible.is_empty() {
            continue;
        }
        let technique = *s.rng.pick(&possible);
        let wait = pause * s.rng.between(0.3, 2.0);
        s.begin(technique.name, wait);
        (technique.run)(s, &mut ground);
        acts += 1;
    }
}

const KUBECTL: &str = "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0";

fn foothold(s: &mut Stage<'_>) -> (&'static str, Ground) {
    const TOOLS: [(&str, bool); 4] = [
        ("kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0", true),
        ("kubectl/v1.28.4 (linux/amd64) kubernetes/bae2c62", false),
        ("OpenAPI-Generator/31.0.0/python", true),
        ("Go-http-client/2.0", false),
    ];
    let (agent, websocket) = *s.rng.pick(&TOOLS);
    let outside = format!("198.51.100.{}", 2 + s.rng.below(190));
    let ground = |who, client: Client, address: &str, agent, websocket| Ground {
        who,
        client,
        websocket,
        address: address.to_owned(),
        agent,
        account: None,
    };
    let way = match s.rng.below(12) {
        8 if s.world.pipeline_broken_into => 0,
        way => way,
    };
    match way {
        0..=2 => {
            let client = s.outsider(&outside, agent);
            (
                "a stolen user",
                ground(Who::Person, client, &outside, agent, websocket),
            )
        }
        3 | 4 => {
            let client = s.insider();
            let agent = s.actor.agent;
            let websocket = super::uses_websocket(agent);
            (
                "an insider",
                ground(Who::Person, client, "", agent, websocket),
            )
        }
        5 => {
            let identity = account(s);
            let client = s.world.outside(&identity, &outside, agent, ADMIN_REASON);
            s.begin("Use a stolen token from outside (T1078)", 0.0);
            let (ns, _, _) = s.victim();
            let look = super::super::event::Target::core("pods").ns(&ns);
            let event = client.request(s.rng, s.now(), "list", look);
            s.strike("uses a pod's token from outside", event);
            (
                "a stolen service account token",
                ground(Who::Account, client, &outside, agent, websocket),
            )
        }
        6 | 7 => {
            // A shell in a pod whose program was broken into: from the pod's own node.
            let identity = account(s);
            let agent = *s.rng.pick(&[
                "curl/8.12.1",
                "kubectl/v1.32.0 (linux/amd64) kubernetes/70d3cc9",
                "python-requests/2.32.3",
            ]);
            let node = s
                .world
                .nodes
                .iter()
                .position(|node| identity.json().contains(&node.name));
            let client = s
                .world
                .client(&identity, node.unwrap_or(0), agent, ADMIN_REASON);
            (
                "a pod that was broken into",
                ground(
                    Who::Account,
                    client,
                    "",
                    agent,
                    agent.starts_with("kubectl"),
                ),
            )
        }
        8 => {
            s.world.pipeline_broken_into = true;
            let agent = *s.rng.pick(&[
                "Helm/3.17.3",
                "kubectl/v1.32.3 (linux/amd64) kubernetes/32cc146",
            ]);
            let client = s.world.ci.with_agent(agent).allowed_by(ADMIN_REASON);
            debug_assert_eq!(client.identity.name, CI_USER);
            (
                "the pipeline",
                ground(Who::Pipeline, client, "", agent, true),
            )
        }
        9 => {
            let place = s.rng.below(s.world.nodes.len());
            let identity = std::sync::Arc::clone(&s.world.nodes[place].kubelet.identity);
            let client = s.world.client(&identity, place, KUBECTL, "");
            s.begin("Use a node's credential (T1078)", 0.0);
            for resource in ["nodes", "pods"] {
                let target = super::super::event::Target::core(resource);
                let event = client.request(s.rng, s.now(), "list", target);
                s.strike("uses the kubelet's credential with a tool", event);
            }
            (
                "a node that was broken into",
                ground(Who::Node, client, "", KUBECTL, true),
            )
        }
        10 => {
            let nobody = std::sync::Arc::clone(&s.world.anonymous.identity);
            let why = "RBAC: allowed by ClusterRoleBinding \"debug\" of ClusterRole \"view\" to Group \"system:unauthenticated\"";
            let client = s.world.outside(&nobody, &outside, agent, why);
            s.begin("Anonymous access (T1190)", 0.0);
            let target = super::super::event::Target::core("pods");
            let event = client.request(s.rng, s.now(), "list", target);
            s.strike("lists pods without any credential", event);
            (
                "nobody",
                ground(Who::Nobody, client, &outside, agent, websocket),
            )
        }
        _ => {
            let identity = Identity::new(
                "masterclient",
                "",
                &["system:masters", "system:authenticated"],
                &[],
            );
            let client = s.world.outside(&identity, &outside, agent, "");
            s.begin("Use the local administrator (T1078.003)", 0.0);
            let event = client.request(
                s.rng,
                s.now(),
                "list",
                super::super::event::Target::core("namespaces"),
            );
            s.strike("uses the local administrator's certificate", event);
            (
                "the local administrator's certificate",
                ground(Who::LocalAdmin, client, &outside, agent, websocket),
            )
        }
    }
}

/// A workload's account, by a token bound to one of its pods.
fn account(s: &mut Stage<'_>) -> std::sync::Arc<Identity> {
    let apps = 0..s.world.apps.len();
    let not_of = |taken: &[(u32, usize)], app: &usize| taken.iter().all(|(_, of)| of != app);
    let mut whole: Vec<usize> = apps
        .clone()
        .filter(|app| not_of(&s.world.broken_into, app))
        .collect();
    if whole.iter().any(|app| not_of(&s.world.reached, app)) {
        whole.retain(|app| not_of(&s.world.reached, app));
    }
    let place = match whole.as_slice() {
        [] => s.rng.below(apps.len()),
        whole => *s.rng.pick(whole),
    };
    s.world.broken_into.push((s.id, place));
    let app = &s.world.apps[place];
    let pod = &app.pods[0];
    let node = s.world.nodes[pod.node].name.clone();
    let (ns, name, pod) = (app.namespace.clone(), app.name.clone(), pod.name.clone());
    let rng: &mut Rng = s.rng;
    Identity::service_account(rng, &ns, &name, &pod, &node)
}
