//! Splits an expression into tokens.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Int(i64),
    Float(f64),
    Str(String),
    Ident(String),
    /// The key between the braces.
    Placeholder(String),
    Op(&'static str),
}

const OPERATORS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", "(", ")",
    "[", "]", "{", "}", ",", ".",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = if let Some(found) = placeholder(rest) {
            found
        } else if let Some(found) = string(rest)? {
            found
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest
                .find(|char: char| !char.is_ascii_alphanumeric() && char != '_')
                .unwrap_or(rest.len());
            (Token::Ident(rest[..end].to_owned()), &rest[end..])
        } else if let Some(operator) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            (Token::Op(operator), &rest[operator.len()..])
        } else {
            return Err(format!("Syntax error: token recognition error at: '{first}'"));
        };
        all.push(token);
        rest = after.trim_start();
    }
    Ok(all)
}

/// A placeholder starts with a letter and has at least two characters of word, `.` and `-`.
fn placeholder(text: &str) -> Option<(Token, &str)> {
    let (key, after) = text.strip_prefix('{')?.split_once('}')?;
    let mut chars = key.chars();
    let valid = chars.next()?.is_ascii_alphabetic()
        && key.len() > 1
        && chars.all(|char| char.is_ascii_alphanumeric() || "_.-".contains(char));
    valid.then(|| (Token::Placeholder(key.to_owned()), after))
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let mut end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '.');
    // A sign belongs to the exponent.
    if let Some(at) = end
        && text[..at].ends_with(['e', 'E'])
        && !text.starts_with("0x")
        && text[at..].starts_with(['+', '-'])
    {
        end = text[at + 1..].find(|c: char| !c.is_ascii_digit()).map(|more| at + 1 + more);
    }
    let (word, after) = text.split_at(end.unwrap_or(text.len()));
    let digits = word.trim_end_matches(['u', 'U']);
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok().map(Token::Int),
        None => digits
            .parse()
            .map(Token::Int)
            .ok()
            .or_else(|| digits.parse().ok().filter(|f: &f64| f.is_finite()).map(Token::Float)),
    };
    parsed.map(|token| (token, after)).ok_or_else(|| format!("Syntax error: bad number '{word}'"))
}

/// A string in one or three quotes of either kind; `r` before them takes backslashes as they are.
fn string(text: &str) -> Result<Option<(Token, &str)>, String> {
    let raw = text.strip_prefix(['r', 'R']);
    let quoted = match raw {
        Some(rest) if rest.starts_with(['"', '\'']) => rest,
        _ => text,
    };
    let raw = quoted.len() < text.len();
    let quote = match quoted.as_bytes().first() {
        Some(b'"') if quoted.starts_with("\"\"\"") => "\"\"\"",
        Some(b'\'') if quoted.starts_with("'''") => "'''",
        Some(b'"') => "\"",
        Some(b'\'') => "'",
        _ => return Ok(None),
    };
    let mut out = String::new();
    let mut rest = &quoted[quote.len()..];
    loop {
        if let Some(after) = rest.strip_prefix(quote) {
            return Ok(Some((Token::Str(out), after)));
        }
        let mut chars = rest.chars();
        match chars.next() {
            None => return Err("Syntax error: a string is not closed".into()),
            Some('\\') if !raw => rest = unescape(chars.as_str(), &mut out)?,
            Some(char) => {
                out.push(char);
                rest = chars.as_str();
            }
        }
    }
}

/// Reads what follows a backslash.
fn unescape<'a>(text: &'a str, out: &mut String) -> Result<&'a str, String> {
    let bad = || "Syntax error: bad escape sequence".to_owned();
    let mut chars = text.chars();
    let char = chars.next().ok_or_else(bad)?;
    let code = |digits: usize, radix: u32, start: usize| {
        let word = text.get(start..start + digits).ok_or_else(bad)?;
        let code = u32::from_str_radix(word, radix).map_err(|_| bad())?;
        let char = char::from_u32(code).ok_or_else(bad)?;
        Ok::<_, String>((char, &text[start + digits..]))
    };
    let (char, rest) = match char {
        'n' => ('\n', chars.as_str()),
        't' => ('\t', chars.as_str()),
        'r' => ('\r', chars.as_str()),
        'a' => ('\x07', chars.as_str()),
        'b' => ('\x08', chars.as_str()),
        'f' => ('\x0c', chars.as_str()),
        'v' => ('\x0b', chars.as_str()),
        'x' | 'X' => code(2, 16, 1)?,
        'u' => code(4, 16, 1)?,
        'U' => code(8, 16, 1)?,
        '0'..='3' => code(3, 8, 0)?,
        '\\' | '"' | '\'' | '`' | '?' => (char, chars.as_str()),
        _ => return Err(bad()),
    };
    out.push(char);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let got = tokens(r#"{a.b-c} >= 40.5 && 'x\'y' in r"\d" + """q"z""""#).expect("tokens");
        let want = [
            Token::Placeholder("a.b-c".into()),
            Token::Op(">="),
            Token::Float(40.5),
            Token::Op("&&"),
            Token::Str("x'y".into()),
            Token::Ident("in".into()),
            Token::Str(r"\d".into()),
            Token::Op("+"),
            Token::Str("q\"z".into()),
        ];
        assert_eq!(got, want);
        assert_eq!(tokens("{'a': 0x1f}").expect("tokens").len(), 5);
        for bad in ["'a", "`a`", r"'\q'", "'\\", "1x", "é"] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
