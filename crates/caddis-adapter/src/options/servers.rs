//! Settings of servers.
//!
//! ```text
//! servers [<listener_address>] {
//!     name <name>
//!     listener_wrappers { … }
//!     packet_conn_wrappers { … }
//!     timeouts {
//!         read_body | read_header | write | idle <duration>
//!         read_body_idle | write_idle            <duration> [<bytes_per_second>]
//!         write_max_chunk                        <size>
//!     }
//!     keepalive_interval | keepalive_idle <duration>
//!     keepalive_count <count>
//!     max_header_size <size>
//!     enable_full_duplex
//!     expected_underscore_headers | expected_dot_headers <name…>
//!     log_credentials
//!     protocols <h1|h2|h2c|h3…>
//!     strict_sni_host [on|insecure_off]
//!     trusted_proxies <module> …
//!     trusted_proxies_strict
//!     trusted_proxies_unix
//!     client_ip_headers <name…>
//!     metrics { per_host }
//!     trace
//!     0rtt off
//! }
//! ```

use std::collections::HashSet;

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::{Duration, Metrics, Server};
use serde_json::Value as Json;

use super::wrappers::{IP_SOURCES, LISTENERS, PACKET_CONNS};
use super::{GlobalOption, OptionCx};
use crate::modules::{Kind, duration, integer, next_arg, no_args, one_arg, size, some_args};
use crate::servers::ServerOptions;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[GlobalOption { name: "servers", parse: servers }];

/// Words inside the block.
const KNOWN: [&str; 21] = [
    "name",
    "listener_wrappers",
    "packet_conn_wrappers",
    "timeouts",
    "keepalive_interval",
    "keepalive_idle",
    "keepalive_count",
    "max_header_size",
    "enable_full_duplex",
    "expected_underscore_headers",
    "expected_dot_headers",
    "log_credentials",
    "protocols",
    "strict_sni_host",
    "trusted_proxies",
    "trusted_proxies_strict",
    "trusted_proxies_unix",
    "client_ip_headers",
    "metrics",
    "trace",
    "0rtt",
];

/// Longest listener first, each only once.
///
/// # Errors
/// Two options for one listener.
pub(super) fn arrange(all: &mut [ServerOptions]) -> Result<(), Diagnostic> {
    all.sort_by_key(|options| std::cmp::Reverse(options.listener.len()));
    let mut seen = HashSet::new();
    match all.iter().find(|options| !seen.insert(&options.listener)) {
        None => Ok(()),
        Some(twice) => Err(Diagnostic::error(format!(
            "cannot have 'servers' global options with duplicate listener addresses: {}",
            twice.listener
        ))),
    }
}

fn servers(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    let d = &mut cx.d;
    d.next();
    let mut options = ServerOptions::default();
    if d.next_arg() {
        d.val().clone_into(&mut options.listener);
        no_args(d)?;
    }
    while d.next_block(0) {
        let word = d.val().to_owned();
        if !KNOWN.contains(&word.as_str()) {
            let message = format!("unrecognized servers option '{word}'");
            return Err(cx.unknown(message, &KNOWN));
        }
        if word == "metrics" {
            let message = "The nested 'metrics' option inside `servers` is deprecated and will be removed in the next major version. Use the global 'metrics' option instead.";
            cx.shared.warnings.push(d.warning(message));
        }
        one(d, &word, &mut options)?;
    }
    cx.options.servers.push(options);
    cx.set(true);
    Ok(())
}

fn one(d: &mut Dispenser, word: &str, options: &mut ServerOptions) -> ParseResult<()> {
    let server = &mut options.settings;
    match word {
        "name" => {
            if options.listener.is_empty() {
                let message = "cannot set a name for a server without a listener address";
                return Err(d.err(message));
            }
            options.name = next_arg(d)?;
        }
        "listener_wrappers" => server.listener_wrappers.extend(wrappers(d, &LISTENERS)?),
        "packet_conn_wrappers" => server.packet_conn_wrappers.extend(wrappers(d, &PACKET_CONNS)?),
        "timeouts" => timeouts(d, server)?,
        "keepalive_interval" => {
            server.keepalive_interval = next_duration(d, "parsing keepalive interval duration")?;
        }
        "keepalive_idle" => {
            server.keepalive_idle = next_duration(d, "parsing keepalive idle duration")?;
        }
        "keepalive_count" => {
            let text = next_arg(d)?;
            server.keepalive_count = integer(d, &text, "parsing keepalive count int")?;
        }
        "max_header_size" => {
            let text = one_arg(d)?;
            server.max_header_bytes = size(d, &text, "parsing max_header_size")?.as_i64();
        }
        "enable_full_duplex" => server.enable_full_duplex = flag(d)?,
        "expected_underscore_headers" => server.expected_underscore_headers = some_args(d)?,
        "expected_dot_headers" => server.expected_dot_headers = some_args(d)?,
        "log_credentials" => options.log_credentials = flag(d)?,
        "protocols" => protocols(d, server)?,
        "strict_sni_host" => server.strict_sni_host = Some(strict_sni_host(d)?),
        "trusted_proxies" => {
            if !d.next_arg() {
                let message =
                    "trusted_proxies expects an IP range source module name as its first argument";
                return Err(d.err(message));
            }
            server.trusted_proxies = Some(IP_SOURCES.parse(d)?);
        }
        "trusted_proxies_strict" => server.trusted_proxies_strict = i64::from(flag(d)?),
        "trusted_proxies_unix" => server.trusted_proxies_unix = flag(d)?,
        "client_ip_headers" => client_ip_headers(d, server)?,
        "metrics" => metrics(d, server)?,
        "trace" => options.trace = flag(d)?,
        _ => {
            let argument = next_arg(d)?;
            if argument != "off" {
                return Err(d.err(format_args!(
                    "unsupported 0rtt argument '{argument}' (only 'off' is supported)"
                )));
            }
            server.allow_0rtt = Some(false);
        }
    }
    Ok(())
}

fn flag(d: &mut Dispenser) -> ParseResult<bool> {
    no_args(d)?;
    Ok(true)
}

fn wrappers(d: &mut Dispenser, kind: &Kind) -> ParseResult<Vec<Json>> {
    let mut found = Vec::new();
    let nesting = d.nesting();
    while d.next_block(nesting) {
        found.push(kind.parse(d)?);
    }
    Ok(found)
}

fn next_duration(d: &mut Dispenser, what: &str) -> ParseResult<Duration> {
    let text = next_arg(d)?;
    duration(d, &text, what)
}

fn timeouts(d: &mut Dispenser, server: &mut Server) -> ParseResult<()> {
    const KNOWN: [&str; 7] = [
        "read_body",
        "read_body_idle",
        "read_header",
        "write",
        "write_idle",
        "write_max_chunk",
        "idle",
    ];
    let nesting = d.nesting();
    while d.next_block(nesting) {
        let word = d.val().to_owned();
        let what = format!("parsing {word} timeout duration");
        match word.as_str() {
            "read_body" => server.read_timeout = next_duration(d, &what)?,
            "read_header" => server.read_header_timeout = next_duration(d, &what)?,
            "write" => server.write_timeout = next_duration(d, &what)?,
            "idle" => server.idle_timeout = next_duration(d, &what)?,
            "read_body_idle" => {
                let (timeout, rate) = idle_timeout(d, &word)?;
                server.read_idle_timeout = timeout;
                server.read_min_rate = rate.unwrap_or(server.read_min_rate);
            }
            "write_idle" => {
                let (timeout, rate) = idle_timeout(d, &word)?;
                server.write_idle_timeout = timeout;
                server.write_min_rate = rate.unwrap_or(server.write_min_rate);
            }
            "write_max_chunk" => {
                let text = one_arg(d)?;
                server.max_write_chunk = size(d, &text, "parsing write_max_chunk")?.as_i64();
            }
            _ => {
                let error = d.err(format_args!("unrecognized timeouts option '{word}'"));
                return Err(d.did_you_mean(error, KNOWN));
            }
        }
    }
    Ok(())
}

/// A pause and perhaps a rate.
fn idle_timeout(d: &mut Dispenser, word: &str) -> ParseResult<(Duration, Option<i64>)> {
    let args = d.remaining_args();
    let (timeout, rate) = match args.as_slice() {
        [timeout] => (timeout, None),
        [timeout, rate] => (timeout, Some(rate)),
        _ => return Err(d.arg_err()),
    };
    let timeout = duration(d, timeout, &format!("parsing {word} timeout duration"))?;
    let rate = rate
        .map(|rate| integer(d, rate, &format!("parsing {word} min_rate bytes/second")))
        .transpose()?;
    Ok((timeout, rate))
}

fn protocols(d: &mut Dispenser, server: &mut Server) -> ParseResult<()> {
    for protocol in d.remaining_args() {
        if !["h1", "h2", "h2c", "h3"].contains(&protocol.as_str()) {
            return Err(
                d.err(format_args!("unknown protocol '{protocol}': expected h1, h2, h2c, or h3"))
            );
        }
        if server.protocols.contains(&protocol) {
            return Err(d.err(format_args!("protocol {protocol} specified more than once")));
        }
        server.protocols.push(protocol);
    }
    no_block(d)
}

fn client_ip_headers(d: &mut Dispenser, server: &mut Server) -> ParseResult<()> {
    for header in d.remaining_args() {
        if server.client_ip_headers.contains(&header) {
            let message = format_args!("client IP header {header} specified more than once");
            return Err(d.err(message));
        }
        server.client_ip_headers.push(header);
    }
    no_block(d)
}

fn no_block(d: &mut Dispenser) -> ParseResult<()> {
    let nesting = d.nesting();
    if d.next_block(nesting) { Err(d.arg_err()) } else { Ok(()) }
}

fn strict_sni_host(d: &mut Dispenser) -> ParseResult<bool> {
    if !d.next_arg() {
        return Ok(true);
    }
    match d.val() {
        "on" => Ok(true),
        "insecure_off" => Ok(false),
        other => Err(d.err(format_args!(
            "strict_sni_host only supports 'on' or 'insecure_off', got '{other}'"
        ))),
    }
}

fn metrics(d: &mut Dispenser, server: &mut Server) -> ParseResult<()> {
    let metrics = server.metrics.insert(Metrics::default());
    let nesting = d.nesting();
    while d.next_block(nesting) {
        if d.val() != "per_host" {
            let error = d.err(format_args!("unrecognized metrics option '{}'", d.val()));
            return Err(d.did_you_mean(error, ["per_host"]));
        }
        metrics.per_host = true;
    }
    Ok(())
}
