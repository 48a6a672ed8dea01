//! JSON shape of the http transport.

use caddis_config::{Duration, Value};

shape! {
    /// `{"protocol": "http", …}`.
    pub(crate) struct HttpTransportConfig {
        /// DNS servers instead of the system's resolver.
        pub resolver: Option<ResolverConfig>,
        /// TLS to the upstream.
        pub tls: Option<TlsConfig>,
        /// Idle connections.
        pub keep_alive: Option<KeepAliveConfig>,
        /// Whether gzip is asked for where the client did not ask.
        pub compression: Option<bool>,
        /// Most connections to one address.
        pub max_conns_per_host: i64,
        /// `v1` or `v2`.
        pub proxy_protocol: String,
        /// Deprecated form of `network_proxy`.
        pub forward_proxy_url: String,
        /// Time to connect.
        pub dial_timeout: Duration,
        /// When the other address family is tried as well.
        pub dial_fallback_delay: Duration,
        /// Time to wait for the response head.
        pub response_header_timeout: Duration,
        /// Time to wait for `100 Continue`.
        pub expect_continue_timeout: Duration,
        /// Bytes of a response head.
        pub max_response_header_size: i64,
        /// Accepted; buffers are the worker's.
        pub write_buffer_size: i64,
        /// Accepted; buffers are the worker's.
        pub read_buffer_size: i64,
        /// Time between two reads.
        pub read_timeout: Duration,
        /// Time for a write.
        pub write_timeout: Duration,
        /// `1.1`, `2`, `h2c`, `3`.
        pub versions: Vec<String>,
        /// Source address.
        pub local_address: String,
        /// Forward proxy module, key `from`.
        pub network_proxy: Value,
    }

    /// DNS servers.
    pub(crate) struct ResolverConfig {
        /// Their addresses.
        pub addresses: Vec<String>,
    }

    /// Idle connections.
    pub(crate) struct KeepAliveConfig {
        /// Whether connections are kept.
        pub enabled: Option<bool>,
        /// Time between TCP keepalive probes.
        pub probe_interval: Duration,
        /// Most idle connections in all.
        pub max_idle_conns: i64,
        /// Most idle connections to one address.
        pub max_idle_conns_per_host: i64,
        /// How long a connection may be idle.
        pub idle_timeout: Duration,
    }

    /// TLS to the upstream.
    pub(crate) struct TlsConfig {
        /// Trust pool module, key `provider`.
        pub ca: Value,
        /// Base64 DER certificates to trust.
        pub root_ca_pool: Vec<String>,
        /// PEM files to trust.
        pub root_ca_pem_files: Vec<String>,
        /// Client certificate, PEM file.
        pub client_certificate_file: String,
        /// Its key, PEM file.
        pub client_certificate_key_file: String,
        /// Name of a managed client certificate.
        pub client_certificate_automate: String,
        /// Whether any certificate is fine.
        pub insecure_skip_verify: bool,
        /// Time for the handshake.
        pub handshake_timeout: Duration,
        /// Name to ask for and to verify.
        pub server_name: String,
        /// Accepted; never done.
        pub renegotiation: String,
        /// Ports to which TLS is not used.
        pub except_ports: Vec<String>,
        /// Key exchange groups.
        pub curves: Vec<String>,
    }
}
