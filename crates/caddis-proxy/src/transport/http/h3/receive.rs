//! The receiving half of a request stream: an answer's head, and its body.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use caddis_core::BodyError;
use caddis_wire::http3::{self, Http3Error, Http3Response, Part, RequestFrames, code};
use http_body::{Frame, SizeHint};
use quinn::{ConnectionError, ReadError, RecvStream};

use super::session::{Active, error_code};
use crate::transport::http::slot::Uploading;

/// As much as is taken off a stream at once.
const MAX_CHUNK: usize = 64 * 1024;

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum Ended {
    /// What came is not right.
    Http3(Http3Error),
    /// The upstream gave the request up, with this code.
    Reset(u64),
    /// The connection is gone.
    Lost(ConnectionError),
    /// The stream ended too early.
    Early,
}

impl From<Http3Error> for Ended {
    fn from(error: Http3Error) -> Self {
        Self::Http3(error)
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            ReadError::ConnectionLost(error) => Self::Lost(error),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Early,
        }
    }
}

/// What comes on a request stream.
pub(super) struct Incoming {
    recv: RecvStream,
    frames: RequestFrames,
    /// What came and was not looked at yet.
    input: Bytes,
    /// A piece that was read ahead.
    ahead: Option<Part>,
    ended: bool,
    max_section: usize,
    active: Active,
}

impl Incoming {
    pub(super) fn new(recv: RecvStream, active: Active, max_section: usize) -> Self {
        let frames = RequestFrames::new(max_section);
        Self { recv, frames, input: Bytes::new(), ahead: None, ended: false, max_section, active }
    }

    /// Reads a head, of which there may be several informational ones.
    pub(super) async fn head(&mut self) -> Result<Http3Response, Ended> {
        match std::future::poll_fn(|cx| self.poll_part(cx)).await? {
            Some(Part::Headers(block)) => {
                let head = Http3Response::parse(&block, self.max_section)?;
                if head.status.is_informational() {
                    self.frames.was_informational();
                }
                Ok(head)
            }
            // The frames begin with a head, or do not end well.
            _ => Err(Ended::Early),
        }
    }

    /// Whether the stream is known to end without a body.
    pub(super) fn has_ended(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.ahead.is_some() {
            return false;
        }
        match self.poll_part(&mut cx) {
            Poll::Ready(Ok(None)) => true,
            Poll::Ready(Ok(part)) => {
                self.ahead = part;
                false
            }
            // An error comes again when the body is read.
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }

    /// The next piece; `None` at the end.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Part>, Ended>> {
        if let Some(part) = self.ahead.take() {
            return Poll::Ready(Ok(Some(part)));
        }
        loop {
            if let Some(part) = self.frames.next(&mut self.input)? {
                return Poll::Ready(Ok(Some(part)));
            }
            if self.ended {
                self.frames.end()?;
                return Poll::Ready(Ok(None));
            }
            match ready!(pin!(self.recv.read_chunk(MAX_CHUNK, true)).poll(cx))? {
                Some(chunk) => self.input = chunk.bytes,
                None => self.ended = true,
            }
        }
    }

    pub(super) fn active(&self) -> &Active {
        &self.active
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody wants the rest (RFC 9114 §4.1.1).
            let _ = self.recv.stop(error_code(code::REQUEST_CANCELLED));
        }
    }
}

/// The body of an answer; the request's may still be going out.
pub(super) struct Received {
    incoming: Incoming,
    _upload: Option<Uploading>,
    /// What is to come, where the upstream said so.
    left: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Over,
    Failed,
}

impl Received {
    pub(super) fn new(incoming: Incoming, upload: Option<Uploading>, left: Option<u64>) -> Self {
        Self { incoming, _upload: upload, left, state: State::Open }
    }

    /// Checks the pieces against what the head said (RFC 9114 §4.1.2).
    fn take(&mut self, part: Option<Part>) -> Result<Option<Frame<Bytes>>, Ended> {
        const WRONG: Http3Error =
            Http3Error::Stream(code::MESSAGE_ERROR, "body and Content-Length differ");
        match part {
            Some(Part::Data(data)) => {
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(data.len() as u64).ok_or(WRONG)?;
                }
                // Who knows that no trailers come may tell the length.
                if self.left == Some(0) && self.incoming.has_ended() {
                    self.state = State::Over;
                }
                Ok(Some(Frame::data(data)))
            }
            _ if self.left.is_some_and(|left| left > 0) => Err(WRONG.into()),
            Some(Part::Headers(block)) => {
                let trailers = http3::trailers(&block, self.incoming.max_section)?;
                Ok(Some(Frame::trailers(trailers)))
            }
            None => {
                self.state = State::Over;
                Ok(None)
            }
        }
    }

    fn fail(&mut self, ended: &Ended) -> BodyError {
        self.state = State::Failed;
        let session = self.incoming.active().session();
        match ended {
            Ended::Http3(Http3Error::Connection(code, reason)) => {
                session.fail(*code, reason);
                BodyError::Malformed((*reason).to_owned())
            }
            Ended::Http3(error) => BodyError::Malformed(error.to_string()),
            Ended::Reset(_) | Ended::Lost(_) | Ended::Early => BodyError::Incomplete,
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.state {
            State::Open => {}
            State::Over => return Poll::Ready(None),
            // Whoever asks again must not take it for the end.
            State::Failed => return Poll::Ready(Some(Err(BodyError::Incomplete))),
        }
        let part = ready!(this.incoming.poll_part(cx));
        let taken = part.and_then(|part| this.take(part));
        Poll::Ready(taken.map_err(|ended| this.fail(&ended)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
