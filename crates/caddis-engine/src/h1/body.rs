//! The body of an HTTP/1 request.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use caddis_core::{BodyError, exchange::Io};
use caddis_wire::BodyPart;
use http_body::{Frame, SizeHint};

use super::conn::{BodyProgress, SharedConn};
use crate::body_limits::BodyLimits;

/// Reads the body from the shared connection.
pub(crate) struct RequestBody<S> {
    conn: SharedConn<S>,
    progress: Rc<BodyProgress>,
    length: Option<u64>,
    limits: BodyLimits,
    /// `100 Continue` on its way out.
    interim: &'static [u8],
}

impl<S: Io> RequestBody<S> {
    pub(crate) fn new(conn: SharedConn<S>, progress: Rc<BodyProgress>, limits: BodyLimits) -> Self {
        progress.held.set(true);
        let length = progress.decoder.borrow().remaining();
        Self { conn, progress, length, limits, interim: b"" }
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.failed.set(true);
        Poll::Ready(Some(Err(error)))
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.progress.expect.take() {
            self.interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        }
        if self.interim.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut conn = self.conn.borrow_mut();
        match conn.poll_write_all(cx, &mut self.interim) {
            Poll::Ready(Ok(())) => conn.poll_flush(cx),
            other => other,
        }
    }
}

impl<S: Io> http_body::Body for RequestBody<S> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.progress.done.get() {
            return Poll::Ready(None);
        }
        if this.progress.failed.get() {
            return Poll::Ready(Some(Err(BodyError::Canceled)));
        }
        match this.poll_interim(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return this.fail(error.into()),
            Poll::Pending => return Poll::Pending,
        }
        loop {
            let part = this.progress.decoder.borrow_mut().take(&mut this.conn.borrow_mut().buffer);
            match part {
                Ok(BodyPart::Data(data)) => {
                    this.limits.came();
                    this.progress.bytes.set(this.progress.bytes.get() + data.len() as u64);
                    if this.progress.decoder.borrow().is_done() {
                        this.progress.done.set(true);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(BodyPart::End(trailers)) => {
                    this.progress.done.set(true);
                    let frame = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)));
                    return Poll::Ready(frame);
                }
                Ok(BodyPart::NeedMore) => {}
                Err(error) => return this.fail(BodyError::Malformed(error.to_string())),
            }
            let filled = this.conn.borrow_mut().poll_fill(cx);
            match filled {
                Poll::Ready(Ok(0)) => return this.fail(BodyError::Incomplete),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return this.fail(BodyError::Io(error)),
                Poll::Pending => {
                    ready!(this.limits.poll_over(cx));
                    return this.fail(BodyError::Timeout);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.progress.done.get()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(_) => {
                SizeHint::with_exact(self.progress.decoder.borrow().remaining().unwrap_or(0))
            }
            None => SizeHint::default(),
        }
    }
}

impl<S> Drop for RequestBody<S> {
    fn drop(&mut self) {
        self.progress.held.set(false);
    }
}
