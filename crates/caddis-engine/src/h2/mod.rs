//! The HTTP/2 front (RFC 9113): the `h2` crate's frames over the same service.

mod quota;
mod request;
mod respond;
mod screen;
mod tunnel;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use caddis_core::{
    Body, WriteLimits,
    exchange::{Io, Tunnel, Upgrade},
};
use h2::{
    Ping, Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;

use self::{
    quota::Quota,
    request::{Incoming, to_request},
    respond::{Sending, respond},
    screen::Screened,
    tunnel::Tunnelled,
};
use crate::{
    body_limits::BodyLimits,
    connection::ConnCx,
    gather::Gathered,
    h1::within,
    server::ServerRuntime,
    service::{Served, asks_for_options, serve},
    streams::{
        Activity, ActivityGuard, AskedFor, END_WAIT, GOODBYE, Received, take_expectation,
        tell_length, usually_lacks_body,
    },
};

/// What a client may have open at once on a connection (Go's default).
const MAX_STREAMS: u32 = 250;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of one answer that wait to be written; those of all together are bounded by [`Quota`].
const SEND_BUFFER: usize = 400 * 1024;
/// Streams that broke a rule of their own before the connection ends (CVE-2025-8671).
const MAX_BROKEN: usize = 1024;
/// What frames with hardly any data in them, which cost memory all the same, may fall short of the
/// codec's 256 bytes together until they are read: some 16,000 frames.
const SMALL_FRAMES: usize = 4 << 20;
/// How long a client may take to answer a PING.
const PONG: Duration = Duration::from_secs(20);
/// How long a client may take to begin where there is no limit.
const PREFACE: Duration = Duration::from_secs(60);
/// How often an idle connection looks at the clock where there is no limit.
const FOREVER: Duration = Duration::from_secs(86400 * 365);

/// Serves an HTTP/2 connection until it closes or is told to drain.
pub(crate) async fn serve_connection<S: Io + 'static>(io: S, cx: ConnCx) {
    let server = cx.listener.server();
    let timeouts = server.plan.timeouts;
    let max_head = u32::try_from(server.plan.max_header_bytes + 4096).unwrap_or(u32::MAX);
    drop(server);
    let io = Gathered::new(io);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(max_head)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MAX_BROKEN))
        .data_frame_budget(SMALL_FRAMES)
        .enable_connect_protocol();
    let screened = Screened::new(io.clone());
    let begins = Begins {
        begun: screened.begun(),
        until: Instant::now() + timeouts.header.unwrap_or(PREFACE),
    };
    let mut handshake = std::pin::pin!(builder.handshake::<_, Bytes>(screened));
    let quota = Quota::new();
    let begun = poll_and_send(&io, &quota, |task| handshake.as_mut().poll(task).map(Result::ok));
    let late = async {
        cx.drain.wait().await;
        tokio::time::sleep(GOODBYE).await;
    };
    let begun = tokio::select! {
        biased;
        begun = tokio::time::timeout_at(begins.until, begun) => begun.ok().flatten(),
        () = late => None,
    };
    if let Some(connection) = begun {
        drive(connection, (&io, &quota), &cx, (begins, timeouts.idle)).await;
    }
}

/// Polls, and sends what was written meanwhile together; `None` where that cannot be sent.
async fn poll_and_send<S: Io, T>(
    io: &Gathered<S>,
    quota: &Quota,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<Option<T>>,
) -> Option<T> {
    poll_fn(|task| {
        quota.begin(task);
        let output = step(task);
        let sent = io.poll_send(task);
        if !io.was_held() {
            quota.refill();
        }
        match sent {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            Poll::Ready(Ok(())) | Poll::Pending => output,
        }
    })
    .await
}

/// How long a client may take to its first frame.
struct Begins {
    begun: Rc<Cell<bool>>,
    until: Instant,
}

impl Begins {
    fn are_late(&self, now: Instant) -> bool {
        !self.begun.get() && now >= self.until
    }
}

/// Takes streams until the connection is over.
async fn drive<S: Io + 'static>(
    mut connection: Connection<Screened<S>, Bytes>,
    (io, quota): (&Gathered<S>, &Quota),
    cx: &ConnCx,
    (begins, idle): (Begins, Option<Duration>),
) {
    let active = Rc::new(Activity::default());
    let mut pings = connection.ping_pong();
    let mut awaited = false;
    let mut drained = std::pin::pin!(cx.drain.wait());
    let first_idle = Instant::now() + idle.unwrap_or(FOREVER);
    let mut timer = std::pin::pin!(tokio::time::sleep_until(first_idle.min(begins.until)));
    let mut finishing = false;
    poll_and_send(io, quota, |task| {
        loop {
            match connection.poll_accept(task) {
                Poll::Ready(Some(Ok((request, reply)))) => {
                    let reply = Rc::new(RefCell::new(reply));
                    let stream = Stream { reply, cx: cx.clone(), quota: quota.clone() };
                    tokio::task::spawn_local(stream.run(request, active.enter()));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Some(())),
                Poll::Pending => break,
            }
        }
        let to_end = quota.is_to_end() || drained.as_mut().poll(task).is_ready();
        let mut finish = !finishing && to_end;
        if let Some(pings) = &mut pings
            && awaited
            && pings.poll_pong(task).is_ready()
        {
            awaited = false;
            timer.as_mut().reset(Instant::now() + idle.unwrap_or(FOREVER));
        }
        while !finish && timer.as_mut().poll(task).is_ready() {
            let now = Instant::now();
            if begins.are_late(now) {
                return Poll::Ready(Some(()));
            }
            if finishing {
                // A client that does not answer the goodbye is not waited for.
                if active.open() == 0 {
                    return Poll::Ready(Some(()));
                }
                timer.as_mut().reset(now + GOODBYE);
            } else if awaited {
                return Poll::Ready(Some(()));
            } else if idle.is_some_and(|idle| active.idle_for(idle)) {
                finish = true;
            } else {
                // Is it there still?
                let sent = pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
                awaited = matches!(sent, Some(Ok(())));
                let until = if awaited { PONG } else { idle.unwrap_or(FOREVER) };
                timer.as_mut().reset(now + until);
            }
        }
        if finish {
            finishing = true;
            connection.graceful_shutdown();
            timer.as_mut().reset(Instant::now() + GOODBYE);
            // Tells the client; it and the timer are looked at again.
            task.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// Whether a request of this kind most likely has no body.
fn may_be_empty(parts: &http::request::Parts) -> bool {
    !parts.headers.contains_key(header::CONTENT_LENGTH) && usually_lacks_body(&parts.method)
}

/// A request stream.
struct Stream {
    reply: Rc<RefCell<SendResponse<Bytes>>>,
    cx: ConnCx,
    quota: Quota,
}

/// What is left to do for a request that was answered.
enum Answered {
    Whole,
    /// The stream goes to a tunnel.
    Tunnel(Tunnel, Tunnelled),
}

impl Stream {
    async fn run(self, request: http::Request<RecvStream>, guard: ActivityGuard) {
        // Asked only now: a request that comes after a reload meets the new config.
        let server = self.cx.listener.server();
        // Boxed, since the runtime moves it before it runs.
        match Box::pin(self.answer(request, &server)).await {
            Ok(Answered::Whole) => {}
            Ok(Answered::Tunnel(tunnel, stream)) => {
                drop(server);
                tunnel(Box::new(stream)).await;
            }
            Err(reason) => self.reply.borrow_mut().send_reset(reason),
        }
        drop(guard);
    }

    /// Answers the request; `Err` is the code to reset the stream with.
    async fn answer(
        &self,
        request: http::Request<RecvStream>,
        server: &std::sync::Arc<ServerRuntime>,
    ) -> Result<Answered, Reason> {
        let timeouts = server.plan.timeouts;
        let (parts, mut stream) = request.into_parts();
        let connect = parts.method == Method::CONNECT;
        let protocol = parts.extensions.get::<h2::ext::Protocol>();
        let protocol = protocol.map(|protocol| ByteString::from(protocol.as_str()));
        let bytes = Rc::new(Cell::new(0));
        let mut tunnel_stream = None;
        let limits = BodyLimits::begin(&timeouts);
        let mut first = None;
        if !connect && !stream.is_end_stream() && may_be_empty(&parts) {
            // Some clients tell the end of a request without a body in a frame of its own.
            let data = poll_fn(|cx| stream.poll_data(cx));
            let data = within(Some(END_WAIT), data).await.flatten().transpose();
            first = data.map_err(|error| error.reason().unwrap_or(Reason::CANCEL))?;
        }
        let body = if connect {
            // For the tunnel, not for the handlers.
            tunnel_stream = Some(stream);
            Body::Empty
        } else if first.as_ref().is_none_or(Bytes::is_empty) && stream.is_end_stream() {
            Body::Empty
        } else {
            let incoming = Incoming::new(stream, &parts.headers, bytes.clone(), limits);
            Body::stream(incoming.beginning_with(first))
        };
        let Some(mut request) = to_request(parts, body, &server.plan.header_names) else {
            return self.refuse();
        };
        request.protocol = protocol;
        if take_expectation(&mut request.headers) && matches!(request.body, Body::Stream(_)) {
            let body = request.body.take();
            request.body = Body::stream(AskedFor::new(body, self.interim()));
        }
        let head_method = request.method == Method::HEAD;
        let mut ex = self.cx.exchange(request, server);
        ex.informational = Some(self.interim());
        if connect {
            ex.upgrade = Some(Upgrade::default());
        }
        if asks_for_options(&ex) {
            return self.send(Served::empty(), None, false, timeouts.write_idle).await;
        }
        let service = Box::pin(serve(server, ex, Rc::new(Received(bytes))));
        let served = self.unless_reset(service).await?;
        self.send(served, tunnel_stream, head_method, timeouts.write_idle).await
    }

    /// Gives the client informational answers (RFC 9113 §8.1).
    fn interim(&self) -> Rc<dyn Fn(StatusCode, HeaderMap)> {
        let reply = self.reply.clone();
        Rc::new(move |status, mut headers| {
            caddis_wire::remove_connection_fields(&mut headers);
            let mut response = http::Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            // The final answer tells whether the client is there.
            let _ = reply.borrow_mut().send_informational(response);
        })
    }

    /// Runs what is for a client, until it wants it no more.
    async fn unless_reset<T>(
        &self,
        mut work: std::pin::Pin<Box<impl Future<Output = T>>>,
    ) -> Result<T, Reason> {
        poll_fn(|task| match work.as_mut().poll(task) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => {
                let reset = self.reply.borrow_mut().poll_reset(task);
                reset.map(|reason| Err(reason.unwrap_or(Reason::CANCEL)))
            }
        })
        .await
    }

    async fn send(
        &self,
        served: Served,
        tunnel_stream: Option<RecvStream>,
        head_method: bool,
        write_idle: Option<Duration>,
    ) -> Result<Answered, Reason> {
        if served.abort {
            return Err(Reason::INTERNAL_ERROR);
        }
        if served.close {
            self.quota.end();
        }
        let own = served.response.extensions().get::<WriteLimits>().copied().unwrap_or_default();
        let (mut parts, body) = served.response.into_parts();
        caddis_wire::remove_connection_fields(&mut parts.headers);
        if let (Some(tunnel), Some(stream)) = (served.tunnel, tunnel_stream) {
            let send = respond::head(&self.reply, parts, false)?;
            return Ok(Answered::Tunnel(tunnel, Tunnelled::new(stream, send, self.quota.clone())));
        }
        tell_length(&mut parts, &body, head_method);
        let body = if head_method { Body::Empty } else { body };
        let idle = own.idle.or(write_idle);
        let sending = Sending { reply: &self.reply, idle, quota: &self.quota };
        let left = own.deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
        let sent = within(left, respond(sending, parts, body)).await;
        sent.unwrap_or(Err(Reason::INTERNAL_ERROR)).map(|()| Answered::Whole)
    }

    /// Refuses what is no request.
    fn refuse(&self) -> Result<Answered, Reason> {
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let (mut parts, ()) = response.into_parts();
        tell_length(&mut parts, &Body::Empty, false);
        respond::head(&self.reply, parts, true).map(|_| Answered::Whole)
    }
}
