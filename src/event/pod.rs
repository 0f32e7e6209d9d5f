//! The pod spec within what a request writes: a pod's own, or that of a workload's template.
//!
//! Found in the object that the request leaves behind, at every depth of templates, with the
//! containers of all lists. [`super::pod_security`] and [`super::image`] judge it.

use std::borrow::Cow;

use super::field::FieldValue;
use super::json::Json;
use super::view::{Object, View};
use super::{credential, object};

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

    pub fn any(&self, test: impl Fn(&Json<'_>) -> bool) -> bool {
        self.containers.iter().any(|container| test(container))
    }

    /// Whether a container lacks what keeps it in bounds; a delta shows no lack.
    pub fn lacks(&self, test: impl Fn(&Json<'_>) -> bool) -> bool {
        !self.delta && self.any(test)
    }

    /// The container's setting, else the pod's.
    pub fn effective<'j>(&'j self, container: &'j Json<'_>, key: &str) -> &'j Json<'j> {
        let own = container.get("securityContext").get(key);
        if own.is_null() {
            self.spec.at(&["securityContext", key])
        } else {
            own
        }
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

    pub fn mounted_writable(&self, volume: &str) -> bool {
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

    /// Command and arguments of each container.
    pub fn command_words(&self) -> impl Iterator<Item = Vec<String>> {
        self.containers.iter().map(|c| {
            let words = c.get("command").strings().chain(c.get("args").strings());
            words.map(ToOwned::to_owned).collect()
        })
    }

    /// The same as one line each.
    pub fn commands(&self) -> Vec<String> {
        self.command_words()
            .map(|words| words.join(" "))
            .filter(|line| !line.is_empty())
            .collect()
    }

    pub fn annotated(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.metadata
            .iter()
            .any(|m| m.at(&["annotations", key]).as_str().is_some_and(&test))
    }

    pub fn labelled(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.metadata
            .iter()
            .any(|m| m.at(&["labels", key]).as_str().is_some_and(&test))
    }
}

/// In the kernel's spelling, without `CAP_`.
pub(super) fn capability(name: &str) -> String {
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
pub(super) fn holds(path: &str, other: &str) -> bool {
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
