//! Text of a config as it may be shown on a terminal.

use std::borrow::Cow;

/// A text without characters that a terminal takes for commands, or that turn the order of others:
/// control characters but tabs and line ends, and the overrides of Unicode's bidirectional algorithm.
/// Each is replaced by another one of as many bytes, so that places in the text stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(one) = rest.next() {
        let ends_line = one == '\r' && rest.peek() == Some(&'\n');
        shown.push(match one.len_utf8() {
            _ if ends_line || !is_command(one) => one,
            1 => '?',
            2 => '\u{bf}',
            _ => char::REPLACEMENT_CHARACTER,
        });
    }
    shown.into()
}

fn is_command(one: char) -> bool {
    one.is_control() && !matches!(one, '\t' | '\n')
        || matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_as_long_and_harmless() {
        for (text, shown) in [
            ("caf\u{e9} \u{2713}\t\n", "caf\u{e9} \u{2713}\t\n"),
            ("a\r\nb\rc", "a\r\nb?c"),
            ("\u{1b}[31mred\u{7f}\0", "?[31mred??"),
            ("\u{9b}1m", "\u{bf}1m"),
            ("\u{202e}txt", "\u{fffd}txt"),
        ] {
            assert_eq!((plain(text).len(), &*plain(text)), (text.len(), shown));
        }
    }
}
