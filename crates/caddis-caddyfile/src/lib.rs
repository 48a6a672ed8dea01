//! The Caddyfile language: text → tokens → blocks.
//!
//! This crate knows no directive, no JSON and no file system; files and environment variables come
//! through a [`Loader`]. Reading order: [`tokenize`] (`lexer`), `env` (`{$VAR}`), [`parse`]
//! (`parser`, `import`), then [`Dispenser`], with which directives read their tokens.

mod ast;
mod diagnostic;
mod dispenser;
mod env;
mod format;
mod import;
mod lexer;
mod limits;
mod loader;
mod parser;
mod plain;
mod source;
mod span;
mod text;
mod token;

use std::borrow::Cow;

pub use ast::{File, Segment, ServerBlock, SnippetNote};
pub use diagnostic::{Diagnostic, Parts, Result, Severity, WithSources, nearest};
pub use dispenser::{Dispenser, MATCHER_NAME, ScalarVal};
pub use loader::{FsLoader, Loader, MemoryLoader};
pub use parser::STRAY_BRACE;
pub use plain::plain;
pub use source::{Source, SourceMap};
pub use span::{FileId, Span};
pub use token::{ImportChain, Origin, Quote, Token};

/// Parses a Caddyfile.
///
/// `name` is shown in messages, and imports are looked up beside it. Never panics; goes on after a
/// mistake where it can, so the list may hold several. If it holds an error, the blocks are what could
/// be understood, not what was meant.
///
/// A text that is given as a vector becomes part of the file without a copy.
pub fn parse<'a>(
    name: &str,
    text: impl Into<Cow<'a, [u8]>>,
    loader: &dyn Loader,
) -> (File, Vec<Diagnostic>) {
    parser::parse(name, text.into(), loader, parser::Stray::Reported)
}

/// Parses a Caddyfile as Caddy does, to which a `}` where a block should begin is a site address.
///
/// What it says of such a file are consequences rather than the mistake, which [`parse`] tells (with
/// the code [`STRAY_BRACE`]); but the sentence for it is found here.
pub fn parse_literally<'a>(
    name: &str,
    text: impl Into<Cow<'a, [u8]>>,
    loader: &dyn Loader,
) -> (File, Vec<Diagnostic>) {
    parser::parse(name, text.into(), loader, parser::Stray::Address)
}

/// Parses a Caddyfile in which braces are missing, with those that its indentation shows.
///
/// Gives what [`parse`] gives, and a mistake for each brace; `None` if braces and indentation agree or
/// nothing can be told. For what [`parse`] reports of such a file is mostly consequences.
pub fn parse_by_layout<'a>(
    name: &str,
    text: impl Into<Cow<'a, [u8]>>,
    loader: &dyn Loader,
) -> Option<(File, Vec<Diagnostic>, Vec<Diagnostic>)> {
    parser::parse_by_layout(name, text.into(), loader)
}

/// Takes out of a mistake what [`parse_by_layout`] made up: the import of a brace.
pub fn forget_layout(mistake: &mut Diagnostic) {
    parser::forget_import(mistake);
}

/// Splits a text into tokens. Environment variables stay as they are written, and the spans point
/// into text number 0.
pub fn tokenize(name: &str, text: &str) -> Result<Vec<Token>> {
    lexer::tokenize(name, text)
}

/// A warning if [`format`] changes the text: what looks odd sometimes means something else than it
/// looks (spec L214).
pub fn formatting_difference(name: &str, input: &str) -> Option<Diagnostic> {
    let line = first_difference(input.as_bytes())?;
    let message =
        "Caddyfile input is not formatted; run 'caddy fmt --overwrite' to fix inconsistencies";
    let mut warning = Diagnostic::warning(message).code("caddyfile::format");
    warning.place = Some((name.into(), line));
    Some(warning)
}

/// The number of the first line that [`format`] changes, from 1; none where it changes nothing. Line
/// ends with a carriage return count as plain ones.
pub fn first_difference(input: &[u8]) -> Option<u32> {
    format::first_difference(input)
}

/// Formats a Caddyfile. Bytes that are not UTF-8 become U+FFFD each.
pub fn format(input: &[u8]) -> Vec<u8> {
    format::format(&text::lossy(input.into())).into_bytes()
}
