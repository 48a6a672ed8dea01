//! The TLS handshake of QUIC (RFC 9001): the hello decides the policy, and so the configuration, as
//! for TCP; quinn itself would want one configuration for all clients of a socket.
//!
//! A hello that asks for a certificate which has to be got first waits without a task: clients
//! send probes until they are answered (RFC 9002 §6.2.2.1), and each one asks again.

use std::{
    any::Any,
    io::Cursor,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use caddis_tls::{
    Asked, HelloFacts, OnDemandError,
    ech::{Acceptance, Opened, Refused, Rejection, open, records},
    hello_data,
};
use quinn::{
    ConnectionId, Side, TransportErrorCode,
    crypto::{
        self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
        rustls::QuicServerConfig,
    },
};
use quinn_proto::{TransportError, transport_parameters::TransportParameters};
use rustls::{
    CipherSuite,
    quic::{KeyChange, Secrets, ServerConnection, Version},
    server::{Accepted, Acceptor, ClientHello},
    sign::CertifiedKey,
};
use serde_json::Value as Json;
use tokio::sync::Notify;

use crate::{
    listen::Binding,
    server::{ILLEGAL_PARAMETER, INTERNAL_ERROR},
    unveil::MAX_HELLO,
};

/// Alerts (RFC 8446 §6).
const HANDSHAKE_FAILURE: u8 = 40;
const DECODE_ERROR: u8 = 50;

/// Chooses the configuration for one client.
pub(super) struct Chooser {
    pub(super) base: Arc<QuicServerConfig>,
    pub(super) binding: Arc<Binding>,
    pub(super) remote: IpAddr,
    pub(super) local: Option<IpAddr>,
    /// Told when a handshake that waited cannot go on.
    pub(super) failed: Arc<Notify>,
}

impl crypto::ServerConfig for Chooser {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.base.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.base.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let mut encoded = Vec::new();
        parameters.write(&mut encoded);
        Box::new(Session {
            version,
            chooser: self,
            parameters: encoded,
            read: Vec::new(),
            hidden: Hidden::Unknown,
            rejection: None,
            server_name: None,
            suites: Vec::new(),
            state: State::Hello(Box::default()),
            next: None,
            aborted: Arc::default(),
        })
    }
}

struct Session {
    version: u32,
    chooser: Arc<Chooser>,
    parameters: Vec<u8>,
    /// What the client sent so far, or the hello that it hid, until there is a connection to read
    /// it.
    read: Vec<u8>,
    /// Whether the hello was hidden, and which one hid it.
    hidden: Hidden,
    /// What a client is told that hides its hello with a key that is no more.
    rejection: Option<Rejection>,
    server_name: Option<String>,
    suites: Vec<CipherSuite>,
    state: State,
    next: Option<Secrets>,
    /// A handler of events does not want the handshake.
    aborted: Arc<AtomicBool>,
}

/// What the wait for a certificate ends with: one for this handshake alone, or a word that it may
/// be with the others now.
type Answer = Result<Option<Arc<CertifiedKey>>, OnDemandError>;

/// What is known of a hidden hello (RFC 9849).
#[derive(PartialEq, Eq)]
enum Hidden {
    /// Nothing yet.
    Unknown,
    /// There is none to be answered.
    No,
    /// There is one, which came inside of this one.
    In(Vec<u8>),
}

enum State {
    /// The hello is not all here.
    Hello(Box<Acceptor>),
    /// A certificate is being got.
    Waiting(Arc<OnceLock<Answer>>),
    Running(Box<ServerConnection>),
    Failed,
}

impl Session {
    /// Takes in more of the hello; whether a configuration was chosen.
    fn read_hello(&mut self, data: &[u8]) -> Result<bool, TransportError> {
        self.read.extend_from_slice(data);
        if self.read.len() > MAX_HELLO {
            return Err(alert(DECODE_ERROR, "client hello is too long"));
        }
        let State::Hello(acceptor) = &mut self.state else { return Ok(false) };
        let Some(mut accepted) = accept(acceptor, data)? else { return Ok(false) };
        if let (Hidden::Unknown, Some(keys)) = (&self.hidden, &self.chooser.binding.server.ech) {
            match open(&keys.look(), &self.read) {
                Opened::Visible => self.hidden = Hidden::No,
                Opened::Sealed => {
                    self.hidden = Hidden::No;
                    self.rejection = keys.rejection();
                }
                Opened::Illegal => {
                    return Err(alert(ILLEGAL_PARAMETER, "illegal hidden client hello"));
                }
                Opened::Hidden(inner) => {
                    let whole = accept(&mut Acceptor::default(), &inner)?;
                    let cut = || alert(DECODE_ERROR, "hidden client hello cannot be read");
                    accepted = whole.ok_or_else(cut)?;
                    self.hidden = Hidden::In(std::mem::replace(&mut self.read, inner));
                }
            }
        }
        let hello = accepted.client_hello();
        self.server_name = hello.server_name().map(str::to_owned);
        self.suites = hello.cipher_suites().to_vec();
        let told = self.chooser.binding.server.certificates().wants_hello().then(|| {
            let address = |ip| SocketAddr::new(ip, 0);
            let (remote, local) = (self.chooser.remote, self.chooser.local);
            hello_data(&hello, Some(address(remote)), local.map(address))
        });
        match self.certificate(&hello, told)? {
            Poll::Ready(answer) => self.begin(answer)?,
            Poll::Pending => return Ok(false),
        }
        Ok(true)
    }

    fn facts(&self) -> HelloFacts<'_> {
        HelloFacts {
            sni: self.server_name.as_deref(),
            remote: Some(self.chooser.remote),
            local: self.chooser.local,
        }
    }

    /// Tells of the hello where somebody wants to hear of it, and asks for the certificate where it
    /// is missing. What takes time goes on by itself, and is seen in the state when it is done.
    fn certificate(
        &mut self,
        hello: &ClientHello<'_>,
        told: Option<Json>,
    ) -> Result<Poll<Answer>, TransportError> {
        let server = &self.chooser.binding.server;
        let facts = self.facts();
        let policy = server.policy_for(&facts).ok_or_else(no_policy)?;
        let missing = policy.missing_certificate(&facts);
        if missing.is_none() && told.is_none() {
            return Ok(Poll::Ready(Ok(None)));
        }
        let missing = missing.map(|missing| {
            let asked = Asked::new(&missing.asked, hello, facts.local);
            (asked, missing)
        });
        let (certificates, aborted) = (server.certificates().clone(), self.aborted.clone());
        let mut attempt = Box::pin(async move {
            if let Some(told) = told
                && certificates.tell_hello(told).await.is_err()
            {
                aborted.store(true, Ordering::Release);
                return Ok(None);
            }
            match missing {
                Some((asked, missing)) => {
                    crate::server::missing(certificates, asked, missing).await
                }
                None => Ok(None),
            }
        });
        // Most names that have none may have none, which is known at once.
        let mut unwoken = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = Future::poll(Pin::as_mut(&mut attempt), &mut unwoken) {
            return Ok(Poll::Ready(answer));
        }
        let done = Arc::new(OnceLock::new());
        self.state = State::Waiting(done.clone());
        tokio::spawn(async move {
            // Nobody else sets it.
            let _ = done.set(attempt.await);
        });
        Ok(Poll::Pending)
    }

    /// Goes on with the configuration that is right for the hello.
    fn begin(&mut self, answer: Answer) -> Result<(), TransportError> {
        self.state = State::Failed;
        if self.aborted.load(Ordering::Acquire) {
            return Err(alert(INTERNAL_ERROR, "handshake aborted by event handler"));
        }
        let server = &self.chooser.binding.server;
        let facts = self.facts();
        let policy = server.policy_for(&facts).ok_or_else(no_policy)?;
        let given = answer.map_err(|error| alert(INTERNAL_ERROR, &error.to_string()))?;
        let config = match given {
            Some(key) => policy.quic_config_with(&facts, key),
            None if policy.has_certificate(&facts) => policy.quic_config_for(&facts),
            None => return Err(alert(INTERNAL_ERROR, "no certificate available for ClientHello")),
        };
        let config =
            config.ok_or_else(|| alert(HANDSHAKE_FAILURE, "TLS 1.3 is not allowed here"))?;
        let config = caddis_tls::for_suites(config, &self.suites);
        let mut acceptance = None;
        if let Hidden::In(outer) = &mut self.hidden {
            match Acceptance::rehearse_quic(&config, &self.read, &self.parameters) {
                Ok(rehearsed) => acceptance = Some(rehearsed),
                // It fails as it would without a word on hidden hellos.
                Err(Refused::Handshake(_)) => {}
                Err(Refused::NoKeyShare) => {
                    let outer = std::mem::take(outer);
                    (self.hidden, self.state) = (Hidden::No, State::Hello(Box::default()));
                    self.read.clear();
                    return self.read_hello(&outer).map(|_| ());
                }
            }
        }
        let parameters = std::mem::take(&mut self.parameters);
        let connection = ServerConnection::new(config, Version::V1, parameters)
            .map_err(|error| alert(INTERNAL_ERROR, &error.to_string()))?;
        let mut connection = Box::new(connection);
        let hello = std::mem::take(&mut self.read);
        match (acceptance, self.rejection.take()) {
            (Some(acceptance), _) => acceptance.perform(|| read(&mut connection, &hello))?,
            (None, None) => read(&mut connection, &hello)?,
            (None, Some(rejection)) => {
                let (done, rejection) = rejection.perform(|| read(&mut connection, &hello));
                done?;
                self.rejection = rejection;
            }
        }
        self.state = State::Running(connection);
        Ok(())
    }

    fn running(&self) -> Option<&ServerConnection> {
        match &self.state {
            State::Running(connection) => Some(connection),
            _ => None,
        }
    }
}

/// Takes in more of a hello, which is there when it is whole.
fn accept(acceptor: &mut Acceptor, data: &[u8]) -> Result<Option<Accepted>, TransportError> {
    // The acceptor wants records, which QUIC does without.
    let records = records(data);
    let mut records = &records[..];
    while !records.is_empty() {
        if acceptor.read_tls(&mut records).is_err() {
            return Err(alert(DECODE_ERROR, "client hello cannot be read"));
        }
    }
    acceptor.accept().map_err(|(error, _)| alert(DECODE_ERROR, &error.to_string()))
}

fn no_policy() -> TransportError {
    alert(INTERNAL_ERROR, "no server TLS configuration available for ClientHello")
}

fn read(connection: &mut ServerConnection, data: &[u8]) -> Result<(), TransportError> {
    connection.read_hs(data).map_err(|error| match connection.alert() {
        Some(code) => alert(code.into(), &error.to_string()),
        None => violation(&error.to_string()),
    })
}

fn violation(reason: &str) -> TransportError {
    let code = TransportErrorCode::PROTOCOL_VIOLATION;
    TransportError { code, frame: None, reason: reason.into() }
}

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.into() }
}

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, _: Side) -> Keys {
        // The side is ours; and there is no session of a version that was not asked for there.
        let keys = crypto::ServerConfig::initial_keys(&*self.chooser.base, self.version, id);
        keys.expect("the version was checked before")
    }

    /// A [`caddis_core::TlsInfo`].
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let mut info = caddis_tls::quic_tls_info(self.running()?);
        info.ech = matches!(self.hidden, Hidden::In(_));
        Some(Box::new(info))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        // No early data: it can be sent again by whoever saw it.
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.running().is_none_or(|connection| connection.is_handshaking())
    }

    fn read_handshake(&mut self, data: &[u8]) -> Result<bool, TransportError> {
        match &mut self.state {
            State::Hello(_) => self.read_hello(data),
            State::Waiting(_) => Err(violation("handshake goes on without an answer")),
            State::Running(connection) => read(connection, data).map(|()| false),
            State::Failed => Err(alert(INTERNAL_ERROR, "handshake failed")),
        }
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        match self.running().and_then(|connection| connection.quic_transport_parameters()) {
            None => Ok(None),
            Some(encoded) => {
                Ok(Some(TransportParameters::read(Side::Server, &mut Cursor::new(encoded))?))
            }
        }
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        if let State::Waiting(done) = &self.state
            && let Some(answer) = done.get().cloned()
            && let Err(error) = self.begin(answer)
        {
            tracing::debug!(target: "tls.handshake", %error, "handshake failed");
            self.chooser.failed.notify_one();
        }
        let State::Running(connection) = &mut self.state else { return None };
        let before = out.len();
        let change = connection.write_hs(out);
        if let Some(longer) = self.rejection.as_mut().and_then(|one| one.extend(&out[before..])) {
            out.truncate(before);
            out.extend(longer);
        }
        let keys = match change? {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                keys
            }
        };
        Some(Keys {
            header: KeyPair {
                local: Box::new(keys.local.header),
                remote: Box::new(keys.remote.header),
            },
            packet: KeyPair {
                local: Box::new(keys.local.packet),
                remote: Box::new(keys.remote.packet),
            },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // Servers send them, and get none.
        false
    }

    fn export_keying_material(
        &self,
        _: &mut [u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        // Nothing here asks for it.
        Err(ExportKeyingMaterialError)
    }
}
