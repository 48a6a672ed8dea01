//! Hidden client hellos over TCP: read before the TLS library reads them, and put in the place of
//! those that hide them. QUIC does the same in its session.

use std::io;

use bytes::{Buf, BytesMut};
use caddis_core::exchange::Io;
use caddis_tls::ech::{CLIENT_HELLO, EchKeyring, HANDSHAKE, MAX_RECORD, Opened, open, records};
use tokio::io::AsyncReadExt;

use crate::{
    h1::Rewind,
    server::{ILLEGAL_PARAMETER, alert},
};

/// No hello is longer.
pub(crate) const MAX_HELLO: usize = 1 << 16;

/// What is known of a client's hello.
pub(crate) enum Hello {
    /// It hides nothing that matters here.
    Visible,
    /// It hides what no key opens.
    Sealed,
    /// It was hidden.
    Hidden {
        /// The handshake message.
        inner: Vec<u8>,
        /// What the client sent.
        outer: BytesMut,
    },
}

/// Reads a client's hello. Where it hides one for this server, that one is read next from the
/// stream that is given back; all else comes as it was sent, and is judged by the TLS library.
pub(crate) async fn unveil<S: Io>(
    keys: &EchKeyring,
    mut io: Rewind<S>,
) -> io::Result<(Rewind<S>, Hello)> {
    let mut reader = HelloReader::default();
    let whole = loop {
        match reader.read(&io.before) {
            Step::Whole => break true,
            Step::Odd => break false,
            Step::More => {}
        }
        if io.io.read_buf(&mut io.before).await? == 0 {
            break false;
        }
    };
    if !whole {
        return Ok((io, Hello::Visible));
    }
    match open(&keys.look(), &reader.message) {
        Opened::Visible => Ok((io, Hello::Visible)),
        Opened::Sealed => Ok((io, Hello::Sealed)),
        Opened::Illegal => {
            alert(&mut io.io, ILLEGAL_PARAMETER).await?;
            Err(io::Error::other("tls: client sent an illegal hidden hello"))
        }
        Opened::Hidden(inner) => {
            let outer = io.before.clone();
            io.before.advance(reader.at);
            let rest = std::mem::take(&mut io.before);
            io.before = BytesMut::from(&*records(&inner));
            io.before.extend_from_slice(&rest);
            Ok((io, Hello::Hidden { inner, outer }))
        }
    }
}

/// Puts a hello together from its records; looks at each octet once.
#[derive(Default)]
struct HelloReader {
    /// Where the next record begins.
    at: usize,
    message: Vec<u8>,
}

enum Step {
    More,
    Whole,
    /// No hello, or nothing that a client sends.
    Odd,
}

impl HelloReader {
    /// Goes on with all that was received so far.
    fn read(&mut self, received: &[u8]) -> Step {
        while let Some(([kind, _, _, high, low], rest)) =
            received.get(self.at..).and_then(<[u8]>::split_first_chunk)
        {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if *kind != HANDSHAKE || length == 0 || length > MAX_RECORD {
                return Step::Odd;
            }
            let Some(content) = rest.get(..length) else { return Step::More };
            self.message.extend_from_slice(content);
            self.at += 5 + length;
            let Some([kind, a, b, c]) = self.message.first_chunk() else { continue };
            let whole = 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if *kind != CLIENT_HELLO || whole > MAX_HELLO || self.message.len() > whole {
                return Step::Odd;
            }
            if self.message.len() == whole {
                return Step::Whole;
            }
        }
        Step::More
    }
}

#[cfg(test)]
mod tests {
    use super::{HelloReader, Step};

    fn read(pieces: &[&[u8]]) -> (&'static str, Vec<u8>) {
        let mut reader = HelloReader::default();
        let mut received = Vec::new();
        for piece in pieces {
            received.extend_from_slice(piece);
            match reader.read(&received) {
                Step::More => {}
                Step::Whole => return ("whole", reader.message),
                Step::Odd => return ("odd", reader.message),
            }
        }
        ("more", reader.message)
    }

    #[test]
    fn hellos_come_in_pieces() {
        let message = [1, 0, 0, 3, 7, 8, 9];
        let one: &[u8] = &[22, 3, 1, 0, 7, 1, 0, 0, 3, 7, 8, 9];
        let two: &[u8] = &[22, 3, 1, 0, 2, 1, 0, 22, 3, 1, 0, 5, 0, 3, 7, 8, 9];
        for records in [one, two, &[one, &[20, 3, 3, 0, 1, 1]].concat()] {
            assert_eq!(read(&[records]), ("whole", message.to_vec()));
            let bytes: Vec<&[u8]> = records.chunks(1).collect();
            assert_eq!(read(&bytes), ("whole", message.to_vec()));
        }
        assert_eq!(read(&[&one[..11]]).0, "more");
        assert_eq!(read(&[&two[..9]]).0, "more");
    }

    #[test]
    fn what_is_no_hello_is_left_to_others() {
        for odd in [
            &[23, 3, 1, 0, 1, 1][..],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0x40, 1],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &[22, 3, 1, 0, 4, 1, 1, 0, 0],
            &[22, 3, 1, 0, 5, 1, 0, 0, 0, 1],
        ] {
            assert_eq!(read(&[odd]).0, "odd", "{odd:?}");
        }
    }
}
