//! Where the request came from: the client's address and its class.
//!
//! `sourceIPs` is the proxy chain: what stands before the client's own address the client may have
//! sent itself (`X-Forwarded-For`, `X-Real-Ip`). AKS appends its own hop.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use super::view::View;
use super::{Fact, FactSet, Truth};

/// What an address says about where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Unknown,
    Loopback,
    LinkLocal,
    Private,
    /// 100.64.0.0/10, as carriers and private link use it.
    Shared,
    Public,
}

impl Class {
    pub fn of(address: Option<IpAddr>) -> Class {
        match address.map(|address| address.to_canonical()) {
            None => Class::Unknown,
            Some(address) if address.is_unspecified() => Class::Unknown,
            Some(address) if address.is_loopback() => Class::Loopback,
            Some(IpAddr::V4(v4)) => match v4.octets() {
                [100, 64..=127, ..] => Class::Shared,
                _ if v4.is_link_local() => Class::LinkLocal,
                _ if v4.is_private() => Class::Private,
                _ => Class::Public,
            },
            Some(IpAddr::V6(v6)) => {
                if v6.is_unicast_link_local() {
                    Class::LinkLocal
                } else if v6.is_unique_local() {
                    Class::Private
                } else {
                    Class::Public
                }
            }
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Class::Unknown => "unknown",
            Class::Loopback => "loopback",
            Class::LinkLocal => "link_local",
            Class::Private => "private",
            Class::Shared => "shared",
            Class::Public => "public",
        }
    }
}

/// The client's place in `sourceIPs` and its address: the right-most that is no trusted hop, or the
/// left-most where all are.
pub(super) fn locate(view: &View<'_>) -> Option<(usize, IpAddr)> {
    let known = || {
        view.event
            .source_ips
            .iter()
            .enumerate()
            .filter_map(|(i, text)| {
                let address = text.trim().parse::<IpAddr>().ok()?;
                Some((i, address.to_canonical()))
            })
    };
    known()
        .rev()
        .find(|(_, address)| !view.site.lists.trusted_hops.contains(*address))
        .or_else(|| known().next())
}

/// The network that stands for an address in baselines: /24 of IPv4, /48 of IPv6.
pub(super) fn network(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length)
        .ok()
        .map(|network| network.trunc())
}

/// The client's address as text; empty where none is known.
pub(super) fn address_text<'v>(view: &'v View<'_>) -> Cow<'v, str> {
    match view.located() {
        None => Cow::Borrowed(""),
        // An IPv4 address is only read where it is written as it would be here.
        Some((place, IpAddr::V4(_))) if is_plain(&view.event.source_ips[place]) => {
            Cow::Borrowed(&view.event.source_ips[place])
        }
        Some((_, address)) => Cow::Owned(address.to_string()),
    }
}

fn is_plain(address: &str) -> bool {
    address
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The client's [`network`] as text; empty where no address is known.
pub(super) fn network_text(view: &View<'_>) -> String {
    match view.client() {
        None => String::new(),
        Some(IpAddr::V4(_)) => {
            let address = address_text(view);
            let (network, _) = address.rsplit_once('.').unwrap_or_default();
            format!("{network}.0/24")
        }
        Some(address) => network(address).map_or(String::new(), |network| network.to_string()),
    }
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let client = view.client();
    let class = Class::of(client);
    for (fact, of) in [
        (Fact::SourceIpUnknown, Class::Unknown),
        (Fact::SourceIpLoopback, Class::Loopback),
        (Fact::SourceIpLinkLocal, Class::LinkLocal),
        (Fact::SourceIpPrivate, Class::Private),
        (Fact::SourceIpShared, Class::Shared),
        (Fact::SourceIpPublic, Class::Public),
    ] {
        // Of a record without an address nothing else is known.
        let truth = if class == Class::Unknown && fact != Fact::SourceIpUnknown {
            Truth::Unknown
        } else {
            Truth::from(class == of)
        };
        facts.set(fact, truth);
    }
    let lists = &view.site.lists;
    let within = |networks: &super::site::Networks| match client {
        Some(client) => Truth::from(networks.contains(client)),
        None if networks.is_empty() => Truth::False,
        None => Truth::Unknown,
    };
    facts.set(Fact::SourceIpTrusted, within(&lists.trusted_networks));
    facts.set(Fact::SourceIpNode, within(&lists.node_networks));
    facts.set(Fact::SourceIpThreat, within(&lists.threat_networks));
    let untrusted = match client {
        // Nothing is outside of what nobody named; unknown is what this record does not say.
        _ if lists.trusted_networks.is_empty() => Truth::False,
        Some(client) => Truth::from(
            class != Class::Loopback
                && !lists.trusted_networks.contains(client)
                && !lists.node_networks.contains(client),
        ),
        None => Truth::Unknown,
    };
    facts.set(Fact::SourceIpUntrusted, untrusted);
    facts.set(
        Fact::SourceIpForged,
        view.located().is_some_and(|(place, _)| place > 0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AuditEvent, Category, Origin, Site};

    #[test]
    fn classes_cover_the_special_ranges() {
        for (address, class) in [
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("169.254.169.254", "link_local"),
            ("fe80::1", "link_local"),
            ("10.244.0.7", "private"),
            ("172.31.9.9", "private"),
            ("172.32.0.1", "public"),
            ("192.168.1.1", "private"),
            ("fd12::1", "private"),
            ("100.64.0.1", "shared"),
            ("100.128.0.1", "public"),
            ("::ffff:10.0.0.1", "private"),
            ("203.0.113.5", "public"),
            ("2001:db8::1", "public"),
            ("0.0.0.0", "unknown"),
        ] {
            let parsed = address.parse().expect("a literal address");
            assert_eq!(Class::of(Some(parsed)).as_str(), class, "{address}");
        }
        assert_eq!(Class::of(None), Class::Unknown);
    }

    #[test]
    fn an_address_is_told_as_it_would_be_written() {
        for text in [
            "203.0.113.77",
            " 203.0.113.77\t",
            "::ffff:203.0.113.77",
            "::FFFF:cb00:714d",
            "203.0.113.077",
            "203.0.113",
            "2001:DB8:0:1::9",
            "",
            "x",
        ] {
            let event = AuditEvent {
                source_ips: vec![text.into()],
                ..AuditEvent::default()
            };
            let origin = Origin {
                cluster: "c".into(),
                category: Category::KubeAudit,
                time: None,
            };
            let site = Site::default();
            let view = View::new(&event, &origin, &site);
            let address = text.trim().parse::<IpAddr>();
            let address = address.ok().map(|address| address.to_canonical());
            let written = |text: Option<String>| text.unwrap_or_default();
            assert_eq!(
                address_text(&view),
                written(address.map(|address| address.to_string())),
                "{text:?}"
            );
            let network = address.and_then(network).map(|network| network.to_string());
            assert_eq!(network_text(&view), written(network), "{text:?}");
        }
    }

    #[test]
    fn networks_are_those_of_the_family() {
        let network = |text: &str| {
            network(text.parse().expect("a literal address")).map(|network| network.to_string())
        };
        assert_eq!(network("203.0.113.77").as_deref(), Some("203.0.113.0/24"));
        assert_eq!(
            network("2001:db8:1:2::9").as_deref(),
            Some("2001:db8:1::/48")
        );
    }
}
