//! What the fronts whose requests are streams of one connection share.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use caddis_core::{Body, BodyError};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response::Parts};
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use crate::service::BytesRead;

/// How long an idle client may take to answer that the connection ends.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// How long a request that most likely has no body may take to say so, as in Go; upstreams need not
/// take one then.
pub(crate) const END_WAIT: Duration = Duration::from_millis(200);

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

/// Takes off `Expect: 100-continue`, which is this server's to fulfil. Whether it was there.
pub(crate) fn take_expectation(headers: &mut HeaderMap) -> bool {
    let value = headers.get(header::EXPECT);
    let expects = value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if expects {
        headers.remove(header::EXPECT);
    }
    expects
}

/// Whether requests of this method usually have no body, as in Go.
pub(crate) fn usually_lacks_body(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE | Method::TRACE)
        || matches!(method.as_str(), "PROPFIND" | "SEARCH")
}

/// A request body that the client sends when it is asked to (RFC 9110 §10.1.1).
pub(crate) struct AskedFor {
    body: Body,
    ask: Option<Rc<dyn Fn(StatusCode, HeaderMap)>>,
}

impl AskedFor {
    pub(crate) fn new(body: Body, ask: Rc<dyn Fn(StatusCode, HeaderMap)>) -> Self {
        Self { body, ask: Some(ask) }
    }
}

impl http_body::Body for AskedFor {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // Whoever sends without being asked is not asked.
        if let Some(ask) = self.ask.take()
            && frame.is_pending()
        {
            ask(StatusCode::CONTINUE, HeaderMap::new());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes of a body received so far.
#[derive(Default)]
pub(crate) struct Received(pub(crate) Rc<Cell<u64>>);

impl BytesRead for Received {
    fn bytes_read(&self) -> u64 {
        self.0.get()
    }
}
