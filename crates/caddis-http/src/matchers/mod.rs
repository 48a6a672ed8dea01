//! Request matchers, one file each: Caddyfile syntax, JSON shape, compilation, matching.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::MatcherModule;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub mod expression;
pub mod file;
pub mod header;
pub mod header_regexp;
pub mod host;
pub mod ip;
pub mod method;
pub mod not;
pub mod path;
pub mod path_regexp;
pub mod protocol;
pub mod query;
pub mod tls;
pub mod url_pattern;
pub mod vars;
pub mod vars_regexp;

mod fs_glob;
mod regexp_shape;

/// `http.matchers.*`.
pub static ALL: &[&MatcherModule] = &[
    &ip::CLIENT_IP,
    &expression::MODULE,
    &file::MODULE,
    &header::MODULE,
    &header_regexp::MODULE,
    &host::MODULE,
    &method::MODULE,
    &not::MODULE,
    &path::MODULE,
    &path_regexp::MODULE,
    &protocol::MODULE,
    &query::MODULE,
    &ip::REMOTE_IP,
    &tls::MODULE,
    &url_pattern::MODULE,
    &vars::MODULE,
    &vars_regexp::MODULE,
];

/// Refuses a block after the current token.
fn no_block(d: &mut Dispenser, name: &str) -> ParseResult<()> {
    if d.next_block(0) {
        return Err(d.err(format_args!("malformed {name} matcher: blocks are not supported")));
    }
    Ok(())
}

/// The arguments of all segments, for matchers that are plain lists.
fn list_of_args(d: &mut Dispenser, name: &str) -> ParseResult<Json> {
    let mut all = Vec::new();
    loop {
        all.extend(d.remaining_args());
        no_block(d, name)?;
        if !d.next() {
            break;
        }
    }
    // An empty list is Go's nil.
    Ok(if all.is_empty() { Json::Null } else { all.into() })
}

/// Reads a matcher's shape that is a list; a line without arguments is none, as in Caddy.
fn list_shape(json: &Json) -> Result<Vec<String>, ConfigError> {
    if json.is_null() {
        return Err(ConfigError::new("", "module value cannot be null"));
    }
    caddis_config::decode(json.clone())
}

/// Reads a matcher's shape; `null` is its default.
fn shape<T: DeserializeOwned + Default>(json: &Json) -> Result<T, ConfigError> {
    Ok(caddis_config::decode::<Option<T>>(json.clone())?.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of single matchers share.

    use std::sync::Arc;

    use caddis_caddyfile::{Dispenser, MATCHER_NAME};
    use caddis_core::{
        CompileCx, Exchange, Matcher, MatcherModule, Registry, State, metrics::Metrics,
    };
    use serde_json::Value as Json;

    pub(crate) fn registry() -> Registry {
        Registry {
            directives: Vec::new(),
            handlers: Vec::new(),
            matchers: super::ALL.to_vec(),
            other_ids: Vec::new(),
            parse_routes: |_| Ok(Vec::new()),
        }
    }

    pub(crate) fn parse(module: &MatcherModule, text: &str) -> Result<Json, String> {
        let tokens = caddis_caddyfile::tokenize("Caddyfile", text).map_err(|e| e.to_string())?;
        let mut d = Dispenser::new(tokens);
        d.set_context(MATCHER_NAME, "m");
        d.next();
        (module.parse)(&mut d).map_err(|error| error.message.clone())
    }

    pub(crate) fn compile(module: &MatcherModule, json: &Json) -> Result<Box<dyn Matcher>, String> {
        let (registry, state) = (registry(), State::default());
        let mut cx = CompileCx::new(&registry, &state, Arc::new(Metrics::default()));
        (module.compile)(json, &mut cx).map_err(|error| error.to_string())
    }

    /// A matcher from its Caddyfile text.
    pub(crate) fn matcher(module: &MatcherModule, text: &str) -> Box<dyn Matcher> {
        compile(module, &parse(module, text).expect(text)).expect(text)
    }

    pub(crate) fn matches(module: &MatcherModule, text: &str, target: &str) -> bool {
        matcher(module, text).matches(&mut Exchange::for_test(target)).expect("no error")
    }
}
