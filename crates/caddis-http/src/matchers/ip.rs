//! `remote_ip` and `client_ip`: the address of the peer, or of the client behind trusted proxies.
//!
//! ```text
//! remote_ip <ranges...>
//! client_ip <ranges...>
//! ```
//!
//! JSON: `{"ranges": ["addresses or CIDR ranges"]}`; `private_ranges` stands for the private ones
//! in a Caddyfile.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, IpRanges, private_ranges};
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, Result, Template, template::Unknown,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{no_block, shape};

/// `http.matchers.remote_ip`.
pub static REMOTE_IP: MatcherModule = MatcherModule {
    id: "http.matchers.remote_ip",
    parse: |d| parse(d, "remote_ip"),
    compile: |json, cx| Ok(Box::new(Remote(compile(json, cx)?))),
};

/// `http.matchers.client_ip`.
pub static CLIENT_IP: MatcherModule = MatcherModule {
    id: "http.matchers.client_ip",
    parse: |d| parse(d, "client_ip"),
    compile: |json, cx| Ok(Box::new(Client(compile(json, cx)?))),
};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    ranges: Vec<String>,
}

struct Remote(IpRanges);

struct Client(IpRanges);

fn parse(d: &mut Dispenser, name: &str) -> ParseResult<Json> {
    let mut config = Config::default();
    loop {
        while d.next_arg() {
            match d.val() {
                "forwarded" if name == "remote_ip" => {
                    return Err(d.err(
                        "the 'forwarded' option is no longer supported; use the 'client_ip' \
                         matcher instead",
                    ));
                }
                "private_ranges" => {
                    config.ranges.extend(private_ranges().iter().map(ToString::to_string));
                }
                range => config.ranges.push(range.to_owned()),
            }
        }
        no_block(d, name)?;
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

fn compile(json: &Json, _: &mut CompileCx<'_>) -> std::result::Result<IpRanges, ConfigError> {
    let config: Config = shape(json)?;
    let ranges = config.ranges.iter().map(|range| Template::render_global(range, Unknown::Empty));
    IpRanges::parse(ranges).map_err(|error| ConfigError::new("ranges", error))
}

impl Matcher for Remote {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let Some(remote) = ex.connection.remote else { return Ok(false) };
        let zone = match remote {
            std::net::SocketAddr::V6(remote) if remote.scope_id() != 0 => {
                remote.scope_id().to_string()
            }
            _ => String::new(),
        };
        Ok(self.0.contains_zone(remote.ip().to_canonical(), &zone))
    }
}

impl Matcher for Client {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        Ok(ex.client_ip.is_some_and(|ip| self.0.contains_zone(ip, "")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{compile, matcher, matches, parse};
    use super::*;

    #[test]
    fn compares_addresses() {
        assert!(matches(&REMOTE_IP, "remote_ip 127.0.0.0/8 ::1", "/"));
        assert!(matches(&REMOTE_IP, "remote_ip private_ranges", "/"));
        assert!(!matches(&REMOTE_IP, "remote_ip 10.0.0.0/8", "/"));
        let mut ex = Exchange::for_test("/");
        ex.client_ip = "203.0.113.7".parse().ok();
        let client = matcher(&CLIENT_IP, "client_ip 203.0.113.0/24");
        assert!(client.matches(&mut ex).expect("no error"));
    }

    #[test]
    fn shapes() {
        assert_eq!(
            parse(&CLIENT_IP, "client_ip 1.1.1.1\nclient_ip private_ranges"),
            Ok(json!({"ranges": ["1.1.1.1", "192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8",
                "127.0.0.1/8", "fd00::/8", "::1"]}))
        );
        assert!(parse(&REMOTE_IP, "remote_ip forwarded 1.1.1.1").is_err());
        assert!(compile(&REMOTE_IP, &json!({"ranges": ["x"]})).is_err());
    }
}
