//! HTTP/2 frame by frame, for what no proper client would send.

use super::Wire;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// The status of a response's HEADERS: indexed, or as three digits somewhere.
    pub fn status(&self) -> Option<u16> {
        if self.kind != HEADERS {
            return None;
        }
        let indexed = [(0x88, 200), (0x89, 204), (0x8a, 206), (0x8b, 304), (0x8c, 400)];
        let more = [(0x8d, 404), (0x8e, 500)];
        let start = self.payload.iter().position(|byte| byte & 0xe0 != 0x20)?;
        let first = self.payload[start];
        if let Some((_, status)) = indexed.iter().chain(&more).find(|(byte, _)| *byte == first) {
            return Some(*status);
        }
        // A literal with an indexed name; three digits, plain or in Huffman code of 5 or 6 bits.
        let length = self.payload.get(start + 1)?;
        let value = self.payload.get(start + 2..start + 2 + usize::from(length & 0x7f))?;
        if length & 0x80 == 0 {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
        let mut bits = value.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let mut left = value.len() * 8;
        let mut digits = 0;
        for _ in 0..3 {
            let short = (bits >> (left.checked_sub(5)?)) & 0x1f;
            let (digit, width) =
                if short <= 2 { (short, 5) } else { ((bits >> (left.checked_sub(6)?)) & 0x3f, 6) };
            let digit = if width == 5 { digit } else { digit - 0x19 + 3 };
            digits = digits * 10 + digit as u16;
            left -= width;
            bits &= (1 << left) - 1;
        }
        Some(digits)
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without indexing and without Huffman coding.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return block.push(value as u8);
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(value as u8 | 128);
        value >>= 7;
    }
    block.push(value as u8);
}

/// The fields of a request, with more behind.
pub fn request_fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
    ];
    all.extend(more);
    fields(&all)
}

/// A connection on which the preface was spoken.
pub struct Frames(pub Wire);

impl Frames {
    /// Connects in clear text with prior knowledge and these settings.
    pub fn connect(port: u16, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self(Wire::connect(port));
        frames.0.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        frames.send(SETTINGS, 0, 0, &payload);
        frames
    }

    /// Sends a frame; whether it went out.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.0.send(frame(kind, flags, stream, payload))
    }

    /// Sends a request without a body.
    pub fn get(&mut self, stream: u32, path: &str) -> bool {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &request_fields("GET", path, &[]))
    }

    /// The next frame; `None` once the connection is closed.
    pub fn next(&mut self) -> Option<Frame> {
        let head = self.0.take(9);
        if head.len() < 9 {
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.0.take(length);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that a test wants; `None` once the connection is closed.
    pub fn wait(&mut self, mut wanted: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == SETTINGS && frame.flags == 0 {
                self.send(SETTINGS, 1, 0, &[]);
            }
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The whole answer of a stream: status and body; `None` when it was reset or refused.
    pub fn answer(&mut self, stream: u32) -> Option<(u16, Vec<u8>)> {
        let (mut status, mut body) = (None, Vec::new());
        loop {
            let frame = self.wait(|frame| frame.stream == stream || frame.kind == GOAWAY)?;
            match frame.kind {
                RST_STREAM => return None,
                GOAWAY if frame.code() != Some(0) => return None,
                HEADERS => status = status.or(frame.status()),
                DATA => body.extend(&frame.payload),
                _ => {}
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 && frame.kind <= HEADERS {
                return Some((status?, body));
            }
        }
    }
}
