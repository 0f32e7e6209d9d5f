//! Escalation to the node by what a pod may be, whatever makes the pod.

use serde_json::{Value, json};

use super::super::super::event::Target;
use super::super::Stage;
use super::{ANYONE, Ground, Technique, dull, image, make};

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Privileged container (T1610)",
        run: privileged,
        by: ANYONE,
    },
    Technique {
        name: "Writable hostPath mount (T1611)",
        run: host_path,
        by: ANYONE,
    },
    Technique {
        name: "Escape by the node's processes (T1611)",
        run: host_pid,
        by: ANYONE,
    },
    Technique {
        name: "Dangerous capability (T1611)",
        run: capability,
        by: ANYONE,
    },
    Technique {
        name: "Pod as a controller's account (T1078)",
        run: controller,
        by: ANYONE,
    },
    Technique {
        name: "Node's credentials by a mount (T1552.001)",
        run: node_credentials,
        by: ANYONE,
    },
];

fn container(s: &mut Stage<'_>) -> Value {
    let image = image(s);
    json!({"name": "main", "image": image, "command": ["sleep", "86400"], "imagePullPolicy": "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}})
}

fn privileged(s: &mut Stage<'_>, g: &mut Ground) {
    let mut container = container(s);
    container["securityContext"] = json!({"privileged": true});
    let list = if s.rng.chance(0.2) {
        "initContainers"
    } else {
        "containers"
    };
    let mut spec = json!({list: [container]});
    if list == "initContainers" {
        spec["containers"] =
            json!([{"name": "wait", "image": "mcr.microsoft.com/oss/kubernetes/pause:3.9"}]);
    }
    plant(s, g, "runs a privileged container", spec);
}

fn host_path(s: &mut Stage<'_>, g: &mut Ground) {
    let path = *s.rng.pick(&[
        "/",
        "/etc",
        "/var/run",
        "/root",
        "/var/lib/kubelet",
        "/run/containerd",
    ]);
    let mut container = container(s);
    container["volumeMounts"] = json!([{"name": "h", "mountPath": "/host"}]);
    let spec = json!({"containers": [container], "volumes": [{"name": "h", "hostPath": {"path": path, "type": ""}}]});
    plant(s, g, "mounts the node's files", spec);
}

fn host_pid(s: &mut Stage<'_>, g: &mut Ground) {
    let mut container = container(s);
    container["command"] = json!(["nsenter", "-t", "1", "-m", "-u", "-i", "-n", "sleep", "1d"]);
    container["securityContext"] = json!({"privileged": true});
    let spec =
        json!({"hostPID": true, "hostNetwork": s.rng.chance(0.5), "containers": [container]});
    plant(s, g, "enters the node's namespaces", spec);
}

fn capability(s: &mut Stage<'_>, g: &mut Ground) {
    let mut container = container(s);
    let cap = *s.rng.pick(&[
        "SYS_ADMIN",
        "SYS_PTRACE",
        "SYS_MODULE",
        "DAC_READ_SEARCH",
        "ALL",
    ]);
    container["securityContext"] = json!({"capabilities": {"add": [cap]}});
    let spec = json!({"containers": [container]});
    plant(s, g, "adds a capability that leads to the node", spec);
}

fn controller(s: &mut Stage<'_>, g: &mut Ground) {
    let container = container(s);
    let account = *s.rng.pick(&[
        "clusterrole-aggregation-controller",
        "generic-garbage-collector",
        "daemon-set-controller",
    ]);
    let spec = json!({"serviceAccountName": account, "serviceAccount": account, "containers": [container]});
    plant_in(
        s,
        g,
        Some("kube-system"),
        "runs a pod as one of the controllers",
        spec,
    );
}

fn node_credentials(s: &mut Stage<'_>, g: &mut Ground) {
    let mut container = container(s);
    container["volumeMounts"] = json!([{"name": "k", "mountPath": "/k", "readOnly": true}]);
    let spec = json!({"containers": [container], "volumes": [{"name": "k", "hostPath": {"path": "/etc/kubernetes/azure.json", "type": "File"}}]});
    plant(s, g, "mounts the node's cloud credential", spec);
}

pub(super) fn plant(s: &mut Stage<'_>, g: &mut Ground, action: &str, spec: Value) {
    plant_in(s, g, None, action, spec);
}

/// Runs a pod of this spec by one of the kinds that make pods, or slips it into a workload that is
/// there; controllers then do their part.
pub(super) fn plant_in(
    s: &mut Stage<'_>,
    g: &mut Ground,
    ns: Option<&str>,
    action: &str,
    spec: Value,
) {
    let (victim, app, _) = s.victim();
    let ns = ns.map_or(victim, ToOwned::to_owned);
    let name = dull(s);
    let mut spec = spec;
    let defaults = json!({"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30, "securityContext": {}});
    if let (Some(spec), Some(defaults)) = (spec.as_object_mut(), defaults.as_object()) {
        for (key, value) in defaults {
            spec.entry(key.clone()).or_insert(value.clone());
        }
    }
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let object = |kind: &str, version: &str, spec: Value| {
        json!({"kind": kind, "apiVersion": version, "metadata": {"name": name, "namespace": ns, "labels": labels}, "spec": spec}).to_string()
    };
    let (target, body, controller) = match s.rng.below(7) {
        0 | 1 => (Target::core("pods"), json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": ns, "labels": labels}, "spec": spec}).to_string(), ""),
        2 => (Target::of("apps", "v1", "deployments"), object("Deployment", "apps/v1", json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": template})), "replicaset-controller"),
        3 => (Target::of("apps", "v1", "daemonsets"), object("DaemonSet", "apps/v1", json!({"selector": {"matchLabels": labels}, "template": template})), "daemon-set-controller"),
        4 => (Target::of("batch", "v1", "jobs"), object("Job", "batch/v1", json!({"template": template})), "job-controller"),
        5 => (Target::of("batch", "v1", "cronjobs"), object("CronJob", "batch/v1", json!({"schedule": "*/30 * * * *", "jobTemplate": {"spec": {"template": template}}})), ""),
        _ => {
            let object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": app, "namespace": ns},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": app}}, "template": template}});
            let target = Target::of("apps", "v1", "deployments").ns(&ns).name(&app);
            let event = g
                .client
                .request(s.rng, s.now(), "patch", target)
                .query("fieldManager=kubectl-patch")
                .sends(json!({"spec": {"template": {"spec": spec}}}).to_string())
                .gets(object.to_string());
            s.strike(action, event);
            return;
        }
    };
    let event = make(s, g, target.ns(&ns), &name, body);
    s.strike(action, event);
    if controller.is_empty() {
        return;
    }
    let pod_name = format!("{name}-{}", s.rng.suffix(5));
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": pod_name, "namespace": ns, "labels": labels,
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": s.rng.uuid(), "controller": true}]}, "spec": spec});
    let mut event = s
        .world
        .controller(controller)
        .request(s.rng, s.now(), "create", Target::core("pods").ns(&ns))
        .writes(pod.to_string());
    event.target.name = pod_name;
    s.follow("its controller makes the pod", event);
}
