//! `request_buffers` and `response_buffers`: reads ahead up to a limit.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use caddis_core::{Body, BodyError};
use http_body::{Frame, SizeHint};

/// Reads up to `limit` bytes (all if negative) of a body; one that ends before is whole then.
pub(crate) async fn read_ahead(mut body: Body, limit: i64) -> Body {
    if limit == 0 || !matches!(body, Body::Stream(_)) {
        return body;
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut read = BytesMut::new();
    loop {
        let next =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        let then = match next {
            None => return read.freeze().into(),
            Some(Err(error)) => Then::Error(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    read.extend_from_slice(&data);
                    if read.len() < limit {
                        continue;
                    }
                    Then::Body(body)
                }
                Err(frame) => Then::Trailers(frame),
            },
        };
        return Body::stream(Ahead { read: Some(read.freeze()), then });
    }
}

/// What was read, and what comes then.
struct Ahead {
    read: Option<Bytes>,
    then: Then,
}

enum Then {
    Body(Body),
    Trailers(Frame<Bytes>),
    Error(BodyError),
    Nothing,
}

impl http_body::Body for Ahead {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(read) = self.read.take().filter(|read| !read.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        if let Then::Body(body) = &mut self.then {
            return Pin::new(body).poll_frame(cx);
        }
        Poll::Ready(match std::mem::replace(&mut self.then, Then::Nothing) {
            Then::Trailers(frame) => Some(Ok(frame)),
            Then::Error(error) => Some(Err(error)),
            Then::Body(_) | Then::Nothing => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().map_or(0, Bytes::len) as u64;
        match &self.then {
            Then::Body(body) => body
                .size_hint()
                .exact()
                .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + read)),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Pieces(VecDeque<&'static str>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece.into()))))
        }
    }

    fn pieces() -> Body {
        Body::stream(Pieces(["abc", "defg", "h"].into()))
    }

    #[tokio::test]
    async fn small_bodies_become_whole() {
        for limit in [9, -1] {
            let body = read_ahead(pieces(), limit).await;
            assert!(matches!(&body, Body::Full(bytes) if bytes == "abcdefgh"), "{body:?}");
        }
        let body = read_ahead(pieces(), 4).await;
        assert_eq!(body.exact_len(), None);
        assert_eq!(body.collect(100).await.expect("no error"), "abcdefgh");
    }
}
