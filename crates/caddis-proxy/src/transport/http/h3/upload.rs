//! A request on its way out: the head, and the body as fast as the upstream takes it.

use std::{future::poll_fn, pin::Pin};

use bytes::Bytes;
use caddis_core::{Body, BodyError};
use caddis_wire::http3::{self, FRAME_DATA, FRAME_HEADERS, code};
use quinn::SendStream;

use super::session::error_code;

/// A sending half that is reset unless the request went out whole.
struct Sending {
    stream: SendStream,
    whole: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.whole {
            // Ended already, or gone with its connection.
            let _ = self.stream.reset(error_code(code::REQUEST_CANCELLED));
        }
    }
}

/// Sends a request. An upstream that takes no more of it has its reasons, which its answer tells.
///
/// # Errors
/// The client's body failed.
pub(super) async fn send(
    stream: SendStream,
    section: Vec<u8>,
    body: Body,
) -> Result<(), BodyError> {
    let mut sending = Sending { stream, whole: false };
    let head = frame(FRAME_HEADERS, &section);
    let went = match body {
        Body::Empty => write(&mut sending.stream, &mut [head.into()]).await,
        Body::Full(bytes) if bytes.is_empty() => {
            write(&mut sending.stream, &mut [head.into()]).await
        }
        Body::Full(bytes) => {
            let head = [&head[..], &data_head(bytes.len())].concat();
            write(&mut sending.stream, &mut [head.into(), bytes]).await
        }
        stream @ Body::Stream(_) => pieces(&mut sending.stream, head, stream).await?,
    };
    if went.is_some() && sending.stream.finish().is_ok() {
        sending.whole = true;
    }
    Ok(())
}

/// Sends the body as it comes; `None` where the upstream takes no more.
async fn pieces(
    stream: &mut SendStream,
    head: Vec<u8>,
    mut body: Body,
) -> Result<Option<()>, BodyError> {
    if write(stream, &mut [head.into()]).await.is_none() {
        return Ok(None);
    }
    while let Some(next) = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await
    {
        let went = match next?.into_data() {
            Ok(data) if data.is_empty() => continue,
            Ok(data) => write(stream, &mut [data_head(data.len()).into(), data]).await,
            Err(other) => {
                let Ok(trailers) = other.into_trailers() else { continue };
                let mut section = Vec::new();
                http3::write_trailer_section(&mut section, &trailers);
                write(stream, &mut [frame(FRAME_HEADERS, &section).into()]).await
            }
        };
        if went.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 16);
    http3::write_frame_head(&mut out, kind, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

/// The start of a DATA frame.
fn data_head(length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    http3::write_frame_head(&mut out, FRAME_DATA, length as u64);
    out
}

/// Writes all of it; `None` where the stream takes no more.
async fn write(stream: &mut SendStream, mut chunks: &mut [Bytes]) -> Option<()> {
    while !chunks.is_empty() {
        let written = stream.write_chunks(chunks).await.ok()?;
        chunks = chunks.get_mut(written.chunks..).unwrap_or_default();
    }
    Some(())
}
