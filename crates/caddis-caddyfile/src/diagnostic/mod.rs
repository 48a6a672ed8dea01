//! Mistakes and warnings, in the words of Caddy and with places to draw.
//!
//! [`Display`](fmt::Display) gives Caddy's sentence: the message, `, at FILE:LINE`, and the imports
//! through which the place was reached.

mod nearest;
mod report;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use smol_str::SmolStr;

use crate::span::Span;
use crate::token::{ImportChain, Token};

pub use nearest::nearest;
pub use report::WithSources;

/// What the parsing functions give.
pub type Result<T> = std::result::Result<T, Diagnostic>;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file cannot be used.
    #[default]
    Error,
    /// The file can be used.
    Warning,
}

/// How the import chain is written after the place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ChainStyle {
    /// ` import chain [...]`, left away when there is none.
    #[default]
    Usual,
    /// ` import chain: [...]`, always there; syntax errors have this form.
    Syntax,
}

/// A mistake or a warning. Small: the parts are boxed; read and write them through the fields of
/// [`Parts`].
#[derive(Clone, Debug)]
pub struct Diagnostic(Box<Parts>);

/// The parts of a [`Diagnostic`].
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// How bad it is.
    pub severity: Severity,
    /// A short name for this kind of mistake.
    pub code: &'static str,
    /// Caddy's sentence without the place.
    pub message: String,
    /// Places with a word on each; the first is the main one.
    pub labels: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
    /// What the word at the first label was most likely meant to be.
    pub meant: Option<SmolStr>,
    /// A line whose absence from the block is the mistake; with it the rest of the block can be read.
    pub lacks: Option<&'static str>,
    /// File and line for the sentence; none if Caddy names no place.
    pub place: Option<(SmolStr, u32)>,
    /// The imports through which the place was reached.
    pub imports: Option<Arc<ImportChain>>,
    pub(crate) chain_style: ChainStyle,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        let code = "caddyfile::error";
        Self(Box::new(Parts { code, message: bounded(message.into()), ..Parts::default() }))
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        let code = "caddyfile::warning";
        let severity = Severity::Warning;
        let message = bounded(message.into());
        Self(Box::new(Parts { severity, code, message, ..Parts::default() }))
    }

    /// Puts the mistake at a token: file, line, imports, and a first label.
    #[must_use]
    pub fn at(self, token: &Token) -> Self {
        self.labelled(token, "here").placed_at(token)
    }

    /// Puts the mistake at a token for the sentence, without a label.
    #[must_use]
    pub fn placed_at(mut self, token: &Token) -> Self {
        self.place = Some((token.file().clone(), token.line));
        self.imports = token.imports().cloned();
        self
    }

    /// Labels a token without naming it as the place. A mistake without a place gets the imports of
    /// the first token that is labelled, for drawing.
    #[must_use]
    pub fn labelled(mut self, token: &Token, label: impl Into<String>) -> Self {
        if self.place.is_none() && self.labels.is_empty() && self.imports.is_none() {
            self.imports = token.imports().cloned();
        }
        self.label(token.span, label)
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, span: Span, label: impl Into<String>) -> Self {
        if !span.is_none() {
            self.labels.push((span, label.into()));
        }
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(bounded(help.into()));
        self
    }

    /// Says what the word at the first label was most likely meant to be.
    #[must_use]
    pub fn meant(mut self, word: &str) -> Self {
        self.meant = Some(word.into());
        self.help(format!("did you mean `{word}`?"))
    }

    /// Says which of the candidates a word was most likely meant to be, or names all if they are few.
    #[must_use]
    pub fn meant_one_of<'a>(
        self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        /// Most candidates that are listed.
        const FEW: usize = 12;
        let candidates: Vec<&str> = candidates.into_iter().collect();
        match nearest(word, candidates.iter().copied()) {
            Some(near) => self.meant(near),
            None if candidates.is_empty() || candidates.len() > FEW => self,
            None => self.help(format!("one of: {}", candidates.join(", "))),
        }
    }

    /// Takes places, help and code over from the mistake that this one is about.
    #[must_use]
    pub fn found_by(mut self, inner: Self) -> Self {
        let Parts { code, labels, help, meant, lacks, .. } = *inner.0;
        let own = Parts { code, labels, help, meant, lacks, ..std::mem::take(&mut *self.0) };
        *self.0 = own;
        self
    }

    /// Names the kind of mistake.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Puts `context: ` before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same mistake together with the texts, for drawing.
    pub fn with_sources<'a>(&'a self, sources: &'a crate::SourceMap) -> WithSources<'a> {
        WithSources::new(self, sources)
    }

    pub(crate) fn chain_style(mut self, style: ChainStyle) -> Self {
        self.chain_style = style;
        self
    }
}

/// Cuts a message into which a huge token went.
fn bounded(mut message: String) -> String {
    const LONGEST: usize = 4096;
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        message.push('…');
    }
    message
}

impl Deref for Diagnostic {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Diagnostic {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let Some((file, line)) = &self.place else { return Ok(()) };
        write!(f, ", at {file}:{line}")?;
        match (&self.imports, self.chain_style) {
            (Some(chain), ChainStyle::Usual) => write!(f, " import chain [{chain}]"),
            (None, ChainStyle::Usual) => Ok(()),
            (Some(chain), ChainStyle::Syntax) => write!(f, " import chain: [{chain}]"),
            (None, ChainStyle::Syntax) => f.write_str(" import chain: ['']"),
        }
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Origin;

    #[test]
    fn sentences() {
        let mut origin = Origin { file: "Caddyfile".into(), ..Origin::default() };
        let place = Some(Arc::new(origin.clone()));
        let mut token = Token { origin: place, line: 7, ..Token::synthetic("x") };
        assert_eq!(Diagnostic::error("bad").to_string(), "bad");
        assert_eq!(Diagnostic::error("bad").at(&token).to_string(), "bad, at Caddyfile:7");
        origin.imports = Some(ImportChain::push(None, "a".into(), 2, Some("s".into())));
        token.origin = Some(Arc::new(origin));
        let bad = Diagnostic::error("bad").at(&token).context("parsing");
        assert_eq!(bad.to_string(), "parsing: bad, at Caddyfile:7 import chain ['a:2 (import s)']");
        let syntax = bad.chain_style(ChainStyle::Syntax);
        assert!(syntax.to_string().ends_with(":7 import chain: ['a:2 (import s)']"));
        assert!(Diagnostic::error("ä".repeat(9999)).to_string().len() < 5000);
        assert_eq!(size_of::<Diagnostic>(), size_of::<usize>());
    }
}
