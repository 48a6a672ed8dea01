//! Descriptors of the module kinds whose modules live in several crates.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use serde_json::Value as Json;

use crate::{CompileCx, Handler, Matcher};

/// `http.handlers.*`: turns its JSON object (with the inline key `handler`) into a handler.
pub struct HandlerModule {
    /// Caddy's module id, for example `http.handlers.rewrite`.
    pub id: &'static str,
    /// JSON to run-time object; decode with `CompileCx::decode(json, "handler")`.
    pub compile: fn(&Json, &mut CompileCx<'_>) -> Result<Handler, ConfigError>,
}

/// JSON to matcher.
pub type MatcherCompile = fn(&Json, &mut CompileCx<'_>) -> Result<Box<dyn Matcher>, ConfigError>;

/// `http.matchers.*`.
pub struct MatcherModule {
    /// Caddy's module id, for example `http.matchers.path`.
    pub id: &'static str,
    /// Reads the matcher's Caddyfile syntax; the dispenser's first token is the matcher's name,
    /// which was consumed already (`d.val()` is the name). It may hold several lines' segments of
    /// the same matcher one after another, as Caddy merges them. Gives the matcher's JSON.
    pub parse: fn(&mut Dispenser) -> ParseResult<Json>,
    /// JSON to run-time object.
    pub compile: MatcherCompile,
}

/// The last part of a module id: `http.handlers.rewrite` → `rewrite`.
pub fn short_name(id: &str) -> &str {
    id.rsplit('.').next().unwrap_or(id)
}
