//! Encrypted Client Hello (RFC 9849): the name a client asks for is hidden from the network.

mod accept;
mod config;
mod hello;
mod keyring;
mod open;
mod retry;
mod stage;

pub use config::EchConfig;
pub use keyring::{EchKey, EchKeyring};
pub use open::{Opened, open};

pub use accept::{Acceptance, Refused, records};
pub use retry::Rejection;
pub(crate) use retry::suites;
pub(crate) use stage::{GROUPS, RANDOM};

#[cfg(test)]
mod tests;
