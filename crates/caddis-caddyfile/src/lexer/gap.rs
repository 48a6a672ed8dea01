//! What stands between tokens.

use nom::branch::alt;
use nom::bytes::complete::{take_till, take_while1};
use nom::character::complete::char;
use nom::combinator::value;
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// A piece of a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Whitespace that is not a newline.
    Blank,
    /// The end of a line.
    Newline,
    /// `#` to the end of the line, and whether a backslash is in it.
    Comment { backslash: bool },
    /// A backslash: it joins lines if a newline is next, else it belongs to the next token.
    Backslash,
}

/// `blank | newline | comment | '\'`
pub(super) fn piece(input: &str) -> IResult<&str, Piece> {
    alt((
        value(Piece::Blank, take_while1(is_blank)),
        value(Piece::Newline, char('\n')),
        comment,
        value(Piece::Backslash, char('\\')),
    ))
    .parse(input)
}

fn comment(input: &str) -> IResult<&str, Piece> {
    preceded(char('#'), take_till(|c| c == '\n'))
        .map(|text: &str| Piece::Comment { backslash: text.contains('\\') })
        .parse(input)
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        assert_eq!(piece(" \t\r\u{a0}\nx"), Ok(("\nx", Piece::Blank)));
        assert_eq!(piece("\nx"), Ok(("x", Piece::Newline)));
        assert_eq!(piece("# a\\b\nx"), Ok(("\nx", Piece::Comment { backslash: true })));
        assert_eq!(piece("\\x"), Ok(("x", Piece::Backslash)));
        assert!(piece("x").is_err());
    }
}
