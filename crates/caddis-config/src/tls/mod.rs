//! The `tls` app.

mod automation;
mod certificates;
mod connection_policy;
mod issuers;
mod session_tickets;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use automation::{AutomationConfig, AutomationPolicy, OnDemandConfig};
pub use certificates::{CertCacheOptions, CertKeyFilePair, CertKeyPemPair};
pub use connection_policy::{ClientAuthentication, ConnectionPolicy, CustomCertSelectionPolicy};
pub use issuers::{
    AcmeIssuer, ChainPreference, ChallengesConfig, DnsChallengeConfig, ExternalAccount,
    HttpChallengeConfig, InternalIssuer, TlsAlpnChallengeConfig, ZeroSslIssuer,
};
pub use session_tickets::SessionTicketService;

use crate::module::ModuleMap;

envelope! {
    /// `apps.tls`.
    pub struct TlsApp {
        /// Certificate loaders by module name; `automate` lists subjects.
        pub certificates: ModuleMap,
        /// How certificates are obtained.
        pub automation: Option<AutomationConfig>,
        /// Session tickets.
        pub session_tickets: Option<SessionTicketService>,
        /// The certificate cache.
        pub cache: Option<CertCacheOptions>,
        /// No OCSP staples.
        pub disable_ocsp_stapling: bool,
        /// Do not test the storage at start.
        pub disable_storage_check: bool,
        /// Do not tidy the storage.
        pub disable_storage_clean: bool,
        /// Encrypted Client Hello.
        pub encrypted_client_hello: Option<Ech>,
        /// DNS module, key `name`.
        pub dns: Option<Value>,
        /// Resolvers for DNS look-ups.
        pub resolvers: Vec<String>,
    }

    /// `encrypted_client_hello`.
    pub struct Ech {
        /// The outer names.
        pub configs: Vec<EchConfiguration>,
        /// Where they are published; by the provider of `dns` where it is absent.
        pub publication: Option<Vec<EchPublication>>,
    }

    /// One publication.
    pub struct EchPublication {
        /// Outer names; all where they are absent.
        pub configs: Option<Vec<String>>,
        /// Inner names; those of all servers where they are absent.
        pub domains: Option<Vec<String>>,
        /// Publisher modules by name.
        pub publishers: ModuleMap,
    }
}

/// One outer name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EchConfiguration {
    /// The name that is sent in clear; always written.
    #[serde(deserialize_with = "crate::omit::nullable")]
    pub public_name: String,
}
