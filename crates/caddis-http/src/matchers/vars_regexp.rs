//! `vars_regexp`: variables or placeholders against regular expressions.
//!
//! ```text
//! vars_regexp [<name>] <variable|{placeholder}> <regexp>
//! ```
//!
//! JSON: `{"name": {"name", "pattern"}}`. One that matches is enough; its captures are kept.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde_json::Value as Json;

use super::{
    regexp_shape::{compile_fields, parse_fields},
    vars::Source,
};
use crate::regexp::Regexp;

/// `http.matchers.vars_regexp`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.vars_regexp", parse, compile };

struct VarsRegexp(Vec<(Source, Regexp)>);

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    parse_fields(d, "vars_regexp", false)
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    matcher(json)
}

/// The matcher of a JSON shape.
pub(super) fn matcher(json: &Json) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    Ok(Box::new(VarsRegexp(compile_fields(json, Source::parse)?)))
}

impl Matcher for VarsRegexp {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        for (source, regexp) in &self.0 {
            let text = source.text(ex);
            if regexp.regex().is_match(&text) {
                let text = text.into_owned();
                regexp.capture(&text, ex);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::Template;
    use serde_json::json;

    use super::super::testing::{matcher, parse};
    use super::*;

    #[test]
    fn captures() {
        let mut ex = Exchange::for_test("/?n=123");
        let text = r"vars_regexp num {http.request.uri.query.n} ^(\d)(\d*)$";
        assert!(matcher(&MODULE, text).matches(&mut ex).expect("no error"));
        assert_eq!(Template::parse("{http.regexp.num.2}").render(&ex), "23");
        let text = "vars_regexp {http.request.uri} x$";
        assert_eq!(
            parse(&MODULE, text),
            Ok(json!({"{http.request.uri}": {"name": "m", "pattern": "x$"}}))
        );
        assert!(!matcher(&MODULE, text).matches(&mut ex).expect("no error"));
    }
}
