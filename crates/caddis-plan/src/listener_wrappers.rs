//! What is done on a connection before its bytes are HTTP or TLS.
//!
//! JSON: `"listener_wrappers": [{"wrapper": "proxy_protocol", "timeout": 0, "allow": [],
//! "deny": [], "fallback_policy": "USE"}, {"wrapper": "http_redirect", "max_header_bytes": 0},
//! {"wrapper": "tls"}]`. Where `tls` is not named, it comes first.

use std::{net::IpAddr, time::Duration};

use caddis_config::{ConfigError, IpRange};
use caddis_core::{CompileCx, compile::unknown_module};
use serde::Deserialize;
use serde_json::Value as Json;

/// The wrappers of a server, in the order in which a connection meets them.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct ListenerWrappers {
    /// Those that see the bytes as they come.
    pub before_tls: Vec<ListenerWrapper>,
    /// Those that see what TLS decrypted.
    pub after_tls: Vec<ListenerWrapper>,
}

/// One wrapper.
#[derive(Debug, Clone, PartialEq)]
pub enum ListenerWrapper {
    /// Answers plain HTTP with a redirect to `https`.
    HttpRedirect {
        /// Bytes of a request head that are read.
        max_header_bytes: usize,
    },
    /// Takes the addresses from a PROXY protocol header.
    ProxyProtocol(ProxyProtocol),
}

/// Who may send a PROXY protocol header, and who must.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyProtocol {
    /// How long the header may take.
    pub timeout: Duration,
    allow: Vec<IpRange>,
    deny: Vec<IpRange>,
    fallback: ProxyPolicy,
}

/// What is done with a PROXY protocol header.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ProxyPolicy {
    /// It is read and not believed.
    #[default]
    #[serde(rename = "IGNORE", alias = "ignore", alias = "")]
    Ignore,
    /// It is believed where there is one.
    #[serde(rename = "USE", alias = "use")]
    Use,
    /// A connection that has one is closed.
    #[serde(rename = "REJECT", alias = "reject")]
    Reject,
    /// It is believed, and a connection without one is closed.
    #[serde(rename = "REQUIRE", alias = "require")]
    Require,
    /// The bytes are not looked at.
    #[serde(rename = "SKIP", alias = "skip")]
    Skip,
}

/// What PROXY protocol headers may take where the config has no limit.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_REDIRECT_HEAD: usize = 1024 * 1024;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpRedirectConfig {
    max_header_bytes: i64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProxyProtocolConfig {
    timeout: caddis_config::Duration,
    #[serde(deserialize_with = "caddis_config::nullable")]
    allow: Vec<String>,
    #[serde(deserialize_with = "caddis_config::nullable")]
    deny: Vec<String>,
    fallback_policy: ProxyPolicy,
}

impl ListenerWrappers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.before_tls.is_empty() && self.after_tls.is_empty()
    }

    /// From the config of a server.
    ///
    /// # Errors
    /// An unknown wrapper, a range that is none, `tls` first or twice.
    pub(crate) fn compile(list: &[Json], cx: &CompileCx<'_>) -> Result<Self, ConfigError> {
        let mut tls_at = None;
        let mut wrappers = Vec::with_capacity(list.len());
        for (at, json) in list.iter().enumerate() {
            let name = json.get("wrapper").and_then(Json::as_str).unwrap_or_default();
            if name != "tls" {
                wrappers.push(one(name, json, cx).map_err(|error| error.under(at.to_string()))?);
                continue;
            }
            let message = match (at, tls_at) {
                (0, _) => {
                    "it is unnecessary to specify the TLS listener wrapper in the first position \
                     because that is the default"
                }
                (_, Some(_)) => "TLS listener wrapper can only be specified once",
                _ => {
                    tls_at = Some(at);
                    continue;
                }
            };
            return Err(ConfigError::new(at.to_string(), message));
        }
        let after_tls = wrappers.split_off(tls_at.unwrap_or(0));
        Ok(Self { before_tls: wrappers, after_tls })
    }
}

fn one(name: &str, json: &Json, cx: &CompileCx<'_>) -> Result<ListenerWrapper, ConfigError> {
    match name {
        "http_redirect" => {
            let config: HttpRedirectConfig = cx.decode(json, "wrapper")?;
            let max = usize::try_from(config.max_header_bytes).ok().filter(|max| *max > 0);
            Ok(ListenerWrapper::HttpRedirect { max_header_bytes: max.unwrap_or(MAX_REDIRECT_HEAD) })
        }
        "proxy_protocol" => {
            let config: ProxyProtocolConfig = cx.decode(json, "wrapper")?;
            Ok(ListenerWrapper::ProxyProtocol(ProxyProtocol {
                timeout: config.timeout.positive().unwrap_or(PROXY_TIMEOUT),
                allow: ranges(&config.allow, "allow")?,
                deny: ranges(&config.deny, "deny")?,
                fallback: config.fallback_policy,
            }))
        }
        _ => Err(unknown_module("caddy.listeners", name, "wrapper")),
    }
}

fn ranges(list: &[String], field: &str) -> Result<Vec<IpRange>, ConfigError> {
    list.iter()
        .map(|text| match text.contains('/') {
            true => IpRange::parse(text),
            false => Err(format!("netip.ParsePrefix(\"{text}\"): no '/'")),
        })
        .collect::<Result<_, _>>()
        .map_err(|message| ConfigError::new(field, message))
}

impl ProxyProtocol {
    /// What to do with the header of this peer; `None` is a unix socket, which is trusted.
    pub fn policy(&self, peer: Option<IpAddr>) -> ProxyPolicy {
        let Some(peer) = peer else { return ProxyPolicy::Use };
        let within = |ranges: &[IpRange]| ranges.iter().any(|range| range.contains(peer));
        if within(&self.deny) {
            ProxyPolicy::Reject
        } else if within(&self.allow) {
            ProxyPolicy::Use
        } else {
            self.fallback
        }
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::{Registry, State};
    use serde_json::json;

    use super::*;

    fn compile(list: Json) -> Result<ListenerWrappers, String> {
        let registry = Registry {
            directives: Vec::new(),
            handlers: Vec::new(),
            matchers: Vec::new(),
            other_ids: Vec::new(),
            parse_routes: |_| Ok(Vec::new()),
        };
        let state = State::default();
        let cx = CompileCx::new(&registry, &state, Default::default());
        let list = list.as_array().cloned().unwrap_or_default();
        ListenerWrappers::compile(&list, &cx).map_err(|error| error.to_string())
    }

    #[test]
    fn order_decides_what_tls_hides() {
        let redirect = json!({"wrapper": "http_redirect"});
        let tls = json!({"wrapper": "tls"});
        let before = compile(json!([redirect, tls])).expect("compiles");
        assert_eq!((before.before_tls.len(), before.after_tls.len()), (1, 0));
        let after = compile(json!([redirect])).expect("compiles");
        assert_eq!((after.before_tls.len(), after.after_tls.len()), (0, 1));
        for (list, want) in [
            (json!([tls]), "it is unnecessary"),
            (json!([redirect, tls, tls]), "only be specified once"),
            (json!([{"wrapper": "nope"}]), "unknown module: caddy.listeners.nope"),
            (json!([{"wrapper": "proxy_protocol", "allow": ["10.0.0.1"]}]), "no '/'"),
        ] {
            assert!(compile(list).expect_err("refused").contains(want), "{want}");
        }
    }

    #[test]
    fn policies() {
        let config = json!([{"wrapper": "proxy_protocol", "allow": ["10.0.0.0/8"],
            "deny": ["10.1.0.0/16"], "fallback_policy": "REQUIRE"}]);
        let wrappers = compile(config).expect("compiles");
        let [ListenerWrapper::ProxyProtocol(found)] = &*wrappers.after_tls else {
            panic!("one wrapper: {wrappers:?}");
        };
        let policy = |ip: &str| found.policy(Some(ip.parse().expect("an address")));
        assert_eq!(policy("10.2.0.1"), ProxyPolicy::Use);
        assert_eq!(policy("::ffff:10.2.0.1"), ProxyPolicy::Use);
        assert_eq!(policy("10.1.0.1"), ProxyPolicy::Reject);
        assert_eq!(policy("192.0.2.1"), ProxyPolicy::Require);
        assert_eq!(found.policy(None), ProxyPolicy::Use);
    }
}
