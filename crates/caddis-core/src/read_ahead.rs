//! Bodies that are read before they are passed on: for a buffer, a placeholder or a log.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use crate::{Body, BodyError};

/// What was read of a body, and what comes then.
pub struct ReadAhead {
    read: Bytes,
    then: Then,
    /// The length of all that was read, where it was known beforehand.
    length: Option<u64>,
}

enum Then {
    /// More than the limit.
    Body(Body),
    Trailers(Frame<Bytes>),
    Error(BodyError),
    Nothing,
}

impl Body {
    /// Reads until `limit` bytes or more are there, or the end.
    pub async fn read_ahead(mut self, limit: usize) -> ReadAhead {
        let length = self.exact_len();
        let whole = |read, then| ReadAhead { read, then, length };
        if let Self::Full(bytes) = &mut self {
            return whole(std::mem::take(bytes), Then::Nothing);
        }
        let mut read = BytesMut::new();
        let then = loop {
            match poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut self), cx)).await {
                None => break Then::Nothing,
                Some(Err(error)) => break Then::Error(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => read.extend_from_slice(&data),
                    Err(frame) => break Then::Trailers(frame),
                },
            }
            if read.len() >= limit {
                break Then::Body(self);
            }
        };
        whole(read.freeze(), then)
    }
}

impl ReadAhead {
    /// What was read.
    pub fn read(&self) -> &Bytes {
        &self.read
    }

    /// Why it ended early, once.
    pub fn take_error(&mut self) -> Option<BodyError> {
        match std::mem::replace(&mut self.then, Then::Nothing) {
            Then::Error(error) => Some(error),
            then => {
                self.then = then;
                None
            }
        }
    }

    /// The body as it was: with what was read, the rest, trailers, and an early end.
    pub fn into_body(self) -> Body {
        match self.then {
            Then::Nothing => self.read.into(),
            _ => Body::stream(Again(self)),
        }
    }
}

/// A body once more from its beginning.
struct Again(ReadAhead);

impl http_body::Body for Again {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let ReadAhead { read, then, .. } = &mut self.get_mut().0;
        if !read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(read)))));
        }
        if let Then::Body(body) = then {
            return Pin::new(body).poll_frame(cx);
        }
        Poll::Ready(match std::mem::replace(then, Then::Nothing) {
            Then::Trailers(frame) => Some(Ok(frame)),
            Then::Error(error) => Some(Err(error)),
            Then::Body(_) | Then::Nothing => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.read.is_empty()
            && match &self.0.then {
                Then::Body(body) => body.is_empty(),
                Then::Nothing => true,
                Then::Trailers(_) | Then::Error(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.0.read.len() as u64;
        let exact = match &self.0.then {
            Then::Body(body) => body.exact_len().map(|rest| rest + read),
            Then::Nothing => Some(read),
            // What was announced, so that its being too short shows.
            Then::Trailers(_) | Then::Error(_) => self.0.length.filter(|length| *length >= read),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::{HeaderMap, HeaderValue};

    use super::*;

    struct Pieces(VecDeque<Result<Frame<Bytes>, BodyError>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn body(last: Option<Result<Frame<Bytes>, BodyError>>) -> Body {
        let pieces = ["abc", "defg", "h"].map(|piece| Ok(Frame::data(piece.into())));
        Body::stream(Pieces(pieces.into_iter().chain(last).collect()))
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test]
    fn small_bodies_become_whole() {
        for limit in [9, usize::MAX] {
            let body = block_on(body(None).read_ahead(limit)).into_body();
            assert!(matches!(&body, Body::Full(bytes) if bytes == "abcdefgh"), "{body:?}");
        }
        let ahead = block_on(body(None).read_ahead(4));
        assert_eq!(ahead.read(), "abcdefg");
        let body = ahead.into_body();
        assert_eq!(body.exact_len(), None);
        assert_eq!(block_on(body.collect(100)).expect("no error"), "abcdefgh");
    }

    #[test]
    fn trailers_and_errors_stay() {
        let trailers = HeaderMap::from_iter([(http::header::EXPIRES, HeaderValue::from(1))]);
        let with_trailers = body(Some(Ok(Frame::trailers(trailers.clone()))));
        let mut again = block_on(with_trailers.read_ahead(usize::MAX)).into_body();
        let mut next =
            || block_on(poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut again), cx)));
        let data = next().expect("a frame").expect("no error").into_data().expect("data");
        assert_eq!(data, "abcdefgh");
        let last = next().expect("a frame").expect("no error").into_trailers();
        assert_eq!(last.expect("trailers"), trailers);
        assert!(next().is_none());

        let ahead = block_on(body(Some(Err(BodyError::Timeout))).read_ahead(usize::MAX));
        let failed = block_on(ahead.into_body().collect(100));
        assert!(matches!(failed, Err(BodyError::Timeout)));
        let mut ahead = block_on(body(Some(Err(BodyError::Timeout))).read_ahead(usize::MAX));
        assert!(matches!(ahead.take_error(), Some(BodyError::Timeout)));
        assert!(ahead.take_error().is_none());
    }
}
