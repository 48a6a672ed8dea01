//! `ip_mask`: keeps the first bits of addresses.
//!
//! JSON: `{"filter": "ip_mask", "ipv4_cidr": 16, "ipv6_cidr": 32}`. An address of a family without
//! bits, or with more bits than an address has, becomes `<nil>`, as in Caddy: whoever masks
//! addresses must not find whole ones in the log for having named one family alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caddis_config::{ConfigError, value::split_host_port};
use serde::Deserialize;
use serde_json::Value as Json;

/// How many bits stay, by family; 0 is not set.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpMask {
    #[serde(default)]
    ipv4_cidr: i64,
    #[serde(default)]
    ipv6_cidr: i64,
}

impl IpMask {
    pub(crate) fn compile(json: Json) -> Result<Self, ConfigError> {
        caddis_config::decode(json)
    }

    /// Masks the addresses of a list with commas; what is no address stays.
    pub(crate) fn mask(&self, text: &str) -> String {
        let parts = text.split(',').map(|part| self.mask_one(part.trim()));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn mask_one(&self, text: &str) -> String {
        let (host, port) = split_host_port(text).unwrap_or((text, ""));
        let Ok(ip) = host.parse::<IpAddr>() else { return text.to_owned() };
        // None of all bits is not set; it would leave nothing of an address anyway.
        let bits = |bits: i64, most: u32| {
            u32::try_from(bits).ok().filter(|bits| (1..=most).contains(bits))
        };
        let masked = match ip.to_canonical() {
            IpAddr::V4(ip) => bits(self.ipv4_cidr, 32).map(|bits| {
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & u32::MAX.unbounded_shl(32 - bits)))
            }),
            IpAddr::V6(ip) => bits(self.ipv6_cidr, 128).map(|bits| {
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & u128::MAX.unbounded_shl(128 - bits)))
            }),
        };
        let masked = masked.map_or_else(|| "<nil>".to_owned(), |ip| ip.to_string());
        if port.is_empty() {
            return masked;
        }
        caddis_config::value::join_host_port(&masked, port)
    }
}
