//! `net`: lines to a socket.
//!
//! ```text
//! output net <address> {
//!     dial_timeout <duration>
//!     soft_start
//! }
//! ```
//! JSON: `{"output": "net", "address": "tcp/localhost:9000", "dial_timeout": 0, "soft_start": false}`.
//! A lost connection is dialled again, at most every ten seconds; meanwhile lines go to stderr.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    time::{Duration, Instant},
};

use caddis_config::{ConfigError, NetworkAddress};
use caddis_core::{Template, error::plain};
use serde::Deserialize;
use serde_json::Value as Json;

use super::Sink;

const REDIAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    address: String,
    dial_timeout: caddis_config::Duration,
    soft_start: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetPlan {
    pub(crate) address: NetworkAddress,
    timeout: Duration,
    soft_start: bool,
}

impl NetPlan {
    pub(crate) fn compile(json: Json) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json)?;
        let text = Template::render_global_all(&config.address).map_err(|error| {
            ConfigError::new("address", format!("invalid host in address: {error}"))
        })?;
        let address = NetworkAddress::parse(&text).map_err(|error| {
            ConfigError::new("address", format!("parsing network address '{text}': {error}"))
        })?;
        if !address.is_unix() && address.start_port != address.end_port {
            return Err(ConfigError::new("address", "multiple ports not supported"));
        }
        if config.dial_timeout.0 < 0 {
            return Err(ConfigError::new("dial_timeout", "timeout cannot be less than 0"));
        }
        let timeout = config.dial_timeout.positive().unwrap_or(TIMEOUT);
        Ok(Self { address, timeout, soft_start: config.soft_start })
    }

    /// A connection, or why there is none, as Go says it.
    fn dial(&self) -> io::Result<Connection> {
        self.connect().map_err(|error| {
            let (network, why) = (&self.address.network, plain(&error));
            let place = match self.address.is_unix() {
                true => self.address.host.clone(),
                false => self.address.join_host_port(0),
            };
            io::Error::new(error.kind(), format!("dial {network} {place}: connect: {why}"))
        })
    }

    fn connect(&self) -> io::Result<Connection> {
        let address = &self.address;
        if address.is_unix() {
            let path = address.host.split('|').next().unwrap_or_default();
            if address.network == "unixgram" {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                return Ok(Connection::UnixDatagram(socket));
            }
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            return Ok(Connection::Unix(stream));
        }
        let target = address.join_host_port(0);
        let candidates = target.to_socket_addrs()?.filter(|ip| match address.network.as_str() {
            "tcp4" | "udp4" => ip.is_ipv4(),
            "tcp6" | "udp6" => ip.is_ipv6(),
            _ => true,
        });
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address for {target}"));
        for ip in candidates {
            let dialled = if address.network.starts_with("udp") {
                let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                UdpSocket::bind(any).and_then(|socket| {
                    socket.connect(ip)?;
                    Ok(Connection::Udp(socket))
                })
            } else {
                TcpStream::connect_timeout(&ip, self.timeout).and_then(|stream| {
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    Ok(Connection::Tcp(stream))
                })
            };
            match dialled {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

enum Connection {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unix(UnixStream),
    UnixDatagram(UnixDatagram),
}

impl Connection {
    /// Whether the peer has closed the connection. A write would still succeed then, and the line be
    /// lost. What the peer sends is not looked at.
    fn is_closed(&mut self) -> bool {
        fn ended(stream: &mut impl Read) -> bool {
            let mut nobody = [0; 512];
            loop {
                match stream.read(&mut nobody) {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
                }
            }
        }
        let (blocks, ended) = match self {
            Self::Tcp(stream) => {
                let _ = stream.set_nonblocking(true);
                let ended = ended(stream);
                (stream.set_nonblocking(false), ended)
            }
            Self::Unix(stream) => {
                let _ = stream.set_nonblocking(true);
                let ended = ended(stream);
                (stream.set_nonblocking(false), ended)
            }
            Self::Udp(_) | Self::UnixDatagram(_) => return false,
        };
        ended || blocks.is_err()
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(line),
            Self::Unix(stream) => stream.write_all(line),
            Self::Udp(socket) => socket.send(line).map(drop),
            Self::UnixDatagram(socket) => socket.send(line).map(drop),
        }
    }
}

pub(crate) struct NetSink {
    plan: NetPlan,
    connection: Option<Connection>,
    /// When it was tried last; not at all yet after a soft start.
    dialled: Option<Instant>,
}

impl NetSink {
    pub(crate) fn open(plan: &NetPlan) -> io::Result<Self> {
        let connection = match plan.dial() {
            Ok(connection) => Some(connection),
            Err(error) if plan.soft_start => {
                super::complain(&format!(
                    "unable to open log writer {}: {error}; entries are written here until it \
                     answers",
                    plan.address
                ));
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { plan: plan.clone(), connection, dialled: None })
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(connection) = &mut self.connection {
            if connection.send(line).is_ok() {
                return Ok(());
            }
            self.connection = None;
        }
        if self.dialled.is_some_and(|dialled| dialled.elapsed() < REDIAL) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.dialled = Some(Instant::now());
        let mut connection = self.plan.dial()?;
        connection.send(line)?;
        self.connection = Some(connection);
        Ok(())
    }
}

impl Sink for NetSink {
    fn write(&mut self, lines: &[u8], ends: &[usize]) -> usize {
        if self.connection.as_mut().is_some_and(Connection::is_closed) {
            self.connection = None;
        }
        let mut from = 0;
        let mut lost = 0;
        for end in ends {
            let line = &lines[from..*end];
            from = *end;
            if self.send(line).is_err() {
                lost += 1;
                let _ = io::stderr().write_all(line);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::{TcpListener, UdpSocket},
        time::{Duration, Instant},
    };

    use serde_json::json;

    use super::{NetPlan, NetSink};
    use crate::writers::Sink;

    #[test]
    fn one_packet_a_line() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp/{}", server.local_addr().unwrap());
        let plan = NetPlan::compile(json!({"address": address})).unwrap();
        NetSink::open(&plan).unwrap().write(b"one\ntwo\n", &[4, 8]);
        let mut packet = [0; 64];
        for expected in [b"one\n", b"two\n"] {
            let length = server.recv(&mut packet).unwrap();
            assert_eq!(&packet[..length], expected);
        }
    }

    #[test]
    fn a_peer_that_comes_back_misses_nothing() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp/{}", server.local_addr().unwrap());
        let plan = NetPlan::compile(json!({"address": address})).unwrap();
        let mut sink = NetSink::open(&plan).unwrap();
        let read = |server: &TcpListener| BufReader::new(server.accept().unwrap().0);
        let mut peer = read(&server);
        let mut line = String::new();
        assert_eq!(sink.write(b"one\n", &[4]), 0);
        peer.read_line(&mut line).unwrap();
        // The peer ends; its end arrives before the next line is written.
        drop(peer);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !sink.connection.as_mut().unwrap().is_closed() {
            assert!(Instant::now() < deadline, "the end never came");
        }
        assert_eq!(sink.write(b"two\nthree\n", &[4, 10]), 0);
        let mut peer = read(&server);
        peer.read_line(&mut line).unwrap();
        peer.read_line(&mut line).unwrap();
        assert_eq!(line, "one\ntwo\nthree\n");
        // Away for good: entries are counted, and dialling is not tried with each of them.
        drop((peer, server));
        while !sink.connection.as_mut().unwrap().is_closed() {
            assert!(Instant::now() < deadline, "the end never came");
        }
        assert_eq!(sink.write(b"four\nfive\n", &[5, 10]), 2);
    }

    #[test]
    fn a_soft_start_dials_with_the_first_line() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        drop(server);
        let config = json!({"address": format!("tcp/{address}")});
        assert!(NetSink::open(&NetPlan::compile(config).unwrap()).is_err());
        let config = json!({"address": format!("tcp/{address}"), "soft_start": true});
        let mut sink = NetSink::open(&NetPlan::compile(config).unwrap()).unwrap();
        let server = TcpListener::bind(address).unwrap();
        assert_eq!(sink.write(b"one\n", &[4]), 0);
        let mut line = String::new();
        BufReader::new(server.accept().unwrap().0).read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
    }

    #[test]
    fn wrong_addresses_are_refused() {
        let error = NetPlan::compile(json!({"address": "{env.CADDIS_UNSET}:1"})).unwrap_err();
        let want = "invalid host in address: evaluated placeholder {env.CADDIS_UNSET} is empty";
        assert_eq!(error.message, want);
        let error = NetPlan::compile(json!({"address": "localhost:1-5"})).unwrap_err();
        assert_eq!(error.message, "multiple ports not supported");
        let error = NetPlan::compile(json!({"address": "x:1", "dial_timeout": -1})).unwrap_err();
        assert_eq!(error.message, "timeout cannot be less than 0");
    }
}
