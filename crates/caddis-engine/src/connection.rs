//! One accepted connection: handshake, protocol choice, front.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use caddis_core::{
    Connection, Exchange, LocalBoxFuture, Request, TlsInfo, Worker,
    exchange::{Io, PlaceholderSource},
};
use caddis_tls::{CLIENT_PREFIX, ClientPlaceholders};
use caddis_wire::Preface;
use http::{Version, header};
use smol_str::SmolStr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    h1, h2, h3,
    listen::{Binding, Drain, Listener},
    quic::Begun,
    server::ServerRuntime,
    wrappers,
};

/// What the fronts know of their connection.
#[derive(Clone)]
pub(crate) struct ConnCx {
    pub(crate) listener: Arc<Listener>,
    pub(crate) connection: Rc<Connection>,
    pub(crate) worker: Rc<Worker>,
    /// Begun when the connection is to end after the request under way.
    pub(crate) drain: Arc<Drain>,
    /// Placeholders of the client's certificate.
    pub(crate) client: Option<Rc<dyn PlaceholderSource>>,
}

impl ConnCx {
    /// A request on this connection.
    pub(crate) fn exchange(&self, request: Request, server: &ServerRuntime) -> Box<Exchange> {
        let mut ex = Exchange::new(request, self.connection.clone(), self.worker.clone());
        ex.shutdown_at = server.shutdown_at.get().copied();
        // Before any handler, so that handlers may change or remove it (spec D185).
        if let Some(alt_svc) = server.alt_svc.get()
            && ex.connection.tls.is_some()
            && ex.request.version < Version::HTTP_3
        {
            ex.early_headers = caddis_wire::header_map(1);
            ex.early_headers.insert(header::ALT_SVC, alt_svc.clone());
        }
        if let Some(client) = &self.client {
            ex.add_source(CLIENT_PREFIX, client.clone());
        }
        ex
    }
}

/// Serves a connection to its end.
///
/// What lasts for long is boxed apart from what only begins a connection: a future has room for the
/// largest of what it awaits, and thousands of idle connections would carry it.
pub(crate) async fn serve<S: Io + 'static>(
    io: S,
    mut connection: Connection,
    listener: Arc<Listener>,
    worker: Rc<Worker>,
) {
    let binding = listener.binding();
    let protocols = binding.protocols;
    if !(protocols.h1 || protocols.h2 || protocols.h2c) {
        // HTTP/3 alone, which does not come this way.
        return;
    }
    let wrappers = &binding.server.plan.wrappers;
    if wrappers.is_empty() {
        return begin(io, connection, binding, listener, worker).await;
    }
    // Without TLS there is nothing between the two lists.
    let tls = binding.tls;
    let before = wrappers.before_tls.iter();
    let steps = before.chain(wrappers.after_tls.iter().filter(|_| !tls));
    let wrapped = Box::pin(wrappers::run(steps, Box::new(io), &mut connection));
    let Some(io) = wrapped.await else { return };
    begin(io, connection, binding, listener, worker).await;
}

fn begin<S: Io + 'static>(
    io: S,
    connection: Connection,
    binding: Arc<Binding>,
    listener: Arc<Listener>,
    worker: Rc<Worker>,
) -> LocalBoxFuture<'static, ()> {
    if binding.tls {
        return Box::pin(serve_tls(io, connection, binding, listener, worker));
    }
    let protocols = binding.protocols;
    let (connection, drain) = (Rc::new(connection), binding.drain.clone());
    let cx = ConnCx { listener, connection, worker, drain, client: None };
    // Whoever knows that HTTP/2 is spoken here need not ask, also where TLS is what it is meant for:
    // so it is in Caddy, as long as HTTP/1 is spoken, too.
    if protocols.h2c || protocols.h1 && protocols.h2 {
        let plan = &binding.server.plan;
        Box::pin(serve_plain(io, plan.timeouts.header, protocols.h1, cx))
    } else if protocols.h1 {
        Box::pin(h1::serve_connection(h1::Conn::new(io, BytesMut::new()), cx))
    } else {
        Box::pin(std::future::ready(()))
    }
}

async fn serve_tls<S: Io + 'static>(
    io: S,
    mut connection: Connection,
    binding: Arc<Binding>,
    listener: Arc<Listener>,
    worker: Rc<Worker>,
) {
    let limit = binding.server.plan.timeouts.header.unwrap_or(HANDSHAKE);
    let handshake = async {
        let io = h1::within(Some(limit), plain_http(io)).await;
        let io = io.ok_or(io::ErrorKind::TimedOut)??;
        crate::server::accept_tls(&binding, io, &connection, limit).await
    };
    let handshake = Box::pin(before_late(&binding.drain, handshake));
    let (stream, tls) = match handshake.await {
        Some(Ok(done)) => done,
        Some(Err(error)) => return handshake_failed(&connection, &error),
        None => return,
    };
    let h2 = tls.alpn == "h2";
    let client = ClientPlaceholders::of(&tls);
    connection.tls = Some(tls);
    let drain = binding.drain.clone();
    let after = &binding.server.plan.wrappers.after_tls;
    let serving = if after.is_empty() {
        let cx = ConnCx { listener, connection: Rc::new(connection), worker, drain, client };
        serve_decrypted(stream, h2, cx)
    } else {
        let wrapped = Box::pin(wrappers::run(after.iter(), Box::new(stream), &mut connection));
        let Some(stream) = wrapped.await else { return };
        let cx = ConnCx { listener, connection: Rc::new(connection), worker, drain, client };
        serve_decrypted(stream, h2, cx)
    };
    drop(binding);
    serving.await;
}

/// What a client begins with; `None` where the server goes and nothing came for a while after.
async fn before_late<T>(drain: &Drain, beginning: impl Future<Output = T>) -> Option<T> {
    let late = async {
        drain.wait().await;
        tokio::time::sleep(h1::FIRST_REQUEST).await;
    };
    tokio::select! {
        biased;
        done = beginning => Some(done),
        () = late => None,
    }
}

/// Tells of a handshake that came to nothing, in the words that Caddy's users search for (O088).
fn handshake_failed(connection: &Connection, error: &io::Error) {
    tracing::debug!(
        target: "http.stdlib",
        "http: TLS handshake error from {}: {error}",
        connection.remote_text()
    );
}

/// Serves a QUIC connection to its end.
pub(crate) async fn serve_quic(begun: Begun, worker: Rc<Worker>) {
    let Begun { listener, binding, connecting, failed, local, handshake } = begun;
    let limit = binding.server.plan.timeouts.header.unwrap_or(HANDSHAKE);
    let drain = binding.drain.clone();
    drop(binding);
    let late = async {
        drain.wait().await;
        tokio::time::sleep(LATE_HANDSHAKE).await;
    };
    let quic = tokio::select! {
        connected = h1::within(Some(limit), connecting) => match connected {
            Some(Ok(quic)) => quic,
            _ => return,
        },
        () = failed.notified() => return,
        () = late => return,
    };
    drop(handshake);
    let tls = quic.handshake_data().and_then(|data| data.downcast::<TlsInfo>().ok());
    let tls = tls.map(|tls| *tls).unwrap_or_default();
    let client = ClientPlaceholders::of(&tls);
    let (local_name, remote_ip) = (SmolStr::default(), SmolStr::default());
    let mut connection = Connection { remote: None, remote_ip, local, local_name, tls: Some(tls) };
    connection.set_remote(quic.remote_address());
    let cx = ConnCx { listener, connection: Rc::new(connection), worker, drain, client };
    h3::serve_connection(quic, cx).await;
}

fn serve_decrypted<S: Io + 'static>(
    stream: S,
    h2: bool,
    cx: ConnCx,
) -> LocalBoxFuture<'static, ()> {
    if h2 {
        Box::pin(h2::serve_connection(stream, cx))
    } else {
        Box::pin(h1::serve_connection(h1::Conn::new(stream, BytesMut::new()), cx))
    }
}

/// Answers a client that speaks plain HTTP to a TLS port; gives the stream back otherwise.
async fn plain_http<S: Io>(mut io: S) -> io::Result<h1::Rewind<S>> {
    const ANSWER: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let mut before = BytesMut::with_capacity(1024);
    while before.len() < 5 {
        if io.read_buf(&mut before).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A TLS record of a handshake begins with 22.
        if before.first() == Some(&22) {
            break;
        }
    }
    if wrappers::looks_like_http(&before) {
        io.write_all(ANSWER).await?;
        io.shutdown().await?;
        return Err(io::Error::other("client sent an HTTP request to an HTTPS server"));
    }
    Ok(h1::Rewind { before, io })
}

const HANDSHAKE: Duration = Duration::from_secs(10);
/// What a QUIC handshake still gets when the server goes: nobody knows whether there is a client.
const LATE_HANDSHAKE: Duration = Duration::from_secs(3);

/// HTTP/2 in clear text begins with its preface; anything else is HTTP/1.
async fn serve_plain<S: Io + 'static>(mut io: S, limit: Option<Duration>, h1: bool, cx: ConnCx) {
    let mut before = BytesMut::with_capacity(64);
    let preface = async {
        loop {
            match caddis_wire::http2_preface(&before) {
                Preface::Yes => return Some(true),
                Preface::No => return Some(false),
                Preface::Partial => {}
            }
            if io.read_buf(&mut before).await.ok()? == 0 {
                return None;
            }
        }
    };
    let preface = h1::within(limit, preface);
    match before_late(&cx.drain, preface).await.flatten() {
        Some(Some(true)) => {
            Box::pin(h2::serve_connection(h1::Rewind { before, io }, cx)).await;
        }
        Some(Some(false)) if h1 => h1::serve_connection(h1::Conn::new(io, before), cx).await,
        _ => {}
    }
}
