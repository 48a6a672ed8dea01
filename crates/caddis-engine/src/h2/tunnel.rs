//! The raw stream of an extended CONNECT (RFC 8441): bytes in DATA frames, both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::PollSemaphore;

use super::quota::{Quota, of_turn};

/// Most bytes of one write.
const MAX_WRITE: usize = 64 * 1024;

/// A duplex stream over a request stream.
pub(super) struct Tunnelled {
    recv: RecvStream,
    read: Bytes,
    ended: bool,
    send: SendStream<Bytes>,
    quota: Quota,
    turns: PollSemaphore,
}

impl Tunnelled {
    pub(super) fn new(recv: RecvStream, send: SendStream<Bytes>, quota: Quota) -> Self {
        let turns = quota.poller();
        Self { recv, read: Bytes::new(), ended: false, send, quota, turns }
    }
}

impl AsyncRead for Tunnelled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() && !self.ended {
            match ready!(self.recv.poll_data(cx)).transpose().map_err(io::Error::other)? {
                Some(data) => self.read = data,
                None => self.ended = true,
            }
        }
        if self.read.is_empty() {
            // Ended well, or reset since.
            return match self.send.poll_reset(cx) {
                Poll::Ready(reason) => {
                    let reason = reason.unwrap_or(Reason::CANCEL);
                    Poll::Ready(Err(io::Error::other(h2::Error::from(reason))))
                }
                Poll::Pending => Poll::Ready(Ok(())),
            };
        }
        let length = self.read.len().min(out.remaining());
        out.put_slice(&self.read[..length]);
        self.read.advance(length);
        let _ = self.recv.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnelled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = data.len().min(MAX_WRITE);
        self.send.reserve_capacity(wanted);
        let mut room = self.send.capacity();
        while room == 0 {
            room = match ready!(self.send.poll_capacity(cx)) {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let turn = ready!(self.turns.poll_acquire_many(cx, of_turn(room.min(wanted))));
        let turn = turn.ok_or(io::ErrorKind::BrokenPipe)?;
        let piece = Bytes::copy_from_slice(&data[..turn.num_permits().min(data.len())]);
        let length = piece.len();
        self.send.send_data(piece, false).map_err(io::Error::other)?;
        self.quota.use_up(turn);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Ended or reset already: nothing more to say.
        let _ = self.send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
