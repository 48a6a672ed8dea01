//! `handle_path`: `handle` for a path, which is taken off the URI.
//!
//! ```text
//! handle_path <path> {
//!     <directives…>
//! }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::Route;
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::json;

use crate::{block, routes};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "handle_path", kind: DirectiveKind::Values(parse), ordered: true };

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let path = h.d.val().to_owned();
    if !path.starts_with('/') {
        return Err(h.d.err(format_args!("path matcher must begin with '/', got {path}")));
    }
    let prefix = path.strip_suffix("/*").or(path.strip_suffix('*')).unwrap_or(&path).to_owned();
    let mut rewrite = json!({ "handler": "rewrite" });
    if !prefix.is_empty() {
        rewrite["strip_path_prefix"] = prefix.into();
    }
    let mut inner = vec![Route { handle: vec![rewrite], ..Route::default() }];
    // The cursor is on the path, before the block.
    inner.extend(block::parse_routes(h)?);
    let set = [("path".to_owned(), json!([path]))].into();
    Ok(h.route(Some(set), routes::subroute(&inner)))
}
