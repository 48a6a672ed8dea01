//! QUIC (RFC 9000), for HTTP/3: sockets, endpoints and handshakes. Packets, loss, flow control and
//! address validation are quinn's.
//!
//! Every worker has its own endpoint on its own SO_REUSEPORT socket, as for TCP: the kernel keeps a
//! client's datagrams on one worker for as long as its address stays, and no lock is shared. When
//! the address changes, the datagram may come to another worker; connection ids say whose it is,
//! and it is handed over (`socket`).
//!
//! The sockets of an address are a [`QuicSlot`], which outlives listeners: a removed listener's
//! connections go on within the grace period, and a listener that comes back meanwhile takes the
//! same sockets, since two sets on one address would share each other's datagrams.

mod session;
mod socket;

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use caddis_config::NetworkAddress;
use caddis_core::Worker;
use caddis_plan::Timeouts;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use tokio::sync::{Notify, watch};

pub(crate) use self::socket::WorkerSocket;
use self::{session::Chooser, socket::WorkerIds};
use crate::{
    connection, h3,
    listen::{self, Listener},
    worker::OpenGuard,
};

/// What a client may have open at once on a connection, as in Caddy. Each costs memory before it
/// is used.
const MAX_STREAMS: u32 = 100;
/// A client needs three (RFC 9114 §6.2), and may send others that are refused.
const MAX_UNI_STREAMS: u32 = 8;
const RECEIVE_WINDOW: u32 = 1 << 20;
/// Bytes of a connection that are sent and not yet acknowledged.
const SEND_WINDOW: u64 = 2 << 20;
/// With so many handshakes under way on a worker, clients are to prove their address first (RFC
/// 9000 §8.1.2), which costs them a round trip and attackers their false addresses.
const RETRY_ABOVE: usize = 128;
/// With so many, further ones are refused.
const MAX_HANDSHAKES: usize = 4096;

/// How long clients may take to hear that their connections are over.
const FAREWELL: Duration = Duration::from_millis(200);

/// The sockets of an address, and what serves their connections.
pub(crate) struct QuicSlot {
    state: watch::Sender<State>,
    endpoint: EndpointConfig,
    server: quinn::ServerConfig,
    base: Arc<QuicServerConfig>,
    /// The UDP port.
    pub(crate) port: u16,
}

#[derive(Default)]
struct State {
    /// Takes new connections; `None` refuses them.
    listener: Option<Arc<Listener>>,
    /// Connections that are open, and reloads that count on the sockets.
    held: usize,
    /// The sockets close; there is no way back.
    retired: bool,
    /// So do the connections.
    cut: bool,
}

impl State {
    /// Whether this was the last use.
    fn retire(&mut self) -> bool {
        let over = self.listener.is_none() && self.held == 0 && !self.retired;
        self.retired |= over;
        over
    }
}

/// Keeps the sockets of a slot open.
pub(crate) struct Hold(Arc<QuicSlot>);

impl Hold {
    pub(crate) fn slot(&self) -> &Arc<QuicSlot> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            state.held -= 1;
            state.retire()
        });
    }
}

impl QuicSlot {
    /// A slot that is to get sockets on this port.
    pub(crate) fn new(port: u16) -> Result<Arc<Self>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // For what does not depend on the client: keys of first packets, retries.
        let base = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let base = QuicServerConfig::try_from(base)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let base = Arc::new(base);
        let mut endpoint = EndpointConfig::default();
        // Version 1 and no drafts of it.
        endpoint.supported_versions(vec![1]);
        Ok(Arc::new(Self {
            state: watch::Sender::new(State::default()),
            endpoint,
            server: quinn::ServerConfig::with_crypto(base.clone()),
            base,
            port,
        }))
    }

    /// Keeps the sockets open; `None` where they close already.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Hold> {
        let mut held = false;
        self.state.send_if_modified(|state| {
            held = !state.retired;
            state.held += usize::from(held);
            false
        });
        held.then(|| Hold(self.clone()))
    }

    /// Puts a listener in charge of new connections.
    pub(crate) fn serve(&self, listener: Arc<Listener>) {
        self.state.send_modify(|state| state.listener = Some(listener));
    }

    /// Takes no new connections; the sockets close with the last one.
    pub(crate) fn close(&self) {
        self.state.send_modify(|state| {
            state.listener = None;
            state.retire();
        });
    }

    /// Ends the connections at once.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Waits until the clients are told, as far as that takes a moment only.
    pub(crate) async fn until_cut(&self) {
        let mut state = self.state.subscribe();
        let _ = tokio::time::timeout(2 * FAREWELL, state.wait_for(|state| state.held == 0)).await;
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.state.borrow().retired
    }
}

/// Binds UDP sockets beside TCP ones: the same address and port, one for each worker.
pub(crate) fn bind(
    address: &NetworkAddress,
    port: u16,
    workers: usize,
) -> io::Result<Vec<WorkerSocket>> {
    let (sockets, _) = listen::bind_each(address, port, workers, listen::bind_udp)?;
    Ok(socket::share(sockets))
}

/// Takes an inherited UDP socket (`fdgram/4`), and its port. It is one socket, so that one worker
/// has all of its connections: datagrams of a new connection would else be spread over workers.
pub(crate) fn inherit(address: &NetworkAddress) -> io::Result<(Vec<WorkerSocket>, u16)> {
    let (socket, port) = listen::inherited_udp(address)?;
    Ok((socket::share(vec![socket]), port))
}

/// Accepts connections on a worker's socket until its slot is retired.
pub(crate) async fn serve(
    slot: Arc<QuicSlot>,
    socket: WorkerSocket,
    (at, open): (usize, Arc<[AtomicUsize]>),
    worker: Rc<Worker>,
) {
    let mut state = slot.state.subscribe();
    let opened = match first_datagram(socket, &mut state).await {
        Ok(Some(socket)) => open_endpoint(&slot, socket),
        Ok(None) => return,
        Err(error) => Err(error),
    };
    let endpoint = match opened {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return tracing::error!(target: "http", %error, "a socket could not be used");
        }
    };
    let handshakes = Rc::new(Cell::new(0));
    let local = endpoint.local_addr().ok();
    loop {
        let (listener, cut) = {
            let state = state.borrow_and_update();
            if state.retired {
                return;
            }
            (state.listener.clone(), state.cut)
        };
        if cut {
            let _hold = slot.hold();
            endpoint.close(h3::NO_ERROR, b"");
            let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
            return;
        }
        tokio::select! {
            biased;
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                let (Some(listener), Some(hold)) = (listener, slot.hold()) else {
                    incoming.refuse();
                    continue;
                };
                let accept = Accept { slot: &slot, listener, handshakes: &handshakes, local };
                let Some(begun) = accept.begin(incoming) else { continue };
                let (guard, worker) = (OpenGuard::new(&open, at), worker.clone());
                tokio::task::spawn_local(async move {
                    let _guards = (guard, hold);
                    connection::serve_quic(begun, worker).await;
                });
            }
        }
    }
}

/// Waits for something to do: an endpoint has megabytes of buffers, and many a server never meets a
/// client that speaks QUIC. `None` where the slot is retired before.
async fn first_datagram(
    socket: WorkerSocket,
    state: &mut watch::Receiver<State>,
) -> io::Result<Option<WorkerSocket>> {
    let socket = socket.waiting()?;
    tokio::select! {
        readable = socket.readable() => readable?,
        _ = state.wait_for(|state| state.retired) => return Ok(None),
    }
    socket.ready().map(Some)
}

fn open_endpoint(slot: &QuicSlot, socket: WorkerSocket) -> io::Result<Endpoint> {
    let mut config = slot.endpoint.clone();
    let ids = socket.ids();
    config.cid_generator(move || Box::new(WorkerIds::clone(&ids)));
    let socket = Arc::new(socket.open()?);
    let server = Some(slot.server.clone());
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

struct Accept<'a> {
    slot: &'a QuicSlot,
    listener: Arc<Listener>,
    handshakes: &'a Rc<Cell<usize>>,
    local: Option<SocketAddr>,
}

/// A connection whose handshake has begun.
pub(crate) struct Begun {
    pub(crate) listener: Arc<Listener>,
    pub(crate) binding: Arc<listen::Binding>,
    pub(crate) connecting: quinn::Connecting,
    /// Told when there can be no handshake.
    pub(crate) failed: Arc<Notify>,
    /// The address of the server's socket.
    pub(crate) local: Option<SocketAddr>,
    /// To be dropped when the handshake is over.
    pub(crate) handshake: Handshake,
}

/// Counts a handshake.
pub(crate) struct Handshake(Rc<Cell<usize>>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Accept<'_> {
    fn begin(self, incoming: Incoming) -> Option<Begun> {
        let under_way = self.handshakes.get();
        if under_way >= MAX_HANDSHAKES {
            incoming.refuse();
            return None;
        }
        if under_way >= RETRY_ABOVE && !incoming.remote_address_validated() && incoming.may_retry()
        {
            // Whatever stands in the way of a retry stands in the way of an answer, too.
            let _ = incoming.retry();
            return None;
        }
        let binding = self.listener.binding();
        let failed = Arc::new(Notify::new());
        let ip = incoming.local_ip().or(self.local.map(|local| local.ip()));
        let local = self.local.map(|local| SocketAddr::new(ip.unwrap_or(local.ip()), local.port()));
        let chooser = Chooser {
            base: self.slot.base.clone(),
            binding: binding.clone(),
            remote: incoming.remote_address().ip().to_canonical(),
            local: local.map(|local| local.ip()).as_ref().map(IpAddr::to_canonical),
            failed: failed.clone(),
        };
        let mut config = self.slot.server.clone();
        config.crypto = Arc::new(chooser);
        config.transport_config(transport(&binding.server.plan.timeouts));
        self.handshakes.set(under_way + 1);
        let handshake = Handshake(self.handshakes.clone());
        let connecting = incoming.accept_with(Arc::new(config)).ok()?;
        let Self { listener, .. } = self;
        Some(Begun { listener, binding, connecting, failed, local, handshake })
    }
}

fn transport(timeouts: &Timeouts) -> Arc<TransportConfig> {
    let idle = timeouts.idle.unwrap_or(Duration::from_secs(300));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        // A peer that is gone is found out by this; a request that is long in the making is kept
        // alive, and a connection without requests is ended by the front.
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .keep_alive_interval(Some(idle / 2));
    Arc::new(transport)
}
