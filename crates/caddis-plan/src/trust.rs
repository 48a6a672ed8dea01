//! Who the client is when proxies stand before the server (spec G063–G066).

use std::net::IpAddr;

use caddis_config::{ConfigError, IpRanges, Server};
use caddis_core::Exchange;
use http::HeaderName;
use serde::Deserialize;
use serde_json::Value as Json;

/// A server's trusted proxies and where they say who the client is.
#[derive(Debug, Default)]
pub struct Trust {
    ranges: Option<IpRanges>,
    headers: Vec<HeaderName>,
    strict: bool,
    unix: bool,
}

impl Trust {
    /// Reads the server's settings.
    ///
    /// # Errors
    /// An unknown source module, a range or header name that is none.
    pub fn compile(server: &Server) -> Result<Self, ConfigError> {
        let ranges = match &server.trusted_proxies {
            None => None,
            Some(json) => Some(static_ranges(json)?),
        };
        let names: Vec<&str> = if server.client_ip_headers.is_empty() {
            vec!["x-forwarded-for"]
        } else {
            server.client_ip_headers.iter().map(String::as_str).collect()
        };
        let headers = names
            .into_iter()
            .map(|name| {
                HeaderName::try_from(name).map_err(|_| {
                    ConfigError::new("client_ip_headers", format!("invalid header name '{name}'"))
                })
            })
            .collect::<Result<_, _>>()?;
        let strict = server.trusted_proxies_strict > 0;
        Ok(Self { ranges, headers, strict, unix: server.trusted_proxies_unix })
    }

    /// Sets `client_ip` and `trusted_proxy`.
    pub fn apply(&self, ex: &mut Exchange) {
        let trusted = match ex.connection.remote {
            Some(remote) => self.contains(remote.ip().to_canonical()),
            None => self.unix,
        };
        if !trusted {
            return;
        }
        ex.trusted_proxy = true;
        for name in &self.headers {
            let values: Vec<&str> = ex
                .request
                .headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .map(str::trim)
                .collect();
            let found = if self.strict {
                self.rightmost_untrusted(&values)
            } else {
                values.iter().find_map(|value| parse_ip(value))
            };
            if found.is_some() {
                ex.client_ip = found;
                return;
            }
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.ranges.as_ref().is_some_and(|ranges| ranges.contains(ip))
    }

    /// The first address from the right that is no trusted proxy itself.
    fn rightmost_untrusted(&self, values: &[&str]) -> Option<IpAddr> {
        values.iter().rev().filter_map(|value| parse_ip(value)).find(|ip| !self.contains(*ip))
    }
}

fn static_ranges(json: &Json) -> Result<IpRanges, ConfigError> {
    let source = json.get("source").and_then(Json::as_str).unwrap_or_default();
    if source != "static" {
        let message = format!("unknown module: http.ip_sources.{source}");
        return Err(ConfigError::new("trusted_proxies", message));
    }
    let config: StaticSource =
        caddis_config::decode(json.clone()).map_err(|error| error.under("trusted_proxies"))?;
    let ranges = config.ranges.unwrap_or_default();
    IpRanges::parse(&ranges).map_err(|error| ConfigError::new("trusted_proxies.ranges", error))
}

/// JSON shape of `http.ip_sources.static` (spec J038).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticSource {
    #[serde(rename = "source")]
    _source: String,
    ranges: Option<Vec<String>>,
}

/// An address with or without port, zone or brackets.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    text.parse::<std::net::SocketAddr>()
        .map(|address| address.ip().to_canonical())
        .or_else(|_| text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| ip.to_canonical()))
        .ok()
}
