//! How long a connection of the admin API may take its time (spec A002): for a head, and between
//! requests. The time for a body is that of the reader of bodies.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// The limits.
pub(super) struct Limits {
    /// From the first byte of a head to its last one, and for the first byte of the first.
    head: Duration,
    /// Between an answer and the next request.
    idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Duration::from_secs(5), idle: Duration::from_secs(60) }
    }
}

/// What a connection is waiting for, told by those who answer.
#[derive(Default)]
pub(super) struct Clock(Cell<Phase>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// The rest of a head.
    #[default]
    Head,
    /// Nothing of the client's, but for a body.
    Answering,
    /// Another request.
    Idle,
}

impl Clock {
    /// A head is complete.
    pub(super) fn answering(&self) {
        self.0.set(Phase::Answering);
    }

    /// The answer is made.
    pub(super) fn idle(&self) {
        self.0.set(Phase::Idle);
    }
}

/// A stream whose reads fail when the client takes too long.
pub(super) struct Timed<S> {
    stream: S,
    clock: Rc<Clock>,
    limits: Limits,
    /// The phase that the alarm is set for.
    set: Phase,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, clock: Rc<Clock>, limits: Limits) -> Self {
        let alarm = Box::pin(tokio::time::sleep(limits.head));
        Self { stream, clock, limits, set: Phase::Head, alarm }
    }

    /// Sets the alarm anew where the phase is another one.
    fn follow(&mut self) {
        let phase = self.clock.0.get();
        if phase == self.set {
            return;
        }
        self.set = phase;
        match phase {
            Phase::Head => self.alarm.as_mut().reset(Instant::now() + self.limits.head),
            Phase::Idle => self.alarm.as_mut().reset(Instant::now() + self.limits.idle),
            Phase::Answering => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.follow();
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            if this.set == Phase::Idle && buffer.filled().len() > before {
                this.clock.0.set(Phase::Head);
                this.follow();
            }
            return Poll::Ready(result);
        }
        if this.set == Phase::Answering {
            return Poll::Pending;
        }
        ready!(this.alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A time that passes in a test, and one that does not.
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(600);

    fn timed(
        limits: Limits,
    ) -> (tokio::io::DuplexStream, Rc<Clock>, Timed<tokio::io::DuplexStream>) {
        let (client, server) = tokio::io::duplex(64);
        let clock = Rc::new(Clock::default());
        let timed = Timed::new(server, clock.clone(), limits);
        (client, clock, timed)
    }

    #[tokio::test]
    async fn heads_are_due_sooner_than_requests() {
        let (mut client, clock, mut timed) = timed(Limits { head: SHORT, idle: LONG });
        let mut byte = [0];
        clock.idle();
        let write = async {
            tokio::time::sleep(SHORT * 5).await;
            client.write_all(b"G").await.unwrap();
        };
        let (read, ()) = tokio::join!(timed.read_exact(&mut byte), write);
        assert!(read.is_ok(), "more time may pass between requests than within a head");
        let error = timed.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn waiting_ends() {
        let (_client, clock, mut timed) = timed(Limits { head: LONG, idle: SHORT });
        let mut byte = [0];
        clock.idle();
        let error = timed.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Who waits for an answer is not late, however long that takes.
        clock.answering();
        let wait = tokio::time::timeout(SHORT * 5, timed.read_exact(&mut byte));
        assert!(wait.await.is_err());
    }
}
