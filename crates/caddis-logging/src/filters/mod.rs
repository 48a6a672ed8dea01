//! `caddy.logging.encoders.filter.*`: what changes a field on its way into a log.
//!
//! ```text
//! <path> delete
//! <path> rename <key>
//! <path> replace <text>
//! <path> hash
//! <path> ip_mask [<ipv4 bits> [<ipv6 bits>]] { ipv4 <bits>; ipv6 <bits> }
//! <path> query|cookie|set_cookie { replace <key> <text>; hash <key>; delete <key> }
//! <path> regexp <pattern> <text>
//! <path> multi_regexp { regexp <pattern> <text> … }
//! ```
//! A path names nested fields with `>`: `request>headers>Cookie`. JSON: `{"filter": "delete"}`.
//! On a list (header values) a filter works on each text.

mod actions;
mod ip_mask;
mod regexp;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use caddis_config::ConfigError;
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use self::{actions::Actions, ip_mask::IpMask, regexp::Regexps};
use crate::field::Field;

/// Filters by field name; one node is one level of nesting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) filter: Option<Filter>,
    pub(crate) children: HashMap<String, Self>,
}

/// One filter.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    Delete,
    Rename(String),
    Replace(String),
    Hash,
    IpMask(IpMask),
    Query(Actions),
    Cookie(Actions),
    SetCookie(Actions),
    Regexps(Regexps),
}

/// What becomes of a field.
pub(crate) enum Outcome<'f, 'a> {
    Delete,
    Keep(Field<'a>),
    Rename(&'f str, Field<'a>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameConfig {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceConfig {
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoConfig {}

impl Node {
    /// Compiles the `fields` of a filter encoder.
    pub(crate) fn compile(fields: &BTreeMap<String, Json>) -> Result<Self, ConfigError> {
        let mut root = Self::default();
        for (path, json) in fields {
            let filter = Filter::compile(json).map_err(|error| error.under(path))?;
            let mut node = &mut root;
            for part in path.split('>') {
                node = node.children.entry(part.to_owned()).or_default();
            }
            node.filter = Some(filter);
        }
        Ok(root)
    }
}

impl Filter {
    fn compile(json: &Json) -> Result<Self, ConfigError> {
        let (name, json) = crate::plan::take_name(json.clone(), "filter")?;
        Ok(match name.as_str() {
            "delete" => {
                caddis_config::decode::<NoConfig>(json)?;
                Self::Delete
            }
            "hash" => {
                caddis_config::decode::<NoConfig>(json)?;
                Self::Hash
            }
            "rename" => Self::Rename(caddis_config::decode::<RenameConfig>(json)?.name),
            "replace" => Self::Replace(caddis_config::decode::<ReplaceConfig>(json)?.value),
            "ip_mask" => Self::IpMask(IpMask::compile(json)?),
            "query" => Self::Query(Actions::compile(json, "parameter")?),
            "cookie" => Self::Cookie(Actions::compile(json, "name")?),
            "set_cookie" => Self::SetCookie(Actions::compile(json, "name")?),
            "regexp" => Self::Regexps(Regexps::single(json)?),
            "multi_regexp" => Self::Regexps(Regexps::multi(json)?),
            name => {
                return Err(ConfigError::new(
                    "filter",
                    format!("unknown module: caddy.logging.encoders.filter.{name}"),
                ));
            }
        })
    }

    /// Applies the filter to a field.
    pub(crate) fn apply<'a>(&self, field: Field<'a>) -> Outcome<'_, 'a> {
        Outcome::Keep(match self {
            Self::Delete => return Outcome::Delete,
            Self::Rename(name) => return Outcome::Rename(name, field),
            Self::Replace(text) => Field::Str(Cow::Owned(text.clone())),
            Self::Hash => each(field, hash),
            Self::IpMask(mask) => each(field, |text| mask.mask(text)),
            Self::Query(actions) => each(field, |text| actions.query(text)),
            Self::Cookie(actions) => match texts(&field) {
                Some(lines) => Field::List(actions.cookies(&lines)),
                None => field,
            },
            Self::SetCookie(actions) => match texts(&field) {
                Some(lines) => {
                    Field::List(lines.iter().filter_map(|line| actions.set_cookie(line)).collect())
                }
                None => field,
            },
            Self::Regexps(regexps) => each(field, |text| regexps.replace(text)),
        })
    }
}

/// The texts of a list field.
fn texts<'f>(field: &'f Field<'_>) -> Option<Vec<&'f str>> {
    match field {
        Field::Strings(items) => Some(items.iter().map(|item| &**item).collect()),
        Field::List(items) => Some(items.iter().map(String::as_str).collect()),
        _ => None,
    }
}

/// Changes a text, or each text of a list; other values stay.
fn each<'a>(field: Field<'a>, change: impl Fn(&str) -> String) -> Field<'a> {
    match &field {
        Field::Str(text) => Field::Str(Cow::Owned(change(text))),
        Field::Strings(items) => Field::List(items.iter().map(|item| change(item)).collect()),
        Field::List(items) => Field::List(items.iter().map(|item| change(item)).collect()),
        _ => field,
    }
}

/// The first four bytes of the SHA-256 sum, in hexadecimal.
fn hash(text: &str) -> String {
    let sum = Sha256::digest(text.as_bytes());
    sum.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::{Filter, Node, Outcome};
    use crate::field::Field;

    fn text(filter: serde_json::Value, input: &str) -> String {
        match Filter::compile(&filter).unwrap().apply(Field::str(input)) {
            Outcome::Keep(Field::Str(text)) => text.into_owned(),
            _ => panic!("a text becomes a text"),
        }
    }

    fn list(filter: serde_json::Value, input: &[&str]) -> Vec<String> {
        let input: Vec<Cow<'_, str>> = input.iter().map(|item| Cow::Borrowed(*item)).collect();
        match Filter::compile(&filter).unwrap().apply(Field::Strings(&input)) {
            Outcome::Keep(Field::List(items)) => items,
            _ => panic!("a list becomes a list"),
        }
    }

    #[test]
    fn hash_and_replace() {
        assert_eq!(text(json!({"filter": "hash"}), "hash me"), "eb201af5");
        assert_eq!(text(json!({"filter": "replace", "value": "[gone]"}), "x"), "[gone]");
    }

    #[test]
    fn ip_mask() {
        let mask = json!({"filter": "ip_mask", "ipv4_cidr": 16, "ipv6_cidr": 32});
        assert_eq!(text(mask.clone(), "127.1.2.3"), "127.1.0.0");
        assert_eq!(text(mask.clone(), "2001:db8:1::1"), "2001:db8::");
        assert_eq!(
            text(mask.clone(), "10.1.2.3:80, [2001:db8:1::1]:443,x"),
            "10.1.0.0:80, [2001:db8::]:443, x"
        );
        assert_eq!(list(mask, &["1.2.3.4"]), ["1.2.0.0"]);
        // No address leaves a masked field whole.
        let one_family = json!({"filter": "ip_mask", "ipv4_cidr": 16});
        assert_eq!(text(one_family, "1.2.3.4, [2001:db8::1]:443, x"), "1.2.0.0, <nil>:443, x");
        let too_many = json!({"filter": "ip_mask", "ipv4_cidr": 40, "ipv6_cidr": -1});
        assert_eq!(text(too_many, "1.2.3.4, 2001:db8::1"), "<nil>, <nil>");
    }

    #[test]
    fn query() {
        let filter = json!({"filter": "query", "actions": [
            {"type": "delete", "parameter": "token"},
            {"type": "replace", "parameter": "user", "value": "anonymous"},
        ]});
        assert_eq!(
            text(filter.clone(), "/p?token=t&user=u&keep=k&user=u2"),
            "/p?keep=k&user=anonymous&user=anonymous"
        );
        assert_eq!(text(filter.clone(), "/plain"), "/plain");
        assert_eq!(text(filter, "/only?token=1"), "/only");
    }

    #[test]
    fn cookies() {
        let actions = json!([
            {"type": "delete", "name": "session"},
            {"type": "replace", "name": "theme", "value": "none"},
            {"type": "hash", "name": "visitor"},
        ]);
        let cookie = json!({"filter": "cookie", "actions": actions});
        assert_eq!(
            list(cookie, &["session=s; theme=dark; visitor=42; other=o"]),
            ["theme=none; visitor=73475cb4; other=o"]
        );
        let cookie = json!({"filter": "cookie", "actions": [
            {"type": "replace", "name": "f", "value": "a b,c"},
            {"type": "hash", "name": "q"},
        ]});
        // Names that are none are left out, and values that need quotes have them.
        assert_eq!(
            list(cookie, &["a=b; q=\"x y\"", "bad; =x; a b=c; f=1; u=g,h; w=\u{1}; e=\"z\""]),
            ["a=b; q=\"887fcea6\"; bad=; f=\"a b,c\"; u=\"g,h\"; e=\"z\""]
        );
        let set_cookie = json!({"filter": "set_cookie", "actions": actions});
        assert_eq!(
            list(set_cookie, &["theme=dark; Path=/; Secure", "session=x; Path=/", "o=1"]),
            ["theme=none; Path=/; Secure", "o=1"]
        );
        let quoted = json!({"filter": "set_cookie", "actions": [
            {"type": "replace", "name": "t", "value": "v"},
            {"type": "hash", "name": "h"},
        ]});
        assert_eq!(
            list(quoted, &["t=\"q\"; Path=/", " t = q ; Secure", "h=\"q\"", "a b=c", "t"]),
            ["t=\"v\"; Path=/", " t = v ; Secure", "h=\"8e35c2cd\"", "a b=c", "t"]
        );
    }

    #[test]
    fn regexps() {
        let one = json!({"filter": "regexp", "regexp": "[0-9]+", "value": "#"});
        assert_eq!(list(one, &["a1b22", "c3"]), ["a#b#", "c#"]);
        let many = json!({"filter": "multi_regexp", "operations": [
            {"regexp": "(a)(b)", "value": "$2$1"}, {"regexp": "ba", "value": "x"},
        ]});
        assert_eq!(text(many, "abab"), "xx");
        for wrong in [
            json!({"filter": "regexp", "regexp": "("}),
            json!({"filter": "query", "actions": [{"type": "x", "parameter": "b"}]}),
            json!({"filter": "nof"}),
            json!({"filter": "delete", "more": 1}),
        ] {
            assert!(Filter::compile(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_nest() {
        let fields = serde_json::from_value(json!({
            "request>headers>A": {"filter": "delete"},
            "request>uri": {"filter": "hash"},
        }));
        let node = Node::compile(&fields.unwrap()).unwrap();
        assert!(node.children["request"].children["headers"].children["A"].filter.is_some());
        assert!(node.children["request"].filter.is_none());
    }
}
