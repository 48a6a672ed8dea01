//! `tls_client_auth <name>` (`client_certificate_automate`): a managed certificate for upstreams
//! that ask for one. It is looked for in each handshake, so that a renewed one is used at once.

use std::sync::Arc;

use caddis_core::client_certificates::{ClientCertificate, ClientCertificates};
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

/// The certificates of a name.
#[derive(Debug)]
pub(super) struct Managed {
    /// The name.
    pub(super) name: String,
    /// Where they are found.
    pub(super) certificates: Arc<ClientCertificates>,
}

impl ResolvesClientCert for Managed {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let found = self.certificates.find(&self.name);
        let fits = |one: &&ClientCertificate| {
            one.key.key.choose_scheme(schemes).is_some() && is_of(one, authorities)
        };
        if let Some(one) = found.iter().find(fits) {
            return Some(one.key.clone());
        }
        let why = if found.is_empty() {
            "there is none for this name yet"
        } else {
            "the upstream takes none of those for this name"
        };
        tracing::error!(
            target: "http.reverse_proxy.transport.http",
            name = %self.name,
            error = why,
            "no client certificate"
        );
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether one of the authorities that the upstream names has signed; it may name none.
fn is_of(certificate: &ClientCertificate, authorities: &[&[u8]]) -> bool {
    authorities.is_empty()
        || certificate.issuers.iter().any(|issuer| authorities.contains(&issuer.as_slice()))
}
