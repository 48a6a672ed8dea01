//! The `admin` object.

use serde_json::Value;

use crate::value::Duration;

envelope! {
    /// `admin`: the administration endpoint.
    pub struct AdminConfig {
        /// No endpoint at all.
        pub disabled: bool,
        /// Listen address; `localhost:2019` if empty.
        pub listen: String,
        /// Check the `Origin` header of every request.
        pub enforce_origin: bool,
        /// Origins that may ask; those of the listen address if absent, none if empty.
        pub origins: Option<Vec<String>>,
        /// How configurations are kept and loaded.
        pub config: Option<ConfigSettings>,
        /// Certificates of this instance.
        pub identity: Option<IdentityConfig>,
        /// The endpoint for remote administration.
        pub remote: Option<RemoteAdmin>,
    }

    /// `admin.config`.
    pub struct ConfigSettings {
        /// Keep the active configuration on disk; yes if absent.
        pub persist: Option<bool>,
        /// Module that loads a configuration, key `module`.
        pub load: Option<Value>,
        /// How long to wait before (or between) loads.
        pub load_delay: Duration,
    }

    /// `admin.identity`.
    pub struct IdentityConfig {
        /// Names or addresses on the certificate.
        pub identifiers: Vec<String>,
        /// Issuers, key `module`.
        pub issuers: Vec<Value>,
    }

    /// `admin.remote`.
    pub struct RemoteAdmin {
        /// Listen address; `:2021` if empty.
        pub listen: String,
        /// Who may do what.
        pub access_control: Vec<AdminAccess>,
    }

    /// One entry of `access_control`.
    pub struct AdminAccess {
        /// Base64 DER certificates of the clients.
        pub public_keys: Vec<String>,
        /// What they may do.
        pub permissions: Vec<AdminPermissions>,
    }

    /// One permission.
    pub struct AdminPermissions {
        /// Path prefixes; all if absent, none if empty.
        pub paths: Option<Vec<String>>,
        /// Methods; all if absent, none if empty.
        pub methods: Option<Vec<String>>,
    }
}
