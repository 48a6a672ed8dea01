//! A server plan with what binding added: TLS configurations, loggers, counters.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use caddis_core::{
    Connection, Exchange, State, TlsInfo,
    client_certificates::{ClientCertificate, ClientCertificates},
    event::Events,
    exchange::Io,
    finish::Finishers,
    metrics::Metrics,
    trust::TrustPools,
};
use caddis_logging::{AccessLogger, AccessRecord, Logging};
use caddis_plan::{IdentityPlan, Plan, RemotePlan, ServerPlan};
use caddis_tls::{
    Asked, BindCx, CertManager, Certificate, HelloFacts, ManagedSubject, Missing, OnDemandError,
    Policies, Policy, Reconcile, Tickets,
    acme_server::AcmeServers,
    ech::{self, Acceptance, EchKeyring, EchKeys, EchPlan, Refused},
    hello_data,
    policy::CaPool,
};
use http::{HeaderMap, HeaderValue, Method};
use rustls::{InvalidMessage, PeerMisbehaved, ServerConfig, sign::CertifiedKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

use crate::{
    faults,
    generation::LoadError,
    h1::Rewind,
    listen::Binding,
    request_metrics::ServerMetrics,
    unveil::{Hello, unveil},
};

/// A server as it runs.
pub(crate) struct ServerRuntime {
    pub(crate) plan: Arc<ServerPlan>,
    tls: Option<Policies>,
    certificates: Arc<CertManager>,
    /// The keys of hidden client hellos, where there are any.
    pub(crate) ech: Option<Arc<EchKeyring>>,
    pub(crate) access_log: AccessLogger,
    pub(crate) metrics: Option<ServerMetrics>,
    /// Equal where open connections may go on under another generation's server.
    pub(crate) connection_fingerprint: String,
    /// Tells clients of HTTP/1 and HTTP/2 over TLS that there is HTTP/3; set before the server
    /// serves, where it has sockets for it.
    pub(crate) alt_svc: OnceLock<HeaderValue>,
    /// When its listeners close, once that is known (`shutdown_delay`).
    pub(crate) shutdown_at: OnceLock<Instant>,
}

/// What outlives generations besides the state: certificates and logs in use.
#[derive(Default)]
pub(crate) struct Shared {
    certificates: Mutex<Option<Arc<CertManager>>>,
    /// Certificates of this server itself (`admin.identity`), which no site shows.
    identity: Mutex<Option<Arc<CertManager>>>,
}

/// What binding opened for a generation.
pub(crate) struct BoundShared {
    logging: Arc<Logging>,
    certificates: Arc<CertManager>,
    tickets: Tickets,
    storage: Arc<dyn caddis_tls::storage::Storage>,
    ech: Option<BoundEch>,
}

/// Keys of hidden client hellos as they were found or made, and the ring they belong in.
struct BoundEch {
    plan: Arc<EchPlan>,
    ring: Arc<EchKeyring>,
    keys: EchKeys,
    /// Certificates for public names that only the storage knows.
    subjects: Vec<ManagedSubject>,
}

impl Shared {
    /// The manager; it is made with the first plan, and so are its authorities.
    pub(crate) fn certificates_of(&self, plan: &Plan) {
        let certificates = self.certificates(plan);
        certificates.configure_pki(plan.tls.storage.clone(), plan.tls.authorities.clone());
    }

    fn certificates(&self, plan: &Plan) -> Arc<CertManager> {
        let mut slot = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| CertManager::new(plan.tls.storage.clone())).clone()
    }

    /// Opens logs and reads certificate files.
    pub(crate) async fn bind(
        &self,
        plan: &Plan,
        state: &State,
        metrics: &Metrics,
    ) -> Result<(BoundShared, Vec<Arc<Certificate>>), LoadError> {
        let logging = caddis_logging::open(&plan.logging, state, metrics)
            .map_err(|error| LoadError::Activate(format!("setting up logging: {error}")))?;
        let certificates = self.certificates(plan);
        state.single::<Finishers>().add(&certificates);
        let storage = plan.tls.storage.clone();
        let loaded = plan
            .tls
            .loaders
            .load(&*storage)
            .map_err(|error| LoadError::Activate(format!("loading tls app module: {error}")))?;
        let tickets = certificates.tickets().with_config(plan.tls.tickets.as_ref(), &storage)?;
        if let Some(fault) = faults::of_tls(&plan.tls).into_iter().next() {
            return Err(LoadError::Activate(fault));
        }
        certificates.configure_pki(storage.clone(), plan.tls.authorities.clone());
        let ech = BoundEch::bind(plan, state).await.map_err(|error| {
            LoadError::Activate(format!(
                "loading tls app module: provisioning Encrypted ClientHello components: {error}"
            ))
        })?;
        let logging = Arc::new(logging);
        let bound = BoundShared { logging, certificates, tickets, storage, ech };
        bound.fill_trust_pools(state)?;
        let store = bound.certificates.store().clone();
        state.single::<ClientCertificates>().look_in(move |name| store.for_client(name));
        AcmeServers::bind(state, bound.certificates.pki(), &plan.tls.resolvers)
            .map_err(|error| LoadError::Activate(format!("loading http app module: {error}")))?;
        Ok((bound, loaded))
    }

    /// Gets certificates for the names of this server; of those that are no more, none is kept.
    pub(crate) async fn keep_identity(&self, plan: Option<&IdentityPlan>) {
        let lock = |slot: &Mutex<Option<Arc<CertManager>>>| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let manager = match (lock(&self.identity), plan) {
            (Some(manager), _) => manager,
            (None, None) => return,
            (None, Some(plan)) => {
                let Some(others) = lock(&self.certificates) else { return };
                let manager = others.beside(plan.storage.storage().clone());
                let mut slot = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
                slot.insert(manager).clone()
            }
        };
        let storage = plan.map(|plan| plan.storage.storage().clone());
        manager
            .reconcile(Reconcile {
                subjects: plan.map(|plan| plan.subjects.clone()).unwrap_or_default(),
                unless_loaded: Default::default(),
                on_demand: Vec::new(),
                capacity: 0,
                loaded: Vec::new(),
                ocsp: None,
                clean: None,
                loaders: Default::default(),
                storage: storage.unwrap_or_else(|| manager.storage()),
            })
            .await;
    }

    /// The certificates of this server itself for a name.
    pub(crate) fn identity_of(&self, name: &str) -> Vec<ClientCertificate> {
        let slot = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map(|manager| manager.store().for_client(name)).unwrap_or_default()
    }

    /// What the remote endpoint speaks TLS by.
    pub(crate) fn remote_tls(
        &self,
        plan: &RemotePlan,
        local: Option<IpAddr>,
    ) -> Option<Arc<ServerConfig>> {
        let slot = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let store = slot.as_ref()?.store().clone();
        match plan.access.server_config(store, local) {
            Ok(config) => Some(Arc::new(config)),
            Err(error) => {
                tracing::error!(target: "admin.remote", %error, "no TLS for the endpoint");
                None
            }
        }
    }

    pub(crate) fn certificates_endpoint(&self, method: &Method) -> crate::admin::Answer {
        let slot = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let managers = slot.iter().chain(own.iter()).map(|manager| &**manager);
        crate::admin::certificates::answer(managers, method)
    }

    pub(crate) fn certificate_metrics(&self) -> String {
        let slot = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        crate::admin::certificates::metrics(slot.as_deref())
    }

    /// [`certificate_metrics`](Self::certificate_metrics) from another thread.
    pub(crate) fn certificate_metrics_source(&self) -> impl Fn() -> String + Send + use<> {
        let slot = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let manager = slot.clone();
        move || crate::admin::certificates::metrics(manager.as_deref())
    }

    pub(crate) fn pki_endpoint(&self, path: &str, method: &Method) -> crate::admin::Answer {
        let slot = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        crate::admin::pki::answer(slot.as_deref(), path, method)
    }
}

impl BoundShared {
    fn tls_cx(&self) -> BindCx<'_> {
        BindCx {
            store: self.certificates.store(),
            tickets: &self.tickets,
            storage: &*self.storage,
            pki: self.certificates.pki(),
        }
    }

    /// Loads the authorities that handlers trust.
    fn fill_trust_pools(&self, state: &State) -> Result<(), LoadError> {
        for pool in state.single::<TrustPools>().take() {
            let failed = |error: &dyn std::fmt::Display| {
                LoadError::Activate(format!("loading a pool of trusted authorities: {error}"))
            };
            let compiled = CaPool::compile(&pool.config).map_err(|error| failed(&error))?;
            let found = compiled.load(&self.tls_cx()).map_err(|error| failed(&error))?;
            pool.fill(found.iter().map(|certificate| certificate.to_vec()).collect());
        }
        Ok(())
    }

    /// Gets certificates ready; what cannot be had at once is tried again later.
    pub(crate) async fn reconcile(&self, plan: &Plan, loaded: Vec<Arc<Certificate>>) {
        let outer = || self.ech.iter().flat_map(|ech| &ech.subjects);
        let names = outer().map(|subject| subject.name.clone());
        let wanted = Reconcile {
            subjects: plan.tls.subjects.iter().chain(outer()).cloned().collect(),
            unless_loaded: plan.tls.unless_loaded.iter().cloned().chain(names).collect(),
            on_demand: plan.tls.on_demand.clone(),
            capacity: plan.tls.capacity,
            loaded,
            ocsp: plan.tls.ocsp.clone(),
            clean: plan.tls.clean,
            loaders: plan.tls.loaders.clone(),
            storage: self.storage.clone(),
        };
        crate::events::subscribe(self.certificates.events(), &plan.events);
        self.certificates.reconcile(wanted).await;
        self.certificates.install_roots();
    }

    /// Puts the keys of hidden client hellos in place; gives what looks after them.
    pub(crate) fn commit_ech(&mut self) -> Option<impl Future<Output = ()> + use<>> {
        let BoundEch { plan, ring, keys, .. } = self.ech.take()?;
        keys.put_in(&ring);
        Some(ech::keep(ring, self.storage.clone(), plan))
    }

    /// Sends logs where the new config says; gives whom to tell what happens.
    pub(crate) fn commit(self, handle: &caddis_logging::Handle) -> Arc<Events> {
        handle.set(self.logging);
        self.certificates.events().clone()
    }
}

impl BoundEch {
    /// Loads or makes keys. The ring is the one of the storage, over all generations.
    async fn bind(plan: &Plan, state: &State) -> caddis_tls::Result<Option<Self>> {
        let Some(needs) = &plan.tls.ech else { return Ok(None) };
        let storage = &plan.tls.storage;
        let keys = EchKeys::load(storage, &needs.plan).await?;
        let mut subjects: Vec<ManagedSubject> = Vec::new();
        for name in keys.public_names() {
            let managed = plan.tls.subjects.iter().chain(&subjects);
            if managed.into_iter().any(|subject| subject.name.eq_ignore_ascii_case(name)) {
                continue;
            }
            subjects.extend(needs.certificate_of(name).map_err(caddis_tls::Error::new)?);
        }
        let table = state.table::<String, EchKeyring>();
        let ring = table.lease(storage.describe(), EchKeyring::default);
        Ok(Some(Self { plan: needs.plan.clone(), ring, keys, subjects }))
    }
}

impl ServerRuntime {
    /// The answer of an ACME challenge by HTTP, where one is asked for that is known.
    pub(crate) async fn challenge_answer(&self, ex: &Exchange) -> Option<String> {
        let host = ex.host().to_owned();
        let path = ex.request.target.path().to_owned();
        self.certificates.challenges().http_answer(&host, &path).await
    }

    pub(crate) fn new(
        plan: Arc<ServerPlan>,
        bound: &BoundShared,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, LoadError> {
        let certificates = bound.certificates.clone();
        let tls =
            match &plan.tls_policies {
                None => None,
                Some(policies) => Some(policies.bind(&bound.tls_cx()).map_err(|error| {
                    LoadError::Activate(format!("server {}: {error}", plan.name))
                })?),
            };
        let fingerprint = plan.tls_policies.as_ref().map(|policies| policies.fingerprint);
        // Whom clients' certificates are verified by may change where the settings do not.
        let trusted = tls.as_ref().map(|policies| policies.trusted);
        let connection_fingerprint = format!(
            "{:?} {:?} {} {:?} {fingerprint:?} {trusted:?}",
            plan.timeouts, plan.protocols, plan.max_header_bytes, plan.wrappers
        );
        Ok(Arc::new(Self {
            tls,
            certificates,
            ech: bound.ech.as_ref().map(|ech| ech.ring.clone()),
            access_log: AccessLogger::new(plan.logs.as_ref(), &bound.logging),
            metrics: plan.metrics.map(|how| ServerMetrics::new(&plan.name, how, metrics.clone())),
            connection_fingerprint,
            alt_svc: OnceLock::new(),
            shutdown_at: OnceLock::new(),
            plan,
        }))
    }
}

impl ServerRuntime {
    /// The policy for a handshake, unless it is to be refused.
    pub(crate) fn policy_for(&self, facts: &HelloFacts<'_>) -> Option<&Policy> {
        self.tls.as_ref()?.choose(facts)
    }

    /// Where missing certificates are asked for.
    pub(crate) fn certificates(&self) -> &Arc<CertManager> {
        &self.certificates
    }
}

/// The TLS handshake: the hello decides the policy, and so the configuration. `limit` is for what
/// the client has to send; the wait for an on-demand certificate has its own.
pub(crate) async fn accept_tls<S: Io>(
    binding: &Binding,
    mut io: Rewind<S>,
    connection: &Connection,
    limit: Duration,
) -> io::Result<(TlsStream<Rewind<S>>, TlsInfo)> {
    let mut kind = Hello::Visible;
    if let Some(keys) = &binding.server.ech {
        (io, kind) = Box::pin(within(limit, unveil(keys, io))).await?;
    }
    answer_hello(binding, io, kind, connection, limit).await
}

async fn answer_hello<S: Io>(
    binding: &Binding,
    io: Rewind<S>,
    kind: Hello,
    connection: &Connection,
    limit: Duration,
) -> io::Result<(TlsStream<Rewind<S>>, TlsInfo)> {
    let server = &binding.server;
    let mut hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let start = match within(limit, &mut hello).await {
        Ok(start) => start,
        Err(error) => {
            Box::pin(no_hello(hello, &error)).await;
            return Err(error);
        }
    };
    let asked = {
        let (remote, local) = (connection.remote, connection.local);
        server.certificates.wants_hello().then(|| hello_data(&start.client_hello(), remote, local))
    };
    if let Some(data) = asked
        && let Err(reason) = Box::pin(server.certificates.tell_hello(data)).await
    {
        Box::pin(refuse(start, limit)).await;
        return Err(io::Error::other(reason));
    }
    if let Some(name) = caddis_tls::is_challenge_hello(&start.client_hello()) {
        // Boxed and cold: an authority asks once in a while.
        return Box::pin(answer_challenge(server, start, &name, limit)).await;
    }
    let config = {
        let hello = start.client_hello();
        let facts = HelloFacts {
            sni: hello.server_name(),
            remote: connection.remote.map(|remote| remote.ip().to_canonical()),
            local: connection.local.map(|local| local.ip().to_canonical()),
        };
        match server.policy_for(&facts) {
            None => Err("no server TLS configuration available for ClientHello"),
            Some(policy) => match policy.missing_certificate(&facts) {
                // Boxed and cold: most handshakes find their certificate.
                Some(name) => {
                    let asked = Asked::new(&name.asked, &hello, facts.local);
                    let given = missing(server.certificates.clone(), asked, name);
                    match Box::pin(given).await {
                        Ok(Some(key)) => Ok(policy.config_with(key)),
                        Ok(None) if policy.has_certificate(&facts) => Ok(policy.config_for(&facts)),
                        _ => Err("no certificate available for ClientHello"),
                    }
                }
                None if policy.may_answer(&facts) => Ok(policy.config_for(&facts)),
                None => Err("no certificate available for ClientHello"),
            },
        }
    };
    let config = match config {
        Ok(config) => {
            let hello = start.client_hello();
            let config = caddis_tls::for_suites(config, hello.cipher_suites());
            caddis_tls::for_protocols(config, hello.alpn())
        }
        Err(reason) => {
            Box::pin(refuse(start, limit)).await;
            return Err(io::Error::other(reason));
        }
    };
    let is_hidden = matches!(kind, Hello::Hidden { .. });
    let handshake = match kind {
        Hello::Visible => start.into_stream(config),
        Hello::Sealed => match server.ech.as_ref().and_then(|keys| keys.rejection()) {
            Some(rejection) => {
                let config = rejection.config(&config);
                rejection.perform(|| start.into_stream(config)).0
            }
            None => start.into_stream(config),
        },
        Hello::Hidden { inner, outer } => match Acceptance::rehearse(&config, &inner) {
            Ok(acceptance) => acceptance.perform(|| start.into_stream(config)),
            // It fails as it would without a word on hidden hellos.
            Err(Refused::Handshake(_)) => start.into_stream(config),
            Err(Refused::NoKeyShare) => {
                // Without a word on how to hide it: the client would come back with the same.
                let io = Rewind { before: outer, io: start.io.io };
                let kind = Hello::Visible;
                return Box::pin(answer_hello(binding, io, kind, connection, limit)).await;
            }
        },
    };
    let stream = within(limit, handshake).await?;
    let mut info = caddis_tls::tls_info(stream.get_ref().1);
    info.ech = is_hidden;
    Ok((stream, info))
}

/// What came is no hello: the client is told, if not by the library, which has no word for some of
/// it, and has a moment to read that. A hello that is too long may not have come to its end, and a
/// connection that is closed before is reset, with the alert.
async fn no_hello<S: Io>(mut hello: LazyConfigAcceptor<S>, error: &io::Error) {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (Some(cause), Some(mut io)) = (cause, hello.take_io()) else { return };
    let told = async {
        match untold(cause) {
            Some(code) => alert(&mut io, code).await?,
            None => io.shutdown().await?,
        }
        tokio::io::copy(&mut io.take(crate::h1::DRAIN_LIMIT), &mut tokio::io::sink()).await
    };
    let _ = within(crate::h1::LINGER, told).await;
}

/// The alert for what the library ends the beginning of a handshake without a word for.
fn untold(cause: &rustls::Error) -> Option<u8> {
    const UNEXPECTED_MESSAGE: u8 = 10;
    const DECODE_ERROR: u8 = 50;
    match cause {
        rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerMisbehaved(
            PeerMisbehaved::MessageInterleavedWithHandshakeMessage
            | PeerMisbehaved::TooManyEmptyFragments,
        ) => Some(UNEXPECTED_MESSAGE),
        rustls::Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            Some(DECODE_ERROR)
        }
        _ => None,
    }
}

/// Tells a client in the words of TLS that there will be no handshake: the alert internal_error,
/// which is what Go's server sends and what people search for.
async fn refuse<S: Io>(mut start: StartHandshake<S>, limit: Duration) {
    // A client that has gone needs no word.
    let _ = within(limit, alert(&mut start.io, INTERNAL_ERROR)).await;
}

/// Alerts (RFC 8446 §6).
pub(crate) const ILLEGAL_PARAMETER: u8 = 47;
pub(crate) const INTERNAL_ERROR: u8 = 80;

/// Sends a fatal alert before there are keys, and that is all.
pub(crate) async fn alert<S: Io>(io: &mut S, code: u8) -> io::Result<()> {
    // Content type, version, length, level fatal, code (RFC 8446 §5.1 and §6).
    io.write_all(&[21, 3, 3, 0, 2, 2, code]).await?;
    io.shutdown().await
}

/// A certificate where there is none: from a source outside, for this handshake alone, or (then it
/// is with the others, and the answer is `None`) made now.
///
/// # Errors
/// The handshake is not to go on.
pub(crate) async fn missing(
    certificates: Arc<CertManager>,
    asked: Asked,
    missing: Missing,
) -> Result<Option<Arc<CertifiedKey>>, OnDemandError> {
    let given = certificates.ask_getters(&asked).await;
    match &given {
        Ok(None) => {
            if let Err(error) = certificates.get_or_issue(&missing).await {
                let name = missing.name;
                tracing::debug!(target: "tls.handshake", server_name = name, %error, "no certificate");
            }
        }
        Ok(Some(_)) => {}
        Err(error) => {
            let name = missing.name;
            tracing::debug!(target: "tls.handshake", server_name = name, %error, "no certificate");
        }
    }
    given
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    crate::h1::within(Some(limit), work).await.ok_or(io::ErrorKind::TimedOut)?
}

/// TLS-ALPN-01: shows the answer in the handshake, and that was all.
async fn answer_challenge<S: Io>(
    server: &ServerRuntime,
    start: StartHandshake<S>,
    name: &str,
    limit: Duration,
) -> io::Result<(TlsStream<S>, TlsInfo)> {
    let Some(config) = server.certificates.challenges().tls_answer(name).await else {
        refuse(start, limit).await;
        return Err(io::Error::other("no challenge for this name"));
    };
    let mut stream = within(limit, start.into_stream(config)).await?;
    within(limit, stream.shutdown()).await?;
    Err(io::Error::other("the connection was for a challenge"))
}

/// Writes the access log entry.
pub(crate) fn access_entry(
    server: &ServerRuntime,
    ex: &Exchange,
    headers: (&HeaderMap, &HeaderMap),
    status: u16,
    bytes: (u64, u64),
    duration: Duration,
) {
    server.access_log.log(
        ex,
        &AccessRecord {
            status,
            size: bytes.0,
            bytes_read: bytes.1,
            duration,
            response_headers: headers.1,
            request_headers: Some(headers.0),
        },
    );
}
