//! `path_regexp`: the path against a regular expression.
//!
//! ```text
//! path_regexp [<name>] <regexp>
//! ```
//!
//! JSON: `{"name", "pattern"}`. The path is cleaned first, its case is kept. Captures go to
//! `{http.regexp.NAME.*}` and `{http.regexp.*}`.

use caddis_caddyfile::{Dispenser, MATCHER_NAME, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde_json::Value as Json;

use super::{no_block, regexp_shape::RegexpConfig, shape};
use crate::{path::clean_path, regexp::Regexp};

/// `http.matchers.path_regexp`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.path_regexp", parse, compile };

struct PathRegexp(Regexp);

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut config = RegexpConfig::default();
    loop {
        if !config.pattern.is_empty() {
            return Err(d.err("regular expression can only be used once per named matcher"));
        }
        let mut args = d.remaining_args();
        config.pattern = args.pop().ok_or_else(|| d.arg_err())?;
        config.name = args.pop().unwrap_or_default();
        if !args.is_empty() {
            return Err(d.arg_err());
        }
        if config.name.is_empty() {
            d.context(MATCHER_NAME).clone_into(&mut config.name);
        }
        no_block(d, "path_regexp")?;
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    matcher(json)
}

/// The matcher of a JSON shape.
pub(super) fn matcher(json: &Json) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    Ok(Box::new(PathRegexp(shape::<RegexpConfig>(json)?.compile()?)))
}

impl Matcher for PathRegexp {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let path = clean_path(ex.request.target.path(), true);
        if !self.0.regex().is_match(&path) {
            return Ok(false);
        }
        let path = path.into_owned();
        Ok(self.0.capture(&path, ex))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{matcher, matches, parse};
    use super::*;

    #[test]
    fn captures_the_cleaned_path() {
        let text = r"path_regexp item ^/item/(\d+)$";
        let mut ex = Exchange::for_test("/x/..//item/%342");
        assert!(matcher(&MODULE, text).matches(&mut ex).expect("no error"));
        assert!(
            ex.values
                .iter()
                .any(|(key, value)| { key == "http.regexp.item.1" && value.text() == "42" })
        );
        assert!(!matches(&MODULE, text, "/item/x"));
    }

    #[test]
    fn takes_the_matchers_name() {
        assert_eq!(
            parse(&MODULE, r"path_regexp \.css$"),
            Ok(json!({"name": "m", "pattern": r"\.css$"}))
        );
        let error = "regular expression can only be used once per named matcher";
        assert_eq!(parse(&MODULE, "path_regexp a\npath_regexp b"), Err(error.into()));
    }
}
