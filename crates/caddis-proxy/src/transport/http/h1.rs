//! One exchange over an HTTP/1 connection.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use caddis_core::Body;
use caddis_wire::{
    BodyDecoder, BodyFraming, HeadError, Limits, Parsed, PassedFields, ResponseHead,
};
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::{io::AsyncWrite, time::Sleep};
use tokio_util::io::poll_read_buf;

use super::{
    body::H1Body,
    outgoing::Outgoing,
    pool::{Conn, HostPool, Local},
    upload::{RequestBody, Upload, UploadError},
};
use crate::transport::{Failure, io_text};

/// Bodies up to this size go out in one piece with the head.
const SMALL_BODY: usize = 16 * 1024;
/// The most that goes out in one record of TLS (RFC 8446 §5.1). Where the first write takes no more,
/// its failure means that the upstream has read nothing.
const ONE_RECORD: usize = 16 * 1024;
/// Informational responses in a row before the upstream is given up.
const MAX_INFORMATIONAL: usize = 100;

/// Takes informational responses (1xx).
pub(crate) type Informational<'a> = Option<&'a dyn Fn(StatusCode, HeaderMap)>;

/// What an exchange needs besides connection and body.
pub(crate) struct Call<'a> {
    /// The answer's fields may stay as they are.
    pub(crate) pass: bool,
    /// The request's head.
    pub(crate) outgoing: &'a Outgoing<'a>,
    /// The worker's buffers.
    pub(crate) local: &'a Rc<Local>,
    /// Where the connection goes back.
    pub(crate) pool: &'a Rc<HostPool>,
    /// Bytes of a response head.
    pub(crate) max_head: usize,
    /// Time to wait for the response head.
    pub(crate) header_timeout: Option<Duration>,
    /// Time to wait for `100 Continue`, where the request asks for one.
    pub(crate) continue_timeout: Option<Duration>,
    /// Takes 1xx.
    pub(crate) informational: Informational<'a>,
}

/// The answer of an upstream.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The reason phrase where it is an unusual one.
    pub(crate) reason: Option<Bytes>,
    /// The version it speaks.
    pub(crate) version: Version,
    /// The fields.
    pub(crate) headers: HeaderMap,
    /// The fields, where they stay as they are.
    pub(crate) passed: Option<PassedFields>,
    /// The body.
    pub(crate) body: AnswerBody,
    /// When the head arrived.
    pub(crate) at: Instant,
}

/// What follows an answer's head.
pub(crate) enum AnswerBody {
    /// A body that needs the connection no more, or none.
    Whole(Body),
    /// A body that is still to be read.
    Http1(Box<H1Body>),
    /// A body of a stream of HTTP/2 or HTTP/3.
    Multiplexed(Body),
    /// Another protocol.
    Switched(Box<Conn>),
}

/// Why an exchange broke.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Not one byte could be written.
    Unsent(String),
    /// A connection from the pool ended before it said anything.
    Stale(String),
    /// Anything else.
    Failed(Failure),
}

impl Broken {
    /// The failure that it is where there is no other try.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Unsent(text) | Self::Stale(text) => Failure::Transport(text),
            Self::Failed(failure) => failure,
        }
    }

    /// The same, and whether the request may be sent once more, where its body can be.
    pub(crate) fn judge(self, is_idempotent: impl FnOnce() -> bool) -> (Failure, bool) {
        let safe = match &self {
            Self::Unsent(_) => true,
            Self::Stale(_) => is_idempotent(),
            Self::Failed(_) => false,
        };
        (self.into_failure(), safe)
    }
}

struct State<'a> {
    conn: Conn,
    call: &'a Call<'a>,
    upload: Option<Upload>,
    /// The upload waits for `100 Continue`.
    hold: Option<Pin<Box<Sleep>>>,
    write_error: Option<io::Error>,
    timer: Option<Pin<Box<Sleep>>>,
    read_any: bool,
    /// How much of the connection's buffer was looked through for the end of the head.
    searched: usize,
    informational: usize,
    limits: Limits,
}

/// A response head, and the body where it came along.
struct Arrived {
    head: ResponseHead,
    passed: Option<PassedFields>,
    whole: Option<Bytes>,
}

/// Sends a request and reads the answer's head.
pub(crate) async fn exchange(
    conn: Conn,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Answer, Broken> {
    let limits = Limits { max_headers: 10_000, ..Limits::with_max_head(call.max_head) };
    let mut state = State {
        conn,
        call,
        upload: None,
        hold: None,
        write_error: None,
        timer: None,
        read_any: false,
        searched: 0,
        informational: 0,
        limits,
    };
    poll_fn(|cx| Poll::Ready(state.start(cx, body))).await?;
    let arrived = poll_fn(|cx| state.poll_head(cx)).await?;
    Ok(state.answer(arrived))
}

impl State<'_> {
    /// Writes the head, with a small body in one piece, as far as the socket takes it.
    fn start(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Result<(), Broken> {
        let call = self.call;
        let holding = call.continue_timeout;
        let mut appended = false;
        let stream = &mut self.conn.stream;
        let written = call.local.with_head(|head| {
            call.outgoing.write(head, call.pool.absolute());
            if let RequestBody::Full(bytes) = &*body
                && bytes.len() <= SMALL_BODY
                && holding.is_none()
                && matches!(call.outgoing.framing, BodyFraming::Length(_))
            {
                head.extend_from_slice(bytes);
                appended = true;
            }
            let first = &head[..head.len().min(ONE_RECORD)];
            match Pin::new(&mut *stream).poll_write(cx, first) {
                Poll::Ready(Ok(count)) => Ok(Bytes::copy_from_slice(&head[count..])),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => Ok(Bytes::copy_from_slice(head)),
            }
        });
        let rest = written
            .map_err(|error| Broken::Unsent(format!("write: {}", io_text(&error, "write"))))?;
        let length = match call.outgoing.framing {
            BodyFraming::Length(length) if !appended => Some(length),
            BodyFraming::Chunked => None,
            _ => Some(0),
        };
        let flushed = rest.is_empty() && Pin::new(&mut *stream).poll_flush(cx).is_ready();
        if length != Some(0) || !flushed {
            let body = if length == Some(0) { Body::Empty } else { body.take() };
            self.upload = Some(Upload::new(rest, body, length));
            if length != Some(0) {
                self.hold = holding.map(|after| Box::pin(tokio::time::sleep(after)));
            }
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived, Broken>> {
        if let Err(broken) = self.poll_upload(cx) {
            return Poll::Ready(Err(broken));
        }
        loop {
            let step =
                if self.conn.buf.is_empty() { self.read_first(cx) } else { self.read_on(cx) };
            match step {
                Poll::Ready(Ok(Some(arrived))) => return Poll::Ready(Ok(arrived)),
                Poll::Ready(Ok(None)) => {
                    if let Err(broken) = self.poll_upload(cx) {
                        return Poll::Ready(Err(broken));
                    }
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => return self.poll_timer(cx).map(Err),
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if let Some(hold) = &mut self.hold {
            if hold.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.hold = None;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        match upload.poll(cx, &mut self.conn.stream) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.upload = None,
            Poll::Ready(Err(UploadError::Body(error))) => {
                return Err(Broken::Failed(Failure::RequestBody(error)));
            }
            Poll::Ready(Err(UploadError::Io(error))) if error.kind() == io::ErrorKind::TimedOut => {
                // The upstream may wait for the rest of the body, and would do so forever.
                let text = format!("write: {}", io_text(&error, "write"));
                return Err(Broken::Failed(Failure::Timeout(text)));
            }
            Poll::Ready(Err(UploadError::Io(error))) => {
                // An answer may be there all the same: a refusal of the rest of the body.
                self.upload = None;
                self.write_error = Some(error);
            }
        }
        Ok(())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let Some(after) = self.call.header_timeout else { return Poll::Pending };
        if self.upload.is_some() {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        timer.as_mut().poll(cx).map(|()| {
            let text = "net/http: timeout awaiting response headers".to_owned();
            Broken::Failed(Failure::Timeout(text))
        })
    }

    /// Reads into the worker's buffer: most answers need no other.
    fn read_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Arrived>, Broken>> {
        let local = self.call.local.clone();
        let method = self.call.outgoing.method;
        let Conn { stream, buf, last, .. } = &mut self.conn;
        let (limits, pass) = (&self.limits, self.call.pass);
        let read = local.read(cx, stream, |_, data| {
            let Some(data) = data else { return Ok(Seen::End) };
            match last.parse(data, method, limits, pass)? {
                Parsed::Complete((head, passed), used) => {
                    let rest = &data[used..];
                    let whole = whole_body(&head, rest);
                    let taken = whole.as_ref().map_or(0, Bytes::len);
                    buf.extend_from_slice(&rest[taken..]);
                    Ok(Seen::Head(Arrived { head, passed, whole }))
                }
                Parsed::Partial => {
                    buf.extend_from_slice(data);
                    Ok(Seen::Part)
                }
            }
        });
        self.searched = self.conn.buf.len();
        self.seen(read)
    }

    fn read_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Arrived>, Broken>> {
        let Conn { stream, buf, last, .. } = &mut self.conn;
        if self.searched == buf.len() {
            buf.reserve(8 * 1024);
            let read = poll_read_buf(Pin::new(stream), cx, buf);
            match read {
                Poll::Ready(Ok(0)) => return self.seen(Poll::Ready(Ok(Ok(Seen::End)))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.seen(Poll::Ready(Err(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        let from = self.searched.saturating_sub(3);
        self.searched = buf.len();
        let fresh = &buf[from..];
        let maybe = fresh.windows(2).any(|pair| pair == b"\n\n")
            || fresh.windows(3).any(|three| three == b"\n\r\n")
            || buf.len() > self.limits.max_head;
        if !maybe {
            return Poll::Ready(Ok(None));
        }
        let parsed = last.parse(buf, self.call.outgoing.method, &self.limits, self.call.pass);
        let seen = parsed.map(|parsed| match parsed {
            Parsed::Complete((head, passed), used) => {
                buf.advance(used);
                let whole = whole_body(&head, buf);
                buf.advance(whole.as_ref().map_or(0, Bytes::len));
                self.searched = 0;
                Seen::Head(Arrived { head, passed, whole })
            }
            Parsed::Partial => Seen::Part,
        });
        self.seen(Poll::Ready(Ok(seen)))
    }

    fn seen(
        &mut self,
        read: Poll<io::Result<Result<Seen, HeadError>>>,
    ) -> Poll<Result<Option<Arrived>, Broken>> {
        Poll::Ready(match read {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => Err(self.ended(Some(&error))),
            Poll::Ready(Ok(Ok(Seen::End))) => Err(self.ended(None)),
            Poll::Ready(Ok(Ok(Seen::Part))) => {
                self.read_any = true;
                Ok(None)
            }
            Poll::Ready(Ok(Ok(Seen::Head(arrived)))) => {
                self.read_any = true;
                self.head(arrived)
            }
            Poll::Ready(Ok(Err(error))) => Err(malformed(error)),
        })
    }

    /// A final head is the answer; an informational one is passed on.
    fn head(&mut self, arrived: Arrived) -> Result<Option<Arrived>, Broken> {
        let status = arrived.head.status;
        if status == StatusCode::SWITCHING_PROTOCOLS && self.upload.is_some() {
            // Another protocol begins behind a message, not within it (RFC 9110 §7.8).
            let text = "backend switched protocols before it had the whole request".to_owned();
            return Err(Broken::Failed(Failure::Transport(text)));
        }
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(arrived));
        }
        self.searched = 0;
        self.informational += 1;
        if self.informational > MAX_INFORMATIONAL {
            let text = "net/http: too many 1xx informational responses".to_owned();
            return Err(Broken::Failed(Failure::Transport(text)));
        }
        if status == StatusCode::CONTINUE {
            // The front tells its client by itself, as soon as the body is wanted.
            self.hold = None;
        } else if let Some(pass) = self.call.informational {
            pass(status, arrived.head.headers);
        }
        Ok(None)
    }

    /// The connection ended before a head was complete.
    fn ended(&self, error: Option<&io::Error>) -> Broken {
        let text = match (&self.write_error, error) {
            (Some(error), _) => io_text(error, "write"),
            (None, Some(error)) => io_text(error, "read"),
            (None, None) if self.read_any => "unexpected EOF".to_owned(),
            (None, None) => "EOF".to_owned(),
        };
        let timed_out = error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if timed_out {
            Broken::Failed(Failure::Timeout(text))
        } else if self.conn.reused && !self.read_any {
            Broken::Stale(format!("http: server closed idle connection: {text}"))
        } else {
            Broken::Failed(Failure::Transport(text))
        }
    }

    fn answer(self, arrived: Arrived) -> Answer {
        let Arrived { head, passed, whole } = arrived;
        let Self { conn, call, upload, write_error, .. } = self;
        let ResponseHead { status, reason, version, headers, framing, keep_alive, .. } = head;
        let keep = keep_alive && !call.outgoing.close && write_error.is_none();
        let at = Instant::now();
        let body = if status == StatusCode::SWITCHING_PROTOCOLS {
            AnswerBody::Switched(Box::new(conn))
        } else if let Some(bytes) = whole {
            if keep && upload.is_none() && conn.buf.is_empty() {
                call.pool.put(conn, at);
            }
            AnswerBody::Whole(bytes.into())
        } else {
            let decoder = BodyDecoder::new(framing);
            AnswerBody::Http1(Box::new(H1Body::new(conn, upload, decoder, call.pool.clone(), keep)))
        };
        Answer { status, reason, version, headers, passed, body, at }
    }
}

#[expect(clippy::large_enum_variant, reason = "moved once, on its way out of the read")]
enum Seen {
    End,
    Part,
    Head(Arrived),
}

/// The body, where all of it (or the knowledge that there is none) came with the head.
fn whole_body(head: &ResponseHead, rest: &[u8]) -> Option<Bytes> {
    match head.framing {
        BodyFraming::None => Some(Bytes::new()),
        BodyFraming::Length(length) => {
            let length = usize::try_from(length).ok()?;
            rest.get(..length).map(Bytes::copy_from_slice)
        }
        BodyFraming::Chunked | BodyFraming::UntilClose => None,
    }
}

fn malformed(error: HeadError) -> Broken {
    let text = match error {
        HeadError::TooLarge | HeadError::TooManyHeaders => {
            "net/http: server response headers exceeded the limit; aborted".to_owned()
        }
        _ => format!(
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response: {}",
            error.detail()
        ),
    };
    Broken::Failed(Failure::Transport(text))
}

/// Whether a request may be sent twice without harm when it is unknown whether it arrived.
pub(crate) fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    method.is_safe()
        || headers.contains_key("idempotency-key")
        || headers.contains_key("x-idempotency-key")
}
