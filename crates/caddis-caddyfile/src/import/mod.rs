//! `import`: replaced by the tokens of a snippet or of files.
//!
//! ```text
//! import = 'import' pattern { argument } [ '{' … '}' ]
//! ```
//!
//! The pattern is the name of a snippet, else a path or glob seen from the file of the line. In what
//! is imported, `{args[0]}`, `{args[1:]}` and so on stand for the arguments, `{block}` for the block
//! and `{blocks.key}` for the part of the block that begins with `key`. They do not inside snippet
//! definitions of an imported file.

mod args;
mod block;
mod cycle;
mod files;
mod splice;

use std::collections::HashMap;
use std::rc::Rc;

use smol_str::SmolStr;

use crate::diagnostic::{Diagnostic, Result};
use crate::limits;
use crate::loader::Loader;
use crate::parser::{Reports, Snippet, Stream};
use crate::source::SourceMap;
use crate::span::Span;
use crate::token::Token;

use block::Blocks;
use cycle::Graph;
use files::Files;

/// Replaces import lines; knows the files read and the imports made so far.
pub(crate) struct Importer<'a> {
    files: Files<'a>,
    graph: Graph,
    /// Tokens that imports may still make.
    tokens_left: usize,
    /// Bytes that replaced arguments may still make.
    bytes_left: usize,
}

/// An import line, read.
struct Line {
    /// The last token of the line or of its block: Caddy reports this place.
    at: Token,
    pattern: SmolStr,
    /// The place of the pattern.
    place: Span,
    args: Vec<SmolStr>,
    blocks: Blocks,
}

impl<'a> Importer<'a> {
    pub(crate) fn new(loader: &'a dyn Loader, sources: SourceMap) -> Self {
        Self {
            files: Files::new(loader, sources),
            graph: Graph::default(),
            tokens_left: limits::TOKENS,
            bytes_left: limits::ARGUMENT_BYTES,
        }
    }

    /// Gives the texts back.
    pub(crate) fn into_sources(self) -> SourceMap {
        self.files.into_sources()
    }

    /// Replaces the import at the cursor. Afterwards the cursor is before the tokens it gave, or
    /// after the line if there was a mistake.
    pub(crate) fn import(
        &mut self,
        stream: &mut Stream,
        snippets: &HashMap<SmolStr, Snippet>,
        nesting: usize,
        reports: &mut Reports,
    ) -> Result<()> {
        let before = stream.before().cloned();
        if !stream.next_arg() {
            // A brace right after the word would be taken for a site's.
            let mistake = wrong_args(stream.token());
            block::skip(stream);
            return Err(mistake);
        }
        let pattern = stream.token().clone();
        let mut args = Vec::new();
        while stream.next_arg() {
            args.push(stream.token().text.clone());
        }
        let line_end = stream.token().clone();
        let found = block::read(stream, reports);
        if pattern.text.is_empty() {
            let mistake = Diagnostic::error("Import requires a non-empty filepath");
            let mistake = mistake.placed_at(&line_end).label(pattern.span, "this is empty");
            return Err(mistake.help("name a snippet or a file"));
        }
        let at = stream.token().clone();
        let (blocks, had_block) = found?;
        let line = Line { at, pattern: pattern.text.clone(), place: pattern.span, args, blocks };
        let (tokens, nodes) = self.resolve(&line, &pattern, snippets, reports)?;
        self.graph.connect(&line.at, nodes)?;
        let tokens = self.splice(&line, &tokens, nesting, reports)?;
        // With a block Caddy leaves the head of the line in place, behind the cursor.
        stream.splice(if had_block { Some(pattern) } else { before }, tokens);
        Ok(())
    }

    /// The tokens that the pattern stands for, and the names of where they come from.
    fn resolve(
        &mut self,
        line: &Line,
        pattern: &Token,
        snippets: &HashMap<SmolStr, Snippet>,
        reports: &mut Reports,
    ) -> Result<(Rc<Vec<Token>>, Vec<String>)> {
        if let Some(snippet) = snippets.get(&line.pattern) {
            let first = snippet.tokens.first();
            let nodes = first.map(cycle::node).into_iter().collect();
            return Ok((snippet.import(), nodes));
        }
        let paths = self.files.find(line, pattern, snippets, reports)?;
        let mut tokens = Vec::with_capacity(paths.len());
        for path in &paths {
            tokens.push(self.files.tokens(path, line, self.tokens_left, reports)?);
        }
        let joined = match tokens.as_slice() {
            [one] => Rc::clone(one),
            many => {
                if many.iter().map(|list| list.len()).sum::<usize>() > self.tokens_left {
                    return Err(self.too_many(&line.at));
                }
                Rc::new(many.iter().flat_map(|list| list.iter().cloned()).collect())
            }
        };
        Ok((joined, paths))
    }

    fn too_many(&self, at: &Token) -> Diagnostic {
        Diagnostic::error("imports make the configuration too large")
            .at(at)
            .code("caddyfile::limit")
    }
}

fn wrong_args(token: &Token) -> Diagnostic {
    let message = format!("wrong argument count or unexpected line ending after '{}'", token.text);
    Diagnostic::error(message).at(token).code("caddyfile::argument")
}
