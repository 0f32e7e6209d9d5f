//! Credentials used from where their owners never are.

use super::super::event::Target;
use super::super::truth::Family;
use super::{ADMIN_REASON, Play, Stage};

pub(super) const PLAYS: &[Play] = &[
    Play::of(
        Family::SourceIp,
        "person's credential from a foreign network",
        &["IP-1"],
        &["T1078", "T1133"],
        foreign,
    ),
    Play::of(
        Family::SourceIp,
        "service account's token from the internet",
        &["IP-3", "IP-6", "IP-1"],
        &["T1528", "T1078"],
        token_outside,
    ),
    Play::of(
        Family::SourceIp,
        "one credential from many networks",
        &["IP-5", "IP-1"],
        &["T1528", "T1550.001"],
        many_networks,
    ),
    Play::of(
        Family::SourceIp,
        "forged address before a foreign one",
        &["IP-1"],
        &["T1078"],
        forged,
    ),
];

const KUBECTL: &str = "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0";

fn foreign(s: &mut Stage<'_>) {
    let address = format!("198.51.100.{}", 2 + s.rng.below(190));
    let client = s.outsider(&address, KUBECTL);
    let (ns, _, _) = s.victim();
    for target in [
        Target::core("namespaces"),
        Target::core("pods").ns(&ns),
        Target::core("configmaps").ns(&ns),
    ] {
        let event = client
            .request(s.rng, s.now(), "list", target)
            .query("limit=500");
        s.strike("looks around from outside the known networks", event);
    }
}

fn token_outside(s: &mut Stage<'_>) {
    let (ns, app, _) = s.victim();
    let identity = s.stolen(&ns, &app);
    let address = format!("198.51.100.{}", 2 + s.rng.below(190));
    let client = s
        .world
        .outside(&identity, &address, "curl/8.12.1", ADMIN_REASON);
    let event = client.request(s.rng, s.now(), "list", Target::core("pods").ns(&ns));
    s.strike("uses a pod's token from the internet", event);
    let event = client.request(s.rng, s.now(), "list", Target::core("secrets").ns(&ns));
    s.strike("lists secrets with it", event.forbidden());
}

/// The same token at many places within minutes; the documentation's IPv6 prefix has room for them.
fn many_networks(s: &mut Stage<'_>) {
    let (ns, _, _) = s.victim();
    let first = s.rng.below(0x8000);
    for i in 0..5 {
        let address = format!(
            "2001:db8:{:x}::{:x}",
            0x1000 + first + i * 37,
            2 + s.rng.below(60_000)
        );
        let client = s.outsider(&address, KUBECTL);
        let event = client.request(s.rng, s.now(), "list", Target::core("pods").ns(&ns));
        s.strike("uses the credential from yet another network", event);
    }
}

fn forged(s: &mut Stage<'_>) {
    let address = format!("198.51.100.{}", 2 + s.rng.below(190));
    let addresses = ["203.0.113.20", address.as_str(), s.world.hop.as_str()];
    let client = super::Client::new(&s.actor.identity, &addresses, KUBECTL, ADMIN_REASON);
    let (ns, _, _) = s.victim();
    let event = client.request(s.rng, s.now(), "list", Target::core("services").ns(&ns));
    s.strike("says to come from the office", event);
}
