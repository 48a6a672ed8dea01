//! Certificates: storage, the local authority, which certificate a handshake gets, and how a
//! connection policy becomes a rustls configuration.

mod acme;
pub mod acme_server;
pub mod automate;
mod certificate;
mod error;
mod getters;
mod hello;
mod index;
mod info;
mod key;
mod loaders;
mod names;
mod ocsp;
mod permission;
mod remote;
mod resolver;
mod selection;
mod tailscale;
mod tickets;
pub mod timestamp;
mod url;
mod zerossl;

pub mod ech;
pub mod pki;
pub mod policy;
pub mod storage;

#[cfg(test)]
mod testing;

pub use acme::{
    AcmeConfig, Challenges, Directory, Ports, Unread, compile_acme, is_challenge_hello,
};
pub use automate::{
    CertManager, CertReport, Issuer, ManagedSubject, OnDemandError, OnDemandPolicy, Permission,
    Reconcile, Taken,
};
pub use certificate::{Certificate, PublicKeyAlgorithm};
pub use error::{Error, Result};
pub use getters::{Asked, CertGetter, compile_getters};
pub use hello::hello_data;
pub use index::{CertIndex, CertStore};
pub use info::{CLIENT_PREFIX, ClientCertificate, ClientPlaceholders, quic_tls_info, tls_info};
pub use key::KeyType;
pub use loaders::{Loaders, compile_loaders};
pub use ocsp::{StapleRule, StapleRules};
pub use permission::on_demand_permission;
pub use policy::{
    BindCx, HelloFacts, Missing, Policies, Policy, PolicyPlan, ServerFacts, compile_policies,
    for_protocols, for_suites,
};
pub use remote::{RemoteAccess, Verdict as RemoteVerdict};
pub use tickets::Tickets;
pub use timestamp::Timestamp;
pub use zerossl::{ZeroSslConfig, compile_zerossl};

/// The handlers of this crate.
pub static HANDLERS: &[&caddis_core::HandlerModule] = &[&acme_server::MODULE];

/// Ids of the modules that are looked up inside this crate, for `list-modules`.
pub static OTHER_IDS: &[&str] = &[
    "caddy.storage.file_system",
    "caddy.storage.postgres",
    "caddy.storage.redis",
    "caddy.storage.s3",
    "pki",
    "tls",
    "tls.ca_pool.source.combined",
    "tls.ca_pool.source.file",
    "tls.ca_pool.source.http",
    "tls.ca_pool.source.inline",
    "tls.ca_pool.source.pki_intermediate",
    "tls.ca_pool.source.pki_root",
    "tls.ca_pool.source.storage",
    "tls.ca_pool.source.system",
    "tls.certificates.automate",
    "tls.certificates.load_files",
    "tls.certificates.load_folders",
    "tls.certificates.load_pem",
    "tls.certificates.load_storage",
    "tls.client_auth.verifier.leaf",
    "tls.ech.publishers.dns",
    "tls.get_certificate.http",
    "tls.get_certificate.tailscale",
    "tls.handshake_match.local_ip",
    "tls.handshake_match.remote_ip",
    "tls.handshake_match.sni",
    "tls.handshake_match.sni_regexp",
    "tls.issuance.acme",
    "tls.issuance.internal",
    "tls.issuance.zerossl",
    "tls.leaf_cert_loader.file",
    "tls.leaf_cert_loader.folder",
    "tls.leaf_cert_loader.pem",
    "tls.leaf_cert_loader.storage",
    "tls.permission.http",
    "tls.stek.distributed",
    "tls.stek.standard",
];
