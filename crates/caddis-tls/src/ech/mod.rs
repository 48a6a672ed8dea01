//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.

mod config;
mod keyring;
mod publisher;

pub use config::EchConfig;
pub use keyring::{EchKey, EchKeyring};
pub use publisher::{DnsPublisher, Published, PublishedName};
