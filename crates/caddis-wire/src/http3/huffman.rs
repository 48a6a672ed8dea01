//! The Huffman code of HPACK and QPACK (RFC 7541 appendix B).
//!
//! The code is canonical: codes of one length are consecutive in the order of their symbols, and
//! the first of a length follows from the last of the length before. So lengths say it all.

/// Bits of each symbol's code; the last is the end of the string, which never occurs in one.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
    6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23,
    23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
    27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const EOS: u16 = 256;
const MAX_BITS: usize = 30;

/// What is known of the codes of one length.
#[derive(Clone, Copy)]
struct Length {
    /// Its first code.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where its symbols begin in [`Code::symbols`].
    start: u32,
}

struct Code {
    lengths: [Length; MAX_BITS + 1],
    /// All symbols, by length and value.
    symbols: [u16; 257],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut lengths = [Length { first: 0, count: 0, start: 0 }; MAX_BITS + 1];
    let mut symbols = [0; 257];
    let (mut bits, mut next, mut placed) = (1, 0, 0);
    while bits <= MAX_BITS {
        next <<= 1;
        lengths[bits] = Length { first: next, count: 0, start: placed };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                symbols[placed as usize] = symbol as u16;
                placed += 1;
                next += 1;
                lengths[bits].count += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    Code { lengths, symbols }
}

/// Decodes a string; `None` where it is none: the end symbol, or padding that is longer than seven
/// bits or not the beginning of the end symbol (RFC 7541 §5.2).
pub(crate) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut code, mut bits) = (0u32, 0usize);
    for byte in bytes {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            let length = CODE.lengths.get(bits)?;
            let at = code.wrapping_sub(length.first);
            if code >= length.first && at < length.count {
                let symbol = *CODE.symbols.get((length.start + at) as usize)?;
                if symbol == EOS {
                    return None;
                }
                out.push(symbol.to_be_bytes()[1]);
                (code, bits) = (0, 0);
            }
        }
    }
    (bits < 8 && code + 1 == 1 << bits).then_some(())
}

#[cfg(test)]
mod tests {
    use super::decode;

    fn decoded(bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(bytes, &mut out)?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541 §C.4.1, §C.6.1.
        let text = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&text).as_deref(), Some("www.example.com"));
        let text = [0x64, 0x02];
        assert_eq!(decoded(&text).as_deref(), Some("302"));
        assert_eq!(decoded(&[]).as_deref(), Some(""));
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decoded(&[0x64, 0x02, 0xff]), None, "a byte of padding");
        assert_eq!(
            decoded(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xfe]),
            None
        );
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end symbol");
    }
}
