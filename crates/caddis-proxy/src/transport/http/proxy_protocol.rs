//! The PROXY protocol header that tells an upstream the client's address.

use std::net::{IpAddr, SocketAddr};

/// Which form is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// The header of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its form.
    pub(crate) version: Version,
    /// The client.
    pub(crate) source: SocketAddr,
    /// The server's own address.
    pub(crate) destination: SocketAddr,
}

impl Header {
    /// The bytes that go before everything else.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let source = canonical(self.source);
        let mut destination = canonical(self.destination);
        if source.is_ipv4() != destination.is_ipv4() {
            let ip = if source.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0u16; 8]) };
            destination = SocketAddr::new(ip, destination.port());
        }
        match self.version {
            Version::V1 => {
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                format!(
                    "PROXY {family} {} {} {} {}\r\n",
                    source.ip(),
                    destination.ip(),
                    source.port(),
                    destination.port()
                )
                .into_bytes()
            }
            Version::V2 => v2(source, destination),
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let mut addresses = Vec::new();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => addresses.extend(ip.octets()),
            IpAddr::V6(ip) => addresses.extend(ip.octets()),
        }
    }
    addresses.extend(source.port().to_be_bytes());
    addresses.extend(destination.port().to_be_bytes());
    out.push(if source.is_ipv4() { 0x11 } else { 0x21 });
    // Twelve or thirty-six bytes.
    out.extend([0, addresses.len() as u8]);
    out.extend(addresses);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: Version, source: &str, destination: &str) -> Vec<u8> {
        let address = |text: &str| text.parse().expect("an address");
        Header { version, source: address(source), destination: address(destination) }.bytes()
    }

    #[test]
    fn text_form() {
        let bytes = header(Version::V1, "192.0.2.1:4000", "[::ffff:10.0.0.1]:80");
        assert_eq!(bytes, b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\n");
        let bytes = header(Version::V1, "[2001:db8::1]:1", "10.0.0.1:80");
        assert_eq!(bytes, b"PROXY TCP6 2001:db8::1 :: 1 80\r\n");
    }

    #[test]
    fn binary_form() {
        let bytes = header(Version::V2, "192.0.2.1:4000", "10.0.0.1:80");
        assert_eq!(&bytes[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(&bytes[16..], [192, 0, 2, 1, 10, 0, 0, 1, 15, 160, 0, 80]);
        assert_eq!(header(Version::V2, "[::1]:1", "[::1]:2").len(), 16 + 36);
    }
}
