//! What rustls asks for a certificate: the choice over the current snapshot, with a policy's
//! settings.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    index::{CertStore, Wanted},
    selection::Selection,
    timestamp,
};

/// A policy's resolver.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) store: Arc<CertStore>,
    pub(crate) default_sni: Arc<str>,
    pub(crate) fallback_sni: Arc<str>,
    pub(crate) selection: Option<Arc<Selection>>,
    /// The server's address, for clients that send no name.
    pub(crate) local: Option<IpAddr>,
}

impl Resolver {
    pub(crate) fn wanted<'a>(&'a self, name: Option<&'a str>) -> Wanted<'a> {
        Wanted {
            name,
            local: self.local,
            default_sni: &self.default_sni,
            fallback_sni: &self.fallback_sni,
            selection: self.selection.as_deref(),
            schemes: &[],
            now: timestamp::now(),
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted =
            Wanted { schemes: hello.signature_schemes(), ..self.wanted(hello.server_name()) };
        let found = self.store.look().choose(&wanted);
        if found.is_none() {
            tracing::debug!(
                target: "tls.handshake",
                server_name = hello.server_name().unwrap_or_default(),
                "no matching certificate"
            );
        }
        found.map(|certificate| certificate.key.clone())
    }
}
