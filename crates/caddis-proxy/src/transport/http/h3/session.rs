//! One connection to an upstream, and its streams that belong to no request (RFC 9114 §6.2).

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use caddis_wire::http3::{self, Http3Error, PeerStream, PeerStreams, Rest, code};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt};
use tokio::{sync::Notify, time::Sleep};

use super::socket::Socket;
use crate::transport::http::slot::{Multiplexed, maybe};

/// How long after its machine said so an upstream that stays silent is taken to be gone. The word
/// of the machine alone may be false.
const DOUBT: Duration = Duration::from_secs(1);

/// An open connection; it closes when nothing refers to it.
pub(crate) struct Session {
    pub(super) quic: quinn::Connection,
    /// Must stay open as long as the connection.
    _control: SendStream,
    goaway: Cell<Option<u64>>,
    /// Told when `goaway` changes.
    told: Notify,
    /// Why it is not to be used any more, where this side found out.
    lost: RefCell<Option<String>>,
    active: Cell<usize>,
    since: Cell<Instant>,
}

/// Two halves of a new request stream, and the connection that is kept open for it.
pub(crate) struct Opened {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) active: Active,
}

/// Counts a request on its connection for as long as it lives.
pub(super) struct Active(Rc<Session>);

impl Active {
    pub(super) fn session(&self) -> &Rc<Session> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.quic.close(error_code(code::NO_ERROR), b"");
    }
}

impl Session {
    /// Begins HTTP/3 on a connection.
    pub(super) async fn begin(
        quic: quinn::Connection,
        socket: Arc<Socket>,
        max_section: usize,
    ) -> Result<Rc<Self>, ConnectionError> {
        let mut control = quic.open_uni().await?;
        let mut out = Vec::new();
        http3::write_client_settings(&mut out, max_section as u64);
        if control.write_all(&out).await.is_err() {
            return Err(quic.close_reason().unwrap_or(ConnectionError::LocallyClosed));
        }
        let session = Rc::new(Self {
            quic,
            _control: control,
            goaway: Cell::new(None),
            told: Notify::new(),
            lost: RefCell::default(),
            active: Cell::new(0),
            since: Cell::new(Instant::now()),
        });
        let watched = Rc::downgrade(&session);
        tokio::task::spawn_local(watch(session.quic.clone(), watched, socket));
        Ok(session)
    }

    /// A stream for a request, waiting until one is free.
    pub(crate) async fn open(self: &Rc<Self>) -> Result<Opened, ConnectionError> {
        Ok(self.opened(self.quic.open_bi().await?))
    }

    fn opened(self: &Rc<Self>, (send, recv): (SendStream, RecvStream)) -> Opened {
        self.active.set(self.active.get() + 1);
        Opened { send, recv, active: Active(self.clone()) }
    }

    /// Ready when the upstream said that it does not answer this request.
    pub(super) async fn turned_away(&self, id: u64) {
        loop {
            let told = self.told.notified();
            if self.goaway.get().is_some_and(|first| first <= id) {
                return;
            }
            told.await;
        }
    }

    /// No further request goes here; those that wait learn it with the connection's end.
    pub(super) fn give_up(&self, why: &str) {
        self.lost.borrow_mut().get_or_insert_with(|| why.to_owned());
        self.quic.close(error_code(code::NO_ERROR), b"");
    }

    /// Closes the connection because of what the upstream did.
    pub(super) fn fail(&self, code: u64, reason: &str) {
        self.lost
            .borrow_mut()
            .get_or_insert_with(|| Http3Error::Connection(code, "").to_string() + reason);
        self.quic.close(error_code(code), reason.as_bytes());
    }

    /// Why the connection ended.
    pub(crate) fn why(&self, error: &ConnectionError) -> String {
        match &*self.lost.borrow() {
            Some(lost) if matches!(error, ConnectionError::LocallyClosed) => lost.clone(),
            _ => text(error),
        }
    }

    /// Datagrams received so far.
    pub(super) fn received(&self) -> u64 {
        self.quic.stats().udp_rx.datagrams
    }
}

impl Multiplexed for Session {
    type Opened = Opened;

    fn is_usable(&self) -> bool {
        self.goaway.get().is_none()
            && self.lost.borrow().is_none()
            && self.quic.close_reason().is_none()
    }

    fn activity(&self) -> (usize, Instant) {
        (self.active.get(), self.since.get())
    }

    fn try_open(self: &Rc<Self>) -> Option<Opened> {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(self.quic.open_bi()).poll(&mut cx) {
            Poll::Ready(Ok(halves)) => Some(self.opened(halves)),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }
}

/// The end of a connection, in words.
pub(super) fn text(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "timeout: no recent network activity".to_owned(),
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            let code = close.error_code.into_inner();
            format!("upstream closed the connection (HTTP/3 error {code:#x}) {reason}")
                .trim_end()
                .to_owned()
        }
        error => error.to_string(),
    }
}

pub(super) fn error_code(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// Reads what comes outside of requests, until the connection ends.
async fn watch(quic: quinn::Connection, session: Weak<Session>, socket: Arc<Socket>) {
    let streams = Rc::new(RefCell::new(PeerStreams::of_server()));
    let received = || quic.stats().udp_rx.datagrams;
    let mut doubt: Option<(u64, Pin<Box<Sleep>>)> = None;
    loop {
        let timer = doubt.as_mut().map(|(_, timer)| timer);
        tokio::select! {
            stream = quic.accept_uni() => {
                let Ok(recv) = stream else { return };
                let (session, streams) = (session.clone(), streams.clone());
                tokio::task::spawn_local(async move {
                    if let Err(Http3Error::Connection(code, reason)) =
                        read_stream(recv, &session, &streams).await
                        && let Some(session) = session.upgrade()
                    {
                        session.fail(code, reason);
                    }
                });
            }
            () = socket.refused(), if timer.is_none() => {
                doubt = Some((received(), Box::pin(tokio::time::sleep(DOUBT))));
            }
            () = maybe(timer) => {
                if let Some((before, _)) = doubt.take()
                    && before == received()
                    && let Some(session) = session.upgrade()
                {
                    session.give_up("connection refused");
                }
            }
        }
    }
}

/// Reads a stream that the upstream opened, and says what was wrong with it.
async fn read_stream(
    mut recv: RecvStream,
    session: &Weak<Session>,
    streams: &RefCell<PeerStreams>,
) -> Result<(), Http3Error> {
    let mut stream = PeerStream::default();
    loop {
        let data = match recv.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) | Err(ReadError::Reset(_)) => return stream.end(),
            Err(_) => return Ok(()),
        };
        if stream.read(&mut streams.borrow_mut(), data)? == Rest::Unwanted {
            // Ended already, or gone with its connection.
            let _ = recv.stop(error_code(code::STREAM_CREATION_ERROR));
            return Ok(());
        }
        if let Some(first) = stream.goaway() {
            let Some(session) = session.upgrade() else { return Ok(()) };
            session.goaway.set(Some(first));
            session.told.notify_waiters();
        }
    }
}
