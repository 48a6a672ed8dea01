//! A cursor over flat tokens with a notion of lines and blocks.
//!
//! The usual walk through a directive:
//!
//! ```
//! # use caddis_caddyfile::{Dispenser, tokenize};
//! # let tokens = tokenize("Caddyfile", "header X-A 1 {\n\tdefer\n}").unwrap();
//! let mut d = Dispenser::new(tokens);
//! d.next(); // the name of the directive
//! let args = d.remaining_args();
//! assert_eq!(args, ["X-A", "1"]);
//! let nesting = d.nesting();
//! while d.next_block(nesting) {
//!     assert_eq!(d.val(), "defer");
//! }
//! ```

mod args;
mod errors;
mod scalar;
#[cfg(test)]
mod tests;

use crate::ast::Segment;
use crate::token::Token;

pub use scalar::ScalarVal;

/// The key of the matcher's name in a dispenser's context.
pub const MATCHER_NAME: &str = "matcher_name";

/// A cursor over tokens.
#[derive(Clone, Debug, Default)]
pub struct Dispenser {
    tokens: Vec<Token>,
    /// One more than the place of the current token; 0 before the first.
    cursor: usize,
    nesting: usize,
    context: Vec<(&'static str, String)>,
    empty: Token,
}

impl Dispenser {
    /// A cursor before the first of these tokens.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// A cursor before the name of a directive.
    pub fn from_segment(segment: &Segment) -> Self {
        Self::new(segment.0.clone())
    }

    /// Moves to the next token, if there is one.
    #[expect(
        clippy::should_implement_trait,
        reason = "the name that Caddy's dispenser has; it gives no item"
    )]
    pub fn next(&mut self) -> bool {
        let more = self.cursor < self.tokens.len();
        self.cursor += usize::from(more);
        more
    }

    /// Moves back one token, at most before the first. Says whether there is a current token.
    pub fn prev(&mut self) -> bool {
        self.cursor = self.cursor.saturating_sub(1);
        self.cursor > 0
    }

    /// Moves to the next token if it is an argument: on the same line and not a `{`.
    pub fn next_arg(&mut self) -> bool {
        if !self.next_on_same_line() {
            return false;
        }
        if self.token().is_open_brace() {
            self.cursor -= 1;
            return false;
        }
        true
    }

    /// Moves to the next token if it is on the same line.
    pub fn next_on_same_line(&mut self) -> bool {
        match self.next_is_on_new_line() {
            Some(false) => self.next(),
            None if self.cursor == 0 => self.next(),
            _ => false,
        }
    }

    /// Moves to the next token if it is on another line.
    pub fn next_line(&mut self) -> bool {
        match self.next_is_on_new_line() {
            Some(true) => self.next(),
            None if self.cursor == 0 => self.next(),
            _ => false,
        }
    }

    /// Walks through a block. The first call opens it if a `{` follows on the line; it gives true
    /// while there are tokens inside. The braces of the block itself are stepped over.
    pub fn next_block(&mut self, initial_nesting: usize) -> bool {
        if self.nesting > initial_nesting {
            if !self.next() {
                return false;
            }
            // A brace with something after it on its line does not count. As the look moves the
            // cursor on success, the token after such a brace becomes the current one.
            if self.token().is_close_brace() && !self.next_on_same_line() {
                self.nesting -= 1;
            } else if self.token().is_open_brace() && !self.next_on_same_line() {
                self.nesting += 1;
            }
            return self.nesting > initial_nesting;
        }
        if !self.next_on_same_line() {
            return false;
        }
        if !self.token().is_open_brace() {
            self.cursor -= 1;
            return false;
        }
        self.next();
        if self.token().is_close_brace() {
            return false;
        }
        self.nesting += 1;
        true
    }

    /// How deep [`next_block`](Self::next_block) is.
    pub fn nesting(&self) -> usize {
        self.nesting
    }

    /// The current token; an empty one before the first.
    pub fn token(&self) -> &Token {
        self.current().unwrap_or(&self.empty)
    }

    /// The text of the current token; empty before the first.
    pub fn val(&self) -> &str {
        &self.token().text
    }

    /// The text of the current token with its quotes.
    pub fn val_raw(&self) -> String {
        self.token().raw()
    }

    /// The current token as the scalar it looks like.
    pub fn scalar_val(&self) -> ScalarVal {
        ScalarVal::of(self.token())
    }

    /// The file of the current token.
    pub fn file(&self) -> &str {
        self.token().file()
    }

    /// The line of the current token; 0 before the first.
    pub fn line(&self) -> u32 {
        self.token().line
    }

    /// Goes back before the first token.
    pub fn reset(&mut self) {
        self.cursor = 0;
        self.nesting = 0;
    }

    /// All tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Gives the tokens back.
    pub fn into_tokens(self) -> Vec<Token> {
        self.tokens
    }

    /// The tokens from the current one to the end of its line, or of the block that opens there.
    pub fn next_segment(&mut self) -> Segment {
        let mut tokens = vec![self.token().clone()];
        while self.next_arg() {
            tokens.push(self.token().clone());
        }
        let mut opened = false;
        let nesting = self.nesting;
        while self.next_block(nesting) {
            if !opened {
                // The opening brace was stepped over; the segment wants it.
                self.prev();
                tokens.push(self.token().clone());
                self.next();
                opened = true;
            }
            tokens.push(self.token().clone());
        }
        if opened {
            tokens.push(self.token().clone());
        }
        Segment(tokens)
    }

    /// A dispenser over [`next_segment`](Self::next_segment).
    #[must_use]
    pub fn new_from_next_segment(&mut self) -> Self {
        let mut inner = Self::new(self.next_segment().0);
        inner.context.clone_from(&self.context);
        inner
    }

    /// Removes the current token; the one before becomes the current one.
    pub fn delete(&mut self) {
        self.delete_n(1);
    }

    /// Removes the current token and those before it, `amount` in all; none if there are not enough.
    pub fn delete_n(&mut self, amount: usize) {
        if amount > 0 && self.cursor >= amount {
            self.tokens.drain(self.cursor - amount..self.cursor);
            self.cursor -= amount;
        }
    }

    /// Keeps a word for those who parse further in.
    pub fn set_context(&mut self, key: &'static str, value: impl Into<String>) {
        self.context.retain(|(name, _)| *name != key);
        self.context.push((key, value.into()));
    }

    /// A word that was kept; empty if there is none.
    pub fn context(&self, key: &str) -> &str {
        let found = self.context.iter().find(|(name, _)| *name == key);
        found.map_or("", |(_, value)| value)
    }

    /// Whether the current token starts a line.
    pub fn is_new_line(&self) -> bool {
        match self.cursor {
            0 | 1 => true,
            at => self.tokens[at - 2].next_is_on_new_line(&self.tokens[at - 1]),
        }
    }

    /// Whether the current token ends its line.
    pub fn is_next_on_new_line(&self) -> bool {
        self.next_is_on_new_line().unwrap_or(self.cursor > 0)
    }

    fn current(&self) -> Option<&Token> {
        self.tokens.get(self.cursor.checked_sub(1)?)
    }

    /// Whether the next token is on another line than the current one; none if one is missing.
    fn next_is_on_new_line(&self) -> Option<bool> {
        Some(self.current()?.next_is_on_new_line(self.tokens.get(self.cursor)?))
    }
}
