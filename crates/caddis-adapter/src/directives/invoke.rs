//! `invoke`: runs a named route.
//!
//! ```text
//! invoke [<matcher>] <name>
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_core::{Directive, DirectiveKind, Helper};
use serde_json::{Value as Json, json};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "invoke", kind: DirectiveKind::Handler(parse), ordered: true };

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let name = h.d.val().to_owned();
    if h.d.next() {
        return Err(h.d.arg_err());
    }
    if !h.shared.invoked.contains(&name) {
        h.shared.invoked.push(name.clone());
    }
    Ok(json!({ "handler": "invoke", "name": name }))
}
