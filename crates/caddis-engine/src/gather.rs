//! Gathers what HTTP/2 writes in one go, frame by frame, into few writes: each one costs a system
//! call and, over TLS, a record.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use caddis_core::exchange::Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::h1;

/// Bytes that are gathered before they are written without being told.
const FULL: usize = 32 * 1024;

/// A stream whose writes wait for [`Gathered::poll_send`]; a flush is not taken as one, since the
/// codec flushes after each frame.
pub(crate) struct Gathered<S>(Rc<RefCell<State<S>>>);

struct State<S> {
    io: S,
    out: Vec<u8>,
    /// How much of `out` was written.
    sent: usize,
    /// Something had to wait since this was asked for last.
    held: bool,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Io> Gathered<S> {
    pub(crate) fn new(io: S) -> Self {
        Self(Rc::new(RefCell::new(State { io, out: Vec::new(), sent: 0, held: false })))
    }

    /// Writes what was gathered. To be called after whoever writes was polled.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        let sent = state.poll_send(cx);
        state.held |= sent.is_pending();
        sent
    }

    /// Changes what was gathered and not yet written.
    pub(crate) fn amend(&self, change: impl FnOnce(&mut [u8])) {
        let mut state = self.0.borrow_mut();
        let sent = state.sent;
        change(state.out.get_mut(sent..).unwrap_or_default());
    }

    /// Whether the other side did not take all that was written since this was asked for last.
    pub(crate) fn was_held(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().held)
    }
}

impl<S: Io> State<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest @ [_, ..]) = self.out.get(self.sent..) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        // An idle connection holds no buffer.
        h1::give_buffer(std::mem::take(&mut self.out));
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room. `Pending` where the other side does not take what there is.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() >= FULL {
            let sent = self.poll_send(cx);
            self.held |= sent.is_pending();
            ready!(sent)?;
        }
        if self.out.capacity() == 0 {
            self.out = h1::take_buffer();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, out)
    }
}

impl<S: Io> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_room(cx))?;
        let before = state.out.len();
        for slice in data {
            state.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(state.out.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn send(gathered: &Gathered<tokio::io::DuplexStream>) -> Poll<io::Result<()>> {
        gathered.poll_send(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn writes_wait_until_they_are_sent() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut gathered = Gathered::new(near);
        gathered.write_all(b"one ").await.expect("gathered");
        gathered.flush().await.expect("nothing done");
        gathered.write_all(b"two").await.expect("gathered");
        assert!(send(&gathered).is_ready());
        let mut read = [0; 7];
        far.read_exact(&mut read).await.expect("sent");
        assert_eq!(&read, b"one two");
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_up() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut gathered = Gathered::new(near);
        let written = async {
            gathered.write_all(&[7; 4 * FULL]).await.expect("taken");
            gathered.shutdown().await.expect("sent");
        };
        let mut read = Vec::new();
        let (_, count) = tokio::join!(written, far.read_to_end(&mut read));
        assert_eq!((count.expect("read"), read), (4 * FULL, vec![7; 4 * FULL]));
    }
}
