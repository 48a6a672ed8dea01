//! `reverse_proxy`: passes requests on to other servers.
//!
//! ```text
//! reverse_proxy [<matcher>] [<upstreams...>] {
//!     to      <upstreams...>
//!     dynamic <module> ...
//!
//!     lb_policy       <name> [<options...>]
//!     lb_retries      <n>
//!     lb_try_duration <duration>
//!     lb_try_interval <duration>
//!     lb_retry_match  <request matcher>
//!
//!     health_uri | health_upstream | health_port | health_interval | health_passes | health_fails
//!     health_timeout | health_method | health_status | health_request_body | health_body
//!     health_follow_redirects | health_headers { <field> [<values...>] }
//!
//!     fail_duration | max_fails | unhealthy_status | unhealthy_latency | unhealthy_request_count
//!
//!     flush_interval | request_buffers | response_buffers
//!     stream_timeout | stream_close_delay | stream_buffer_size
//!
//!     trusted_proxies [private_ranges] <ranges...>
//!     header_up   [+|-]<field> [<value|regexp> [<replacement>]]
//!     header_down [+|-]<field> [<value|regexp> [<replacement>]]
//!     method  <method>
//!     rewrite <uri>
//!
//!     transport <name> { ... }
//!
//!     @name { status <codes...>; header <field> [<value>] }
//!     replace_status  [@name] <code>
//!     handle_response [@name] { <directives...> }
//!     verbose_logs
//! }
//! ```
//!
//! Where the policy is `weighted_round_robin` without weights, each address may be followed by its
//! weight: `to app-1:8000 2` gives the same JSON as `lb_policy weighted_round_robin 2 …`.
//!
//! JSON: see `config`.

pub(crate) mod address;
mod answer;
mod attempt;
mod buffer;
mod compile;
pub(crate) mod config;
pub(crate) mod copy_response;
mod debug_log;
mod directive;
#[cfg(test)]
mod directive_tests;
mod forwarded;
mod handler;
mod info;
mod passed_on;
mod retry;
mod subdirectives;
#[cfg(test)]
mod tests;
mod upgrade;

use caddis_core::{Directive, DirectiveKind, HandlerModule};

/// `http.handlers.reverse_proxy`.
pub(crate) static MODULE: HandlerModule =
    HandlerModule { id: "http.handlers.reverse_proxy", compile: compile::compile };

/// `reverse_proxy`.
pub static DIRECTIVE: Directive = Directive {
    name: "reverse_proxy",
    kind: DirectiveKind::Handler(directive::parse),
    ordered: true,
};
