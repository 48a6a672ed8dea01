//! The byte stream of one HTTP/1 connection, shared by the loop that serves it and the body that
//! a handler reads.
//!
//! While a connection is idle it holds no buffer: bytes are read into the thread's scratch space,
//! and only what is left over is kept.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use caddis_core::exchange::Io;
use caddis_wire::{BodyDecoder, HeadError, Limits, Parsed, RequestHead};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::service::BytesRead;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into());
}

const SCRATCH_SIZE: usize = 32 * 1024;

/// A connection's stream and the bytes read ahead.
pub(crate) struct Conn<S> {
    pub(crate) io: S,
    pub(crate) buffer: BytesMut,
    pub(crate) eof: bool,
}

/// The connection as its loop and the request body share it.
pub(crate) type SharedConn<S> = Rc<RefCell<Conn<S>>>;

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    pub(crate) fn new(io: S, buffer: BytesMut) -> SharedConn<S> {
        Rc::new(RefCell::new(Self { io, buffer, eof: false }))
    }

    /// Reads once, into scratch, and gives the bytes to `take`, which says how many it used; the
    /// rest is kept. Ready(Ok(0)) is the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => {
                    self.eof = true;
                    Poll::Ready(Err(error))
                }
                Poll::Ready(Ok(())) => {
                    let filled = read.filled();
                    self.eof = filled.is_empty();
                    self.buffer.extend_from_slice(filled);
                    Poll::Ready(Ok(filled.len()))
                }
            }
        })
    }

    /// Reads a head: from the bytes read ahead, else straight from scratch, so that a request that
    /// comes in one piece is copied once.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<io::Result<Result<Parsed<RequestHead>, HeadError>>> {
        if self.eof {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(result) => {
                    self.eof = true;
                    let ended = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Err(result.err().unwrap_or(ended)));
                }
            }
            let filled = read.filled();
            if !self.buffer.is_empty() {
                self.buffer.extend_from_slice(filled);
                return Poll::Ready(Ok(self.take_head(limits)));
            }
            let parsed = caddis_wire::parse_request(filled, limits);
            match &parsed {
                Ok(Parsed::Complete(_, used)) => self.buffer.extend_from_slice(&filled[*used..]),
                Ok(Parsed::Partial) => self.buffer.extend_from_slice(filled),
                Err(_) => {}
            }
            Poll::Ready(Ok(parsed))
        })
    }

    /// A head out of the bytes read ahead.
    pub(crate) fn take_head(&mut self, limits: &Limits) -> Result<Parsed<RequestHead>, HeadError> {
        if self.buffer.is_empty() {
            return Ok(Parsed::Partial);
        }
        let parsed = caddis_wire::parse_request(&self.buffer, limits)?;
        if let Parsed::Complete(_, used) = &parsed {
            self.buffer.advance(*used);
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
        }
        Ok(parsed)
    }

    /// Writes all of `data`; the caller advances it by polling again.
    pub(crate) fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        while data.has_remaining() {
            match Pin::new(&mut self.io).poll_write(cx, data.chunk()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => data.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

/// Reads until the buffer grew or the stream ended.
pub(crate) async fn fill<S: AsyncRead + AsyncWrite + Unpin>(
    conn: &SharedConn<S>,
) -> io::Result<usize> {
    std::future::poll_fn(|cx| conn.borrow_mut().poll_fill(cx)).await
}

/// Writes all of it and flushes.
pub(crate) async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(
    conn: &SharedConn<S>,
    mut data: &[u8],
) -> io::Result<()> {
    std::future::poll_fn(|cx| conn.borrow_mut().poll_write_all(cx, &mut data)).await?;
    std::future::poll_fn(|cx| conn.borrow_mut().poll_flush(cx)).await
}

/// Counts shared between a body and the connection loop.
pub(crate) struct BodyProgress {
    /// Where the body is; shared, so that the loop can drain what nobody read.
    pub(crate) decoder: RefCell<BodyDecoder>,
    /// The body was read to its end.
    pub(crate) done: Cell<bool>,
    /// It failed; nothing more can be read on the connection.
    pub(crate) failed: Cell<bool>,
    /// A handler holds the body.
    pub(crate) held: Cell<bool>,
    /// The client waits for `100 Continue`.
    pub(crate) expect: Cell<bool>,
    /// Bytes handed out.
    pub(crate) bytes: Cell<u64>,
}

impl BodyProgress {
    pub(crate) fn new(decoder: BodyDecoder, expect: bool) -> Self {
        Self {
            done: Cell::new(decoder.is_done()),
            decoder: RefCell::new(decoder),
            failed: Cell::new(false),
            held: Cell::new(false),
            expect: Cell::new(expect),
            bytes: Cell::new(0),
        }
    }
}

impl BytesRead for BodyProgress {
    fn bytes_read(&self) -> u64 {
        self.bytes.get()
    }
}

/// A stream that gives buffered bytes first.
pub(crate) struct Rewind<S> {
    pub(crate) before: BytesMut,
    pub(crate) io: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, out);
        }
        let len = self.before.len().min(out.remaining());
        out.put_slice(&self.before.split_to(len));
        if self.before.is_empty() {
            self.before = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Takes the connection out of its sharing, for a tunnel. `None` where a body still holds it.
pub(crate) fn into_io<S: Io + 'static>(conn: SharedConn<S>) -> Option<Box<dyn Io>> {
    let conn = Rc::try_unwrap(conn).ok()?.into_inner();
    Some(Box::new(Rewind { before: conn.buffer, io: conn.io }))
}
