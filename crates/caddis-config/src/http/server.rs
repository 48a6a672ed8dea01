//! Servers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{HttpErrorConfig, Route, RouteList, ServerLogConfig};
use crate::tls::ConnectionPolicy;
use crate::value::Duration;

envelope! {
    /// One HTTP server.
    pub struct Server {
        /// Network addresses.
        pub listen: Vec<String>,
        /// Listener wrappers, key `wrapper`.
        pub listener_wrappers: Vec<Value>,
        /// Packet connection wrappers, key `wrapper`.
        pub packet_conn_wrappers: Vec<Value>,
        /// Longest time to read a request.
        pub read_timeout: Duration,
        /// Longest time to read a request's head.
        pub read_header_timeout: Duration,
        /// Longest pause while a body is read.
        pub read_idle_timeout: Duration,
        /// Least rate of a request body, bytes per second.
        pub read_min_rate: i64,
        /// Longest time to write a response.
        pub write_timeout: Duration,
        /// Longest pause while a body is written.
        pub write_idle_timeout: Duration,
        /// Least rate of a response body, bytes per second.
        pub write_min_rate: i64,
        /// Largest single write that a rate is measured over.
        pub max_write_chunk: i64,
        /// Longest wait for the next request.
        pub idle_timeout: Duration,
        /// Interval of TCP keep-alive probes.
        pub keepalive_interval: Duration,
        /// Idle time before the first probe.
        pub keepalive_idle: Duration,
        /// Unanswered probes before the connection is given up.
        pub keepalive_count: i64,
        /// Largest head of a request.
        pub max_header_bytes: i64,
        /// Read and write at once in HTTP/1.
        pub enable_full_duplex: bool,
        /// Header names with underscores that are let through.
        pub expected_underscore_headers: Vec<String>,
        /// Header names with dots that are let through.
        pub expected_dot_headers: Vec<String>,
        /// Routes.
        pub routes: RouteList,
        /// Routes for errors.
        pub errors: Option<HttpErrorConfig>,
        /// Routes for `invoke`, by name.
        pub named_routes: BTreeMap<String, Route>,
        /// TLS settings; the first policy that matches holds.
        pub tls_connection_policies: Vec<ConnectionPolicy>,
        /// Automatic HTTPS.
        pub automatic_https: Option<AutoHttpsConfig>,
        /// Require that SNI and `Host` agree.
        pub strict_sni_host: Option<bool>,
        /// Module of trusted proxies, key `source`.
        pub trusted_proxies: Option<Value>,
        /// Headers that carry the client's address.
        pub client_ip_headers: Vec<String>,
        /// Walk those headers from the right.
        pub trusted_proxies_strict: i64,
        /// Trust every Unix socket connection.
        pub trusted_proxies_unix: bool,
        /// Access logs.
        pub logs: Option<ServerLogConfig>,
        /// `h1`, `h2`, `h2c`, `h3`.
        pub protocols: Vec<String>,
        /// Protocols per listen address; `null` means `protocols`.
        pub listen_protocols: Vec<Option<Vec<String>>>,
        /// Allow early data.
        pub allow_0rtt: Option<bool>,
        /// Count requests of this server.
        pub metrics: Option<Metrics>,
    }

    /// `automatic_https`.
    pub struct AutoHttpsConfig {
        /// Nothing is automatic.
        pub disable: bool,
        /// No redirects from HTTP.
        pub disable_redirects: bool,
        /// No certificates.
        pub disable_certificates: bool,
        /// Hosts for which nothing is automatic.
        pub skip: Vec<String>,
        /// Hosts without automatic certificates.
        pub skip_certificates: Vec<String>,
        /// Manage certificates although one is loaded.
        pub ignore_loaded_certificates: bool,
    }

    /// `metrics`.
    pub struct Metrics {
        /// Label by host.
        pub per_host: bool,
        /// Also hosts that are named nowhere.
        pub observe_catchall_hosts: bool,
        /// Send to an OpenTelemetry collector.
        pub otlp: bool,
    }
}
