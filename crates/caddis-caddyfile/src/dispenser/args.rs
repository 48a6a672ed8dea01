//! Arguments: the tokens that follow on the line.

use super::Dispenser;
use crate::token::Token;

impl Dispenser {
    /// Fills the targets with the next arguments; false if there are too few.
    pub fn args(&mut self, targets: &mut [&mut String]) -> bool {
        for target in targets {
            if !self.next_arg() {
                return false;
            }
            self.val().clone_into(target);
        }
        true
    }

    /// The next arguments, if there are exactly `N`.
    pub fn all_args<const N: usize>(&mut self) -> Option<[String; N]> {
        let mut found = [const { String::new() }; N];
        for target in &mut found {
            if !self.next_arg() {
                return None;
            }
            self.val().clone_into(target);
        }
        if self.next_arg() {
            self.prev();
            return None;
        }
        Some(found)
    }

    /// The remaining arguments of the line.
    pub fn remaining_args(&mut self) -> Vec<String> {
        self.collect_args(|token| token.text.to_string())
    }

    /// The remaining arguments of the line with their quotes.
    pub fn remaining_args_raw(&mut self) -> Vec<String> {
        self.collect_args(Token::raw)
    }

    /// The remaining arguments of the line as tokens.
    pub fn remaining_args_tokens(&mut self) -> Vec<Token> {
        self.collect_args(Token::clone)
    }

    /// The number of remaining arguments of the line; does not move.
    pub fn count_remaining_args(&mut self) -> usize {
        let before = self.cursor;
        let mut count = 0;
        while self.next_arg() {
            count += 1;
        }
        self.cursor = before;
        count
    }

    fn collect_args<T>(&mut self, of: impl Fn(&Token) -> T) -> Vec<T> {
        let mut found = Vec::new();
        while self.next_arg() {
            found.push(of(self.token()));
        }
        found
    }
}
