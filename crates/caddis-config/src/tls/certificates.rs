//! Certificates that are given, not obtained.

use serde::{Deserialize, Serialize};

/// An element of `certificates.load_files`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertKeyFilePair {
    /// File of the chain; always written.
    #[serde(deserialize_with = "crate::omit::nullable")]
    pub certificate: String,
    /// File of the key; always written.
    #[serde(deserialize_with = "crate::omit::nullable")]
    pub key: String,
    /// `pem` if empty.
    #[serde(deserialize_with = "crate::omit::nullable", skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Marks for certificate selection.
    #[serde(deserialize_with = "crate::omit::nullable", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// An element of `certificates.load_pem`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertKeyPemPair {
    /// The chain in PEM; always written.
    #[serde(deserialize_with = "crate::omit::nullable")]
    pub certificate: String,
    /// The key in PEM; always written.
    #[serde(deserialize_with = "crate::omit::nullable")]
    pub key: String,
    /// Marks for certificate selection.
    #[serde(deserialize_with = "crate::omit::nullable", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

envelope! {
    /// `cache`.
    pub struct CertCacheOptions {
        /// Most certificates kept in memory.
        pub capacity: i64,
    }
}
