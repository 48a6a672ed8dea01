//! Protocol switches: answers 101 and copies bytes both ways.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use caddis_core::{Exchange, HttpError, Response, Result, exchange::Io};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    answer::merge,
    forwarded::remove_hop_by_hop,
    handler::{ReverseProxy, Run, Streams},
    passed_on::InFlight,
};
use crate::{
    generation::Generation,
    transport::http::{Conn, Local},
};

/// How often a peer that sends no more is looked at, while the other direction goes on.
const HALF_OPEN: Duration = Duration::from_secs(30);

/// An upstream's connection that has switched protocols, and what its tunnel needs.
pub(crate) struct Switch {
    conn: Box<Conn>,
    in_flight: InFlight,
    /// The protocol that the client asked for.
    wanted: Option<HeaderValue>,
    /// It asked with an extended CONNECT.
    extended: bool,
    local: Rc<Local>,
    generation: Arc<Generation>,
    streams: Streams,
    /// Upstream and seconds until its answer, for logs.
    shown: (String, f64),
}

impl ReverseProxy {
    /// Keeps what a tunnel needs.
    pub(super) fn switched(&self, run: &Run, conn: Box<Conn>, in_flight: InFlight) -> Switch {
        Switch {
            conn,
            in_flight,
            wanted: run.prepared.upgrade.clone(),
            extended: run.prepared.extended,
            local: run.local.clone(),
            generation: self.generation.clone(),
            streams: self.streams,
            shown: run.info.shown(),
        }
    }
}

impl Switch {
    /// Answers the switch, and leaves the tunnel for the front to run.
    pub(super) fn answer(self, ex: &mut Exchange, headers: HeaderMap) -> Result<Response> {
        self.tunnel(ex, headers).map_err(|text| HttpError::new(StatusCode::BAD_GATEWAY, text))
    }

    fn tunnel(
        self,
        ex: &mut Exchange,
        mut headers: HeaderMap,
    ) -> std::result::Result<Response, String> {
        let Self { conn, in_flight, wanted, extended, local, generation, streams, shown } = self;
        let Some(wanted) = wanted else {
            return Err("backend switched protocols without being asked".to_owned());
        };
        let chosen = headers.get(header::UPGRADE).cloned();
        let agrees = chosen
            .as_ref()
            .is_some_and(|chosen| chosen.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()));
        if !agrees {
            return Err(format!(
                "backend tried to switch to protocol {chosen:?} when {wanted:?} was requested"
            ));
        }
        let Some(upgrade) = &mut ex.upgrade else {
            return Err("the client's connection cannot switch protocols".to_owned());
        };
        let websocket = wanted.as_bytes().eq_ignore_ascii_case(b"websocket");
        let (upstream, duration) = shown;
        tracing::debug!(
            target: "http.handlers.reverse_proxy",
            upstream,
            duration,
            protocol = %String::from_utf8_lossy(wanted.as_bytes()),
            "upgrading connection"
        );
        upgrade.run = Some(Box::new(move |client| {
            Box::pin(async move {
                let start = Instant::now();
                let tunnel = Tunnel::new(client, *conn, local);
                tunnel.run(streams, &generation, websocket).await;
                tracing::debug!(
                    target: "http.handlers.reverse_proxy",
                    upstream,
                    duration = start.elapsed().as_secs_f64(),
                    "connection closed"
                );
                drop(in_flight);
            })
        }));
        remove_hop_by_hop(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        if extended {
            headers.remove("sec-websocket-accept");
        } else {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.extend(chosen.map(|chosen| (header::UPGRADE, chosen)));
        }
        let status = if extended { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        // With our own `Server` beside the upstream's, unlike other answers: as in Caddy.
        let mut response = ex.respond(status);
        merge(response.headers_mut(), headers);
        Ok(response)
    }
}

/// Bytes of one direction that were read and not yet written.
#[derive(Default)]
struct Pipe {
    rest: Vec<u8>,
    at: usize,
    ended: bool,
    closed: bool,
    dirty: bool,
}

impl Pipe {
    /// Copies as far as possible; ready when the direction has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            while self.at < self.rest.len() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.at..]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.at += written;
                self.dirty = true;
            }
            if self.at > 0 {
                // An idle tunnel holds no buffer.
                self.rest = Vec::new();
                self.at = 0;
            }
            if self.ended {
                if !self.closed {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            let read = local.read(cx, from, |cx, data| {
                let Some(data) = data else { return Ok(None) };
                // Most of the time the socket takes it at once.
                match Pin::new(&mut *to).poll_write(cx, data) {
                    Poll::Ready(Ok(written)) => Ok(Some(data[written..].to_vec())),
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => Ok(Some(data.to_vec())),
                }
            });
            match read {
                Poll::Ready(Ok(Ok(Some(rest)))) => {
                    self.dirty = true;
                    self.rest = rest;
                }
                Poll::Ready(Ok(Ok(None))) => self.ended = true,
                Poll::Ready(Ok(Err(error))) | Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    if self.dirty {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.dirty = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Whether a peer that has ended its sending is there no more: its system has answered a keepalive
/// probe with a reset, or the stream was reset.
fn is_gone(peer: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> bool {
    let mut buffer = [0; 1];
    let mut buffer = tokio::io::ReadBuf::new(&mut buffer);
    matches!(Pin::new(peer).poll_read(cx, &mut buffer), Poll::Ready(Err(_)))
}

struct Tunnel {
    client: Box<dyn Io>,
    backend: Conn,
    local: Rc<Local>,
    up: Pipe,
    down: Pipe,
}

impl Tunnel {
    fn new(client: Box<dyn Io>, mut backend: Conn, local: Rc<Local>) -> Self {
        backend.stream.unlimited();
        let down = Pipe { rest: backend.buf.split().to_vec(), ..Pipe::default() };
        Self { client, backend, local, up: Pipe::default(), down }
    }

    async fn run(mut self, streams: Streams, generation: &Arc<Generation>, websocket: bool) {
        let unloaded = async {
            generation.ended.cancelled().await;
            tokio::time::sleep(streams.close_delay).await;
        };
        let expired = async {
            match streams.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let goodbye = tokio::select! {
            () = self.copy() => return,
            () = expired => false,
            () = unloaded => websocket,
        };
        // Neither peer has to be waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.end(goodbye)).await;
    }

    /// Ends both sides so that what was written arrives: a stream that is only dropped is reset.
    async fn end(&mut self, goodbye: bool) {
        use tokio::io::AsyncWriteExt;
        if goodbye {
            self.say_going_away().await;
        }
        // Who is gone already needs no end.
        let _ = self.client.shutdown().await;
        let _ = self.backend.stream.shutdown().await;
    }

    /// Copies both ways. After one direction ended the other goes on until it ends, too, as in
    /// Go's reverse proxy; a peer that is gone altogether ends both.
    async fn copy(&mut self) {
        let mut look: Option<Pin<Box<tokio::time::Sleep>>> = None;
        poll_fn(|cx| {
            let Self { client, backend, local, up, down } = self;
            let sent = up.poll(cx, local, client, &mut backend.stream);
            let received = down.poll(cx, local, &mut backend.stream, client);
            match (&sent, &received) {
                (Poll::Ready(Err(_)), _)
                | (_, Poll::Ready(Err(_)))
                | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                _ => {}
            }
            let look = look.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_OPEN)));
            while look.as_mut().poll(cx).is_ready() {
                let gone = if sent.is_ready() {
                    is_gone(client, cx)
                } else {
                    is_gone(&mut backend.stream, cx)
                };
                if gone {
                    return Poll::Ready(());
                }
                look.as_mut().reset(tokio::time::Instant::now() + HALF_OPEN);
            }
            Poll::Pending
        })
        .await;
    }

    /// Sends both sides a WebSocket close frame with status 1001.
    async fn say_going_away(&mut self) {
        use tokio::io::AsyncWriteExt;
        let status = 1001u16.to_be_bytes();
        let to_client = [0x88, 2, status[0], status[1]];
        let mask = fastrand::u32(..).to_be_bytes();
        let to_backend = [
            0x88,
            0x82,
            mask[0],
            mask[1],
            mask[2],
            mask[3],
            status[0] ^ mask[0],
            status[1] ^ mask[1],
        ];
        // Whoever is gone already needs no goodbye.
        if self.client.write_all(&to_client).await.is_ok() {
            let _ = self.client.flush().await;
        }
        if self.backend.stream.write_all(&to_backend).await.is_ok() {
            let _ = self.backend.stream.flush().await;
        }
    }
}
