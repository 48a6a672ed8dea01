//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.

mod config;
mod publisher;

pub use config::EchConfig;
pub use publisher::{DnsPublisher, Published, PublishedName};
