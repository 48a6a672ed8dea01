//! Bytes → text.

/// Text from bytes: each byte that is not UTF-8 becomes U+FFFD.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::lossy;

    #[test]
    fn one_mark_for_each_bad_byte() {
        assert_eq!(lossy(b"a\xff\xfeb\xc3\xa4\0"), "a\u{fffd}\u{fffd}b\u{e4}\0");
    }
}
