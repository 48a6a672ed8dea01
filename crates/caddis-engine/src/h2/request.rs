//! A request: its head as handlers see it, and its body off the stream.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use bytestring::ByteString;
use caddis_core::{Body, BodyError, Request, Target};
use caddis_plan::HeaderNameRule;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Method, Version, header, uri::Scheme};
use http_body::{Frame, SizeHint};

use super::screen;
use crate::body_limits::BodyLimits;

/// What fields want something done, seen in one pass.
#[derive(Default)]
struct Seen {
    host: bool,
    cookies: usize,
    odd: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, _) in headers {
            seen.host |= name == header::HOST;
            seen.cookies += usize::from(name == header::COOKIE);
            seen.odd |= name.as_str().bytes().any(|byte| byte == b'_' || byte == b'.');
        }
        seen
    }
}

/// The request as handlers see it. `None` for one that contradicts itself.
pub(super) fn to_request(
    parts: http::request::Parts,
    body: Body,
    names: &HeaderNameRule,
) -> Option<Request> {
    let http::request::Parts { method, uri, mut headers, .. } = parts;
    if !uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) {
        return None;
    }
    let seen = Seen::of(&headers);
    let field = if seen.host { headers.remove(header::HOST) } else { None };
    let host = match uri.authority() {
        // User information has no place in a request (RFC 9113 §8.3.1).
        Some(authority) if authority.as_str().contains('@') => return None,
        Some(authority) => {
            // A Host field that disagrees with :authority hides one of two sites (RFC 9113 §8.3.1).
            if field.is_some_and(|host| {
                !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
            }) {
                return None;
            }
            ByteString::from(authority.as_str())
        }
        None => ByteString::try_from(field?.as_bytes()).ok()?,
    };
    let target = match uri.path_and_query() {
        // A path, or the server as a whole (RFC 9113 §8.3.1); the codec takes a lone query, too.
        Some(path) if path.as_str() == "*" && method != Method::OPTIONS => return None,
        Some(path) if !path.as_str().starts_with(['/', '*']) => return None,
        Some(path) => Target::parse(ByteString::from(path.as_str()))?,
        None => Target::parse(host.clone())?,
    };
    if seen.cookies > 1 {
        join_cookies(&mut headers);
    }
    if seen.odd {
        names.apply(&mut headers);
    }
    let version = Version::HTTP_2;
    let headers = headers.into();
    Some(Request { method, target, version, host, headers, body, protocol: None, chunked: false })
}

/// Cookie crumbs become one field again (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// A request body off a stream.
pub(super) struct Incoming {
    stream: RecvStream,
    bytes: Rc<Cell<u64>>,
    /// What is to come, where the client said so; that it keeps to it is the codec's to see.
    left: Option<u64>,
    limits: BodyLimits,
    /// Data that was looked at already.
    first: Option<Bytes>,
    /// All data has come, and trailers may follow.
    at_trailers: bool,
    over: bool,
}

impl Incoming {
    pub(super) fn new(
        stream: RecvStream,
        headers: &HeaderMap,
        bytes: Rc<Cell<u64>>,
        limits: BodyLimits,
    ) -> Self {
        let left = caddis_wire::declared_length(headers);
        Self { stream, bytes, left, limits, first: None, at_trailers: false, over: false }
    }

    /// Data that was taken off the stream already comes first.
    pub(super) fn beginning_with(self, first: Option<Bytes>) -> Self {
        Self { first, ..self }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        if !self.at_trailers {
            let data = match self.first.take() {
                Some(data) => Some(data),
                None => ready!(self.stream.poll_data(cx)).transpose()?,
            };
            if let Some(data) = data {
                // Handed on, so there is room for more.
                let _ = self.stream.flow_control().release_capacity(data.len());
                let length = data.len() as u64;
                self.bytes.set(self.bytes.get() + length);
                self.left = self.left.map(|left| left.saturating_sub(length));
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.at_trailers = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(Ok(trailers.map(|mut trailers| {
            screen::unmark(&mut trailers);
            Frame::trailers(trailers)
        })))
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = match self.poll_next(cx) {
            Poll::Ready(next) => next.map_err(broken),
            Poll::Pending => {
                ready!(self.limits.poll_over(cx));
                Err(BodyError::Timeout)
            }
        };
        self.limits.came();
        self.over = !matches!(&next, Ok(Some(frame)) if frame.is_data());
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.first.is_none() && self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Whatever the client's reason is, a body that was reset is not whole.
fn broken(error: h2::Error) -> BodyError {
    if error.is_reset() || error.is_go_away() || error.is_io() {
        BodyError::Canceled
    } else {
        BodyError::Io(std::io::Error::other(error))
    }
}
