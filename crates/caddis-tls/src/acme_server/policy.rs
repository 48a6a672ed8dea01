//! Which names may get a certificate (D019–D021, D026).

use std::net::IpAddr;

use caddis_config::{ConfigError, IpRange};
use serde::{Deserialize, Serialize};

use super::book::Identifier;

/// JSON shape (J108).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicyConfig {
    /// Nothing else is issued, if it has rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow: Option<RulesConfig>,
    /// Never issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deny: Option<RulesConfig>,
    /// `*.x` may be asked for where there are rules.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) allow_wildcard_names: bool,
}

/// JSON shape (J109).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RulesConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ip_ranges: Vec<String>,
}

/// The rules of a server.
#[derive(Debug, Default)]
pub(super) struct Policy {
    allow: Rules,
    deny: Rules,
    wildcards: bool,
}

#[derive(Debug, Default)]
struct Rules {
    domains: Vec<String>,
    ranges: Vec<IpRange>,
}

impl Policy {
    pub(super) fn compile(config: Option<&PolicyConfig>) -> Result<Self, ConfigError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let rules = |rules: Option<&RulesConfig>, path: &str| {
            Rules::compile(rules).map_err(|error| error.under(path))
        };
        Ok(Self {
            allow: rules(config.allow.as_ref(), "allow")?,
            deny: rules(config.deny.as_ref(), "deny")?,
            wildcards: config.allow_wildcard_names,
        })
    }

    /// Whether everything is allowed.
    pub(super) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether a name may get a certificate.
    pub(super) fn allows(&self, identifier: &Identifier) -> bool {
        if self.is_empty() {
            return true;
        }
        match identifier {
            Identifier::Ip(ip) => {
                !self.deny.has_address(*ip)
                    && (self.allow.is_empty() || self.allow.has_address(*ip))
            }
            Identifier::Dns(name) => {
                (self.wildcards || !name.starts_with("*."))
                    && !self.deny.has_name(name)
                    && (self.allow.is_empty() || self.allow.has_name(name))
            }
        }
    }
}

impl Rules {
    fn compile(config: Option<&RulesConfig>) -> Result<Self, ConfigError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let ranges = config.ip_ranges.iter().enumerate().map(|(at, text)| {
            IpRange::parse(text).map_err(|error| ConfigError::new(format!("ip_ranges.{at}"), error))
        });
        let domains = config.domains.iter().enumerate().map(|(at, text)| {
            let domain = text.to_ascii_lowercase();
            let bare = domain.strip_prefix("*.").unwrap_or(&domain);
            if bare.is_empty() || bare.contains('*') || bare.split('.').any(str::is_empty) {
                let message = format!("cannot parse domain constraint {text:?}");
                return Err(ConfigError::new(format!("domains.{at}"), message));
            }
            Ok(domain)
        });
        Ok(Self {
            domains: domains.collect::<Result<_, _>>()?,
            ranges: ranges.collect::<Result<_, _>>()?,
        })
    }

    fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.ranges.is_empty()
    }

    fn has_address(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip))
    }

    /// A rule `*.x` is for names with exactly one more label, and for itself.
    fn has_name(&self, name: &str) -> bool {
        self.domains.iter().any(|rule| match rule.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => rule == name,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Policy, PolicyConfig};
    use crate::acme_server::book::Identifier;

    fn allowed(policy: serde_json::Value, name: &str) -> bool {
        let config: PolicyConfig = serde_json::from_value(policy).unwrap();
        let identifier = match name.parse() {
            Ok(ip) => Identifier::Ip(ip),
            Err(_) => Identifier::Dns(name.to_owned()),
        };
        Policy::compile(Some(&config)).unwrap().allows(&identifier)
    }

    #[test]
    fn rules() {
        let allow = json!({ "allow": { "domains": ["a.test", "*.b.test"] } });
        for (name, want) in [
            ("a.test", true),
            ("x.a.test", false),
            ("x.b.test", true),
            ("y.x.b.test", false),
            ("b.test", false),
            ("*.b.test", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(allowed(allow.clone(), name), want, "{name}");
        }
        let both = json!({
            "allow": { "domains": ["*.b.test"], "ip_ranges": ["10.0.0.0/8"] },
            "deny": { "domains": ["x.b.test"], "ip_ranges": ["10.1.0.0/16"] },
            "allow_wildcard_names": true
        });
        for (name, want) in [
            ("x.b.test", false),
            ("y.b.test", true),
            ("*.b.test", true),
            ("10.0.0.1", true),
            ("10.1.0.1", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(allowed(both.clone(), name), want, "{name}");
        }
        let deny = json!({ "deny": { "domains": ["x.test"] } });
        assert!(!allowed(deny.clone(), "x.test") && allowed(deny, "192.0.2.1"));
        assert!(allowed(json!({}), "*.anything.test"));
        let bad = json!({ "allow": { "domains": ["a.*.test"] } });
        assert!(Policy::compile(Some(&serde_json::from_value(bad).unwrap())).is_err());
    }
}
