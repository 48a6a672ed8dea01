//! `tls.issuance.acme`: certificates from an ACME authority (RFC 8555) over `instant-acme`, which
//! appears in this folder only.
//!
//! JSON: `{"module": "acme", "ca": "…", "test_ca": "…", "email": "…", "profile": "…",
//! "account_key": "PEM", "external_account": {"key_id", "mac_key"}, "acme_timeout": "…",
//! "challenges": {"http": {"disabled", "alternate_port"}, "tls-alpn": {…}, "dns": {…},
//! "bind_host": "…", "distributed": true}, "trusted_roots_pem_files": ["…"],
//! "preferred_chains": {…}, "certificate_lifetime": "…"}`.

mod account;
mod ari;
mod chains;
mod challenges;
mod config;
mod eab;
mod failure;
mod issue;
mod limits;
mod look;
mod order;
mod orders;
mod transport;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use caddis_dns::http::{HttpClient, HttpOptions, Route};

use crate::error::{Context, Error, Result};

pub(crate) use ari::{RenewalInfo, certificate_id};
pub use challenges::{Challenges, is_challenge_hello};
pub(crate) use challenges::{DnsRecord, Presented, reverse_name};
pub use config::{AcmeConfig, Ports, compile_acme};
pub(crate) use config::{DnsChallenge, dns_challenge};
pub(crate) use failure::{AMISS, Failure};
pub(crate) use issue::{Certified, Order};
pub use look::{Directory, Unread};
pub(crate) use transport::retry_after;

/// Let's Encrypt.
pub(crate) const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Its staging endpoint.
pub(crate) const LETS_ENCRYPT_STAGING: &str =
    "https://acme-staging-v02.api.letsencrypt.org/directory";
/// ZeroSSL's ACME endpoint.
pub(crate) const ZEROSSL: &str = "https://acme.zerossl.com/v2/DV90";

/// What all ACME issuers of the process share: clients, accounts, challenges, limits.
#[derive(Default)]
pub(crate) struct Acme {
    pub(crate) challenges: Arc<Challenges>,
    clients: Mutex<HashMap<String, Arc<HttpClient>>>,
    accounts: account::Accounts,
    limits: limits::Limits,
    learned: challenges::Learned,
    directories: ari::Directories,
    lost_orders: orders::LostOrders,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acme")
    }
}

impl Acme {
    /// The client that takes this way and trusts these root files; the system's roots where there
    /// are none.
    async fn client(&self, root_files: &[String], route: &Route) -> Result<Arc<HttpClient>> {
        if !root_files.is_empty() {
            // The files may have changed since: they are read for each issue.
            let files = root_files.to_vec();
            let roots = tokio::task::spawn_blocking(move || read_roots(&files));
            let roots = Some(roots.await.map_err(Error::new)??);
            let route = route.clone();
            let options = HttpOptions { roots, route, ..HttpOptions::default() };
            return Ok(Arc::new(HttpClient::with(options)));
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let options = HttpOptions { route: route.clone(), ..HttpOptions::default() };
            Arc::new(HttpClient::with(options))
        };
        Ok(clients.entry(format!("{route:?}")).or_insert_with(make).clone())
    }
}

fn read_roots(files: &[String]) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>> {
    let mut roots = Vec::new();
    for file in files {
        let what = || format!("loading trusted root CA's PEM file: {file}");
        let text = std::fs::read(file).context(what())?;
        roots.extend(crate::certificate::parse_chain(&text).context(what())?);
    }
    Ok(roots)
}

/// The name of an authority in the storage.
pub(crate) fn storage_prefix(directory: &str) -> String {
    let key = crate::storage::keys::acme_issuer_key(directory);
    format!("acme/{}", crate::storage::keys::safe(&key))
}
