//! `<<MARKER`, lines, `MARKER`.
//!
//! The first place where the marker stands ends the text, wherever it is on its line. What stands
//! before it on that line is the indent, which every line that is not empty must have and loses. The
//! last newline and all carriage returns go. `<<` with a space after it is a word.

use nom::bytes::complete::{tag, take_till, take_until, take_while, take_while1};
use nom::combinator::all_consuming;
use nom::{IResult, Parser};
use smol_str::SmolStr;

use crate::limits::shown;

/// What `<<` turned out to be.
pub(super) enum Heredoc<'a> {
    /// A bare word.
    Word { text: SmolStr, rest: &'a str },
    /// A text of so many more lines; the mistake is one that can be read over.
    Body { text: SmolStr, rest: &'a str, lines: u32, mistake: Option<String> },
    /// The end of the file right after the opener.
    Nothing,
    /// A mistake after which nothing can be trusted.
    Bad { message: String, rest: &'a str },
}

/// Whether `<<` is next.
pub(super) fn opens(input: &str) -> bool {
    opener(input).is_ok()
}

/// Whether a text may be a marker.
pub(super) fn is_marker(text: &str) -> bool {
    let mut marker =
        all_consuming(take_while1(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    let result: IResult<&str, &str> = marker.parse(text);
    result.is_ok()
}

/// Reads from `<<` on. `line` and `joined` are the line and the lines joined to it so far, for the
/// sentences.
pub(super) fn heredoc(input: &str, line: u32, joined: u32) -> Heredoc<'_> {
    let Ok((rest, written)) = opener(input) else {
        return Heredoc::Word { text: SmolStr::default(), rest: input };
    };
    let after = written.replace('\r', "");
    let Some(body) = rest.strip_prefix('\n') else {
        return Heredoc::Word { text: format!("<<{after}").into(), rest };
    };
    if let Some(message) = bad_marker(&after, line) {
        return Heredoc::Bad { message, rest };
    }
    let Ok((at_marker, content)) = until(&after, body) else {
        if body.is_empty() {
            return Heredoc::Nothing;
        }
        let last = line + joined + 1 + count_lines(body);
        let message =
            format!("incomplete heredoc <<{after} on line #{last}, expected ending marker {after}");
        return Heredoc::Bad { message, rest: "" };
    };
    let (text, mistake) = stripped(content, &after, line);
    let rest = &at_marker[after.len()..];
    Heredoc::Body { text: text.into(), rest, lines: count_lines(content) + 1, mistake }
}

/// `'<' '<'` and what follows up to a space or a newline; carriage returns count for nothing.
fn opener(input: &str) -> IResult<&str, &str> {
    let cr = || take_while(|c| c == '\r');
    let parts = (tag("<"), cr(), tag("<"), take_till(|c| c == ' ' || c == '\n'));
    parts.map(|(_, _, _, after)| after).parse(input)
}

fn until<'a>(marker: &str, body: &'a str) -> IResult<&'a str, &'a str> {
    take_until(marker).parse(body)
}

fn bad_marker(marker: &str, line: u32) -> Option<String> {
    const CHARS: &str = "must contain only alphanumeric characters, dashes and underscores";
    if marker.is_empty() {
        Some(format!("missing opening heredoc marker on line #{line}; {CHARS}; got empty string"))
    } else if marker.starts_with('<') {
        Some(format!("too many '<' for heredoc on line #{line}; only use two, for example <<END"))
    } else if !is_marker(marker) {
        let marker = shown(marker);
        Some(format!("heredoc marker on line #{line} {CHARS}; got '{marker}'"))
    } else {
        None
    }
}

/// The text without the indent, and the first line that does not have it. Such lines stay as they
/// are.
fn stripped(content: &str, marker: &str, line: u32) -> (String, Option<String>) {
    let (lines, indent) = content.rsplit_once('\n').unwrap_or(("", content));
    let mut mistake = None;
    let mut text = String::with_capacity(lines.len());
    if !content.contains('\n') {
        return (text, None);
    }
    for (number, full) in lines.split('\n').enumerate() {
        if number > 0 {
            text.push('\n');
        }
        if full.is_empty() || full == "\r" {
            continue;
        }
        let kept = full.strip_prefix(indent).unwrap_or_else(|| {
            mistake.get_or_insert_with(|| {
                let at = line as usize + number + 1;
                let found = shown(full.trim_end_matches('\r'));
                let indent = shown(indent);
                format!(
                    "mismatched leading whitespace in heredoc <<{marker} on line #{at} [{found}], expected whitespace [{indent}] to match the closing marker"
                )
            });
            full
        });
        text.extend(kept.chars().filter(|c| *c != '\r'));
    }
    (text, mistake)
}

fn count_lines(text: &str) -> u32 {
    text.bytes().filter(|b| *b == b'\n').count() as u32
}
