//! `tls_connection_policies`: how a handshake is answered.
//!
//! JSON (J120): `{"match": {"sni": ["…"]}, "certificate_selection": {…}, "cipher_suites": ["…"],
//! "curves": ["…"], "alpn": ["…"], "protocol_min": "tls1.2", "protocol_max": "tls1.3", "drop": true,
//! "client_authentication": {…}, "default_sni": "…", "fallback_sni": "…",
//! "insecure_secrets_log": "…"}`. Compiled without I/O to a [`PolicyPlan`]; files are read and
//! rustls configurations built when the plan is bound, which gives [`Policies`].

pub(crate) mod ca_pool;
mod client_auth;
mod client_check;
mod handshake_match;
mod http_pool;
mod p521;
mod parameters;
mod secrets_log;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use caddis_config::{ConfigError, ConnectionPolicy, tls::ClientAuthentication};
use rustls::{
    CipherSuite, ServerConfig,
    crypto::CryptoProvider,
    server::{NoClientAuth, NoServerSessionStorage},
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest, Sha256};

pub use ca_pool::CaPool;
pub(crate) use client_auth::pem_files;
pub(crate) use client_auth::{in_time, trusted_itself};
pub(crate) use client_check::{ClientCheck, ClientVerifier};
pub use handshake_match::HelloFacts;
pub(crate) use p521::P521;
pub(crate) use parameters::suite_name;

use crate::{
    error::{Context, Error, Result},
    index::{CertStore, normalized, wildcards},
    pki::Pki,
    resolver::Resolver,
    selection::Selection,
    storage::Storage,
    tickets::Tickets,
    timestamp,
};
use client_auth::ClientAuthPlan;
use handshake_match::HandshakeMatcher;

/// More configurations than this per policy are not kept for clients without a server name.
const MAX_LOCAL_CONFIGS: usize = 64;

/// What a server allows on its connections.
#[derive(Debug, Clone, Copy)]
pub struct ServerFacts {
    /// HTTP/1.1.
    pub h1: bool,
    /// HTTP/2.
    pub h2: bool,
}

impl Default for ServerFacts {
    fn default() -> Self {
        Self { h1: true, h2: true }
    }
}

/// All policies of a server, compiled.
#[derive(Debug)]
pub struct PolicyPlan {
    policies: Vec<PlannedPolicy>,
    /// Equal for equal settings; a change means that open connections are of the old kind.
    pub fingerprint: [u8; 32],
    /// Things worth a word in the log.
    pub warnings: Vec<String>,
}

impl PolicyPlan {
    /// The files of authorities for clients that cannot be read or used. Blocks.
    pub fn faults(&self) -> Vec<Error> {
        let clients = self.policies.iter().filter_map(|policy| policy.client_auth.as_ref());
        clients.flat_map(ClientAuthPlan::faults).collect()
    }
}

#[derive(Debug)]
struct PlannedPolicy {
    matchers: Vec<HandshakeMatcher>,
    drop: bool,
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    client_auth: Option<ClientAuthPlan>,
    default_sni: Arc<str>,
    fallback_sni: Arc<str>,
    selection: Option<Arc<Selection>>,
    secrets_log: String,
}

/// What binding needs besides the plan.
pub struct BindCx<'a> {
    /// The certificates.
    pub store: &'a Arc<CertStore>,
    /// Session tickets, shared by all policies.
    pub tickets: &'a Tickets,
    /// Storage, for pools and leaves kept there.
    pub storage: &'a dyn Storage,
    /// Authorities, for pools made of them.
    pub pki: &'a Pki,
}

/// The policies of a running server.
#[derive(Debug)]
pub struct Policies {
    policies: Vec<Policy>,
    exact: HashMap<String, Vec<usize>>,
    general: Vec<usize>,
    /// Changes with the certificates of authorities and clients that are trusted, wherever they are
    /// kept: connections of clients that were verified by others are of the old kind.
    pub trusted: [u8; 32],
}

/// One policy, ready for handshakes.
#[derive(Debug)]
pub struct Policy {
    matchers: Vec<HandshakeMatcher>,
    drop: bool,
    resolver: Resolver,
    /// The rustls configuration for clients that send a server name.
    pub config: Arc<ServerConfig>,
    local_configs: Mutex<HashMap<(IpAddr, bool), Arc<ServerConfig>>>,
    tls13: bool,
    /// Made from `config` when the first QUIC client comes.
    quic_config: OnceLock<Arc<ServerConfig>>,
}

/// Compiles the policies of a server; nothing is read from disk.
///
/// # Errors
/// Unknown names of matchers, suites, curves, versions, modes, modules.
pub fn compile_policies(
    policies: &[ConnectionPolicy],
    facts: ServerFacts,
) -> std::result::Result<PolicyPlan, ConfigError> {
    let mut warnings = Vec::new();
    let mut hash = Sha256::new();
    hash.update([u8::from(facts.h1), u8::from(facts.h2)]);
    let mut planned = Vec::with_capacity(policies.len());
    for (at, policy) in policies.iter().enumerate() {
        let json = serde_json::to_vec(policy)
            .map_err(|error| ConfigError::new(at.to_string(), error.to_string()))?;
        hash.update((json.len() as u64).to_le_bytes());
        hash.update(&json);
        let mut own = Vec::new();
        let compiled = compile(policy, facts, &mut own);
        planned.push(compiled.map_err(|error| error.under(at.to_string()))?);
        warnings.extend(own.into_iter().map(|warning| format!("{at}.{warning}")));
    }
    Ok(PolicyPlan { policies: planned, fingerprint: hash.finalize().into(), warnings })
}

fn compile(
    policy: &ConnectionPolicy,
    facts: ServerFacts,
    warnings: &mut Vec<String>,
) -> std::result::Result<PlannedPolicy, ConfigError> {
    if policy.handshake_context.is_some() {
        return Err(ConfigError::new("handshake_context", "handshake contexts are not supported"));
    }
    let selection = policy.certificate_selection.as_ref().map(Selection::compile).transpose();
    let client_auth = policy.client_authentication.as_ref();
    // Without any setting it is as good as absent, as in Caddy.
    let client_auth = client_auth.filter(|config| **config != ClientAuthentication::default());
    let client_auth = client_auth.map(ClientAuthPlan::compile);
    let provider = parameters::provider(&policy.cipher_suites, &policy.curves, warnings)?;
    let versions = parameters::versions(&policy.protocol_min, &policy.protocol_max)?;
    parameters::check_together(&provider, &versions)?;
    Ok(PlannedPolicy {
        matchers: handshake_match::compile(&policy.matchers)
            .map_err(|error| error.under("match"))?,
        drop: policy.drop,
        provider,
        versions,
        alpn: parameters::alpn(policy.alpn.as_deref(), facts),
        client_auth: client_auth
            .transpose()
            .map_err(|error| error.under("client_authentication"))?,
        default_sni: policy.default_sni.as_str().into(),
        fallback_sni: policy.fallback_sni.as_str().into(),
        selection: selection.map_err(|error| error.under("certificate_selection"))?.map(Arc::new),
        secrets_log: policy.insecure_secrets_log.clone(),
    })
}

impl PolicyPlan {
    /// Whether any policy asks for client certificates (then `strict_sni_host` is on by default).
    pub fn has_client_auth(&self) -> bool {
        self.policies.iter().any(|policy| policy.client_auth.is_some())
    }

    /// Reads the files and builds the configurations. Blocks.
    ///
    /// # Errors
    /// Files that cannot be read, settings that leave nothing to agree on.
    pub fn bind(&self, cx: &BindCx<'_>) -> Result<Policies> {
        let mut trusted = Sha256::new();
        let policies = self
            .policies
            .iter()
            .enumerate()
            .map(|(at, policy)| {
                policy.bind(cx, &mut trusted).context(format!("connection policy {at}"))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Policies::new(policies, trusted.finalize().into()))
    }
}

impl PlannedPolicy {
    fn bind(&self, cx: &BindCx<'_>, trusted: &mut Sha256) -> Result<Policy> {
        let resolver = Resolver {
            store: cx.store.clone(),
            default_sni: self.default_sni.clone(),
            fallback_sni: self.fallback_sni.clone(),
            selection: self.selection.clone(),
            local: None,
        };
        let verifier = match &self.client_auth {
            Some(plan) => {
                plan.bind(cx, &self.provider, trusted).context("provisioning client CA")?
            }
            None => Arc::new(NoClientAuth) as _,
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .context("building standard TLS config")?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(resolver.clone()));
        config.alpn_protocols.clone_from(&self.alpn);
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // A resumed session would not be verified again, so there are none with client auth (T034).
        if let (Some(ticketer), None) = (cx.tickets.ticketer()?, &self.client_auth) {
            config.ticketer = ticketer;
            config.send_tls13_tickets = 1;
        }
        if !self.secrets_log.is_empty() {
            config.key_log = secrets_log::open(&self.secrets_log)?;
        }
        Ok(Policy {
            matchers: self.matchers.clone(),
            drop: self.drop,
            resolver,
            config: Arc::new(config),
            local_configs: Mutex::default(),
            tls13: self.versions.contains(&&rustls::version::TLS13),
            quic_config: OnceLock::new(),
        })
    }
}

impl Policies {
    fn new(policies: Vec<Policy>, trusted: [u8; 32]) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut general = Vec::new();
        for (at, policy) in policies.iter().enumerate() {
            match exact_names(&policy.matchers) {
                Some(names) => {
                    for name in names {
                        let places = exact.entry(name).or_default();
                        if places.last() != Some(&at) {
                            places.push(at);
                        }
                    }
                }
                None => general.push(at),
            }
        }
        Self { policies, exact, general, trusted }
    }

    /// The first policy that matches; none means that the handshake is to be refused.
    pub fn choose(&self, facts: &HelloFacts<'_>) -> Option<&Policy> {
        let name = normalized(facts.sni.unwrap_or_default());
        let named = self.exact.get(&name).map_or(&[][..], Vec::as_slice);
        let (mut named, mut general) = (named.iter().peekable(), self.general.iter().peekable());
        loop {
            let at = match (named.peek(), general.peek()) {
                (Some(a), Some(b)) if a < b => named.next(),
                (Some(_), None) => named.next(),
                _ => general.next(),
            };
            let policy = self.policies.get(*at?)?;
            if policy.matchers.iter().all(|matcher| matcher.matches(facts)) {
                return (!policy.drop).then_some(policy);
            }
        }
    }

    /// All policies in order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter()
    }
}

/// The names of a policy's `sni` matcher where none of them is a wildcard.
fn exact_names(matchers: &[HandshakeMatcher]) -> Option<Vec<String>> {
    matchers.iter().find_map(|matcher| match matcher {
        HandshakeMatcher::Sni(names) if names.iter().all(|name| !name.contains('*')) => {
            Some(names.clone())
        }
        _ => None,
    })
}

impl Policy {
    /// The configuration for a handshake: the policy's own, or, where the client sent no name, one
    /// that also looks for a certificate of the address it connected to.
    pub fn config_for(&self, facts: &HelloFacts<'_>) -> Arc<ServerConfig> {
        self.local_config(facts, &self.config, false)
    }

    /// The same for a client that speaks QUIC: with `h3` as the only protocol, whatever the policy
    /// says of ALPN. `None` where the policy does not allow TLS 1.3, which QUIC is made of.
    pub fn quic_config_for(&self, facts: &HelloFacts<'_>) -> Option<Arc<ServerConfig>> {
        let config = self.tls13.then(|| {
            self.quic_config.get_or_init(|| {
                let mut config = ServerConfig::clone(&self.config);
                config.alpn_protocols = vec![b"h3".to_vec()];
                Arc::new(config)
            })
        })?;
        Some(self.local_config(facts, config, true))
    }

    fn local_config(
        &self,
        facts: &HelloFacts<'_>,
        base: &Arc<ServerConfig>,
        quic: bool,
    ) -> Arc<ServerConfig> {
        let (None | Some(""), Some(local)) = (facts.sni, facts.local) else {
            return base.clone();
        };
        let mut configs = self.local_configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&(local, quic)) {
            return config.clone();
        }
        let mut config = ServerConfig::clone(base);
        let resolver = Resolver { local: Some(local), ..self.resolver.clone() };
        config.cert_resolver = Arc::new(resolver);
        let config = Arc::new(config);
        if configs.len() >= MAX_LOCAL_CONFIGS {
            configs.clear();
        }
        configs.insert((local, quic), config.clone());
        config
    }

    /// The configuration for one handshake with a certificate from elsewhere.
    pub fn config_with(&self, certificate: Arc<CertifiedKey>) -> Arc<ServerConfig> {
        given(&self.config, certificate)
    }

    /// The same for a client that speaks QUIC; see [`Self::quic_config_for`].
    pub fn quic_config_with(
        &self,
        facts: &HelloFacts<'_>,
        certificate: Arc<CertifiedKey>,
    ) -> Option<Arc<ServerConfig>> {
        self.quic_config_for(facts).map(|config| given(&config, certificate))
    }

    /// What a certificate is missing for: the name that the client asked for, where no certificate
    /// in its validity covers it; without a name, the server's default name or the address that the
    /// client connected to. This is when an on-demand certificate is to be got before going on.
    pub fn missing_certificate(&self, facts: &HelloFacts<'_>) -> Option<Missing> {
        let asked = normalized(facts.sni.unwrap_or_default());
        let index = self.resolver.store.look();
        let now = timestamp::now();
        let valid =
            |name: &str| index.named(name).iter().any(|certificate| !certificate.is_expired(now));
        if !asked.is_empty() {
            let covered = valid(&asked) || wildcards(&asked).any(|candidate| valid(&candidate));
            return (!covered).then(|| Missing { name: asked.clone(), asked });
        }
        let address = facts.local.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
        let default = normalized(&self.resolver.default_sni);
        if valid(&address) || valid(&default) {
            return None;
        }
        let name = if default.is_empty() { address } else { default };
        Some(Missing { asked, name })
    }

    /// Whether there is one to answer with where there are certificates of the name: the policy's own
    /// choice (spec T050) may leave none of them.
    pub fn may_answer(&self, facts: &HelloFacts<'_>) -> bool {
        self.resolver.selection.is_none() || self.has_certificate(facts)
    }

    /// Whether there is any certificate to answer with, be it one that has expired.
    pub fn has_certificate(&self, facts: &HelloFacts<'_>) -> bool {
        let resolver = Resolver { local: facts.local, ..self.resolver.clone() };
        self.resolver.store.look().choose(&resolver.wanted(facts.sni)).is_some()
    }
}

/// The configuration for a client that offers these protocols: one that speaks HTTP/1.1 alone may
/// come to a policy with `h2` alone, as if it had offered nothing. Go's server has this exception.
pub fn for_protocols<'a>(
    config: Arc<ServerConfig>,
    offered: Option<impl Iterator<Item = &'a [u8]>>,
) -> Arc<ServerConfig> {
    let has = |name: &[u8]| config.alpn_protocols.iter().any(|one| one == name);
    if !has(b"h2") || has(b"http/1.1") {
        return config;
    }
    let Some(offered) = offered else { return config };
    let mut http1 = false;
    for name in offered {
        if has(name) {
            return config;
        }
        http1 |= name == b"http/1.1";
    }
    if !http1 {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols.clear();
    Arc::new(config)
}

/// The configuration for a client with these cipher suites: one that names ChaCha20 before AES-GCM
/// has no instructions for AES, and gets what it prefers (spec T007), as by Go's server; else the
/// server's order counts.
pub fn for_suites(config: Arc<ServerConfig>, offered: &[CipherSuite]) -> Arc<ServerConfig> {
    if !config.ignore_client_order || !prefers_chacha(offered) {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.ignore_client_order = false;
    Arc::new(config)
}

/// Whether the first of the suites that counts is one with ChaCha20.
fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    use CipherSuite as Suite;
    let first = offered.iter().find_map(|suite| match suite {
        Suite::TLS13_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(true),
        Suite::TLS13_AES_128_GCM_SHA256
        | Suite::TLS13_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(false),
        _ => None,
    });
    first.unwrap_or_default()
}

/// A handshake's certificate that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The server name that the client sent, lower case; empty where it sent none.
    pub asked: String,
    /// What a certificate would be made for: a name or an address.
    pub name: String,
}

fn given(base: &ServerConfig, certificate: Arc<CertifiedKey>) -> Arc<ServerConfig> {
    let mut config = base.clone();
    config.cert_resolver = Arc::new(SingleCertAndKey::from(certificate));
    Arc::new(config)
}

#[cfg(test)]
mod tests;
