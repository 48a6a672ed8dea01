//! The connections of a pool that carry several requests at once (HTTP/2, HTTP/3).
//!
//! Requests that come while a connection is being made wait for that one, and fail with it. When
//! the upstream allows no more requests at once, another connection is opened beside the first.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::sync::MutexGuard;

use crate::transport::Failure;

/// Connections of one worker to one upstream; beyond, requests wait for a free place on one.
const MAX_SESSIONS: usize = 16;

/// A connection.
pub(crate) trait Multiplexed {
    /// A place for one request.
    type Opened;

    /// Whether it takes further requests.
    fn is_usable(&self) -> bool;

    /// How many requests are on it, and since when.
    fn activity(&self) -> (usize, Instant);

    /// A place if the upstream allows one more request at once.
    fn try_open(self: &Rc<Self>) -> Option<Self::Opened>;
}

/// The connections of a pool.
pub(crate) struct Slot<S> {
    sessions: RefCell<Vec<Rc<S>>>,
    /// One connection is made at a time.
    dialing: tokio::sync::Mutex<()>,
    attempts: Cell<u64>,
    /// Why the last attempt failed, if it did.
    failed: RefCell<Option<Failed>>,
}

/// A failure that those who waited have, too.
#[derive(Clone)]
enum Failed {
    Dial(String),
    Timeout(String),
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Dial(why) => Self::Dial(why),
            Failed::Timeout(why) => Self::Timeout(why),
        }
    }
}

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self {
            sessions: RefCell::default(),
            dialing: tokio::sync::Mutex::default(),
            attempts: Cell::default(),
            failed: RefCell::default(),
        }
    }
}

/// What a request is to do.
pub(crate) enum Turn<'a, O> {
    /// Go on a connection that is there.
    Go(O),
    /// Make a connection; others wait where it is to be kept.
    Dial(Option<MutexGuard<'a, ()>>),
}

impl<S: Multiplexed> Slot<S> {
    /// A place on a connection that is open.
    fn open_now(&self) -> Option<S::Opened> {
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|session| session.is_usable());
        sessions.iter().find_map(Multiplexed::try_open)
    }

    /// A place, or the right to make a connection; the latter always where `fresh` is wanted.
    pub(crate) async fn turn(&self, fresh: bool) -> Result<Turn<'_, S::Opened>, Failure> {
        if !fresh && let Some(opened) = self.open_now() {
            return Ok(Turn::Go(opened));
        }
        let seen = self.attempts.get();
        let turn = self.dialing.lock().await;
        if self.attempts.get() != seen {
            if let Some(failed) = &*self.failed.borrow() {
                return Err(failed.clone().into());
            }
            // Made after this request was there, so as fresh as any.
            if let Some(opened) = self.open_now() {
                return Ok(Turn::Go(opened));
            }
        }
        Ok(Turn::Dial(Some(turn)))
    }

    /// Notes the end of an attempt, for those who waited.
    pub(crate) fn attempted(&self, failure: Option<&Failure>) {
        self.attempts.set(self.attempts.get() + 1);
        *self.failed.borrow_mut() = match failure {
            Some(Failure::Dial(why)) => Some(Failed::Dial(why.clone())),
            Some(Failure::Timeout(why)) => Some(Failed::Timeout(why.clone())),
            _ => None,
        };
    }

    /// Keeps a connection for further requests.
    pub(crate) fn push(&self, session: Rc<S>) {
        self.sessions.borrow_mut().push(session);
    }

    /// The connections, where there are so many that no further one is to be made.
    pub(crate) fn full(&self) -> Option<Vec<Rc<S>>> {
        let sessions = self.sessions.borrow();
        (sessions.len() >= MAX_SESSIONS).then(|| sessions.clone())
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

/// Waits for what may not be there.
pub(crate) async fn maybe<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// An upload that goes on beside the answer, and ends with it.
pub(crate) struct Uploading(tokio::task::AbortHandle);

impl Uploading {
    pub(crate) fn spawn(upload: impl Future + 'static) -> Self {
        let task = tokio::task::spawn_local(async move {
            // The upstream learns of a failure by the stream's reset.
            upload.await;
        });
        Self(task.abort_handle())
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.abort();
    }
}
