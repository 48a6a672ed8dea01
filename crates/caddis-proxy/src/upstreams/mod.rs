//! Sources of upstreams other than the list: `dynamic a`, `dynamic srv`, `dynamic multi`.
//!
//! ```text
//! dynamic a [<name> [<port>]] { name, port, refresh, resolvers, dial_timeout,
//!                               dial_fallback_delay, versions ipv4|ipv6 }
//! dynamic srv [<full name>] { service, proto, name, refresh, resolvers, dial_timeout,
//!                             dial_fallback_delay, grace_period }
//! dynamic multi { <source> ... }
//! ```
//!
//! JSON: `{"source": "a", "name", "port", "refresh", "resolver", "dial_timeout",
//! "dial_fallback_delay", "versions"}`, `{"source": "srv", "service", "proto", "name", "refresh",
//! "resolver", "dial_timeout", "dial_fallback_delay", "grace_period", "dial_network"}`,
//! `{"source": "multi", "sources": []}`.

mod dynamic;

use caddis_caddyfile::{Diagnostic, Dispenser, Result};
use caddis_config::{Duration, Value, module_object};
use serde::Serialize;

pub(crate) use dynamic::{Dynamic, Maker, Place};

use crate::{
    parse::{argument, duration, no_more, unknown_module},
    transport::http::{ResolverConfig, resolvers},
};

shape! {
    /// `{"source": "a", …}`.
    pub(crate) struct AConfig {
        /// Name to look up.
        pub name: String,
        /// Port to dial.
        pub port: String,
        /// How long an answer is used.
        pub refresh: Duration,
        /// DNS servers.
        pub resolver: Option<ResolverConfig>,
        /// Time to reach a DNS server.
        pub dial_timeout: Duration,
        /// When the other address family is tried as well.
        pub dial_fallback_delay: Duration,
        /// Address families.
        pub versions: Option<VersionsConfig>,
    }

    /// Address families.
    pub(crate) struct VersionsConfig {
        /// A records.
        pub ipv4: Option<bool>,
        /// AAAA records.
        pub ipv6: Option<bool>,
    }

    /// `{"source": "srv", …}`.
    pub(crate) struct SrvConfig {
        /// Service label.
        pub service: String,
        /// Protocol label.
        pub proto: String,
        /// Name, or the whole name.
        pub name: String,
        /// How long an answer is used.
        pub refresh: Duration,
        /// How much longer after a failed look-up.
        pub grace_period: Duration,
        /// DNS servers.
        pub resolver: Option<ResolverConfig>,
        /// Time to reach a DNS server.
        pub dial_timeout: Duration,
        /// When the other address family is tried as well.
        pub dial_fallback_delay: Duration,
        /// Network of the upstreams.
        pub dial_network: String,
    }

    /// `{"source": "multi", …}`.
    pub(crate) struct MultiConfig {
        /// The sources, key `source`.
        pub sources: Vec<Value>,
    }
}

/// Reads a source whose name is the current token; gives its JSON.
pub(crate) fn parse(d: &mut Dispenser) -> Result<Value> {
    let word = d.token().clone();
    let name = word.text.to_string();
    let mut inner = d.new_from_next_segment();
    inner.next();
    match name.as_str() {
        "a" => object(d, &name, &parse_a(&mut inner)?),
        "srv" => object(d, &name, &parse_srv(&mut inner)?),
        "multi" => {
            no_more(&mut inner)?;
            let mut config = MultiConfig::default();
            while inner.next_block(0) {
                config.sources.push(parse(&mut inner)?);
            }
            object(d, &name, &config)
        }
        _ => Err(unknown_module(&word, "http.reverse_proxy.upstreams")),
    }
}

fn object(d: &Dispenser, name: &str, config: &impl Serialize) -> Result<Value> {
    let payload = serde_json::to_value(config).map_err(|error| d.err(error))?;
    Ok(module_object(payload, "source", name))
}

fn once(d: &mut Dispenser, slot: &mut String, what: &str) -> Result<()> {
    let text = argument(d)?;
    if !slot.is_empty() {
        return Err(d.err(format_args!("{what} has already been specified")));
    }
    *slot = text;
    Ok(())
}

fn unrecognized(d: &Dispenser, kind: &str) -> Diagnostic {
    d.err(format_args!("unrecognized {kind} option '{}'", d.val()))
}

fn parse_a(d: &mut Dispenser) -> Result<AConfig> {
    let mut config = AConfig::default();
    match d.remaining_args().as_slice() {
        [] => {}
        [name] => config.name.clone_from(name),
        [name, port] => {
            config.name.clone_from(name);
            config.port.clone_from(port);
        }
        _ => return Err(d.arg_err()),
    }
    while d.next_block(0) {
        match d.val() {
            "name" => once(d, &mut config.name, "a name")?,
            "port" => once(d, &mut config.port, "a port")?,
            "refresh" => config.refresh = refresh(d)?,
            "resolvers" => config.resolver = Some(resolvers(d)?),
            "dial_timeout" => config.dial_timeout = duration(d, "bad timeout value")?,
            "dial_fallback_delay" => config.dial_fallback_delay = duration(d, "bad delay value")?,
            "versions" => {
                let args = d.remaining_args();
                if args.is_empty() {
                    return Err(d.err("must specify at least one version"));
                }
                let versions = config.versions.get_or_insert_default();
                for arg in args {
                    match arg.as_str() {
                        "ipv4" => versions.ipv4 = Some(true),
                        "ipv6" => versions.ipv6 = Some(true),
                        _ => {
                            let error = d.err(format_args!("unsupported version: '{arg}'"));
                            return Err(error.meant_one_of(&arg, ["ipv4", "ipv6"]));
                        }
                    }
                }
            }
            _ => return Err(unrecognized(d, "a")),
        }
    }
    Ok(config)
}

fn parse_srv(d: &mut Dispenser) -> Result<SrvConfig> {
    let mut config = SrvConfig::default();
    match d.remaining_args().as_slice() {
        [] => {}
        [name] => config.name.clone_from(name),
        _ => return Err(d.arg_err()),
    }
    while d.next_block(0) {
        match d.val() {
            "service" => once(d, &mut config.service, "srv service")?,
            "proto" => once(d, &mut config.proto, "srv proto")?,
            "name" => once(d, &mut config.name, "srv name")?,
            "refresh" => config.refresh = refresh(d)?,
            "resolvers" => config.resolver = Some(resolvers(d)?),
            "dial_timeout" => config.dial_timeout = duration(d, "bad timeout value")?,
            "dial_fallback_delay" => config.dial_fallback_delay = duration(d, "bad delay value")?,
            "grace_period" => config.grace_period = duration(d, "bad grace period value")?,
            _ => return Err(unrecognized(d, "srv")),
        }
    }
    Ok(config)
}

fn refresh(d: &mut Dispenser) -> Result<Duration> {
    let text = argument(d)?;
    Duration::parse(&text)
        .map_err(|error| d.err(format_args!("parsing refresh interval duration: {error}")))
}
