//! One connection, spoken byte by byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use super::Answer;

/// What bytes can be read from and written to.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A connection with what was read of it and not yet taken.
pub struct Wire {
    stream: Box<dyn Stream>,
    tcp: Option<TcpStream>,
    seen: Vec<u8>,
}

impl Wire {
    /// Connects to a port of this machine; reads give up after ten seconds.
    pub fn connect(port: u16) -> Self {
        Self::tcp(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    /// Connects from an address of the loopback network.
    pub fn connect_from(source: &str, port: u16) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let source: SocketAddr = format!("{source}:0").parse().unwrap();
        socket.bind(&source.into()).unwrap();
        let server: SocketAddr = ([127, 0, 0, 1], port).into();
        socket.connect(&server.into()).unwrap();
        Self::tcp(socket.into())
    }

    /// Wraps a TCP stream.
    pub fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        let copy = stream.try_clone().unwrap();
        Self { stream: Box::new(stream), tcp: Some(copy), seen: Vec::new() }
    }

    /// Wraps any other stream.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), tcp: None, seen: Vec::new() }
    }

    /// Sends; whether it went out.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Lets a send fail that the peer does not take for so long.
    pub fn write_limit(&self, limit: Duration) {
        self.tcp.as_ref().unwrap().set_write_timeout(Some(limit)).unwrap();
    }

    /// The same connection for another thread; what was read and not yet taken stays here.
    pub fn copy(&self) -> Self {
        Self::tcp(self.tcp.as_ref().unwrap().try_clone().unwrap())
    }

    /// Says that nothing more is sent.
    pub fn half_close(&self) {
        self.tcp.as_ref().unwrap().shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset instead of a close.
    pub fn reset(self) {
        let tcp = self.tcp.as_ref().unwrap();
        socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16384];
        match self.stream.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.seen.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }

    /// Takes everything up to and with a mark; what there was when the peer closed before.
    pub fn until(&mut self, mark: &str) -> String {
        let mark = mark.as_bytes();
        loop {
            if let Some(at) = self.seen.windows(mark.len()).position(|part| part == mark) {
                let taken: Vec<u8> = self.seen.drain(..at + mark.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            if !self.fill() {
                let taken = std::mem::take(&mut self.seen);
                return String::from_utf8_lossy(&taken).into_owned();
            }
        }
    }

    /// Takes so many bytes, or fewer when the peer closes before.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.seen.len() < count && self.fill() {}
        let count = count.min(self.seen.len());
        self.seen.drain(..count).collect()
    }

    /// Takes a head with its empty line.
    pub fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// Takes all that is left until the peer closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.seen)
    }

    /// Whether the peer has closed with nothing more to take.
    pub fn ended(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Takes one chunk of a chunked body; empty at its end, `None` for what is no chunk.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.until("\r\n");
        let size = usize::from_str_radix(line.strip_suffix("\r\n")?, 16).ok()?;
        let chunk = self.take(size);
        if size > 0 && self.take(2) != b"\r\n" {
            return None;
        }
        Some(chunk)
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Some(body);
            }
            body.extend(chunk);
        }
    }

    /// Takes one whole answer by its framing.
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut answer = Answer::parse(head.as_bytes());
        if answer.status == 304 || answer.status == 204 || answer.status / 100 == 1 {
            return answer;
        }
        let body = if answer.header("transfer-encoding") == Some("chunked") {
            let body = self.chunks().unwrap_or_default();
            self.until("\r\n");
            body
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            self.take(length)
        } else {
            self.rest()
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    }

    /// Takes one whole request by its framing: head and body.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head();
        if !head.ends_with("\r\n\r\n") {
            return None;
        }
        let lower = head.to_lowercase();
        if lower.contains("transfer-encoding: chunked") {
            let body = self.chunks()?;
            // Trailers stay visible behind the head.
            let mut head = head;
            loop {
                let line = self.until("\r\n");
                match line.as_str() {
                    "\r\n" => return Some((head, body)),
                    line if line.ends_with("\r\n") => head.push_str(line),
                    _ => return None,
                }
            }
        }
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        let body = self.take(length);
        (body.len() == length).then_some((head, body))
    }
}
