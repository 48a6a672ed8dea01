//! HTTP/2 to upstreams: connections and exchanges, over the `h2` crate's streams.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use caddis_core::{Body, BodyError};
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, uri::Scheme};
use http_body::{Frame, SizeHint};
use tokio::time::sleep;

use super::{
    h1::{Answer, AnswerBody, Broken, Informational},
    outgoing::Outgoing,
    slot::{Multiplexed, Uploading, maybe},
    stream::Stream,
    upload::RequestBody,
};
use crate::transport::Failure;

/// Bytes of one answer, and of all on a connection, that may wait to be read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Requests at once that stand for a number that the upstream has not told.
const UNTOLD: usize = 0x7fff_ff01;
/// How long the upstream may take to tell it.
const TELLING: Duration = Duration::from_secs(1);
/// Informational responses in a row before the upstream is given up.
const MAX_INFORMATIONAL: usize = 100;

/// An open connection; it closes when nothing refers to it.
pub(crate) struct Session {
    sender: SendRequest<Bytes>,
    active: Cell<usize>,
    since: Cell<Instant>,
}

/// A place for one request, and the connection that is kept open for it.
pub(crate) struct Opened(Active);

/// Counts a request on its connection for as long as it lives.
struct Active(Rc<Session>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl Session {
    /// Starts HTTP/2 on a connection, and waits for what the upstream says first: how many requests
    /// it takes at once (RFC 9113 §3.4). What is sent before is refused beyond that number, and a body
    /// that was on its way is lost.
    pub(crate) async fn begin(stream: Stream, max_head: usize) -> Result<Rc<Self>, Failure> {
        let failed = |error: &h2::Error| Failure::Dial(format!("http2: {error}"));
        let (sender, mut connection) = Builder::new()
            .initial_max_send_streams(UNTOLD)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| failed(&error))?;
        let told = poll_fn(|cx| match pin!(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(failed(&error))),
            Poll::Ready(Ok(())) => {
                Poll::Ready(Err(Failure::Dial("http2: server closed connection".to_owned())))
            }
            Poll::Pending if connection.max_concurrent_send_streams() == UNTOLD => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
        });
        // One that waits for a request before it speaks gets one.
        tokio::time::timeout(TELLING, told).await.unwrap_or(Ok(()))?;
        tokio::task::spawn_local(async move {
            // Its end shows on the requests that it carried.
            let _ = connection.await;
        });
        Ok(Rc::new(Self { sender, active: Cell::new(0), since: Cell::new(Instant::now()) }))
    }

    /// A place for a request, which may have to wait for another one's end.
    pub(crate) fn open(self: &Rc<Self>) -> Opened {
        self.active.set(self.active.get() + 1);
        Opened(Active(self.clone()))
    }
}

impl Multiplexed for Session {
    type Opened = Opened;

    fn is_usable(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // An error where the upstream said GOAWAY, or the connection ended.
        matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    fn activity(&self) -> (usize, Instant) {
        (self.active.get(), self.since.get())
    }

    fn try_open(self: &Rc<Self>) -> Option<Opened> {
        (self.active.get() < self.sender.current_max_send_streams()).then(|| self.open())
    }
}

/// What an exchange needs besides place and body.
pub(crate) struct Ask<'a> {
    /// The request's line and fields.
    pub(crate) outgoing: &'a Outgoing<'a>,
    /// Its fields as a map.
    pub(crate) headers: HeaderMap,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    /// Time to wait for the answer's head.
    pub(crate) header_timeout: Option<Duration>,
    /// Whether the connection carried requests before.
    pub(crate) reused: bool,
    /// Takes 1xx.
    pub(crate) informational: Informational<'a>,
}

/// The request's head, as HTTP/2 wants it.
fn head(outgoing: &Outgoing<'_>, mut headers: HeaderMap, tls: bool) -> Result<Request<()>, String> {
    let authority = std::str::from_utf8(outgoing.host).map_err(|error| error.to_string())?;
    let uri = Uri::builder()
        .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority)
        .path_and_query(outgoing.target)
        .build()
        .map_err(|error| error.to_string())?;
    super::outgoing::fit_for_streams(&mut headers, outgoing);
    let mut request = Request::new(());
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends a request and waits for the answer's head.
pub(crate) async fn exchange(
    Opened(active): Opened,
    ask: Ask<'_>,
    body: &mut RequestBody,
) -> Result<Answer, Broken> {
    let failed = |why| Broken::Failed(Failure::Transport(why));
    let request = head(ask.outgoing, ask.headers, ask.tls).map_err(failed)?;
    let unsent = |error: h2::Error| Broken::Unsent(text(&error));
    let mut sender = active.0.sender.clone().ready().await.map_err(unsent)?;
    let bodiless = matches!(body, RequestBody::None);
    let (mut response, stream) = sender.send_request(request, bodiless).map_err(unsent)?;
    drop(sender);
    let mut upload = (!bodiless).then(|| Box::pin(send(stream, body.take())));
    let mut timer = None;
    let mut informational = 0;
    let head = loop {
        if let Some(limit) = ask.header_timeout.filter(|_| upload.is_none())
            && timer.is_none()
        {
            timer = Some(Box::pin(sleep(limit)));
        }
        let head = tokio::select! {
            biased;
            uploaded = maybe(upload.as_mut()) => match uploaded {
                Ok(()) => {
                    upload = None;
                    continue;
                }
                Err(error) => return Err(Broken::Failed(Failure::RequestBody(error))),
            },
            head = poll_fn(|cx| poll_head(&mut response, cx)) => head,
            () = maybe(timer.as_mut()) => {
                let why = "http2: timeout awaiting response headers".to_owned();
                return Err(Broken::Failed(Failure::Timeout(why)));
            }
        };
        match head {
            Ok(Head::Final(head)) => break head,
            Ok(Head::Informational(head)) => {
                informational += 1;
                if informational > MAX_INFORMATIONAL {
                    return Err(failed("http2: too many 1xx informational responses".to_owned()));
                }
                if head.status() != StatusCode::CONTINUE
                    && let Some(pass) = ask.informational
                {
                    pass(head.status(), head.headers().clone());
                }
            }
            Err(error) => return Err(broken(&error, ask.reused && informational == 0)),
        }
    };
    let (parts, recv) = head.into_parts();
    let body = if recv.is_end_stream() {
        AnswerBody::Whole(Body::Empty)
    } else {
        let bodiless = *ask.outgoing.method == Method::HEAD
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        AnswerBody::Multiplexed(Body::stream(Received {
            recv,
            left: if bodiless { Some(0) } else { caddis_wire::declared_length(&parts.headers) },
            state: State::Data,
            _upload: upload.map(Uploading::spawn),
            _active: active,
        }))
    };
    Ok(Answer {
        passed: None,
        status: parts.status,
        reason: None,
        version: Version::HTTP_2,
        headers: parts.headers,
        body,
        at: Instant::now(),
    })
}

enum Head {
    Informational(http::Response<()>),
    Final(http::Response<RecvStream>),
}

fn poll_head(response: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Result<Head, h2::Error>> {
    if let Poll::Ready(Some(head)) = response.poll_informational(cx) {
        return Poll::Ready(head.map(Head::Informational));
    }
    pin!(response).poll(cx).map_ok(Head::Final)
}

/// What the end of a stream without a head means for the request.
fn broken(error: &h2::Error, stale: bool) -> Broken {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // A connection that ends well tells the streams alone that it did not take.
    let left_out = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    if error.is_remote() && (refused || left_out) {
        // Nothing was done with it (RFC 9113 §8.7).
        return Broken::Unsent(text(error));
    }
    if error.is_io() && stale {
        return Broken::Stale(format!("http2: server closed idle connection: {error}"));
    }
    Broken::Failed(Failure::Transport(text(error)))
}

fn text(error: &h2::Error) -> String {
    format!("http2: {error}")
}

/// Sends a body as fast as the upstream takes it. An upstream that takes no more of it has its
/// reasons, which its answer tells.
async fn send(mut stream: SendStream<Bytes>, mut body: Body) -> Result<(), BodyError> {
    while let Some(next) = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await
    {
        let frame = match next {
            Ok(frame) => frame,
            Err(error) => {
                stream.send_reset(Reason::CANCEL);
                return Err(error);
            }
        };
        match frame.into_data() {
            Ok(data) => {
                if write(&mut stream, data).await.is_none() {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    // Gone already: its answer says why.
                    let _ = stream.send_trailers(trailers);
                    return Ok(());
                }
            }
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
    Ok(())
}

/// Writes all of it; `None` where the stream takes no more.
async fn write(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        let piece = data.split_to(capacity.min(data.len()));
        if !piece.is_empty() {
            stream.send_data(piece, false).ok()?;
        }
    }
    Some(())
}

/// The body of a response; the request's may still be going out.
struct Received {
    recv: RecvStream,
    /// What is to come, where the upstream said so.
    left: Option<u64>,
    state: State,
    _upload: Option<Uploading>,
    _active: Active,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Over,
    Failed,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match this.state {
                State::Data => match ready!(this.recv.poll_data(cx)) {
                    Some(Ok(data)) => {
                        let length = data.len();
                        // The upstream may send as much again; gone already otherwise.
                        let _ = this.recv.flow_control().release_capacity(length);
                        if let Some(left) = &mut this.left {
                            *left = left.saturating_sub(length as u64);
                        }
                        if length > 0 {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                    }
                    Some(Err(_)) => this.state = State::Failed,
                    None => this.state = State::Trailers,
                },
                State::Trailers => match ready!(this.recv.poll_trailers(cx)) {
                    Ok(trailers) => {
                        this.state = State::Over;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(_) => this.state = State::Failed,
                },
                State::Over => return Poll::Ready(None),
                // Whoever asks again must not take it for the end.
                State::Failed => return Poll::Ready(Some(Err(BodyError::Incomplete))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over || self.state == State::Data && self.recv.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
