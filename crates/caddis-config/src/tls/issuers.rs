//! Issuers of certificates, without their inline key `module`.

use serde_json::Value;

use crate::value::Duration;

envelope! {
    /// `tls.issuance.acme`.
    pub struct AcmeIssuer {
        /// Directory URL.
        pub ca: String,
        /// Directory URL for repeated attempts.
        pub test_ca: String,
        /// Account mail address.
        pub email: String,
        /// Certificate profile.
        pub profile: String,
        /// Account key in PEM.
        pub account_key: String,
        /// Binding to an account elsewhere.
        pub external_account: Option<ExternalAccount>,
        /// Longest time for one operation.
        pub acme_timeout: Duration,
        /// How control of a name is shown.
        pub challenges: Option<ChallengesConfig>,
        /// Roots that the directory's certificate may have.
        pub trusted_roots_pem_files: Vec<String>,
        /// Which of several chains.
        pub preferred_chains: Option<ChainPreference>,
        /// Wanted lifetime.
        pub certificate_lifetime: Duration,
        /// Proxy module, key `from`.
        pub network_proxy: Option<Value>,
    }

    /// `external_account`.
    pub struct ExternalAccount {
        /// Key identifier.
        pub key_id: String,
        /// Key, base64url.
        pub mac_key: String,
    }

    /// `challenges`.
    pub struct ChallengesConfig {
        /// HTTP-01.
        pub http: Option<HttpChallengeConfig>,
        /// TLS-ALPN-01.
        #[serde(rename = "tls-alpn")]
        pub tls_alpn: Option<TlsAlpnChallengeConfig>,
        /// DNS-01.
        pub dns: Option<DnsChallengeConfig>,
        /// Host for the challenge's own listeners.
        pub bind_host: String,
        /// Share challenges through the storage; yes if absent.
        pub distributed: Option<bool>,
    }

    /// `challenges.http`.
    pub struct HttpChallengeConfig {
        /// Not this challenge.
        pub disabled: bool,
        /// Port instead of 80.
        pub alternate_port: i64,
    }

    /// `challenges.tls-alpn`.
    pub struct TlsAlpnChallengeConfig {
        /// Not this challenge.
        pub disabled: bool,
        /// Port instead of 443.
        pub alternate_port: i64,
    }

    /// `challenges.dns`.
    pub struct DnsChallengeConfig {
        /// Provider module, key `name`.
        pub provider: Option<Value>,
        /// TTL of the record.
        pub ttl: Duration,
        /// Wait before the record is looked for.
        pub propagation_delay: Duration,
        /// Longest wait for the record.
        pub propagation_timeout: Duration,
        /// Resolvers for the look-up.
        pub resolvers: Vec<String>,
        /// Domain that the challenge is delegated to.
        pub override_domain: String,
    }

    /// `preferred_chains`.
    pub struct ChainPreference {
        /// The shortest.
        pub smallest: Option<bool>,
        /// Wanted names of the root.
        pub root_common_name: Vec<String>,
        /// Wanted names of any issuer.
        pub any_common_name: Vec<String>,
    }

    /// `tls.issuance.internal`.
    pub struct InternalIssuer {
        /// Id of the authority; `local` if empty.
        pub ca: String,
        /// Lifetime of leaves.
        pub lifetime: Duration,
        /// Sign with the root itself.
        pub sign_with_root: bool,
    }

    /// `tls.issuance.zerossl`.
    pub struct ZeroSslIssuer {
        /// Key for the API.
        pub api_key: String,
        /// Lifetime in days.
        pub validity_days: i64,
        /// Host for the check's own listener.
        pub listen_host: String,
        /// Port instead of 80.
        pub alternate_http_port: i64,
        /// Check by CNAME.
        pub cname_validation: Option<DnsChallengeConfig>,
    }
}
