//! The block after an import line, for `{block}` and `{blocks.key}`.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::diagnostic::{Diagnostic, Result};
use crate::dispenser::Dispenser;
use crate::limits;
use crate::parser::{Reports, Stream};
use crate::token::Token;

/// The tokens inside the braces, whole and by first word.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) whole: Vec<Token>,
    pub(super) by_key: HashMap<SmolStr, Vec<Token>>,
}

/// Reads the block that opens after the current token, if one does. The cursor ends on its `}`, or on
/// the last token of a file that ends before: Caddy takes what there is.
pub(super) fn read(stream: &mut Stream, reports: &mut Reports) -> Result<(Blocks, bool)> {
    let before = stream.token().clone();
    if !stream.next_on_same_line() {
        return Ok((Blocks::default(), false));
    }
    let open = stream.token().clone();
    if !open.is_open_brace() {
        debug_assert_eq!(before.file(), open.file(), "only a brace is no argument");
        return Ok((Blocks::default(), false));
    }
    let (whole, closed) = inside(stream)?;
    if !closed {
        let message = "the block of an import has no closing brace";
        let warning = Diagnostic::warning(message).placed_at(&open);
        reports.push(warning.label(open.span, "this block is not closed"));
    }
    match by_key(&whole, stream.token()) {
        Ok(by_key) => Ok((Blocks { whole, by_key }, true)),
        Err(mistake) => {
            // The brace of a block without a name was not counted: the end is further on.
            if whole.first().is_some_and(Token::is_open_brace) {
                inside(stream)?;
            }
            Err(mistake)
        }
    }
}

/// Skips a block that opens after the current token.
pub(super) fn skip(stream: &mut Stream) {
    if stream.next_on_same_line() {
        // What is skipped has no mistakes.
        let _ = inside(stream);
    }
}

/// The tokens after the current `{` up to the `}` that closes it, and whether there is one. As in the
/// dispenser, a brace with something after it on its line does not count.
fn inside(stream: &mut Stream) -> Result<(Vec<Token>, bool)> {
    let mut whole = Vec::new();
    if !stream.next() {
        return Ok((whole, false));
    }
    if stream.token().is_close_brace() {
        return Ok((whole, true));
    }
    whole.push(stream.token().clone());
    let mut nesting = 1_usize;
    while stream.next() {
        if stream.token().is_close_brace() && !stream.next_on_same_line() {
            nesting -= 1;
            if nesting == 0 {
                return Ok((whole, true));
            }
        } else if stream.token().is_open_brace() && !stream.next_on_same_line() {
            nesting += 1;
        }
        if nesting > limits::BLOCK_DEPTH {
            let deep = Diagnostic::error("blocks are nested too deeply").at(stream.token());
            return Err(deep.code("caddyfile::limit"));
        }
        whole.push(stream.token().clone());
    }
    Ok((whole, false))
}

fn by_key(whole: &[Token], at: &Token) -> Result<HashMap<SmolStr, Vec<Token>>> {
    let mut found = HashMap::new();
    let mut d = Dispenser::new(whole.to_vec());
    while d.next() {
        if d.token().is_open_brace() {
            let mistake = Diagnostic::error("anonymous blocks are not supported").placed_at(at);
            return Err(mistake.label(d.token().span, "this block has no name"));
        }
        let key = d.token().text.clone();
        let mut tokens = d.remaining_args_tokens();
        let nesting = d.nesting();
        while d.next_block(nesting) {
            tokens.push(d.token().clone());
        }
        found.insert(key, tokens);
    }
    Ok(found)
}
