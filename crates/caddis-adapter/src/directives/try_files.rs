//! `try_files`: rewrites to the first file that exists.
//!
//! ```text
//! try_files <file…> {
//!     policy first_exist | first_exist_fallback | smallest_size | largest_size | most_recently_modified
//! }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::json;

use crate::modules::{next_arg, some_args};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "try_files", kind: DirectiveKind::Values(parse), ordered: true };

const POLICIES: [&str; 5] = [
    "first_exist",
    "first_exist_fallback",
    "largest_size",
    "smallest_size",
    "most_recently_modified",
];

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let files = some_args(&mut h.d)?;
    let policy = policy(h)?;
    let mut values = Vec::new();
    // Each file with a query is rewritten in its own way, so it needs a route of its own.
    let mut plain: Vec<String> = Vec::new();
    for file in files {
        let Some(query) = file.find('?') else {
            plain.push(file);
            continue;
        };
        if !plain.is_empty() {
            values.extend(route(h, &std::mem::take(&mut plain), "", &policy));
        }
        let (name, query) = file.split_at(query);
        values.extend(route(h, &[name.to_owned()], query, &policy));
    }
    if !plain.is_empty() {
        values.extend(route(h, &plain, "", &policy));
    }
    if values.len() > 1 {
        let group = h.shared.group_name();
        for value in &mut values {
            if let ConfigValue::Route(route) = value {
                route.group.clone_from(&group);
            }
        }
    }
    Ok(values)
}

fn policy(h: &mut Helper<'_>) -> ParseResult<String> {
    let mut policy = String::new();
    while h.d.next_block(0) {
        if h.d.val() != "policy" {
            continue;
        }
        if !policy.is_empty() {
            return Err(h.d.err("try policy already configured"));
        }
        policy = next_arg(&mut h.d)?;
        if !POLICIES.contains(&policy.as_str()) {
            let error = h.d.err(format_args!("unrecognized try policy: {policy}"));
            return Err(h.d.did_you_mean(error, POLICIES));
        }
    }
    Ok(policy)
}

fn route(h: &Helper<'_>, files: &[String], query: &str, policy: &str) -> Vec<ConfigValue> {
    let uri = format!("{{http.matchers.file.relative}}{query}");
    let mut matcher = json!({ "try_files": files });
    if !policy.is_empty() {
        matcher["try_policy"] = policy.into();
    }
    let set = [("file".to_owned(), matcher)].into();
    h.route(Some(set), json!({ "handler": "rewrite", "uri": uri }))
}
