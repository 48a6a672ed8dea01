//! Page templates: `templates`. The settings are read, but templates are not run yet, so a
//! configuration with it is refused rather than served raw.
//!
//! ```text
//! templates [<matcher>] {
//!     mime    <types...>
//!     between <open_delim> <close_delim>
//!     root    <path>
//! }
//! ```
//!
//! JSON: `{"handler": "templates", "file_root": "", "mime_types": [], "delimiters": []}`.

use std::collections::BTreeMap;

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Directive, DirectiveKind, Handler, HandlerModule, Helper};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.templates`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.templates", compile };
/// `templates`.
pub static DIRECTIVE: Directive =
    Directive { name: "templates", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where included files are.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub file_root: String,
    /// Media types of answers that are templates.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub mime_types: Vec<String>,
    /// What opens and closes an action.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub delimiters: Vec<String>,
    /// Function modules.
    #[serde(
        rename = "match",
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub functions: BTreeMap<String, Json>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "mime" => {
                config.mime_types = d.remaining_args();
                if config.mime_types.is_empty() {
                    return Err(d.arg_err());
                }
            }
            "between" => {
                config.delimiters = d.remaining_args();
                if config.delimiters.len() != 2 {
                    return Err(d.arg_err());
                }
            }
            "root" => {
                let Some([root]) = d.all_args() else { return Err(d.arg_err()) };
                config.file_root = root;
            }
            "extensions" => {
                return Err(d.err("template extensions are not supported"));
            }
            _ => {}
        }
    }
    h.handler("templates", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let _: Config = cx.decode(json, "handler")?;
    Err(ConfigError::new("handler", "the templates handler is not supported yet"))
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, compile_error};
    use serde_json::json;

    #[test]
    fn adapts_and_refuses() {
        let want = json!({"handler": "templates", "file_root": "/srv", "mime_types": ["a/b"],
            "delimiters": ["[[", "]]"]});
        assert_eq!(
            adapt("templates {\n mime a/b\n between [[ ]]\n root /srv\n}"),
            Ok(want.clone())
        );
        assert!(adapt("templates {\n between x\n}").is_err());
        assert!(compile_error(&want).contains("the templates handler is not supported yet"));
    }
}
