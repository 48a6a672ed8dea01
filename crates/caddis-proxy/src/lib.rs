//! The reverse proxy: the `reverse_proxy` handler and what it is made of.
//!
//! Reading order: `reverse_proxy` (the handler: config, directive, compile, run time), `upstream`
//! (one backend and its counters), `selection` (policies), `transport` (how a request gets to a
//! backend), `health` (active and passive checks), `upstreams` (sources other than a list).

#[macro_use]
mod shape;

mod dns;
mod generation;
mod health;
mod parse;
mod reverse_proxy;
mod selection;
#[cfg(test)]
mod testing;
mod transport;
mod upstream;
mod upstreams;

use caddis_core::{Directive, HandlerModule};

pub use reverse_proxy::DIRECTIVE as REVERSE_PROXY;
pub use reverse_proxy::address::{UpstreamAddress, upstream_address};
pub use reverse_proxy::copy_response::{
    DIRECTIVE as COPY_RESPONSE, HEADERS_DIRECTIVE as COPY_RESPONSE_HEADERS,
};
pub use upstream::{UpstreamStatus, upstream_status};

/// The handlers of this crate.
pub static HANDLERS: &[&HandlerModule] = &[
    &reverse_proxy::MODULE,
    &reverse_proxy::copy_response::MODULE,
    &reverse_proxy::copy_response::HEADERS_MODULE,
];

/// The directives of this crate.
pub static DIRECTIVES: &[&Directive] = &[&REVERSE_PROXY, &COPY_RESPONSE, &COPY_RESPONSE_HEADERS];

/// Ids of the modules of this crate that are no handlers.
pub static OTHER_IDS: &[&str] = &[
    "http.reverse_proxy.selection_policies.client_ip_hash",
    "http.reverse_proxy.selection_policies.cookie",
    "http.reverse_proxy.selection_policies.first",
    "http.reverse_proxy.selection_policies.header",
    "http.reverse_proxy.selection_policies.ip_hash",
    "http.reverse_proxy.selection_policies.least_conn",
    "http.reverse_proxy.selection_policies.query",
    "http.reverse_proxy.selection_policies.random",
    "http.reverse_proxy.selection_policies.random_choose",
    "http.reverse_proxy.selection_policies.round_robin",
    "http.reverse_proxy.selection_policies.uri_hash",
    "http.reverse_proxy.selection_policies.weighted_round_robin",
    "http.reverse_proxy.transport.fastcgi",
    "http.reverse_proxy.transport.http",
    "http.reverse_proxy.upstreams.a",
    "http.reverse_proxy.upstreams.multi",
    "http.reverse_proxy.upstreams.srv",
];
