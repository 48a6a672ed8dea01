//! Bytes → text.

use std::borrow::Cow;

/// Text from bytes: each byte that is not UTF-8 becomes U+FFFD.
pub(crate) fn lossy(bytes: Cow<'_, [u8]>) -> String {
    let bytes = match bytes {
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return text,
            Err(error) => Cow::Owned(error.into_bytes()),
        },
        borrowed @ Cow::Borrowed(_) => borrowed,
    };
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
        assert_eq!(lossy(b"a\xffb".to_vec().into()), "a\u{fffd}b");
        assert_eq!(lossy("\u{e4}".as_bytes().to_vec().into()), "\u{e4}");
        assert_eq!(lossy(b"a\xff\xfeb\xc3\xa4\0".into()), "a\u{fffd}\u{fffd}b\u{e4}\0");
    }
}
