//! Distributed tracing: `tracing`. The settings are read, but spans are not made yet, so a
//! configuration with it is refused rather than run without them.
//!
//! ```text
//! tracing [<matcher>] {
//!     span <name>
//!     span_attributes {
//!         <key> <value>
//!     }
//! }
//! ```
//!
//! JSON: `{"handler": "tracing", "span": "name", "span_attributes": {"key": "value"}}`.

use std::collections::BTreeMap;

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Directive, DirectiveKind, Handler, HandlerModule, Helper};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.tracing`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.tracing", compile };
/// `tracing`.
pub static DIRECTIVE: Directive =
    Directive { name: "tracing", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The span's name.
    #[serde(deserialize_with = "caddis_config::nullable")]
    pub span: String,
    /// Attributes of the span.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub span_attributes: BTreeMap<String, String>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if d.next_arg() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "span" => {
                let Some([name]) = d.all_args() else { return Err(d.arg_err()) };
                config.span = name;
            }
            "span_attributes" => {
                let nesting = d.nesting();
                while d.next_block(nesting) {
                    let key = d.val().to_owned();
                    let Some([value]) = d.all_args() else { return Err(d.arg_err()) };
                    config.span_attributes.insert(key, value);
                }
            }
            _ => return Err(d.arg_err()),
        }
    }
    h.handler("tracing", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let _: Config = cx.decode(json, "handler")?;
    Err(ConfigError::new("handler", "the tracing handler is not supported yet"))
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, compile_error};
    use serde_json::json;

    #[test]
    fn adapts_and_refuses() {
        let want = json!({"handler": "tracing", "span": "a", "span_attributes": {"k": "v"}});
        let text = "tracing {\n span a\n span_attributes {\n k v\n }\n}";
        assert_eq!(adapt(text), Ok(want.clone()));
        assert_eq!(adapt("tracing"), Ok(json!({"handler": "tracing", "span": ""})));
        assert!(adapt("tracing {\n x y\n}").is_err());
        assert!(compile_error(&want).contains("not supported yet"));
    }
}
