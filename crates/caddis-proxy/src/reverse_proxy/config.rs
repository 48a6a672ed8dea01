//! JSON shape of the handler.

use std::collections::BTreeMap;

use caddis_config::{Duration, ModuleMap, Omit, Route, Value, WeakString};
use caddis_core::response_matcher::ResponseMatcherConfig;
use caddis_http::handlers::{headers, rewrite};

shape! {
    /// `{"handler": "reverse_proxy", …}`.
    pub(crate) struct Config {
        /// Transport module, key `protocol`.
        pub transport: Value,
        /// Circuit breaker module, key `type`.
        pub circuit_breaker: Value,
        /// Choice of upstreams, and retries.
        pub load_balancing: Option<LoadBalancing>,
        /// Checks.
        pub health_checks: Option<HealthChecks>,
        /// The list of upstreams.
        pub upstreams: Vec<UpstreamConfig>,
        /// Another source of upstreams, key `source`.
        pub dynamic_upstreams: Value,
        /// How long response data may be held back; negative: not at all.
        pub flush_interval: Duration,
        /// Peers whose `X-Forwarded-*` are kept.
        pub trusted_proxies: Vec<String>,
        /// Header operations.
        pub headers: Option<headers::Config>,
        /// Bytes of request body to read before it is sent; -1 for all.
        pub request_buffers: i64,
        /// Bytes of response body to read before it is sent; -1 for all.
        pub response_buffers: i64,
        /// How long a tunnel may live.
        pub stream_timeout: Duration,
        /// Bytes copied at once in a tunnel.
        pub stream_buffer_size: i64,
        /// How long tunnels live on when the configuration changes.
        pub stream_close_delay: Duration,
        /// Rewriting of the request that goes to the upstream.
        pub rewrite: Option<rewrite::Config>,
        /// What is done with responses.
        pub handle_response: Vec<ResponseHandlerConfig>,
        /// Whether more is logged.
        pub verbose_logs: bool,
    }

    /// One upstream.
    pub(crate) struct UpstreamConfig {
        /// Its address.
        pub dial: String,
        /// Requests at once.
        pub max_requests: i64,
    }

    /// Choice of upstreams, and retries.
    pub(crate) struct LoadBalancing {
        /// Policy module, key `policy`.
        pub selection_policy: Value,
        /// Further tries.
        pub retries: i64,
        /// How long tries go on.
        pub try_duration: Duration,
        /// The pause between tries.
        pub try_interval: Duration,
        /// Which requests may be tried again.
        pub retry_match: Vec<ModuleMap>,
    }

    /// Checks.
    pub(crate) struct HealthChecks {
        /// Requests of our own.
        pub active: Option<ActiveConfig>,
        /// Failures of proxied requests.
        pub passive: Option<PassiveConfig>,
    }

    /// Active checks.
    pub(crate) struct ActiveConfig {
        /// Deprecated form of `uri`.
        pub path: String,
        /// Path and query.
        pub uri: String,
        /// Address to check instead of the upstream's.
        pub upstream: String,
        /// Port to check instead of the upstream's.
        pub port: i64,
        /// Fields of the request.
        pub headers: BTreeMap<String, Vec<String>>,
        /// Its method.
        pub method: String,
        /// Its body.
        pub body: String,
        /// Whether redirects are followed.
        pub follow_redirects: bool,
        /// Time between checks.
        pub interval: Duration,
        /// Time for one check.
        pub timeout: Duration,
        /// Passed checks in a row until it is up.
        pub passes: i64,
        /// Failed checks in a row until it is down.
        pub fails: i64,
        /// Bytes of body that are read.
        pub max_size: i64,
        /// Expected status, or class.
        pub expect_status: i64,
        /// Expression the body must match.
        pub expect_body: String,
    }

    /// Passive checks.
    pub(crate) struct PassiveConfig {
        /// How long a failure is remembered; 0: not at all.
        pub fail_duration: Duration,
        /// Failures until it is down.
        pub max_fails: i64,
        /// Requests in flight at which it is full.
        pub unhealthy_request_count: i64,
        /// Statuses that are failures.
        pub unhealthy_status: Vec<i64>,
        /// Latency that is a failure.
        pub unhealthy_latency: Duration,
    }
}

/// What is done with a response.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ResponseHandlerConfig {
    /// Which ones; all if absent.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub(crate) matcher: Option<ResponseMatcherConfig>,
    /// Another status.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "Omit::is_omitted"
    )]
    pub(crate) status_code: WeakString,
    /// Routes to run instead of copying the response.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "Omit::is_omitted"
    )]
    pub(crate) routes: Vec<Route>,
}

impl Config {
    /// Load balancing, made on first use.
    pub(crate) fn balancing(&mut self) -> &mut LoadBalancing {
        self.load_balancing.get_or_insert_default()
    }

    /// Active checks, made on first use.
    pub(crate) fn active(&mut self) -> &mut ActiveConfig {
        self.health_checks.get_or_insert_default().active.get_or_insert_default()
    }

    /// Passive checks, made on first use.
    pub(crate) fn passive(&mut self) -> &mut PassiveConfig {
        self.health_checks.get_or_insert_default().passive.get_or_insert_default()
    }
}
