//! FastCGI records on the wire.

use bytes::{Buf, Bytes, BytesMut};

/// Ends a request.
pub(super) const END_REQUEST: u8 = 3;
/// Parameters.
pub(super) const PARAMS: u8 = 4;
/// The request's body.
pub(super) const STDIN: u8 = 5;
/// The answer.
pub(super) const STDOUT: u8 = 6;
/// What went wrong on the other side.
pub(super) const STDERR: u8 = 7;

const BEGIN_REQUEST: u8 = 1;
const VERSION: u8 = 1;
const HEADER: usize = 8;
/// Bytes that one record carries at most.
pub(super) const MAX_CONTENT: usize = 65_535;

/// Writes the header of a record.
fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    // Request number 1, no padding.
    out.extend_from_slice(&[VERSION, kind, 0, 1, high, low, 0, 0]);
}

/// Begins a request in the role of a responder; the connection closes after it.
pub(super) fn begin(out: &mut Vec<u8>) {
    header(out, BEGIN_REQUEST, 8);
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
}

/// Writes data as records of one kind; none for no data, which would end the stream.
pub(super) fn stream(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    for part in data.chunks(MAX_CONTENT) {
        header(out, kind, part.len());
        out.extend_from_slice(part);
    }
}

/// Ends a stream.
pub(super) fn end_stream(out: &mut Vec<u8>, kind: u8) {
    header(out, kind, 0);
}

/// Writes one parameter.
pub(super) fn pair(out: &mut Vec<u8>, name: &str, value: &str) {
    for length in [name.len(), value.len()] {
        match u8::try_from(length) {
            Ok(short) if short < 128 => out.push(short),
            _ => {
                let long = u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31;
                out.extend_from_slice(&long.to_be_bytes());
            }
        }
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Takes a whole record off the front: its kind and content. `None`: there is not enough yet.
pub(super) fn take(buf: &mut BytesMut) -> Option<(u8, Bytes)> {
    let head: [u8; HEADER] = buf.get(..HEADER)?.try_into().ok()?;
    let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let padding = usize::from(head[6]);
    if buf.len() < HEADER + length + padding {
        return None;
    }
    buf.advance(HEADER);
    let content = buf.split_to(length).freeze();
    buf.advance(padding);
    Some((head[1], content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_both_forms() {
        let mut out = Vec::new();
        pair(&mut out, "A", &"x".repeat(128));
        assert_eq!(&out[..6], [1, 0x80, 0, 0, 128, b'A']);
        assert_eq!(out.len(), 6 + 128);
    }

    #[test]
    fn records_are_taken_whole() {
        let mut out = Vec::new();
        stream(&mut out, STDOUT, b"abc");
        out[6] = 2;
        out.extend_from_slice(&[0, 0]);
        end_stream(&mut out, END_REQUEST);
        for cut in 0..out.len() {
            let mut buf = BytesMut::from(&out[..cut]);
            let first = take(&mut buf);
            assert_eq!(first.is_some(), cut >= 13, "{cut}");
        }
        let mut buf = BytesMut::from(&out[..]);
        assert_eq!(take(&mut buf), Some((STDOUT, Bytes::from_static(b"abc"))));
        assert_eq!(take(&mut buf), Some((END_REQUEST, Bytes::new())));
        assert_eq!(take(&mut buf), None);
        let mut big = Vec::new();
        stream(&mut big, STDIN, &vec![0; MAX_CONTENT + 1]);
        assert_eq!(big.len(), MAX_CONTENT + 1 + 2 * HEADER);
    }
}
