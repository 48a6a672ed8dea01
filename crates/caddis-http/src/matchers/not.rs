//! `not`: none of the sets matches.
//!
//! ```text
//! not <matcher>
//! not {
//!     <matchers...>
//! }
//! ```
//!
//! JSON: a list of matcher sets. Matchers of one set are joined by "and" before they are negated;
//! each further `not` adds a set.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result as ParseResult, Token};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, MatcherSets, Result, module::short_name,
};
use serde_json::Value as Json;

use super::shape;

/// `http.matchers.not`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.not", parse, compile };

struct Not(MatcherSets);

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut sets = Vec::new();
    loop {
        sets.push(Json::Object(nested_set(d)?.into_iter().collect()));
        if !d.next() {
            break;
        }
    }
    Ok(Json::Array(sets))
}

/// Reads the matchers on the line or in the block that follows; lines of the same matcher are
/// merged. A quoted token is an expression.
///
/// # Errors
/// An unknown matcher, or a mistake in one.
pub fn nested_set(d: &mut Dispenser) -> ParseResult<BTreeMap<String, Json>> {
    let mut tokens: BTreeMap<String, Vec<Token>> = BTreeMap::new();
    let nesting = d.nesting();
    while d.next_arg() || d.next_block(nesting) {
        if d.token().is_quoted() {
            let all = tokens.entry("expression".into()).or_default();
            all.push(d.token().with_text("expression"));
            all.push(d.token().clone());
            continue;
        }
        let name = d.val().to_owned();
        tokens.entry(name).or_default().extend(d.next_segment().0);
    }
    let mut set = BTreeMap::new();
    for (name, tokens) in tokens {
        let Some(module) = super::ALL.iter().find(|module| short_name(module.id) == name) else {
            let message = format!(
                "getting matcher module '{name}': module not registered: http.matchers.{name}"
            );
            return Err(d.err(message));
        };
        let mut inner = Dispenser::new(tokens);
        inner.next();
        set.insert(name, (module.parse)(&mut inner)?);
    }
    Ok(set)
}

fn compile(
    json: &Json,
    cx: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let sets: Vec<BTreeMap<String, Json>> = shape(json)?;
    Ok(Box::new(Not(cx.matcher_sets(&sets)?)))
}

impl Matcher for Not {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        for set in &self.0.0 {
            if set.matches(ex)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{matches, parse};
    use super::*;

    #[test]
    fn negates_sets() {
        let block = "not {\n path /x*\n method GET\n}";
        let json = json!([{"method": ["GET"], "path": ["/x*"]}]);
        assert_eq!(parse(&MODULE, block), Ok(json));
        assert!(!matches(&MODULE, block, "/x"));
        assert!(matches(&MODULE, block, "/y"));
        assert!(matches(&MODULE, "not path /y*\nnot query ok=1", "/x"));
        assert!(!matches(&MODULE, "not path /y*\nnot query ok=1", "/x?ok=1"));
        let error = parse(&MODULE, "not nothing x").expect_err("unknown");
        assert!(error.starts_with("getting matcher module 'nothing'"), "{error}");
    }
}
