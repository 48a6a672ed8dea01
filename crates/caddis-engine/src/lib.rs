//! The engine: sockets, workers, HTTP/1, HTTP/2 and HTTP/3 fronts, reload, admin API.
//!
//! Reading order: `generation` (compile → bind → commit), `worker`, `listen`, `connection`, `h1`,
//! `h2`, `quic`, `h3`, `service`. The engine knows no directive and no single handler.

mod admin;
mod autosave;
mod body_limits;
mod connection;
mod events;
mod faults;
mod gather;
mod generation;
mod h1;
mod h2;
mod h3;
mod listen;
mod log_body;
mod notify;
mod pull;
mod quic;
mod request_metrics;
mod server;
mod service;
mod signals;
mod sniff;
mod streams;
mod unveil;
mod worker;
mod wrappers;

pub use admin::{AdaptHook, AdminHooks, ExplainHook, Refusal};
pub use generation::{Checker, ConfigSource, Engine, EngineOptions, LoadError};
pub use signals::{Signal, next_signal};
