//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.

mod config;
mod keyring;

pub use config::EchConfig;
pub use keyring::{EchKey, EchKeyring};
