//! Listener wrappers: what is done on a connection before its bytes are TLS or HTTP.

mod proxy_header;

use std::io;

use bytes::BytesMut;
use caddis_core::{Connection, exchange::Io};
use caddis_plan::{ListenerWrapper, ProxyPolicy, ProxyProtocol};
use caddis_wire::{Limits, Parsed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::proxy_header::Found;
use crate::h1;

/// A stream whose kind no longer matters.
type BoxIo = Box<dyn Io>;

/// Takes a connection through the wrappers; `None` where one of them ended it.
pub(crate) async fn run(
    wrappers: impl Iterator<Item = &ListenerWrapper>,
    mut io: BoxIo,
    connection: &mut Connection,
) -> Option<BoxIo> {
    for wrapper in wrappers {
        let done = match wrapper {
            ListenerWrapper::HttpRedirect { max_header_bytes } => {
                let limit = Some(REDIRECT_TIME);
                h1::within(limit, http_redirect(io, *max_header_bytes)).await?
            }
            ListenerWrapper::ProxyProtocol(proxy) => proxy_protocol(io, proxy, connection).await,
        };
        io = done
            .inspect_err(|error| {
                tracing::debug!(target: "http", remote = ?connection.remote, %error, "connection ended by a listener wrapper");
            })
            .ok()?;
    }
    Some(io)
}

/// How long a client may take until it is known whether it speaks HTTP.
const REDIRECT_TIME: std::time::Duration = std::time::Duration::from_secs(60);

/// Whether the bytes begin as a request in plain HTTP does.
pub(crate) fn looks_like_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Sends a client that speaks plain HTTP to `https` at the same host and port.
async fn http_redirect(mut io: BoxIo, max: usize) -> io::Result<BoxIo> {
    let mut before = BytesMut::with_capacity(1024);
    while before.len() < 5 && before.first() != Some(&22) {
        if io.read_buf(&mut before).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if !looks_like_http(&before) {
        return Ok(Box::new(h1::Rewind { before, io }));
    }
    let limits = Limits::with_max_head(max);
    let head = loop {
        match caddis_wire::parse_request(&before, &limits) {
            Ok(Parsed::Complete(head, _)) => break head,
            Ok(Parsed::Partial) => {}
            Err(_) => return Err(io::Error::other("couldn't read HTTP request")),
        }
        if io.read_buf(&mut before).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut answer = b"HTTP/1.0 308 Permanent Redirect\r\nLocation: https://".to_vec();
    answer.extend_from_slice(&head.host);
    answer.extend_from_slice(&head.origin);
    answer.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    io.write_all(&answer).await?;
    io.shutdown().await?;
    Err(io::Error::other("redirected HTTP request on HTTPS port"))
}

/// Reads a PROXY protocol header and puts its addresses in the place of the connection's.
async fn proxy_protocol(
    mut io: BoxIo,
    proxy: &ProxyProtocol,
    connection: &mut Connection,
) -> io::Result<BoxIo> {
    let policy = proxy.policy(connection.remote.map(|remote| remote.ip()));
    if policy == ProxyPolicy::Skip {
        return Ok(io);
    }
    let mut before = BytesMut::new();
    let read = proxy_header::read(&mut io, &mut before);
    // Who says nothing in time has sent no header.
    let header = h1::within(Some(proxy.timeout), read).await.unwrap_or(Ok(Found::No))?;
    match (header, policy) {
        (Found::No, ProxyPolicy::Require) => {
            return Err(io::Error::other("proxyproto: proxy protocol signature not present"));
        }
        (Found::Yes(_), ProxyPolicy::Reject) => {
            return Err(io::Error::other(
                "proxyproto: upstream connection sent PROXY header but isn't allowed to send one",
            ));
        }
        (Found::Yes(Some((source, destination))), ProxyPolicy::Use | ProxyPolicy::Require) => {
            connection.set_remote(source);
            connection.local = Some(destination);
        }
        _ => {}
    }
    Ok(if before.is_empty() { io } else { Box::new(h1::Rewind { before, io }) })
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn connection() -> Connection {
        Connection {
            remote_ip: Default::default(),
            remote: Some(([127, 0, 0, 1], 1).into()),
            local: None,
            local_name: Default::default(),
            tls: None,
        }
    }

    async fn through(
        wrapper: ListenerWrapper,
        sent: &[u8],
    ) -> (Option<Vec<u8>>, Connection, Vec<u8>) {
        let (mut client, server) = duplex(4096);
        client.write_all(sent).await.expect("room");
        client.shutdown().await.expect("open");
        let mut connection = connection();
        let io = run([&wrapper].into_iter(), Box::new(server), &mut connection).await;
        let mut rest = None;
        if let Some(mut io) = io {
            let mut read = Vec::new();
            io.read_to_end(&mut read).await.expect("reads");
            rest = Some(read);
        }
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("reads");
        (rest, connection, answer)
    }

    #[tokio::test]
    async fn redirects_plain_http() {
        let wrapper = || ListenerWrapper::HttpRedirect { max_header_bytes: 64 };
        let (rest, _, answer) =
            through(wrapper(), b"GET /a?b HTTP/1.1\r\nHost: x.test:8443\r\n\r\n").await;
        assert!(rest.is_none());
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.contains("\r\nLocation: https://x.test:8443/a?b\r\n"), "{answer}");
        let (rest, _, answer) = through(wrapper(), b"\x16\x03\x01..").await;
        assert_eq!((rest.as_deref(), &*answer), (Some(&b"\x16\x03\x01.."[..]), &b""[..]));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(2000));
        assert!(through(wrapper(), long.as_bytes()).await.0.is_none());
    }
}
