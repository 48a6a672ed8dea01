//! Names of files that are no UTF-8, within texts.
//!
//! Paths are texts here. A byte that is no UTF-8 is a character of a private plane as long as the
//! file is looked for, and becomes the byte again where the system is asked. Where a name has such a
//! character itself, its bytes are written so, too: no file has two names, and no name two files.

use std::{borrow::Cow, ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// Stands for byte 0; only bytes beyond ASCII have one of these, so that none becomes a slash or a
/// dot after a path was cleaned.
const FIRST: u32 = 0x0010_fe00;

/// A text that stands for these bytes.
pub(crate) fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(&from_text(chunk.valid()));
        let strange = chunk.invalid().iter().filter_map(|byte| stand_in(*byte));
        text.extend(strange);
    }
    text
}

/// The same for a text that a client may have made up.
pub(crate) fn from_text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|char| byte(char).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 4);
    for char in text.chars() {
        match byte(char) {
            Some(_) => {
                out.extend(char.encode_utf8(&mut [0; 4]).bytes().filter_map(stand_in));
            }
            None => out.push(char),
        }
    }
    Cow::Owned(out)
}

fn stand_in(byte: u8) -> Option<char> {
    char::from_u32(FIRST + u32::from(byte))
}

fn byte(char: char) -> Option<u8> {
    let byte = u32::from(char).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok());
    byte.filter(|byte| !byte.is_ascii())
}

/// The bytes that a text stands for.
pub(crate) fn bytes(text: &str) -> Cow<'_, [u8]> {
    // The plane's characters are the only ones of four bytes that begin so.
    if !text.as_bytes().contains(&0xf4) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for char in text.chars() {
        match byte(char) {
            Some(byte) => out.push(byte),
            None => out.extend(char.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Cow::Owned(out)
}

/// The path of the file system that a text stands for.
pub(crate) fn path(text: &str) -> Cow<'_, Path> {
    match bytes(text) {
        Cow::Borrowed(bytes) => Cow::Borrowed(Path::new(OsStr::from_bytes(bytes))),
        Cow::Owned(bytes) => Cow::Owned(OsStr::from_bytes(&bytes).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let own = "/\u{10fee9}\u{10fe00}".as_bytes();
        for name in [&b"/plain"[..], "/\u{e9}\u{1f600}".as_bytes(), b"/caf\xe9/\xff\xfe.txt", own] {
            let text = from_bytes(name);
            assert_eq!(&*bytes(&text), name);
            assert_eq!(path(&text).as_os_str().as_bytes(), name);
        }
    }
}
