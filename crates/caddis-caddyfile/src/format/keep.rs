//! Whether two texts say the same.

use crate::token::{Quote, Token};

/// Whether formatting changed nothing but whitespace, and that not inside of words.
pub(super) fn same_tokens(before: &str, after: &str) -> bool {
    if !visible(before).eq(visible(after)) {
        return false;
    }
    // A text that cannot be read has no tokens to lose.
    let Ok(before) = crate::tokenize("", before) else { return true };
    let Ok(after) = crate::tokenize("", after) else { return false };
    before.iter().flat_map(pieces).eq(after.iter().flat_map(pieces))
}

fn visible(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_whitespace())
}

/// A word and the braces that are written without a space beside it; a quoted token is whole.
fn pieces(token: &Token) -> impl Iterator<Item = (Quote, &str)> {
    let text = token.text.as_str();
    let bare = token.quote == Quote::None && !text.is_empty();
    let split = bare.then(|| text.split_inclusive(['{', '}']).flat_map(word_and_brace));
    let whole = (!bare).then_some(text);
    split.into_iter().flatten().chain(whole).map(|piece| (token.quote, piece))
}

fn word_and_brace(piece: &str) -> impl Iterator<Item = &str> {
    let word = piece.trim_end_matches(['{', '}']);
    [word, &piece[word.len()..]].into_iter().filter(|part| !part.is_empty())
}
