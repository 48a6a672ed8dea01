//! `url_pattern`: the URL against a URL pattern as browsers know them.
//!
//! ```text
//! url_pattern <pattern> {
//!     base_url <url>
//!     ignore_case
//! }
//! ```
//!
//! JSON: `{"pattern", "base_url", "ignore_case"}`. It can be adapted, but not yet run.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Matcher, MatcherModule};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::shape;

/// `http.matchers.url_pattern`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.url_pattern", parse, compile };

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    #[serde(skip_serializing_if = "String::is_empty")]
    pattern: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    base_url: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_case: bool,
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut config = Config::default();
    loop {
        if !d.next_arg() {
            return Err(d.err("expected exactly one URL pattern"));
        }
        d.val().clone_into(&mut config.pattern);
        while d.next_block(0) {
            match d.val() {
                "base_url" => {
                    if !d.next_arg() {
                        return Err(d.arg_err());
                    }
                    d.val().clone_into(&mut config.base_url);
                }
                "ignore_case" => {
                    if d.next_arg() {
                        return Err(d.arg_err());
                    }
                    config.ignore_case = true;
                }
                other => {
                    return Err(d.err(format_args!("unrecognized url_pattern option '{other}'")));
                }
            }
        }
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

fn compile(json: &Json, _: &mut CompileCx<'_>) -> Result<Box<dyn Matcher>, ConfigError> {
    shape::<Config>(json)?;
    Err(ConfigError::new("", "the url_pattern matcher is not supported yet"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{compile, parse};
    use super::*;

    #[test]
    fn shapes() {
        let text = "url_pattern /api/:version/* {\n base_url https://example.com\n ignore_case\n}";
        let want = json!({"pattern": "/api/:version/*", "base_url": "https://example.com",
            "ignore_case": true});
        assert_eq!(parse(&MODULE, text), Ok(want.clone()));
        assert!(compile(&MODULE, &want).is_err());
    }
}
