//! Tests that start the real program on loopback with scripted peers. One binary, since each
//! further one links everything again.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

mod abuse;
mod acme;
mod acme_server;
mod acme_trouble;
mod admin;
mod certs_check;
mod check;
mod cli;
mod coverage;
mod descriptors;
mod events;
mod explain;
mod explain_truth;
mod fixtures;
mod health;
mod hostile;
mod http2;
mod http3;
mod many;
mod ocsp;
mod operation;
mod policies;
mod proxy;
mod reload;
mod remote_admin;
mod serve;
mod soak;
mod splice;
mod storage;
mod streams;
mod support;
mod tidy;
mod tls;
mod tracing;
mod trust;
mod upstream_http2;
mod upstream_http3;
