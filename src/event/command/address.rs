//! Addresses in a command line: the cloud's metadata endpoint in any spelling, and what is fetched
//! from where.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// Addresses at which a cloud answers for the machine: the instance metadata service and Azure's
/// WireServer.
const METADATA: [Ipv4Addr; 2] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Whether the line holds a metadata address in any spelling that C libraries read.
pub(super) fn names_metadata_address(line: &str) -> bool {
    static NUMBERS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}")
            .expect("a literal pattern")
    });
    static IPV6: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)[0-9a-f]{0,4}:[0-9a-f:]*:[0-9a-f:.]+").expect("a literal pattern")
    });
    NUMBERS
        .find_iter(line)
        .filter_map(|found| inet_aton(found.as_str()))
        .any(|address| METADATA.contains(&address))
        || IPV6.find_iter(line).any(|found| {
            found
                .as_str()
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| match address.to_ipv4() {
                    Some(v4) => METADATA.contains(&v4),
                    None => address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
                })
        })
}

/// An IPv4 address as `inet_aton` reads it: one to four parts, each decimal, octal or hexadecimal,
/// the last filling what remains.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text
        .split('.')
        .map(|part| {
            let lower = part.to_ascii_lowercase();
            if let Some(hex) = lower.strip_prefix("0x") {
                u64::from_str_radix(hex, 16).ok()
            } else if lower.len() > 1 && lower.starts_with('0') {
                u64::from_str_radix(&lower, 8).ok()
            } else {
                lower.parse().ok()
            }
        })
        .collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    let mut address: u64 = 0;
    for part in leading {
        if *part > 255 {
            return None;
        }
        address = address << 8 | part;
    }
    let rest = 8 * (4 - leading.len() as u32);
    if *last >= 1 << rest {
        return None;
    }
    u32::try_from(address << rest | last)
        .ok()
        .map(Ipv4Addr::from)
}

/// Whether curl, wget or the like ask for something that is neither local nor a health check nor
/// the metadata endpoint, which is a finding of its own.
pub(super) fn fetches(line: &str) -> bool {
    static CLIENT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:^|[\s;|&()`/])(?:curl|wget|fetch|http|https|lynx|links)\s+([^;|&]*)")
            .expect("a literal pattern")
    });
    static HOST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?ix)(?:^|\s) (?: (?:https?|ftps?|tftp)://(?:[^@/\s]*@)? (\[[^\]\s]*\]|[^/:\s?]+)
            | ((?:[a-z0-9-]+\.)+(?:[a-z]{2,})|[0-9]+(?:\.[0-9]+){3}) (?::[0-9]+)? (?:/|\s|$) )
            ([^\s]*)",
        )
        .expect("a literal pattern")
    });
    CLIENT.captures_iter(line).any(|client| {
        HOST.captures_iter(&client[1]).any(|host| {
            let name = host
                .get(1)
                .or_else(|| host.get(2))
                .map_or("", |name| name.as_str());
            let path = host.get(3).map_or("", |path| path.as_str());
            let file_like = host.get(1).is_none() && !host[0].contains('/') && is_file_name(name);
            !is_local(name) && !is_probe(path) && !names_metadata_address(name) && !file_like
        })
    })
}

/// A bare word such as `out.tgz` behind `-o` is no host.
fn is_file_name(name: &str) -> bool {
    [
        ".gz", ".tgz", ".zip", ".sh", ".py", ".json", ".txt", ".html", ".log", ".yaml", ".yml",
        ".pem", ".crt", ".bin", ".tar", ".xml",
    ]
    .iter()
    .any(|ending| name.ends_with(ending))
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.starts_with("127.")
        || matches!(host, "[::1]" | "0.0.0.0" | "[::]")
}

fn is_probe(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or("").trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or("");
    matches!(
        last,
        "health"
            | "healthz"
            | "livez"
            | "readyz"
            | "ready"
            | "live"
            | "ping"
            | "metrics"
            | "status"
            | "jwks"
            | "jwks.json"
            | "openid-configuration"
    )
}
