//! Heredocs are copied as they are.

use super::Formatter;
use crate::lexer::is_marker;

/// Whether the formatter is in a heredoc.
#[derive(Default)]
pub(super) struct Heredoc {
    state: State,
    /// Whether the word has an escaped `<`.
    escaped: bool,
    marker: String,
    /// Where the current line of the body begins in the output.
    line: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// A `<` that begins a word was read.
    First,
    /// `<<` was read, the marker is being read.
    Opening,
    /// In the body.
    Open,
}

impl Heredoc {
    /// A `<` began a word.
    pub(super) fn first(&mut self) {
        self.state = State::First;
    }

    pub(super) fn escape(&mut self) {
        self.escaped = true;
    }

    pub(super) fn end_word(&mut self) {
        self.escaped = false;
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.marker.clear();
    }
}

impl Formatter {
    /// Takes the character if it belongs to a heredoc.
    pub(super) fn feed_heredoc(&mut self, c: char) -> bool {
        match self.heredoc.state {
            State::Closed => false,
            State::First if c == '<' && !self.heredoc.escaped => {
                self.write(c);
                self.heredoc.state = State::Opening;
                true
            }
            State::First => {
                self.heredoc.close();
                false
            }
            State::Opening => self.opening(c),
            State::Open => self.body(c),
        }
    }

    fn opening(&mut self, c: char) -> bool {
        if c == '\n' {
            if is_marker(&self.heredoc.marker) {
                self.heredoc.state = State::Open;
                self.write(c);
                self.heredoc.line = self.out.len();
            } else {
                self.heredoc.close();
                self.next_line();
            }
            return true;
        }
        if c.is_whitespace() {
            // With a space it is an ordinary word.
            self.heredoc.close();
            return false;
        }
        self.heredoc.marker.push(c);
        self.write(c);
        true
    }

    /// The body ends where whitespace follows the marker.
    fn body(&mut self, c: char) -> bool {
        if c.is_whitespace() && self.out[self.heredoc.line..].ends_with(&self.heredoc.marker) {
            self.heredoc.close();
            return false;
        }
        self.write(c);
        if c == '\n' {
            self.heredoc.line = self.out.len();
        }
        true
    }
}
