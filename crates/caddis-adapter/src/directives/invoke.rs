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
    let name = h.d.token().clone();
    if h.d.next() {
        return Err(h.d.arg_err());
    }
    let handler = json!({ "handler": "invoke", "name": name.text.as_str() });
    if !h.shared.invoked.iter().any(|known| known.text == name.text) {
        h.shared.invoked.push(name);
    }
    Ok(handler)
}
