//! How a handshake is answered.

use serde_json::Value;

use crate::module::ModuleMap;

envelope! {
    /// One of `tls_connection_policies`.
    pub struct ConnectionPolicy {
        /// Handshake matchers by name; always if empty.
        #[serde(rename = "match")]
        pub matchers: ModuleMap,
        /// Which of several certificates.
        pub certificate_selection: Option<CustomCertSelectionPolicy>,
        /// Cipher suites of TLS 1.2.
        pub cipher_suites: Vec<String>,
        /// Key exchange groups.
        pub curves: Vec<String>,
        /// ALPN protocols; `h2` and `http/1.1` where it is absent, none where it is empty.
        pub alpn: Option<Vec<String>>,
        /// Oldest version.
        pub protocol_min: String,
        /// Newest version.
        pub protocol_max: String,
        /// Refuse the connection.
        pub drop: bool,
        /// Client certificates.
        pub client_authentication: Option<ClientAuthentication>,
        /// Name taken when the client sends none.
        pub default_sni: String,
        /// Name taken when there is no certificate for the client's.
        pub fallback_sni: String,
        /// File for secrets, to read traffic with.
        pub insecure_secrets_log: String,
        /// Context module, key `module`.
        pub handshake_context: Option<Value>,
    }

    /// `certificate_selection`.
    pub struct CustomCertSelectionPolicy {
        /// Serial numbers, decimal.
        pub serial_number: Vec<String>,
        /// Organisations.
        pub subject_organization: Vec<String>,
        /// `rsa`, `dsa`, `ecdsa`, `ed25519` or a number.
        pub public_key_algorithm: Option<Value>,
        /// At least one of these tags.
        pub any_tag: Vec<String>,
        /// All of these tags.
        pub all_tags: Vec<String>,
    }

    /// `client_authentication`.
    pub struct ClientAuthentication {
        /// Pool of authorities, key `provider`.
        pub ca: Option<Value>,
        /// Authorities, base64 DER.
        pub trusted_ca_certs: Vec<String>,
        /// Authorities, PEM files.
        pub trusted_ca_certs_pem_files: Vec<String>,
        /// Leaves, base64 DER.
        pub trusted_leaf_certs: Vec<String>,
        /// Further checks, key `verifier`.
        pub verifiers: Vec<Value>,
        /// `request`, `require`, `verify_if_given`, `require_and_verify`.
        pub mode: String,
    }
}
