//! Calls of matchers: `path('/a*')`, `header({'X-A': 'b'})`, `file()` and the like (spec M052–M066).

use serde_json::{Map, Value as Json, json};

use super::{
    super::{header_regexp, path_regexp, vars_regexp},
    check::{Checked, Checker, constant},
    node::{Make, Node, Type},
    parser::{Expr, ExprKind},
};

const NAMES: &[&str] = &[
    "client_ip",
    "file",
    "header",
    "header_regexp",
    "host",
    "method",
    "path",
    "path_regexp",
    "protocol",
    "query",
    "remote_ip",
    "url_pattern",
    "vars",
    "vars_regexp",
];

/// The call as a matcher; `None` where the name, or the number of arguments, is none of a matcher.
pub(super) fn call(
    checker: &mut Checker<'_, '_>,
    at: usize,
    name: &str,
    args: &[Expr],
) -> Option<Checked> {
    if !NAMES.contains(&name) {
        return None;
    }
    let json = match (name, args.len()) {
        ("path" | "host" | "method" | "client_ip" | "remote_ip", count) => {
            if count == 0 {
                let text = "matcher requires at least one argument";
                return Some(checker.mistake(at, text));
            }
            let texts = match texts(checker, args, "matcher arguments must be string constants") {
                Ok(texts) => texts,
                Err(checked) => return Some(checked),
            };
            match name {
                "client_ip" | "remote_ip" => json!({"ranges": texts}),
                _ => json!(texts),
            }
        }
        ("protocol", 1) => {
            match texts(checker, args, "matcher argument must be a string literal") {
                Ok(texts) => texts.concat().to_lowercase().into(),
                Err(checked) => return Some(checked),
            }
        }
        ("header" | "query" | "vars", 1) => match map(checker, &args[0]) {
            Ok(json) => json,
            Err(checked) => return Some(checked),
        },
        ("url_pattern", 1 | 2) => {
            match texts(checker, args, "matcher arguments must be string constants") {
                Ok(texts) => match texts.as_slice() {
                    [pattern, base] => json!({"pattern": pattern, "base_url": base}),
                    texts => json!({"pattern": texts.concat()}),
                },
                Err(checked) => return Some(checked),
            }
        }
        ("path_regexp", 1 | 2) | ("header_regexp" | "vars_regexp", 2 | 3) => {
            return Some(regexp(checker, name, args));
        }
        ("file", _) => match file(checker, args) {
            Ok(json) => json,
            Err(checked) => return Some(checked),
        },
        _ => return None,
    };
    Some(match checker.cx.matcher(name, &json) {
        Ok(matcher) => (Node::Matcher(matcher), Type::Bool),
        Err(error) => checker.mistake(usize::MAX, error.message),
    })
}

/// Matchers with an expression, which is known with the request only where it holds placeholders.
fn regexp(checker: &mut Checker<'_, '_>, name: &str, args: &[Expr]) -> Checked {
    if let Some(arg) = args.iter().find(|arg| text(arg).is_none()) {
        let of = match args.len() {
            1 => "matcher argument must be a string literal",
            _ => "matcher arguments must be string constants",
        };
        return checker.mistake(arg.at, of);
    }
    let make = maker(name, checker.name);
    let nodes: Vec<_> = args.iter().map(|arg| checker.node(arg).0).collect();
    let fixed: Option<Vec<String>> = nodes
        .iter()
        .map(|node| match constant(node)? {
            super::node::Val::Str(text) => Some(text),
            _ => None,
        })
        .collect();
    match fixed.map(|texts| make(&texts)) {
        Some(Ok(matcher)) => (Node::Matcher(matcher), Type::Bool),
        Some(Err(error)) => checker.mistake(usize::MAX, error.message),
        None => (Node::DynamicMatcher(make, nodes), Type::Bool),
    }
}

fn maker(matcher: &str, own: &str) -> Make {
    let own = own.to_owned();
    let or_own = move |name: &str| if name.is_empty() { own.clone() } else { name.to_owned() };
    match matcher {
        "path_regexp" => Box::new(move |texts| {
            let (name, pattern) = match texts {
                [name, pattern] => (name.as_str(), pattern.as_str()),
                texts => ("", texts.first().map_or("", String::as_str)),
            };
            path_regexp::matcher(&json!({"name": or_own(name), "pattern": pattern}))
        }),
        _ => {
            let header = matcher == "header_regexp";
            Box::new(move |texts| {
                let (name, key, pattern) = match texts {
                    [name, key, pattern] => (name.as_str(), key, pattern),
                    [key, pattern] => ("", key, pattern),
                    _ => return Ok(Box::new(super::Never)),
                };
                let json = json!({key: {"name": or_own(name), "pattern": pattern}});
                if header { header_regexp::matcher(&json) } else { vars_regexp::matcher(&json) }
            })
        }
    }
}

/// The texts of arguments that are to be such.
fn texts(
    checker: &mut Checker<'_, '_>,
    args: &[Expr],
    otherwise: &str,
) -> Result<Vec<String>, Checked> {
    let mut texts = Vec::with_capacity(args.len());
    for arg in args {
        texts.push(text(arg).ok_or_else(|| checker.mistake(arg.at, otherwise))?);
    }
    Ok(texts)
}

/// The text of a constant, a placeholder (as it is written in a Caddyfile), or a sum of these.
fn text(expr: &Expr) -> Option<String> {
    use super::node::Val;
    match &expr.kind {
        ExprKind::Literal(Val::Str(text)) => Some(text.clone()),
        ExprKind::Call(None, name, args) => match (name.as_str(), args.as_slice()) {
            ("ph", [_, key]) => match &key.kind {
                ExprKind::Literal(Val::Str(key)) => Some(format!("{{{key}}}")),
                _ => None,
            },
            ("_+_", [one, two]) => Some(text(one)? + &text(two)?),
            _ => None,
        },
        _ => None,
    }
}

/// A map of texts to texts or lists of them.
fn map(checker: &mut Checker<'_, '_>, arg: &Expr) -> Result<Json, Checked> {
    let ExprKind::Map(entries) = &arg.kind else {
        return Err(checker.mistake(arg.at, "matcher requires a map literal argument"));
    };
    let mut map = Map::new();
    for (key, value) in entries {
        let otherwise = "matcher map keys must be string literals";
        let key = text(key).ok_or_else(|| checker.mistake(key.at, otherwise))?;
        let otherwise = "matcher map values must be string or list literals";
        let value = list(value).ok_or_else(|| checker.mistake(value.at, otherwise))?;
        map.insert(key, value.into());
    }
    Ok(Json::Object(map))
}

fn list(expr: &Expr) -> Option<Vec<String>> {
    match &expr.kind {
        ExprKind::List(items) => items.iter().map(text).collect(),
        _ => Some(vec![text(expr)?]),
    }
}

fn file(checker: &mut Checker<'_, '_>, args: &[Expr]) -> Result<Json, Checked> {
    let otherwise = "matcher requires either a map or string literal argument";
    match args {
        [] => Ok(json!({})),
        [arg] => match &arg.kind {
            ExprKind::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let key = text(key).unwrap_or_default();
                    let value = match key.as_str() {
                        "try_files" | "split_path" => list(value).map(Json::from),
                        "root" | "try_policy" => text(value).map(Json::from),
                        _ => None,
                    };
                    let value = value.ok_or_else(|| checker.mistake(arg.at, otherwise))?;
                    map.insert(key, value);
                }
                Ok(Json::Object(map))
            }
            _ => match text(arg) {
                Some(text) => Ok(json!({"try_files": [text]})),
                None => Err(checker.mistake(arg.at, otherwise)),
            },
        },
        args => {
            let otherwise = "matcher only supports repeated string literal arguments";
            Ok(json!({"try_files": texts(checker, args, otherwise)?}))
        }
    }
}
