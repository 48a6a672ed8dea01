//! Network addresses: `[network/]host:port[-end]`.
//!
//! ```text
//! :443                     every interface
//! localhost:8080-8089      ten ports
//! udp/[::1]:53             IPv6
//! unix//run/app.sock|0222  socket file with permission bits
//! unix/@name               abstract socket
//! fd/3, fdgram/4           inherited descriptors
//! ```
//!
//! A host is kept as it is written, placeholders too.

use std::fmt;
use std::net::IpAddr;

/// One address, or one per port of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// `tcp`, `tcp4`, `udp`, `unix`, `unixgram`, `fd`, …
    pub network: String,
    /// Host, socket path (with its permission bits) or descriptor.
    pub host: String,
    /// First port; 0 without one.
    pub start_port: u16,
    /// Last port.
    pub end_port: u16,
}

/// Permission bits of a socket file that states none.
const DEFAULT_MODE: u32 = 0o200;

impl NetworkAddress {
    /// Reads an address; the network is `tcp` and the port 0 if not given.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with_defaults(text, "tcp", 0)
    }

    /// Reads an address with other defaults.
    pub fn parse_with_defaults(text: &str, network: &str, port: u16) -> Result<Self, String> {
        let (given, host, ports) = split_network_address(text)?;
        let network = if given.is_empty() { network.to_owned() } else { given };
        if is_unix(&network) {
            split_permissions(&host)?;
        }
        if is_unix(&network) || is_fd(&network) {
            return Ok(Self { network, host, start_port: 0, end_port: 0 });
        }
        let (start_port, end_port) = match ports.as_str() {
            "" => (port, port),
            ports => parse_ports(ports)?,
        };
        Ok(Self { network, host, start_port, end_port })
    }

    /// Whether it is a Unix socket of any kind.
    pub fn is_unix(&self) -> bool {
        is_unix(&self.network)
    }

    /// Whether it is an inherited descriptor.
    pub fn is_fd(&self) -> bool {
        is_fd(&self.network)
    }

    /// Whether the address takes datagrams.
    pub fn is_datagram(&self) -> bool {
        self.network.starts_with("udp") || matches!(self.network.as_str(), "unixgram" | "fdgram")
    }

    /// Whether it can only be reached from this machine.
    pub fn is_loopback(&self) -> bool {
        self.is_unix()
            || self.is_fd()
            || self.host == "localhost"
            || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether it stands for every interface.
    pub fn is_wildcard_interface(&self) -> bool {
        self.host.is_empty() || self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// The host as an IP address, if it is one (a zone is dropped).
    pub fn ip(&self) -> Option<IpAddr> {
        let host = self.host.split('%').next().unwrap_or_default();
        host.parse().ok()
    }

    /// How many ports it stands for; 1 without ports.
    pub fn port_range_size(&self) -> u32 {
        if self.end_port < self.start_port {
            return 0;
        }
        u32::from(self.end_port - self.start_port) + 1
    }

    /// The address with exactly one of its ports.
    #[must_use]
    pub fn at(&self, offset: u16) -> Self {
        let port = self.start_port.saturating_add(offset);
        Self { start_port: port, end_port: port, ..self.clone() }
    }

    /// One address per port.
    pub fn expand(&self) -> Vec<Self> {
        (self.start_port..=self.end_port)
            .map(|port| Self { start_port: port, end_port: port, ..self.clone() })
            .collect()
    }

    /// `host:port` of the port at `offset`, or the path or descriptor.
    pub fn join_host_port(&self, offset: u16) -> String {
        if self.is_unix() || self.is_fd() {
            return self.host.clone();
        }
        join_host_port(&self.host, &self.start_port.saturating_add(offset).to_string())
    }

    /// The port or range, `0` without one.
    pub fn port(&self) -> String {
        if self.start_port == self.end_port {
            return self.start_port.to_string();
        }
        format!("{}-{}", self.start_port, self.end_port)
    }

    /// Path and permission bits of a socket file.
    pub fn unix_path_and_mode(&self) -> Result<(&str, u32), String> {
        split_permissions(&self.host)
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = if self.network == "tcp" { "" } else { &self.network };
        f.write_str(&join_network_address(network, &self.host, &self.port()))
    }
}

impl std::str::FromStr for NetworkAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

fn is_unix(network: &str) -> bool {
    network.starts_with("unix")
}

fn is_fd(network: &str) -> bool {
    network.starts_with("fd")
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let start = parse_port(start).map_err(|error| format!("invalid start port: {error}"))?;
    let end = parse_port(end).map_err(|error| format!("invalid end port: {error}"))?;
    if end < start {
        return Err("end port must not be less than start port".to_owned());
    }
    Ok((start, end))
}

fn parse_port(text: &str) -> Result<u16, String> {
    let quoted = format!("strconv.ParseUint: parsing {text:?}");
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{quoted}: invalid syntax"));
    }
    text.parse().map_err(|_| format!("{quoted}: value out of range"))
}

/// `path|0222` into path and bits.
fn split_permissions(host: &str) -> Result<(&str, u32), String> {
    let Some((path, bits)) = host.split_once('|') else {
        return Ok((host, DEFAULT_MODE));
    };
    let octal = !bits.is_empty() && bits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = match u32::from_str_radix(bits, 8) {
        Ok(mode) if octal => mode,
        _ => {
            let why = format!("strconv.ParseUint: parsing {bits:?}: invalid syntax");
            return Err(format!("could not parse octal permission bits in {host}: {why}"));
        }
    };
    if mode & 0o200 == 0 {
        let owner = [(0o400, 'r'), (0o200, 'w'), (0o100, 'x')]
            .map(|(bit, letter)| if mode & bit == 0 { '-' } else { letter });
        let owner: String = owner.iter().collect();
        return Err(format!(
            "owner of the socket requires '-w-' (write, octal: '2') permissions at least; got '{owner}' in {host}"
        ));
    }
    Ok((path, mode))
}

/// Network, host and port (or range) of an address; what is not given is empty.
pub fn split_network_address(text: &str) -> Result<(String, String, String), String> {
    let (network, rest) = match text.split_once('/') {
        Some((network, rest)) => (network.trim().to_lowercase(), rest),
        None => (String::new(), text),
    };
    if is_unix(&network) || is_fd(&network) {
        return Ok((network, rest.to_owned(), String::new()));
    }
    match split_host_port(rest) {
        Ok((host, port)) => Ok((network, host.to_owned(), port.to_owned())),
        Err(first) => {
            // Most often the port is missing: with one, is the rest right?
            let with_port = join_host_port(rest.trim_matches(['[', ']']), "0");
            match split_host_port(&with_port) {
                Ok((host, _)) => Ok((network, host.to_owned(), String::new())),
                Err(second) => Err(format!("{first}\n{second}")),
            }
        }
    }
}

/// The inverse of [`split_network_address`].
pub fn join_network_address(network: &str, host: &str, port: &str) -> String {
    let mut out = String::new();
    if !network.is_empty() {
        out.push_str(network);
        out.push('/');
    }
    if (!host.is_empty() && port.is_empty()) || is_unix(network) || is_fd(network) {
        out.push_str(host);
    } else if !port.is_empty() {
        out.push_str(&join_host_port(host, port));
    }
    out
}

/// `host:port`, with brackets around a host that has colons.
pub fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Splits `host:port` and takes brackets off, with Go's sentences for what is wrong.
pub fn split_host_port(text: &str) -> Result<(&str, &str), String> {
    let wrong = |why: &str| format!("address {text}: {why}");
    let Some(colon) = text.rfind(':') else {
        return Err(wrong("missing port in address"));
    };
    let (host, brackets_end) = if let Some(inner) = text.strip_prefix('[') {
        let end = inner.find(']').ok_or_else(|| wrong("missing ']' in address"))? + 1;
        if end + 1 == text.len() {
            return Err(wrong("missing port in address"));
        }
        if end + 1 != colon {
            let two = text[end + 1..].starts_with(':');
            return Err(wrong(if two {
                "too many colons in address"
            } else {
                "missing port in address"
            }));
        }
        (&text[1..end], end)
    } else {
        (&text[..colon], 0)
    };
    if brackets_end == 0 && host.contains(':') {
        return Err(wrong("too many colons in address"));
    }
    if text[usize::from(brackets_end > 0)..].contains('[') {
        return Err(wrong("unexpected '[' in address"));
    }
    if text[(brackets_end + usize::from(brackets_end > 0))..].contains(']') {
        return Err(wrong("unexpected ']' in address"));
    }
    Ok((host, &text[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{NetworkAddress, split_host_port};

    fn address(network: &str, host: &str, start_port: u16, end_port: u16) -> NetworkAddress {
        NetworkAddress { network: network.into(), host: host.into(), start_port, end_port }
    }

    #[test]
    fn addresses_are_read_and_written() {
        for (text, expected, display) in [
            ("", address("tcp", "", 0, 0), ":0"),
            (":", address("tcp", "", 0, 0), ":0"),
            (":1234", address("tcp", "", 1234, 1234), ":1234"),
            ("localhost:1234-1236", address("tcp", "localhost", 1234, 1236), "localhost:1234-1236"),
            ("localhost", address("tcp", "localhost", 0, 0), "localhost:0"),
            ("tcp/[::1]:80", address("tcp", "::1", 80, 80), "[::1]:80"),
            ("[::1]", address("tcp", "::1", 0, 0), "[::1]:0"),
            ("::1", address("tcp", "::1", 0, 0), "[::1]:0"),
            ("UDP/:53", address("udp", "", 53, 53), "udp/:53"),
            ("unix//a/b:1|0222", address("unix", "/a/b:1|0222", 0, 0), "unix//a/b:1|0222"),
            ("unix/@name", address("unix", "@name", 0, 0), "unix/@name"),
            ("unixgram//s", address("unixgram", "/s", 0, 0), "unixgram//s"),
            ("fd/3", address("fd", "3", 0, 0), "fd/3"),
            ("{env.HOST}:80", address("tcp", "{env.HOST}", 80, 80), "{env.HOST}:80"),
            ("{env.ADDR}", address("tcp", "{env.ADDR}", 0, 0), "{env.ADDR}:0"),
        ] {
            let parsed = NetworkAddress::parse(text).unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string(), display);
        }
    }

    #[test]
    fn wrong_addresses() {
        for (text, part) in [
            (":x", "invalid start port: strconv.ParseUint: parsing \"x\": invalid syntax"),
            (
                ":99999",
                "invalid start port: strconv.ParseUint: parsing \"99999\": value out of range",
            ),
            (":1-x", "invalid end port"),
            (":2-1", "end port must not be less than start port"),
            ("unix//s|9", "could not parse octal permission bits in /s|9"),
            (
                "unix//s|0444",
                "owner of the socket requires '-w-' (write, octal: '2') permissions at least; got 'r--' in /s|0444",
            ),
            ("[::1]x:80", "missing port in address"),
        ] {
            let error = NetworkAddress::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn ranges_expand() {
        let range = NetworkAddress::parse(":80-82").unwrap();
        assert_eq!(range.port_range_size(), 3);
        assert_eq!(range.expand().len(), 3);
        assert_eq!(range.at(2).to_string(), ":82");
        assert_eq!(range.join_host_port(1), ":81");
        let all = NetworkAddress::parse(":0-65535").unwrap();
        assert_eq!(all.port_range_size(), 65536);
        let socket = NetworkAddress::parse("unix//s|0660").unwrap();
        assert_eq!(socket.expand().len(), 1);
        assert_eq!(socket.unix_path_and_mode(), Ok(("/s", 0o660)));
        assert_eq!(socket.join_host_port(0), "/s|0660");
        assert!(socket.is_loopback() && socket.is_unix());
    }

    #[test]
    fn defaults_and_kinds() {
        let address = NetworkAddress::parse_with_defaults("a", "udp", 9).unwrap();
        assert_eq!(address.to_string(), "udp/a:9");
        assert!(address.is_datagram());
        assert!(NetworkAddress::parse("[::]:1").unwrap().is_wildcard_interface());
        assert!(NetworkAddress::parse("127.0.0.2:1").unwrap().is_loopback());
    }

    #[test]
    fn any_text_is_answered() {
        for text in [
            "[", "]", "[]", "[]:", "[:", "]:", "a]:1", "a[:1", "é:1", "[é]:é", "[a[b]:1", "[[a]:1",
            "[a]]:1",
        ] {
            let _ = split_host_port(text);
            let _ = NetworkAddress::parse(text);
        }
        assert!(split_host_port("[a]]:1").is_err());
        assert!(split_host_port("a]:1").unwrap_err().contains("unexpected ']'"));
        assert!(split_host_port("[]:1").is_ok());
    }
}
