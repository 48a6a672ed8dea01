//! `unknown-placeholder` in JSON, where only the long names are known.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::{Findings, texts};
use crate::lints::placeholders;

/// Members whose texts are not replaced, or are patterns.
const LITERAL: &[&str] =
    &["find", "hash", "input_regexp", "password", "pattern", "search_regexp", "salt"];

pub(super) fn placeholders(server: &Json, path: &str, findings: &mut Findings<'_>) {
    let mut own: HashSet<&str> = HashSet::new();
    mapped(server, &mut own);
    let mut path = path.to_owned();
    look(server, &own, &mut path, findings);
}

/// The placeholders that `map` handlers fill.
fn mapped<'a>(json: &'a Json, own: &mut HashSet<&'a str>) {
    match json {
        Json::Object(object) => {
            if object.get("handler").and_then(Json::as_str) == Some("map") {
                own.extend(texts(json, "destinations").flat_map(placeholders::names));
            }
            object.values().for_each(|value| mapped(value, own));
        }
        Json::Array(items) => items.iter().for_each(|item| mapped(item, own)),
        _ => {}
    }
}

fn look(json: &Json, own: &HashSet<&str>, path: &mut String, findings: &mut Findings<'_>) {
    let length = path.len();
    match json {
        Json::Object(object) => {
            for (key, value) in object.iter().filter(|(key, _)| !LITERAL.contains(&key.as_str())) {
                path.push('.');
                path.push_str(key);
                look(value, own, path, findings);
                path.truncate(length);
            }
        }
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push('.');
                path.push_str(&at.to_string());
                look(item, own, path, findings);
                path.truncate(length);
            }
        }
        Json::String(text) => {
            for name in placeholders::names(text) {
                if own.contains(name) || placeholders::is_known_long(name) {
                    continue;
                }
                let message = format!("unknown placeholder {{{name}}}");
                let help = placeholders::near_long(name);
                let help = help.map_or_else(
                    || {
                        "only long names are known in JSON, such as `{http.request.host}`"
                            .to_owned()
                    },
                    |near| format!("did you mean `{{{near}}}`?"),
                );
                let lint = &placeholders::UNKNOWN_PLACEHOLDER;
                findings.add(lint, path.as_str(), message, "nothing fills it", help);
            }
        }
        _ => {}
    }
}
