//! Writing an answer: as fast as the client's window allows, and no faster than that is it read.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use caddis_core::{Body, BodyError};
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body::Frame;
use tokio::sync::AcquireError;

use super::quota::Quota;
use crate::{
    h1::{self, within},
    streams::GOODBYE,
};

/// Where an answer goes.
pub(super) struct Sending<'a> {
    pub(super) reply: &'a Rc<RefCell<SendResponse<Bytes>>>,
    /// For each step forward.
    pub(super) idle: Option<Duration>,
    pub(super) quota: &'a Quota,
}

/// Sends the head; adds `Date`. `Err` is the code to reset the stream with.
pub(super) fn head(
    reply: &Rc<RefCell<SendResponse<Bytes>>>,
    mut parts: Parts,
    ends: bool,
) -> Result<SendStream<Bytes>, Reason> {
    if !parts.headers.contains_key(header::DATE)
        && let Some(date) = h1::date()
    {
        parts.headers.insert(header::DATE, date);
    }
    let mut response = http::Response::new(());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    let sent = reply.borrow_mut().send_response(response, ends);
    sent.map_err(|_| Reason::INTERNAL_ERROR)
}

/// Sends an answer and ends the stream; `Err` is the code to reset it with.
pub(super) async fn respond(
    sending: Sending<'_>,
    parts: Parts,
    mut body: Body,
) -> Result<(), Reason> {
    let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || body.is_empty() {
        return head(sending.reply, parts, true).map(drop);
    }
    let mut stream = head(sending.reply, parts, false)?;
    if let Body::Full(bytes) = &mut body {
        let bytes = std::mem::take(bytes);
        return sending.write(&mut stream, bytes, true).await;
    }
    loop {
        // Nothing is read ahead but what one write takes: an end behind it needs no window.
        sending.step(&mut stream, sending.quota.open()).await?;
        let next = match next_frame(&mut stream, &mut body).await {
            Ok(next) => next,
            Err(reason) => {
                // What came before it is true, and may be all that the client needs to know; the
                // codec forgets it with the reset.
                let _ = within(Some(GOODBYE), sending.quota.written()).await;
                return Err(reason);
            }
        };
        match next.map(Frame::into_data) {
            None => {
                // Where it is over already, the client has what it wanted.
                let _ = stream.send_data(Bytes::new(), true);
                return Ok(());
            }
            Some(Ok(data)) => {
                let ends = http_body::Body::is_end_stream(&body);
                sending.write(&mut stream, data, ends).await?;
                if ends {
                    return Ok(());
                }
            }
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                let _ = stream.send_trailers(trailers);
                return Ok(());
            }
        }
    }
}

impl Sending<'_> {
    async fn write(
        &self,
        stream: &mut SendStream<Bytes>,
        mut data: Bytes,
        ends: bool,
    ) -> Result<(), Reason> {
        while !data.is_empty() {
            let room = within(self.idle, room(stream, data.len())).await;
            let room = room.unwrap_or(Err(Reason::CANCEL))?;
            let turn = self.step(stream, self.quota.turn(room.min(data.len()))).await?;
            let piece = data.split_to(turn.bytes());
            let ends = ends && data.is_empty();
            stream.send_data(piece, ends).map_err(|_| Reason::CANCEL)?;
            turn.used();
            if ends {
                return Ok(());
            }
        }
        if ends {
            // Where it is over already, the client has what it wanted.
            let _ = stream.send_data(Bytes::new(), true);
        }
        Ok(())
    }

    /// Waits for what the connection is to allow, within the limit of a step and until the client
    /// wants no more.
    async fn step<T>(
        &self,
        stream: &mut SendStream<Bytes>,
        allowed: impl Future<Output = Result<T, AcquireError>>,
    ) -> Result<T, Reason> {
        let mut allowed = pin!(allowed);
        let step = poll_fn(|cx| match allowed.as_mut().poll(cx) {
            Poll::Ready(allowed) => Poll::Ready(allowed.map_err(|_| Reason::INTERNAL_ERROR)),
            Poll::Pending => poll_reset(stream, cx).map(Err),
        });
        within(self.idle, step).await.unwrap_or(Err(Reason::CANCEL))
    }
}

/// Waits until so much may be sent, or at least a part of it; how much.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, Reason> {
    stream.reserve_capacity(wanted);
    poll_fn(|cx| {
        if stream.capacity() > 0 {
            return Poll::Ready(Ok(stream.capacity()));
        }
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(0))) => {
                // Taken back meanwhile: ask again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(Reason::CANCEL)),
            Poll::Pending => poll_reset(stream, cx).map(Err),
        }
    })
    .await
}

fn poll_reset(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Reason> {
    stream.poll_reset(cx).map(|reason| reason.unwrap_or(Reason::CANCEL))
}

/// The next piece of the body, unless the client wants no more.
async fn next_frame(
    stream: &mut SendStream<Bytes>,
    body: &mut Body,
) -> Result<Option<Frame<Bytes>>, Reason> {
    poll_fn(|cx| match http_body::Body::poll_frame(Pin::new(&mut *body), cx) {
        Poll::Ready(frame) => Poll::Ready(frame.transpose().map_err(broke)),
        Poll::Pending => poll_reset(stream, cx).map(Err),
    })
    .await
}

fn broke(error: BodyError) -> Reason {
    tracing::debug!(target: "http.log.error", %error, "aborting with incomplete response");
    Reason::INTERNAL_ERROR
}
