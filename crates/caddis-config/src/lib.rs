//! The inert shapes of a configuration: what Caddy's JSON looks like, the value types in it,
//! editing at a path, and a writer whose bytes equal Go's.
//!
//! Nothing here knows which modules exist: a module slot is a [`serde_json::Value`], a map of
//! modules a [`ModuleMap`]. Decoding is strict, as Caddy's is: an unknown field is an error that
//! names its path.
//!
//! ```
//! let config = caddis_config::from_slice(br#"{"apps":{"http":{"http_port":8080}}}"#)?;
//! assert_eq!(config.apps.http.as_ref().map(|http| http.http_port), Some(8080));
//! # Ok::<(), caddis_config::ConfigError>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

#[macro_use]
mod omit;

mod admin;
mod apps;
mod decode;
mod error;
mod events;
mod filesystems;
mod logging;
mod module;
mod pki;

#[cfg(test)]
mod corpus;

pub mod http;
pub mod json;
pub mod tls;
pub mod value;

pub use admin::{
    AdminAccess, AdminConfig, AdminPermissions, ConfigSettings, IdentityConfig, RemoteAdmin,
};
pub use apps::Apps;
pub use decode::{decode, decode_without, from_slice, from_str};
pub use error::ConfigError;
pub use events::{EventsApp, Subscription};
pub use filesystems::{FilesystemEntry, Filesystems};
pub use http::{
    AutoHttpsConfig, HttpApp, HttpErrorConfig, Metrics, Route, RouteList, Server, ServerLogConfig,
};
pub use logging::{BaseLog, CustomLog, LogSampling, Logging};
pub use module::{ModuleMap, module_object};
pub use omit::{Omit, nullable};
pub use pki::{Ca, KeyPair, Pki};
pub use serde_json::Value;
pub use tls::{AutomationConfig, AutomationPolicy, ConnectionPolicy, TlsApp};
pub use value::{
    Duration, IpRange, IpRanges, NetworkAddress, Size, StringList, WeakString, private_ranges,
};

envelope! {
    /// A whole configuration document.
    pub struct Config {
        /// The admin endpoint.
        pub admin: Option<AdminConfig>,
        /// Default and named logs.
        pub logging: Option<Logging>,
        /// Storage module, key `module`.
        pub storage: Option<Value>,
        /// Apps by name.
        pub apps: Apps,
    }
}
