//! Upstream certificates checked against a pool that is loaded only when the plan is bound.

use std::sync::{Arc, OnceLock};

use caddis_config::Value;
use caddis_core::trust::TrustPool;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pinned::{Roots, Verifier};

/// Whether a pool (or one in it) lies in storage or with a local authority.
pub(super) fn is_loaded_late(pool: &Value) -> bool {
    let mut left = vec![pool];
    while let Some(pool) = left.pop() {
        match pool.get("provider").and_then(Value::as_str) {
            Some("pki_root" | "pki_intermediate" | "storage") => return true,
            Some("combined") => {
                left.extend(pool.get("sources").and_then(Value::as_array).into_iter().flatten());
            }
            _ => {}
        }
    }
    false
}

/// Checks against the pool as bind left it.
#[derive(Debug)]
pub(super) struct Deferred {
    pool: Arc<TrustPool>,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, String>>,
}

impl Deferred {
    pub(super) fn new(pool: Arc<TrustPool>, provider: Arc<CryptoProvider>) -> Self {
        Self { pool, provider, verifier: OnceLock::new() }
    }

    fn build(&self) -> Result<Verifier, String> {
        let mut roots = Roots::empty();
        for certificate in self.pool.certificates() {
            roots.add(certificate.clone().into())?;
        }
        Verifier::new(roots, self.provider.clone())
    }
}

impl ServerCertVerifier for Deferred {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verifier.get_or_init(|| self.build()) {
            Ok(verifier) => verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            Err(error) => Err(rustls::Error::General(error.clone())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::trust::TrustPools;
    use rustls::crypto::aws_lc_rs;
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_late_pools() {
        let late = json!({"provider": "combined", "sources": [
            {"provider": "system"}, {"provider": "combined", "sources": [{"provider": "pki_root"}]}
        ]});
        assert!(is_loaded_late(&late));
        assert!(!is_loaded_late(
            &json!({"provider": "combined", "sources": [{"provider": "file"}]})
        ));
    }

    #[test]
    fn an_empty_pool_trusts_nothing() {
        let pool = TrustPools::default().want(json!({"provider": "pki_root"}));
        let verifier = Deferred::new(pool, Arc::new(aws_lc_rs::default_provider()));
        let name = ServerName::try_from("a.test").expect("a name");
        let certificate = CertificateDer::from(vec![0]);
        let result = verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now());
        result.expect_err("nothing is trusted");
    }
}
