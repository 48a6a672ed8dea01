//! One connection to an upstream, whatever carries it.

use std::{
    future::Future,
    io::{self, IoSlice},
    os::fd::BorrowedFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep},
};
use tokio_rustls::client::TlsStream;

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Carrier {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Self>>),
}

/// A connection with its optional deadlines for single reads and writes.
#[derive(Debug)]
pub(crate) struct Stream {
    carrier: Carrier,
    limits: Option<Box<Limits>>,
}

#[derive(Debug)]
struct Limits {
    read: Limit,
    write: Limit,
}

#[derive(Debug)]
struct Limit {
    after: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Limit {
    fn new(after: Option<Duration>) -> Self {
        Self { after, timer: None }
    }

    /// Turns a wait that lasts too long into an error; progress resets the timer.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(after) = self.after else { return poll };
        if poll.is_ready() {
            self.timer = None;
            return poll;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + after)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Stream {
    /// Wraps a connection.
    pub(crate) fn new(carrier: Carrier, read: Option<Duration>, write: Option<Duration>) -> Self {
        let limits = (read.is_some() || write.is_some())
            .then(|| Box::new(Limits { read: Limit::new(read), write: Limit::new(write) }));
        Self { carrier, limits }
    }

    /// Stops the clocks: the connection is idle, or a tunnel.
    pub(crate) fn rest(&mut self) {
        if let Some(limits) = &mut self.limits {
            limits.read.timer = None;
            limits.write.timer = None;
        }
    }

    /// Whether [`poll_splice`](Self::poll_splice) may be used: nothing stands between the socket and
    /// the bytes.
    pub(crate) fn is_spliceable(&self) -> bool {
        cfg!(target_os = "linux") && matches!(self.carrier, Carrier::Tcp(_))
    }

    /// Moves up to `most` bytes into an empty pipe; 0 is the end of the stream.
    #[cfg(target_os = "linux")]
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let Carrier::Tcp(stream) = &self.carrier else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let poll = poll_splice(stream, cx, pipe, most);
        match &mut self.limits {
            Some(limits) => limits.read.watch(cx, poll),
            None => poll,
        }
    }

    /// Lifts the deadlines: a tunnel may be silent for long.
    pub(crate) fn unlimited(&mut self) {
        self.limits = None;
    }
}

#[cfg(target_os = "linux")]
fn poll_splice(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    pipe: BorrowedFd<'_>,
    most: usize,
) -> Poll<io::Result<usize>> {
    use rustix::pipe::{SpliceFlags, splice};
    use tokio::io::Interest;

    // The pipe is empty, so that waiting can only be for the socket.
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let step = || Ok(splice(stream, None, pipe, None, most, flags)?);
        match stream.try_io(Interest::READABLE, step) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.carrier).poll_read(cx, buf);
        match &mut self.limits {
            Some(limits) => limits.read.watch(cx, poll),
            None => poll,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.carrier).poll_write(cx, data);
        match &mut self.limits {
            Some(limits) => limits.write.watch(cx, poll),
            None => poll,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.carrier).poll_write_vectored(cx, data);
        match &mut self.limits {
            Some(limits) => limits.write.watch(cx, poll),
            None => poll,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_shutdown(cx)
    }
}
