//! The engine: sockets, workers, HTTP/1 and HTTP/2 fronts, reload, admin API.
//!
//! Reading order: `generation` (compile → bind → commit), `worker`, `listen`, `connection`, `h1`,
//! `h2`, `service`. The engine knows no directive and no single handler.

mod admin;
mod autosave;
mod connection;
mod events;
mod generation;
mod h1;
mod h2;
mod listen;
mod log_body;
mod server;
mod service;
mod signals;
mod sniff;
mod worker;
mod wrappers;

pub use admin::{AdaptHook, AdminHooks, ExplainHook};
pub use generation::{Engine, EngineOptions, LoadError};
pub use signals::{Signal, next_signal};
