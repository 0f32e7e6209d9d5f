//! Ways into the network that go through the API server: port-forwards, proxies, the kubelet's API.

use super::super::event::Target;
use super::super::truth::Family;
use super::{Play, Stage};

pub(super) const PLAYS: &[Play] = &[
    Play::of(
        Family::PortForward,
        "port-forward to a database",
        &["PF-1"],
        &["T1090", "T1572"],
        forwarded,
    ),
    Play::of(
        Family::PortForward,
        "proxy into an internal service",
        &["PF-2"],
        &["T1090"],
        proxied,
    ),
    Play::of(
        Family::PortForward,
        "command at the kubelet through nodes/proxy",
        &["KUBELET-2", "KUBELET-1"],
        &["T1609", "T1611"],
        kubelet_command,
    ),
    Play::of(
        Family::PortForward,
        "pods listed at the kubelet through nodes/proxy",
        &["KUBELET-1"],
        &["T1613"],
        kubelet_read,
    ),
];

fn forwarded(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let pods = Target::core("pods").ns(&ns);
    let list = client.request(s.rng, s.now(), "list", pods.clone());
    s.prepare("lists the namespace's pods", list);
    let verb = s.upgrade();
    let event = client
        .request(s.rng, s.now(), verb, pods.name(&pod).sub("portforward"))
        .code(101);
    s.strike_long("forwards a port", event, 240.0);
}

fn proxied(s: &mut Stage<'_>) {
    let client = s.insider().with_agent("curl/8.12.1");
    let (ns, app, _) = s.victim();
    let name = format!("{app}:8080");
    for path in ["/actuator/env", "/admin/export"] {
        let target = Target::core("services").ns(&ns).name(&name).sub("proxy");
        let mut event = client.request(s.rng, s.now(), "get", target);
        event.uri.push_str(path);
        s.strike_long("reads an internal service", event, 0.4);
    }
}

fn kubelet_command(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let node = s.world.nodes[s.rng.below(s.world.nodes.len())].name.clone();
    let target = Target::core("nodes").name(&node).sub("proxy");
    let mut event = client.request(s.rng, s.now(), "create", target);
    event.uri.push_str(&format!("/run/{ns}/{pod}/app?cmd=id"));
    s.strike_long("runs a command at the kubelet", event.code(200), 1.0);
}

fn kubelet_read(s: &mut Stage<'_>) {
    let client = s.insider().with_agent("python-requests/2.32.3");
    for _ in 0..3 {
        let node = s.world.nodes[s.rng.below(s.world.nodes.len())].name.clone();
        let target = Target::core("nodes").name(&node).sub("proxy");
        let mut event = client.request(s.rng, s.now(), "get", target);
        event.uri.push_str("/pods");
        s.strike_long("lists a node's pods at its kubelet", event, 0.5);
    }
}
