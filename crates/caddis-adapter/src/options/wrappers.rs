//! Listener wrappers and trusted proxies.
//!
//! ```text
//! tls
//! http_redirect
//! proxy_protocol {
//!     timeout         <duration>
//!     allow           <cidr…>
//!     deny            <cidr…>
//!     fallback_policy ignore | use | reject | require | skip
//! }
//! static [private_ranges] <cidr…>
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::private_ranges;
use serde_json::{Value as Json, json};

use crate::fields::Fields;
use crate::modules::{Kind, duration, next_arg, no_args};

/// `listener_wrappers`.
pub(super) const LISTENERS: Kind = Kind {
    namespace: "caddy.listeners",
    key: "wrapper",
    modules: &[("http_redirect", nothing), ("proxy_protocol", proxy_protocol), ("tls", nothing)],
};

/// `packet_conn_wrappers`.
pub(super) const PACKET_CONNS: Kind =
    Kind { namespace: "caddy.packetconns", key: "wrapper", modules: &[] };

/// `trusted_proxies`.
pub(super) const IP_SOURCES: Kind =
    Kind { namespace: "http.ip_sources", key: "source", modules: &[("static", static_ranges)] };

fn nothing(_: &mut Dispenser) -> ParseResult<Json> {
    Ok(json!({}))
}

fn proxy_protocol(d: &mut Dispenser) -> ParseResult<Json> {
    const POLICIES: [&str; 5] = ["IGNORE", "USE", "REJECT", "REQUIRE", "SKIP"];
    d.next();
    no_args(d)?;
    let mut fields = Fields::default();
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    while d.next_block(0) {
        match d.val() {
            "timeout" => {
                let text = next_arg(d)?;
                let timeout = duration(d, &text, "parsing proxy_protocol timeout duration")?;
                fields.integer("timeout", timeout.as_nanos());
            }
            "allow" => allow.extend(d.remaining_args()),
            "deny" => deny.extend(d.remaining_args()),
            "fallback_policy" => {
                let policy = next_arg(d)?.to_uppercase();
                if !POLICIES.contains(&policy.as_str()) {
                    let error = d.err(format_args!("{} is invalid policy", d.val()));
                    let known = POLICIES.map(str::to_lowercase);
                    return Err(d.did_you_mean(error, known.iter().map(String::as_str)));
                }
                // The first one is the default and is not written.
                let shown = if policy == POLICIES[0] { String::new() } else { policy };
                fields.text("fallback_policy", shown);
            }
            _ => return Err(d.arg_err()),
        }
    }
    fields.list("allow", allow);
    fields.list("deny", deny);
    Ok(fields.into())
}

fn static_ranges(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut ranges = Vec::new();
    while d.next_arg() {
        match d.val() {
            "private_ranges" => ranges.extend(private_ranges().iter().map(|r| (*r).to_owned())),
            range => ranges.push(range.to_owned()),
        }
    }
    let mut fields = Fields::default();
    fields.list("ranges", ranges);
    Ok(fields.into())
}
