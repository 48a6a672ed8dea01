//! The `http` app.

mod errors;
mod logs;
mod route;
mod server;

use std::collections::BTreeMap;

pub use errors::HttpErrorConfig;
pub use logs::ServerLogConfig;
pub use route::{Route, RouteList};
pub use server::{AutoHttpsConfig, Metrics, Server};

use crate::value::Duration;

envelope! {
    /// `apps.http`.
    pub struct HttpApp {
        /// Port of plain HTTP; 80 if 0.
        pub http_port: i64,
        /// Port of HTTPS; 443 if 0.
        pub https_port: i64,
        /// How long open requests may go on at a stop; for ever if 0.
        pub grace_period: Duration,
        /// How long to go on before a stop begins.
        pub shutdown_delay: Duration,
        /// Servers by name.
        pub servers: BTreeMap<String, Server>,
        /// Count requests.
        pub metrics: Option<Metrics>,
    }
}
