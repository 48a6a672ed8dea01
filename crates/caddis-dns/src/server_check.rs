//! Whom a TLS client believes. What differs from client to client is the look at the certificates
//! ([`ServerCheck`]); that the server holds the key of what it shows is seen to in any case
//! ([`ServerVerifier`]).

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What a server shows in a handshake.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The server's own certificate.
    pub leaf: &'a CertificateDer<'a>,
    /// Those that came with it.
    pub intermediates: &'a [CertificateDer<'a>],
    /// The name that the client asked for.
    pub name: &'a ServerName<'a>,
    /// The OCSP response that was stapled; empty if none.
    pub staple: &'a [u8],
    /// When it was shown.
    pub now: UnixTime,
}

impl Shown<'_> {
    /// Leaves the decision to another verifier.
    ///
    /// # Errors
    /// What that one has against the server.
    pub fn pass_to(&self, verifier: &dyn ServerCertVerifier) -> Result<(), Error> {
        let Self { leaf, intermediates, name, staple, now } = *self;
        verifier.verify_server_cert(leaf, intermediates, name, staple, now).map(drop)
    }
}

/// A look at the certificates of a server.
pub trait ServerCheck: fmt::Debug + Send + Sync {
    /// Whether the server is believed.
    ///
    /// # Errors
    /// What speaks against it.
    fn check(&self, shown: &Shown<'_>) -> Result<(), Error>;
}

/// Believes every server (`insecure_skip_verify`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Anyone;

impl ServerCheck for Anyone {
    fn check(&self, _: &Shown<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// A verifier for rustls: a check of certificates, and that of signatures.
#[derive(Debug)]
pub struct ServerVerifier<C> {
    /// The look at certificates.
    pub check: C,
    provider: Arc<CryptoProvider>,
}

impl<C> ServerVerifier<C> {
    /// With the provider of the TLS configuration.
    pub fn new(check: C, provider: Arc<CryptoProvider>) -> Self {
        Self { check, provider }
    }
}

impl<C: ServerCheck> ServerCertVerifier for ServerVerifier<C> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check.check(&Shown { leaf, intermediates, name, staple, now })?;
        Ok(ServerCertVerified::assertion())
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
