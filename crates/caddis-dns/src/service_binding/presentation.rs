//! The characters of presentation format: words, strings, lists and their escapes (RFC 9460
//! appendix A).

use crate::DnsError;

/// A `char-string` in quotes or up to white space, its escapes taken away; and what comes after it
/// (RFC 9460 appendix A).
pub(super) fn char_string(text: &[u8]) -> Result<(Vec<u8>, &[u8]), DnsError> {
    let quoted = text.first() == Some(&b'"');
    let mut rest = if quoted { text.get(1..).unwrap_or_default() } else { text };
    let mut out = Vec::new();
    loop {
        let Some((&byte, after)) = rest.split_first() else {
            if quoted {
                return Err(DnsError::new("service binding: a quote has no end"));
            }
            return Ok((out, rest));
        };
        match byte {
            b'"' if quoted => {
                if after.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                    return Err(DnsError::new("service binding: no space after a quote"));
                }
                return Ok((out, after));
            }
            byte if !quoted && byte.is_ascii_whitespace() => return Ok((out, rest)),
            b'\\' => {
                let (byte, after) = escape(after)
                    .ok_or_else(|| DnsError::new("service binding: a broken escape"))?;
                out.push(byte);
                rest = after;
            }
            byte => {
                out.push(byte);
                rest = after;
            }
        }
    }
}

/// The octet that an escape stands for: `\044` or `\,`.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, after) = text.split_first()?;
    if !first.is_ascii_digit() {
        return Some((first, after));
    }
    let (digits, after) = text.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| plain)?, after))
}

/// The inside of a quoted `char-string`.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out
}

/// The items of a list, in which `\` escapes commas and itself (RFC 9460 appendix A.1).
pub(super) fn items(list: &[u8]) -> Result<Vec<Vec<u8>>, DnsError> {
    let (mut all, mut item) = (Vec::new(), Vec::new());
    let mut bytes = list.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => all.push(std::mem::take(&mut item)),
            b'\\' => match bytes.next() {
                Some(byte @ (b',' | b'\\')) => item.push(*byte),
                _ => return Err(DnsError::new("a broken escape in a list")),
            },
            byte => item.push(*byte),
        }
    }
    all.push(item);
    if all.iter().any(Vec::is_empty) {
        return Err(DnsError::new("an empty item in a list"));
    }
    Ok(all)
}

/// The words of a text, one after the other, and what is left of it.
pub(super) struct Words<'a> {
    pub(super) rest: &'a str,
}

pub(super) fn words(text: &str) -> Words<'_> {
    Words { rest: text }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_ascii_start();
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let word;
        (word, self.rest) = text.split_at(end);
        (!word.is_empty()).then_some(word)
    }
}
