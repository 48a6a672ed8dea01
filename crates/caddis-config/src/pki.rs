//! The `pki` app.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::value::Duration;

envelope! {
    /// `apps.pki`.
    pub struct Pki {
        /// Authorities by id; `local` exists on demand.
        pub certificate_authorities: BTreeMap<String, Ca>,
    }

    /// One certificate authority.
    pub struct Ca {
        /// Name for people.
        pub name: String,
        /// Common name of the root.
        pub root_common_name: String,
        /// Common name of the intermediate.
        pub intermediate_common_name: String,
        /// Lifetime of the intermediate.
        pub intermediate_lifetime: Duration,
        /// Put the root into the system's trust store; yes if absent.
        pub install_trust: Option<bool>,
        /// A given root.
        pub root: Option<KeyPair>,
        /// A given intermediate.
        pub intermediate: Option<KeyPair>,
        /// How often certificates are looked after.
        pub maintenance_interval: Duration,
        /// Share of the lifetime left at which to renew.
        pub renewal_window_ratio: f64,
        /// Storage module, key `module`.
        pub storage: Option<Value>,
    }

    /// A certificate with its key.
    pub struct KeyPair {
        /// Certificate (file name).
        pub certificate: String,
        /// Key (file name).
        pub private_key: String,
        /// `pem_file` if empty.
        pub format: String,
    }
}
