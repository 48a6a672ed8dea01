//! Which certificates are managed, and how.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::value::Duration;

envelope! {
    /// `automation`.
    pub struct AutomationConfig {
        /// Policies; the first that has the subject holds.
        pub policies: Vec<AutomationPolicy>,
        /// Limits of on-demand certificates.
        pub on_demand: Option<OnDemandConfig>,
        /// How often staples are looked after.
        pub ocsp_interval: Duration,
        /// How often certificates are looked after.
        pub renew_interval: Duration,
        /// How often the storage is tidied.
        pub storage_clean_interval: Duration,
    }

    /// One policy.
    pub struct AutomationPolicy {
        /// Names; all others if empty.
        pub subjects: Vec<String>,
        /// Issuers, key `module`, tried in order.
        pub issuers: Vec<Value>,
        /// Sources of certificates at handshake time, key `via`.
        pub get_certificate: Vec<Value>,
        /// Ask for the must-staple extension.
        pub must_staple: bool,
        /// Share of the lifetime left at which to renew.
        pub renewal_window_ratio: f64,
        /// `ed25519`, `p256`, `p384`, `rsa2048`, `rsa4096`.
        pub key_type: String,
        /// Storage module, key `module`.
        pub storage: Option<Value>,
        /// Obtain at the first handshake.
        pub on_demand: bool,
        /// Keep the key at renewal.
        pub reuse_private_keys: bool,
        /// No staples.
        pub disable_ocsp_stapling: bool,
        /// OCSP responders by the one they replace.
        pub ocsp_overrides: BTreeMap<String, String>,
    }

    /// `on_demand`.
    pub struct OnDemandConfig {
        /// Old form of the permission by HTTP.
        pub ask: String,
        /// Permission module, key `module`.
        pub permission: Option<Value>,
    }
}
