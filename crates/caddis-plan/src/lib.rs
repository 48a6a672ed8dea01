//! Config → plan: resolved, immutable, without I/O.
//!
//! `auto_https` rewrites the HTTP app as automatic HTTPS demands, `compile` turns each server into
//! a `ServerPlan` and pairs listeners with servers. Files, sockets and certificates are the
//! engine's, when it binds the plan.

mod admin;
mod auto_https;
mod compile;
mod config_loader;
mod events;
mod host_index;
mod listener_wrappers;
mod names;
mod redirects;
mod server;
mod tls;
mod trust;

pub use admin::{AdminPlan, DEFAULT_ADMIN, DEFAULT_REMOTE_ADMIN, IdentityPlan, RemotePlan};
pub use auto_https::{ManagedName, auto_https};
pub use compile::{ListenerPlan, Plan, compile};
pub use config_loader::{ConfigLoader, LoaderCertificate};
pub use events::{Program, SubscriptionPlan};
pub use host_index::SiteRoutes;
pub use listener_wrappers::{ListenerWrapper, ListenerWrappers, ProxyPolicy, ProxyProtocol};
pub use names::{internal_name, public_name, qualifies, wildcard_covers};
pub use server::{HeaderNameRule, MetricsPlan, Protocols, ServerPlan, Timeouts};
pub use tls::{EchNeeds, TlsPlan};
pub use trust::Trust;
