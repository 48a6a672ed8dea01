//! `query`: parameters of the query string.
//!
//! ```text
//! query <key>=<value>...
//! ```
//!
//! JSON: `{"key": ["values"]}`. Different keys must all match, of a key's values one must; `*` is
//! any value of a key that is there. No key at all means: no parameters.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, Result, Template,
    target::{decode_query, query_pairs},
};
use serde_json::Value as Json;

use super::{no_block, shape};

/// `http.matchers.query`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.query", parse, compile };

struct Query(Vec<(Template, Vec<Template>)>);

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        for argument in d.remaining_args() {
            if argument.is_empty() {
                continue;
            }
            let Some((key, value)) = argument.split_once('=') else {
                return Err(d.err(format_args!(
                    "malformed query matcher token: {}; must be in param=val format",
                    d.val()
                )));
            };
            query.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        no_block(d, "query")?;
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(query).map_err(|error| d.err(error))
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let query: BTreeMap<String, Option<Vec<String>>> = shape(json)?;
    let pairs = query.iter().map(|(key, values)| {
        let values = values.iter().flatten().map(|value| Template::parse(value)).collect();
        (Template::parse(key), values)
    });
    Ok(Box::new(Query(pairs.collect())))
}

impl Matcher for Query {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let query = ex.request.target.query().unwrap_or_default();
        if self.0.is_empty() {
            return Ok(query_pairs(query).next().is_none());
        }
        let Some(pairs) = strict_pairs(query) else { return Ok(false) };
        Ok(self.0.iter().all(|(key, values)| {
            let key = key.render(ex);
            let mut found = pairs.iter().filter(|(name, _)| *name == key).peekable();
            if found.peek().is_none() {
                return false;
            }
            let found: Vec<&str> = found.map(|(_, value)| value.as_str()).collect();
            values.iter().any(|value| {
                let value = value.render(ex);
                value == "*" || found.contains(&&*value)
            })
        }))
    }
}

/// All pairs; `None` where one is malformed.
fn strict_pairs(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            if pair.contains(';') {
                return None;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_query(key)?, decode_query(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{matches, parse};
    use super::*;

    #[test]
    fn compares_parameters() {
        let cases = [
            ("query sort=asc", "/?sort=desc&sort=%61sc", true),
            ("query sort=asc", "/?SORT=asc", false),
            ("query debug=*", "/?debug", true),
            ("query debug=*", "/?x", false),
            ("query flag=", "/?flag", true),
            ("query flag=", "/?flag=1", false),
            ("query a=1\nquery b=2", "/?b=2&a=1", true),
            ("query a=1\nquery b=2", "/?a=1&b=3", false),
            ("query a=1", "/?a=1&b=%zz", false),
            ("query a=1", "/?a=1;b", false),
            ("query \"\"", "/", true),
            ("query \"\"", "/?x", false),
            ("query a={http.request.method}", "/?a=GET", true),
        ];
        for (text, target, want) in cases {
            assert_eq!(matches(&MODULE, text, target), want, "{text} {target}");
        }
        assert_eq!(
            parse(&MODULE, "query foo=bar foo=baz bar=foo\nquery bar=baz"),
            Ok(json!({"bar": ["foo", "baz"], "foo": ["bar", "baz"]}))
        );
        let error = "malformed query matcher token: x; must be in param=val format";
        assert_eq!(parse(&MODULE, "query x"), Err(error.into()));
    }
}
