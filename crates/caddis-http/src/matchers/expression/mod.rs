//! `expression`: a condition in the Common Expression Language (CEL).
//!
//! ```text
//! expression <cel...>
//! ```
//!
//! JSON: the text, or `{"expr", "name"}` where the name is that of the matcher (for captures).
//! Placeholders are values (`{http.error.status_code} >= 500`); other matchers are functions
//! (`path('/a*') && method('GET')`) whose arguments are constants or placeholders. Understood are
//! literals, lists, maps, operators, `in`, `? :`, and the usual functions of strings and sizes;
//! comprehensions are not.

mod eval;
mod lexer;
mod node;
mod parser;

use caddis_caddyfile::{Dispenser, MATCHER_NAME, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde_json::{Value as Json, json};

use node::{Node, Val};

/// `http.matchers.expression`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.expression", parse, compile };

struct Expression(Node);

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    // Several arguments are the expression itself, so its quotes count.
    if d.count_remaining_args() > 1 {
        return Ok(d.remaining_args_raw().join(" ").into());
    }
    if !d.next_arg() {
        return Err(d.arg_err());
    }
    let expr = d.val();
    Ok(match d.context(MATCHER_NAME) {
        "" => expr.into(),
        name => json!({"expr": expr, "name": name}),
    })
}

fn compile(
    json: &Json,
    cx: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let (text, name) = match json {
        Json::String(text) => (text.as_str(), ""),
        Json::Object(object) => {
            if let Some(key) = object.keys().find(|key| !matches!(key.as_str(), "expr" | "name")) {
                return Err(ConfigError::new(key, format!("json: unknown field \"{key}\"")));
            }
            let field = |key: &str| object.get(key).and_then(Json::as_str).unwrap_or_default();
            (field("expr"), field("name"))
        }
        _ => return Err(ConfigError::new("", "an expression is a text or an object")),
    };
    let node = parser::parse(text, name, cx)
        .map_err(|error| ConfigError::new("", format!("compiling CEL program: {error}")))?;
    Ok(Box::new(Expression(node)))
}

impl Matcher for Expression {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        // Anything but a truth value does not match, as in Caddy.
        Ok(matches!(self.0.eval(ex)?, Val::Bool(true)))
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::HttpError;
    use http::{Method, StatusCode};

    use super::super::testing::{self, matcher};
    use super::*;

    fn eval(expr: &str, ex: &mut Exchange) -> Result<bool> {
        testing::compile(&MODULE, &expr.into()).expect(expr).matches(ex)
    }

    #[test]
    fn conditions_of_error_routes() {
        let mut ex = Exchange::for_test("/");
        ex.enter_error(&HttpError::status(StatusCode::NOT_FOUND));
        for (expr, want) in [
            ("{http.error.status_code} in [404, 410]", true),
            ("{http.error.status_code} in [410]", false),
            ("{http.error.status_code} >= 400 && {http.error.status_code} <= 499", true),
            (
                "{http.error.status_code} >= 300 && {http.error.status_code} <= 399 \
                 || {http.error.status_code} in [500]",
                false,
            ),
            ("{http.error.status_code} == 404", true),
            ("{http.error.status_code} == \"404\"", false),
        ] {
            assert_eq!(eval(expr, &mut ex).expect(expr), want, "{expr}");
        }
    }

    #[test]
    fn operators_and_functions() {
        let target = "/doc/intro?n=11&list=a,b,c&mode=x";
        for (expr, want) in [
            (
                r#"{http.request.method} == "GET" && {http.request.uri.path}.startsWith("/doc")"#,
                true,
            ),
            (r#"path("/b*") || query({"n": "11"})"#, true),
            (r#"!path("/no*", '/doc') && header({"X-C": "yes"})"#, false),
            ("int({http.request.uri.query.n}) > 10", true),
            (r#"{http.request.uri.path}.matches("^/doc/[a-z]+$")"#, true),
            (r#"{http.request.method} in ["PUT", "PATCH"]"#, false),
            (r#"({http.request.uri.query.mode} == "x" ? "one" : "two") == "one""#, true),
            (r#"size({http.request.uri.query.list}.split(",")) == 3"#, true),
            ("remote_ip('127.0.0.1') && protocol('http') && host('example.com')", true),
            ("method('DELETE', 'GET')", true),
            ("path({http.request.uri.path})", true),
            ("path('/doc' + '/intro')", true),
            ("1 + 2 * 3 == 7 && -1 < 0 && 7 % 4 == 3 && 1.5 > 1", true),
            (r#"{"a": 1}["a"] == 1 && [1, 2][1] == 2 && "a" in {"a": 1}"#, true),
            (r#""AbC".lowerAscii() == "abc" && "abc".contains("b") && size("abc") == 3"#, true),
            (
                "{http.request.header.X-N}.matches('^[0-9]+$') && int({http.request.header.X-N}) in [1]",
                false,
            ),
            ("{unknown.thing} == null", true),
            ("'x' && false", false),
            ("true || int('x') == 1", true),
            ("file('/nothing-here')", false),
            ("vars({'none': ['a', 'b']})", false),
        ] {
            assert_eq!(eval(expr, &mut Exchange::for_test(target)).expect(expr), want, "{expr}");
        }
        for expr in ["int('x') == 1", "'a' < 1", "1 / 0 == 1", "[1][5] == 1"] {
            assert!(eval(expr, &mut Exchange::for_test(target)).is_err(), "{expr}");
        }
    }

    #[test]
    fn captures_under_the_matchers_name() {
        let mut ex = Exchange::for_test("/doc/intro");
        let text = "expression `path_regexp('^/doc/([a-z]+)$')`";
        assert!(matcher(&MODULE, text).matches(&mut ex).expect("no error"));
        assert!(ex.values.iter().any(|(key, _)| key == "http.regexp.m.1"));
    }

    #[test]
    fn keeps_quotes_of_several_arguments() {
        let parse = |text| testing::parse(&MODULE, text);
        assert_eq!(parse("expression {a} == \"401\""), Ok("{a} == \"401\"".into()));
        assert_eq!(
            parse("expression \"{a} == 403\""),
            Ok(json!({"expr": "{a} == 403", "name": "m"}))
        );
        assert!(parse("expression").is_err());
    }

    #[test]
    fn refuses_what_is_none() {
        let deep = "(".repeat(5000);
        let deep_not = "!".repeat(5000);
        let bad = [
            "",
            "1 +",
            "foo()",
            "{a} == `402`",
            "[1",
            "path(1)",
            "'x",
            "a.b",
            "x",
            &deep,
            &deep_not,
        ];
        for expr in bad {
            assert!(testing::compile(&MODULE, &expr.into()).is_err(), "{expr}");
        }
        let mut ex = Exchange::for_test("/");
        ex.request.method = Method::PUT;
        assert!(!eval("'text'", &mut ex).expect("no error"));
        let chain = |first: &str, more: &str, times| format!("{first}{}", more.repeat(times));
        assert!(eval(&chain("true", " && true", 4000), &mut ex).expect("no error"));
        let sum = format!("{}1{} == 1", "(".repeat(90), " + 0)".repeat(90));
        assert!(eval(&sum, &mut ex).expect("no error"));
        assert!(eval(&chain("0", " + 0", 290), &mut ex).is_ok());
        for bad in [chain("true", " && true", 9000), chain("0", " + 0", 301)] {
            assert!(testing::compile(&MODULE, &bad.into()).is_err());
        }
    }
}
