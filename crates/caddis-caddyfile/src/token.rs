//! Tokens: words of a Caddyfile with the place they came from.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::span::Span;

/// How a token was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quote {
    /// A bare word.
    #[default]
    None,
    /// `"text"`
    Double,
    /// `` `text` ``
    Backtick,
    /// `<<MARKER` … `MARKER`
    Heredoc,
}

/// The `import` lines through which a token came, innermost first.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ImportChain {
    /// File of the `import` line, as shown.
    pub file: SmolStr,
    /// Its line.
    pub line: u32,
    /// The snippet, if it was one.
    pub name: Option<SmolStr>,
    /// The import before this one.
    pub parent: Option<Arc<Self>>,
    /// Number of imports, this one included.
    pub depth: u32,
}

impl ImportChain {
    /// One more import on top of `parent`.
    pub fn push(
        parent: Option<Arc<Self>>,
        file: SmolStr,
        line: u32,
        name: Option<SmolStr>,
    ) -> Arc<Self> {
        let depth = parent.as_ref().map_or(1, |p| p.depth.saturating_add(1));
        Arc::new(Self { file, line, name, parent, depth })
    }

    /// The imports, innermost first.
    pub fn iter(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |link| link.parent.as_deref())
    }
}

impl Drop for ImportChain {
    /// Unlinks step by step: a long chain must not be freed by recursion.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(link) = next {
            next = Arc::try_unwrap(link).ok().and_then(|mut link| link.parent.take());
        }
    }
}

/// `'file:line (import name)','file:line (import)'`, outermost first.
impl fmt::Display for ImportChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut links: Vec<_> = self.iter().collect();
        links.reverse();
        for (at, link) in links.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}'{}:{} (import", link.file, link.line)?;
            if let Some(name) = &link.name {
                write!(f, " {name}")?;
            }
            f.write_str(")'")?;
        }
        Ok(())
    }
}

/// What the tokens of a text have in common: there are many of them, so they share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file, as shown.
    pub file: SmolStr,
    /// The imports through which they came.
    pub imports: Option<Arc<ImportChain>>,
    /// The snippet in whose definition they stand.
    pub snippet: Option<SmolStr>,
}

impl Origin {
    /// In a file, not imported.
    pub fn of_file(file: impl Into<SmolStr>) -> Arc<Self> {
        Arc::new(Self { file: file.into(), ..Self::default() })
    }
}

/// One word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The text without its quotes.
    pub text: SmolStr,
    /// How it was written.
    pub quote: Quote,
    /// The line on which it starts, from 1.
    pub line: u32,
    /// The place in the original text.
    pub span: Span,
    /// File and imports; none for a token that a program made up.
    pub origin: Option<Arc<Origin>>,
}

impl Token {
    /// The file, as shown; empty if there is none.
    pub fn file(&self) -> &SmolStr {
        static NONE: SmolStr = SmolStr::new_static("");
        self.origin.as_ref().map_or(&NONE, |origin| &origin.file)
    }

    /// The imports through which it came.
    pub fn imports(&self) -> Option<&Arc<ImportChain>> {
        self.origin.as_ref()?.imports.as_ref()
    }

    /// The snippet in whose definition it stands.
    pub fn snippet(&self) -> Option<&SmolStr> {
        self.origin.as_ref()?.snippet.as_ref()
    }

    /// A token that is in no file, for programs that make their own.
    pub fn synthetic(text: impl Into<SmolStr>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The same place with another text.
    #[must_use]
    pub fn with_text(&self, text: impl Into<SmolStr>) -> Self {
        Self { text: text.into(), ..self.clone() }
    }

    /// Whether the token was written in quotes or as a heredoc.
    pub fn is_quoted(&self) -> bool {
        self.quote != Quote::None
    }

    /// Whether the token is the bare word `{`.
    pub fn is_open_brace(&self) -> bool {
        !self.is_quoted() && self.text == "{"
    }

    /// Whether the token is the bare word `}`.
    pub fn is_close_brace(&self) -> bool {
        !self.is_quoted() && self.text == "}"
    }

    /// The text with its quotes; a heredoc has none to show.
    pub fn raw(&self) -> String {
        match self.quote {
            Quote::None | Quote::Heredoc => self.text.to_string(),
            Quote::Double => format!("\"{}\"", self.text),
            Quote::Backtick => format!("`{}`", self.text),
        }
    }

    /// Number of line breaks inside the token. The two of a heredoc after its opener and before its
    /// marker are not in the text.
    fn line_breaks(&self) -> u32 {
        let inside = self.text.bytes().filter(|b| *b == b'\n').count() as u32;
        if self.quote == Quote::Heredoc { inside.saturating_add(2) } else { inside }
    }

    /// Whether `next`, the token after this one, is on another line. Tokens of different files or of
    /// different imports never share a line.
    pub fn next_is_on_new_line(&self, next: &Self) -> bool {
        if !self.has_origin_of(next) {
            return true;
        }
        // Line breaks only move the end down, so most tokens need not be searched for them.
        self.line < next.line && self.line.saturating_add(self.line_breaks()) < next.line
    }

    fn has_origin_of(&self, next: &Self) -> bool {
        match (&self.origin, &next.origin) {
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => true,
            _ => self.file() == next.file() && same_chain(self.imports(), next.imports()),
        }
    }
}

fn same_chain(a: Option<&Arc<ImportChain>>, b: Option<&Arc<ImportChain>>) -> bool {
    let (mut a, mut b) = match (a, b) {
        (None, None) => return true,
        (Some(a), Some(b)) if a.depth == b.depth => (a, b),
        _ => return false,
    };
    loop {
        if Arc::ptr_eq(a, b) {
            return true;
        }
        if a.line != b.line || a.name != b.name || a.file != b.file {
            return false;
        }
        match (&a.parent, &b.parent) {
            (Some(x), Some(y)) => (a, b) = (x, y),
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(parent: Option<Arc<ImportChain>>, line: u32) -> Arc<ImportChain> {
        ImportChain::push(parent, "f".into(), line, None)
    }

    #[test]
    fn same_line_needs_same_file_and_imports() {
        let a = Token { line: 3, ..Token::synthetic("a\nb") };
        assert!(!a.next_is_on_new_line(&Token { line: 4, ..a.clone() }));
        assert!(a.next_is_on_new_line(&Token { line: 5, ..a.clone() }));
        let other_file = Some(Origin::of_file("g"));
        assert!(a.next_is_on_new_line(&Token { origin: other_file, ..a.clone() }));
        let imported = |line| {
            let imports = Some(chain(None, line));
            Token { origin: Some(Arc::new(Origin { imports, ..Origin::default() })), ..a.clone() }
        };
        let [one, equal, other] = [1, 1, 2].map(imported);
        assert!(!one.next_is_on_new_line(&equal));
        assert!(one.next_is_on_new_line(&other));
        assert!(one.next_is_on_new_line(&a));
    }

    #[test]
    fn heredocs_have_two_lines_more() {
        let a = Token { line: 1, quote: Quote::Heredoc, ..Token::synthetic("x") };
        assert!(!a.next_is_on_new_line(&Token { line: 3, ..a.clone() }));
        assert!(a.next_is_on_new_line(&Token { line: 4, ..a.clone() }));
    }

    #[test]
    fn chains_show_outermost_first_and_free_without_recursion() {
        let outer = ImportChain::push(None, "Caddyfile".into(), 4, None);
        let inner = ImportChain::push(Some(outer), "b.conf".into(), 2, Some("site".into()));
        assert_eq!(inner.to_string(), "'Caddyfile:4 (import)','b.conf:2 (import site)'");
        let mut long = chain(None, 0);
        for line in 0..200_000 {
            long = chain(Some(long), line);
        }
        drop(long);
    }

    #[test]
    fn raw_keeps_quotes() {
        let of = |quote| Token { quote, ..Token::synthetic("x") }.raw();
        assert_eq!(
            [Quote::None, Quote::Double, Quote::Backtick, Quote::Heredoc].map(of),
            ["x", "\"x\"", "`x`", "x"]
        );
        assert!(!Token { quote: Quote::Double, ..Token::synthetic("{") }.is_open_brace());
    }
}
