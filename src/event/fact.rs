//! Facts: named truths of one event, each true, false or unknown.
//!
//! The table below is the whole vocabulary that a detector's `facts` and `not` may use;
//! `lanner detectors facts` prints it. A fact is unknown where what it is read from is missing, cut
//! off or was not logged: `facts` needs known-true, `not` needs known-false. Facts of one group are
//! computed together, once an event, when a candidate detector first asks ([`crate::event::View`]).

/// What is known of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

/// Name and meaning of a fact.
#[derive(Debug)]
pub struct FactInfo {
    pub fact: Fact,
    pub name: &'static str,
    pub group: Group,
    pub doc: &'static str,
}

macro_rules! facts {
    ($( $group:ident { $( $variant:ident = $name:literal, $doc:literal; )* } )*) => {
        /// A named truth; its index is its bit in a [`FactSet`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Fact { $($( $variant, )*)* }

        /// Facts that are computed together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Group { $( $group, )* }

        /// Every fact, in the order of [`Fact`].
        pub const FACTS: &[FactInfo] = &[
            $($( FactInfo { fact: Fact::$variant, name: $name, group: Group::$group, doc: $doc }, )*)*
        ];

        impl Group {
            /// The facts of this group, as a set of bits.
            pub const fn mask(self) -> Bits {
                match self {
                    $( Group::$group => Bits::EMPTY $( .with(Fact::$variant) )*, )*
                }
            }
        }

        /// Every group.
        pub const GROUPS: &[Group] = &[$( Group::$group, )*];
    };
}

facts! {
    Request {
        Succeeded = "succeeded", "the API server answered with a code from 100 to 399, or had started to answer without saying a code";
        Failed = "failed", "the API server answered with a code of 400 or more";
        Forbidden = "forbidden", "the answer was 403: refused by authorization, by admission or by the escalation check";
        Unauthorized = "unauthorized", "the answer was 401: no valid credential";
        DecisionForbid = "decision_forbid", "the authorizer said no (annotation authorization.k8s.io/decision is forbid)";
        EscalationDenied = "escalation_denied", "refused because the actor tried to grant or bind rights that it does not hold";
        DryRun = "dry_run", "a dry run: nothing was stored; a delete whose body was not logged is taken as real";
        Write = "write", "the verb changes something: create, update, patch, delete or deletecollection";
        Patch = "patch", "the verb is patch";
        Made = "made", "the verb is create, or the answer was 201, as of a server-side apply (a patch) that makes what it names";
        LongRunning = "long_running", "a request that stays open: watch, exec, attach, portforward, any proxy, or a log";
        BodyUnreadable = "body_unreadable", "a body was too big to log, was removed by the API server or was cut off";
        RequestEmptyReason = "request.empty_reason", "the request was allowed, and the authorizer's reason is logged as empty";
        AdmissionDenied = "admission.denied", "an admission webhook, admission policy or Pod Security refused the request";
        PodSecurityViolation = "pod_security.violation", "the API server notes that the pod violates the Pod Security level to audit";
    }
    Change {
        Unchanged = "unchanged", "an update whose answer has the resourceVersion that was sent: nothing changed";
    }
    Actor {
        ActorPlatform = "actor.platform", "one of Kubernetes' or AKS' own identities, by name, source address and client together; unknown where the record has a platform's name and no address at all";
        ActorSystem = "actor.system", "a service account, a node or a control-plane component by name, wherever it comes from";
        ActorHuman = "actor.human", "no anonymous user, service account, node, control-plane component or AKS identity by name";
        ActorServiceAccount = "actor.service_account", "a service account";
        ActorKubeSystem = "actor.kube_system", "a service account of kube-system";
        ActorDefaultServiceAccount = "actor.default_service_account", "the service account `default` of some namespace";
        ActorNode = "actor.node", "a node (system:node:…)";
        ActorControlPlane = "actor.control_plane", "a control-plane component by name: system:apiserver, system:kube-…, system:cloud-…";
        ActorAks = "actor.aks", "an identity of AKS itself by name: aksService, hcpService, nodeclient, …; masterclient is none of them";
        ActorAnonymous = "actor.anonymous", "no identity: system:anonymous, system:unauthenticated, or none at all";
        ActorStaticAdmin = "actor.static_admin", "the cluster's local admin account (masterclient), which bypasses Entra and RBAC";
        ActorSystemMasters = "actor.system_masters", "a member of system:masters, to whom RBAC does not apply";
        ActorAdminUser = "actor.admin_user", "in the configured list admin-users";
        ActorDeployer = "actor.deployer", "in the configured list deployers: identities that deploy (GitOps, CI)";
        ActorBoundToken = "actor.bound_token", "a service account's token that is bound to a pod, and so to its node";
        ActorEntra = "actor.entra", "an Entra identity: an e-mail-like name or an object id";
        ActorDashboard = "actor.dashboard", "the service account of a Kubernetes dashboard";
        ActorImpersonating = "actor.impersonating", "acts as someone else: impersonatedUser is there";
        ActorImpersonatesPrivileged = "actor.impersonates_privileged", "acts as system:masters, a node, a control-plane component, AKS, a kube-system service account or a privileged group";
        ActorImpersonationRefused = "actor.impersonation_refused", "tried to act as someone else and was refused";
        ActorInCluster = "actor.in_cluster", "a service account or a node that does not come from a public address: pods and nodes change their networks";
        ActorApprovedImpersonator = "actor.approved_impersonator", "in the configured list impersonators, or AKS' own Arc proxy from inside";
    }
    SourceIp {
        SourceIpUnknown = "source_ip.unknown", "the record names no client address";
        SourceIpLoopback = "source_ip.loopback", "the client is on the API server's own host";
        SourceIpLinkLocal = "source_ip.link_local", "the client's address is link-local";
        SourceIpPrivate = "source_ip.private", "the client's address is private (RFC 1918, fc00::/7)";
        SourceIpShared = "source_ip.shared", "the client's address is in 100.64.0.0/10 (carrier NAT, private-link NAT)";
        SourceIpPublic = "source_ip.public", "the client's address is none of loopback, link-local, private and shared";
        SourceIpTrusted = "source_ip.trusted", "in the configured list trusted-networks; false where none is configured";
        SourceIpUntrusted = "source_ip.untrusted", "outside the configured trusted-networks and node-networks, and not loopback; false where none is configured";
        SourceIpNode = "source_ip.node_network", "in the configured list node-networks; false where none is configured";
        SourceIpThreat = "source_ip.threat_network", "in the configured list threat-networks; false where none is configured";
        SourceIpForged = "source_ip.forged_chain", "the client sent forwarding headers of its own: addresses stand before the client's";
    }
    Target {
        TargetDashboard = "target.dashboard", "a service or pod of the Kubernetes dashboard, by its name";
        TargetDashboardOwn = "target.dashboard_own", "what the dashboard needs itself: its key holder, certificates and settings, its metrics scraper, reviews and discovery";
        TargetProtectedNamespace = "target.protected_namespace", "in a namespace of the configured list protected-namespaces, or in kube-system";
        TargetKubeSystem = "target.kube_system", "in namespace kube-system";
        TargetNonresource = "target.nonresource", "a URL that is no resource (/healthz, /metrics, /api, …)";
        TargetHealth = "target.health", "a health, version or discovery URL that anyone may read";
        TargetAllNamespaces = "target.all_namespaces", "a namespaced resource across all namespaces";
        TargetCollection = "target.collection", "a collection, and not one object by name";
        TargetMetrics = "target.metrics", "a proxied request for metrics, statistics or health, as monitoring sends them";
        TargetKubeletCommand = "target.kubelet_command", "run, exec, attach, port-forward or the runtime's API of a kubelet, through nodes/proxy";
        WorkloadHttpApplicationRouting = "workload.http_application_routing", "the object belongs to the HTTP application routing add-on";
        SecretsBroad = "secrets.broad", "a list or watch of secrets of all namespaces or of a protected one, and not of one object by name";
        SecretHelmRelease = "secret.helm_release", "the secret is a release of Helm";
        SecretOwn = "secret.own_namespace", "the actor is a service account and the object lies in its own namespace";
        ConfigMapCoreDns = "configmap.coredns", "the config map configures CoreDNS";
        ConfigMapBookkeeping = "configmap.bookkeeping", "the config map is a controller's own: leader election, root certificate, status";
    }
    Dashboard {
        DashboardExposed = "dashboard.exposed", "the write leaves a dashboard's Service as LoadBalancer or NodePort or with external addresses, or an Ingress or route to it";
        DashboardInternalOnly = "dashboard.internal_only", "the dashboard's LoadBalancer asks for an internal address";
        DashboardDeployed = "dashboard.deployed", "the write leaves a workload that runs a dashboard image";
        DashboardNoLogin = "dashboard.no_login", "the dashboard's login is disabled or weakened by its arguments";
        DashboardPolicy = "dashboard.policy", "a NetworkPolicy that guards the dashboard, by its selector or its name";
        DashboardPolicyOpen = "dashboard.policy_open", "such a policy is deleted, or left letting everyone in";
    }
    Exec {
        ExecShell = "exec.shell", "the command is a shell";
        ExecTty = "exec.tty", "a terminal was asked for";
        ExecStdin = "exec.stdin", "standard input was asked for";
        ExecInteractiveShell = "exec.interactive_shell", "a shell with a terminal: what is typed is not logged";
        ExecPipedShell = "exec.piped_shell", "a shell that reads its commands from standard input without a terminal: they are not logged";
        ExecReverseShell = "exec.reverse_shell", "the command opens a shell over the network";
        ExecDownload = "exec.download", "the command fetches something from the network";
        ExecMetadataEndpoint = "exec.metadata_endpoint", "the command names the cloud's metadata endpoint in any spelling, or its token path";
        ExecReadsToken = "exec.reads_token", "the command names a service account's or workload identity's token";
        ExecReadsCredentials = "exec.reads_credentials", "the command names tokens, keys, kubeconfigs, password files, cloud credentials or the environment's secrets";
        ExecServicePrincipal = "exec.service_principal", "the command names the node's service principal file (azure.json)";
        ExecCopiesOut = "exec.copies_out", "tar to standard output, as kubectl cp does to read from a container";
        ExecCopiesIn = "exec.copies_in", "tar from standard input, as kubectl cp does to write to a container";
        ExecBreakout = "exec.breakout", "the command reaches for the node: nsenter, chroot into a host mount, mounts of devices, release_agent, runtime sockets, kernel modules";
        ExecInstallsPackage = "exec.installs_package", "the command runs a package manager";
        ExecMiner = "exec.miner", "the command names a cryptominer or a mining pool's protocol";
        ExecEncodedPayload = "exec.encoded_payload", "the command decodes something and runs it";
        ExecOffensiveTool = "exec.offensive_tool", "the command names a tool of attackers, or kubectl or az inside a container";
        ExecNotable = "exec.notable", "the command has a detector of its own: any of interactive_shell, reverse_shell, download, metadata_endpoint, reads_credentials, copies_out, copies_in, breakout, installs_package, miner, encoded_payload and offensive_tool";
        ExecKubelet = "exec.kubelet", "run or exec at a kubelet through nodes/proxy, past the API server's own exec";
    }
    Role {
        RoleWildcard = "role.wildcard", "a rule has * among its verbs or resources (or */subresource, or * among non-resource URLs)";
        RoleAllPowerful = "role.all_powerful", "a rule grants every verb on every resource of every group";
        RoleEscalate = "role.escalate", "a rule grants escalate or bind on roles, or impersonate, also by wildcard verbs on these";
        RolePodExec = "role.pod_exec", "a rule grants exec, attach or portforward on pods, for which get suffices";
        RoleNodesProxy = "role.nodes_proxy", "a rule grants nodes/proxy, which is command execution at the kubelet";
        RoleReadsSecrets = "role.reads_secrets", "a rule grants get, list or watch on secrets";
        RoleWrites = "role.writes", "a rule grants a writing verb on anything";
        RoleWritesWorkloads = "role.writes_workloads", "a rule grants creating or changing pods or what makes pods";
        RoleWritesRbac = "role.writes_rbac", "a rule grants writing roles or bindings";
        RoleApprovesCsr = "role.approves_csr", "a rule grants approving or signing certificates";
        RoleIssuesTokens = "role.issues_tokens", "a rule grants creating tokens of service accounts";
        RoleWritesWebhooks = "role.writes_webhooks", "a rule grants writing admission webhooks or policies";
        RoleWritesNodes = "role.writes_nodes", "a rule grants writing nodes or their status";
        RoleInfrastructure = "role.infrastructure", "any of approves_csr, issues_tokens, writes_webhooks and writes_nodes";
        RoleAggregated = "role.aggregated", "labels add the ClusterRole to admin, edit or view";
        RoleDangerous = "role.dangerous", "a rule grants what leads to more rights: see field role.dangerous";
        RoleSystem = "role.system", "the role or binding is Kubernetes' own by its name (system:…)";
    }
    Binding {
        BindingClusterAdmin = "binding.cluster_admin", "binds cluster-admin or an equivalent";
        BindingPrivilegedRole = "binding.privileged_role", "binds cluster-admin, admin, edit, or a privileged role of Kubernetes or AKS";
        BindingPublicRole = "binding.public_role", "binds a role that everyone has: discovery, basic-user, public-info-viewer";
        BindingOrdinary = "binding.ordinary", "no privileged role is known to be bound: known even where the body is not";
        BindingChanged = "binding.changed", "a binding is created, or its subjects or role may change";
        BindingClusterWide = "binding.cluster_wide", "is a ClusterRoleBinding";
        BindingToAnonymous = "binding.to_anonymous", "a subject is system:anonymous or system:unauthenticated";
        BindingToEveryone = "binding.to_everyone", "a subject is system:authenticated, all service accounts, or system:anonymous or system:unauthenticated";
        BindingToServiceAccount = "binding.to_service_account", "a subject is a service account";
        BindingToDefaultServiceAccount = "binding.to_default_service_account", "a subject is the service account `default` of a namespace, or all of a namespace's";
        BindingToKubeSystem = "binding.to_kube_system", "a subject is a service account of kube-system";
        BindingToDashboard = "binding.to_dashboard", "a subject is the service account of a dashboard";
        BindingToSelf = "binding.to_self", "a subject is the actor itself or a group that it is in";
    }
    Agent {
        AgentKubectl = "agent.kubectl", "the user agent says kubectl";
        AgentScripted = "agent.scripted", "the user agent is a script's or a bare HTTP client's: curl, wget, Python, Go's default, …";
        AgentOffensive = "agent.offensive", "the user agent names a tool of attackers: kube-hunter, peirates, kubeletctl, …";
        AgentGoDefault = "agent.go_default", "the user agent is Go's default, which some controllers use";
        AgentBrowser = "agent.browser", "the user agent is a browser's";
        AgentTool = "agent.tool", "the user agent is that of a tool in someone's hands and no component's: kubectl, a script, a browser, an attacker's tool, or none";
        AgentTruncated = "agent.truncated", "the user agent was longer than the API server logs";
        AgentMissing = "agent.missing", "the request had no user agent";
    }

    // Objects: what is stored, whether it can be judged at all.
    Object {
        ObjectOwned = "object.owned", "the object names a controller as its owner (metadata.ownerReferences)";
        ObjectSystemWorkload = "object.system_workload", "written in a protected namespace by the platform itself, or by one of its controllers";
        ObjectMisplaced = "object.misplaced", "a pod in a namespace of the system that neither the platform nor its controllers put there; in kube-public and kube-node-lease, any pod";
        ObjectDefaultNamespace = "object.default_namespace", "the object lies in the namespace default";
    }
    Lookalike {
        ObjectLookalike = "object.lookalike", "the name imitates a system component's, outside the system's namespaces";
    }
    PodSecurity {
        PodPrivileged = "pod.privileged", "a container of the pod or of the pod template is privileged";
        PodHostNetwork = "pod.host_network", "the pod shares the node's network";
        PodHostPid = "pod.host_pid", "the pod sees the node's processes (hostPID)";
        PodHostIpc = "pod.host_ipc", "the pod shares the node's IPC (hostIPC)";
        PodHostPath = "pod.host_path", "the pod mounts a path of the node";
        PodHostPathSensitive = "pod.host_path_sensitive", "a mounted path of the node is, holds or lies under one of the list sensitive-host-paths";
        PodHostPathWritable = "pod.host_path_writable", "a mounted path of the node is not read-only in every container that mounts it";
        PodHostRoot = "pod.host_root", "the pod mounts the node's whole file system";
        PodContainerSocket = "pod.container_socket", "the pod mounts the container runtime's socket or a folder that holds it";
        PodAzureCredentials = "pod.azure_credentials", "the pod mounts the node's azure.json or a folder that holds it";
        PodCapabilitiesDangerous = "pod.capabilities_dangerous", "a container adds a capability of the list dangerous-capabilities";
        PodCapabilitiesKept = "pod.capabilities_kept", "a container does not drop ALL capabilities";
        PodRunsAsRoot = "pod.runs_as_root", "a container asks for user 0, or explicitly allows root";
        PodMayRunAsRoot = "pod.may_run_as_root", "nothing keeps a container from running as root";
        PodMayEscalate = "pod.may_escalate", "a container's allowPrivilegeEscalation is not false";
        PodRootWritable = "pod.root_writable", "a container's root file system is not read-only";
        PodProcUnmasked = "pod.proc_unmasked", "a container's /proc is unmasked (procMount)";
        PodUnconfined = "pod.unconfined", "seccomp or AppArmor is switched off, or SELinux set to an unconfined type, by field or annotation";
        PodSysctlUnsafe = "pod.sysctl_unsafe", "the pod sets a sysctl that Kubernetes does not count as safe";
        PodSharedProcesses = "pod.shared_processes", "the pod's containers share one process namespace";
        PodHostPort = "pod.host_port", "a container takes a port of the node without sharing its network";
        PodSshPort = "pod.ssh_port", "a container declares port 22, or takes it on the node";
        PodDefaultServiceAccount = "pod.default_service_account", "the pod runs as the namespace's default service account";
        PodTokenMounted = "pod.token_mounted", "the pod spec does not refuse the service account's token";
        PodControllerServiceAccount = "pod.controller_service_account", "the pod runs as a service account of Kubernetes' own controllers";
        PodEnvCredential = "pod.env_credential", "an environment variable, argument or command holds what looks like a credential, in plain text";
        PodVirtualNode = "pod.virtual_node", "the pod asks for, or is bound to, a virtual node";
        PodMirror = "pod.mirror", "the pod mirrors a static pod of a node";
        PodHostileCommand = "pod.hostile_command", "a container's command or arguments open a shell over the network, fetch something and run it, decode something and run it, or ask the metadata endpoint";
        PodNodeShell = "pod.node_shell", "the pod is made to get a shell on its node: kubectl debug node, nsenter or chroot into the host";
        PodEphemeralContainer = "pod.ephemeral_container", "the pod has an ephemeral container";
        PodMeshOptOut = "pod.mesh_opt_out", "the pod refuses the service mesh's sidecar";
    }
    Image {
        ImageForeignRegistry = "image.foreign_registry", "an image comes from a registry that the list allowed-registries does not name";
        ImageMutable = "image.mutable", "an image has neither digest nor tag, or the tag latest";
        ImageMiner = "image.miner", "an image, command, argument or environment variable is a cryptominer's";
        ImageAttackTool = "image.attack_tool", "an image, command or argument is a known attack tool's";
        ImageDebug = "image.debug", "an image is a debugging or bare operating system image (list debug-images)";
    }
    Workload {
        WorkloadScaledToZero = "workload.scaled_to_zero", "the request sets replicas to 0, or patches a node selector in, which is how a DaemonSet is switched off";
        WorkloadLarge = "workload.large", "a container asks for a GPU, for 32 cores or more, or for 128 GiB of memory or more";
        WorkloadPolicyEngine = "workload.policy_engine", "the object belongs to an admission policy engine (list policy-engines)";
        WorkloadMonitoringAgent = "workload.monitoring_agent", "the object belongs to a monitoring or security agent (list monitoring-agents)";
        WorkloadImageChanged = "workload.image_changed", "a patch that names containers, images or commands of a running workload";
    }
    Service {
        ServiceLoadBalancer = "service.load_balancer", "the service is of type LoadBalancer";
        ServicePublic = "service.public", "the service has a public load balancer without an address restriction";
        ServiceNodePort = "service.node_port", "the service is of type NodePort";
        ServiceExternalIps = "service.external_ips", "the service claims addresses with spec.externalIPs";
        ServiceExternalName = "service.external_name", "the service is an alias of an external name";
        ServiceLoadBalancerStatus = "service.load_balancer_status", "the request writes the addresses in the service's status";
        ServiceSshPort = "service.ssh_port", "the service exposes or targets port 22";
        ServiceSensitiveApp = "service.sensitive_app", "name, labels or selector of the service are of an application of the list sensitive-apps";
        IngressNoTls = "ingress.no_tls", "the ingress has no TLS section, or an empty one; false for a patch that leaves its spec alone";
        IngressHttpApplicationRouting = "ingress.http_application_routing", "the ingress is of the class addon-http-application-routing";
        IngressSensitiveApp = "ingress.sensitive_app", "the ingress leads to an application of the list sensitive-apps";
    }
    NetworkPolicy {
        NetworkPolicyAllowAll = "network_policy.allow_all", "a rule of the policy lets everything in or out";
        NetworkPolicyLoosened = "network_policy.loosened", "as network_policy.allow_all, or the patch takes a policy type or an exception away";
        NetworkPolicyOpensMetadata = "network_policy.opens_metadata", "an egress rule's block holds 169.254.169.254 and does not except it, or a rule names no destination";
        NetworkPolicyOpensSsh = "network_policy.opens_ssh", "a rule of the policy names port 22";
        NetworkPolicyGuardsMetadata = "network_policy.guards_metadata", "the policy keeps pods from the metadata endpoint, by its name or by an exception for 169.254.169.254";
    }
    Admission {
        WebhookIgnoresFailure = "webhook.ignores_failure", "a webhook lets requests pass when it fails (failurePolicy Ignore)";
        WebhookExcludesNamespaces = "webhook.excludes_namespaces", "the request gives a webhook a namespace or object selector, or match conditions";
        WebhookCaBundleOnly = "webhook.ca_bundle_only", "the request changes a webhook's caBundle and nothing else";
        WebhookExternalUrl = "webhook.external_url", "a webhook is called by URL instead of a service in the cluster";
        WebhookOwn = "webhook.own", "the actor is a service account, and every webhook calls a service in its own namespace";
        WebhookMeshInjector = "webhook.mesh_injector", "the webhook injects a service mesh's sidecars";
        AdmissionPolicyWeakened = "admission.policy_weakened", "an admission policy or its binding is set to audit or warn only, or to ignore its own failure";
        ConstraintWeakened = "constraint.weakened", "a constraint or policy of Gatekeeper or Kyverno is set to dryrun, warn or Audit";
    }
    Namespace {
        NamespaceAllowed = "namespace.allowed", "the namespace's name is on the list allowed-namespaces";
        NamespaceLookalike = "namespace.lookalike", "the namespace's name imitates one of the system's";
        NamespacePodSecurityWeakened = "namespace.pod_security_weakened", "the request sets the namespace's Pod Security level to privileged, or removes it";
        NamespaceMeshDisabled = "namespace.mesh_disabled", "the request disables the mesh's sidecar injection for the namespace, or removes it";
        NodeVirtual = "node.virtual", "the node's name is a virtual node's";
        NodeExpectedName = "node.expected_name", "the node's name is on the list node-names";
        NodeLabelsChanged = "node.labels_changed", "the request changes labels or taints of a node";
        NodeSchedulingChanged = "node.scheduling_changed", "the request makes the node unschedulable or schedulable again, or changes what reboots or re-images it";
        VolumeHostPath = "volume.host_path", "the persistent volume is a path or disk of a node";
        VolumeHostPathSensitive = "volume.host_path_sensitive", "the persistent volume is, holds or lies under a path of the list sensitive-host-paths";
    }
    Csr {
        CsrClientAuth = "csr.client_auth", "the certificate asked for identifies a client to the API server";
        CsrPrivileged = "csr.privileged", "the certificate's subject is a system identity or a privileged group";
        CsrNode = "csr.node", "the certificate's subject is a node";
        CsrApproved = "csr.approved", "the request approves a certificate";
    }
    Site {
        ActorUnlisted = "actor.unlisted", "the actor is a person whom the list allowed-users does not name";
        SiteAllowsUsers = "site.allows_users", "the list allowed-users is configured";
        SiteAllowsNamespaces = "site.allows_namespaces", "the list allowed-namespaces is configured";
        SitePrivateApi = "site.private_api", "the cluster is configured as private";
    }
    Secret {
        SecretServiceAccountToken = "secret.service_account_token", "the secret is of type kubernetes.io/service-account-token";
        SecretMayBeToken = "secret.may_be_token", "the type of the secret that is made or patched was not logged, so that it may be a service account's token";
        TokenLongLived = "token.long_lived", "the token asked for lives longer than a day";
        TokenPodBound = "token.pod_bound", "the token asked for is bound to a pod, node or secret";
        ConfigMapCredential = "configmap.credential", "a key or value of the config map looks like a credential";
        ServiceAccountWorkloadIdentity = "service_account.workload_identity", "the service account is bound to an Entra identity (azure.workload.identity)";
    }

    // What only the ordered half can tell, from the inventory of what was seen or imported before.
    Known {
        KnownPodPrivileged = "known.pod_privileged", "the pod is remembered as one that owns its node: privileged, in the node's process namespace, with a sensitive path, the runtime's socket or dangerous capabilities; unknown of a pod that was never seen";
        KnownUnchanged = "known.unchanged", "the write of a role or binding is known to have changed nothing: its resourceVersion is the one that is remembered, or is older than the request; false where that is not known";
        KnownSubjectAdded = "known.subject_added", "the binding has a subject that it had not before; unknown of a binding that was never seen";
        KnownSubjectsKept = "known.subjects_kept", "the write is known to have added no subject to the binding; false where that is not known";
        KnownRightsAdded = "known.rights_added", "the change of a role or binding lets someone do what they could not before; unknown where the role or the binding was never seen";
        KnownSelfGrant = "known.self_grant", "the change gives the actor rights that it did not have: itself, by a group that it is in, or by a service account that it can use through its tokens, pods or impersonation; unknown as rights_added";
        KnownSelfGrantedUse = "known.self_granted_use", "the request uses a right that its actor gave itself within the last 24 hours; false where no such grant was seen";
        KnownNamespaceWithoutPolicy = "known.namespace_without_policy", "the object's namespace has no network policy (after the request); unknown of a namespace that was not seen being made, unless a policy in it was";
        KnownNamespaceProduction = "known.namespace_production", "a label of the object's namespace (env, environment, stage, tier, lifecycle) says production; unknown of a namespace that was never seen";
        KnownNamespaceRestricted = "known.namespace_restricted", "the object's namespace enforces the Pod Security level baseline or restricted; unknown of a namespace that was never seen";
    }
}

impl Group {
    /// Whether the facts of this group are read from the bodies, so that an unreadable one is the
    /// reason why they are unknown.
    pub fn reads_bodies(self) -> bool {
        matches!(
            self,
            Group::Change
                | Group::Dashboard
                | Group::Role
                | Group::Binding
                | Group::Object
                | Group::PodSecurity
                | Group::Image
                | Group::Workload
                | Group::Service
                | Group::NetworkPolicy
                | Group::Admission
                | Group::Namespace
                | Group::Csr
                | Group::Secret
        )
    }
}

impl Group {
    /// The group's bit in a set of groups.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The groups whose facts are read from an event's head, as bits: those that no body is parsed for.
pub fn head_groups() -> u32 {
    GROUPS
        .iter()
        .filter(|group| !group.reads_bodies())
        .fold(0, |groups, group| groups | group.bit())
}

impl Fact {
    pub const COUNT: usize = FACTS.len();

    pub fn info(self) -> &'static FactInfo {
        &FACTS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn parse(name: &str) -> Option<Fact> {
        FACTS
            .iter()
            .find(|info| info.name == name)
            .map(|info| info.fact)
    }
}

const WORDS: usize = 6;
const _: () = assert!(Fact::COUNT <= WORDS * 64, "widen WORDS");

/// A set of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Bits([u64; WORDS]);

impl Bits {
    pub const EMPTY: Bits = Bits([0; WORDS]);

    pub const fn with(mut self, fact: Fact) -> Bits {
        self.0[fact as usize / 64] |= 1 << (fact as usize % 64);
        self
    }

    #[inline]
    pub fn contains(&self, fact: Fact) -> bool {
        self.0[fact as usize / 64] & (1 << (fact as usize % 64)) != 0
    }

    /// Whether none of the facts needs more than 64 bits.
    pub const fn fits_first_word(&self) -> bool {
        let mut word = 1;
        while word < WORDS {
            if self.0[word] != 0 {
                return false;
            }
            word += 1;
        }
        true
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    #[inline]
    pub fn intersects(&self, other: &Bits) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    #[inline]
    pub fn union(&self, other: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The groups that the facts belong to, a bit each.
    pub fn groups(&self) -> u32 {
        GROUPS
            .iter()
            .filter(|group| self.intersects(&group.mask()))
            .fold(0, |groups, group| groups | group.bit())
    }

    /// The facts in both.
    #[inline]
    pub fn within(&self, other: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// The facts in `self` that are not in `other`.
    #[inline]
    pub fn without(&self, other: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    pub fn iter(&self) -> impl Iterator<Item = Fact> {
        FACTS
            .iter()
            .map(|info| info.fact)
            .filter(|fact| self.contains(*fact))
    }
}

impl FromIterator<Fact> for Bits {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Bits {
        facts.into_iter().fold(Bits::EMPTY, Bits::with)
    }
}

/// What is known of every fact: a bit for "known" and one for "true"; a fact never set is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct FactSet {
    known: Bits,
    truths: Bits,
}

impl FactSet {
    /// What is known, and what is true, of the first 64 facts.
    pub(super) fn first_word(&self) -> (u64, u64) {
        (self.known.0[0], self.truths.0[0])
    }

    /// The set with these [`FactSet::first_word`]s.
    pub(super) fn of_first_word((known, truths): (u64, u64)) -> FactSet {
        let mut set = FactSet::default();
        set.known.0[0] = known;
        set.truths.0[0] = truths;
        set
    }

    #[inline]
    pub fn set(&mut self, fact: Fact, truth: impl Into<Truth>) {
        let (word, bit) = (fact as usize / 64, 1 << (fact as usize % 64));
        let truth = truth.into();
        if truth == Truth::Unknown {
            self.known.0[word] &= !bit;
            self.truths.0[word] &= !bit;
        } else {
            self.known.0[word] |= bit;
            if truth == Truth::True {
                self.truths.0[word] |= bit;
            } else {
                self.truths.0[word] &= !bit;
            }
        }
    }

    #[inline]
    pub fn get(&self, fact: Fact) -> Truth {
        if !self.known.contains(fact) {
            Truth::Unknown
        } else {
            self.truths.contains(fact).into()
        }
    }

    /// Whether all of `facts` are known to be true and all of `not` known to be false: `True`;
    /// whether one is known to be otherwise: `False`; else only unknowns stand in the way.
    #[inline]
    pub fn test(&self, facts: &Bits, not: &Bits) -> Truth {
        let known_false = self.known.without(&self.truths);
        if facts.intersects(&known_false) || not.intersects(&self.truths) {
            Truth::False
        } else if facts.without(&self.truths).is_empty() && not.without(&known_false).is_empty() {
            Truth::True
        } else {
            Truth::Unknown
        }
    }

    #[inline]
    pub fn merge(&mut self, other: &FactSet) {
        self.known = self.known.union(&other.known);
        self.truths = self.truths.union(&other.truths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_index_the_table() {
        for (i, info) in FACTS.iter().enumerate() {
            assert_eq!(info.fact as usize, i);
            assert_eq!(Fact::parse(info.name), Some(info.fact));
        }
    }

    #[test]
    fn unknown_is_neither_true_nor_false() {
        let mut set = FactSet::default();
        let succeeded = Bits::EMPTY.with(Fact::Succeeded);
        assert_eq!(set.test(&succeeded, &Bits::EMPTY), Truth::Unknown);
        assert_eq!(set.test(&Bits::EMPTY, &succeeded), Truth::Unknown);
        set.set(Fact::Succeeded, true);
        assert_eq!(set.test(&succeeded, &Bits::EMPTY), Truth::True);
        assert_eq!(set.test(&Bits::EMPTY, &succeeded), Truth::False);
        set.set(Fact::Succeeded, Truth::Unknown);
        assert_eq!(set.get(Fact::Succeeded), Truth::Unknown);
    }
}
