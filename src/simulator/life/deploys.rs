//! What changes workloads: pipelines, GitOps, autoscaling, cron jobs, node upgrades; each change runs
//! through the controllers, the scheduler and the kubelets, as it does.

use std::time::Duration;

use serde_json::json;

use super::super::Traffic;
use super::super::body;
use super::super::event::{Client, Target};
use super::super::world::{Operator, Pod, World, pod_address};
use super::{addons, operators};

/// The version of what was there long before.
const ESTABLISHED: u64 = 812_344;

/// The company's pipeline: Helm upgrades from CI's own network, and the access rights it keeps.
pub fn pipeline(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let ci = world.ci.clone();
    for path in ["/version", "/apis?timeout=32s"] {
        let event = ci.request(t.rng, t.now, "get", Target::url(path));
        t.send(event);
    }
    // Access rights are applied at every run; nothing changes, and so neither does their version.
    let revision = ESTABLISHED;
    let kubectl = ci.with_agent("kubectl/v1.32.3 (linux/amd64) kubernetes/32cc146");
    for (resource, name, object) in [
        (
            "clusterrolebindings",
            "platform-admins",
            operators::platform_admins(revision),
        ),
        (
            "clusterroles",
            "ci-deployer",
            operators::ci_deployer(revision),
        ),
    ] {
        t.pass(0.05, 0.2);
        let mut sent = object.clone();
        if let Some(metadata) = sent["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let event = kubectl
            .request(t.rng, t.now, "patch", Target::rbac(resource).name(name))
            .query("fieldManager=ci&fieldValidation=Strict&force=true")
            .sends(sent.to_string())
            .gets(object.to_string());
        t.send(event);
    }
    let app = t.rng.below(world.apps.len());
    release(&ci, app, world, t);
    t.rng.wait(900.0)
}

/// A Helm upgrade: the release before, the objects, the release after.
fn release(client: &Client, index: usize, world: &mut World, t: &mut Traffic<'_>) {
    let app = &mut world.apps[index];
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let secret = |release: u32| {
        Target::core("secrets")
            .ns(&ns)
            .name(&format!("sh.helm.release.v1.{name}.v{release}"))
    };
    let list = client
        .request(t.rng, t.now, "list", Target::core("secrets").ns(&ns))
        .query(&format!("labelSelector=name%3D{name}%2Cowner%3Dhelm"));
    t.send(list);
    t.pass(0.1, 0.5);
    let get = client.request(t.rng, t.now, "get", secret(app.release));
    t.send(get);
    app.release += 1;
    app.image = format!(
        "registry.example.azurecr.io/{ns}/{name}:1.{}.0",
        app.release
    );
    t.pass(0.1, 0.5);
    let mut create = client.request(t.rng, t.now, "create", Target::core("secrets").ns(&ns));
    create.target.name = secret(app.release).name;
    t.send(create);
    for resource in ["configmaps", "services", "serviceaccounts"] {
        t.pass(0.05, 0.3);
        let object_name = if resource == "configmaps" {
            format!("{name}-config")
        } else {
            name.clone()
        };
        let event = client.request(
            t.rng,
            t.now,
            "get",
            Target::core(resource).ns(&ns).name(&object_name),
        );
        t.send(event);
    }
    t.pass(0.1, 0.4);
    rollout(client, "fieldManager=helm&force=false", index, world, t);
    t.pass(0.5, 2.0);
    let release = world.apps[index].release;
    let update = client.request(t.rng, t.now, "update", secret(release));
    t.send(update);
}

/// A patch of a deployment and all that follows it until its pods are new.
pub fn rollout(client: &Client, query: &str, index: usize, world: &mut World, t: &mut Traffic<'_>) {
    let revision = world.revise();
    let app = &world.apps[index];
    let (ns, name, image) = (app.namespace.clone(), app.name.clone(), app.image.clone());
    let count = app.pods.len();
    let deployment = Target::of("apps", "v1", "deployments").ns(&ns).name(&name);
    let object = body::deployment(&ns, &name, &image, count, revision);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}],
        "$setElementOrder/containers": [{"name": "app"}]}}}});
    let event = client
        .request(t.rng, t.now, "patch", deployment)
        .query(query)
        .sends(patch.to_string())
        .gets(object.to_string());
    t.send(event);
    let set = t.rng.suffix(9);
    let replica_set = json!({
        "kind": "ReplicaSet", "apiVersion": "apps/v1",
        "metadata": {"name": format!("{name}-{set}"), "namespace": ns, "resourceVersion": revision.to_string(),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": t.rng.uuid(), "controller": true}]},
        "spec": {"replicas": count, "template": object["spec"]["template"]},
    });
    t.pass(0.01, 0.05);
    let target = Target::of("apps", "v1", "replicasets").ns(&ns);
    let event = world
        .controller("deployment-controller")
        .request(t.rng, t.now, "create", target)
        .writes(replica_set.to_string());
    t.send(event);
    for slot in 0..count {
        t.pass(0.01, 0.2);
        replace_pod(index, slot, &set, world, t);
    }
    let addresses: Vec<String> = world.apps[index]
        .pods
        .iter()
        .map(|pod| pod.address.clone())
        .collect();
    let slice = Target::of("discovery.k8s.io", "v1", "endpointslices")
        .ns(&ns)
        .name(&format!("{name}-7x4kq"));
    let event = world
        .controller("endpointslice-controller")
        .request(t.rng, t.now, "update", slice)
        .writes(body::endpoint_slice(&ns, &name, &addresses, revision));
    t.send(event);
}

/// A pod goes and another comes: created, bound, started, the old one deleted.
fn replace_pod(index: usize, slot: usize, set: &str, world: &mut World, t: &mut Traffic<'_>) {
    let revision = world.revise();
    let node = t.rng.below(world.nodes.len());
    let app = &world.apps[index];
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let fresh = Pod {
        name: format!("{name}-{set}-{}", t.rng.suffix(5)),
        node,
        address: pod_address(t.rng, node),
    };
    let object = body::Pod {
        namespace: &ns,
        app: &name,
        name: &fresh.name,
        image: &app.image,
        node: &world.nodes[node].name,
        address: &fresh.address,
        revision,
    };
    let json = object.json(t.now, t.rng);
    let status = object.status_patch(t.now, t.rng);
    let mut create = world
        .controller("replicaset-controller")
        .request(t.rng, t.now, "create", Target::core("pods").ns(&ns))
        .writes(json);
    create.annotations.push((
        "pod-security.kubernetes.io/enforce-policy",
        "baseline:latest".to_owned(),
    ));
    t.send(create);
    t.pass(0.005, 0.05);
    let pod = Target::core("pods").ns(&ns).name(&fresh.name);
    let bind = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": fresh.name, "namespace": ns},
        "target": {"kind": "Node", "name": world.nodes[node].name}});
    let event = world
        .scheduler
        .request(t.rng, t.now, "create", pod.clone().sub("binding"))
        .sends(bind.to_string())
        .gets("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"code\":201}");
    t.send(event);
    let kubelet = world.nodes[node].kubelet.clone();
    t.pass(0.05, 0.3);
    let account = Target::core("serviceaccounts")
        .ns(&ns)
        .name(&name)
        .sub("token");
    let event = kubelet.request(t.rng, t.now, "create", account);
    t.send(event);
    t.pass(0.2, 0.9);
    let event = kubelet
        .request(t.rng, t.now, "patch", pod.sub("status"))
        .sends(status);
    t.send(event);
    let old = std::mem::replace(&mut world.apps[index].pods[slot], fresh);
    let gone = Target::core("pods").ns(&ns).name(&old.name);
    let event = world
        .controller("replicaset-controller")
        .request(t.rng, t.now, "delete", gone.clone())
        .sends("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\"}");
    t.send(event);
    t.pass(0.1, 0.5);
    let grace = "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"0\"}}";
    let event = world.nodes[old.node]
        .kubelet
        .request(t.rng, t.now, "delete", gone)
        .sends(grace);
    t.send(event);
}

/// A commit in the fleet's repository reaches the cluster.
pub fn gitops_change(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let client = world.agent(Operator::Kustomize).client.clone();
    let app = t.rng.below(world.apps.len());
    let (ns, name) = (
        world.apps[app].namespace.clone(),
        world.apps[app].name.clone(),
    );
    if t.rng.chance(0.3) {
        // A team's workload gets a right that it needs.
        let revision = world.revise();
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]);
        let role = body::role(&ns, &name, json!({}), rules, revision);
        let event = client
            .request(
                t.rng,
                t.now,
                "patch",
                Target::rbac("roles").ns(&ns).name(&name),
            )
            .query("fieldManager=kustomize-controller&force=true")
            .code(201)
            .writes(role.to_string());
        t.send(event);
        let subjects = [body::account_subject(&ns, &name)];
        let binding = body::binding(&ns, &name, ("Role", &name), &subjects, revision);
        t.pass(0.02, 0.1);
        let event = client
            .request(
                t.rng,
                t.now,
                "patch",
                Target::rbac("rolebindings").ns(&ns).name(&name),
            )
            .query("fieldManager=kustomize-controller&force=true")
            .code(201)
            .writes(binding.to_string());
        t.send(event);
    } else {
        rollout(
            &client,
            "fieldManager=kustomize-controller&force=true",
            app,
            world,
            t,
        );
    }
    t.rng.wait(2400.0)
}

pub fn autoscaling(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let index = t.rng.below(world.apps.len());
    let revision = world.revise();
    let app = &world.apps[index];
    let replicas = app.pods.len() + t.rng.below(2);
    let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": app.name, "namespace": app.namespace, "resourceVersion": revision.to_string()},
        "spec": {"replicas": replicas}, "status": {"replicas": app.pods.len()}});
    let target = Target::of("apps", "v1", "deployments")
        .ns(&app.namespace)
        .name(&app.name)
        .sub("scale");
    let hpa = world.controller("horizontal-pod-autoscaler");
    let get = hpa.request(t.rng, t.now, "get", target.clone());
    t.send(get);
    t.pass(0.01, 0.05);
    let event = hpa
        .request(t.rng, t.now, "update", target)
        .writes(scale.to_string());
    t.send(event);
    t.rng.wait(45.0)
}

/// Jobs by their clock: created by the controller, as every pod of theirs.
pub fn cron_job(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let index = t.rng.below(world.apps.len());
    let app = &world.apps[index];
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let mut template = body::deployment(&ns, &name, &app.image, 1, 1)["spec"]["template"].clone();
    // Some fetch their data, and some tell a monitor that they ran.
    let command = match index % 4 {
        1 => "/app/sweep && curl -fsS -m 10 --retry 3 https://hc.example.com/ping/4f1c9a",
        2 => {
            "wget -qO /data/rates.csv https://rates.example.com/today.csv && /app/sweep /data/rates.csv"
        }
        _ => "",
    };
    if !command.is_empty() {
        template["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c", command]);
    }
    let job = json!({
        "kind": "Job", "apiVersion": "batch/v1",
        "metadata": {"name": format!("{name}-sweep-{}", t.now.as_second() / 60), "namespace": ns,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": format!("{name}-sweep"), "uid": t.rng.uuid(), "controller": true}]},
        "spec": {"template": template},
    });
    let target = Target::of("batch", "v1", "jobs").ns(&ns);
    let event = world
        .controller("cronjob-controller")
        .request(t.rng, t.now, "create", target)
        .writes(job.to_string());
    t.send(event);
    t.pass(0.02, 0.2);
    let slot = t.rng.below(world.apps[index].pods.len());
    let set = t.rng.suffix(9);
    replace_pod(index, slot, &set, world, t);
    t.rng.wait(30.0)
}

/// AKS replaces a node: cordoned, drained, deleted, and its successor joins.
pub fn upgrade(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    let index = t.rng.below(world.nodes.len());
    let name = world.nodes[index].name.clone();
    let aks = world.aks.clone();
    let node = Target::core("nodes").name(&name);
    let event = aks
        .request(t.rng, t.now, "patch", node.clone())
        .sends("{\"spec\":{\"unschedulable\":true}}")
        .gets(format!("{{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{\"unschedulable\":true}}}}"));
    t.send(event);
    let evicted: Vec<(usize, usize)> = world
        .apps
        .iter()
        .enumerate()
        .flat_map(|(a, app)| {
            app.pods
                .iter()
                .enumerate()
                .map(move |(p, pod)| (a, p, pod.node))
        })
        .filter(|(_, _, node)| *node == index)
        .map(|(a, p, _)| (a, p))
        .collect();
    for (app, slot) in evicted {
        t.pass(0.5, 5.0);
        let pod = &world.apps[app].pods[slot];
        let target = Target::core("pods")
            .ns(&world.apps[app].namespace)
            .name(&pod.name)
            .sub("eviction");
        let body =
            json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": pod.name}});
        let event = aks
            .request(t.rng, t.now, "create", target)
            .sends(body.to_string());
        t.send(event);
        let set = t.rng.suffix(9);
        replace_pod(app, slot, &set, world, t);
    }
    t.pass(5.0, 60.0);
    let event = aks.request(t.rng, t.now, "delete", node);
    t.send(event);
    t.pass(30.0, 90.0);
    let kubelet = world.nodes[index].kubelet.clone();
    let joined = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name,
        "labels": {"kubernetes.azure.com/agentpool": "user", "kubernetes.io/hostname": name}},
        "spec": {}, "status": {"nodeInfo": {"kubeletVersion": "v1.32.3"}}});
    let event = kubelet
        .request(t.rng, t.now, "create", Target::core("nodes"))
        .writes(joined.to_string());
    t.send(event);
    if world.spec.grown {
        addons::start_agents(&name, world, t);
    }
    t.rng.wait(200_000.0)
}

/// The cluster autoscaler gets a node, which asks for its certificates as kubelets do and is given
/// its agents; later it takes the node away again.
pub fn scale_out(world: &mut World, t: &mut Traffic<'_>) -> Duration {
    world.numbered += 1;
    let node = world.node(world.numbered);
    let name = node.name.clone();
    let requests = Target::of("certificates.k8s.io", "v1", "certificatesigningrequests");
    let bootstrap = super::super::identity::Identity::system(
        "kubelet-nodepool-bootstrap",
        &["system:bootstrappers", "system:bootstrappers:aks"],
    );
    let agent = "kubelet/v1.32.3 (linux/amd64) kubernetes/32cc146";
    let bootstrap = world.client(&bootstrap, world.numbered, agent, "RBAC: allowed by ClusterRoleBinding \"azure:bootstrappers\" of ClusterRole \"system:node-bootstrapper\" to Group \"system:bootstrappers\"");
    for (client, signer, prefix) in [
        (
            bootstrap,
            "kubernetes.io/kube-apiserver-client-kubelet",
            "node-csr",
        ),
        (node.kubelet.clone(), "kubernetes.io/kubelet-serving", "csr"),
    ] {
        let request = format!("{prefix}-{}", t.rng.suffix(5));
        let body = json!({"kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1",
            "metadata": {"name": request, "generateName": format!("{prefix}-")},
            "spec": {"request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K", "signerName": signer,
                "usages": ["digital signature", "client auth"], "username": client.identity.name}});
        let mut event = client
            .request(t.rng, t.now, "create", requests.clone())
            .writes(body.to_string());
        event.target.name.clone_from(&request);
        t.send(event);
        t.pass(0.2, 2.0);
        let mut approved = body;
        approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "AutoApproved"}]});
        let event = world
            .controller("certificate-controller")
            .request(
                t.rng,
                t.now,
                "update",
                requests.clone().name(&request).sub("approval"),
            )
            .writes(approved.to_string());
        t.send(event);
        t.pass(0.5, 3.0);
    }
    let joined = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name,
        "labels": {"kubernetes.azure.com/agentpool": "user", "kubernetes.io/hostname": name}},
        "spec": {}, "status": {"nodeInfo": {"kubeletVersion": "v1.32.3"}}});
    let event = node
        .kubelet
        .request(t.rng, t.now, "create", Target::core("nodes"))
        .writes(joined.to_string());
    t.send(event);
    addons::start_agents(&name, world, t);
    // Hours later.
    t.pass(5000.0, 12_000.0);
    let target = Target::core("nodes").name(&name);
    let autoscaler = world
        .aks
        .with_agent("cluster-autoscaler/v0.0.0 (linux/amd64) kubernetes/$Format");
    let taint = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}], "unschedulable": true}});
    let event = autoscaler
        .request(t.rng, t.now, "update", target.clone())
        .writes(taint.to_string());
    t.send(event);
    t.pass(60.0, 200.0);
    let cloud = world.cloud_controller.clone();
    let event = cloud.request(t.rng, t.now, "delete", target);
    t.send(event);
    t.rng.wait(30_000.0)
}
