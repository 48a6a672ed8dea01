//! Template text → text pieces and the tokens of actions.

use super::eval::Stop;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// A token of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A word: keyword, function, `true`, `nil`.
    Word(String),
    /// `.Name`.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$name`.
    Variable(String),
    Text(String),
    Number(String),
    /// One of `( ) | , := =`.
    Mark(&'static str),
    /// White space, which parts arguments from chains.
    Space,
}

/// Tokens beyond these, and as many pieces, are refused: each takes far more memory than its text.
const MOST: usize = 1 << 20;

/// Takes a template apart.
///
/// # Errors
/// What is no template, or too much of one.
pub(super) fn pieces(text: &str, open: &str, close: &str) -> Result<Vec<Piece>, Stop> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    let mut count = 0;
    loop {
        if pieces.len().max(count) > MOST {
            return Err(Stop::text("the template has too many actions"));
        }
        let at = rest.find(open);
        let (mut before, after) = match at {
            Some(at) => (&rest[..at], Some(&rest[at + open.len()..])),
            None => (rest, None),
        };
        if trim {
            before = before.trim_start();
        }
        let Some(mut action) = after else {
            pieces.push(Piece::Text(before.to_owned()));
            return Ok(pieces);
        };
        if let Some(trimmed) = action.strip_prefix('-')
            && trimmed.starts_with(|c: char| c.is_ascii_whitespace())
        {
            before = before.trim_end();
            action = trimmed;
        }
        pieces.push(Piece::Text(before.to_owned()));
        if let Some(comment) = action.trim_start().strip_prefix("/*") {
            let (_, after) =
                comment.split_once("*/").ok_or_else(|| Stop::text("unclosed comment"))?;
            let (between, after) = after
                .split_once(close)
                .ok_or_else(|| Stop::text("comment ends before closing delimiter"))?;
            trim = between.trim() == "-";
            rest = after;
            continue;
        }
        let (tokens, after, trims) = tokens(action, close)?;
        count += tokens.len();
        pieces.push(Piece::Action(tokens));
        (rest, trim) = (after, trims);
    }
}

/// The tokens up to the closing delimiter, what is behind it, and whether it trims.
fn tokens<'a>(mut rest: &'a str, close: &str) -> Result<(Vec<Token>, &'a str, bool), Stop> {
    let mut out = Vec::new();
    loop {
        if out.len() > MOST {
            return Err(Stop::text("the action is too long"));
        }
        let trimmed = rest.trim_start();
        if trimmed.len() < rest.len() {
            if let Some(after) = trimmed.strip_prefix('-').and_then(|rest| rest.strip_prefix(close))
            {
                return Ok((out, after, true));
            }
            out.push(Token::Space);
            rest = trimmed;
        }
        if let Some(after) = rest.strip_prefix(close) {
            return Ok((out, after, false));
        }
        let (token, after) = token(rest)?;
        out.push(token);
        rest = after;
    }
}

fn token(rest: &str) -> Result<(Token, &str), Stop> {
    for mark in ["(", ")", "|", ",", ":=", "="] {
        if let Some(after) = rest.strip_prefix(mark) {
            return Ok((Token::Mark(mark), after));
        }
    }
    let word =
        |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let first = rest.chars().next().ok_or_else(|| Stop::text("unclosed action"))?;
    match first {
        '"' => quoted(rest),
        '`' => {
            let (inside, after) = rest[1..]
                .split_once('`')
                .ok_or_else(|| Stop::text("unterminated raw quoted string"))?;
            Ok((Token::Text(inside.to_owned()), after))
        }
        '$' => {
            let end = word(&rest[1..]);
            Ok((Token::Variable(rest[1..=end].to_owned()), &rest[1 + end..]))
        }
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let end = word(&rest[1..]);
            let name = &rest[1..=end];
            let token = if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned()) };
            Ok((token, &rest[1 + end..]))
        }
        '\'' => {
            let mut chars = rest[1..].chars();
            match (chars.next(), chars.next()) {
                (Some(c), Some('\'')) if c != '\\' => {
                    Ok((Token::Number(u32::from(c).to_string()), chars.as_str()))
                }
                _ => Err(Stop::text("unterminated character constant")),
            }
        }
        '0'..='9' | '-' | '+' | '.' => {
            let is_hex = rest.trim_start_matches(['-', '+']).starts_with("0x");
            let mut last = first;
            let end = rest[1..]
                .find(|c: char| {
                    let signs = !is_hex && matches!(last, 'e' | 'E') && matches!(c, '-' | '+');
                    last = c;
                    !(signs || c.is_ascii_alphanumeric() || c == '.' || c == '_')
                })
                .map_or(rest.len(), |end| end + 1);
            Ok((Token::Number(rest[..end].to_owned()), &rest[end..]))
        }
        c if c.is_alphabetic() || c == '_' => {
            let end = word(rest);
            Ok((Token::Word(rest[..end].to_owned()), &rest[end..]))
        }
        c => Err(Stop::text(format!("unexpected {c:?} in command"))),
    }
}

fn quoted(rest: &str) -> Result<(Token, &str), Stop> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), &rest[at + 1..])),
            '\n' => break,
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('"' | '\\' | '\'')) => out.push(c),
                Some(kind @ ('x' | 'u' | 'U')) => {
                    let digits = if kind == 'x' {
                        2
                    } else if kind == 'u' {
                        4
                    } else {
                        8
                    };
                    let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let found = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                    out.push(found.ok_or_else(|| Stop::text("invalid escape in string"))?);
                }
                _ => return Err(Stop::text("invalid escape in string")),
            },
            c => out.push(c),
        }
    }
    Err(Stop::text("unterminated quoted string"))
}
