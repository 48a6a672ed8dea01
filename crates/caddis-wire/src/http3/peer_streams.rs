//! The peer's unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2): what they are, and what may be
//! on them.

use bytes::{Buf, Bytes};

use super::{ControlFrames, Http3Error, code, stream_type};

const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const ENCODER: u64 = 0x02;
const DECODER: u64 = 0x03;
/// All there is to say about a table of size zero is that its size is zero.
const NO_TABLE: u8 = 0x20;

/// All streams of one peer: each kind that is needed comes once.
#[derive(Debug)]
pub struct PeerStreams {
    of_server: bool,
    seen: [bool; 4],
}

impl PeerStreams {
    /// Those of a client.
    pub fn of_client() -> Self {
        Self { of_server: false, seen: [false; 4] }
    }

    /// Those of a server.
    pub fn of_server() -> Self {
        Self { of_server: true, ..Self::of_client() }
    }
}

/// One of them.
#[derive(Debug, Default)]
pub struct PeerStream {
    /// The bytes of the type, until it is known.
    begin: Vec<u8>,
    kind: Option<u64>,
    control: ControlFrames,
}

/// Whether anybody cares for the rest of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is to be read.
    Wanted,
    /// The stream is of an unknown type: it is to be stopped with `STREAM_CREATION_ERROR`.
    Unwanted,
}

impl PeerStream {
    /// Takes what came.
    ///
    /// # Errors
    /// What is wrong with it, all of the connection.
    pub fn read(&mut self, all: &mut PeerStreams, mut data: Bytes) -> Result<Rest, Http3Error> {
        let kind = match self.kind {
            Some(kind) => kind,
            None => {
                let before = self.begin.len();
                // A type has eight bytes at the most.
                self.begin.extend_from_slice(&data[..data.len().min(8)]);
                let Some((kind, used)) = stream_type(&self.begin) else { return Ok(Rest::Wanted) };
                data.advance(used - before);
                self.begin = Vec::new();
                self.kind = Some(kind);
                self.begin(all, kind)?;
                kind
            }
        };
        match kind {
            CONTROL => self.control.read(data)?,
            ENCODER if data.iter().any(|byte| *byte != NO_TABLE) => {
                let code = code::QPACK_ENCODER_STREAM_ERROR;
                return Err(Http3Error::Connection(code, "there is no dynamic table"));
            }
            // Acknowledgements of nothing, and cancelled streams.
            ENCODER | DECODER => {}
            _ => return Ok(Rest::Unwanted),
        }
        Ok(Rest::Wanted)
    }

    /// To be called when the peer has ended the stream, or reset it.
    ///
    /// # Errors
    /// The stream has to last as long as the connection. One may end before it says what it is.
    pub fn end(&self) -> Result<(), Http3Error> {
        match self.kind {
            Some(CONTROL | ENCODER | DECODER) => {
                Err(Http3Error::Connection(code::CLOSED_CRITICAL_STREAM, "stream is needed"))
            }
            _ => Ok(()),
        }
    }

    /// The first stream whose request a server does not answer any more (RFC 9114 §5.2).
    pub fn goaway(&self) -> Option<u64> {
        self.control.goaway()
    }

    /// Sees whether such a stream may be there.
    fn begin(&mut self, all: &mut PeerStreams, kind: u64) -> Result<(), Http3Error> {
        if all.of_server {
            self.control = ControlFrames::of_server();
        }
        let seen = usize::try_from(kind).ok().and_then(|kind| all.seen.get_mut(kind));
        let repeated = seen.is_some_and(|seen| std::mem::replace(seen, true));
        let (code, why) = match kind {
            // None was allowed (RFC 9114 §4.6).
            PUSH if all.of_server => (code::ID_ERROR, "nothing was to be pushed"),
            PUSH => (code::STREAM_CREATION_ERROR, "clients do not push"),
            _ if repeated => (code::STREAM_CREATION_ERROR, "stream is repeated"),
            _ => return Ok(()),
        };
        Err(Http3Error::Connection(code, why))
    }
}
