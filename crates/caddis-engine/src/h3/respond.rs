//! Writing an answer: head and first bytes in one go, the rest as fast as the client takes it.

use std::{
    cell::RefCell,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use caddis_core::{Body, BodyError};
use caddis_wire::http3::{self, FRAME_DATA, FRAME_HEADERS, code};
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body::Frame;
use quinn::SendStream;
use tokio::io::AsyncWrite;

use crate::h1::{self, within};

/// Informational answers on their way out (RFC 9114 §4.1).
#[derive(Default)]
pub(super) struct Interim(Rc<RefCell<BytesMut>>);

impl Interim {
    pub(super) fn sink(&self) -> Rc<dyn Fn(StatusCode, HeaderMap)> {
        let waiting = self.0.clone();
        Rc::new(move |status, mut headers| {
            caddis_wire::remove_connection_fields(&mut headers);
            let mut section = Vec::new();
            http3::write_response_section(&mut section, status, &headers);
            waiting.borrow_mut().extend_from_slice(&frame(FRAME_HEADERS, &section));
        })
    }

    /// Sends as much as the client takes now.
    pub(super) fn poll_send(
        &self,
        send: &mut SendStream,
        cx: &mut Context<'_>,
    ) -> std::io::Result<()> {
        let mut waiting = self.0.borrow_mut();
        while !waiting.is_empty() {
            match AsyncWrite::poll_write(Pin::new(&mut *send), cx, &waiting) {
                Poll::Ready(written) => waiting.advance(written?),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// What is left of them.
    pub(super) fn take(&self) -> Bytes {
        self.0.take().freeze()
    }
}

/// The frame of a response's head; adds `Date`.
pub(super) fn head(parts: &mut Parts) -> Bytes {
    if !parts.headers.contains_key(header::DATE)
        && !parts.status.is_informational()
        && let Some(date) = h1::date()
    {
        parts.headers.insert(header::DATE, date);
    }
    let mut section = Vec::with_capacity(256);
    http3::write_response_section(&mut section, parts.status, &parts.headers);
    frame(FRAME_HEADERS, &section).into()
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 16);
    http3::write_frame_head(&mut out, kind, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

/// The start of a DATA frame.
pub(super) fn data_head(length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    http3::write_frame_head(&mut out, FRAME_DATA, length as u64);
    out
}

/// Sends an answer and ends the stream; `Err` is the code to reset it with.
pub(super) async fn respond(
    send: &mut SendStream,
    mut parts: Parts,
    mut body: Body,
    write_idle: Option<Duration>,
) -> Result<(), u64> {
    let head = head(&mut parts);
    let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match &mut body {
        _ if bodiless => write(send, &mut [head], write_idle).await?,
        Body::Empty => write(send, &mut [head], write_idle).await?,
        Body::Full(bytes) if bytes.is_empty() => write(send, &mut [head], write_idle).await?,
        Body::Full(bytes) => {
            let bytes = std::mem::take(bytes);
            let head = [&head[..], &data_head(bytes.len())].concat().into();
            write(send, &mut [head, bytes], write_idle).await?;
        }
        Body::Stream(_) => stream(send, head, &mut body, write_idle).await?,
    }
    // Reset meanwhile: the client has what it wanted.
    let _ = send.finish();
    Ok(())
}

/// Writes the body as it comes; the head waits for its first piece where that is here already.
async fn stream(
    send: &mut SendStream,
    head: Bytes,
    body: &mut Body,
    write_idle: Option<Duration>,
) -> Result<(), u64> {
    let mut waiting = Vec::from(head);
    loop {
        let next = match at_once(next_frame(body)).await {
            Some(next) => next,
            None => {
                flush(send, &mut waiting, write_idle).await?;
                next_frame(body).await
            }
        };
        match next.map(|frame| frame.map(Frame::into_data)) {
            None => return flush(send, &mut waiting, write_idle).await,
            Some(Err(_)) => {
                // What came before it is true, and may be all that the client needs to know.
                let _ = flush(send, &mut waiting, write_idle).await;
                return Err(code::INTERNAL_ERROR);
            }
            Some(Ok(Ok(data))) if data.is_empty() => {}
            Some(Ok(Ok(data))) => {
                waiting.extend_from_slice(&data_head(data.len()));
                let before = std::mem::take(&mut waiting).into();
                write(send, &mut [before, data], write_idle).await?;
            }
            Some(Ok(Err(frame))) => {
                if let Ok(trailers) = frame.into_trailers() {
                    waiting.extend_from_slice(&trailer_frame(&trailers));
                }
            }
        }
    }
}

fn trailer_frame(trailers: &HeaderMap) -> Vec<u8> {
    let mut section = Vec::new();
    http3::write_trailer_section(&mut section, trailers);
    frame(FRAME_HEADERS, &section)
}

async fn next_frame(body: &mut Body) -> Option<Result<Frame<Bytes>, BodyError>> {
    std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await
}

/// The output if it is there at once.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

async fn flush(
    send: &mut SendStream,
    waiting: &mut Vec<u8>,
    write_idle: Option<Duration>,
) -> Result<(), u64> {
    if waiting.is_empty() {
        return Ok(());
    }
    write(send, &mut [std::mem::take(waiting).into()], write_idle).await
}

/// Writes all of it; `write_idle` is for each step forward.
pub(super) async fn write(
    send: &mut SendStream,
    mut chunks: &mut [Bytes],
    write_idle: Option<Duration>,
) -> Result<(), u64> {
    while !chunks.is_empty() {
        let written = within(write_idle, send.write_chunks(chunks)).await;
        let written = written.and_then(Result::ok).ok_or(code::REQUEST_CANCELLED)?;
        chunks = chunks.get_mut(written.chunks..).unwrap_or_default();
    }
    Ok(())
}
