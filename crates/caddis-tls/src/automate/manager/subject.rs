//! What is wanted for a name.

use std::{sync::Arc, time::Duration};

use rcgen::KeyPair;

use crate::{
    acme::{AcmeConfig, LETS_ENCRYPT, ZEROSSL},
    error::Result,
    key::{self, KeyType},
    pki::DEFAULT_CA,
    storage::{
        OtherStorage, Storage,
        keys::{SiteKeys, acme_issuer_key},
    },
    zerossl::{self, ZeroSslConfig},
};

/// Who makes a certificate.
#[derive(Debug, Clone, PartialEq)]
pub enum Issuer {
    /// `tls.issuance.internal`.
    Internal {
        /// The authority's id; `local` if empty.
        ca: String,
        /// Lifetime; 12 hours if absent.
        lifetime: Option<Duration>,
        /// Sign with the root itself.
        sign_with_root: bool,
    },
    /// `tls.issuance.acme`.
    Acme(Arc<AcmeConfig>),
    /// `tls.issuance.zerossl`.
    ZeroSsl(Arc<ZeroSslConfig>),
}

impl Issuer {
    /// Its name in the storage.
    pub(crate) fn storage_key(&self) -> String {
        match self {
            Self::Internal { ca, .. } if ca.is_empty() => DEFAULT_CA.to_owned(),
            Self::Internal { ca, .. } => ca.clone(),
            Self::Acme(config) => acme_issuer_key(&config.directory),
            Self::ZeroSsl(_) => zerossl::KEY.to_owned(),
        }
    }

    /// The names under which its certificates may lie in the storage.
    pub(crate) fn storage_keys(&self) -> Vec<String> {
        let mut keys = vec![self.storage_key()];
        // What either of the default issuers made is as good.
        if let Self::Acme(config) = self
            && [LETS_ENCRYPT, ZEROSSL].contains(&config.directory.as_str())
        {
            for default in [LETS_ENCRYPT, ZEROSSL].map(acme_issuer_key) {
                if !keys.contains(&default) {
                    keys.push(default);
                }
            }
        }
        keys
    }
}

/// A name to keep a certificate for.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedSubject {
    /// The name.
    pub name: String,
    /// Issuers in order.
    pub issuers: Vec<Issuer>,
    /// The kind of keys.
    pub key_type: KeyType,
    /// Keep the key at renewal.
    pub reuse_private_keys: bool,
    /// Share of the lifetime left at which to renew; 0 for the default.
    pub renewal_window_ratio: f64,
    /// Ask for the must-staple extension.
    pub must_staple: bool,
    /// Where it is kept, if not where the others are.
    pub storage: Option<OtherStorage>,
}

impl ManagedSubject {
    /// Whether only authorities of our own are asked.
    pub(in crate::automate) fn is_local(&self) -> bool {
        self.issuers.iter().all(|issuer| matches!(issuer, Issuer::Internal { .. }))
    }

    /// Where it is kept.
    pub(in crate::automate) fn storage(&self, default: &Arc<dyn Storage>) -> Arc<dyn Storage> {
        self.storage.as_ref().map_or(default, OtherStorage::storage).clone()
    }

    /// The stored key where it is to be kept, else a new one.
    pub(in crate::automate) fn key_pair(
        &self,
        storage: &dyn Storage,
        keys: &SiteKeys,
    ) -> Result<KeyPair> {
        if self.reuse_private_keys
            && let Ok(pem) = storage.load(&keys.private_key)
            && let Ok(pair) = key::signing_pair(&pem)
        {
            return Ok(pair);
        }
        self.key_type.generate()
    }
}
