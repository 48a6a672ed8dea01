//! `route`: directives in the order in which they are written.
//!
//! ```text
//! route [<matcher>] {
//!     <directives…>
//! }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::Value as Json;

use crate::{block, routes};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "route", kind: DirectiveKind::Handler(parse), ordered: true };

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let values = block::evaluate(h)?;
    let is_route =
        |value: &ConfigValue| matches!(value, ConfigValue::Route(_) | ConfigValue::Routes(_));
    if let Some(other) = values.iter().find(|value| !is_route(&value.value)) {
        let mut error = h.d.err(format_args!(
            "{} directive returned something other than an HTTP route or subroute (only handler directives can be used in routes)",
            other.directive
        ));
        error.labels.clear();
        return Err(error.label(other.at, "is no handler"));
    }
    Ok(routes::subroute(&routes::build(values, h.shared)))
}
