//! Tests that start the real program on loopback with scripted peers. One binary, since each
//! further one links everything again.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test may end with a panic, tell how it went, and is nobody's library"
)]

mod abuse;
mod acme;
mod acme_server;
mod acme_trouble;
mod admin;
mod browsers;
mod certs_check;
mod check;
mod cli;
mod clients;
mod coverage;
mod descriptors;
mod ech_keys;
mod events;
mod explain;
mod explain_truth;
mod fixtures;
mod handshakes;
mod health;
mod hidden_hellos;
mod hostile;
mod http2;
mod http2_limits;
mod http2_rules;
mod http2_trailers;
mod http3;
mod many;
mod ocsp;
mod operation;
mod paths;
mod policies;
mod proxy;
mod reload;
mod remote_admin;
mod resources;
mod sent_once;
mod serve;
mod soak;
mod splice;
mod stalled;
mod starts;
mod storage;
mod streams;
mod support;
mod tidy;
mod tls;
mod tracing;
mod trust;
mod trusted_fields;
mod tunnels;
mod upstream_http2;
mod upstream_http3;
