//! The client by its user agent, which says what it likes: a signal where it admits something, no
//! proof of anything.

use super::view::View;
use super::{Fact, FactSet};

/// What a user agent admits to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Missing,
    Kubectl,
    /// A script's library or a command-line HTTP client.
    Scripted,
    /// Go's default, which some controllers use as well.
    GoDefault,
    Offensive,
    Browser,
    /// What pipelines deploy with, and people too.
    Deploying,
    /// Anything else: mostly a component that names itself.
    Component,
}

/// First products of scripting libraries and command-line HTTP clients, in lower case.
const SCRIPTED: [&str; 44] = [
    "aiohttp",
    "apache-httpclient",
    "axios",
    "boto3",
    "botocore",
    "bruno",
    "bun",
    "curl",
    "deno",
    "fasthttp",
    "faraday",
    "go-resty",
    "grequests",
    "guzzlehttp",
    "httpie",
    "http.rb",
    "httpx",
    "insomnia",
    "java",
    "jakarta",
    "kubernetes-client",
    "libcurl",
    "libwww-perl",
    "lua-resty-http",
    "lwp",
    "lwp-request",
    "mechanize",
    "node",
    "node-fetch",
    "okhttp",
    "openapi-generator",
    "perl",
    "php",
    "postmanruntime",
    "pycurl",
    "python",
    "reqwest",
    "restsharp",
    "rest-client",
    "ruby",
    "swagger-codegen",
    "undici",
    "wget",
    "xh",
];

/// First products of tools that pipelines and people deploy with, in lower case. No component of the
/// platform calls itself so.
const DEPLOYING: [&str; 12] = [
    "ansible",
    "argocd",
    "flux",
    "hashicorp",
    "helm",
    "helmfile",
    "kapp",
    "kustomize",
    "pulumi",
    "skaffold",
    "terraform",
    "tilt",
];

/// Parts of the names of tools that attack, enumerate or steal, in lower case.
const OFFENSIVE: [&str; 34] = [
    "azurehound",
    "bloodhound",
    "botb",
    "cdk/",
    "crackmapexec",
    "deepce",
    "dirbuster",
    "ffuf",
    "gobuster",
    "hydra",
    "jaeles",
    "kali",
    "kdigger",
    "kube-hunter",
    "kubehunter",
    "kubeletctl",
    "kubeletmein",
    "kubesploit",
    "kubestriker",
    "masscan",
    "metasploit",
    "microburst",
    "netexec",
    "nikto",
    "nmap",
    "nuclei",
    "peirates",
    "red-kube",
    "roadrecon",
    "roadtools",
    "sqlmap",
    "stratus-red-team",
    "trufflehog",
    "zgrab",
];

impl Family {
    pub fn of(user_agent: &str) -> Family {
        let agent = user_agent.trim();
        if agent.is_empty() {
            return Family::Missing;
        }
        let agent = agent.to_ascii_lowercase();
        if OFFENSIVE.iter().any(|tool| agent.contains(tool)) {
            return Family::Offensive;
        }
        let product = product(&agent);
        if product.starts_with("kubectl")
            || product == "oc"
            || matches!(
                product,
                "k9s" | "lens" | "freelens" | "openlens" | "headlamp" | "octant" | "stern"
            )
        {
            return Family::Kubectl;
        }
        if product == "go-http-client" {
            return Family::GoDefault;
        }
        if SCRIPTED.contains(&product)
            || product.starts_with("python")
            || product.contains("powershell")
            || agent.contains("windowspowershell")
            || agent.contains("/python")
            || product.starts_with("websocket-client")
        {
            return Family::Scripted;
        }
        if product == "mozilla" || product == "opera" {
            return Family::Browser;
        }
        if DEPLOYING.contains(&product) {
            return Family::Deploying;
        }
        Family::Component
    }
}

/// The first product's name, without its version.
pub(crate) fn product(user_agent: &str) -> &str {
    user_agent
        .trim_start()
        .split(['/', ' ', '('])
        .next()
        .unwrap_or("")
}

/// The first product's version; empty where it names none.
pub(super) fn version(user_agent: &str) -> &str {
    let rest = &user_agent.trim_start()[product(user_agent).len()..];
    rest.strip_prefix('/')
        .and_then(|rest| rest.split([' ', '(', '/']).next())
        .unwrap_or("")
}

/// The minor version of a component of Kubernetes; 0 where the version is not written as one's.
pub(super) fn kubernetes_minor(user_agent: &str) -> i64 {
    version(user_agent)
        .strip_prefix("v1.")
        .and_then(|rest| rest.split(['.', '-', '+']).next())
        .and_then(|minor| minor.parse().ok())
        .filter(|minor| (0..1000).contains(minor))
        .unwrap_or(0)
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let agent = view.event.user_agent.as_ref();
    let family = view.family();
    facts.set(Fact::AgentKubectl, family == Family::Kubectl);
    // People have no reason to use Go's bare client; controllers have.
    let bare = family == Family::GoDefault && view.is(Fact::ActorHuman);
    facts.set(Fact::AgentScripted, family == Family::Scripted || bare);
    facts.set(Fact::AgentOffensive, family == Family::Offensive);
    facts.set(Fact::AgentGoDefault, family == Family::GoDefault);
    facts.set(Fact::AgentBrowser, family == Family::Browser);
    facts.set(
        Fact::AgentTool,
        !matches!(
            family,
            Family::Component | Family::GoDefault | Family::Deploying
        ),
    );
    facts.set(Fact::AgentTruncated, agent.ends_with("...TRUNCATED"));
    facts.set(Fact::AgentMissing, family == Family::Missing);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_first_product() {
        for (agent, found, minor) in [
            (
                "kubelet/v1.29.4 (linux/amd64) kubernetes/55019c8",
                "v1.29.4",
                29,
            ),
            (" kubelet/v1.9.0-alpha+x", "v1.9.0-alpha+x", 9),
            ("curl/8.9.1", "8.9.1", 0),
            ("kubelet", "", 0),
            ("kubelet/v1.x", "v1.x", 0),
            ("kubelet/v1.-3", "v1.-3", 0),
            ("é/v1.30", "v1.30", 30),
            ("", "", 0),
        ] {
            assert_eq!(version(agent), found, "{agent}");
            assert_eq!(kubernetes_minor(agent), minor, "{agent}");
        }
    }

    #[test]
    fn families_are_told_by_the_first_product() {
        for (agent, family) in [
            ("", Family::Missing),
            (
                "kubectl/v1.34.1 (linux/amd64) kubernetes/abc",
                Family::Kubectl,
            ),
            ("kubectl-ns/v0", Family::Kubectl),
            ("curl/8.9.1", Family::Scripted),
            ("OpenAPI-Generator/31.0.0/python", Family::Scripted),
            ("python-requests/2.32.0", Family::Scripted),
            (
                "Mozilla/5.0 (Windows NT 10.0) WindowsPowerShell/5.1.19041",
                Family::Scripted,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
                Family::Browser,
            ),
            ("Go-http-client/2.0", Family::GoDefault),
            ("kube-hunter/0.7", Family::Offensive),
            ("Kali Linux tool", Family::Offensive),
            ("metrics-server/v0.7.0", Family::Component),
            ("nodejs-operator/1.0", Family::Component),
            ("Helm/3.17.3", Family::Deploying),
            (
                "HashiCorp/1.0 Terraform/1.12.2 terraform-provider-kubernetes/2.38",
                Family::Deploying,
            ),
            ("helm-controller/v1.4.0", Family::Component),
            ("stern/v1.32.0", Family::Kubectl),
        ] {
            assert_eq!(Family::of(agent), family, "{agent}");
        }
    }
}
