//! `vars`: variables or placeholders by their text.
//!
//! ```text
//! vars <variable|{placeholder}> <values...>
//! ```
//!
//! JSON: `{"name": ["values"]}`. One pair that matches is enough; no pair at all matches.

use std::{borrow::Cow, collections::BTreeMap};

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, Result, Template, placeholder::Placeholder,
};
use serde_json::Value as Json;

use super::{no_block, shape};

/// `http.matchers.vars`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.vars", parse, compile };

/// Where a value comes from.
pub(super) struct Source(Placeholder);

struct Vars(Vec<(Source, Vec<Template>)>);

impl Source {
    /// A key is one placeholder in braces, or a variable's name.
    pub(super) fn parse(key: &str) -> Self {
        let inner = key.strip_prefix('{').and_then(|key| key.strip_suffix('}'));
        Self(match inner {
            Some(inner) if !inner.contains(['{', '}']) => Placeholder::parse(inner),
            _ => Placeholder::parse(&format!("http.vars.{key}")),
        })
    }

    pub(super) fn text<'a>(&'a self, ex: &'a Exchange) -> Cow<'a, str> {
        match self.0.value(ex) {
            Some(caddis_core::Value::Str(text)) => text,
            Some(value) => Cow::Owned(value.text().into_owned()),
            None => Cow::Borrowed(""),
        }
    }
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut vars: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        if !d.next_arg() {
            return Err(d.err("malformed vars matcher: expected field name"));
        }
        let field = d.val().to_owned();
        let values = d.remaining_args();
        if values.is_empty() {
            return Err(
                d.err("malformed vars matcher: expected at least one value to match against")
            );
        }
        vars.entry(field).or_default().extend(values);
        no_block(d, "vars")?;
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(vars).map_err(|error| d.err(error))
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let vars: BTreeMap<String, Option<Vec<String>>> = shape(json)?;
    let compiled = vars.iter().map(|(key, values)| {
        let values = values.iter().flatten().map(|value| Template::parse(value)).collect();
        (Source::parse(key), values)
    });
    Ok(Box::new(Vars(compiled.collect())))
}

impl Matcher for Vars {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(true);
        }
        Ok(self.0.iter().any(|(source, values)| {
            let actual = source.text(ex);
            values.iter().any(|value| value.render(ex) == actual)
        }))
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::Value;
    use serde_json::json;

    use super::super::testing::{matcher, parse};
    use super::*;

    #[test]
    fn compares_texts() {
        let mut ex = Exchange::for_test("/?kind=beta");
        ex.set_var("role", Value::string("admin"));
        ex.set_var("level", Value::Int(3));
        for (text, want) in [
            ("vars role admin", true),
            ("vars role user", false),
            ("vars level 3", true),
            ("vars {http.request.uri.query.kind} alpha beta", true),
            ("vars none \"\"", true),
            ("vars role user\nvars level 3", true),
            ("vars client_ip 127.0.0.1", true),
        ] {
            assert_eq!(matcher(&MODULE, text).matches(&mut ex).expect("no error"), want, "{text}");
        }
        assert_eq!(parse(&MODULE, "vars a b\nvars a c"), Ok(json!({"a": ["b", "c"]})));
    }
}
