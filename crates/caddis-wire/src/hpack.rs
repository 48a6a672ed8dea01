//! Header blocks of HTTP/2 (RFC 7541), as far as a block alone tells what is wrong with it.

use http::{HeaderName, HeaderValue, Method};

use crate::http3::huffman;

/// Entries of the static table (RFC 7541 appendix A).
const STATIC: u64 = 61;
/// Bytes of the dynamic table where nobody agreed on others (RFC 9113 §6.5.2).
const TABLE_SIZE: u64 = 4096;
/// The largest index: an entry of the dynamic table counts 32 bytes or more (RFC 7541 §4.1).
const LAST_INDEX: u64 = STATIC + TABLE_SIZE / 32;

/// What a header block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderBlock {
    /// It can be decoded, and its fields may be in a message.
    Proper,
    /// The same, where the dynamic table has the entries that it refers to.
    Dynamic,
    /// It can be decoded up to a field that no message may have (RFC 9113 §8.2.1).
    Malformed,
    /// Nobody can decode it: COMPRESSION_ERROR (RFC 9113 §4.3).
    Undecodable,
}

impl HeaderBlock {
    /// Looks at a whole block, for a dynamic table of the default size whose content is not known.
    pub fn examine(block: &[u8]) -> Self {
        let mut cursor = Cursor(block);
        let mut found = Self::Proper;
        let mut fields = false;
        while let Some(&first) = cursor.0.first() {
            match cursor.representation(first, &mut fields) {
                Some(Self::Proper) => {}
                Some(Self::Dynamic) => found = Self::Dynamic,
                Some(other) => return other,
                None => return Self::Undecodable,
            }
        }
        found
    }
}

/// The rest of a block.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// One representation (RFC 7541 §6); `None` for what is none.
    fn representation(&mut self, first: u8, fields: &mut bool) -> Option<HeaderBlock> {
        if first & 0xe0 == 0x20 {
            // Changes of the table's size have to be in front (RFC 7541 §4.2).
            let fits = self.integer(5)? <= TABLE_SIZE && !*fields;
            return fits.then_some(HeaderBlock::Proper);
        }
        *fields = true;
        let indexed = first & 0x80 != 0;
        let bits = match first {
            _ if indexed => 7,
            _ if first & 0x40 != 0 => 6,
            _ => 4,
        };
        let index = self.integer(bits)?;
        if index > LAST_INDEX || indexed && index == 0 {
            return None;
        }
        let known = if index > STATIC { HeaderBlock::Dynamic } else { HeaderBlock::Proper };
        if indexed {
            return Some(known);
        }
        let name = if index == 0 { Some(self.string()?) } else { None };
        let value = self.string()?;
        let proper = match (name.as_deref(), index) {
            (Some(b":method"), _) | (None, 2 | 3) => Method::from_bytes(&value).is_ok(),
            (Some(b":status"), _) | (None, 8..=14) => {
                value.len() == 3 && value.iter().all(u8::is_ascii_digit)
            }
            (Some(b":authority" | b":scheme" | b":path" | b":protocol"), _) => value.is_ascii(),
            (Some(name), _) => HeaderName::from_lowercase(name).is_ok() && is_field_value(&value),
            (None, _) => is_field_value(&value),
        };
        Some(if proper { known } else { HeaderBlock::Malformed })
    }

    /// An integer whose first byte has so many bits for it (RFC 7541 §5.1).
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let mask = u8::MAX >> (8 - bits);
        let mut value = u64::from(self.byte()? & mask);
        if value < u64::from(mask) {
            return Some(value);
        }
        // Four more bytes are enough for anything that can be meant; the codec takes no more.
        for shift in (0..28).step_by(7) {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string (RFC 7541 §5.2).
    fn string(&mut self) -> Option<std::borrow::Cow<'a, [u8]>> {
        let coded = self.0.first()? & 0x80 != 0;
        let length = usize::try_from(self.integer(7)?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        if !coded {
            return Some(text.into());
        }
        let mut plain = Vec::with_capacity(length + length / 2);
        huffman::decode(text, &mut plain)?;
        Some(plain.into())
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }
}

/// Also what is allowed, but beyond ASCII, is malformed to some.
fn is_field_value(value: &[u8]) -> bool {
    value.is_ascii() && HeaderValue::from_bytes(value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::HeaderBlock::{self, Dynamic, Malformed, Proper, Undecodable};

    #[test]
    fn blocks_tell_what_they_are() {
        for (block, expected) in [
            (&b""[..], Proper),
            // RFC 7541 §C.3.1, §C.4.1.
            (b"\x82\x86\x84\x41\x0fwww.example.com", Proper),
            (b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", Proper),
            (b"\x3f\xe1\x1f\x20\x82", Proper),
            (b"\x00\x01x\x01y\x10\x01x\x01y\x0f\x2e\x01y", Proper),
            (b"\xbd", Proper),
            (b"\xbe", Dynamic),
            (b"\xff\x3e", Dynamic),
            (b"\x7e\x01y", Dynamic),
            (b"\x82\xff\x3f", Undecodable),
            (b"\x80", Undecodable),
            (b"\x7f\x80\x01\x01y", Undecodable),
            // A table beyond its limit, and a change behind a field.
            (b"\x3f\xe2\x1f", Undecodable),
            (b"\x82\x20", Undecodable),
            // Integers that do not end, or that mean more than can be.
            (b"\x3f\xe1", Undecodable),
            (b"\x00\x01x", Undecodable),
            (b"\x00\x05x", Undecodable),
            (b"\xff\x80\x80\x80\x80\x00", Undecodable),
            // The end symbol, and padding of zeros.
            (b"\x00\x01x\x84\xff\xff\xff\xff", Undecodable),
            (b"\x00\x01x\x81\x00", Undecodable),
            (b"\x00\x01X\x01y", Malformed),
            (b"\x00\x00\x01y", Malformed),
            (b"\x00\x01x\x01\n", Malformed),
            (b"\x00\x02:x\x01y", Malformed),
            (b"\x02\x03G T", Malformed),
            (b"\x04\x02/\xe9", Malformed),
            (b"\x00\x05:path\x02/\xe9", Malformed),
            // Who comes first is told.
            (b"\x00\x01X\x01y\x80", Malformed),
            (b"\x80\x00\x01X\x01y", Undecodable),
        ] {
            assert_eq!(HeaderBlock::examine(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut random = crate::tests::Rng(7541);
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
            HeaderBlock::examine(&block);
        }
    }
}
