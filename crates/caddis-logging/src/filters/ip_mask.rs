//! `ip_mask`: keeps the first bits of addresses.
//!
//! JSON: `{"filter": "ip_mask", "ipv4_cidr": 16, "ipv6_cidr": 32}`. An address of a family without
//! bits stays as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caddis_config::{ConfigError, value::split_host_port};
use serde::Deserialize;
use serde_json::Value as Json;

/// How many bits stay, by family; 0 is not set.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpMask {
    #[serde(default)]
    ipv4_cidr: u32,
    #[serde(default)]
    ipv6_cidr: u32,
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
        let masked = match ip.to_canonical() {
            IpAddr::V4(_) if self.ipv4_cidr == 0 => return text.to_owned(),
            IpAddr::V6(_) if self.ipv6_cidr == 0 => return text.to_owned(),
            IpAddr::V4(ip) => {
                let keep = u32::MAX.checked_shl(32_u32.saturating_sub(self.ipv4_cidr));
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & keep.unwrap_or(0)))
            }
            IpAddr::V6(ip) => {
                let keep = u128::MAX.checked_shl(128_u32.saturating_sub(self.ipv6_cidr));
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & keep.unwrap_or(0)))
            }
        };
        if port.is_empty() {
            return masked.to_string();
        }
        caddis_config::value::join_host_port(&masked.to_string(), port)
    }
}
