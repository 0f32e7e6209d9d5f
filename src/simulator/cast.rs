//! What runs in every simulated cluster: components with their accounts, and teams' workloads.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    Kustomize,
    Helm,
    CertManager,
    Ingress,
    Prometheus,
    MetricsServer,
    KubeStateMetrics,
    CoreDns,
    CsiDisk,
    CloudNode,
    AmaLogs,
    Gatekeeper,
    AzurePolicy,
    Velero,
    ExternalDns,
    Keda,
    ArgoCd,
    ExternalSecrets,
    Kyverno,
    PrometheusKeeper,
    Scanner,
}

impl Operator {
    pub fn is_of_grown_clusters(self) -> bool {
        matches!(
            self,
            Operator::ArgoCd
                | Operator::ExternalSecrets
                | Operator::Kyverno
                | Operator::PrometheusKeeper
                | Operator::Scanner
        )
    }
}

/// Where an operator runs, as whom, by which program, and by which binding it may.
pub const OPERATORS: [(Operator, &str, &str, &str, &str); 21] = [
    (
        Operator::Kustomize,
        "flux-system",
        "kustomize-controller",
        "kustomize-controller/v1.5.1",
        "cluster-reconciler",
    ),
    (
        Operator::Helm,
        "flux-system",
        "helm-controller",
        "helm-controller/v1.2.0",
        "cluster-reconciler",
    ),
    (
        Operator::CertManager,
        "cert-manager",
        "cert-manager",
        "cert-manager-controller/v1.17.1 (linux/amd64) cert-manager/8ec25b2",
        "cert-manager-controller",
    ),
    (
        Operator::Ingress,
        "ingress-nginx",
        "ingress-nginx",
        "nginx-ingress-controller/v1.12.1 (linux/amd64) ingress-nginx/51c2b81",
        "ingress-nginx",
    ),
    (
        Operator::Prometheus,
        "monitoring",
        "prometheus",
        "Prometheus/3.3.0",
        "prometheus",
    ),
    (
        Operator::MetricsServer,
        "kube-system",
        "metrics-server",
        "metrics-server/v0.7.2 (linux/amd64) kubernetes/$Format",
        "system:metrics-server",
    ),
    (
        Operator::KubeStateMetrics,
        "monitoring",
        "kube-state-metrics",
        "kube-state-metrics/v2.15.0",
        "kube-state-metrics",
    ),
    (
        Operator::CoreDns,
        "kube-system",
        "coredns",
        "coredns/v0.0.0 (linux/amd64) kubernetes/$Format",
        "system:coredns",
    ),
    (
        Operator::CsiDisk,
        "kube-system",
        "csi-azuredisk-node-sa",
        "azurediskplugin/v1.31.3 (linux/amd64) kubernetes/$Format",
        "csi-azuredisk-node-secret-binding",
    ),
    (
        Operator::CloudNode,
        "kube-system",
        "cloud-node-manager",
        "cloud-node-manager/v1.32.3 (linux/amd64) kubernetes/$Format",
        "cloud-node-manager",
    ),
    (
        Operator::AmaLogs,
        "kube-system",
        "ama-logs",
        "ama-logs/3.1.26",
        "amalogsclusterrolebinding",
    ),
    (
        Operator::Gatekeeper,
        "gatekeeper-system",
        "gatekeeper-admin",
        "gatekeeper/v3.18.2 (linux/amd64) a27d2b6",
        "gatekeeper-manager-rolebinding",
    ),
    (
        Operator::AzurePolicy,
        "kube-system",
        "azure-policy",
        "policy-kubernetes-addon-prod/1.10.1",
        "policy-agent",
    ),
    (
        Operator::Velero,
        "velero",
        "velero",
        "velero-server/v1.16.0 (linux/amd64) 8f31599",
        "velero",
    ),
    (
        Operator::ExternalDns,
        "external-dns",
        "external-dns",
        "external-dns/v0.16.1",
        "external-dns-viewer",
    ),
    (
        Operator::Keda,
        "keda",
        "keda-operator",
        "keda/v2.16.1 (linux/amd64) kubernetes/$Format",
        "keda-operator",
    ),
    (
        Operator::ArgoCd,
        "argocd",
        "argocd-application-controller",
        "argocd-application-controller/v0.0.0 (linux/amd64) kubernetes/$Format",
        "argocd-application-controller",
    ),
    (
        Operator::ExternalSecrets,
        "external-secrets",
        "external-secrets",
        "external-secrets/v0.0.0 (linux/amd64) kubernetes/$Format",
        "external-secrets-controller",
    ),
    (
        Operator::Kyverno,
        "kyverno",
        "kyverno-admission-controller",
        "kyverno/v0.0.0 (linux/amd64) kubernetes/$Format",
        "kyverno:admission-controller",
    ),
    (
        Operator::PrometheusKeeper,
        "monitoring",
        "prometheus-operator",
        "PrometheusOperator/0.82.0",
        "prometheus-operator",
    ),
    (
        Operator::Scanner,
        "trivy-system",
        "trivy-operator",
        "trivy-operator/v0.0.0 (linux/amd64) kubernetes/$Format",
        "trivy-operator",
    ),
];

/// Teams' namespaces and what runs in them.
pub const WORKLOADS: [(&str, &[&str]); 12] = [
    ("payments", &["ledger", "payout", "fraud-score"]),
    ("checkout", &["cart", "pricing"]),
    ("catalog", &["search", "indexer", "images"]),
    ("orders", &["intake", "fulfilment"]),
    ("identity", &["login", "profile"]),
    ("web", &["storefront", "edge"]),
    ("etl", &["loader", "transform"]),
    ("ml", &["ranker"]),
    ("notify", &["mailer", "sms"]),
    ("partners", &["feed"]),
    ("support", &["tickets"]),
    ("reports", &["nightly", "export"]),
];

/// Present in every world, so that attacks always find something to aim at.
pub const WORKLOAD_OF_TESTS: (&str, &str) = ("payments", "ledger");
