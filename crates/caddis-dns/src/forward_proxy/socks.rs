//! SOCKS 5 (RFC 1928) with user and password (RFC 1929); the proxy resolves names.

use std::{io, net::IpAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::broken;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;

/// Has the proxy connect to a host.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
    user: Option<&(Vec<u8>, Vec<u8>)>,
) -> io::Result<()> {
    let methods: &[u8] =
        if user.is_some() { &[VERSION, 2, NO_AUTHENTICATION, PASSWORD] } else { &[VERSION, 1, 0] };
    write(stream, methods).await?;
    let [version, method] = read(stream).await?;
    check_version(version)?;
    match (method, user) {
        (NO_AUTHENTICATION, _) => {}
        (PASSWORD, Some((name, password))) => authenticate(stream, name, password).await?,
        (0xff, _) => return Err(broken("no acceptable authentication methods")),
        (other, _) => return Err(broken(format!("unsupported authentication method {other}"))),
    }
    write(stream, &request(host, port)?).await?;
    let [version, reply, _, kind] = read(stream).await?;
    check_version(version)?;
    if reply != 0 {
        return Err(broken(format!("unknown error {}", reason(reply))));
    }
    // The address it is bound to, and a port.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let [length] = read(stream).await?;
            usize::from(length)
        }
        other => return Err(broken(format!("unknown address type {other}"))),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await.map(drop)
}

async fn authenticate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: &[u8],
    password: &[u8],
) -> io::Result<()> {
    let (Ok(name_length @ 1..), Ok(password_length)) =
        (u8::try_from(name.len()), u8::try_from(password.len()))
    else {
        return Err(broken("invalid username/password: each may have 255 bytes"));
    };
    let mut out = vec![1, name_length];
    out.extend_from_slice(name);
    out.push(password_length);
    out.extend_from_slice(password);
    write(stream, &out).await?;
    match read(stream).await? {
        [1, 0] => Ok(()),
        [1, _] => Err(broken("username/password authentication failed")),
        _ => Err(broken("invalid username/password version")),
    }
}

fn request(host: &str, port: u16) -> io::Result<Vec<u8>> {
    let mut out = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            out.push(1);
            out.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            out.push(4);
            out.extend(ip.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).map_err(|_| broken("FQDN too long"))?;
            out.extend([3, length]);
            out.extend_from_slice(host.as_bytes());
        }
    }
    out.extend(port.to_be_bytes());
    Ok(out)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn check_version(version: u8) -> io::Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(broken(format!("unexpected protocol version {version}")))
}

/// Replies of RFC 1928, section 6.
fn reason(reply: u8) -> String {
    let text = match reply {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        other => return format!("unknown code: {other}"),
    };
    text.to_owned()
}
