//! `tls.handshake_match.*`: which handshakes a policy is for.
//!
//! JSON: `"sni": ["a.test", "*.b.test"]`, `"sni_regexp": {"name": "…", "pattern": "…"}`,
//! `"remote_ip": {"ranges": ["…"], "not_ranges": ["…"]}`, `"local_ip": {"ranges": ["…"]}`.

use std::net::IpAddr;

use caddis_config::{ConfigError, IpRanges, ModuleMap};
use caddis_core::template::{Template, Unknown};
use regex::Regex;
use serde::Deserialize;

use crate::index::{normalized, wildcards};

/// What is known of a client when its first message was read.
#[derive(Debug, Clone, Copy, Default)]
pub struct HelloFacts<'a> {
    /// The server name, if one was sent.
    pub sni: Option<&'a str>,
    /// The client's address.
    pub remote: Option<IpAddr>,
    /// The server's address.
    pub local: Option<IpAddr>,
}

/// A compiled matcher.
#[derive(Debug, Clone)]
pub(super) enum HandshakeMatcher {
    /// Lower-case names, with wildcards.
    Sni(Vec<String>),
    SniRegexp(Regex),
    RemoteIp {
        ranges: IpRanges,
        not_ranges: IpRanges,
    },
    LocalIp(IpRanges),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegexpConfig {
    /// Checked alone: nothing that runs after a handshake sees its captures, in Caddy neither.
    #[serde(default)]
    name: String,
    #[serde(default)]
    pattern: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RemoteIpConfig {
    ranges: Vec<String>,
    not_ranges: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LocalIpConfig {
    ranges: Vec<String>,
}

/// Compiles the matchers of a policy.
pub(super) fn compile(matchers: &ModuleMap) -> Result<Vec<HandshakeMatcher>, ConfigError> {
    let mut compiled = Vec::with_capacity(matchers.len());
    for (name, json) in matchers {
        let matcher = one(name, json.clone()).map_err(|error| error.under(name))?;
        compiled.push(matcher);
    }
    Ok(compiled)
}

fn one(name: &str, json: serde_json::Value) -> Result<HandshakeMatcher, ConfigError> {
    Ok(match name {
        "sni" => {
            let names: Vec<String> = caddis_config::decode(json)?;
            HandshakeMatcher::Sni(names.iter().map(|name| normalized(&global(name))).collect())
        }
        "sni_regexp" => {
            let config: RegexpConfig = caddis_config::decode(json)?;
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !config.name.is_empty() && !config.name.contains(is_word) {
                let rule = "invalid regexp name (must contain only word characters)";
                return Err(ConfigError::new("name", format!("{rule}: {}", config.name)));
            }
            // Unknown ones stay, since braces count repetitions, too.
            let pattern = global(&config.pattern);
            let regex = Regex::new(&pattern).map_err(|error| {
                let message = format!("compiling matcher regexp {pattern}: {error}");
                ConfigError::new("pattern", message)
            })?;
            HandshakeMatcher::SniRegexp(regex)
        }
        "remote_ip" => {
            let config: RemoteIpConfig = caddis_config::decode(json)?;
            HandshakeMatcher::RemoteIp {
                ranges: ranges(&config.ranges)?,
                not_ranges: ranges(&config.not_ranges)?,
            }
        }
        "local_ip" => {
            let config: LocalIpConfig = caddis_config::decode(json)?;
            HandshakeMatcher::LocalIp(ranges(&config.ranges)?)
        }
        _ => {
            let message = format!("unknown module: tls.handshake_match.{name}");
            return Err(ConfigError::new("", message));
        }
    })
}

fn ranges(texts: &[String]) -> Result<IpRanges, ConfigError> {
    IpRanges::parse(texts.iter().map(|text| global(text)))
        .map_err(|error| ConfigError::new("ranges", error))
}

fn global(text: &str) -> String {
    Template::render_global(text, Unknown::Keep)
}

impl HandshakeMatcher {
    pub(super) fn matches(&self, facts: &HelloFacts<'_>) -> bool {
        match self {
            Self::Sni(names) => {
                let sni = normalized(facts.sni.unwrap_or_default());
                names.iter().any(|name| name_matches(name, &sni))
            }
            Self::SniRegexp(regex) => regex.is_match(facts.sni.unwrap_or_default()),
            Self::RemoteIp { ranges, not_ranges } => facts.remote.is_some_and(|ip| {
                let ip = ip.to_canonical();
                (ranges.is_empty() || ranges.contains(ip)) && !not_ranges.contains(ip)
            }),
            Self::LocalIp(ranges) => {
                ranges.is_empty()
                    || facts.local.is_some_and(|ip| ranges.contains(ip.to_canonical()))
            }
        }
    }
}

fn name_matches(pattern: &str, name: &str) -> bool {
    pattern == name
        || (pattern.contains('*')
            && !name.is_empty()
            && wildcards(name).any(|candidate| candidate == pattern))
}
