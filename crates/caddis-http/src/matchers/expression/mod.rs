//! `expression`: a condition in the Common Expression Language (CEL).
//!
//! ```text
//! expression <cel...>
//! ```
//!
//! JSON: the text, or `{"expr", "name"}` where the name is that of the matcher (for captures).
//! Placeholders are values (`{http.error.status_code} >= 500`); other matchers are functions
//! (`path('/a*') && method('GET')`) whose arguments are constants or placeholders. The language is
//! there as Caddy has it: its types, which are checked as far as they are known, its macros
//! (`exists`, `all`, `filter`, `map`, `has` …) and its libraries for strings, lists, numbers and
//! bindings. What is missing are protocol buffers; optional values are not
//! switched on in Caddy either.
//!
//! As in Caddy, a placeholder becomes a call (`ph(req, "name")`) in the text itself, so mistakes
//! are shown in that text, and one within quotes ends the string. `\{name}` stays as it is.

mod check;
mod eval;
mod format;
mod functions;
mod lexer;
mod matchers;
mod node;
mod parser;

use caddis_caddyfile::{Dispenser, MATCHER_NAME, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde_json::{Value as Json, json};

use lexer::Mistake;
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
    let text = expand(text);
    let node = parser::parse(&text)
        .and_then(|tree| check::check(&tree, name, cx))
        .map_err(|mistakes| ConfigError::new("", told(&text, mistakes)))?;
    Ok(Box::new(Expression(node)))
}

/// Makes calls of placeholders (spec M047). A name has two characters at least, the first of which
/// is a letter.
fn expand(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        let Some(key) = placeholder_key(from) else {
            out.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        };
        match before.strip_suffix('\\') {
            Some(before) => {
                out.push_str(before);
                out.push_str(&from[..key.len() + 2]);
            }
            None => {
                out.push_str(before);
                out.push_str("ph(req, \"");
                out.push_str(key);
                out.push_str("\")");
            }
        }
        rest = &from[key.len() + 2..];
    }
    out.push_str(rest);
    out
}

fn placeholder_key(text: &str) -> Option<&str> {
    let (key, _) = text.strip_prefix('{')?.split_once('}')?;
    let (first, more) = key.split_at_checked(1)?;
    let is_name = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
    let valid = first.starts_with(|char: char| char.is_ascii_alphabetic())
        && !more.is_empty()
        && more.chars().all(is_name);
    valid.then_some(key)
}

/// The sentences of mistakes, in Caddy's form: each with its line, and a mark below its place.
fn told(text: &str, mistakes: Vec<Mistake>) -> String {
    if let [(usize::MAX, message)] = mistakes.as_slice() {
        if message.starts_with("CEL request matcher") {
            return message.clone();
        }
        return format!("compiling CEL program: {message}");
    }
    let all: Vec<String> = mistakes
        .iter()
        .map(|(at, message)| {
            if *at == usize::MAX {
                return message.clone();
            }
            let before = text.get(..*at).unwrap_or(text);
            let line = before.matches('\n').count();
            let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
            let source = text.lines().nth(line).unwrap_or_default();
            format!(
                "ERROR: <input>:{}:{}: {message}\n | {source}\n | {}^",
                line + 1,
                column + 1,
                ".".repeat(column)
            )
        })
        .collect();
    format!("compiling CEL program: {}", all.join("\n"))
}

/// Matches nothing.
struct Never;

impl Matcher for Never {
    fn matches(&self, _: &mut Exchange) -> Result<bool> {
        Ok(false)
    }
}

impl Matcher for Expression {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        // Anything but a truth value does not match, as in Caddy.
        Ok(matches!(eval::run(&self.0, ex)?, Val::Bool(true)))
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::HttpError;
    use http::StatusCode;

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
            ("1 + 2 * 3 == 7 && -1 < 0 && 7 % 4 == 3 && 1.5 > 1.0", true),
            (r#"{"a": 1}["a"] == 1 && [1, 2][1] == 2 && "a" in {"a": 1}"#, true),
            (r#""AbC".lowerAscii() == "abc" && "abc".contains("b") && size("abc") == 3"#, true),
            (
                "{http.request.header.X-N}.matches('^[0-9]+$') && int({http.request.header.X-N}) in [1]",
                false,
            ),
            ("{unknown.thing} == null", true),
            ("true || int({http.request.uri.query.mode}) == 1", true),
            ("[1, 2, 3].exists(x, x > 2) && ![1, 2, 3].all(x, x > 2)", true),
            ("[1, 2].exists_one(x, x == 2) && [1, 2].existsOne(x, x == 2)", true),
            ("[1, 2].map(x, x * 2) == [2, 4] && [1, 2].map(x, x > 1, x * 2) == [4]", true),
            ("[1, 2, 3].filter(x, x != 2) == [1, 3]", true),
            ("['/a', '/doc'].exists(p, {http.request.uri.path}.startsWith(p))", true),
            ("[1, 2].exists(x, [2, 3].exists(y, x == y))", true),
            ("[0, 1].exists(x, 1 / x == 1) && ![0, 2].all(x, 1 / x == 1)", true),
            ("has({'a': 1}.a) && !has({'a': 1}.b) && {'a': {'b': 1}}.a.b == 1", true),
            ("{'a': 1, 'b': 2}.all(k, k in ['a', 'b'])", true),
            ("cel.bind(x, 'a' + 'b', x + x) == 'abab'", true),
            ("'%s-%d %.1f %x'.format(['a', 1, 1.25, 255]) == 'a-1 1.2 ff'", true),
            ("'abc'.reverse() == 'cba' && strings.quote('a\"') == '\"a\\\\\"\"'", true),
            ("math.greatest(1, 2, 3) == 3 && math.least([2, 1]) == 1", true),
            ("math.ceil(1.2) == 2.0 && math.abs(-1) == 1 && math.bitAnd(5, 3) == 1", true),
            ("[1, 2, 3].slice(1, 2) == [2] && [[1], [2]].flatten() == [1, 2]", true),
            ("[3, 1].sort() == [1, 3] && [1, 1].distinct() == [1]", true),
            ("lists.range(3) == [0, 1, 2] && ['b', 'a'].sortBy(x, x) == ['a', 'b']", true),
            ("type(1) == int && type('a') == string && type(1) != uint", true),
            ("duration('1h30m') == duration('90m') && string(duration('90s')) == '90s'", true),
            ("timestamp('2024-01-02T03:04:05Z').getHours('+01:00') == 4", true),
            ("timestamp('2024-01-02T03:04:05Z').getHours('Europe/Berlin') == 4", true),
            ("timestamp('2024-07-02T03:04:05Z').getHours('Europe/Berlin') == 5", true),
            ("timestamp('2024-01-02T03:04:05Z').getMinutes('Asia/Kolkata') == 34", true),
            ("timestamp('2024-01-01T03:04:05Z').getFullYear('America/New_York') == 2023", true),
            ("timestamp('2024-01-02T03:04:05Z').getHours('UTC') == 3", true),
            ("timestamp('2024-01-02T03:04:05Z').getHours('Nowhere/Else') == 3 || true", true),
            ("timestamp('2024-01-02T03:04:05Z').getHours('../../etc/passwd') == 3 || true", true),
            ("timestamp(0) + duration('1m') == timestamp('1970-01-01T00:01:00Z')", true),
            ("{time.now}.getFullYear() > 2020 && {http.request.duration} < duration('1h')", true),
            ("-9223372036854775808 < 0 && !has({http.request.uri.path}.x)", true),
            ("uint(5) == 5u && b'abc' == bytes('abc') && b'a' < b'b'", true),
            ("dyn(1) == 1.0 && dyn(1) != 'a' && dyn(2u) > 1.5", true),
            ("path_regexp('^' + {http.request.uri.path})", true),
            ("path_regexp('^/x' + {http.request.uri.path})", false),
            ("ph(req, 'http.request' + '.method') == 'GET'", true),
            ("'\\{path}' == '{' + 'path}' // a remark", true),
            ("url_pattern('/doc/:page?*')", true),
            ("'a-b-c'.split('-', 2) == ['a', 'b-c'] && 'ab'.split('') == ['a', 'b']", true),
            ("'abcabc'.indexOf('c', 3) == 5 && 'abcabc'.lastIndexOf('b', 3) == 1", true),
            ("file('/nothing-here')", false),
            ("vars({'none': ['a', 'b']})", false),
        ] {
            assert_eq!(eval(expr, &mut Exchange::for_test(target)).expect(expr), want, "{expr}");
        }
        for expr in [
            "int({http.request.uri.query.mode}) == 1",
            "dyn('a') < 1",
            "1 / 0 == 1",
            "[1][5] == 1",
            "{'a': 1}['b'] == 1",
            "[0].all(x, 1 / x == 1)",
            "'abc'.substring(9) == ''",
            "lists.range(2000000) == []",
            "lists.range(1000).all(x, lists.range(1000000) != [])",
            "cel.bind(l, lists.range(100000), lists.range(1000).all(x, size(l) > 0))",
            "lists.range(2000).all(x, lists.range(2000).all(y, true))",
            "cel.bind(l, lists.range(300).map(x, lists.range(1000)), \
             lists.range(1000).all(x, size(l) > 0))",
            "timestamp('9999-12-31T23:59:59Z').getHours('+01:00') == 0",
            "timestamp('9999-12-31T23:59:59-01:00').getHours() == 0",
            "timestamp(0).getHours('--128:00') == 0",
        ] {
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
            "'text'",
            "1 == 1.0",
            "int('x') == 1",
            "'x' && false",
            "{http.request.uri.path}",
            "\"{http.request.uri.path}\" == ''",
            "[1].exists(1, true)",
            "has(1)",
            "path()",
            "header({'a': 1})",
            "'%d'.foo() == ''",
            "99999999999999999999 == 1",
            "9223372036854775808 > 0",
            &deep,
            &deep_not,
        ];
        for expr in bad {
            assert!(testing::compile(&MODULE, &expr.into()).is_err(), "{expr}");
        }
        let mut ex = Exchange::for_test("/");
        let chain = |first: &str, more: &str, times| format!("{first}{}", more.repeat(times));
        assert!(eval(&chain("true", " && true", 4000), &mut ex).expect("no error"));
        assert!(eval(&chain("true", " && 1 == 1", 1000), &mut ex).expect("no error"));
        let sum = format!("{}1{} == 1", "(".repeat(90), " + 0)".repeat(90));
        assert!(eval(&sum, &mut ex).expect("no error"));
        assert!(eval(&(chain("0", " + 0", 95) + " == 0"), &mut ex).is_ok());
        for bad in [chain("true", " && true", 9000), chain("0", " + 0", 101)] {
            assert!(testing::compile(&MODULE, &bad.into()).is_err());
        }
    }

    #[test]
    fn mistakes_are_told_as_in_caddy() {
        let operand = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, \
                       NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
        let cases = [
            ("foo()", "1:4: undeclared reference to 'foo' (in container '')\n | foo()\n | ...^"),
            (
                "x == y",
                "1:1: undeclared reference to 'x' (in container '')\n | x == y\n | ^\n\
              ERROR: <input>:1:6: undeclared reference to 'y' (in container '')\n | x == y\n | .....^",
            ),
            (
                "'a'+1 == ''",
                "1:4: found no matching overload for '_+_' applied to '(string, int)'\n \
              | 'a'+1 == ''\n | ...^",
            ),
            (
                "'a'.startsWith(1)",
                "1:15: found no matching overload for 'startsWith' applied to \
              'string.(int)'\n | 'a'.startsWith(1)\n | ..............^",
            ),
            ("true && 1", "1:9: expected type 'bool' but found 'int'\n | true && 1\n | ........^"),
            ("path(1)", "1:6: matcher arguments must be string constants\n | path(1)\n | .....^"),
            (
                "1 in [1.0]",
                "1:3: found no matching overload for '@in' applied to \
              '(int, list(double))'\n | 1 in [1.0]\n | ..^",
            ),
            ("(1", "1:3: Syntax error: missing ')' at '<EOF>'\n | (1\n | ..^"),
            (
                "{a.b} +",
                &format!(
                    "1:17: Syntax error: mismatched input '<EOF>' expecting \
              {operand}\n | ph(req, \"a.b\") +\n | ................^"
                ),
            ),
        ];
        for (expr, want) in cases {
            let error = testing::compile(&MODULE, &expr.into()).err().expect(expr);
            assert_eq!(error, format!("compiling CEL program: ERROR: <input>:{want}"));
        }
        let error = testing::compile(&MODULE, &"5".into()).err().expect("an error");
        assert_eq!(error, "CEL request matcher expects return type of bool, not int");
    }
}
