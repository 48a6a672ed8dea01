//! `host`: the request's host name, without its port.
//!
//! ```text
//! host <hosts...>
//! ```
//!
//! JSON: a list of names. `*` stands for exactly one label; placeholders are filled in per request;
//! names beyond ASCII are compared in the form they travel.

use std::collections::{HashMap, HashSet};

use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, Result, Template, punycode::to_ascii,
};
use serde_json::Value as Json;

use super::{list_of_args, list_shape};

/// `http.matchers.host`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.host", parse: |d| list_of_args(d, "host"), compile };

/// Up to this many names a list is faster than a table.
const FEW: usize = 8;

struct Host {
    few: Vec<String>,
    many: HashSet<String>,
    wildcards: Vec<Vec<String>>,
    dynamic: Vec<Template>,
}

/// The exact names of a `host` matcher's JSON in lower case, for an index; `None` where there are
/// wildcards or placeholders among them.
pub fn static_hosts(json: &Json) -> Option<Vec<String>> {
    let names = json.as_array()?.iter().map(|name| name.as_str());
    names
        .map(|name| name.filter(|name| !name.contains(['*', '{', '}', '\\'])).map(to_ascii))
        .collect()
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let names: Vec<String> = list_shape(json)?;
    let mut seen = HashMap::new();
    let mut host =
        Host { few: Vec::new(), many: HashSet::new(), wildcards: Vec::new(), dynamic: Vec::new() };
    for (at, name) in names.iter().enumerate() {
        let ascii = to_ascii(name);
        if let Some(first) = seen.insert(ascii.clone(), at) {
            let message = format!("host at index {first} is repeated at index {at}: {name}");
            return Err(ConfigError::new("", message));
        }
        let template = Template::parse(name);
        if template.as_static().is_none() {
            host.dynamic.push(template);
        } else if ascii.contains('*') {
            host.wildcards.push(ascii.split('.').map(str::to_owned).collect());
        } else {
            host.few.push(ascii);
        }
    }
    if host.few.len() > FEW {
        host.many = std::mem::take(&mut host.few).into_iter().collect();
    }
    Ok(Box::new(host))
}

impl Matcher for Host {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let host = ex.host();
        if self.few.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Ok(true);
        }
        if !self.many.is_empty() {
            let known = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
                self.many.contains(&host.to_ascii_lowercase())
            } else {
                self.many.contains(host)
            };
            if known {
                return Ok(true);
            }
        }
        if self.wildcards.iter().any(|labels| fits(labels.iter().map(String::as_str), host)) {
            return Ok(true);
        }
        Ok(self.dynamic.iter().any(|template| fits(template.render(ex).split('.'), host)))
    }
}

/// Whether the labels are the host's, where `*` is any one.
fn fits<'a>(mut pattern: impl Iterator<Item = &'a str>, host: &str) -> bool {
    let mut labels = host.split('.');
    loop {
        match (pattern.next(), labels.next()) {
            (None, None) => return true,
            (Some(want), Some(label)) if want == "*" || want.eq_ignore_ascii_case(label) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{compile, matcher, parse};
    use super::*;

    fn fits_host(text: &str, host: &str) -> bool {
        let mut ex = Exchange::for_test("/?h=query.test");
        ex.request.host = host.to_owned().into();
        matcher(&MODULE, text).matches(&mut ex).expect("no error")
    }

    #[test]
    fn compares_names() {
        let cases = [
            ("host one.test two.test", "TWO.TEST:1234", true),
            ("host *.wild.test", "x.wild.test", true),
            ("host *.wild.test", "wild.test", false),
            ("host *.wild.test", "a.b.wild.test", false),
            ("host a.*.mid.test", "a.z.mid.test", true),
            ("host one.test", "one.test.", false),
            ("host ::1", "[::1]:80", true),
            ("host {http.request.uri.query.h}", "query.test", true),
            ("host {http.request.uri.query.h}", "other.test", false),
            ("host bücher.test", "xn--bcher-kva.test", true),
            ("host a b c d e f g h i j", "J", true),
            ("host a b c d e f g h i j", "k", false),
        ];
        for (text, host, want) in cases {
            assert_eq!(fits_host(text, host), want, "{text} {host}");
        }
    }

    #[test]
    fn refuses_repetition() {
        let error = compile(&MODULE, &json!(["a.test", "b.test", "A.test"])).err();
        assert_eq!(error.as_deref(), Some("host at index 0 is repeated at index 2: A.test"));
        let error = parse(&MODULE, "host a {\n b\n}");
        assert_eq!(error, Err("malformed host matcher: blocks are not supported".into()));
    }

    #[test]
    fn tells_its_names() {
        assert_eq!(static_hosts(&json!(["A.b", "c"])), Some(vec!["a.b".into(), "c".into()]));
        assert_eq!(static_hosts(&json!(["*.b"])), None);
        assert_eq!(static_hosts(&json!(["{x}.b"])), None);
    }
}
