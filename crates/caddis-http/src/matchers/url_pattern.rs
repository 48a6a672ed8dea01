//! `url_pattern`: the URL against a URL pattern as browsers know them.
//!
//! ```text
//! url_pattern <pattern> {
//!     base_url <url>
//!     ignore_case
//! }
//! ```
//!
//! JSON: `{"pattern", "base_url", "ignore_case"}`. The pattern is that of <https://urlpattern.spec.whatwg.org>.
//! A relative pattern without a base looks at the path and the query alone, whatever the host. The
//! path is compared decoded, cleaned and escaped again, so that it is the one which handlers use;
//! doubled slashes collapse unless the pattern's path has some. Groups become
//! `{http.url_pattern.COMPONENT.GROUP}` (spec M020, P098).

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, Result, Value, target::encode_path,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use url::Url;
use urlpattern::{
    RegexSyntax, UrlPattern, UrlPatternComponentResult, UrlPatternInit, UrlPatternMatchInput,
    UrlPatternOptions, regexp::RegExp,
};

use super::shape;
use crate::path::clean_path;

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
                    let error = d.err(format_args!("unrecognized url_pattern option '{other}'"));
                    return Err(d.did_you_mean(error, ["base_url", "ignore_case"]));
                }
            }
        }
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
    let config: Config = shape(json)?;
    let bad = |error: &dyn std::fmt::Display| {
        ConfigError::new("pattern", format!("unable to parse URL pattern: {error}"))
    };
    let base = match config.base_url.as_str() {
        "" => None,
        base => Some(Url::parse(base).map_err(|error| {
            ConfigError::new("base_url", format!("unable to parse URL pattern: {error}"))
        })?),
    };
    // A request's host may have a port, so the port is any too.
    let any_origin = base.is_none() && !config.pattern.contains("://");
    let full =
        if any_origin { format!("*://*:*{}", config.pattern) } else { config.pattern.clone() };
    let init = UrlPatternInit::parse_constructor_string::<Expression>(&full, base)
        .map_err(|error| bad(&error))?;
    let options =
        UrlPatternOptions { ignore_case: config.ignore_case, ..UrlPatternOptions::default() };
    let pattern = UrlPattern::parse(init, options).map_err(|error| bad(&error))?;
    let path = match config.pattern.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => &config.pattern,
    };
    Ok(Box::new(UrlPatternMatcher { pattern, merge_slashes: !path.contains("//") }))
}

/// The engine's own expressions take no flags.
#[derive(Debug)]
struct Expression(regex::Regex);

impl RegExp for Expression {
    fn syntax() -> RegexSyntax {
        RegexSyntax::Rust
    }

    fn parse(pattern: &str, flags: &str, _: bool) -> std::result::Result<Self, ()> {
        let ignore_case = flags.contains('i');
        let built = regex::RegexBuilder::new(pattern).case_insensitive(ignore_case).build();
        built.map(Self).map_err(|_| ())
    }

    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        let captures = self.0.captures(text)?;
        Some(captures.iter().skip(1).map(|group| group.map(|found| found.as_str())).collect())
    }

    fn pattern_string(&self) -> &str {
        self.0.as_str()
    }
}

struct UrlPatternMatcher {
    pattern: UrlPattern<Expression>,
    merge_slashes: bool,
}

impl Matcher for UrlPatternMatcher {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let path = clean_path(ex.request.target.path(), self.merge_slashes);
        let mut text = format!("{}://{}{}", ex.scheme(), ex.request.host, encode_path(&path));
        if let Some(query) = ex.request.target.query().filter(|query| !query.is_empty()) {
            text.push('?');
            text.push_str(query);
        }
        // A host that is none matches nothing.
        let Ok(url) = Url::parse(&text) else { return Ok(false) };
        let Ok(Some(found)) = self.pattern.exec(UrlPatternMatchInput::Url(url)) else {
            return Ok(false);
        };
        for (component, result) in [
            ("protocol", found.protocol),
            ("username", found.username),
            ("password", found.password),
            ("hostname", found.hostname),
            ("port", found.port),
            ("pathname", found.pathname),
            ("search", found.search),
            ("hash", found.hash),
        ] {
            set_groups(ex, component, result);
        }
        Ok(true)
    }
}

fn set_groups(ex: &mut Exchange, component: &str, result: UrlPatternComponentResult) {
    for (group, value) in result.groups {
        let value = Value::string(value.unwrap_or_default());
        ex.set_value(format!("http.url_pattern.{component}.{group}"), value);
    }
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
        assert!(compile(&MODULE, &want).is_ok());
        assert!(compile(&MODULE, &json!({"pattern": "/a/("})).is_err());
        assert!(compile(&MODULE, &json!({"pattern": "/a", "base_url": "x"})).is_err());
    }

    #[test]
    fn matches_as_browsers_do() {
        let cases = [
            (json!({"pattern": "/books"}), "/books", true),
            (json!({"pattern": "/books"}), "/books?x=1", true),
            (json!({"pattern": "/books?"}), "/books?x=1", false),
            (json!({"pattern": "/books?x=2"}), "/books?x=1", false),
            (json!({"pattern": "/books?x=:n"}), "/books?x=1", true),
            (json!({"pattern": "/books/:id"}), "/books/7", true),
            (json!({"pattern": "/books/:id"}), "/books", false),
            (json!({"pattern": "/books/:id"}), "/books/a%2Fb", false),
            (json!({"pattern": "/books/*"}), "/books/a/b", true),
            (json!({"pattern": "/books/:id(\\d+)"}), "/books/x", false),
            (json!({"pattern": "http://example.com/books"}), "/books", true),
            (json!({"pattern": "https://example.com/books"}), "/books", false),
            (json!({"pattern": "http://other.com/books"}), "/books", false),
            (json!({"pattern": "/Books", "ignore_case": true}), "/bOOks", true),
            (json!({"pattern": "/Books"}), "/books", false),
            (json!({"pattern": "/books", "base_url": "http://example.com"}), "/books", true),
            (json!({"pattern": "/books", "base_url": "http://other.com"}), "/books", false),
            (json!({"pattern": "/private/*"}), "/private/..%2fpublic", false),
            (json!({"pattern": "/public"}), "/private/../public", true),
            (json!({"pattern": "/a/b"}), "/a//b", true),
            (json!({"pattern": "/a//b"}), "/a//b", true),
            (json!({"pattern": "/a//b"}), "/a/b", false),
            (json!({"pattern": "/caf%C3%A9"}), "/caf%C3%A9", true),
            (json!({"pattern": "/%61"}), "/a", false),
        ];
        for (config, target, want) in cases {
            let mut ex = Exchange::for_test(target);
            let matched = compile(&MODULE, &config).expect("valid").matches(&mut ex);
            assert_eq!(matched.expect("no error"), want, "{config} {target}");
        }
    }

    #[test]
    fn groups_become_placeholders() {
        let mut ex = Exchange::for_test("/books/42/x/y?q=z");
        let config = json!({"pattern": "/books/:id/*\\?q=:word"});
        assert!(compile(&MODULE, &config).expect("valid").matches(&mut ex).expect("no error"));
        for (key, want) in [("pathname.id", "42"), ("pathname.0", "x/y"), ("search.word", "z")] {
            let key = format!("http.url_pattern.{key}");
            let found = ex.values.iter().find(|(name, _)| *name == key);
            assert_eq!(found.map(|(_, value)| value.text().into_owned()).as_deref(), Some(want));
        }
    }
}
