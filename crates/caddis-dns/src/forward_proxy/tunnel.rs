//! `CONNECT` to a proxy (RFC 9110, section 9.3.6).

use std::io;

use bytes::{Buf, BytesMut};
use caddis_wire::{Limits, Parsed, parse_response};
use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::broken;

/// Has the proxy connect to `host:port`.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &str,
    authorization: Option<&str>,
) -> io::Result<()> {
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = authorization {
        head.push_str("Proxy-Authorization: ");
        head.push_str(authorization);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let mut buf = BytesMut::new();
    let limits = Limits::default();
    loop {
        let parsed = parse_response(&buf, &Method::CONNECT, &limits)
            .map_err(|error| broken(format!("malformed HTTP response: {}", error.detail())))?;
        if let Parsed::Complete(head, used) = parsed {
            buf.advance(used);
            if head.status.is_informational() {
                continue;
            }
            if !head.status.is_success() {
                return Err(broken(head.status.to_string()));
            }
            // The upstream waits for the client's first word.
            return match buf.len() {
                0 => Ok(()),
                _ => Err(broken("the proxy spoke before the tunnel was used")),
            };
        }
        if stream.read_buf(&mut buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
