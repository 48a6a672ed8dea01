//! The place in a JSON text that a dotted path names.

use std::ops::Range;

/// The bytes to point at for a path: the value if it is a scalar, its key if it is not (or its opening
/// bracket in a list). Of a path that leads nowhere, the last part that is there.
pub(crate) fn find(text: &str, path: &str) -> Range<usize> {
    let mut scan = Scan { text: text.as_bytes(), at: 0 };
    scan.space();
    let mut best = scan.at..(scan.at + 1).min(text.len());
    let mut rest = path;
    while !rest.is_empty() {
        let step = match scan.peek() {
            Some(b'{') => scan.member(rest),
            Some(b'[') => scan.item(rest),
            _ => None,
        };
        let Some((key, left)) = step else { break };
        rest = left;
        best = match scan.peek() {
            Some(b'{' | b'[') => key.unwrap_or(scan.at..scan.at + 1),
            _ => {
                let start = scan.at;
                scan.value();
                start..scan.at
            }
        };
    }
    best
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

/// The place of the key, and what is left of the path.
type Step<'p> = Option<(Option<Range<usize>>, &'p str)>;

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Goes to the member of an object that a path begins with; the longest key counts, as keys may
    /// have dots.
    fn member<'p>(&mut self, path: &'p str) -> Step<'p> {
        let mut best: Option<(usize, Range<usize>, usize)> = None;
        self.at += 1;
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                break;
            }
            let key = self.at..{
                self.string();
                self.at
            };
            self.space();
            self.at += usize::from(self.peek() == Some(b':'));
            self.space();
            let name =
                std::str::from_utf8(self.text.get(key.start + 1..key.end.max(key.start + 2) - 1)?);
            let name = name.unwrap_or_default();
            let fits =
                path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            if fits && best.as_ref().is_none_or(|(length, ..)| *length < name.len()) {
                best = Some((name.len(), key, self.at));
            }
            self.value();
            self.space();
            if self.peek() != Some(b',') {
                break;
            }
            self.at += 1;
        }
        let (length, key, value) = best?;
        self.at = value;
        Some((Some(key), path[length..].trim_start_matches('.')))
    }

    fn item<'p>(&mut self, path: &'p str) -> Step<'p> {
        let (number, rest) = path.split_once('.').unwrap_or((path, ""));
        let mut left: usize = number.parse().ok()?;
        self.at += 1;
        self.space();
        while left > 0 {
            self.value();
            self.space();
            if self.peek() != Some(b',') {
                return None;
            }
            self.at += 1;
            self.space();
            left -= 1;
        }
        (self.peek() != Some(b']')).then_some((None, rest))
    }

    /// Steps over a string.
    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1 + usize::from(byte == b'\\');
            if byte == b'"' {
                return;
            }
        }
        self.at = self.text.len();
    }

    /// Steps over a value.
    fn value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    if depth == 0 {
                        return;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                b',' if depth == 0 => return,
                byte if depth == 0 && byte.is_ascii_whitespace() => return,
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn places() {
        let text = r#"{"a": {"x.y": [1, {"z": "v\"}"}], "n": 12}, "b": null}"#;
        let of = |path: &str| &text[find(text, path)];
        assert_eq!(of(""), "{");
        assert_eq!(of("a"), "\"a\"");
        assert_eq!(of("a.n"), "12");
        assert_eq!(of("a.x.y.0"), "1");
        assert_eq!(of("a.x.y.1"), "{");
        assert_eq!(of("a.x.y.1.z"), "\"v\\\"}\"");
        assert_eq!(of("a.x.y.7"), "\"x.y\"");
        assert_eq!(of("b"), "null");
        assert_eq!(of("a.none.more"), "\"a\"");
        for broken in ["", "{", "{\"", "[", "{\"a\":", "{\"a\"", "{\"a\\"] {
            let _ = find(broken, "a.b");
        }
    }
}
