//! Decodes a body that was compressed only because the transport asked for it.

use std::{
    io::Write,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use caddis_core::{Body, BodyError};
use flate2::write::MultiGzDecoder;
use http_body::{Frame, SizeHint};

/// How much is decoded at once: bounds what a body of zeros grows to.
const STEP: usize = 4 * 1024;

/// A decoding body.
pub(crate) struct Gunzip {
    inner: Body,
    input: Bytes,
    decoder: MultiGzDecoder<Vec<u8>>,
    started: bool,
    done: bool,
    failed: bool,
}

impl Gunzip {
    /// Wraps a compressed body.
    pub(crate) fn new(inner: Body) -> Self {
        Self {
            inner,
            input: Bytes::new(),
            decoder: MultiGzDecoder::new(Vec::new()),
            started: false,
            done: false,
            failed: false,
        }
    }

    fn step(&mut self) -> Result<Option<Bytes>, BodyError> {
        let malformed = |error: std::io::Error| BodyError::Malformed(format!("gzip: {error}"));
        let take = self.input.len().min(STEP);
        self.decoder.write_all(&self.input[..take]).map_err(malformed)?;
        self.input.advance(take);
        self.started = true;
        let out = std::mem::take(self.decoder.get_mut());
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn finish(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.done = true;
        if !self.started {
            return Ok(None);
        }
        self.decoder.try_finish().map_err(|_| BodyError::Incomplete)?;
        let out = std::mem::take(self.decoder.get_mut());
        Ok((!out.is_empty()).then(|| out.into()))
    }
}

impl http_body::Body for Gunzip {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.failed {
                // Whoever asks again must not take it for the end.
                return Poll::Ready(Some(Err(BodyError::Incomplete)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            if !self.input.is_empty() {
                match self.step().transpose() {
                    Some(data) => {
                        self.failed = data.is_err();
                        return Poll::Ready(Some(data.map(Frame::data)));
                    }
                    None => continue,
                }
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => {
                    let last = self.finish().transpose();
                    self.failed = matches!(last, Some(Err(_)));
                    return Poll::Ready(last.map(|data| data.map(Frame::data)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.input = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).expect("to memory");
        encoder.finish().expect("to memory")
    }

    #[tokio::test]
    async fn decodes() {
        let text = b"twelve bytes".repeat(1000);
        let body = Body::stream(Gunzip::new(Body::Full(gzip(&text).into())));
        assert_eq!(body.collect(1 << 20).await.expect("valid"), text);
        let empty = Body::stream(Gunzip::new(Body::Empty));
        assert_eq!(empty.collect(10).await.expect("valid"), "");
    }

    #[tokio::test]
    async fn refuses_nonsense_and_cut_bodies() {
        let body = Body::stream(Gunzip::new(Body::Full("no gzip at all".into())));
        assert!(matches!(body.collect(100).await, Err(BodyError::Malformed(_))));
        let mut cut = gzip(&b"x".repeat(10_000));
        cut.truncate(cut.len() / 2);
        let body = Body::stream(Gunzip::new(Body::Full(cut.into())));
        assert!(body.collect(1 << 20).await.is_err());
    }
}
