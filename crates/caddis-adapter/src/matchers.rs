//! Named matchers: `@name` definitions to matcher sets.
//!
//! ```text
//! @name <matcher> <args…>
//! @name {
//!     <matcher> <args…>
//! }
//! @name "expression"          or in backticks
//! ```
//!
//! The lines of one matcher in a block are read as one. A definition is visible in its block and in
//! those inside, wherever it stands in the block.

use std::collections::HashMap;

use caddis_caddyfile::{
    Diagnostic, Dispenser, MATCHER_NAME, Result as ParseResult, Segment, Token, nearest,
};
use caddis_core::Registry;
use caddis_core::directive::MatcherSetConfig;
use caddis_core::module::short_name;
use serde_json::Value as Json;

/// First character of a matcher's name.
pub(crate) const PREFIX: char = '@';

/// Sets by name, `@` included.
pub(crate) type Definitions = HashMap<String, MatcherSetConfig>;

/// Adds one definition.
///
/// # Errors
/// The name is taken, or a matcher in it is wrong.
pub(crate) fn define(
    segment: &Segment,
    registry: &Registry,
    definitions: &mut Definitions,
) -> ParseResult<()> {
    let mut d = Dispenser::from_segment(segment);
    d.next();
    let name = d.val().to_owned();
    if definitions.contains_key(&name) {
        let error = Diagnostic::error(format!("matcher is defined more than once: {name}"));
        return Err(error.labelled(d.token(), "defined again here").help(
            "give it another name; conditions that have to hold together go into one block `@name { … }`",
        ));
    }
    let mut set = MatcherSetConfig::new();
    for (matcher, tokens) in by_matcher(&mut d) {
        set.insert(matcher.clone(), parse_one(&name, &matcher, tokens, registry)?);
    }
    definitions.insert(name, set);
    Ok(())
}

/// The tokens of each matcher, in the order in which the matchers first come.
fn by_matcher(d: &mut Dispenser) -> Vec<(String, Vec<Token>)> {
    if d.next_arg() {
        if d.token().is_quoted() {
            let mut name = d.token().with_text("expression");
            name.quote = Default::default();
            return vec![("expression".to_owned(), vec![name, d.token().clone()])];
        }
        d.prev();
    }
    let mut found: Vec<(String, Vec<Token>)> = Vec::new();
    let nesting = d.nesting();
    while d.next_arg() || d.next_block(nesting) {
        let matcher = d.val().to_owned();
        let tokens = d.next_segment().0;
        match found.iter_mut().find(|(name, _)| *name == matcher) {
            Some((_, all)) => all.extend(tokens),
            None => found.push((matcher, tokens)),
        }
    }
    found
}

fn parse_one(
    name: &str,
    matcher: &str,
    tokens: Vec<Token>,
    registry: &Registry,
) -> ParseResult<Json> {
    let Some(module) = registry.matcher(matcher) else {
        let message = format!(
            "getting matcher module '{matcher}': module not registered: http.matchers.{matcher}"
        );
        let mut error = Diagnostic::error(message);
        if let Some(token) = tokens.first() {
            error = error.labelled(token, "no such matcher");
        }
        let known = registry.matchers.iter().map(|module| short_name(module.id));
        if let Some(near) = nearest(matcher, known) {
            error = error.meant(near);
        }
        return Err(error);
    };
    let mut d = Dispenser::new(tokens);
    d.set_context(MATCHER_NAME, name.trim_start_matches(PREFIX));
    d.next();
    (module.parse)(&mut d)
}
