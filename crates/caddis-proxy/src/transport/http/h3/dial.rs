//! New connections.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};
use tokio::time::timeout;

use super::{
    session::{self, Session},
    socket::Socket,
};
use crate::{
    transport::{
        Failure,
        http::connect::{DialSettings, addresses, connect_any},
    },
    upstream::Address,
};

/// A connection on which nothing comes for so long is over, as in Caddy.
const MAX_SILENCE: Duration = Duration::from_secs(30);
/// How often an idle connection shows that it is there, as in Caddy.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The upstream's control stream and those of QPACK, and some that are refused.
const MAX_UNI_STREAMS: u32 = 8;
/// Bytes of one answer, and of all on a connection, that may wait to be read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of a connection that are sent and not yet acknowledged.
const SEND_WINDOW: u64 = 4 << 20;

/// How to reach an upstream.
pub(crate) struct Dialing<'a> {
    /// Where it is.
    pub(crate) address: &'a Address,
    /// Time limit, resolver, source address.
    pub(crate) settings: &'a DialSettings,
    /// TLS with `h3` as its only protocol.
    pub(crate) tls: &'a Arc<QuicClientConfig>,
    /// Time for the handshake alone, which is all there is of dialling.
    pub(crate) handshake_timeout: Option<Duration>,
    /// Name to ask for and to verify.
    pub(crate) server_name: &'a str,
    /// Bytes of an answer's head.
    pub(crate) max_section: usize,
}

impl Dialing<'_> {
    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<Rc<Session>, Failure> {
        let limit = self.settings.timeout.min(self.handshake_timeout.unwrap_or(Duration::MAX));
        let attempt = async {
            let found = addresses(self.address, self.settings).await?;
            connect_any(found, self.settings.fallback_delay, async |address| {
                self.connect(address).await
            })
            .await
        };
        let failed = match timeout(limit, attempt).await {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("timeout: handshake did not complete in time"),
        };
        Err(Failure::dial(&format!("udp {}", self.address.host_port), &failed))
    }

    async fn connect(&self, remote: SocketAddr) -> io::Result<Rc<Session>> {
        let local = match &self.settings.local {
            Some(local) => Some(local.towards(remote).await?),
            None => None,
        };
        let socket = Arc::new(Socket::open(remote, local)?);
        let runtime = Arc::new(TokioRuntime);
        let mut config = EndpointConfig::default();
        // Version 1 and no drafts of it.
        config.supported_versions(vec![1]);
        let endpoint = Endpoint::new_with_abstract_socket(config, None, socket.clone(), runtime)?;
        let mut config = quinn::ClientConfig::new(self.tls.clone());
        config.transport_config(Arc::new(transport()));
        let name = self.server_name.trim_matches(['[', ']']);
        let connecting = endpoint.connect_with(config, remote, name).map_err(io::Error::other)?;
        let quic = tokio::select! {
            connected = connecting => connected
                .map_err(|error| io::Error::other(session::text(&error)))?,
            () = socket.refused() => return Err(io::ErrorKind::ConnectionRefused.into()),
        };
        Session::begin(quic, socket, self.max_section)
            .await
            .map_err(|error| io::Error::other(session::text(&error)))
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(MAX_SILENCE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None);
    transport
}
