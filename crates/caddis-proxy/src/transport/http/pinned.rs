//! Upstream certificates checked against a pool. One that lies in the pool itself is trusted as it
//! is, as Go does: self-signed certificates often say that they are authorities, which webpki does
//! not take for a server's.

use std::sync::Arc;

use caddis_dns::server_check::{ServerCheck, Shown};
use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, verify_server_name},
    crypto::CryptoProvider,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates to trust.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// Those that were given one by one.
    own: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Trusts nothing yet.
    pub(super) fn empty() -> Self {
        Self { store: Arc::new(RootCertStore::empty()), own: Vec::new() }
    }

    /// Adds all of another store.
    pub(super) fn extend(&mut self, other: &Arc<RootCertStore>) {
        if self.store.is_empty() {
            self.store = other.clone();
        } else {
            Arc::make_mut(&mut self.store).roots.extend(other.roots.iter().cloned());
        }
    }

    /// Adds a certificate.
    pub(super) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), String> {
        let store = Arc::make_mut(&mut self.store);
        store.add(certificate.clone()).map_err(|error| error.to_string())?;
        self.own.push(certificate);
        Ok(())
    }
}

/// Checks certificates against [`Roots`].
#[derive(Debug)]
pub(super) struct Pinned {
    own: Vec<CertificateDer<'static>>,
    inner: Arc<WebPkiServerVerifier>,
}

impl Pinned {
    pub(super) fn new(roots: Roots, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let Roots { store, own } = roots;
        let inner = WebPkiServerVerifier::builder_with_provider(store, provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { own, inner })
    }
}

impl ServerCheck for Pinned {
    fn check(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let result = shown.pass_to(&*self.inner);
        if result.is_ok() || !self.own.iter().any(|own| own == shown.leaf) {
            return result;
        }
        verify_server_name(&ParsedCertificate::try_from(shown.leaf)?, shown.name)?;
        is_for_now(shown.leaf, shown.now)
    }
}

/// Whether a certificate is valid now, and for servers.
fn is_for_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let bad = |error| Err(rustls::Error::InvalidCertificate(error));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return bad(CertificateError::BadEncoding);
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if parsed.validity().not_before.timestamp() > now {
        return bad(CertificateError::NotValidYet);
    }
    if parsed.validity().not_after.timestamp() < now {
        return bad(CertificateError::Expired);
    }
    match parsed.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.any && !usage.value.server_auth => {
            bad(CertificateError::InvalidPurpose)
        }
        Ok(_) => Ok(()),
        Err(_) => bad(CertificateError::BadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls_pki_types::ServerName;

    use super::*;

    fn check(trusted: &[&rcgen::Certificate], leaf: &rcgen::Certificate, name: &str) -> bool {
        let mut roots = Roots::empty();
        for certificate in trusted {
            roots.add(certificate.der().clone()).expect("a certificate");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pinned = Pinned::new(roots, provider).expect("roots");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let (leaf, now) = (leaf.der(), UnixTime::now());
        let shown = Shown { leaf, intermediates: &[], name: &name, staple: &[], now };
        pinned.check(&shown).is_ok()
    }

    fn made(change: impl Fn(&mut rcgen::CertificateParams)) -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).expect("a name");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed")
    }

    #[test]
    fn what_is_trusted_itself_may_be_an_authority() {
        let (own, other) = (made(|_| {}), made(|_| {}));
        assert!(check(&[&other, &own], &own, "a.test"));
        assert!(!check(&[&own], &own, "b.test"), "another name");
        assert!(!check(&[&other], &own, "a.test"), "not trusted");
        let old = made(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(!check(&[&old], &old, "a.test"), "expired");
        let new = made(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
        assert!(!check(&[&new], &new, "a.test"), "not yet valid");
        let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
        let client = made(|params| params.extended_key_usages = vec![usage.clone()]);
        assert!(!check(&[&client], &client, "a.test"), "for clients");
    }
}
