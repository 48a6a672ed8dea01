//! Who imports whom: files and the snippets in them. A cycle is a mistake.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Result};
use crate::limits;
use crate::token::Token;

/// The name of the file or snippet in which a token stands.
pub(super) fn node(token: &Token) -> String {
    match token.snippet() {
        Some(snippet) if !snippet.is_empty() => format!("{}:{snippet}", token.file()),
        _ => token.file().to_string(),
    }
}

/// Edges from importer to imported.
#[derive(Default)]
pub(super) struct Graph {
    edges: HashMap<String, HashSet<String>>,
    steps: usize,
}

impl Graph {
    /// Adds the imports made at a token.
    pub(super) fn connect(&mut self, at: &Token, imported: Vec<String>) -> Result<()> {
        let from = node(at);
        for to in imported {
            if self.edges.get(&from).is_some_and(|known| known.contains(&to)) {
                continue;
            }
            if to == from || self.reaches(&to, &from, at)? {
                let message = format!("a cycle of imports exists between {from} and {to}");
                let mistake = Diagnostic::error(message).labelled(at, "imported here");
                return Err(mistake.code("caddyfile::cycle"));
            }
            self.edges.entry(from.clone()).or_default().insert(to);
        }
        Ok(())
    }

    fn reaches(&mut self, from: &str, goal: &str, at: &Token) -> Result<bool> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut todo = vec![from];
        while let Some(name) = todo.pop() {
            for next in self.edges.get(name).into_iter().flatten() {
                self.steps += 1;
                if self.steps > limits::CYCLE_STEPS {
                    let message = "files and snippets import each other in too many ways";
                    return Err(Diagnostic::error(message).at(at).code("caddyfile::limit"));
                }
                if next == goal {
                    return Ok(true);
                }
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Origin;

    #[test]
    fn finds_cycles() {
        let at = |file: &str| Token { origin: Some(Origin::of_file(file)), ..Token::default() };
        let mut graph = Graph::default();
        assert!(graph.connect(&at("a"), vec!["b".into(), "c".into()]).is_ok());
        assert!(graph.connect(&at("a"), vec!["b".into()]).is_ok());
        assert!(graph.connect(&at("b"), vec!["c".into()]).is_ok());
        let error = graph.connect(&at("c"), vec!["a".into()]).expect_err("a cycle");
        assert_eq!(error.to_string(), "a cycle of imports exists between c and a");
        assert!(graph.connect(&at("d"), vec!["d".into()]).is_err());
    }
}
