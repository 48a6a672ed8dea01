//! Long bodies from socket to socket through a pipe: the kernel moves pages, and no byte of them is
//! copied into the process (splice(2)).

use std::{
    any::Any,
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
    time::Duration,
};

use caddis_core::{Body, BodyError, exchange::Io};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

use super::{conn::SharedConn, respond::watch_client, within};

/// Fewer bytes are copied: a body has to make up for the system calls of the pipe.
pub(super) const SHORTEST: u64 = 64 * 1024;
/// What a pipe is asked to hold; more does not fit into usual socket buffers at once.
const PIPE_SIZE: usize = 256 * 1024;
/// What a pipe holds by itself.
const PLAIN_PIPE_SIZE: usize = 64 * 1024;
/// Pipes that a thread keeps.
const KEPT: usize = 32;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe; empty whenever nobody uses it.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipe {
    /// One of this thread, or a new one. `None` where there can be none: out of descriptors.
    fn take() -> Option<Self> {
        if let Some(pipe) = PIPES.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let size = fcntl_setpipe_size(&write, PIPE_SIZE).unwrap_or(PLAIN_PIPE_SIZE);
        Some(Self { read, write, size })
    }

    /// Gives an empty pipe back.
    fn give(self) {
        PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < KEPT {
                pipes.push(self);
            }
        });
    }

    /// Moves up to `left` bytes on to the client.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
        left: &mut usize,
    ) -> Poll<io::Result<()>> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        while *left > 0 {
            ready!(socket.poll_write_ready(cx))?;
            let step = || Ok(splice(&self.read, None, socket, None, *left, flags)?);
            match socket.try_io(Interest::WRITABLE, step) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => *left -= count.min(*left),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How far it went.
pub(super) enum Spliced {
    /// As far as it could; the body goes on, or is over.
    On,
    /// The client is gone or too slow.
    Gone,
    /// The body broke off.
    Broke(BodyError),
}

/// Whether the bytes go out as they are: nothing but a socket is below.
fn socket<S: Io + 'static>(io: &S) -> Option<&TcpStream> {
    (io as &dyn Any).downcast_ref()
}

/// Moves what can be moved of a body of which `left` bytes are missing. Nothing may wait to be
/// written before it.
pub(super) async fn splice_body<S: Io + 'static>(
    conn: &SharedConn<S>,
    body: &mut Body,
    left: &mut u64,
    (write_idle, watch): (Option<Duration>, bool),
) -> Spliced {
    if socket(&conn.borrow().io).is_none() {
        return Spliced::On;
    }
    let Some(pipe) = Pipe::take() else { return Spliced::On };
    while body.spliceable() > 0 && *left > 0 {
        let most = usize::try_from(*left).map_or(pipe.size, |left| left.min(pipe.size));
        let moved = std::future::poll_fn(|cx| {
            if let Poll::Ready(moved) = body.poll_splice(cx, pipe.write.as_fd(), most) {
                return Poll::Ready(Some(moved));
            }
            watch_client(conn, watch, cx).map(|()| None)
        });
        let mut moved = match moved.await {
            None => return Spliced::Gone,
            Some(Ok(moved)) => moved,
            // The pipe is empty, but what became of it is not worth knowing.
            Some(Err(error)) => return Spliced::Broke(error),
        };
        *left = left.saturating_sub(moved as u64);
        let sending = std::future::poll_fn(|cx| {
            let conn = conn.borrow();
            match socket(&conn.io) {
                Some(socket) => pipe.poll_send(cx, socket, &mut moved),
                None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            }
        });
        match within(write_idle, sending).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return Spliced::Gone,
        }
    }
    pipe.give();
    Spliced::On
}
