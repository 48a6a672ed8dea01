//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.

mod config;
mod keeper;
mod keyring;
mod meta;
mod publication;
mod publisher;
mod rotation;
mod stored;

pub use config::EchConfig;
pub use keeper::{EchKeys, EchPlan, keep};
pub use keyring::{EchKey, EchKeyring};
pub use publication::{Publication, default_publisher};
pub use publisher::{DnsPublisher, Published, PublishedName};
