//! Splits an expression into tokens.

use super::node::Val;

/// A token and where it starts, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Literal(Val),
    Ident,
    Op,
    /// A number that its type cannot hold; with the type's name.
    BadNumber(&'static str),
    End,
}

/// A mistake and where it is, in bytes.
pub(super) type Mistake = (usize, String);

const OPERATORS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", "(", ")",
    "[", "]", "{", "}", ",", ".",
];

/// More are not told: each is shown with its line.
const MAX_MISTAKES: usize = 100;

/// The tokens, the last of which is the end; what is none is told and left out.
pub(super) fn tokens<'a>(text: &'a str, mistakes: &mut Vec<Mistake>) -> Vec<Token<'a>> {
    let mut all = Vec::new();
    let mut rest = skip_blank(text);
    while let Some(first) = rest.chars().next() {
        if mistakes.len() >= MAX_MISTAKES {
            break;
        }
        let at = text.len() - rest.len();
        let (kind, length) = match string(rest) {
            Some(Ok((value, length))) => (Kind::Literal(value), length),
            Some(Err(length)) => {
                mistakes.push((at, unknown(&rest[..length])));
                rest = skip_blank(&rest[length..]);
                continue;
            }
            None if starts_number(rest) => number(rest),
            None if first.is_ascii_alphabetic() || first == '_' => {
                let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
                (Kind::Ident, end.unwrap_or(rest.len()))
            }
            None => match OPERATORS.iter().find(|op| rest.starts_with(**op)) {
                Some(operator) => (Kind::Op, operator.len()),
                None => {
                    let length = first.len_utf8();
                    mistakes.push((at, unknown(&rest[..length])));
                    rest = skip_blank(&rest[length..]);
                    continue;
                }
            },
        };
        all.push(Token { at, text: &rest[..length], kind });
        rest = skip_blank(&rest[length..]);
    }
    all.push(Token { at: text.len(), text: "<EOF>", kind: Kind::End });
    all
}

fn unknown(text: &str) -> String {
    format!("Syntax error: token recognition error at: '{text}'")
}

/// Takes white space and comments off the front.
fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix("//") {
            Some(comment) => text = comment.find('\n').map_or("", |end| &comment[end..]),
            None => return text,
        }
    }
}

fn starts_number(text: &str) -> bool {
    let digits = text.strip_prefix('.').unwrap_or(text);
    digits.starts_with(|char: char| char.is_ascii_digit())
}

fn number(text: &str) -> (Kind, usize) {
    let digits = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len())
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let end = hex.find(|char: char| !char.is_ascii_hexdigit()).unwrap_or(hex.len());
        if end > 0 {
            return whole(&hex[..end], 16, &hex[end..], 2 + end);
        }
    }
    let mut end = digits(0);
    let mut float = false;
    if text[end..].starts_with('.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
        float = true;
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
            float = true;
        }
    }
    if !float {
        return whole(&text[..end], 10, &text[end..], end);
    }
    match text[..end].parse::<f64>() {
        Ok(value) if value.is_finite() => (Kind::Literal(Val::Float(value)), end),
        _ => (Kind::BadNumber("double"), end),
    }
}

/// A whole number; its minus is an operator.
fn whole(digits: &str, radix: u32, after: &str, length: usize) -> (Kind, usize) {
    let value = u64::from_str_radix(digits, radix);
    if after.starts_with(['u', 'U']) {
        let kind = value.map_or(Kind::BadNumber("uint"), |value| Kind::Literal(Val::Uint(value)));
        return (kind, length + 1);
    }
    let kind = match value {
        Ok(value) => i64::try_from(value)
            .map_or(Kind::BadNumber("int"), |value| Kind::Literal(Val::Int(value))),
        Err(_) => Kind::BadNumber("int"),
    };
    (kind, length)
}

/// A string or bytes (`b` before the quote), in one or three quotes of either kind; with `r` before
/// them, backslashes stay as they are. The error is the length of what is no string.
fn string(text: &str) -> Option<Result<(Val, usize), usize>> {
    // Only here, as the rest of a long text has better not be searched for each token.
    let (quote_at, raw, bytes) = match text.as_bytes() {
        [b'"' | b'\'', ..] => (0, false, false),
        [b'r' | b'R', b'"' | b'\'', ..] => (1, true, false),
        [b'b' | b'B', b'"' | b'\'', ..] => (1, false, true),
        [b'b' | b'B', b'r' | b'R', b'"' | b'\'', ..]
        | [b'r' | b'R', b'b' | b'B', b'"' | b'\'', ..] => (2, true, true),
        _ => return None,
    };
    let quoted = &text[quote_at..];
    let single = &quoted[..1];
    let quote = if quoted.starts_with(&single.repeat(3)) { 3 } else { 1 };
    let mut out = Vec::new();
    let mut rest = &quoted[quote..];
    loop {
        if rest.starts_with(&quoted[..quote]) {
            let length = text.len() - rest.len() + quote;
            if bytes {
                return Some(Ok((Val::Bytes(out), length)));
            }
            // It was put together of characters.
            let text = String::from_utf8_lossy(&out).into_owned();
            return Some(Ok((Val::Str(text), length)));
        }
        let mut chars = rest.chars();
        match chars.next() {
            None => return Some(Err(text.len())),
            Some('\n') if quote == 1 => return Some(Err(text.len() - rest.len())),
            Some('\\') if !raw => match unescape(chars.as_str(), bytes, &mut out) {
                Some(after) => rest = after,
                None => {
                    let more = chars.next().map_or(0, char::len_utf8);
                    return Some(Err(text.len() - rest.len() + 1 + more));
                }
            },
            Some(char) => {
                out.extend(char.encode_utf8(&mut [0; 4]).bytes());
                rest = chars.as_str();
            }
        }
    }
}

/// Reads what follows a backslash.
fn unescape<'a>(text: &'a str, bytes: bool, out: &mut Vec<u8>) -> Option<&'a str> {
    let mut chars = text.chars();
    let char = chars.next()?;
    let code = |digits: usize, radix: u32, start: usize| {
        let word = text.get(start..start + digits)?;
        Some((u32::from_str_radix(word, radix).ok()?, &text[start + digits..]))
    };
    let (code, rest) = match char {
        'n' => (10, chars.as_str()),
        't' => (9, chars.as_str()),
        'r' => (13, chars.as_str()),
        'a' => (7, chars.as_str()),
        'b' => (8, chars.as_str()),
        'f' => (12, chars.as_str()),
        'v' => (11, chars.as_str()),
        'x' | 'X' => code(2, 16, 1)?,
        'u' if !bytes => code(4, 16, 1)?,
        'U' if !bytes => code(8, 16, 1)?,
        '0'..='3' => code(3, 8, 0)?,
        '\\' | '"' | '\'' | '`' | '?' => (char.into(), chars.as_str()),
        _ => return None,
    };
    match u8::try_from(code) {
        Ok(byte) if bytes => out.push(byte),
        _ => out.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).bytes()),
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let mut mistakes = Vec::new();
        let text = r#"ph >= 40.5 && 'x\'y' in r"\d" + """q"z""" // more"#;
        let all = tokens(text, &mut mistakes);
        let texts: Vec<_> = all.iter().map(|token| token.text).collect();
        let want =
            ["ph", ">=", "40.5", "&&", r"'x\'y'", "in", r#"r"\d""#, "+", r#""""q"z""""#, "<EOF>"];
        assert_eq!(texts, want);
        assert_eq!(all[4].kind, Kind::Literal(Val::Str("x'y".into())));
        assert_eq!(all[8].kind, Kind::Literal(Val::Str("q\"z".into())));
        assert!(mistakes.is_empty());
        for (text, kind) in [
            (".5", Kind::Literal(Val::Float(0.5))),
            ("1e3", Kind::Literal(Val::Float(1000.0))),
            ("0x1F", Kind::Literal(Val::Int(31))),
            ("7u", Kind::Literal(Val::Uint(7))),
            ("99999999999999999999", Kind::BadNumber("int")),
            (r#"b"a\xff""#, Kind::Literal(Val::Bytes(vec![b'a', 0xff]))),
            (r#""\u0041\x42""#, Kind::Literal(Val::Str("AB".into()))),
        ] {
            assert_eq!(tokens(text, &mut mistakes)[0].kind, kind, "{text}");
        }
        assert!(mistakes.is_empty());
        for bad in ["'a", "`a`", r"'\q'", "'\\", "é", "'\n'", "@"] {
            mistakes.clear();
            tokens(bad, &mut mistakes);
            assert!(!mistakes.is_empty(), "{bad}");
        }
    }
}
