//! `handle`: routes of which only the first block that matches runs.
//!
//! ```text
//! handle [<matcher>] {
//!     <directives…>
//! }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_core::{Directive, DirectiveKind, Helper};
use serde_json::Value as Json;

use crate::{block, routes};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "handle", kind: DirectiveKind::Handler(parse), ordered: true };

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    Ok(routes::subroute(&block::parse_routes(h)?))
}
