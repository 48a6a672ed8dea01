//! The tokens of an import with arguments and blocks put in.

use std::sync::Arc;

use smol_str::SmolStr;

use super::{Importer, Line, args};
use crate::diagnostic::{Diagnostic, Result};
use crate::limits;
use crate::parser::Reports;
use crate::token::{ImportChain, Origin, Token};

impl Importer<'_> {
    pub(super) fn splice(
        &mut self,
        line: &Line,
        imported: &[Token],
        nesting: usize,
        reports: &mut Reports,
    ) -> Result<Vec<Token>> {
        let mut out: Vec<Token> = Vec::with_capacity(imported.len());
        let mut definitions = Definitions::new(nesting);
        let mut chains = Chains::default();
        for original in imported {
            let mut token = original.clone();
            token.origin = Some(chains.on(&token, &line.at)?);
            let in_definition = definitions.see(out.last(), &token);
            if in_definition {
                out.push(token);
            } else if let Some(block) = blocks(&token, line) {
                self.take_tokens(block.len(), &line.at)?;
                out.extend_from_slice(block);
            } else if let Some(values) = args::slice(&token, &line.args, reports) {
                self.take_tokens(values.len(), &line.at)?;
                out.extend(values.iter().map(|value| token.with_text(value.clone())));
            } else {
                if let Some(text) = args::replace(&token, &line.args, reports) {
                    self.take_bytes(text.len(), &line.at)?;
                    token.text = text.into();
                }
                out.push(token);
            }
        }
        self.take_tokens(imported.len(), &line.at)?;
        Ok(out)
    }

    fn take_tokens(&mut self, count: usize, at: &Token) -> Result<()> {
        self.tokens_left = self.tokens_left.checked_sub(count).ok_or_else(|| self.too_many(at))?;
        Ok(())
    }

    fn take_bytes(&mut self, count: usize, at: &Token) -> Result<()> {
        self.bytes_left = self.bytes_left.checked_sub(count).ok_or_else(|| self.too_many(at))?;
        Ok(())
    }
}

/// The tokens that `{block}` or `{blocks.key}` stands for.
fn blocks<'a>(token: &Token, line: &'a Line) -> Option<&'a [Token]> {
    if token.text == "{block}" {
        return Some(&line.blocks.whole);
    }
    let key = token.text.strip_prefix("{blocks.")?.strip_suffix('}')?;
    Some(line.blocks.by_key.get(key).map_or(&[], Vec::as_slice))
}

/// Import chains: neighbours usually share theirs.
#[derive(Default)]
struct Chains {
    last: Option<(Option<Arc<ImportChain>>, Arc<ImportChain>)>,
    /// The last origin before and after.
    origin: Option<(Option<Arc<Origin>>, Arc<Origin>)>,
}

impl Chains {
    /// The origin of an imported token: what it had, and the import `at`.
    fn on(&mut self, token: &Token, at: &Token) -> Result<Arc<Origin>> {
        if let Some((known, origin)) = &self.origin
            && same(known.as_ref(), token.origin.as_ref())
        {
            return Ok(Arc::clone(origin));
        }
        let imports = Some(self.chain(token, at)?);
        let origin = Arc::new(Origin {
            file: token.file().clone(),
            imports,
            snippet: token.snippet().cloned(),
        });
        self.origin = Some((token.origin.clone(), Arc::clone(&origin)));
        Ok(origin)
    }

    fn chain(&mut self, token: &Token, at: &Token) -> Result<Arc<ImportChain>> {
        let before = token.imports();
        let name = token.snippet().filter(|name| !name.is_empty());
        if let Some((known, chain)) = &self.last
            && same(known.as_ref(), before)
            && chain.name.as_ref() == name
        {
            return Ok(Arc::clone(chain));
        }
        if before.is_some_and(|chain| chain.depth >= limits::IMPORT_DEPTH) {
            let message = "imports are nested too deeply";
            return Err(Diagnostic::error(message).at(at).code("caddyfile::limit"));
        }
        let name: Option<SmolStr> = name.cloned();
        let chain = ImportChain::push(before.cloned(), at.file().clone(), at.line, name);
        self.last = Some((before.cloned(), Arc::clone(&chain)));
        Ok(chain)
    }
}

fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Tells whether a token is inside a snippet definition, which is kept as it is. Looks at the shape
/// only: `(name) {` at the start of a line outside of any block.
struct Definitions {
    nesting: i64,
    /// Words of the line so far.
    index: usize,
    name_seen: bool,
    inside: bool,
}

impl Definitions {
    fn new(nesting: usize) -> Self {
        Self { nesting: nesting as i64, index: 0, name_seen: false, inside: false }
    }

    fn see(&mut self, before: Option<&Token>, token: &Token) -> bool {
        if !self.inside && self.nesting == 0 {
            let starts_line = before.is_none_or(|before| before.next_is_on_new_line(token));
            self.index = if starts_line { 0 } else { self.index + 1 };
            let text = &token.text;
            if self.index == 0 && text.len() >= 3 && text.starts_with('(') && text.ends_with(')') {
                self.name_seen = true;
            }
        }
        if token.is_open_brace() {
            self.nesting += 1;
            if self.index == 1 && self.name_seen && self.nesting == 1 {
                self.inside = true;
                self.name_seen = false;
            }
        } else if token.is_close_brace() {
            self.nesting -= 1;
            if self.nesting == 0 {
                self.inside = false;
            }
        }
        self.inside
    }
}
