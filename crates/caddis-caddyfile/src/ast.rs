//! What a Caddyfile is made of after parsing: blocks with keys and directives.

use smol_str::SmolStr;

use crate::source::SourceMap;
use crate::span::Span;
use crate::token::Token;

/// One directive: its name, its arguments and the tokens of its block, braces and all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment(pub Vec<Token>);

impl Segment {
    /// The name of the directive; empty for an empty segment.
    pub fn directive(&self) -> &str {
        self.0.first().map_or("", |token| &token.text)
    }

    /// The first token.
    pub fn name(&self) -> Option<&Token> {
        self.0.first()
    }
}

/// One block: a site, the global options (no keys) or a named route (its name is the only key).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerBlock {
    /// Site addresses, or the name of the route.
    pub keys: Vec<Token>,
    /// The directives. A named route has one segment: its name, then its block in braces.
    pub segments: Vec<Segment>,
    /// Whether this is `&(name) { … }`.
    pub is_named_route: bool,
    /// Whether the block was written with braces.
    pub has_braces: bool,
    /// The place of its `{`, where it has one and no keys.
    pub open: Option<Span>,
}

impl ServerBlock {
    /// The texts of the keys.
    pub fn key_texts(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.text.as_str())
    }

    /// The directives with this name.
    pub fn segments_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().filter(move |segment| segment.directive() == name)
    }
}

/// A parsed Caddyfile with the texts it came from.
#[derive(Debug, Default)]
pub struct File {
    /// The blocks in order; snippets are gone.
    pub blocks: Vec<ServerBlock>,
    /// The texts.
    pub sources: SourceMap,
    /// The snippets that were defined.
    pub snippets: Vec<SnippetNote>,
}

/// A snippet that was defined.
#[derive(Clone, Debug)]
pub struct SnippetNote {
    /// Its name.
    pub name: SmolStr,
    /// Where it was defined.
    pub span: Span,
    /// Whether an import names it.
    pub used: bool,
}
