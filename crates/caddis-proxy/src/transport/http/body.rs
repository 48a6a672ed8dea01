//! The body of a response that is still on its connection; the connection goes back to the pool
//! as soon as the body is complete.

use std::{
    os::fd::BorrowedFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use caddis_core::{BodyError, StreamBody};
use caddis_wire::{BodyDecoder, BodyPart, ChunkError};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio_util::io::poll_read_buf;

use super::{
    pool::{Conn, HostPool},
    upload::Upload,
};

const FIRST_READ: usize = 16 * 1024;
const LARGEST_READ: usize = 256 * 1024;

/// A body read from an HTTP/1 connection, while the request's body may still be going out.
#[derive(Debug)]
pub(crate) struct H1Body {
    /// `None` once the body is complete.
    conn: Option<Conn>,
    upload: Option<Upload>,
    decoder: BodyDecoder,
    pool: Rc<HostPool>,
    keep: bool,
    next: Option<Bytes>,
    trailers: Option<HeaderMap>,
    failed: bool,
    read_size: usize,
}

impl std::fmt::Debug for HostPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostPool").finish_non_exhaustive()
    }
}

impl H1Body {
    /// A body whose first bytes may be in the connection's buffer.
    pub(crate) fn new(
        conn: Conn,
        upload: Option<Upload>,
        decoder: BodyDecoder,
        pool: Rc<HostPool>,
        keep: bool,
    ) -> Self {
        Self {
            conn: Some(conn),
            upload,
            decoder,
            pool,
            keep,
            next: None,
            trailers: None,
            failed: false,
            read_size: FIRST_READ,
        }
    }

    /// The body is complete: the connection is free.
    fn finish(&mut self) {
        if let Some(conn) = self.conn.take()
            && self.keep
            && self.upload.is_none()
            && conn.buf.is_empty()
        {
            self.pool.put(conn, Instant::now());
        }
        self.upload = None;
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.conn = None;
        self.upload = None;
        self.trailers = None;
        self.failed = true;
        Poll::Ready(Some(Err(error)))
    }

    /// Whether the response can go on.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(upload), Some(conn)) = (&mut self.upload, &mut self.conn) else { return true };
        match upload.poll(cx, &mut conn.stream) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.upload = None,
            Poll::Ready(Err(error)) => {
                self.upload = None;
                self.keep = false;
                // Who waits for the rest of the request would do so forever.
                return !error.is_timeout();
            }
        }
        true
    }

    /// Data that was taken out of the buffer; sees whether it was the last.
    fn hand_out(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(conn) = &mut self.conn else {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        };
        if self.decoder.is_done() {
            self.finish();
        } else if !conn.buf.is_empty() {
            match self.decoder.take(&mut conn.buf) {
                Ok(BodyPart::Data(next)) => self.next = Some(next),
                Ok(BodyPart::End(trailers)) => self.end(trailers),
                Ok(BodyPart::NeedMore) => {}
                // The decoder tells again when it is asked next.
                Err(_) => {}
            }
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn end(&mut self, trailers: HeaderMap) {
        self.trailers = (!trailers.is_empty()).then_some(trailers);
        self.finish();
    }
}

fn body_error(error: ChunkError) -> BodyError {
    match error {
        ChunkError::UnexpectedEof => BodyError::Incomplete,
        error => BodyError::Malformed(error.to_string()),
    }
}

impl http_body::Body for H1Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !this.poll_upload(cx) {
            return this.fail(BodyError::Incomplete);
        }
        if let Some(data) = this.next.take() {
            return this.hand_out(data);
        }
        loop {
            if this.failed {
                // Whoever asks again must not take it for the end.
                return Poll::Ready(Some(Err(BodyError::Incomplete)));
            }
            let Some(conn) = &mut this.conn else {
                return Poll::Ready(this.trailers.take().map(|t| Ok(Frame::trailers(t))));
            };
            match this.decoder.take(&mut conn.buf) {
                Ok(BodyPart::Data(data)) => return this.hand_out(data),
                Ok(BodyPart::End(trailers)) => {
                    this.end(trailers);
                    continue;
                }
                Ok(BodyPart::NeedMore) => {}
                Err(error) => return this.fail(body_error(error)),
            }
            let wanted = this.decoder.remaining().unwrap_or(u64::MAX).min(this.read_size as u64);
            conn.buf.reserve(usize::try_from(wanted).unwrap_or(this.read_size).max(512));
            match poll_read_buf(Pin::new(&mut conn.stream), cx, &mut conn.buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return this.fail(error.into()),
                Poll::Ready(Ok(0)) => match this.decoder.end_of_input() {
                    Ok(()) => {
                        this.keep = false;
                        this.finish();
                    }
                    Err(error) => return this.fail(body_error(error)),
                },
                Poll::Ready(Ok(count)) => {
                    if count >= this.read_size {
                        this.read_size = (this.read_size * 2).min(LARGEST_READ);
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.conn.is_none() && self.next.is_none() && self.trailers.is_none() && !self.failed
    }

    fn size_hint(&self) -> SizeHint {
        let next = self.next.as_ref().map_or(0, Bytes::len) as u64;
        match (&self.conn, self.decoder.remaining()) {
            (None, _) if self.failed => SizeHint::default(),
            (None, _) => SizeHint::with_exact(next),
            (Some(_), Some(left)) => SizeHint::with_exact(left.saturating_add(next)),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl StreamBody for H1Body {
    fn spliceable(&self) -> u64 {
        let waits = self.upload.is_none() && self.next.is_none() && !self.failed;
        match &self.conn {
            Some(conn) if waits && conn.buf.is_empty() && conn.stream.is_spliceable() => {
                self.decoder.remaining().unwrap_or(0)
            }
            _ => 0,
        }
    }

    #[cfg(target_os = "linux")]
    fn poll_splice(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        let this = self.get_mut();
        let left = usize::try_from(this.spliceable()).unwrap_or(usize::MAX);
        let moved = match &mut this.conn {
            Some(conn) if left > 0 => conn.stream.poll_splice(cx, pipe, most.min(left)),
            _ => Poll::Ready(Err(std::io::ErrorKind::Unsupported.into())),
        };
        let error = match ready!(moved) {
            Ok(0) => BodyError::Incomplete,
            Ok(count) => {
                this.decoder.skip(count as u64);
                if this.decoder.is_done() {
                    this.finish();
                }
                return Poll::Ready(Ok(count));
            }
            Err(error) => error.into(),
        };
        this.conn = None;
        this.failed = true;
        Poll::Ready(Err(error))
    }
}
