//! Tests that start the real program on loopback with scripted peers. One binary, since each
//! further one links everything again.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

mod admin;
mod cli;
mod proxy;
mod reload;
mod serve;
mod support;
mod tidy;
mod tls;
