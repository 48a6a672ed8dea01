//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.

mod config;

pub use config::EchConfig;
