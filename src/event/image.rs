//! Where the images of a pod or pod template come from, and what they are for.
//!
//! Read from the pod spec that the request writes; see [`super::pod`].

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::FactSet;
use super::fact::{Fact, Group};
use super::field::FieldValue;
use super::pod::{Pod, Written};
use super::view::View;

/// Miners, their pools' protocol and their options.
static MINER: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"(?i)(^|[^a-z])(xmrig|xmr-stak|minerd|cpuminer|ccminer|cgminer|bfgminer|ethminer|nbminer|lolminer|gminer|t-rex-miner|phoenixminer|teamredminer|srbminer|kinsing|kdevtmpfsi|kthreaddi|minergate|crypto-?miner|cryptonight|randomx|moneroocean|supportxmr|minexmr|nanopool|nicehash|hashvault|2miners|f2pool|unmineable)",
        r"|stratum[12]?\+(tcp|ssl|tls|udp)://|--donate-level|--coin[= ](xmr|monero)|(^|[^a-z])monero([^a-z]|$)",
    ))
});

/// Tools made to attack clusters.
static ATTACK_TOOL: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)(^|[^a-z])(kube-hunter|peirates|kubeletctl|kdigger|botb|break-out-the-box|deepce|amicontained|kubesploit|badpods|bad-pods|linpeas|metasploit|msfconsole|meterpreter|cobaltstrike|sliver-(server|client)|mimikatz|azurehound|roadrecon|trufflehog|kubestriker|kubiscan|ctrsploit|cdk-team|weaveworks/scope)([^a-z]|$)",
    )
});

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// An image reference taken apart as the container runtime does.
#[derive(Debug, PartialEq)]
pub(super) struct Image {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: bool,
}

impl Image {
    pub fn parse(reference: &str) -> Image {
        let reference = reference.trim();
        let (name, digest) = match reference.split_once('@') {
            Some((name, digest)) => (name, digest.contains(':')),
            None => (reference, false),
        };
        // A colon before the last slash is a registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (host.to_ascii_lowercase(), rest.to_owned())
            }
            _ => ("docker.io".to_owned(), name.to_owned()),
        };
        let registry = match registry.as_str() {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
                "docker.io".to_owned()
            }
            _ => registry,
        };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        Image {
            registry,
            repository,
            tag,
            digest,
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    fn is_mutable(&self) -> bool {
        !self.digest
            && self
                .tag
                .as_deref()
                .is_none_or(|tag| tag.is_empty() || tag == "latest")
    }
}

fn references<'p>(pod: &'p Pod<'_>) -> impl Iterator<Item = &'p str> {
    pod.containers
        .iter()
        .filter_map(|container| container.get("image").as_str())
        .filter(|image| !image.is_empty())
}

pub(super) fn image_facts(view: &View<'_>, facts: &mut FactSet) {
    let pod = match Pod::written(view) {
        Written::Known(pod) => pod,
        Written::Unknown => return,
        Written::None => {
            for fact in Group::Image.mask().iter() {
                facts.set(fact, false);
            }
            return;
        }
    };
    let images: Vec<Image> = references(&pod).map(Image::parse).collect();
    let lists = &view.site.lists;
    facts.set(
        Fact::ImageForeignRegistry,
        !lists.allowed_registries.is_empty()
            && images.iter().any(|image| {
                !lists.allowed_registries.contains(&image.registry)
                    && !lists.allowed_registries.contains(&image.name())
            }),
    );
    facts.set(Fact::ImageMutable, images.iter().any(Image::is_mutable));
    facts.set(Fact::ImageMiner, mentions(&pod, &MINER));
    facts.set(Fact::ImageAttackTool, mentions(&pod, &ATTACK_TOOL));
    facts.set(
        Fact::ImageDebug,
        images.iter().any(|image| {
            let repository = image.repository.to_ascii_lowercase();
            let last = repository.rsplit('/').next().unwrap_or(&repository);
            lists.debug_images.contains(&repository) || lists.debug_images.contains(last)
        }),
    );
}

/// Whether an image, a command or the value of an environment variable matches.
fn mentions(pod: &Pod<'_>, pattern: &Regex) -> bool {
    references(pod).any(|image| pattern.is_match(image))
        || pod.commands().iter().any(|line| pattern.is_match(line))
        || pod
            .containers
            .iter()
            .flat_map(|c| c.get("env").items())
            .any(|variable| pattern.is_match(variable.get("value").str()))
}

/// `of` each image, once each, in order.
pub(super) fn list(view: &View<'_>, of: ImagePart) -> FieldValue<'static> {
    let mut items: Vec<Cow<'static, str>> = Vec::new();
    if let Written::Known(pod) = Pod::written(view) {
        for reference in references(&pod) {
            let item = match of {
                ImagePart::Reference => reference.to_owned(),
                ImagePart::Repository => Image::parse(reference).name(),
                ImagePart::Registry => Image::parse(reference).registry,
            };
            if !items.iter().any(|known| *known == item) {
                items.push(Cow::Owned(item));
            }
        }
    }
    FieldValue::List(items)
}

#[derive(Clone, Copy)]
pub(super) enum ImagePart {
    Reference,
    Repository,
    Registry,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(reference: &str) -> (String, Option<String>, bool) {
        let image = Image::parse(reference);
        (image.name(), image.tag, image.digest)
    }

    #[test]
    fn references_are_taken_apart() {
        assert_eq!(
            parts("nginx"),
            ("docker.io/library/nginx".into(), None, false)
        );
        assert_eq!(
            parts("bitnami/redis:7"),
            ("docker.io/bitnami/redis".into(), Some("7".into()), false)
        );
        assert_eq!(parts("host:5000/x"), ("host:5000/x".into(), None, false));
        assert_eq!(
            parts("localhost/x:1"),
            ("localhost/x".into(), Some("1".into()), false)
        );
        assert_eq!(
            parts("ACR.azurecr.io/a/b:1@sha256:00"),
            ("acr.azurecr.io/a/b".into(), Some("1".into()), true)
        );
        assert_eq!(
            parts("index.docker.io/library/nginx:1").0,
            "docker.io/library/nginx"
        );
    }

    #[test]
    fn a_port_is_no_tag_and_a_digest_no_latest() {
        assert!(Image::parse("host:5000/x").is_mutable());
        assert!(Image::parse("x:latest").is_mutable());
        assert!(!Image::parse("x:latest@sha256:00").is_mutable());
        assert!(!Image::parse("x:1.2").is_mutable());
    }

    #[test]
    fn miners_and_tools_are_named_as_words() {
        assert!(MINER.is_match("./app -o stratum+tcp://pool:3333 -u x"));
        assert!(MINER.is_match("docker.io/evil/xmrig:6"));
        assert!(!MINER.is_match("registry/examiner:1"));
        assert!(ATTACK_TOOL.is_match("aquasec/kube-hunter:0.6"));
        assert!(!ATTACK_TOOL.is_match("contoso/robotb:1"));
    }
}
