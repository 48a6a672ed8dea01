//! The token stream of the parser: one token of look-ahead and one of look-back, and a cheap way to
//! put the tokens of an import in front.

use std::collections::VecDeque;

use crate::token::Token;

/// Tokens around a cursor.
pub(crate) struct Stream {
    /// The token before the current one; unknown after [`back`](Self::back).
    before: Option<Token>,
    current: Option<Token>,
    /// What is next, last first; never empty while there are later tokens.
    rest: Vec<Token>,
    /// What comes after it, in chunks whose memory can be used again when they are read.
    later: VecDeque<Vec<Token>>,
    empty: Token,
}

impl Stream {
    pub(crate) fn new(chunks: Vec<Vec<Token>>) -> Self {
        let mut stream = Self {
            before: None,
            current: None,
            rest: Vec::new(),
            later: chunks.into(),
            empty: Token::default(),
        };
        stream.refill();
        stream
    }

    fn pop(&mut self) -> Option<Token> {
        let next = self.rest.pop();
        if self.rest.is_empty() {
            self.refill();
        }
        next
    }

    fn refill(&mut self) {
        while self.rest.is_empty()
            && let Some(chunk) = self.later.pop_front()
        {
            self.rest = chunk;
            self.rest.reverse();
        }
    }

    /// Moves to the next token; stays and gives false at the end.
    pub(crate) fn next(&mut self) -> bool {
        let Some(next) = self.pop() else { return false };
        self.before = self.current.replace(next);
        true
    }

    /// Moves to the next token, or past the end.
    pub(crate) fn step(&mut self) {
        self.before = self.current.take();
        self.current = self.pop();
    }

    /// Moves back one token. Only once, and [`next`](Self::next) must follow.
    pub(crate) fn back(&mut self) {
        if let Some(current) = self.current.take() {
            self.rest.push(current);
        }
        self.current = self.before.take();
    }

    /// Moves to the next token if it is on the same line.
    pub(crate) fn next_on_same_line(&mut self) -> bool {
        !self.is_next_on_new_line() && self.next()
    }

    /// Moves to the next token if it is on the same line and not a `{`.
    pub(crate) fn next_arg(&mut self) -> bool {
        self.rest.last().is_some_and(|next| !next.is_open_brace()) && self.next_on_same_line()
    }

    /// The current token; an empty one at either end.
    pub(crate) fn token(&self) -> &Token {
        self.current.as_ref().unwrap_or(&self.empty)
    }

    /// Replaces the current token.
    pub(crate) fn replace(&mut self, token: Token) {
        self.current = Some(token);
    }

    /// Whether the current token starts a line.
    pub(crate) fn is_new_line(&self) -> bool {
        match (&self.before, &self.current) {
            (Some(before), Some(current)) => before.next_is_on_new_line(current),
            (None, _) => true,
            (_, None) => false,
        }
    }

    /// Whether the current token ends its line.
    pub(crate) fn is_next_on_new_line(&self) -> bool {
        match (&self.current, self.rest.last()) {
            (Some(current), Some(next)) => current.next_is_on_new_line(next),
            (current, _) => current.is_some(),
        }
    }

    /// The token before the current one.
    pub(crate) fn before(&self) -> Option<&Token> {
        self.before.as_ref()
    }

    /// Puts tokens in front of what is to come and the cursor before them, on `cursor`.
    pub(crate) fn splice(&mut self, cursor: Option<Token>, tokens: Vec<Token>) {
        self.rest.extend(tokens.into_iter().rev());
        self.before = None;
        self.current = cursor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_back_and_splices() {
        let tokens = ["a", "b", "c"].map(Token::synthetic).to_vec();
        let mut stream = Stream::new(tokens.chunks(2).map(<[_]>::to_vec).collect());
        assert!(stream.is_new_line() && stream.next() && stream.next());
        assert_eq!(stream.token().text, "b");
        assert!(!stream.is_new_line());
        stream.back();
        assert!(stream.next() && stream.token().text == "b");
        stream.splice(Some(Token::synthetic("b")), vec![Token::synthetic("x")]);
        stream.step();
        assert_eq!(stream.token().text, "x");
        assert!(stream.next() && !stream.next());
        assert_eq!(stream.token().text, "c");
        stream.step();
        assert_eq!(stream.token().text, "");
    }
}
