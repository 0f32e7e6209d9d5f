//! What a pod, or the pod template of a workload, may do to its node and its neighbours.
//!
//! Read from the pod spec that a request writes (see [`super::pod`]). The facts are false for
//! requests that cannot change one, such as a patch of labels; of a patch whose answer was not
//! logged, only what the patch itself says counts.

use std::borrow::Cow;

use super::command::Traits;
use super::fact::Fact;
use super::field::FieldValue;
use super::json::Json;
use super::pod::{Pod, Written, capability, holds, is_sensitive, is_virtual_node};
use super::view::View;
use super::{FactSet, Truth, credential, object};

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

impl Pod<'_> {
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

    /// Whether a container is made to do what a backdoor does.
    fn hostile_command(&self) -> bool {
        self.command_words().any(|words| {
            let traits = Traits::of(&words);
            traits.reverse_shell
                || traits.runs_download
                || traits.encoded_payload
                || traits.metadata_endpoint
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
    facts.set(Fact::PodHostileCommand, pod.hostile_command());
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

pub(super) fn findings(view: &View<'_>) -> FieldValue<'static> {
    match Pod::written(view) {
        Written::Known(pod) => FieldValue::List(pod.findings(view)),
        _ => FieldValue::List(Vec::new()),
    }
}
