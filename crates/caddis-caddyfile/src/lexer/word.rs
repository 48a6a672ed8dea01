//! Bare words.
//!
//! A word ends at whitespace; carriage returns are dropped wherever they are. A backslash is kept
//! with the character after it, except: `\<` drops it (so that `\<<` starts no heredoc), and before
//! whitespace it is dropped, which joins lines if that whitespace is a newline.

use nom::branch::alt;
use nom::bytes::complete::{take_till1, take_while, take_while1};
use nom::character::complete::{anychar, char};
use nom::combinator::{opt, value, verify};
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};
use smol_str::SmolStr;

/// A word and what follows.
pub(super) struct Word<'a> {
    pub(super) text: SmolStr,
    pub(super) rest: &'a str,
    /// Whether it ended in a backslash and a newline, both read.
    pub(super) joins_lines: bool,
}

#[derive(Clone)]
enum Piece<'a> {
    /// Characters that stay as they are.
    Run(&'a str),
    /// A dropped carriage return.
    Nothing,
    /// A backslash and what it stands before; nothing at the end of the text.
    Escape(Option<char>),
}

/// Reads a word. `escaped`: a backslash was read before it.
pub(super) fn word(input: &str, escaped: bool) -> Word<'_> {
    if !escaped && let Some(word) = plain(input) {
        return word;
    }
    let mut rest = input;
    let mut text = Text::default();
    if escaped && let Ok((after, c)) = first(rest) {
        rest = after;
        text.escaped(c);
    }
    let mut joins_lines = false;
    while let Ok((after, piece)) = piece(rest) {
        rest = after;
        match piece {
            Piece::Run(run) => text.push(run),
            Piece::Nothing | Piece::Escape(None) => {}
            Piece::Escape(Some(c)) if c.is_whitespace() => {
                joins_lines = c == '\n';
                break;
            }
            Piece::Escape(Some(c)) => text.escaped(c),
        }
    }
    Word { text: text.finish(), rest, joins_lines }
}

/// A word of ASCII without backslash that ends at a usual space: most words are.
fn plain(input: &str) -> Option<Word<'_>> {
    let end = input.bytes().position(|b| matches!(b, b'\t'..=b'\r' | b' ' | b'\\' | 0x80..));
    let (text, rest) = input.split_at_checked(end.unwrap_or(input.len()))?;
    let ends = matches!(rest.as_bytes().first(), None | Some(b' ' | b'\t' | b'\n'));
    (ends && !text.is_empty()).then(|| Word { text: text.into(), rest, joins_lines: false })
}

fn first(input: &str) -> IResult<&str, char> {
    verify(anychar, |c: &char| !c.is_whitespace()).parse(input)
}

fn piece(input: &str) -> IResult<&str, Piece<'_>> {
    alt((
        take_till1(|c: char| c == '\\' || c.is_whitespace()).map(Piece::Run),
        value(Piece::Nothing, take_while1(|c| c == '\r')),
        preceded(pair(char('\\'), take_while(|c| c == '\r')), opt(anychar)).map(Piece::Escape),
    ))
    .parse(input)
}

/// The text of a word: a slice of the input until something has to be changed.
#[derive(Default)]
struct Text<'a> {
    slice: &'a str,
    owned: String,
}

impl<'a> Text<'a> {
    fn push(&mut self, run: &'a str) {
        if self.slice.is_empty() && self.owned.is_empty() {
            self.slice = run;
        } else {
            self.own().push_str(run);
        }
    }

    fn escaped(&mut self, c: char) {
        let owned = self.own();
        if c != '<' {
            owned.push('\\');
        }
        owned.push(c);
    }

    fn own(&mut self) -> &mut String {
        self.owned.push_str(std::mem::take(&mut self.slice));
        &mut self.owned
    }

    fn finish(self) -> SmolStr {
        if self.owned.is_empty() { self.slice.into() } else { self.owned.into() }
    }
}
