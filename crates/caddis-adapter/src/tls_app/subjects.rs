//! What kind of certificate a name can have.

use std::net::IpAddr;

use caddis_config::value::split_host_port;
use caddis_config::{AutomationPolicy, IpRange};

/// Addresses that no public authority certifies by default.
const INTERNAL_RANGES: [&str; 9] = [
    "127.0.0.0/8",
    "0.0.0.0/16",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/7",
    "fe80::/10",
    "fc00::/7",
];

/// Suffixes of names that only exist inside a network.
const INTERNAL_SUFFIXES: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

/// Whether a name can be the subject of a certificate at all.
pub(crate) fn qualifies(name: &str) -> bool {
    const STRANGE: &str = "()[]{}<> \t\n\"\\!@#$%^&|;'+=";
    !name.trim().is_empty()
        && !name.starts_with('.')
        && !name.ends_with('.')
        && (!name.contains('*') || name.starts_with("*.") || name == "*")
        && !name.contains(|c| STRANGE.contains(c))
}

/// Whether a public authority could certify a name.
pub(crate) fn qualifies_for_public(name: &str) -> bool {
    let stars = name.matches('*').count();
    let wildcard =
        stars == 1 && name.matches('.').count() > 1 && name.len() > 2 && name.starts_with("*.");
    qualifies(name) && !is_internal(name) && (stars == 0 || wildcard)
}

/// Whether a policy without issuers would have a public one for a name.
pub(crate) fn is_public(policy: &AutomationPolicy, name: &str) -> bool {
    name.parse::<IpAddr>().is_err()
        && !is_internal(name)
        && (name.matches("*.").count() < 2 || policy.on_demand)
}

/// Whether Tailscale manages the certificate of a name.
pub(crate) fn is_tailscale(name: &str) -> bool {
    name.to_lowercase().ends_with(".ts.net")
}

fn is_internal(name: &str) -> bool {
    let host = host_only(name);
    let host = host.strip_suffix('.').unwrap_or(host).to_lowercase();
    host == "localhost"
        || INTERNAL_SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
        || host_only(&host).parse().is_ok_and(is_internal_address)
}

fn is_internal_address(address: IpAddr) -> bool {
    INTERNAL_RANGES
        .iter()
        .any(|range| IpRange::parse(range).is_ok_and(|range| range.contains(address)))
}

fn host_only(text: &str) -> &str {
    if !text.contains(':') {
        return text;
    }
    split_host_port(text).map_or(text, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert!(qualifies_for_public("example.com") && qualifies_for_public("*.example.com"));
        assert!(!qualifies_for_public("*.com") && !qualifies_for_public("a.local"));
        assert!(!qualifies("a b") && !qualifies(".a") && !qualifies("{env.A}") && qualifies("*"));
        assert!(is_internal("localhost") && is_internal("10.1.2.3") && is_internal("X.localhost."));
        assert!(!is_internal("8.8.8.8") && !is_internal("example.com"));
        let policy = AutomationPolicy::default();
        assert!(is_public(&policy, "a.com") && !is_public(&policy, "8.8.8.8"));
        assert!(!is_public(&policy, "*.*.a.com"));
        assert!(is_public(&AutomationPolicy { on_demand: true, ..policy }, "*.*.a.com"));
        assert!(is_tailscale("a.TS.net"));
    }
}
