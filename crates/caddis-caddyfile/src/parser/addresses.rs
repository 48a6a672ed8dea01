//! The head of a block: site addresses up to `{` or the end of the line.
//!
//! Addresses are separated by spaces; a comma at the end of one lets the list go on, also on the next
//! line.

use super::{Head, Parser, Stray};
use crate::diagnostic::{Diagnostic, Result};
use crate::limits::quoted;
use crate::token::Token;

impl Parser<'_> {
    pub(super) fn addresses(&mut self) -> Result<Head> {
        let mut expecting = false;
        loop {
            let token = self.stream.token().clone();
            if let Some(head) = self.not_an_address(&token) {
                return Ok(head);
            }
            if token.text == "import" && self.stream.is_new_line() {
                self.import(0)?;
                self.stream.step();
                continue;
            }
            if token.is_open_brace() {
                if expecting {
                    let message = "Expected another address but had '{' - check for extra comma";
                    let mistake = self.error(message).help(
                        "remove the comma at the end, or write the address that is to follow it",
                    );
                    self.reports.push(mistake);
                }
                self.block.has_braces = true;
                if self.block.keys.is_empty() {
                    self.block.open = Some(token.span);
                }
                return Ok(Head::Body);
            }
            if self.ends_with_brace(&token) {
                continue;
            }
            if !token.text.is_empty() {
                expecting = token.text.ends_with(',');
                self.key(&token);
            }
            let more = self.stream.next();
            if expecting && !more {
                return Err(self.eof_err());
            }
            if !more {
                return Ok(Head::End);
            }
            if !expecting && self.stream.is_new_line() {
                return Ok(Head::Body);
            }
        }
    }

    /// Reports what cannot begin or be an address, and skips it.
    fn not_an_address(&mut self, token: &Token) -> Option<Head> {
        let is_stray = token.is_close_brace() && self.block.keys.is_empty();
        let message = if token.text.starts_with('@') {
            let name = &token.text;
            let name = quoted(name);
            format!(
                "request matchers may not be defined globally, they must be in a site block; found {name}"
            )
        } else if is_stray && self.stray == Stray::Reported {
            "Unexpected '}' because no matching opening brace".to_owned()
        } else {
            return None;
        };
        let mistake = self.error(message);
        if is_stray {
            let mistake = mistake.code(super::STRAY_BRACE);
            let mistake = mistake.help("remove it, or look above for a line that lacks its `{`");
            self.reports.push(with_label(mistake, "this closes nothing"));
        } else {
            let mistake = mistake.help(
                "put it into the block of a site; if it is in one, a `}` above closes that too early",
            );
            self.reports.push(with_label(mistake, "not inside a site block"));
            self.skip_statement();
        }
        Some(Head::Skipped)
    }

    /// Reports `example.com{` and parts it into address and brace.
    fn ends_with_brace(&mut self, token: &Token) -> bool {
        let Some(address) = token.text.strip_suffix('{').filter(|_| !token.is_quoted()) else {
            return false;
        };
        let message = format!(
            "Site addresses cannot end with a curly brace: '{}' - put a space between the token and the brace",
            quoted(&token.text)
        );
        let mistake = self.error(message);
        let address = quoted(address);
        let help = format!("write `{address} {{`");
        self.reports.push(mistake.help(help));
        self.block.keys.push(token.with_text(address));
        self.stream.replace(token.with_text("{"));
        true
    }

    fn key(&mut self, token: &Token) {
        let address = token.text.strip_suffix(',').unwrap_or(&token.text);
        if address.contains(',') {
            let address = quoted(address);
            let message = format!(
                "Site addresses cannot contain a comma ',': '{address}' - put a space after the comma to separate site addresses"
            );
            let mistake = self.error(message);
            let help = format!("write `{}`", address.replace(',', ", "));
            self.reports.push(mistake.help(help));
        }
        // Usually one part; a comma alone gives none.
        for part in address.split(',').filter(|part| !part.is_empty()) {
            self.block.keys.push(token.with_text(part));
        }
    }
}

/// With other words at its first label.
fn with_label(mut mistake: Diagnostic, label: &str) -> Diagnostic {
    if let Some((_, text)) = mistake.labels.first_mut() {
        label.clone_into(text);
    }
    mistake
}
