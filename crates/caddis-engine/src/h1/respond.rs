//! Writing an answer: framing by what is known of the body, head and first bytes in one write.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use caddis_core::{
    Body, BodyError, Response,
    exchange::{Io, Tunnel},
};
use caddis_wire::{BodyFraming, PassedFields};
use http::{StatusCode, Version, header, response::Parts};
use http_body::Frame;

#[cfg(target_os = "linux")]
use super::splice;
use super::{
    Facts,
    conn::{BodyProgress, SharedConn},
    within,
};

/// Data up to this size is copied behind the head; more is written from where it is.
const COPY_LIMIT: usize = 16 * 1024;

/// How the sending ended.
pub(crate) enum Sent {
    /// Another request may follow.
    KeepAlive,
    /// All was sent; the connection is to close.
    Close,
    /// The client is gone, too slow, or the body broke off: cut the connection.
    Failed,
    /// The head is sent; the raw stream goes to this.
    Tunnel(Tunnel),
}

/// Sends an answer whose body is all here, to a request that was read to its end.
pub(crate) async fn send_whole<S: Io>(
    conn: &SharedConn<S>,
    (response, passed): (Response, Option<PassedFields>),
    facts: &Facts,
    keep_alive: bool,
    write_idle: Option<Duration>,
) -> Sent {
    let (mut parts, body) = response.into_parts();
    let framing = framing(&mut parts, &body, facts);
    let keep_alive = keep_alive && !asks_close(&parts) && framing != BodyFraming::UntilClose;
    let mut out = take_buffer();
    write_head(&mut out, (&parts, passed), framing, keep_alive, facts.version);
    let mut rest = match body {
        Body::Full(bytes) if !facts.head_method && !bodiless(parts.status) => {
            if bytes.len() <= COPY_LIMIT {
                out.extend_from_slice(&bytes);
                Bytes::new()
            } else {
                bytes
            }
        }
        _ => Bytes::new(),
    };
    caddis_wire::recycle(parts.headers);
    while rest.len() > PART {
        let mut part = rest.split_to(PART);
        if write(conn, &mut out, Some(&mut part), write_idle).await.is_none() {
            return Sent::Failed;
        }
    }
    let written = write(conn, &mut out, Some(&mut rest), write_idle).await;
    give_buffer(out);
    match written {
        None => Sent::Failed,
        Some(()) if keep_alive => Sent::KeepAlive,
        Some(()) => Sent::Close,
    }
}

fn asks_close(parts: &Parts) -> bool {
    let value = parts.headers.get(header::CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Writes buffer and data, and empties the buffer. `None`: failed or too slow.
async fn write<S: Io>(
    conn: &SharedConn<S>,
    out: &mut Vec<u8>,
    mut data: Option<&mut Bytes>,
    write_idle: Option<Duration>,
) -> Option<()> {
    let mut head: &[u8] = out;
    let write = std::future::poll_fn(|cx| {
        let mut conn = conn.borrow_mut();
        match conn.poll_write_all(cx, &mut head) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        if let Some(data) = data.as_deref_mut() {
            match conn.poll_write_all(cx, data) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        conn.poll_flush(cx)
    });
    let written = within(write_idle, write).await?;
    out.clear();
    written.ok()
}

/// Sends any answer.
pub(crate) async fn send<S: Io + 'static>(
    conn: &SharedConn<S>,
    (response, passed): (Response, Option<PassedFields>),
    facts: &Facts,
    keep_alive: bool,
    write_idle: Option<Duration>,
    progress: &BodyProgress,
) -> Sent {
    let (mut parts, mut body) = response.into_parts();
    let framing = framing(&mut parts, &body, facts);
    let keep_alive = keep_alive && !asks_close(&parts) && framing != BodyFraming::UntilClose;
    let mut out = take_buffer();
    write_head(&mut out, (&parts, passed), framing, keep_alive, facts.version);
    let mut writer = Writer { conn, write_idle, progress };
    let bodiless = facts.head_method || bodiless(parts.status);
    let sent = if bodiless {
        writer.write(&mut out, None).await
    } else {
        match &mut body {
            Body::Empty => writer.write(&mut out, None).await,
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                writer.write_framed(&mut out, bytes, framing).await.and(
                    if framing == BodyFraming::Chunked {
                        caddis_wire::write_last_chunk(&mut out, None);
                        writer.write(&mut out, None).await
                    } else {
                        Some(())
                    },
                )
            }
            Body::Stream(_) => writer.stream(&mut out, &mut body, framing).await,
        }
    };
    give_buffer(out);
    match sent {
        None => Sent::Failed,
        Some(()) if keep_alive => Sent::KeepAlive,
        Some(()) => Sent::Close,
    }
}

/// Writes the head; adds `Date`.
pub(crate) fn write_head(
    out: &mut Vec<u8>,
    (parts, passed): (&Parts, Option<PassedFields>),
    framing: BodyFraming,
    keep_alive: bool,
    version: Version,
) {
    if let Some(passed) = passed {
        caddis_wire::write_passed_head(out, version, parts.status, &passed, framing, keep_alive);
        if !passed.dated {
            add_date(out);
        }
        return;
    }
    let reason = parts.extensions.get::<hyper::ext::ReasonPhrase>();
    let reason = reason.and_then(|reason| std::str::from_utf8(reason.as_bytes()).ok());
    caddis_wire::write_response_head(
        out,
        version,
        parts.status,
        reason,
        &parts.headers,
        framing,
        keep_alive,
    );
    let is_final =
        !parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS;
    if !parts.headers.contains_key(header::DATE) && is_final {
        add_date(out);
    }
}

/// Writes `Date` before the empty line that ends the head.
fn add_date(out: &mut Vec<u8>) {
    out.truncate(out.len() - 2);
    write_date(out);
    out.extend_from_slice(b"\r\n");
}

fn bodiless(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// How the end of the body is told.
fn framing(parts: &mut Parts, body: &Body, facts: &Facts) -> BodyFraming {
    let declared = caddis_wire::declared_length(&parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    if bodiless(parts.status) {
        return BodyFraming::None;
    }
    let exact = body.exact_len();
    if facts.head_method {
        let known = declared.or(exact.filter(|length| *length > 0));
        return known.map_or(BodyFraming::None, BodyFraming::Length);
    }
    match exact {
        Some(length) => BodyFraming::Length(length),
        None if facts.version < Version::HTTP_11 => BodyFraming::UntilClose,
        None => BodyFraming::Chunked,
    }
}

struct Writer<'a, S> {
    conn: &'a SharedConn<S>,
    write_idle: Option<Duration>,
    progress: &'a BodyProgress,
}

impl<S: Io + 'static> Writer<'_, S> {
    async fn write(&mut self, out: &mut Vec<u8>, data: Option<&mut Bytes>) -> Option<()> {
        write(self.conn, out, data, self.write_idle).await
    }

    /// Writes one piece of data in its framing, behind what the buffer holds.
    async fn write_framed(
        &mut self,
        out: &mut Vec<u8>,
        mut data: Bytes,
        framing: BodyFraming,
    ) -> Option<()> {
        let chunked = framing == BodyFraming::Chunked;
        if chunked {
            caddis_wire::write_chunk_head(out, data.len());
        }
        if data.len() <= COPY_LIMIT {
            out.extend_from_slice(&data);
            if chunked {
                caddis_wire::write_chunk_end(out);
            }
            return self.write(out, None).await;
        }
        // A slow client gets the write timeout for each part, not for the whole.
        while data.len() > PART {
            let mut part = data.split_to(PART);
            self.write(out, Some(&mut part)).await?;
        }
        self.write(out, Some(&mut data)).await?;
        if chunked {
            caddis_wire::write_chunk_end(out);
        }
        Some(())
    }

    async fn stream(
        &mut self,
        out: &mut Vec<u8>,
        body: &mut Body,
        framing: BodyFraming,
    ) -> Option<()> {
        let mut left = match framing {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
        let mut trailers = None;
        loop {
            #[cfg(target_os = "linux")]
            if let Some(left) = left.as_mut().filter(|left| **left >= splice::SHORTEST)
                && body.spliceable() >= splice::SHORTEST
            {
                self.splice(out, body, left).await?;
            }
            let frame = match self.next_frame(out, body).await? {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    broke(&error);
                    // What came before the break is still the client's.
                    self.write(out, None).await?;
                    return None;
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Some(left) = &mut left {
                        *left = left.checked_sub(data.len() as u64)?;
                    }
                    self.write_framed(out, data, framing).await?;
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        if left.is_some_and(|left| left > 0) {
            self.write(out, None).await?;
            return None;
        }
        if framing == BodyFraming::Chunked {
            caddis_wire::write_last_chunk(out, trailers.as_ref());
        }
        self.write(out, None).await
    }

    /// Moves what can be moved without being read. `None`: it is over with this connection.
    #[cfg(target_os = "linux")]
    async fn splice(&mut self, out: &mut Vec<u8>, body: &mut Body, left: &mut u64) -> Option<()> {
        use splice::{Spliced, splice_body};
        if !out.is_empty() {
            self.write(out, None).await?;
        }
        let waiting = (self.write_idle, self.progress.done.get());
        match splice_body(self.conn, body, left, waiting).await {
            Spliced::On => Some(()),
            Spliced::Gone => None,
            Spliced::Broke(error) => {
                broke(&error);
                None
            }
        }
    }

    /// The next frame; where it has to be waited for, what the buffer holds is sent first, and the
    /// client is watched. Outer `None`: the client is gone.
    async fn next_frame(
        &mut self,
        out: &mut Vec<u8>,
        body: &mut Body,
    ) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
        let ready = std::future::poll_fn(|cx| {
            Poll::Ready(http_body::Body::poll_frame(Pin::new(&mut *body), cx))
        })
        .await;
        if let Poll::Ready(frame) = ready {
            return Some(frame);
        }
        if !out.is_empty() {
            self.write(out, None).await?;
        }
        std::future::poll_fn(|cx| {
            if let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut *body), cx) {
                return Poll::Ready(Some(frame));
            }
            watch_client(self.conn, self.progress.done.get(), cx).map(|()| None)
        })
        .await
    }
}

/// Ready when the client is gone. Only where its request is read: what comes then is the next one.
pub(super) fn watch_client<S: Io>(
    conn: &SharedConn<S>,
    watch: bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut conn = conn.borrow_mut();
    if watch && conn.buffer.is_empty() {
        match conn.poll_fill(cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
    }
    Poll::Pending
}

fn broke(error: &BodyError) {
    tracing::debug!(target: "http.log.error", %error, "aborting with incomplete response");
}

const PART: usize = 256 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// An empty buffer of this thread.
pub(crate) fn take_buffer() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(4096))
}

/// Gives a buffer back.
pub(crate) fn give_buffer(mut buffer: Vec<u8>) {
    if buffer.capacity() <= 4 * COPY_LIMIT {
        buffer.clear();
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < 64 {
                buffers.push(buffer);
            }
        });
    }
}

/// The value of `Date`.
pub(crate) fn date() -> Option<http::HeaderValue> {
    let mut line = Vec::with_capacity(40);
    write_date(&mut line);
    let value = line.strip_prefix(b"Date: ")?.strip_suffix(b"\r\n")?;
    http::HeaderValue::from_bytes(value).ok()
}

/// Appends `Date`, made once a second.
fn write_date(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(at, text)| {
        if *at != second || text.is_empty() {
            *at = second;
            *text = format!("Date: {}\r\n", httpdate::fmt_http_date(now));
        }
        out.extend_from_slice(text.as_bytes());
    });
}
