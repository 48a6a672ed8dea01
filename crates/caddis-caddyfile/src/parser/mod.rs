//! Tokens → blocks.
//!
//! ```text
//! file    = { import | snippet | route | block }
//! snippet = '(' name ')' '{' … '}'
//! route   = '&(' name ')' '{' … '}'
//! block   = [ addresses ] '{' { segment } '}' | addresses { segment }     the latter once
//! segment = name { argument } [ '{' { segment } '}' ]
//! ```
//!
//! Imports are replaced while walking. After a mistake the parser goes on where it can do so without
//! making up more of them; where braces do not match it stops.

mod addresses;
mod body;
mod layout;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::ast::{File, ServerBlock, SnippetNote};
use crate::diagnostic::{ChainStyle, Diagnostic, Result};
use crate::import::Importer;
use crate::lexer;
use crate::limits;
use crate::loader::Loader;
use crate::source::Source;
use crate::span::Span;
use crate::token::{Origin, Token};
use crate::{env, source::SourceMap, text::lossy};

pub(crate) use layout::forget_import;
pub(crate) use stream::Stream;

/// The code of a `}` where a block should begin.
pub const STRAY_BRACE: &str = "caddyfile::stray_brace";

/// What becomes of a `}` where a block should begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    /// It is a mistake, and left out.
    Reported,
    /// It is an address.
    Address,
}

/// Parses a Caddyfile. See [`crate::parse`].
pub(crate) fn parse(
    name: &str,
    text: Cow<'_, [u8]>,
    loader: &dyn Loader,
    stray: Stray,
) -> (File, Vec<Diagnostic>) {
    let mut file = File::default();
    let lexed = match read(name.into(), text, loader, &mut file.sources, limits::TOKENS) {
        Ok(lexed) => lexed,
        Err(diagnostic) => return (file, vec![diagnostic]),
    };
    if !lexed.errors.is_empty() {
        // What follows a broken heredoc would only give mistakes that are none.
        return (file, lexed.errors);
    }
    let unclosed = lexed.unclosed;
    let (file, mut found) = parse_tokens(lexed.chunks, file, loader, stray);
    if let Some(quote) = unclosed {
        note_unclosed(quote, &mut found);
    }
    (file, found)
}

/// Draws the end of the file, which a quote took for its own, at that quote.
fn note_unclosed(quote: Span, found: &mut Vec<Diagnostic>) {
    const LABEL: &str = "this quote is not closed";
    const HELP: &str = "add the closing quote";
    let at_end = |one: &&mut Diagnostic| {
        ["caddyfile::eof", "caddyfile::syntax"].contains(&one.code) && one.is_error()
    };
    match found.iter_mut().rev().find(at_end) {
        Some(mistake) => {
            mistake.labels = vec![(quote, LABEL.to_owned())];
            mistake.help = Some(HELP.to_owned());
        }
        None => found.push(
            Diagnostic::warning("a quote is not closed and takes the rest of the file")
                .label(quote, LABEL)
                .help(HELP),
        ),
    }
}

/// Parses with the braces that are missing by the indentation. See [`crate::parse_by_layout`].
pub(crate) fn parse_by_layout(
    name: &str,
    text: Cow<'_, [u8]>,
    loader: &dyn Loader,
) -> Option<(File, Vec<Diagnostic>, Vec<Diagnostic>)> {
    let mut file = File::default();
    let lexed = read(name.into(), text, loader, &mut file.sources, limits::TOKENS).ok()?;
    if lexed.unclosed.is_some() {
        // Braces inside of the quote are not missing.
        return None;
    }
    let (tokens, errors) = lexed.into_parts();
    let (_, source) = file.sources.iter().next()?;
    let (tokens, mut notes) = layout::unglue(tokens);
    let repairs = layout::repairs(&tokens, &source.text);
    if (repairs.is_empty() && notes.is_empty()) || !errors.is_empty() {
        return None;
    }
    let tokens = layout::apply(tokens, &repairs);
    let (file, found) = parse_tokens(vec![tokens], file, loader, Stray::Reported);
    notes.extend(repairs.into_iter().map(|repair| repair.note));
    Some((file, found, notes))
}

fn parse_tokens(
    chunks: Vec<Vec<Token>>,
    mut file: File,
    loader: &dyn Loader,
    stray: Stray,
) -> (File, Vec<Diagnostic>) {
    let mut reports = Reports::default();
    let mut parser = Parser {
        stream: Stream::new(chunks),
        importer: Importer::new(loader, std::mem::take(&mut file.sources)),
        snippets: HashMap::new(),
        reports: &mut reports,
        block: ServerBlock::default(),
        blocks: Vec::new(),
        stray,
    };
    if let Err(fatal) = parser.all() {
        parser.reports.push(fatal);
    }
    file.blocks = parser.blocks;
    let note = |(name, snippet): (SmolStr, Snippet)| SnippetNote {
        name,
        span: snippet.name,
        used: snippet.used.get(),
    };
    file.snippets = parser.snippets.into_iter().map(note).collect();
    file.snippets.sort_by_key(|note| note.span);
    file.sources = parser.importer.into_sources();
    (file, reports.list)
}

/// Loads a text into the map and splits it into tokens.
pub(crate) fn read(
    name: SmolStr,
    bytes: Cow<'_, [u8]>,
    loader: &dyn Loader,
    sources: &mut SourceMap,
    room: usize,
) -> Result<lexer::Lexed> {
    let too_long = || Diagnostic::error("the text is too long").code("caddyfile::limit");
    if bytes.len() > limits::TEXT_BYTES {
        return Err(too_long());
    }
    let text = lossy(bytes);
    if text.len() > limits::TEXT_BYTES {
        return Err(too_long());
    }
    let file = sources.add(Source::new(name.as_str(), text));
    let text = sources.get(file).map_or("", |source| &source.text);
    let expanded = env::expand(text, loader).map_err(|error| {
        let place = lexer::whole(file, "");
        error.label(place, "in this file")
    })?;
    let lexed = lexer::lex(&expanded, &name, file, room);
    let unset = expanded.unset;
    sources.set_unset(file, unset);
    Ok(lexed)
}

/// The diagnostics of a run, at most so many of each severity.
#[derive(Default)]
pub(crate) struct Reports {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Reports {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let count = if diagnostic.is_error() { &mut self.errors } else { &mut self.warnings };
        *count += 1;
        if *count <= limits::DIAGNOSTICS {
            self.list.push(diagnostic);
        }
    }

    /// Whether there is no sense in going on.
    fn is_full(&self) -> bool {
        self.errors >= limits::DIAGNOSTICS
    }
}

/// A snippet as defined.
pub(crate) struct Snippet {
    pub(crate) tokens: Rc<Vec<Token>>,
    name: Span,
    used: Cell<bool>,
}

impl Snippet {
    /// Its tokens, for an import.
    pub(crate) fn import(&self) -> Rc<Vec<Token>> {
        self.used.set(true);
        Rc::clone(&self.tokens)
    }
}

struct Parser<'a> {
    stream: Stream,
    importer: Importer<'a>,
    snippets: HashMap<SmolStr, Snippet>,
    reports: &'a mut Reports,
    block: ServerBlock,
    blocks: Vec<ServerBlock>,
    stray: Stray,
}

/// How the head of a block ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The current token is the first of the body.
    Body,
    /// At the end of the file.
    End,
    /// The statement was a mistake and has been skipped.
    Skipped,
}

impl Parser<'_> {
    fn all(&mut self) -> Result<()> {
        while self.stream.next() {
            self.block = ServerBlock::default();
            if self.one()? {
                let mut block = std::mem::take(&mut self.block);
                block.keys.shrink_to_fit();
                block.segments.shrink_to_fit();
                if !block.keys.is_empty() || !block.segments.is_empty() {
                    self.blocks.push(block);
                }
            }
            if self.reports.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Parses one block; false if it is none to keep.
    fn one(&mut self) -> Result<bool> {
        match self.addresses()? {
            Head::Skipped => return Ok(false),
            Head::End => return Ok(true),
            Head::Body => {}
        }
        if let Some(name) = self.only_key("&(") {
            return self.named_route(name);
        }
        if let Some(name) = self.only_key("(") {
            return self.snippet(name);
        }
        self.block_contents()?;
        Ok(true)
    }

    /// The name in a lone key such as `(name)`.
    fn only_key(&self, open: &str) -> Option<SmolStr> {
        let [key] = self.block.keys.as_slice() else { return None };
        Some(key.text.strip_prefix(open)?.strip_suffix(')')?.into())
    }

    fn named_route(&mut self, name: SmolStr) -> Result<bool> {
        let key = self.block.keys.first().map_or(Span::NONE, |key| key.span);
        // The name stands on the line of the brace, so that the segment reads like a directive.
        let name = Token { span: key, ..self.stream.token().with_text(name) };
        let mut tokens = vec![name.clone()];
        tokens.extend(self.block_tokens(true)?);
        self.block.keys = vec![name];
        self.block.is_named_route = true;
        self.block.segments = vec![crate::ast::Segment(tokens)];
        Ok(true)
    }

    fn snippet(&mut self, name: SmolStr) -> Result<bool> {
        let key = self.block.keys.first().map_or(Span::NONE, |key| key.span);
        if let Some(first) = self.snippets.get(&name) {
            let message = format!("redeclaration of previously declared snippet {name}");
            let mistake = Diagnostic::error(message)
                .label(key, "declared again")
                .label(first.name, "first declared here")
                .placed_at(self.stream.token());
            self.reports.push(mistake.code("caddyfile::snippet"));
            self.block_tokens(false)?;
            return Ok(false);
        }
        let mut tokens = self.block_tokens(false)?;
        let mut last: Option<(Option<Arc<Origin>>, Arc<Origin>)> = None;
        for token in &mut tokens {
            let origin = match &last {
                Some((before, origin)) if *before == token.origin => Arc::clone(origin),
                _ => Arc::new(Origin {
                    file: token.file().clone(),
                    imports: token.imports().cloned(),
                    snippet: Some(name.clone()),
                }),
            };
            last = Some((token.origin.replace(Arc::clone(&origin)), origin));
        }
        self.snippets
            .insert(name, Snippet { tokens: Rc::new(tokens), name: key, used: Cell::new(false) });
        Ok(false)
    }

    /// The tokens of a block from the current `{` to its `}`.
    fn block_tokens(&mut self, with_braces: bool) -> Result<Vec<Token>> {
        let open = self.stream.token().clone();
        if !open.is_open_brace() {
            return Err(self.missing_open_brace());
        }
        let mut tokens = Vec::new();
        if with_braces {
            tokens.push(open.clone());
        }
        let mut nesting = 1_usize;
        while self.stream.next() {
            let token = self.stream.token();
            if token.is_close_brace() {
                nesting -= 1;
                if nesting == 0 {
                    if with_braces {
                        tokens.push(token.clone());
                    }
                    return Ok(tokens);
                }
            } else if token.is_open_brace() {
                nesting += 1;
                if nesting > limits::BLOCK_DEPTH {
                    return Err(self.too_deep());
                }
            }
            tokens.push(token.clone());
        }
        Err(self.syntax_err("}").label(open.span, "this block is not closed"))
    }

    fn missing_open_brace(&self) -> Diagnostic {
        let is_snippet = |key: &Token| key.text.starts_with('(') && key.text.ends_with(')');
        if self.stream.token().text == "import" && self.block.keys.iter().all(is_snippet) {
            return self.error("global options block must appear before import directives; move the global options block to the top of the Caddyfile");
        }
        self.syntax_err("{")
    }

    fn too_deep(&self) -> Diagnostic {
        self.error("blocks are nested too deeply").code("caddyfile::limit")
    }

    /// A mistake at the current token.
    fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(self.stream.token()).code("caddyfile::structure")
    }

    fn syntax_err(&self, expected: &str) -> Diagnostic {
        let found = limits::quoted(&self.stream.token().text);
        self.error(format!("syntax error: unexpected token '{found}', expecting '{expected}'"))
            .code("caddyfile::syntax")
            .chain_style(ChainStyle::Syntax)
    }

    fn eof_err(&self) -> Diagnostic {
        self.error("unexpected EOF").code("caddyfile::eof")
    }

    /// Replaces the current `import` line and stands before the tokens it gave. A mistake in it is
    /// reported and the line is left out.
    fn import(&mut self, nesting: usize) -> Result<()> {
        let done = self.importer.import(&mut self.stream, &self.snippets, nesting, self.reports);
        match done {
            Err(mistake)
                if mistake.code == "caddyfile::limit" || mistake.code == "caddyfile::eof" =>
            {
                Err(mistake)
            }
            Err(mistake) => {
                self.reports.push(mistake);
                if self.reports.is_full() { Err(self.error("too many mistakes")) } else { Ok(()) }
            }
            Ok(()) => Ok(()),
        }
    }

    /// Skips the rest of the line, and the block that opens at its end.
    fn skip_statement(&mut self) {
        loop {
            if self.stream.token().is_open_brace() && self.stream.is_next_on_new_line() {
                let mut nesting = 1_usize;
                while nesting > 0 && self.stream.next() {
                    let token = self.stream.token();
                    nesting += usize::from(token.is_open_brace());
                    nesting -= usize::from(token.is_close_brace());
                }
                return;
            }
            if !self.stream.next_on_same_line() {
                return;
            }
        }
    }
}
