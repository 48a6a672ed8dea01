//! The HTTP/3 front (RFC 9114): the project's own, over `caddis_wire::http3` and quinn's streams.

mod request;
mod respond;
mod tunnel;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytestring::ByteString;
use caddis_core::{
    Body, Request, Target, WriteLimits,
    exchange::{Tunnel, Upgrade},
};
use caddis_wire::http3::{self, Http3Error, Http3Request, PeerStream, PeerStreams, Rest, code};
use http::{Method, StatusCode, Version};
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tokio::time::Instant;

use self::{
    request::{Failure, Incoming, StreamBody},
    respond::{Interim, respond},
    tunnel::Tunnelled,
};
use crate::{
    body_limits::BodyLimits,
    connection::ConnCx,
    h1::within,
    server::ServerRuntime,
    service::serve,
    streams::{
        Activity, ActivityGuard, AskedFor, END_WAIT, GOODBYE, Received, take_expectation,
        tell_length, usually_lacks_body,
    },
};

/// What a head may be encoded in beyond its own limit, as for HTTP/2.
const HEAD_SLACK: usize = 4096;
/// No request stream has this id (RFC 9114 §5.2).
const LAST_ID: u64 = (1 << 62) - 4;
/// How often an idle connection looks at the clock where there is no limit.
const FOREVER: Duration = Duration::from_secs(86400 * 365);
/// How long the last bytes of an answer may take to be acknowledged.
const LINGER: Duration = Duration::from_secs(60);

/// After so long without a datagram, while an answer is not acknowledged, the client is gone.
const SILENCE: Duration = Duration::from_secs(4);

/// Where a connection is on its way out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told that it ends, and may have sent requests before it knew.
    Told,
    /// No further request is taken.
    Last,
}

/// Serves a connection until it closes or is told to drain.
pub(crate) async fn serve_connection(quic: quinn::Connection, cx: ConnCx) {
    let (idle, max_section) = {
        let server = cx.listener.server();
        (server.plan.timeouts.idle, max_section(&server))
    };
    let Some(mut control) = open_control(&quic, max_section).await else { return };
    tokio::task::spawn_local(read_unidirectional(quic.clone()));
    let active = Rc::new(Activity::default());
    let mut drained = std::pin::pin!(cx.drain.wait());
    let mut timer = std::pin::pin!(tokio::time::sleep(idle.unwrap_or(FOREVER)));
    let mut leaving = Leaving::No;
    let mut next_id = 0;
    loop {
        let mut leave = false;
        tokio::select! {
            stream = quic.accept_bi() => match stream {
                Err(_) => return,
                Ok((mut send, mut recv)) if leaving == Leaving::Last => {
                    // Safe to be tried again elsewhere (RFC 9114 §4.1.1).
                    let _ = send.reset(error_code(code::REQUEST_REJECTED));
                    let _ = recv.stop(error_code(code::REQUEST_REJECTED));
                }
                Ok((send, recv)) => {
                    next_id = next_id.max(u64::from(send.id()) + 4);
                    let stream = Stream { send, quic: quic.clone(), cx: cx.clone() };
                    let guard = active.enter();
                    let incoming = Incoming::new(recv, max_section);
                    tokio::task::spawn_local(stream.run(incoming, guard));
                }
            },
            () = &mut drained, if leaving == Leaving::No => leave = true,
            () = &mut timer, if leaving != Leaving::Last => match (leaving, idle) {
                (Leaving::No, Some(idle)) => {
                    leave = active.idle_for(idle);
                    timer.as_mut().reset(Instant::now() + idle);
                }
                (Leaving::No, None) => timer.as_mut().reset(Instant::now() + FOREVER),
                (Leaving::Told | Leaving::Last, _) => {
                    leaving = Leaving::Last;
                    if send_goaway(&mut control, next_id).await.is_none() {
                        return;
                    }
                }
            },
            () = active.quiet(), if leaving == Leaving::Last => {
                return quic.close(error_code(code::NO_ERROR), b"");
            }
        }
        if leave {
            leaving = Leaving::Told;
            if send_goaway(&mut control, LAST_ID).await.is_none() {
                return;
            }
            // What the client sends before it knows arrives within a round trip.
            timer.as_mut().reset(Instant::now() + (quic.rtt() * 3).clamp(SHORT, GOODBYE));
        }
    }
}

/// The code of a connection that ends as it should (RFC 9114 §8.1).
pub(crate) const NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// The least time that a client is given to hear that the connection ends.
const SHORT: Duration = Duration::from_millis(100);

fn max_section(server: &ServerRuntime) -> usize {
    server.plan.max_header_bytes + HEAD_SLACK
}

fn error_code(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn close(quic: &quinn::Connection, code: u64, reason: &str) {
    quic.close(error_code(code), reason.as_bytes());
}

async fn open_control(quic: &quinn::Connection, max_section: usize) -> Option<SendStream> {
    let mut control = within(Some(GOODBYE), quic.open_uni()).await?.ok()?;
    let mut out = Vec::new();
    http3::write_settings(&mut out, max_section as u64);
    control.write_all(&out).await.ok()?;
    Some(control)
}

async fn send_goaway(control: &mut SendStream, id: u64) -> Option<()> {
    let mut out = Vec::new();
    http3::write_goaway(&mut out, id);
    within(Some(GOODBYE), control.write_all(&out)).await?.ok()
}

/// Reads the client's control stream and those of QPACK; closes the connection where one is wrong.
async fn read_unidirectional(quic: quinn::Connection) {
    let streams = Rc::new(RefCell::new(PeerStreams::of_client()));
    while let Ok(recv) = quic.accept_uni().await {
        let (quic, streams) = (quic.clone(), streams.clone());
        tokio::task::spawn_local(async move {
            if let Err(Http3Error::Connection(code, reason)) = read_stream(recv, &streams).await {
                close(&quic, code, reason);
            }
        });
    }
}

async fn read_stream(
    mut recv: RecvStream,
    streams: &RefCell<PeerStreams>,
) -> Result<(), Http3Error> {
    let mut stream = PeerStream::default();
    loop {
        let data = match recv.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) | Err(ReadError::Reset(_)) => return stream.end(),
            Err(_) => return Ok(()),
        };
        if stream.read(&mut streams.borrow_mut(), data)? == Rest::Unwanted {
            // Ended already, or gone with its connection.
            let _ = recv.stop(error_code(code::STREAM_CREATION_ERROR));
            return Ok(());
        }
    }
}

/// What is left to do for a request that was answered.
enum Answered {
    Whole,
    /// The stream goes to a tunnel.
    Tunnel(Tunnel, Option<Box<StreamBody>>),
}

/// A request stream.
struct Stream {
    send: SendStream,
    quic: quinn::Connection,
    cx: ConnCx,
}

impl Stream {
    async fn run(mut self, incoming: Incoming, guard: ActivityGuard) {
        // Asked only now: a request that comes after a reload meets the new config.
        let server = self.cx.listener.server();
        match self.answer(incoming, &server).await {
            Ok(Answered::Tunnel(tunnel, body)) => {
                drop(server);
                tunnel(Box::new(Tunnelled::new(body, self.send))).await;
            }
            Ok(Answered::Whole) => {
                drop(server);
                // The connection is not to be closed before the client has it all.
                let _ = within(Some(LINGER), self.acknowledged()).await;
            }
            Err(code) => {
                let _ = self.send.reset(error_code(code));
            }
        }
        drop(guard);
    }

    /// Waits until the client has the whole answer, or is gone: it is probed for what it does not
    /// acknowledge (RFC 9002 §6.2), so one that is there is heard from.
    async fn acknowledged(&mut self) {
        let mut heard = self.quic.stats().udp_rx.datagrams;
        while within(Some(SILENCE), self.send.stopped()).await.is_none() {
            let now = self.quic.stats().udp_rx.datagrams;
            if now == heard {
                return;
            }
            heard = now;
        }
    }

    /// Answers the request; `Err` is the code to reset the stream with.
    async fn answer(
        &mut self,
        mut incoming: Incoming,
        server: &Arc<ServerRuntime>,
    ) -> Result<Answered, u64> {
        let timeouts = server.plan.timeouts;
        let limits = BodyLimits::begin(&timeouts);
        let head = within(timeouts.header, incoming.head()).await;
        let head = match head.unwrap_or(Err(Failure::Timeout)) {
            Ok(head) => head,
            Err(failure) => return self.refuse(failure, timeouts.write_idle).await,
        };
        let body_to_come = match may_be_empty(&head) {
            false => incoming.has_ended(),
            // Clients often tell the end of a request without a body in a frame of its own.
            true => within(Some(END_WAIT), incoming.ends()).await.unwrap_or(Ok(false)),
        };
        let ended = match body_to_come {
            Ok(ended) => ended,
            Err(failure) => return self.refuse(failure, timeouts.write_idle).await,
        };
        let bytes = Rc::new(Cell::new(0));
        let length = head.content_length;
        let connect = head.method == Method::CONNECT;
        let head_method = head.method == Method::HEAD;
        let mut tunnel_body = None;
        let body = if ended {
            Body::Empty
        } else {
            let quic = self.quic.clone();
            let body = StreamBody::new(incoming, quic, bytes.clone(), length);
            if connect {
                // For the tunnel, not for the handlers.
                tunnel_body = Some(Box::new(body));
                Body::Empty
            } else {
                Body::stream(body.with_limits(limits))
            }
        };
        let Some(mut request) = to_request(head, body) else {
            return self.refuse(Failure::Bad, timeouts.write_idle).await;
        };
        server.plan.header_names.apply(&mut request.headers);
        let interim = Interim::default();
        if take_expectation(&mut request.headers) && matches!(request.body, Body::Stream(_)) {
            let body = request.body.take();
            request.body = Body::stream(AskedFor::new(body, interim.sink()));
        }
        let mut ex = self.cx.exchange(request, server);
        ex.informational = Some(interim.sink());
        if connect {
            ex.upgrade = Some(Upgrade::default());
        }
        let service = serve(server, ex, Rc::new(Received(bytes)));
        let mut stopped = std::pin::pin!(self.send.stopped());
        // A client that wants no answer ends the work for it.
        let mut service = Box::pin(service);
        let served = std::future::poll_fn(|task| {
            let served = service.as_mut().poll(task);
            // Those of a handler are pushed while it is polled.
            let sent = interim.poll_send(&mut self.send, task);
            match served {
                Poll::Ready(served) => Poll::Ready(Some(served)),
                Poll::Pending if sent.is_err() => Poll::Ready(None),
                Poll::Pending => stopped.as_mut().poll(task).map(|_| None),
            }
        })
        .await
        .ok_or(code::REQUEST_CANCELLED)?;
        if served.abort {
            return Err(code::INTERNAL_ERROR);
        }
        let rest = interim.take();
        if !rest.is_empty() {
            // A part of one is out: the whole answer comes behind it.
            respond::write(&mut self.send, &mut [rest], timeouts.write_idle).await?;
        }
        let own = served.response.extensions().get::<WriteLimits>().copied();
        let own = own.unwrap_or_default();
        let (mut parts, body) = served.response.into_parts();
        caddis_wire::remove_connection_fields(&mut parts.headers);
        let write_idle = own.idle.or(timeouts.write_idle);
        if let Some(tunnel) = served.tunnel {
            let head = respond::head(&mut parts);
            respond::write(&mut self.send, &mut [head], write_idle).await?;
            return Ok(Answered::Tunnel(tunnel, tunnel_body));
        }
        tell_length(&mut parts, &body, head_method);
        let body = if head_method { Body::Empty } else { body };
        let left = own.deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
        let sending = respond(&mut self.send, parts, body, write_idle);
        tokio::select! {
            biased;
            sent = within(left, sending) => sent.unwrap_or(Err(code::INTERNAL_ERROR))?,
            _ = &mut stopped => return Err(code::REQUEST_CANCELLED),
        }
        Ok(Answered::Whole)
    }

    /// Refuses what is no request, or too large, or too slow.
    async fn refuse(
        &mut self,
        failure: Failure,
        write_idle: Option<Duration>,
    ) -> Result<Answered, u64> {
        let status = match failure {
            Failure::Timeout | Failure::Gone => return Err(code::REQUEST_CANCELLED),
            Failure::Http3(Http3Error::Stream(code, _)) => return Err(code),
            Failure::Http3(Http3Error::Connection(code, reason)) => {
                close(&self.quic, code, reason);
                return Err(code);
            }
            Failure::Http3(Http3Error::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Failure::Bad => StatusCode::BAD_REQUEST,
        };
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        let (mut parts, ()) = response.into_parts();
        tell_length(&mut parts, &Body::Empty, false);
        respond(&mut self.send, parts, Body::Empty, write_idle).await?;
        Ok(Answered::Whole)
    }
}

/// Whether a request of this kind most likely has no body.
fn may_be_empty(head: &Http3Request) -> bool {
    match head.content_length {
        Some(length) => length == 0,
        None => usually_lacks_body(&head.method),
    }
}

fn to_request(head: Http3Request, body: Body) -> Option<Request> {
    let Http3Request { method, path, host, protocol, headers, .. } = head;
    let host = ByteString::try_from(host).ok()?;
    let target = match path {
        Some(path) => Target::parse_bytes(path)?,
        None => Target::parse(host.clone())?,
    };
    let protocol = protocol.map(ByteString::try_from).transpose().ok()?;
    let version = Version::HTTP_3;
    let headers = headers.into();
    Some(Request { method, target, version, host, headers, body, protocol, chunked: false })
}
