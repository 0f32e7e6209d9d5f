//! What a pod, or the pod template of a workload, may do to its node and its neighbours.
//!
//! Read from the object that the request leaves behind, in every list of containers and at every
//! depth of templates. The facts are false for requests that cannot change a pod's spec, such as a
//! patch of labels; of a patch whose answer was not logged, only what the patch itself says counts.

use std::borrow::Cow;

use super::fact::Fact;
use super::field::FieldValue;
use super::json::Json;
use super::view::{Object, View};
use super::{FactSet, Truth, credential, object};

/// Resources that are pods or make them.
const POD_RESOURCES: &[&str] = &[
    "pods",
    "podtemplates",
    "deployments",
    "daemonsets",
    "statefulsets",
    "replicasets",
    "replicationcontrollers",
    "jobs",
    "cronjobs",
];

/// Sockets through which the container runtime, and so the node, is commanded.
const RUNTIME_SOCKETS: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/dockershim.sock",
    "/var/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
    "/var/run/docker.sock",
    "/var/run/dockershim.sock",
    "//./pipe/containerd-containerd",
    "//./pipe/docker_engine",
];

/// The node's cloud credentials, on Linux and on Windows nodes.
const AZURE_CREDENTIALS: &[&str] = &["/etc/kubernetes/azure.json", "/k/azure.json"];

/// Sysctls that the Pod Security level `baseline` allows.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// SELinux types that the Pod Security level `baseline` allows.
const SELINUX_TYPES: &[&str] = &[
    "",
    "container_engine_t",
    "container_init_t",
    "container_kvm_t",
    "container_t",
];

/// Service accounts of the controllers in kube-controller-manager that do not end in `-controller`.
const CONTROLLERS: &[&str] = &[
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "pod-garbage-collector",
    "root-ca-cert-publisher",
    "token-cleaner",
    "bootstrap-signer",
];

/// A pod's spec within the object that was written.
pub(super) struct Pod<'v> {
    pub spec: &'v Json<'v>,
    /// `metadata` of the object, and of the template where there is one.
    pub metadata: [&'v Json<'v>; 2],
    /// Of all three lists.
    pub containers: Vec<&'v Json<'v>>,
    /// Whether this is a patch's delta, so that absence proves nothing.
    pub delta: bool,
}

/// As [`Object`], of pod specs.
pub(super) enum Written<'v> {
    Known(Pod<'v>),
    Unknown,
    None,
}

impl<'v> Pod<'v> {
    /// The pod spec that the request writes.
    pub fn written(view: &'v View<'_>) -> Written<'v> {
        let of_pods = POD_RESOURCES.contains(&view.resource());
        if of_pods && !view.touches("spec") && view.resource() != "podtemplates" {
            return Written::None;
        }
        let object = match object::effective(view) {
            Object::Known(object) => object,
            Object::Unknown
                if of_pods && matches!(view.subresource(), "" | "ephemeralcontainers") =>
            {
                return Written::Unknown;
            }
            _ => return Written::None,
        };
        let spec = object.get("spec");
        // Any kind with a pod template makes pods, whatever its name.
        let template = [
            object.get("template"),
            spec.get("template"),
            spec.at(&["jobTemplate", "spec", "template"]),
        ]
        .into_iter()
        .find(|template| !template.get("spec").is_null());
        let (spec, inner) = match template {
            Some(template) if view.resource() != "pods" => {
                (template.get("spec"), template.get("metadata"))
            }
            _ if view.resource() == "pods" => (spec, object.get("metadata")),
            _ => return Written::None,
        };
        if spec.is_null() {
            return Written::None;
        }
        let containers = ["containers", "initContainers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| spec.get(list).items())
            .filter(|container| container.get("$patch").str() != "delete")
            .collect();
        Written::Known(Pod {
            spec,
            metadata: [object.get("metadata"), inner],
            containers,
            delta: object::is_delta(view),
        })
    }

    fn any(&self, test: impl Fn(&Json<'_>) -> bool) -> bool {
        self.containers.iter().any(|container| test(container))
    }

    /// Whether a container lacks what keeps it in bounds; a delta shows no lack.
    fn lacks(&self, test: impl Fn(&Json<'_>) -> bool) -> bool {
        !self.delta && self.any(test)
    }

    /// The container's setting, else the pod's.
    fn effective<'j>(&'j self, container: &'j Json<'_>, key: &str) -> &'j Json<'j> {
        let own = container.get("securityContext").get(key);
        if own.is_null() {
            self.spec.at(&["securityContext", key])
        } else {
            own
        }
    }

    fn privileged(&self) -> bool {
        self.any(|c| {
            c.at(&["securityContext", "privileged"]).is_true()
                || self
                    .effective(c, "windowsOptions")
                    .get("hostProcess")
                    .is_true()
        })
    }

    fn runs_as_root(&self) -> bool {
        self.any(|c| {
            let user = self.effective(c, "runAsUser").as_i64();
            let refuses_root = self.effective(c, "runAsNonRoot").as_bool();
            user == Some(0) || (user.is_none() && refuses_root == Some(false))
        })
    }

    fn may_run_as_root(&self) -> bool {
        self.lacks(|c| {
            let user = self.effective(c, "runAsUser").as_i64().unwrap_or(0);
            user == 0 && !self.effective(c, "runAsNonRoot").is_true()
        })
    }

    fn unconfined(&self) -> bool {
        let unconfined = |value: &Json<'_>| value.str().eq_ignore_ascii_case("unconfined");
        let by_field = |context: &Json<'_>| {
            unconfined(context.at(&["seccompProfile", "type"]))
                || unconfined(context.at(&["appArmorProfile", "type"]))
                || !SELINUX_TYPES.contains(&context.at(&["seLinuxOptions", "type"]).str())
        };
        by_field(self.spec.get("securityContext"))
            || self.any(|c| by_field(c.get("securityContext")))
            || self.metadata.iter().any(|metadata| {
                metadata
                    .get("annotations")
                    .entries()
                    .iter()
                    .any(|(key, value)| {
                        (key.starts_with("container.apparmor.security.beta.kubernetes.io/")
                            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
                            || key == "seccomp.security.alpha.kubernetes.io/pod")
                            && unconfined(value)
                    })
            })
    }

    /// The capabilities that containers add, in the kernel's spelling without `CAP_`.
    pub fn capabilities(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .containers
            .iter()
            .flat_map(|c| c.at(&["securityContext", "capabilities", "add"]).strings())
            .map(capability)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Volumes that are paths of the node: name and normalised path.
    pub fn host_paths(&self) -> Vec<(&str, String)> {
        self.spec
            .get("volumes")
            .items()
            .iter()
            .filter(|volume| volume.get("$patch").str() != "delete")
            .filter_map(|volume| {
                let path = volume.at(&["hostPath", "path"]).as_str()?;
                Some((volume.get("name").str(), normalised(path)))
            })
            .collect()
    }

    fn mounted_writable(&self, volume: &str) -> bool {
        self.containers
            .iter()
            .flat_map(|c| c.get("volumeMounts").items())
            .any(|mount| mount.get("name").str() == volume && !mount.get("readOnly").is_true())
    }

    pub fn service_account(&self) -> &str {
        let name = self.spec.get("serviceAccountName").str();
        if name.is_empty() {
            self.spec.get("serviceAccount").str()
        } else {
            name
        }
    }

    /// Command and arguments of each container as one line each.
    pub fn commands(&self) -> Vec<String> {
        self.containers
            .iter()
            .map(|c| {
                c.get("command")
                    .strings()
                    .chain(c.get("args").strings())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .filter(|line| !line.is_empty())
            .collect()
    }

    fn annotated(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.metadata
            .iter()
            .any(|m| m.at(&["annotations", key]).as_str().is_some_and(&test))
    }

    fn labelled(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.metadata
            .iter()
            .any(|m| m.at(&["labels", key]).as_str().is_some_and(&test))
    }

    fn virtual_node(&self) -> bool {
        let selects = |key: &str, value: &str| key == "type" && value == "virtual-kubelet";
        is_virtual_node(self.spec.get("nodeName").str())
            || self
                .spec
                .get("tolerations")
                .items()
                .iter()
                .any(|toleration| {
                    matches!(
                        toleration.get("key").str(),
                        "virtual-kubelet.io/provider" | "azure.com/aci"
                    )
                })
            || self
                .spec
                .get("nodeSelector")
                .entries()
                .iter()
                .any(|(key, value)| selects(key, value.str()))
            || self
                .spec
                .at(&[
                    "affinity",
                    "nodeAffinity",
                    "requiredDuringSchedulingIgnoredDuringExecution",
                    "nodeSelectorTerms",
                ])
                .items()
                .iter()
                .flat_map(|term| term.get("matchExpressions").items())
                .any(|e| {
                    e.get("operator").str() == "In"
                        && e.get("values")
                            .strings()
                            .any(|value| selects(e.get("key").str(), value))
                })
    }

    /// Whether the pod is made to run commands on its node.
    fn node_shell(&self) -> bool {
        let host_mounts: Vec<&str> = self
            .host_paths()
            .iter()
            .filter(|(_, path)| path == "/")
            .flat_map(|(volume, _)| {
                self.containers
                    .iter()
                    .flat_map(|c| c.get("volumeMounts").items())
                    .filter(|mount| mount.get("name").str() == *volume)
                    .map(|mount| mount.get("mountPath").str())
                    .collect::<Vec<_>>()
            })
            .collect();
        self.labelled("app.kubernetes.io/managed-by", |value| {
            value == "kubectl-debug"
        }) || self.any(|c| c.get("image").str().contains("nsenter"))
            || self.commands().iter().any(|line| {
                words(line).any(|word| word.rsplit('/').next() == Some("nsenter"))
                    || (words(line).any(|word| word.rsplit('/').next() == Some("chroot"))
                        && (words(line)
                            .any(|word| host_mounts.contains(&word.trim_end_matches('/')))
                            || words(line)
                                .any(|word| matches!(word, "/host" | "/hostfs" | "/rootfs"))))
            })
    }

    fn env_credential(&self) -> bool {
        self.any(|c| {
            c.get("env").items().iter().any(|variable| {
                credential::is_credential(variable.get("name").str(), variable.get("value").str())
            }) || c
                .get("command")
                .strings()
                .chain(c.get("args").strings())
                .any(credential::holds_credential)
        })
    }

    /// What weakens the pod's isolation, gravest first, for people.
    pub fn findings(&self, view: &View<'_>) -> Vec<Cow<'static, str>> {
        let mut facts = FactSet::default();
        judge(self, view, &mut facts);
        let mut findings: Vec<Cow<'static, str>> = [
            (Fact::PodPrivileged, "privileged container"),
            (Fact::PodHostRoot, "node's root file system mounted"),
            (
                Fact::PodContainerSocket,
                "container runtime's socket mounted",
            ),
            (Fact::PodAzureCredentials, "azure.json within reach"),
            (Fact::PodHostPid, "hostPID"),
            (Fact::PodHostNetwork, "hostNetwork"),
            (Fact::PodHostIpc, "hostIPC"),
            (Fact::PodProcUnmasked, "unmasked /proc"),
            (Fact::PodUnconfined, "seccomp, AppArmor or SELinux off"),
            (Fact::PodSysctlUnsafe, "unsafe sysctl"),
            (Fact::PodRunsAsRoot, "runs as root"),
        ]
        .into_iter()
        .filter(|(fact, _)| facts.get(*fact) == Truth::True)
        .map(|(_, text)| Cow::Borrowed(text))
        .collect();
        let paths = self.host_paths();
        if !paths.is_empty() {
            let paths: Vec<&str> = paths.iter().map(|(_, path)| path.as_str()).collect();
            findings.push(Cow::Owned(format!("hostPath {}", paths.join(" "))));
        }
        let capabilities = self.capabilities();
        if !capabilities.is_empty() {
            findings.push(Cow::Owned(format!(
                "capabilities {}",
                capabilities.join(" ")
            )));
        }
        findings
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '"' | '\'' | '(' | ')'))
}

/// In the kernel's spelling, without `CAP_`.
fn capability(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase();
    upper
        .strip_prefix("CAP_")
        .map(str::to_owned)
        .unwrap_or(upper)
}

/// Without doubled slashes, `.`, `..` and a trailing slash; backslashes of Windows as slashes, and
/// without its drive.
pub(super) fn normalised(path: &str) -> String {
    let path = path.replace('\\', "/");
    let pipe = path.starts_with("//./");
    let path = match path.as_bytes() {
        [drive, b':', ..] if drive.is_ascii_alphabetic() => &path[2..],
        _ => &path,
    };
    if pipe {
        return path.to_ascii_lowercase();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `path` is `other` or a folder that holds it.
fn holds(path: &str, other: &str) -> bool {
    path == "/"
        || other
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a normalised path of the node is, holds or lies under one of `sensitive-host-paths`.
pub(super) fn is_sensitive(view: &View<'_>, path: &str) -> bool {
    let list = &view.site.lists.sensitive_host_paths;
    path == "/"
        || std::iter::successors(Some(path), |p| p.rsplit_once('/').map(|(head, _)| head))
            .any(|ancestor| ancestor.len() > 1 && list.contains(ancestor))
        || list
            .patterns()
            .iter()
            .any(|entry| entry.len() > 1 && holds(path, entry))
}

pub(super) fn is_virtual_node(name: &str) -> bool {
    name.starts_with("virtual-node-aci") || name.starts_with("virtual-kubelet")
}

pub(super) fn pod_facts(view: &View<'_>, facts: &mut FactSet) {
    // A binding puts a pod on a node without touching its spec.
    if view.resource() == "bindings" || view.subresource() == "binding" {
        facts.set(
            Fact::PodVirtualNode,
            object::effective(view).judge(|o| is_virtual_node(o.at(&["target", "name"]).str())),
        );
        return;
    }
    let named = view.resource() == "pods"
        && view.event.verb == "create"
        && view.subresource().is_empty()
        && (view.name().starts_with("node-debugger-") || view.name().starts_with("aks-ssh"));
    match Pod::written(view) {
        Written::Known(pod) => judge(&pod, view, facts),
        Written::Unknown => {}
        Written::None => {
            for fact in super::fact::Group::PodSecurity.mask().iter() {
                facts.set(fact, false);
            }
        }
    }
    if named {
        facts.set(Fact::PodNodeShell, true);
    }
}

fn judge(pod: &Pod<'_>, view: &View<'_>, facts: &mut FactSet) {
    let spec = pod.spec;
    let paths = pod.host_paths();
    let lists = &view.site.lists;
    let account = pod.service_account();
    facts.set(Fact::PodPrivileged, pod.privileged());
    facts.set(Fact::PodHostNetwork, spec.get("hostNetwork").is_true());
    facts.set(Fact::PodHostPid, spec.get("hostPID").is_true());
    facts.set(Fact::PodHostIpc, spec.get("hostIPC").is_true());
    facts.set(Fact::PodHostPath, !paths.is_empty());
    facts.set(
        Fact::PodHostPathSensitive,
        paths.iter().any(|(_, path)| is_sensitive(view, path)),
    );
    facts.set(
        Fact::PodHostPathWritable,
        paths.iter().any(|(volume, _)| pod.mounted_writable(volume)),
    );
    facts.set(Fact::PodHostRoot, paths.iter().any(|(_, path)| path == "/"));
    let reaches = |targets: &[&str]| {
        paths
            .iter()
            .any(|(_, path)| targets.iter().any(|target| holds(path, target)))
    };
    facts.set(Fact::PodContainerSocket, reaches(RUNTIME_SOCKETS));
    facts.set(Fact::PodAzureCredentials, reaches(AZURE_CREDENTIALS));
    facts.set(
        Fact::PodCapabilitiesDangerous,
        pod.capabilities()
            .iter()
            .any(|name| lists.dangerous_capabilities.contains(name)),
    );
    facts.set(
        Fact::PodCapabilitiesKept,
        pod.lacks(|c| {
            !c.at(&["securityContext", "capabilities", "drop"])
                .strings()
                .any(|name| capability(name) == "ALL")
        }),
    );
    facts.set(Fact::PodRunsAsRoot, pod.runs_as_root());
    facts.set(
        Fact::PodMayRunAsRoot,
        pod.runs_as_root() || pod.may_run_as_root(),
    );
    let context =
        |key: &'static str| move |c: &Json<'_>| c.get("securityContext").get(key).as_bool();
    let escalates = context("allowPrivilegeEscalation");
    facts.set(
        Fact::PodMayEscalate,
        pod.any(|c| escalates(c) == Some(true)) || pod.lacks(|c| escalates(c).is_none()),
    );
    let read_only = context("readOnlyRootFilesystem");
    facts.set(
        Fact::PodRootWritable,
        pod.any(|c| read_only(c) == Some(false)) || pod.lacks(|c| read_only(c).is_none()),
    );
    facts.set(
        Fact::PodProcUnmasked,
        pod.any(|c| {
            c.at(&["securityContext", "procMount"])
                .str()
                .eq_ignore_ascii_case("unmasked")
        }),
    );
    facts.set(Fact::PodUnconfined, pod.unconfined());
    facts.set(
        Fact::PodSysctlUnsafe,
        spec.at(&["securityContext", "sysctls"])
            .items()
            .iter()
            .any(|sysctl| {
                !SAFE_SYSCTLS.contains(&sysctl.get("name").str().replace('/', ".").as_str())
            }),
    );
    facts.set(
        Fact::PodSharedProcesses,
        spec.get("shareProcessNamespace").is_true(),
    );
    let port =
        |c: &Json<'_>, test: &dyn Fn(&Json<'_>) -> bool| c.get("ports").items().iter().any(test);
    facts.set(
        Fact::PodHostPort,
        !spec.get("hostNetwork").is_true()
            && pod.any(|c| port(c, &|p| p.get("hostPort").as_i64().is_some_and(|n| n > 0))),
    );
    facts.set(
        Fact::PodSshPort,
        pod.any(|c| {
            port(c, &|p| {
                p.get("containerPort").as_i64() == Some(22)
                    || p.get("hostPort").as_i64() == Some(22)
            })
        }),
    );
    facts.set(
        Fact::PodDefaultServiceAccount,
        account == "default" || (account.is_empty() && !pod.delta),
    );
    facts.set(
        Fact::PodTokenMounted,
        match spec.get("automountServiceAccountToken").as_bool() {
            Some(mounts) => mounts,
            None => !pod.delta,
        },
    );
    facts.set(
        Fact::PodControllerServiceAccount,
        view.namespace() == "kube-system"
            && (account.ends_with("-controller") || CONTROLLERS.contains(&account)),
    );
    facts.set(Fact::PodEnvCredential, pod.env_credential());
    facts.set(Fact::PodVirtualNode, pod.virtual_node());
    facts.set(
        Fact::PodMirror,
        pod.annotated("kubernetes.io/config.mirror", |_| true),
    );
    facts.set(Fact::PodNodeShell, pod.node_shell());
    facts.set(
        Fact::PodEphemeralContainer,
        !spec.get("ephemeralContainers").items().is_empty(),
    );
    let off = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "false" | "disabled");
    facts.set(
        Fact::PodMeshOptOut,
        [
            "sidecar.istio.io/inject",
            "linkerd.io/inject",
            "consul.hashicorp.com/connect-inject",
            "kuma.io/sidecar-injection",
            "openservicemesh.io/sidecar-injection",
        ]
        .iter()
        .any(|key| pod.annotated(key, off) || pod.labelled(key, off)),
    );
}

pub(super) fn host_path_names(view: &View<'_>) -> FieldValue<'static> {
    list(view, |pod| {
        pod.host_paths().into_iter().map(|(_, path)| path).collect()
    })
}

pub(super) fn capability_names(view: &View<'_>) -> FieldValue<'static> {
    list(view, |pod| pod.capabilities())
}

/// What looks like a credential is left out of what is shown.
pub(super) fn command_lines(view: &View<'_>) -> FieldValue<'static> {
    list(view, |pod| {
        pod.commands()
            .iter()
            .map(|line| credential::redacted(line))
            .collect()
    })
}

pub(super) fn findings(view: &View<'_>) -> FieldValue<'static> {
    match Pod::written(view) {
        Written::Known(pod) => FieldValue::List(pod.findings(view)),
        _ => FieldValue::List(Vec::new()),
    }
}

pub(super) fn service_account(view: &View<'_>) -> FieldValue<'static> {
    let name = match Pod::written(view) {
        Written::Known(pod) => pod.service_account().to_owned(),
        _ => String::new(),
    };
    FieldValue::Str(Cow::Owned(name))
}

pub(super) fn node(view: &View<'_>) -> FieldValue<'static> {
    let object = object::effective(view);
    let node = object.known().map_or("", |object| {
        let target = object.at(&["target", "name"]).str();
        if target.is_empty() {
            object.at(&["spec", "nodeName"]).str()
        } else {
            target
        }
    });
    FieldValue::Str(Cow::Owned(node.to_owned()))
}

fn list(view: &View<'_>, items: impl Fn(&Pod<'_>) -> Vec<String>) -> FieldValue<'static> {
    match Pod::written(view) {
        Written::Known(pod) => FieldValue::List(items(&pod).into_iter().map(Cow::Owned).collect()),
        _ => FieldValue::List(Vec::new()),
    }
}
