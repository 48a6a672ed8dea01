//! Whom a TLS server believes. What differs is the look at the certificates ([`ClientCheck`]); that
//! the client holds the key of what it shows is seen to in any case ([`ClientVerifier`]).

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// A look at the certificates of a client.
pub(crate) trait ClientCheck: fmt::Debug + Send + Sync {
    /// Whether a client has to show one.
    fn is_mandatory(&self) -> bool;

    /// Subjects of authorities that clients may choose by.
    fn hints(&self) -> &[DistinguishedName];

    /// Whether the client is believed.
    ///
    /// # Errors
    /// What speaks against it.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// A verifier for rustls: a check of certificates, and that of signatures.
#[derive(Debug)]
pub(crate) struct ClientVerifier<C> {
    /// The look at certificates.
    pub(crate) check: C,
    provider: Arc<CryptoProvider>,
}

impl<C> ClientVerifier<C> {
    /// With the provider of the TLS configuration.
    pub(crate) fn new(check: C, provider: Arc<CryptoProvider>) -> Self {
        Self { check, provider }
    }
}

impl<C: ClientCheck> ClientCertVerifier for ClientVerifier<C> {
    fn client_auth_mandatory(&self) -> bool {
        self.check.is_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.check.hints()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check.check(leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
