//! Why a text is no JSON, in the sentences that Go's decoder has for it: they are what people
//! search for.

use std::fmt;

/// Deepest nesting, as in Go's decoder.
const MAX_DEPTH: usize = 10_000;

/// The first mistake of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong, such as `invalid character 'x' after top-level value`.
    pub message: String,
    /// How many bytes were read, the one that is wrong included.
    pub offset: usize,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The first mistake; none in a text that is JSON (RFC 8259).
pub fn check(text: &[u8]) -> Option<SyntaxError> {
    let mut scan = Scan { state: State::Value, open: Vec::new() };
    for (at, byte) in text.iter().enumerate() {
        if let Err(message) = scan.step(*byte) {
            return Some(SyntaxError { message, offset: at + 1 });
        }
    }
    // The end is what a space would be, after which there is to be nothing more.
    let message = match scan.step(b' ') {
        Ok(()) if matches!(scan.state, State::End) => return None,
        Ok(()) => "unexpected end of JSON input".to_owned(),
        Err(message) => message,
    };
    Some(SyntaxError { message, offset: text.len() })
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    /// A value is over.
    After,
    /// The text is over but for space.
    End,
    Text,
    Escape,
    /// So many digits of `\u` are left.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// Within `true`, `false` or `null`, before this letter.
    Word(&'static str, usize),
}

#[derive(Debug, Clone, Copy)]
enum Open {
    Key,
    Member,
    Item,
}

struct Scan {
    state: State,
    open: Vec<Open>,
}

type Step = Result<(), String>;

impl Scan {
    fn step(&mut self, byte: u8) -> Step {
        match self.state {
            State::Value => self.value(byte),
            State::ValueOrEnd if byte == b']' => self.close(),
            State::ValueOrEnd => self.value(byte),
            State::KeyOrEnd if byte == b'}' => self.close(),
            State::Key | State::KeyOrEnd => match byte {
                _ if is_space(byte) => Ok(()),
                b'"' => self.go(State::Text),
                _ => wrong(byte, "looking for beginning of object key string"),
            },
            State::After => self.after(byte),
            State::End if is_space(byte) => Ok(()),
            State::End => wrong(byte, "after top-level value"),
            State::Text => match byte {
                b'"' => self.finish(),
                b'\\' => self.go(State::Escape),
                0..0x20 => wrong(byte, "in string literal"),
                _ => Ok(()),
            },
            State::Escape => match byte {
                b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.go(State::Text),
                b'u' => self.go(State::Hex(4)),
                _ => wrong(byte, "in string escape code"),
            },
            State::Hex(left) => match byte.is_ascii_hexdigit() {
                true if left > 1 => self.go(State::Hex(left - 1)),
                true => self.go(State::Text),
                false => wrong(byte, "in \\u hexadecimal character escape"),
            },
            State::Word(word, at) => match word.as_bytes().get(at) {
                Some(want) if *want == byte && at + 1 == word.len() => self.finish(),
                Some(want) if *want == byte => self.go(State::Word(word, at + 1)),
                Some(want) => {
                    let want = char::from(*want);
                    wrong(byte, &format!("in literal {word} (expecting '{want}')"))
                }
                None => self.after(byte),
            },
            _ => self.number(byte),
        }
    }

    fn value(&mut self, byte: u8) -> Step {
        match byte {
            _ if is_space(byte) => Ok(()),
            b'{' => self.open(Open::Key, State::KeyOrEnd),
            b'[' => self.open(Open::Item, State::ValueOrEnd),
            b'"' => self.go(State::Text),
            b'-' => self.go(State::Minus),
            b'0' => self.go(State::Zero),
            b'1'..=b'9' => self.go(State::Digits),
            b't' => self.go(State::Word("true", 1)),
            b'f' => self.go(State::Word("false", 1)),
            b'n' => self.go(State::Word("null", 1)),
            _ => wrong(byte, "looking for beginning of value"),
        }
    }

    fn number(&mut self, byte: u8) -> Step {
        let digit = byte.is_ascii_digit();
        match (self.state, byte) {
            (State::Minus, b'0') => self.go(State::Zero),
            (State::Minus, _) if digit => self.go(State::Digits),
            (State::Minus, _) => wrong(byte, "in numeric literal"),
            (State::Digits, _) if digit => Ok(()),
            (State::Zero | State::Digits, b'.') => self.go(State::Point),
            (State::Point, _) if digit => self.go(State::Fraction),
            (State::Point, _) => wrong(byte, "after decimal point in numeric literal"),
            (State::Fraction, _) if digit => Ok(()),
            (State::Zero | State::Digits | State::Fraction, b'e' | b'E') => {
                self.go(State::Exponent)
            }
            (State::Exponent, b'+' | b'-') => self.go(State::ExponentSign),
            (State::Exponent | State::ExponentSign, _) if digit => self.go(State::ExponentDigits),
            (State::Exponent | State::ExponentSign, _) => {
                wrong(byte, "in exponent of numeric literal")
            }
            (State::ExponentDigits, _) if digit => Ok(()),
            _ => {
                self.finish()?;
                self.step(byte)
            }
        }
    }

    /// What follows a value, or a key.
    fn after(&mut self, byte: u8) -> Step {
        if is_space(byte) {
            return Ok(());
        }
        let Some(open) = self.open.last_mut() else { return wrong(byte, "after top-level value") };
        match (*open, byte) {
            (Open::Key, b':') => {
                *open = Open::Member;
                self.go(State::Value)
            }
            (Open::Key, _) => wrong(byte, "after object key"),
            (Open::Member, b',') => {
                *open = Open::Key;
                self.go(State::Key)
            }
            (Open::Member, b'}') | (Open::Item, b']') => self.close(),
            (Open::Member, _) => wrong(byte, "after object key:value pair"),
            (Open::Item, b',') => self.go(State::Value),
            (Open::Item, _) => wrong(byte, "after array element"),
        }
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Ok(())
    }

    fn open(&mut self, open: Open, state: State) -> Step {
        if self.open.len() >= MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        self.open.push(open);
        self.go(state)
    }

    fn close(&mut self) -> Step {
        self.open.pop();
        self.finish()
    }

    fn finish(&mut self) -> Step {
        self.go(if self.open.is_empty() { State::End } else { State::After })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn wrong(byte: u8, context: &str) -> Step {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        7 => "\\a".to_owned(),
        8 => "\\b".to_owned(),
        11 => "\\v".to_owned(),
        12 => "\\f".to_owned(),
        // Go takes a byte for a character of Latin 1.
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..=0xa0 | 0xad => format!("\\u{byte:04x}"),
        _ => char::from(byte).to_string(),
    };
    Err(format!("invalid character '{shown}' {context}"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn json_has_no_mistake() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0.5e+10",
            "1E5",
            "\"\"",
            "\"a\\u00e9\\n\"",
            "[]",
            "{}",
            "[1, [2], {\"a\": {\"b\": []}, \"c\": null}]\n",
            "[true,false]",
            "12",
        ] {
            assert_eq!(check(text.as_bytes()), None, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
    }

    /// Sentences and offsets as Go's decoder (1.25) gives them.
    #[test]
    fn mistakes_are_told_as_in_go() {
        for (text, message, offset) in [
            ("", "unexpected end of JSON input", 0),
            ("{", "unexpected end of JSON input", 1),
            ("[1,2", "unexpected end of JSON input", 4),
            ("\"abc", "unexpected end of JSON input", 4),
            ("{\"a\":1}x", "invalid character 'x' after top-level value", 8),
            ("nul", "invalid character ' ' in literal null (expecting 'l')", 3),
            ("tru", "invalid character ' ' in literal true (expecting 'e')", 3),
            ("trux", "invalid character 'x' in literal true (expecting 'e')", 4),
            ("{\"a\":}", "invalid character '}' looking for beginning of value", 6),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string", 2),
            ("{\"a\" 1}", "invalid character '1' after object key", 6),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string", 8),
            ("\"\u{1}\"", "invalid character '\\x01' in string literal", 2),
            ("{\"a\":01}", "invalid character '1' after object key:value pair", 7),
            ("[1 2]", "invalid character '2' after array element", 4),
            ("1.e", "invalid character 'e' after decimal point in numeric literal", 3),
            ("-x", "invalid character 'x' in numeric literal", 2),
            ("1e", "invalid character ' ' in exponent of numeric literal", 2),
            ("\"\\x\"", "invalid character 'x' in string escape code", 3),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape", 6),
            ("'a'", "invalid character '\\'' looking for beginning of value", 1),
            (":8080 {", "invalid character ':' looking for beginning of value", 1),
        ] {
            let found = check(text.as_bytes()).unwrap();
            assert_eq!((found.message.as_str(), found.offset), (message, offset), "{text}");
        }
        let deep = "[".repeat(20_000);
        assert_eq!(check(deep.as_bytes()).unwrap().message, "exceeded max depth");
    }
}
