//! HTTP/3 to upstreams (RFC 9114): the project's own, over `caddis_wire::http3` and quinn's streams.
//!
//! - A connection belongs to one worker and one pool, and carries many requests. When the upstream
//!   allows no more of them at once, another connection is opened beside it.
//! - Requests that come while a connection is being made wait for that one, and fail with it.
//! - An upstream that says GOAWAY keeps what it has; what it did not take goes to a new connection.
//! - It has a socket of its own (`socket`), so that an upstream that is not there is known at once.
//! - Nothing is sent early (0-RTT), since a request must not be done twice.
//! - Upgrades are sent as the requests that they are without the upgrade, as in Caddy.

mod dial;
mod exchange;
mod receive;
mod session;
mod socket;
mod upload;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use caddis_core::LocalBoxFuture;
use quinn::ConnectionError;

use super::h1::{Answer, Broken};
use crate::transport::{Failure, http::upload::RequestBody};

pub(crate) use dial::Dialing;
pub(crate) use exchange::Ask;
use session::{Opened, Session};

/// Connections of one worker to one upstream; beyond, requests wait.
const MAX_SESSIONS: usize = 16;

/// The connections of a pool.
#[derive(Default)]
pub(crate) struct Slot {
    sessions: RefCell<Vec<Rc<Session>>>,
    /// One connection is made at a time.
    dialing: tokio::sync::Mutex<()>,
    attempts: Cell<u64>,
    /// Why the last attempt failed, if it did.
    failed: RefCell<Option<String>>,
}

/// A stream for a request.
pub(crate) struct Ready {
    opened: Opened,
    /// Whether the connection is new.
    pub(crate) fresh: bool,
}

impl Slot {
    /// A stream on a connection that is open.
    fn open_now(&self) -> Option<Ready> {
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|session| session.is_usable());
        let opened = sessions.iter().find_map(|session| session.try_open())?;
        Some(Ready { opened, fresh: false })
    }

    /// A stream, on a new connection where there is no other way or `fresh` is wanted.
    pub(crate) async fn ready(
        &self,
        fresh: bool,
        keep: bool,
        dialing: &Dialing<'_>,
    ) -> Result<Ready, Failure> {
        if !fresh && let Some(ready) = self.open_now() {
            return Ok(ready);
        }
        if !keep {
            return first(&dialing.open().await?, dialing).await;
        }
        let seen = self.attempts.get();
        let _turn = self.dialing.lock().await;
        if self.attempts.get() != seen {
            if let Some(failed) = &*self.failed.borrow() {
                return Err(Failure::Dial(failed.clone()));
            }
            // Made after this request was there, so as fresh as any.
            if let Some(ready) = self.open_now() {
                return Ok(Ready { fresh, ..ready });
            }
        }
        if self.sessions.borrow().len() >= MAX_SESSIONS {
            let all: Vec<_> = self.sessions.borrow().iter().cloned().map(open).collect();
            if let Ok((opened, _)) = futures_util::future::select_ok(all).await {
                return Ok(Ready { opened, fresh: false });
            }
        }
        let made = dialing.open().await;
        self.attempts.set(self.attempts.get() + 1);
        *self.failed.borrow_mut() = match &made {
            Err(Failure::Dial(why)) => Some(why.clone()),
            _ => None,
        };
        let session = made?;
        self.sessions.borrow_mut().push(session.clone());
        first(&session, dialing).await
    }

    /// Closes what was idle for too long or ended.
    pub(crate) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.sessions.borrow_mut().retain(|session| {
            let (active, since) = session.activity();
            session.is_usable() && (active > 0 || now.duration_since(since) < idle_timeout)
        });
    }

    /// Whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
    }
}

/// A stream as soon as the connection has one more.
fn open(session: Rc<Session>) -> LocalBoxFuture<'static, Result<Opened, ConnectionError>> {
    Box::pin(async move { session.open().await })
}

/// The first stream of a connection.
async fn first(session: &Rc<Session>, dialing: &Dialing<'_>) -> Result<Ready, Failure> {
    let limit = dialing.settings.timeout;
    let opened = match tokio::time::timeout(limit, session.open()).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(Failure::Dial(format!("http3: {}", session.why(&error)))),
        Err(_) => return Err(Failure::Dial("http3: upstream allows no requests".to_owned())),
    };
    Ok(Ready { opened, fresh: true })
}

/// Sends a request and waits for the answer's head.
pub(crate) async fn exchange(
    ready: Ready,
    ask: Ask<'_>,
    body: &mut RequestBody,
) -> Result<Answer, Broken> {
    exchange::exchange(ready.opened, ask, body).await
}
