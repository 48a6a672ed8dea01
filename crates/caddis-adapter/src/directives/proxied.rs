//! What the directives that expand to `reverse_proxy` have in common.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result as ParseResult, nearest};
use caddis_core::{DirectiveKind, Helper};
use serde_json::{Map, Value as Json};

/// Reads tokens in the syntax of `reverse_proxy`; the result has its `handler` key. `own` are the words
/// that were read before.
///
/// # Errors
/// Its mistake.
pub(super) fn reverse_proxy(
    h: &mut Helper<'_>,
    mut tokens: Dispenser,
    own: &[&str],
) -> ParseResult<Json> {
    tokens.reset();
    let directive = h.registry.directive("reverse_proxy");
    let Some(DirectiveKind::Handler(parse)) = directive.map(|directive| &directive.kind) else {
        return Err(h.d.err(
            "getting module named 'http.handlers.reverse_proxy': module not registered: http.handlers.reverse_proxy",
        ));
    };
    let outer = std::mem::replace(&mut h.d, tokens);
    let result = parse(h);
    let rest = std::mem::replace(&mut h.d, outer);
    result.map_err(|error| {
        // In the outermost block, where the words that were taken away would stand.
        let is_own = rest.nesting() == 1
            && error.labels.first().is_some_and(|(span, _)| *span == rest.token().span);
        match nearest(rest.val(), own.iter().copied()) {
            Some(near) if is_own && error.help.is_none() => error.meant(near),
            _ => error,
        }
    })
}

/// Goes through the words of the outermost block, each of which may take tokens away that are not
/// for `reverse_proxy`.
///
/// # Errors
/// The mistake of a word.
pub(super) fn each_word(
    d: &mut Dispenser,
    mut word: impl FnMut(&mut Dispenser) -> ParseResult<()>,
) -> ParseResult<()> {
    while d.next() {
        while d.next_block(0) {
            if d.nesting() == 1 {
                word(d)?;
            }
        }
    }
    Ok(())
}

/// Takes the word and its arguments away.
pub(super) fn take_args(d: &mut Dispenser) -> Vec<String> {
    let args = d.remaining_args();
    d.delete_n(args.len() + 1);
    args
}

/// Adds what is not there yet, deeply.
pub(super) fn add_defaults(object: &mut Json, defaults: Json) {
    match (object, defaults) {
        (Json::Object(object), Json::Object(defaults)) => {
            for (key, value) in defaults {
                add_defaults(object.entry(key).or_insert(Json::Null), value);
            }
        }
        (slot @ Json::Null, value) => *slot = value,
        _ => {}
    }
}

/// An object of texts.
pub(super) fn texts(all: BTreeMap<String, String>) -> Map<String, Json> {
    all.into_iter().map(|(key, value)| (key, value.into())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::add_defaults;

    #[test]
    fn defaults_change_nothing_that_is_there() {
        let mut object = json!({ "a": { "b": 1 } });
        add_defaults(&mut object, json!({ "a": { "b": 2, "c": 3 }, "d": [] }));
        assert_eq!(object, json!({ "a": { "b": 1, "c": 3 }, "d": [] }));
    }
}
