//! How services and ingresses open the cluster.
//!
//! Read from the object that the request leaves behind.

use std::borrow::Cow;

use ipnet::IpNet;

use super::fact::{Fact, Group};
use super::field::FieldValue;
use super::json::Json;
use super::site::Names;
use super::view::{Object, View};
use super::{FactSet, Truth, object};

const INTERNAL: &str = "service.beta.kubernetes.io/azure-load-balancer-internal";

/// Annotations by which Azure restricts who reaches a load balancer.
const RESTRICTIONS: &[&str] = &[
    "service.beta.kubernetes.io/azure-allowed-ip-ranges",
    "service.beta.kubernetes.io/azure-allowed-service-tags",
];

pub(super) fn service_facts(view: &View<'_>, facts: &mut FactSet) {
    let (services, ingresses) = (
        view.resource() == "services",
        view.resource() == "ingresses",
    );
    // A patch of a label leaves a service as open as it was.
    let written = view.touches("spec") || view.subresource() == "status" || reopens(view);
    if !services && !ingresses || !written {
        for fact in Group::Service.mask().iter() {
            facts.set(fact, false);
        }
        return;
    }
    let object = object::effective(view);
    let mut set = |fact: Fact, applies: bool, judge: &dyn Fn(&Json<'_>) -> bool| {
        facts.set(
            fact,
            if applies {
                object.judge(judge)
            } else {
                Truth::False
            },
        );
    };
    set(Fact::ServiceLoadBalancer, services, &|o| {
        kind(o) == "LoadBalancer"
    });
    set(Fact::ServicePublic, services, &is_public);
    set(Fact::ServiceNodePort, services, &|o| kind(o) == "NodePort");
    set(Fact::ServiceExternalIps, services, &|o| {
        !o.at(&["spec", "externalIPs"]).items().is_empty()
    });
    set(Fact::ServiceExternalName, services, &|o| {
        kind(o) == "ExternalName"
    });
    set(Fact::ServiceSshPort, services, &|o| {
        o.at(&["spec", "ports"])
            .items()
            .iter()
            .any(|p| is_ssh(p.get("port")) || is_ssh(p.get("targetPort")))
    });
    let apps = &view.site.lists.sensitive_apps;
    set(Fact::ServiceSensitiveApp, services, &|o| {
        apps.contains(view.name())
            || [o.at(&["metadata", "labels"]), o.at(&["spec", "selector"])]
                .iter()
                .any(|labels| object::application_labels(labels).any(|label| apps.contains(label)))
    });
    let delta = object::is_delta(view);
    set(
        Fact::IngressNoTls,
        ingresses && view.touches("spec"),
        &|o| {
            let spec = o.get("spec");
            match spec.get("tls") {
                Json::Null => !delta && !spec.is_null(),
                tls => tls.items().is_empty(),
            }
        },
    );
    set(Fact::IngressHttpApplicationRouting, ingresses, &|o| {
        const CLASS: &str = "addon-http-application-routing";
        o.at(&["spec", "ingressClassName"]).str() == CLASS
            || o.at(&["metadata", "annotations", "kubernetes.io/ingress.class"])
                .str()
                == CLASS
    });
    set(Fact::IngressSensitiveApp, ingresses, &|o| {
        backends(o).iter().any(|name| names(apps, name))
    });
    facts.set(
        Fact::ServiceLoadBalancerStatus,
        services && view.subresource() == "status" && view.touches("status"),
    );
}

/// Whether a patch names an annotation that decides who reaches a load balancer or which
/// controller serves an ingress.
fn reopens(view: &View<'_>) -> bool {
    let decides = |key: &str| {
        key == INTERNAL || RESTRICTIONS.contains(&key) || key == "kubernetes.io/ingress.class"
    };
    object::asked(view).is_some_and(|request| {
        request
            .at(&["metadata", "annotations"])
            .entries()
            .iter()
            .any(|(key, _)| decides(key))
    }) || object::removed(view, "/metadata/annotations/")
        .iter()
        .any(|key| decides(key))
}

/// Whether a name, or one without the release in front of it, is on the list.
fn names(list: &Names, name: &str) -> bool {
    list.contains(name)
        || name
            .split_once('-')
            .is_some_and(|(_, rest)| list.contains(rest))
}

fn kind<'j>(object: &'j Json<'_>) -> &'j str {
    object.at(&["spec", "type"]).str()
}

fn is_public(object: &Json<'_>) -> bool {
    let annotation = |key: &str| object.at(&["metadata", "annotations", key]).str();
    let ranges = object.at(&["spec", "loadBalancerSourceRanges"]);
    kind(object) == "LoadBalancer"
        && !annotation(INTERNAL).eq_ignore_ascii_case("true")
        && RESTRICTIONS.iter().all(|key| annotation(key).is_empty())
        && (ranges.items().is_empty()
            || ranges.strings().any(|range| {
                range
                    .trim()
                    .parse::<IpNet>()
                    .is_ok_and(|net| net.prefix_len() == 0)
            }))
}

fn is_ssh(port: &Json<'_>) -> bool {
    port.as_i64() == Some(22) || matches!(port.str(), "22" | "ssh")
}

/// Names of the services that an ingress leads to, in both API versions.
fn backends<'j>(object: &'j Json<'_>) -> Vec<&'j str> {
    let spec = object.get("spec");
    let paths = spec
        .get("rules")
        .items()
        .iter()
        .flat_map(|rule| rule.at(&["http", "paths"]).items())
        .map(|path| path.get("backend"));
    [spec.get("defaultBackend"), spec.get("backend")]
        .into_iter()
        .chain(paths)
        .map(|backend| {
            let name = backend.at(&["service", "name"]).str();
            if name.is_empty() {
                backend.get("serviceName").str()
            } else {
                name
            }
        })
        .filter(|name| !name.is_empty())
        .collect()
}

pub(super) fn service_type(view: &View<'_>) -> FieldValue<'static> {
    let text = match object::effective(view) {
        Object::Known(object) => kind(object).to_owned(),
        _ => String::new(),
    };
    FieldValue::Str(Cow::Owned(text))
}

pub(super) fn ports(view: &View<'_>) -> FieldValue<'static> {
    strings(view, |object| {
        object
            .at(&["spec", "ports"])
            .items()
            .iter()
            .filter_map(|port| port.get("port").as_i64())
            .map(|port| port.to_string())
            .collect()
    })
}

pub(super) fn hosts(view: &View<'_>) -> FieldValue<'static> {
    strings(view, |object| {
        object
            .at(&["spec", "rules"])
            .items()
            .iter()
            .map(|rule| rule.get("host").str().to_owned())
            .filter(|host| !host.is_empty())
            .collect()
    })
}

fn strings(view: &View<'_>, items: impl Fn(&Json<'_>) -> Vec<String>) -> FieldValue<'static> {
    let items = object::effective(view)
        .known()
        .map(items)
        .unwrap_or_default();
    FieldValue::List(items.into_iter().map(Cow::Owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(&Json::parse(text).expect("valid JSON"))
    }

    #[test]
    fn only_an_open_load_balancer_is_public() {
        assert!(public(r#"{"spec":{"type":"LoadBalancer"}}"#));
        assert!(public(
            r#"{"spec":{"type":"LoadBalancer","loadBalancerSourceRanges":["0.0.0.0/0"]}}"#
        ));
        assert!(!public(
            r#"{"spec":{"type":"LoadBalancer","loadBalancerSourceRanges":["203.0.113.0/24"]}}"#
        ));
        assert!(!public(
            r#"{"metadata":{"annotations":{"service.beta.kubernetes.io/azure-load-balancer-internal":"true"}},"spec":{"type":"LoadBalancer"}}"#
        ));
        assert!(public(
            r#"{"metadata":{"annotations":{"service.beta.kubernetes.io/azure-load-balancer-internal":"false"}},"spec":{"type":"LoadBalancer"}}"#
        ));
        assert!(!public(r#"{"spec":{"type":"ClusterIP"}}"#));
    }

    #[test]
    fn backends_of_both_api_versions_are_found() {
        let old = Json::parse(
            r#"{"spec":{"rules":[{"http":{"paths":[{"backend":{"serviceName":"a"}}]}}]}}"#,
        )
        .expect("valid JSON");
        let new = Json::parse(r#"{"spec":{"defaultBackend":{"service":{"name":"b"}}}}"#)
            .expect("valid JSON");
        assert_eq!((backends(&old), backends(&new)), (vec!["a"], vec!["b"]));
    }
}
