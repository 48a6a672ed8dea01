//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.
//!
//! Handshakes: `hello.rs` takes hellos apart, `open.rs` opens them with the keys of the
//! `keyring.rs`, `accept.rs` answers them and `retry.rs` those that no key opens, both by what
//! `stage.rs` lets rustls find. Keys: `stored` has them in the storage, `rotation.rs` says when they
//! are replaced, `keeper.rs` does it, and `publication` and `publisher` tell clients.

mod accept;
mod config;
mod hello;
mod keeper;
mod keyring;
mod meta;
mod open;
mod publication;
mod publisher;
mod retry;
mod rotation;
mod stage;
mod stored;

pub use accept::{Acceptance, HANDSHAKE, MAX_RECORD, Refused, records};
pub use config::EchConfig;
pub use hello::CLIENT_HELLO;
pub use keeper::{EchKeys, EchPlan, keep};
pub use keyring::{EchKey, EchKeyring};
pub use open::{Opened, open};
pub use publication::{Publication, default_publisher};
pub use publisher::{DnsPublisher, Published, PublishedName};
pub use retry::Rejection;
pub(crate) use retry::suites;
pub(crate) use stage::{GROUPS, RANDOM};

#[cfg(test)]
mod tests;
