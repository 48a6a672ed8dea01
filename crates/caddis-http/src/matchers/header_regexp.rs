//! `header_regexp`: header fields against regular expressions.
//!
//! ```text
//! header_regexp [<name>] <field> <regexp>
//! ```
//!
//! JSON: `{"Field": {"name", "pattern"}}`. All fields must match, of a field's lines one must.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde_json::Value as Json;

use super::{
    header::Field,
    regexp_shape::{compile_fields, parse_fields},
};
use crate::regexp::Regexp;

/// `http.matchers.header_regexp`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.header_regexp", parse, compile };

struct HeaderRegexp(Vec<(Field, Regexp)>);

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    parse_fields(d, "header_regexp", true)
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    matcher(json)
}

/// The matcher of a JSON shape.
pub(super) fn matcher(json: &Json) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    Ok(Box::new(HeaderRegexp(compile_fields(json, Field::parse)?)))
}

impl Matcher for HeaderRegexp {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        for (field, regexp) in &self.0 {
            let found =
                field.any(ex, |value| regexp.regex().is_match(value).then(|| value.to_owned()));
            let Some(value) = found else { return Ok(false) };
            regexp.capture(&value, ex);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::Template;

    use super::super::testing::{matcher, parse};
    use super::*;

    #[test]
    fn captures_from_one_of_the_lines() {
        let mut ex = Exchange::for_test("/");
        ex.request.headers.append("cookie", "x=1".parse().expect("value"));
        ex.request.headers.append("cookie", "session=ff".parse().expect("value"));
        let text = "header_regexp sess Cookie session=([a-f0-9]+)";
        assert!(matcher(&MODULE, text).matches(&mut ex).expect("no error"));
        assert_eq!(Template::parse("{http.regexp.sess.1}").render(&ex), "ff");
        let text = "header_regexp Cookie nothing";
        assert!(!matcher(&MODULE, text).matches(&mut ex).expect("no error"));
        let error = parse(&MODULE, "header_regexp A x\nheader_regexp A y").expect_err("twice");
        assert!(error.ends_with("per header field: A"), "{error}");
    }
}
