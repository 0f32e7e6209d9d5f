//! What a NetworkPolicy lets through, by arithmetic on its address blocks.
//!
//! Read from the object that the request leaves behind; of a delete, from the policy's name.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::fact::{Fact, Group};
use super::json::Json;
use super::view::View;
use super::{FactSet, Truth, object};

/// Azure's instance metadata endpoint.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

pub(super) fn network_policy_facts(view: &View<'_>, facts: &mut FactSet) {
    if view.resource() != "networkpolicies" {
        for fact in Group::NetworkPolicy.mask().iter() {
            facts.set(fact, false);
        }
        return;
    }
    let object = object::effective(view);
    let allow_all = object.judge(|policy| {
        rules(policy, Direction::Ingress).any(|r| lets_all(r, Direction::Ingress))
            || rules(policy, Direction::Egress).any(|r| lets_all(r, Direction::Egress))
    });
    facts.set(Fact::NetworkPolicyAllowAll, allow_all);
    facts.set(
        Fact::NetworkPolicyLoosened,
        if takes_away(view) {
            Truth::True
        } else {
            allow_all
        },
    );
    facts.set(
        Fact::NetworkPolicyOpensMetadata,
        object.judge(|policy| rules(policy, Direction::Egress).any(reaches_metadata)),
    );
    facts.set(
        Fact::NetworkPolicyOpensSsh,
        object.judge(|policy| {
            rules(policy, Direction::Ingress)
                .chain(rules(policy, Direction::Egress))
                .any(|rule| !rule.get("ports").items().is_empty() && admits(rule, 22, "ssh"))
        }),
    );
    let guards_by_name = {
        let name = view.name().to_ascii_lowercase();
        name.contains("imds")
            || (name.contains("metadata")
                && ["deny", "block", "no-", "restrict"]
                    .iter()
                    .any(|word| name.contains(word)))
    };
    facts.set(
        Fact::NetworkPolicyGuardsMetadata,
        if guards_by_name {
            Truth::True
        } else {
            // A delete may answer with what it deleted.
            match view.response_object() {
                Some(deleted) if view.event.verb == "delete" => excepts_metadata(deleted).into(),
                _ => object.judge(excepts_metadata),
            }
        },
    );
}

fn rules<'j>(policy: &'j Json<'_>, direction: Direction) -> impl Iterator<Item = &'j Json<'j>> {
    let (key, kind) = match direction {
        Direction::Ingress => ("ingress", "Ingress"),
        Direction::Egress => ("egress", "Egress"),
    };
    let kinds = policy.at(&["spec", "policyTypes"]);
    // Rules of a type that the policy does not have are not applied.
    let applies = kinds.items().is_empty() || kinds.strings().any(|k| k == kind);
    let rules: &'j [Json<'j>] = if applies {
        policy.at(&["spec", key]).items()
    } else {
        &[]
    };
    rules.iter()
}

fn peers<'j>(rule: &'j Json<'_>, direction: Direction) -> &'j [Json<'j>] {
    match direction {
        Direction::Ingress => rule.get("from").items(),
        Direction::Egress => rule.get("to").items(),
    }
}

/// Every address on every port.
fn lets_all(rule: &Json<'_>, direction: Direction) -> bool {
    let peers = peers(rule, direction);
    rule.get("ports").items().is_empty()
        && (peers.is_empty()
            || peers.iter().any(|peer| {
                let block = peer.get("ipBlock");
                network(block.get("cidr")).is_some_and(|net| net.prefix_len() == 0)
                    && block.get("except").items().is_empty()
            }))
}

fn reaches_metadata(rule: &Json<'_>) -> bool {
    let ports = rule.get("ports").items();
    let peers = peers(rule, Direction::Egress);
    (ports.is_empty() || admits(rule, 80, "http"))
        && (peers.is_empty()
            || peers.iter().any(|peer| {
                let block = peer.get("ipBlock");
                holds_metadata(block.get("cidr"))
                    && !block.get("except").items().iter().any(holds_metadata)
            }))
}

fn excepts_metadata(policy: &Json<'_>) -> bool {
    policy
        .at(&["spec", "egress"])
        .items()
        .iter()
        .flat_map(|rule| rule.get("to").items())
        .flat_map(|peer| peer.at(&["ipBlock", "except"]).items())
        .any(holds_metadata)
}

fn network(cidr: &Json<'_>) -> Option<IpNet> {
    cidr.str().trim().parse().ok()
}

fn holds_metadata(cidr: &Json<'_>) -> bool {
    network(cidr).is_some_and(|net| net.contains(&METADATA))
}

/// Whether the rule names a TCP port or a range that holds it.
fn admits(rule: &Json<'_>, port: i64, name: &str) -> bool {
    rule.get("ports").items().iter().any(|p| {
        let (first, last) = (p.get("port"), p.get("endPort").as_i64());
        matches!(p.get("protocol").str(), "" | "TCP")
            && (first.is_null()
                || first.str() == name
                || first.as_i64().is_some_and(|first| {
                    first == port || (first..=last.unwrap_or(first)).contains(&port)
                }))
    })
}

/// Whether a patch takes a policy type or an exception away.
fn takes_away(view: &View<'_>) -> bool {
    if view.event.verb != "patch" {
        return false;
    }
    let Some(request) = view.request_object() else {
        return false;
    };
    match request {
        Json::Array(steps) => steps.iter().any(|step| {
            let path = step.get("path").str();
            match step.get("op").str() {
                "remove" => path.contains("/policyTypes") || path.contains("/except"),
                "replace" => path == "/spec/policyTypes" && step.get("value").items().len() < 2,
                _ => false,
            }
        }),
        delta => {
            let spec = delta.get("spec");
            // A server-side apply repeats the types that the policy has.
            delta.get("kind").is_null()
                && spec
                    .entries()
                    .iter()
                    .any(|(key, value)| key == "policyTypes" && value.items().len() < 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> Json<'_> {
        Json::parse(spec).expect("valid JSON")
    }

    fn opens_metadata(text: &str) -> bool {
        let policy = policy(text);
        rules(&policy, Direction::Egress).any(reaches_metadata)
    }

    #[test]
    fn an_empty_list_denies_and_an_empty_rule_allows() {
        let deny = policy(r#"{"spec":{"policyTypes":["Ingress"],"ingress":[]}}"#);
        assert!(!rules(&deny, Direction::Ingress).any(|r| lets_all(r, Direction::Ingress)));
        let allow = policy(r#"{"spec":{"policyTypes":["Ingress"],"ingress":[{}]}}"#);
        assert!(rules(&allow, Direction::Ingress).any(|r| lets_all(r, Direction::Ingress)));
        let other = policy(r#"{"spec":{"policyTypes":["Egress"],"ingress":[{}]}}"#);
        assert!(!rules(&other, Direction::Ingress).any(|r| lets_all(r, Direction::Ingress)));
    }

    #[test]
    fn the_metadata_endpoint_is_found_in_any_block() {
        for cidr in [
            "0.0.0.0/0",
            "169.254.0.0/16",
            "169.254.169.254/32",
            "128.0.0.0/1",
        ] {
            let text = format!(
                r#"{{"spec":{{"egress":[{{"to":[{{"ipBlock":{{"cidr":"{cidr}"}}}}]}}]}}}}"#
            );
            assert!(opens_metadata(&text), "{cidr}");
        }
        for text in [
            r#"{"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"0.0.0.0/0","except":["169.254.169.254/32"]}}]}]}}"#,
            r#"{"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"0.0.0.0/0","except":["169.254.0.0/16"]}}]}]}}"#,
            r#"{"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}]}}"#,
            r#"{"spec":{"egress":[{"ports":[{"protocol":"UDP","port":53}]}]}}"#,
            r#"{"spec":{"egress":[{"to":[{"ipBlock":{"cidr":"0.0.0.0/0"}}],"ports":[{"protocol":"TCP","port":443}]}]}}"#,
            r#"{"spec":{"egress":[]}}"#,
        ] {
            assert!(!opens_metadata(text), "{text}");
        }
    }

    #[test]
    fn ranges_hold_ports() {
        let rule = policy(r#"{"ports":[{"port":20,"endPort":25}]}"#);
        assert!(admits(&rule, 22, "ssh"));
        assert!(!admits(&rule, 80, "http"));
    }
}
