//! Variable-length integers (RFC 9000 §16).

/// Longest encoding, in bytes.
pub(super) const MAX_LEN: usize = 8;

/// The integer at the start of `bytes` and its length; `None` where bytes are missing.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let mut value = u64::from(first & 0x3f);
    for &byte in bytes.get(1..len)? {
        value = value << 8 | u64::from(byte);
    }
    Some((value, len))
}

/// Writes the shortest encoding; values from 2^62 on have none and are cut to the largest.
pub(super) fn write(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value.to_be_bytes()[7]),
        0x40..0x4000 => out.extend_from_slice(&(value | 0x4000).to_be_bytes()[6..]),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value | 0x8000_0000).to_be_bytes()[4..]),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::{read, write};

    #[test]
    fn round_trips() {
        for value in [0, 1, 63, 64, 16383, 16384, 0x3fff_ffff, 0x4000_0000, (1 << 62) - 1] {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(read(&out), Some((value, out.len())), "{value}");
            assert_eq!(read(&out[..out.len() - 1]), None);
        }
        // RFC 9000 §A.1.
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]), Some((494_878_333, 4)));
        assert_eq!(read(&[0x40, 0x25]), Some((37, 2)));
    }
}
