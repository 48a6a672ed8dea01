//! Mistakes at the current token.

use std::fmt::Display;

use super::Dispenser;
use crate::diagnostic::{ChainStyle, Diagnostic};

impl Dispenser {
    /// A mistake at the current token. `format!` or `format_args!` make the message.
    pub fn err(&self, message: impl Display) -> Diagnostic {
        Diagnostic::error(message.to_string()).at(self.token())
    }

    /// A warning at the current token.
    pub fn warning(&self, message: impl Display) -> Diagnostic {
        Diagnostic::warning(message.to_string()).at(self.token())
    }

    /// A mistake found further in, with the current token as one more place after its sentence, as
    /// Caddy has it where one module reads another.
    pub fn wrap_err(&self, inner: Diagnostic) -> Diagnostic {
        Diagnostic::error(inner.to_string()).placed_at(self.token()).found_by(inner)
    }

    /// An argument is missing after the current token, or is one too many.
    pub fn arg_err(&self) -> Diagnostic {
        if self.token().is_open_brace() {
            return self
                .err("unexpected token '{', expecting argument")
                .code("caddyfile::argument");
        }
        let message =
            format!("wrong argument count or unexpected line ending after '{}'", self.val());
        self.err(message).code("caddyfile::argument")
    }

    /// The current token should have been `expected`.
    pub fn syntax_err(&self, expected: &str) -> Diagnostic {
        let message =
            format!("syntax error: unexpected token '{}', expecting '{expected}'", self.val());
        self.err(message).code("caddyfile::syntax").chain_style(ChainStyle::Syntax)
    }

    /// The tokens ended too early.
    pub fn eof_err(&self) -> Diagnostic {
        self.err("unexpected EOF").code("caddyfile::eof")
    }

    /// The current token is no known `kind` (such as `subdirective`): `unrecognized KIND NAME`, with
    /// the nearest of the candidates as help.
    pub fn unrecognized<'a>(
        &self,
        kind: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Diagnostic {
        let message = format!("unrecognized {kind} {}", self.val());
        self.did_you_mean(self.err(message).code("caddyfile::unrecognized"), candidates)
    }

    /// Adds the candidate nearest to the current token as help, or all of them if they are few.
    pub fn did_you_mean<'a>(
        &self,
        diagnostic: Diagnostic,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Diagnostic {
        diagnostic.meant_one_of(self.val(), candidates)
    }
}
