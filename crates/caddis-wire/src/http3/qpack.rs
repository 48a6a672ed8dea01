//! Field sections (RFC 9204 §4.5), without a dynamic table.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{
    Http3Error, code, huffman,
    static_table::{self, Found},
};

/// What each field counts beyond its name and value (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// A name as it came.
pub(super) enum Name {
    Static(&'static str),
    Raw(Bytes),
}

impl Name {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Static(name) => name.as_bytes(),
            Self::Raw(name) => name,
        }
    }
}

const FAILED: Http3Error =
    Http3Error::Connection(code::QPACK_DECOMPRESSION_FAILED, "field section cannot be decoded");

/// Gives each field of a section to `each`.
pub(super) fn decode(
    block: &Bytes,
    max_size: usize,
    mut each: impl FnMut(Name, Bytes) -> Result<(), Http3Error>,
) -> Result<(), Http3Error> {
    let mut cursor = Cursor { block, at: 0 };
    // Required Insert Count and Base; there is nothing that could have been inserted.
    if cursor.integer(8)? != 0 {
        return Err(FAILED);
    }
    cursor.integer(7)?;
    let mut size: usize = 0;
    while let Some(&first) = block.get(cursor.at) {
        let (name, value) = cursor.field(first)?;
        size = size.saturating_add(name.as_bytes().len() + value.len() + FIELD_OVERHEAD);
        if size > max_size {
            return Err(Http3Error::TooLarge);
        }
        each(name, value)?;
    }
    Ok(())
}

struct Cursor<'a> {
    block: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn field(&mut self, first: u8) -> Result<(Name, Bytes), Http3Error> {
        if first & 0x80 != 0 {
            // Indexed; a cleared bit 6 means the dynamic table.
            let index = self.integer(6)?;
            let entry = static_table::entry(index).filter(|_| first & 0x40 != 0);
            let (name, value) = entry.ok_or(FAILED)?;
            return Ok((Name::Static(name), Bytes::from_static(value.as_bytes())));
        }
        if first & 0x40 != 0 {
            // A literal with the name of an entry.
            let index = self.integer(4)?;
            let entry = static_table::entry(index).filter(|_| first & 0x10 != 0);
            let (name, _) = entry.ok_or(FAILED)?;
            return Ok((Name::Static(name), self.string(7)?));
        }
        if first & 0x20 != 0 {
            let name = self.string(3)?;
            return Ok((Name::Raw(name), self.string(7)?));
        }
        // The rest refers to entries that come after Base.
        Err(FAILED)
    }

    /// An integer whose first byte has so many bits for it (RFC 7541 §5.1).
    fn integer(&mut self, bits: u32) -> Result<u64, Http3Error> {
        let mask = u8::MAX >> (8 - bits);
        let mut value = u64::from(self.byte()? & mask);
        if value < u64::from(mask) {
            return Ok(value);
        }
        // Five more bytes are enough for anything that can be meant.
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FAILED)
    }

    /// A string whose length has so many bits in its first byte; the bit above tells whether it is
    /// Huffman-coded.
    fn string(&mut self, bits: u32) -> Result<Bytes, Http3Error> {
        let coded = self.block.get(self.at).ok_or(FAILED)? & (1 << bits) != 0;
        let length = usize::try_from(self.integer(bits)?).map_err(|_| FAILED)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.block.len());
        let range = self.at..end.ok_or(FAILED)?;
        self.at = range.end;
        if !coded {
            return Ok(self.block.slice(range));
        }
        let mut text = Vec::with_capacity(length + length / 2);
        huffman::decode(&self.block[range], &mut text).ok_or(FAILED)?;
        Ok(text.into())
    }

    fn byte(&mut self) -> Result<u8, Http3Error> {
        let byte = *self.block.get(self.at).ok_or(FAILED)?;
        self.at += 1;
        Ok(byte)
    }
}

/// Writes the field section of a response's head.
pub fn write_response_section(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    out.extend_from_slice(&[0, 0]);
    write_field(out, ":status", status.as_str().as_bytes(), false);
    write_fields(out, headers);
}

/// The pseudo-header fields of a request (RFC 9114 §4.3.1).
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// `:method`; not `CONNECT`.
    pub method: &'a Method,
    /// `:scheme`.
    pub scheme: &'a str,
    /// `:authority`.
    pub authority: &'a [u8],
    /// `:path`.
    pub path: &'a str,
}

/// Writes the field section of a request's head.
pub fn write_request_section(out: &mut Vec<u8>, line: RequestLine<'_>, headers: &HeaderMap) {
    out.extend_from_slice(&[0, 0]);
    write_field(out, ":method", line.method.as_str().as_bytes(), false);
    write_field(out, ":scheme", line.scheme.as_bytes(), false);
    write_field(out, ":authority", line.authority, false);
    write_field(out, ":path", line.path.as_bytes(), false);
    write_fields(out, headers);
}

/// Writes a field section of trailers.
pub fn write_trailer_section(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(&[0, 0]);
    write_fields(out, trailers);
}

fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        write_field(out, name.as_str(), HeaderValue::as_bytes(value), value.is_sensitive());
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8], sensitive: bool) {
    // Never to be put in a table by anyone on the way.
    let never = u8::from(sensitive);
    match static_table::find(name, value) {
        Found::Both(index) if !sensitive => return write_integer(out, 0xc0, 6, index),
        Found::Both(index) | Found::Name(index) => write_integer(out, 0x50 | never << 5, 4, index),
        Found::No => {
            write_integer(out, 0x20 | never << 4, 3, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
        }
    }
    write_integer(out, 0, 7, value.len() as u64);
    out.extend_from_slice(value);
}

/// Writes an integer with so many bits in its first byte, whose upper bits are `flags`.
fn write_integer(out: &mut Vec<u8>, flags: u8, bits: u32, value: u64) {
    let mask = u8::MAX >> (8 - bits);
    match u8::try_from(value) {
        Ok(value) if value < mask => out.push(flags | value),
        _ => {
            out.push(flags | mask);
            let mut rest = value - u64::from(mask);
            while rest >= 0x80 {
                out.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            out.push(rest.to_le_bytes()[0]);
        }
    }
}
