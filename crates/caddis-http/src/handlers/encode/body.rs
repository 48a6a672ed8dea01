//! A body that is compressed on its way.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use caddis_core::{Body, BodyError};
use http_body::Frame;

use crate::encoders::Coder;

/// Compressed bytes are given on from this size.
const PIECE: usize = 16 * 1024;
/// After so many bytes without a pause others on this thread have their turn.
const TURN: usize = 512 * 1024;

/// Compresses another body. When that one pauses, what is there is flushed, so that events reach
/// the client in time.
pub(super) struct EncodedBody {
    source: Body,
    coder: Coder,
    trailers: Option<http::HeaderMap>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Reading,
    /// All data is out; trailers may follow.
    Ended,
    Failed,
}

impl EncodedBody {
    pub(super) fn new(source: Body, coder: Coder) -> Self {
        Self { source, coder, trailers: None, state: State::Reading }
    }

    fn fail(
        &mut self,
        error: impl Into<BodyError>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state = State::Failed;
        Poll::Ready(Some(Err(error.into())))
    }

    fn flushed(&mut self) -> io::Result<Bytes> {
        self.coder.flush()?;
        Ok(self.coder.take())
    }
}

impl http_body::Body for EncodedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match this.state {
            State::Failed => return Poll::Ready(None),
            State::Ended => {
                return Poll::Ready(this.trailers.take().map(|all| Ok(Frame::trailers(all))));
            }
            State::Reading => {}
        }
        let mut taken = 0;
        loop {
            if taken > TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match http_body::Body::poll_frame(Pin::new(&mut this.source), cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        taken += data.len();
                        if let Err(error) = this.coder.write(&data) {
                            return this.fail(error);
                        }
                        if this.coder.ready() >= PIECE {
                            return Poll::Ready(Some(Ok(Frame::data(this.coder.take()))));
                        }
                    }
                    Err(frame) => this.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(error))) => return this.fail(error),
                Poll::Ready(None) => {
                    this.state = State::Ended;
                    return match this.coder.finish() {
                        Ok(rest) => Poll::Ready(Some(Ok(Frame::data(rest)))),
                        Err(error) => this.fail(error),
                    };
                }
                Poll::Pending if this.coder.is_pending() => match this.flushed() {
                    Ok(bytes) if bytes.is_empty() => return Poll::Pending,
                    Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Err(error) => return this.fail(error),
                },
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Failed || self.state == State::Ended && self.trailers.is_none()
    }
}
