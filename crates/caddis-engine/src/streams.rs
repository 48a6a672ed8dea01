//! What the fronts whose requests are streams of one connection share.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use caddis_core::Body;
use http::{HeaderValue, StatusCode, header, response::Parts};
use tokio::sync::Notify;

use crate::service::BytesRead;

/// How long an idle client may take to answer that the connection ends.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// How many requests are open, and since when none is.
pub(crate) struct Activity {
    open: Cell<usize>,
    since: Cell<Instant>,
    quiet: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self { open: Cell::new(0), since: Cell::new(Instant::now()), quiet: Notify::new() }
    }
}

impl Activity {
    pub(crate) fn enter(self: &Rc<Self>) -> ActivityGuard {
        self.open.set(self.open.get() + 1);
        ActivityGuard(self.clone())
    }

    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Ready when no request is open; wakes one waiter.
    pub(crate) async fn quiet(&self) {
        while self.open.get() > 0 {
            self.quiet.notified().await;
        }
    }

    pub(crate) fn idle_for(&self, idle: Duration) -> bool {
        self.open.get() == 0 && self.since.get().elapsed() >= idle / 2
    }
}

pub(crate) struct ActivityGuard(Rc<Activity>);

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.since.set(Instant::now());
        if self.0.open.get() == 0 {
            self.0.quiet.notify_one();
        }
    }
}

/// Sets `Content-Length` to the body's length. What is there stays only for answers without a
/// body, which may tell the length of one; else a wrong one would break the stream.
pub(crate) fn tell_length(parts: &mut Parts, body: &Body, head_method: bool) {
    let bodiless = parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match body.exact_len() {
        _ if bodiless => {}
        Some(0) if head_method => {}
        Some(length) => {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None if head_method => {}
        None => drop(parts.headers.remove(header::CONTENT_LENGTH)),
    }
}

/// Bytes of a body received so far.
pub(crate) struct Received(pub(crate) Rc<Cell<u64>>);

impl BytesRead for Received {
    fn bytes_read(&self) -> u64 {
        self.0.get()
    }
}
