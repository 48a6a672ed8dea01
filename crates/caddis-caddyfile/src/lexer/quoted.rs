//! `"text"` and `` `text` ``.
//!
//! Both may span lines. In double quotes `\"` is a quote and every other backslash stays. Backticks
//! are raw. A quote that is never closed takes the rest of the text.

use nom::bytes::complete::{take_till, take_until};
use nom::character::complete::{anychar, char};
use nom::combinator::opt;
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};
use smol_str::SmolStr;

/// A quoted text and what follows.
pub(super) struct Quoted<'a> {
    pub(super) text: SmolStr,
    /// As written, for counting lines.
    pub(super) raw: &'a str,
    pub(super) rest: &'a str,
    pub(super) closed: bool,
}

/// Reads `"…"`. `escaped`: a backslash was read before the opening quote; it counts for the first
/// character inside.
pub(super) fn double(input: &str, escaped: bool) -> Quoted<'_> {
    let body = &input[1..];
    let mut rest = body;
    let mut owned = String::new();
    let mut plain: &str = "";
    if escaped && let Ok((after, c)) = any(rest) {
        escape(&mut owned, c);
        rest = after;
    }
    loop {
        let (after, run) = run(rest).unwrap_or((rest, ""));
        if owned.is_empty() && plain.is_empty() {
            plain = run;
        } else {
            owned.push_str(std::mem::take(&mut plain));
            owned.push_str(run);
        }
        match escape_pair(after) {
            Ok((after, c)) => {
                owned.push_str(std::mem::take(&mut plain));
                if let Some(c) = c {
                    escape(&mut owned, c);
                }
                rest = after;
            }
            Err(_) => {
                rest = after;
                break;
            }
        }
    }
    let closed = rest.starts_with('"');
    let raw = &body[..body.len() - rest.len()];
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    let text = if owned.is_empty() { plain.into() } else { owned.into() };
    Quoted { text, raw, rest, closed }
}

/// Reads `` `…` ``.
pub(super) fn backtick(input: &str) -> Quoted<'_> {
    let body = &input[1..];
    let (rest, raw, closed) = match raw(body) {
        Ok((rest, raw)) => (rest, raw, true),
        Err(_) => ("", body, false),
    };
    Quoted { text: raw.into(), raw, rest, closed }
}

fn raw(input: &str) -> IResult<&str, &str> {
    terminated(take_until("`"), char('`')).parse(input)
}

fn run(input: &str) -> IResult<&str, &str> {
    take_till(|c| c == '"' || c == '\\').parse(input)
}

fn any(input: &str) -> IResult<&str, char> {
    anychar(input)
}

fn escape_pair(input: &str) -> IResult<&str, Option<char>> {
    preceded(char('\\'), opt(anychar)).parse(input)
}

fn escape(text: &mut String, c: char) {
    if c != '"' {
        text.push('\\');
    }
    text.push(c);
}
