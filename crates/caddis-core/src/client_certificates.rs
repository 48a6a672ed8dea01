//! Managed certificates for connections that handlers make: a module names one when it compiles
//! (`CompileCx::manage_certificate`), the certificate manager gets and renews it as any other, and
//! whoever connects asks here for what is there at that moment.

use std::sync::{Arc, OnceLock};

use rustls::sign::CertifiedKey;

/// A certificate that can be shown to a server.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// The names (DER) of those who signed the chain's certificates, leaf first.
    pub issuers: Vec<Vec<u8>>,
}

type Find = dyn Fn(&str) -> Vec<ClientCertificate> + Send + Sync;

/// Where they are found; a single value of `State`.
#[derive(Default)]
pub struct ClientCertificates(OnceLock<Box<Find>>);

impl ClientCertificates {
    /// Says where to look; only the first call counts, since the manager is there once.
    pub fn look_in(&self, find: impl Fn(&str) -> Vec<ClientCertificate> + Send + Sync + 'static) {
        // It is the same manager's at every call.
        let _ = self.0.set(Box::new(find));
    }

    /// The certificates for a name, those that hold the very name first, then those of wildcards.
    pub fn find(&self, name: &str) -> Vec<ClientCertificate> {
        self.0.get().map(|find| find(name)).unwrap_or_default()
    }
}

impl std::fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCertificates").finish_non_exhaustive()
    }
}
