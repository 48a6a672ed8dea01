//! Finding and reading the files of an import.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use smol_str::SmolStr;

use super::Line;
use crate::diagnostic::{Diagnostic, Result, nearest};
use crate::loader::{Loader, beside};
use crate::parser::{Reports, Snippet, read};
use crate::source::SourceMap;
use crate::token::Token;

/// The files read so far.
pub(super) struct Files<'a> {
    loader: &'a dyn Loader,
    sources: SourceMap,
    read: HashMap<String, Rc<Vec<Token>>>,
}

impl<'a> Files<'a> {
    pub(super) fn new(loader: &'a dyn Loader, sources: SourceMap) -> Self {
        Self { loader, sources, read: HashMap::new() }
    }

    pub(super) fn into_sources(self) -> SourceMap {
        self.sources
    }

    /// The files that a pattern means.
    pub(super) fn find(
        &self,
        line: &Line,
        token: &Token,
        snippets: &HashMap<SmolStr, Snippet>,
        reports: &mut Reports,
    ) -> Result<Vec<String>> {
        let pattern = &line.pattern;
        let here = self.loader.absolute(line.at.file()).map_err(|error| {
            let reason = reason("getwd", "", &error);
            fail(line, format!("Failed to get absolute path of file: {}: {reason}", line.at.file()))
        })?;
        let glob = beside(&here, pattern);
        let count = |c| glob.chars().filter(|x| *x == c).count();
        if count('*') > 1 || count('?') > 1 || (glob.contains('[') && glob.contains(']')) {
            let message =
                format!("Glob pattern may only contain one wildcard (*), but has others: {glob}");
            return Err(fail(line, message));
        }
        let mut paths = self.loader.glob(&glob).map_err(|error| {
            fail(line, format!("Failed to use import pattern {pattern}: {error}"))
        })?;
        if paths.is_empty() {
            if glob.contains(['*', '?', '[', ']']) {
                let message = format!("No files matching import glob pattern: {pattern}");
                reports.push(Diagnostic::warning(message).at(token).code("caddyfile::import"));
                return Ok(paths);
            }
            let mistake = fail(line, format!("File to import not found: {pattern}"));
            let known = snippets.keys().map(SmolStr::as_str);
            return Err(match nearest(pattern, known) {
                Some(name) => mistake.help(format!("did you mean the snippet `{name}`?")),
                None if pattern.contains(['/', '.']) => mistake
                    .help("paths are seen from the folder of the file with the `import` line"),
                None => mistake.help(format!(
                    "define the snippet `({pattern}) {{ … }}` above this line, or make the file `{glob}`"
                )),
            });
        }
        if glob.rsplit('/').next().is_some_and(|last| last.starts_with('*')) {
            paths.retain(|path| !path.rsplit('/').next().is_some_and(|last| last.starts_with('.')));
        }
        Ok(paths)
    }

    /// The tokens of a file.
    pub(super) fn tokens(
        &mut self,
        path: &str,
        line: &Line,
        room: usize,
        reports: &mut Reports,
    ) -> Result<Rc<Vec<Token>>> {
        if let Some(known) = self.read.get(path) {
            return Ok(Rc::clone(known));
        }
        if self.loader.is_dir(path) {
            return Err(fail(line, format!("Could not import {path}: is a directory")));
        }
        let bytes = self.loader.load(path).map_err(|error| {
            let reason = reason("open", path, &error);
            fail(line, format!("Could not import {path}: {reason}"))
        })?;
        let tokens = if bytes.iter().all(u8::is_ascii_whitespace) {
            let message = format!("Import file is empty: {path}");
            reports.push(Diagnostic::warning(message).at(&line.at).code("caddyfile::import"));
            Vec::new()
        } else {
            self.lex(path, bytes, line, room)?
        };
        let tokens = Rc::new(tokens);
        self.read.insert(path.to_owned(), Rc::clone(&tokens));
        Ok(tokens)
    }

    fn lex(&mut self, path: &str, bytes: Vec<u8>, line: &Line, room: usize) -> Result<Vec<Token>> {
        // Messages name an imported file by its whole path.
        let name = self.loader.absolute(path).unwrap_or_else(|_| path.to_owned());
        let lexed = read(name.into(), bytes.into(), self.loader, &mut self.sources, room)?;
        let (tokens, errors) = lexed.into_parts();
        let Some(error) = errors.into_iter().next() else { return Ok(tokens) };
        let code = error.code;
        let message = format!("Could not read tokens while importing {path}: {error}");
        let mut outer = Diagnostic::error(message).placed_at(&line.at).code(code);
        outer.labels = error.labels.clone();
        Err(outer.label(line.place, "imported here"))
    }
}

fn fail(line: &Line, message: String) -> Diagnostic {
    let mistake = Diagnostic::error(message).placed_at(&line.at);
    mistake.label(line.place, "imported here").code("caddyfile::import")
}

/// An error of the file system in Go's words.
fn reason(doing: &str, path: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let lower = chars.next().map(|c| c.to_lowercase().chain(chars).collect::<String>());
    let text = lower.unwrap_or_default();
    if path.is_empty() { format!("{doing}: {text}") } else { format!("{doing} {path}: {text}") }
}
