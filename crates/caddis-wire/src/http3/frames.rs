//! Frames (RFC 9114 §7), read as they come: payloads of DATA are handed out in the pieces that
//! arrive, field sections whole and up to a limit, everything unknown is skipped unseen.

use bytes::{Buf, Bytes, BytesMut};

use super::{Http3Error, code, varint};

/// Type of DATA frames.
pub const FRAME_DATA: u64 = 0x00;
/// Type of HEADERS frames.
pub const FRAME_HEADERS: u64 = 0x01;
const FRAME_CANCEL_PUSH: u64 = 0x03;
const FRAME_SETTINGS: u64 = 0x04;
const FRAME_PUSH_PROMISE: u64 = 0x05;
const FRAME_GOAWAY: u64 = 0x07;
const FRAME_MAX_PUSH_ID: u64 = 0x0d;
/// PRIORITY, PING, WINDOW_UPDATE and CONTINUATION of HTTP/2 (RFC 9114 §7.2.8).
const FRAMES_OF_HTTP2: [u64; 4] = [0x02, 0x06, 0x08, 0x09];

const SETTING_MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const SETTING_ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
/// Settings of HTTP/2 that are not to be sent (RFC 9114 §7.2.4.1).
const SETTINGS_OF_HTTP2: std::ops::RangeInclusive<u64> = 0x02..=0x05;

/// More than this has no reason to be in a frame of the control stream.
const MAX_CONTROL_PAYLOAD: u64 = 4096;

/// Type and length at the start of a frame, gathered over pieces.
#[derive(Debug, Default)]
struct FrameHead {
    bytes: [u8; 2 * varint::MAX_LEN],
    len: usize,
}

impl FrameHead {
    /// Takes bytes until type and length are complete.
    fn take(&mut self, input: &mut Bytes) -> Option<(u64, u64)> {
        while let Some(&byte) = input.first() {
            // Two complete integers fit exactly, so there is room for one more byte.
            let slot = self.bytes.get_mut(self.len)?;
            *slot = byte;
            self.len += 1;
            input.advance(1);
            let bytes = &self.bytes[..self.len];
            if let Some((kind, used)) = varint::read(bytes)
                && let Some((length, _)) = varint::read(&bytes[used..])
            {
                self.len = 0;
                return Some((kind, length));
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A piece of a request stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A field section: the head first, trailers after the data.
    Headers(Bytes),
    /// Some of the body, never empty.
    Data(Bytes),
}

/// Reads the frames of a request stream, whoever sends them.
#[derive(Debug)]
pub struct RequestFrames {
    head: FrameHead,
    state: State,
    phase: Phase,
    max_section: usize,
}

#[derive(Debug)]
enum State {
    Head,
    Data(u64),
    Skip(u64),
    Section { left: usize, block: BytesMut },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Body,
    Trailers,
}

impl RequestFrames {
    /// For a stream whose field sections may have so many bytes as they are encoded.
    pub fn new(max_section: usize) -> Self {
        Self { head: FrameHead::default(), state: State::Head, phase: Phase::Start, max_section }
    }

    /// The next piece out of `input`, which is advanced; `None` when more input is needed.
    ///
    /// # Errors
    /// Frames that have no place here, field sections beyond the limit.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Part>, Http3Error> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some((kind, length)) = self.head.take(input) else { return Ok(None) };
                    self.state = self.begin(kind, length)?;
                }
                State::Data(0) | State::Skip(0) => self.state = State::Head,
                State::Section { left: 0, block } => {
                    let block = std::mem::take(block).freeze();
                    return Ok(Some(self.section(block)));
                }
                _ if input.is_empty() => return Ok(None),
                State::Data(left) => {
                    let data = input.split_to(at_most(input.len(), *left));
                    *left -= data.len() as u64;
                    return Ok(Some(Part::Data(data)));
                }
                State::Skip(left) => {
                    let skipped = at_most(input.len(), *left);
                    input.advance(skipped);
                    *left -= skipped as u64;
                }
                State::Section { left, block } if block.is_empty() && *left <= input.len() => {
                    let block = input.split_to(*left);
                    return Ok(Some(self.section(block)));
                }
                State::Section { left, block } => {
                    let piece = input.split_to(input.len().min(*left));
                    *left -= piece.len();
                    block.extend_from_slice(&piece);
                }
            }
        }
    }

    /// To be asked when the client has ended the stream.
    ///
    /// # Errors
    /// A frame broke off, or there was no head.
    pub fn end(&self) -> Result<(), Http3Error> {
        if self.phase == Phase::Start {
            return Err(Http3Error::Stream(code::REQUEST_INCOMPLETE, "stream without a message"));
        }
        match self.state {
            State::Head | State::Data(0) | State::Skip(0) if self.head.is_empty() => Ok(()),
            _ => Err(Http3Error::Connection(code::FRAME_ERROR, "frame broke off")),
        }
    }

    /// Says that the head was that of an informational answer: another one follows it.
    pub fn was_informational(&mut self) {
        self.phase = Phase::Start;
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<State, Http3Error> {
        match kind {
            FRAME_DATA if self.phase == Phase::Body => Ok(State::Data(length)),
            FRAME_HEADERS if self.phase != Phase::Trailers => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > self.max_section {
                    return Err(Http3Error::TooLarge);
                }
                Ok(State::Section { left: length, block: BytesMut::new() })
            }
            FRAME_DATA | FRAME_HEADERS | FRAME_CANCEL_PUSH | FRAME_SETTINGS
            | FRAME_PUSH_PROMISE | FRAME_GOAWAY | FRAME_MAX_PUSH_ID => Err(UNEXPECTED),
            kind if FRAMES_OF_HTTP2.contains(&kind) => Err(UNEXPECTED),
            _ => Ok(State::Skip(length)),
        }
    }

    fn section(&mut self, block: Bytes) -> Part {
        self.state = State::Head;
        self.phase = if self.phase == Phase::Start { Phase::Body } else { Phase::Trailers };
        Part::Headers(block)
    }
}

const UNEXPECTED: Http3Error =
    Http3Error::Connection(code::FRAME_UNEXPECTED, "frame has no place on this stream");

fn at_most(available: usize, left: u64) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// Reads and checks the frames of the peer's control stream. None of a client's asks for anything;
/// of a server's, GOAWAY does.
#[derive(Debug, Default)]
pub struct ControlFrames {
    head: FrameHead,
    settings: bool,
    skip: u64,
    /// Type, bytes to come, payload.
    payload: Option<(u64, usize, Vec<u8>)>,
    max_push_id: u64,
    of_server: bool,
    goaway: Option<u64>,
}

impl ControlFrames {
    /// For the control stream of a server.
    pub fn of_server() -> Self {
        Self { of_server: true, ..Self::default() }
    }

    /// The first stream whose request a server does not answer any more (RFC 9114 §5.2).
    pub fn goaway(&self) -> Option<u64> {
        self.goaway
    }

    /// Reads all of the input.
    ///
    /// # Errors
    /// What RFC 9114 §6.2.1 and §7.2 do not allow.
    pub fn read(&mut self, mut input: Bytes) -> Result<(), Http3Error> {
        loop {
            if self.skip > 0 && !input.is_empty() {
                let skipped = at_most(input.len(), self.skip);
                input.advance(skipped);
                self.skip -= skipped as u64;
            }
            if let Some((kind, left, payload)) = &mut self.payload {
                let piece = input.split_to(input.len().min(*left));
                payload.extend_from_slice(&piece);
                *left -= piece.len();
                if *left > 0 {
                    return Ok(());
                }
                let (kind, payload) = (*kind, std::mem::take(payload));
                self.payload = None;
                self.frame(kind, &payload)?;
            }
            if input.is_empty() {
                return Ok(());
            }
            if let Some((kind, length)) = self.head.take(&mut input) {
                self.begin(kind, length)?;
            }
        }
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Http3Error> {
        if !self.settings && kind != FRAME_SETTINGS {
            return Err(Http3Error::Connection(
                code::MISSING_SETTINGS,
                "settings do not come first",
            ));
        }
        match kind {
            FRAME_DATA | FRAME_HEADERS | FRAME_PUSH_PROMISE => Err(UNEXPECTED),
            FRAME_MAX_PUSH_ID if self.of_server => Err(UNEXPECTED),
            kind if FRAMES_OF_HTTP2.contains(&kind) => Err(UNEXPECTED),
            FRAME_SETTINGS if self.settings => Err(UNEXPECTED),
            FRAME_SETTINGS | FRAME_GOAWAY | FRAME_MAX_PUSH_ID | FRAME_CANCEL_PUSH => {
                if length > MAX_CONTROL_PAYLOAD {
                    return Err(Http3Error::Connection(code::EXCESSIVE_LOAD, "frame is too long"));
                }
                self.payload = Some((kind, at_most(usize::MAX, length), Vec::new()));
                Ok(())
            }
            _ => {
                self.skip = length;
                Ok(())
            }
        }
    }

    fn frame(&mut self, kind: u64, payload: &[u8]) -> Result<(), Http3Error> {
        if kind == FRAME_SETTINGS {
            self.settings = true;
            return check_settings(payload);
        }
        match varint::read(payload) {
            Some((id, used)) if used == payload.len() => {
                if kind == FRAME_GOAWAY && self.of_server {
                    // Streams of requests are those whose ids end in two zero bits.
                    if id % 4 != 0 || self.goaway.is_some_and(|before| before < id) {
                        return Err(Http3Error::Connection(code::ID_ERROR, "GOAWAY grows"));
                    }
                    self.goaway = Some(id);
                }
                if kind == FRAME_CANCEL_PUSH && self.of_server {
                    return Err(Http3Error::Connection(code::ID_ERROR, "nothing was to be pushed"));
                }
                if kind == FRAME_MAX_PUSH_ID {
                    if id < self.max_push_id {
                        return Err(Http3Error::Connection(code::ID_ERROR, "MAX_PUSH_ID shrinks"));
                    }
                    self.max_push_id = id;
                }
                Ok(())
            }
            _ => Err(Http3Error::Connection(code::FRAME_ERROR, "frame is malformed")),
        }
    }
}

fn check_settings(mut payload: &[u8]) -> Result<(), Http3Error> {
    let bad = Http3Error::Connection(code::SETTINGS_ERROR, "setting is not allowed");
    let mut seen: Vec<u64> = Vec::new();
    while !payload.is_empty() {
        let malformed = Http3Error::Connection(code::FRAME_ERROR, "frame is malformed");
        let (id, used) = varint::read(payload).ok_or(malformed)?;
        let (_, value) = varint::read(&payload[used..]).ok_or(malformed)?;
        payload = &payload[used + value..];
        if SETTINGS_OF_HTTP2.contains(&id) {
            return Err(bad);
        }
        // A client that pads its settings is not worth a long search.
        if seen.len() < 64 {
            if seen.contains(&id) {
                return Err(bad);
            }
            seen.push(id);
        }
    }
    Ok(())
}

/// The type at the start of a unidirectional stream, and its length; `None` where bytes are
/// missing.
pub fn stream_type(bytes: &[u8]) -> Option<(u64, usize)> {
    varint::read(bytes)
}

/// Writes type and length of a frame; so many bytes of payload are to follow.
pub fn write_frame_head(out: &mut Vec<u8>, kind: u64, length: u64) {
    varint::write(out, kind);
    varint::write(out, length);
}

/// Writes the beginning of a control stream: its type, and a server's settings.
pub fn write_settings(out: &mut Vec<u8>, max_field_section: u64) {
    let connect = (SETTING_ENABLE_CONNECT_PROTOCOL, 1);
    write_all(out, &[(SETTING_MAX_FIELD_SECTION_SIZE, max_field_section), connect]);
}

/// Writes the beginning of a control stream: its type, and a client's settings.
pub fn write_client_settings(out: &mut Vec<u8>, max_field_section: u64) {
    write_all(out, &[(SETTING_MAX_FIELD_SECTION_SIZE, max_field_section)]);
}

fn write_all(out: &mut Vec<u8>, settings: &[(u64, u64)]) {
    let mut payload = Vec::with_capacity(16);
    for &(id, value) in settings {
        varint::write(&mut payload, id);
        varint::write(&mut payload, value);
    }
    varint::write(out, 0x00);
    write_frame_head(out, FRAME_SETTINGS, payload.len() as u64);
    out.extend_from_slice(&payload);
}

/// Writes GOAWAY: requests on streams from this id on are not answered (RFC 9114 §5.2).
pub fn write_goaway(out: &mut Vec<u8>, id: u64) {
    let mut payload = Vec::with_capacity(varint::MAX_LEN);
    varint::write(&mut payload, id.min((1 << 62) - 4));
    write_frame_head(out, FRAME_GOAWAY, payload.len() as u64);
    out.extend_from_slice(&payload);
}
