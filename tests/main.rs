//! Tests that start the real program on loopback with scripted peers. One binary, since each
//! further one links everything again.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

mod abuse;
mod acme;
mod acme_server;
mod admin;
mod certs_check;
mod check;
mod cli;
mod events;
mod explain;
mod fixtures;
mod health;
mod hostile;
mod http2;
mod http3;
mod ocsp;
mod policies;
mod proxy;
mod reload;
mod serve;
mod storage;
mod streams;
mod support;
mod tidy;
mod tls;
mod trust;
