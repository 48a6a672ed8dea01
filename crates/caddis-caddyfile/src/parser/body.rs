//! The body of a block: directives as flat segments.

use super::Parser;
use crate::ast::Segment;
use crate::diagnostic::{Diagnostic, Result};
use crate::limits;
use crate::span::Span;

impl Parser<'_> {
    pub(super) fn block_contents(&mut self) -> Result<()> {
        let open = self.stream.token().clone();
        let has_brace = open.is_open_brace();
        if !has_brace {
            // A lone site needs no braces.
            self.stream.back();
        }
        let closed = self.directives()?;
        if !has_brace || closed {
            return Ok(());
        }
        let not_closed = "this block is not closed";
        if self.stream.token().is_close_brace() {
            // Caddy takes the brace of the last directive for the missing one.
            let message = "the last block of the file has no closing brace";
            let warning = Diagnostic::warning(message).placed_at(&open);
            let warning = warning.help("add a `}` at the end of the file");
            self.reports.push(warning.label(open.span, not_closed));
            return Ok(());
        }
        Err(self.syntax_err("}").label(open.span, not_closed))
    }

    /// Reads directives up to the closing brace; false if the file ends first.
    fn directives(&mut self) -> Result<bool> {
        while self.stream.next() {
            if self.stream.token().is_close_brace() {
                return Ok(true);
            }
            if self.stream.token().text == "import" {
                self.import(1)?;
                continue;
            }
            self.directive()?;
        }
        Ok(false)
    }

    /// Collects a directive up to the end of its line, or of the block that opens there.
    fn directive(&mut self) -> Result<()> {
        let mut segment = vec![self.stream.token().clone()];
        // The places of the braces that are open.
        let mut open: Vec<Span> = Vec::new();
        while self.stream.next() {
            let token = self.stream.token();
            if token.is_open_brace() {
                open.push(token.span);
                if open.len() > limits::BLOCK_DEPTH {
                    return Err(self.too_deep());
                }
                self.check_open_brace();
            } else if !token.is_quoted() && token.text == "{}" {
                if self.stream.is_next_on_new_line() {
                    let mistake = self.error("Unexpected '{}' at end of line");
                    let help = "leave the braces away, or put them on lines of their own";
                    self.reports.push(mistake.help(help));
                }
            } else if open.is_empty() && self.stream.is_new_line() {
                self.stream.back();
                break;
            } else if token.is_close_brace() {
                if open.pop().is_none() {
                    let mistake = self.error("Unexpected '}' because no matching opening brace");
                    self.reports.push(mistake.help("put the closing brace on its own line"));
                    // It was most likely meant to close the block around.
                    self.stream.back();
                    break;
                }
            } else if token.text == "import" && self.stream.is_new_line() {
                self.import(1)?;
                continue;
            }
            segment.push(self.stream.token().clone());
        }
        segment.shrink_to_fit();
        self.block.segments.push(Segment(segment));
        match open.pop() {
            Some(brace) => Err(self.eof_err().label(brace, "this block is not closed")),
            None => Ok(()),
        }
    }

    fn check_open_brace(&mut self) {
        if !self.stream.is_next_on_new_line() {
            let mistake = self.error("Unexpected next token after '{' on same line");
            self.reports.push(mistake.help("put what follows the brace on the next line"));
        } else if self.stream.is_new_line() {
            let message =
                "Unexpected '{' on a new line; did you mean to place the '{' on the previous line?";
            let mistake = self.error(message).help("put it at the end of the line before");
            self.reports.push(mistake);
        }
    }
}
