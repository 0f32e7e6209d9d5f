//! What people do for good reasons, and attackers alike: nobody can tell them apart by the log.

use serde_json::json;

use super::super::body;
use super::super::event::Target;
use super::super::truth::Family;
use super::{Play, Stage};

pub(super) const PLAYS: &[Play] = &[
    Play {
        name: "on-call looks into a container",
        family: Family::Exec,
        rows: &["EXEC-1", "EXEC-9"],
        attack: &[],
        run: look_inside,
    },
    Play {
        name: "developer debugs their own service",
        family: Family::PortForward,
        rows: &["PF-1"],
        attack: &[],
        run: debug,
    },
    Play {
        name: "colleague gets a namespace to edit",
        family: Family::RbacEscalation,
        rows: &["RBAC-1", "RBAC-10"],
        attack: &[],
        run: grant,
    },
    Play {
        name: "traveller without the VPN",
        family: Family::SourceIp,
        rows: &["IP-1"],
        attack: &[],
        run: travel,
    },
    Play {
        name: "debug container in a pod that hangs",
        family: Family::Exec,
        rows: &["EPH-1"],
        attack: &[],
        run: debug_container,
    },
];

fn grant(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, _) = s.victim();
    let name = format!("edit-{}", s.rng.suffix(4));
    let revision = s.world.revise();
    let subjects = [body::user_subject("newcomer@example.com")];
    let object = body::binding(&ns, &name, ("ClusterRole", "edit"), &subjects, revision);
    let mut event = client
        .request(
            s.rng,
            s.now(),
            "create",
            Target::rbac("rolebindings").ns(&ns),
        )
        .query("fieldManager=kubectl-create&fieldValidation=Strict")
        .writes(object.to_string());
    event.target.name = name;
    s.strike("binds edit in a namespace", event);
}

fn travel(s: &mut Stage<'_>) {
    let address = format!("198.51.100.{}", 210 + s.rng.below(40));
    let agent = s.actor.agent;
    let client = s.outsider(&address, agent);
    let (ns, _, _) = s.victim();
    for resource in ["pods", "events"] {
        let event = client.request(s.rng, s.now(), "list", Target::core(resource).ns(&ns));
        s.strike("looks at their own service from a hotel", event);
    }
}

fn debug_container(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let container = json!({"name": "debugger-4kq", "image": "mcr.microsoft.com/cbl-mariner/base/core:2.0", "stdin": true, "tty": true,
        "targetContainerName": "app"});
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": pod, "namespace": ns},
        "spec": {"containers": [{"name": "app", "image": "registry.example.azurecr.io/x/app:1"}], "ephemeralContainers": [container]}});
    let event = client
        .request(
            s.rng,
            s.now(),
            "patch",
            Target::core("pods")
                .ns(&ns)
                .name(&pod)
                .sub("ephemeralcontainers"),
        )
        .sends(json!({"spec": {"ephemeralContainers": [container]}}).to_string())
        .gets(object.to_string());
    s.strike("adds a debug container", event);
}

fn look_inside(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let verb = s.upgrade();
    let event = client
        .request(
            s.rng,
            s.now(),
            verb,
            Target::core("pods").ns(&ns).name(&pod).sub("exec"),
        )
        .query("command=sh&container=app&stdin=true&stdout=true&tty=true")
        .code(101);
    s.strike_long("opens a shell", event, 120.0);
}

fn debug(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let verb = s.upgrade();
    let event = client
        .request(
            s.rng,
            s.now(),
            verb,
            Target::core("pods").ns(&ns).name(&pod).sub("portforward"),
        )
        .code(101);
    s.strike_long("forwards a port", event, 120.0);
}
