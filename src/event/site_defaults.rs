//! What the lists of [`super::site::Lists`] hold unless the site says otherwise, with the reasons.

/// Microsoft's registry, from which AKS takes its own images, Kubernetes' own, and every Azure
/// Container Registry: a site that owns one should name that one instead.
pub const ALLOWED_REGISTRIES: &[&str] = &["mcr.microsoft.com", "registry.k8s.io", "*.azurecr.io"];

/// Node pools of scale sets, of single machines, and of node auto-provisioning.
pub const NODE_NAMES: &[&str] = &["aks-*", "aks[a-z0-9]*", "akswin*"];

/// What holds credentials, the runtime or the kubelet, or lets code run on the node.
pub const SENSITIVE_HOST_PATHS: &[&str] = &[
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib/modules",
    "/opt/cni",
    "/proc",
    "/root",
    "/run/containerd",
    "/run/docker.sock",
    "/run/dockershim.sock",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/waagent",
    "/var/log",
    "/var/run",
];

/// Each is a known way to the node, or to other pods' traffic.
pub const DANGEROUS_CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
];

/// Data stores and consoles that are met without a password on the internet.
pub const SENSITIVE_APPS: &[&str] = &[
    "airflow*",
    "argo*",
    "consul*",
    "elasticsearch*",
    "etcd*",
    "grafana*",
    "jenkins*",
    "jupyter*",
    "kafka*",
    "kibana*",
    "kubecost*",
    "kubeflow*",
    "*-dashboard",
    "memcached*",
    "minio*",
    "mlflow*",
    "mongo*",
    "mssql*",
    "mysql*",
    "mariadb*",
    "neo4j*",
    "opensearch*",
    "pgadmin*",
    "phpmyadmin*",
    "portainer*",
    "postgres*",
    "prometheus*",
    "rabbitmq*",
    "rancher*",
    "redis*",
    "vault*",
    "weave-scope*",
    "zookeeper*",
];

/// Gatekeeper (which Azure Policy runs on), Kyverno and their like.
pub const POLICY_ENGINES: &[&str] = &[
    "azure-policy*",
    "gatekeeper*",
    "kyverno*",
    "kubewarden*",
    "opa",
    "ratify*",
];

/// Container insights, Defender, Falco and their like.
pub const MONITORING_AGENTS: &[&str] = &[
    "ama-logs*",
    "ama-metrics*",
    "azure-defender*",
    "datadog*",
    "falco*",
    "fluent-bit*",
    "fluentd*",
    "kubearmor*",
    "microsoft-defender*",
    "neuvector*",
    "omsagent*",
    "retina*",
    "sysdig*",
    "tetragon*",
    "twistlock*",
    "wazuh*",
];

/// Matched against the repository's last segments, so `nicolaka/netshoot` also stands for copies
/// of it.
pub const DEBUG_IMAGES: &[&str] = &[
    "alpine",
    "amazonlinux",
    "busybox",
    "busyboxplus",
    "centos",
    "curl",
    "curlimages/*",
    "dnsutils",
    "debian",
    "fedora",
    "kali*",
    "netshoot",
    "network-multitool",
    "tcpdump",
    "toolbox",
    "ubuntu",
];

/// The network of AKS' own load balancers, the last hop of every request.
pub const TRUSTED_HOPS: &[&str] = &["172.31.0.0/16"];

/// Namespaces of Kubernetes, AKS and its add-ons.
pub const PROTECTED_NAMESPACES: &[&str] = &[
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "gatekeeper-system",
    "calico-system",
    "tigera-operator",
    "aks-istio-*",
    "app-routing-system",
    "azure-arc",
];

/// The GitOps controllers of AKS' own extensions (Flux, Argo CD).
pub const DEPLOYERS: &[&str] = &[
    "system:serviceaccount:flux-system:{kustomize,helm,source}-controller",
    "system:serviceaccount:flux-system:fluxconfig-{agent,controller}",
    "system:serviceaccount:argocd:argocd-application-controller",
];
