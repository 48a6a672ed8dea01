//! Reads the PROXY protocol header, versions 1 (text) and 2 (binary).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Source and destination.
type Addresses = (SocketAddr, SocketAddr);

/// What stands at the start of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No header.
    No,
    /// A header; without addresses where the proxy speaks for itself or does not know.
    Yes(Option<Addresses>),
}

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line that version 1 allows, with its end.
const V1_MAX: usize = 107;

/// Reads a header off the stream; what was read beyond it stays in `before`.
pub(super) async fn read<S: AsyncRead + Unpin>(
    io: &mut S,
    before: &mut BytesMut,
) -> io::Result<Found> {
    loop {
        if let Some((found, used)) = parse(before)? {
            before.advance(used);
            return Ok(found);
        }
        if io.read_buf(before).await? == 0 {
            return Ok(Found::No);
        }
    }
}

/// `None` where more bytes are needed; else what was found and how long it is.
fn parse(data: &[u8]) -> io::Result<Option<(Found, usize)>> {
    let begins = |start: &[u8]| {
        let len = data.len().min(start.len());
        data[..len] == start[..len]
    };
    if begins(V2) {
        return if data.len() < V2.len() { Ok(None) } else { parse_v2(data) };
    }
    if !begins(V1) {
        return Ok(Some((Found::No, 0)));
    }
    let Some(end) = data.iter().take(V1_MAX).position(|byte| *byte == b'\n') else {
        return if data.len() < V1_MAX { Ok(None) } else { Err(bad("line is too long")) };
    };
    let line = data[..end].strip_suffix(b"\r").ok_or_else(|| bad("line has no end"))?;
    let line = std::str::from_utf8(line).map_err(|_| bad("line is no text"))?;
    Ok(Some((Found::Yes(parse_v1(line)?), end + 1)))
}

fn parse_v1(line: &str) -> io::Result<Option<Addresses>> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let [source, destination, source_port, destination_port] = [(); 4].map(|()| words.next());
    let ip = |text: Option<&str>| -> io::Result<IpAddr> {
        let ip: IpAddr =
            text.and_then(|text| text.parse().ok()).ok_or_else(|| bad("invalid address"))?;
        let fits = match family {
            "TCP4" => ip.is_ipv4(),
            "TCP6" => ip.is_ipv6(),
            _ => false,
        };
        fits.then_some(ip).ok_or_else(|| bad("can't read address family"))
    };
    let port = |text: Option<&str>| -> io::Result<u16> {
        text.and_then(|text| text.parse().ok()).ok_or_else(|| bad("invalid port number"))
    };
    Ok(Some((
        SocketAddr::new(ip(source)?, port(source_port)?),
        SocketAddr::new(ip(destination)?, port(destination_port)?),
    )))
}

fn parse_v2(data: &[u8]) -> io::Result<Option<(Found, usize)>> {
    let Some(fixed) = data.get(12..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let command = match fixed[0] {
        0x20 => Command::Local,
        0x21 => Command::Proxy,
        _ => return Err(bad("can't read version 2 header")),
    };
    let Some(mut rest) = data.get(16..16 + length) else { return Ok(None) };
    let addresses = match (command, fixed[1] >> 4) {
        (Command::Proxy, 1) if rest.len() >= 12 => {
            let ips = [IpAddr::from(octets::<4>(&mut rest)), IpAddr::from(octets::<4>(&mut rest))];
            Some(with_ports(ips, rest))
        }
        (Command::Proxy, 2) if rest.len() >= 36 => {
            let ips =
                [IpAddr::from(octets::<16>(&mut rest)), IpAddr::from(octets::<16>(&mut rest))];
            Some(with_ports(ips, rest))
        }
        (Command::Proxy, 1 | 2) => return Err(bad("invalid length")),
        // Unix sockets have no address that counts here.
        _ => None,
    };
    Ok(Some((Found::Yes(addresses), 16 + length)))
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

/// Takes so many bytes; the caller has looked that they are there.
fn octets<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    rest.copy_to_slice(&mut taken);
    taken
}

fn with_ports(ips: [IpAddr; 2], mut rest: &[u8]) -> Addresses {
    let [source, destination] = ips;
    let source = SocketAddr::new(source, rest.get_u16());
    (source, SocketAddr::new(destination, rest.get_u16()))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("proxyproto: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: &str, destination: &str) -> Option<Addresses> {
        Some((source.parse().expect("an address"), destination.parse().expect("an address")))
    }

    #[test]
    fn text_form() {
        let line = b"PROXY TCP4 203.0.113.5 192.0.2.1 4444 80\r\nGET /";
        let want = Found::Yes(addresses("203.0.113.5:4444", "192.0.2.1:80"));
        assert_eq!(parse(line).expect("parses"), Some((want, line.len() - 5)));
        let line = b"PROXY TCP6 2001:db8::5 2001:db8::1 5555 443\r\n";
        let want = Found::Yes(addresses("[2001:db8::5]:5555", "[2001:db8::1]:443"));
        assert_eq!(parse(line).expect("parses"), Some((want, line.len())));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").expect("parses"), Some((Found::Yes(None), 15)));
        assert_eq!(parse(b"POST / ").expect("parses"), Some((Found::No, 0)));
        assert_eq!(parse(b"PRO").expect("parses"), None);
        for bad in ["PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP4 1.1.1.1\r\n", "PROXY x\n"] {
            parse(bad.as_bytes()).expect_err(bad);
        }
        parse(&[b"PROXY ".to_vec(), vec![b'x'; 200]].concat()).expect_err("too long");
    }

    #[test]
    fn binary_form() {
        let v2 = |fixed: &[u8], rest: &[u8]| [V2, fixed, rest].concat();
        let v4 = v2(&[0x21, 0x11, 0, 15], &[203, 0, 113, 5, 192, 0, 2, 1, 17, 92, 0, 80, 4, 0, 0]);
        let want = Found::Yes(addresses("203.0.113.5:4444", "192.0.2.1:80"));
        assert_eq!(parse(&v4).expect("parses"), Some((want, v4.len())));
        for cut in 0..v4.len() {
            assert_eq!(parse(&v4[..cut]).expect("parses"), None, "{cut}");
        }
        let local = v2(&[0x20, 0, 0, 0], &[]);
        assert_eq!(parse(&local).expect("parses"), Some((Found::Yes(None), 16)));
        parse(&v2(&[0x21, 0x21, 0, 12], &[0; 12])).expect_err("too short for IPv6");
        parse(&v2(&[0x31, 0x11, 0, 0], &[])).expect_err("version 3");
    }
}
