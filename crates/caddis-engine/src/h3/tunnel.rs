//! The raw stream of an extended CONNECT (RFC 9220): bytes in DATA frames, both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use quinn::SendStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{request::StreamBody, respond::data_head};

/// Bytes of one frame.
const MAX_FRAME: usize = 16 * 1024;

/// A duplex stream over a request stream.
pub(super) struct Tunnelled {
    /// `None` where the client has ended its side.
    body: Option<Box<StreamBody>>,
    read: Bytes,
    send: SendStream,
    /// A frame on its way.
    write: Bytes,
}

impl Tunnelled {
    pub(super) fn new(body: Option<Box<StreamBody>>, send: SendStream) -> Self {
        Self { body, read: Bytes::new(), send, write: Bytes::new() }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            let send = Pin::new(&mut self.send);
            let written = ready!(AsyncWrite::poll_write(send, cx, &self.write))?;
            self.write.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Tunnelled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            let frame = ready!(http_body::Body::poll_frame(Pin::new(body), cx));
            match frame.transpose().map_err(io::Error::other)? {
                None => self.body = None,
                // Trailers mean nothing here.
                Some(frame) => self.read = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.read.len().min(out.remaining());
        out.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnelled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let data = &data[..data.len().min(MAX_FRAME)];
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut frame = data_head(data.len());
        frame.extend_from_slice(data);
        self.write = frame.into();
        // What does not fit now is sent before anything else.
        if let Poll::Ready(result) = self.poll_drain(cx) {
            result?;
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        // Ended or reset already: nothing more to say.
        let _ = self.send.finish();
        Poll::Ready(Ok(()))
    }
}
