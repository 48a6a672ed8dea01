//! `query`, `cookie`, `set_cookie`: actions on one name among several.
//!
//! JSON: `{"filter": "cookie", "actions": [{"type": "replace", "name": "a", "value": "b"}]}`; the
//! query filter calls the name `parameter`.

use caddis_config::ConfigError;
use caddis_core::target::{encode_query, query_pairs};
use serde_json::Value as Json;

/// The actions, in order.
#[derive(Debug, Clone)]
pub(crate) struct Actions(Vec<Action>);

#[derive(Debug, Clone)]
struct Action {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Replace(String),
    Hash,
    Delete,
}

impl Actions {
    /// Compiles the filter's JSON; `name_key` is what it calls the name.
    pub(crate) fn compile(json: Json, name_key: &str) -> Result<Self, ConfigError> {
        let Json::Object(mut object) = json else { return Ok(Self(Vec::new())) };
        let actions = object.remove("actions").unwrap_or_default();
        if let Some(key) = object.keys().next() {
            return Err(ConfigError::new(key, format!("json: unknown field \"{key}\"")));
        }
        let actions: Vec<serde_json::Map<String, Json>> =
            caddis_config::decode::<Option<_>>(actions)?.unwrap_or_default();
        let compiled = actions.into_iter().enumerate().map(|(at, action)| {
            Action::compile(action, name_key).map_err(|error| error.under(format!("actions.{at}")))
        });
        Ok(Self(compiled.collect::<Result<_, _>>()?))
    }

    /// The URL with its query changed; sorted by key, as Go writes a query.
    pub(crate) fn query(&self, url: &str) -> String {
        let (before, fragment) = match url.split_once('#') {
            Some((before, _)) => (before, &url[before.len()..]),
            None => (url, ""),
        };
        let Some((path, query)) = before.split_once('?') else { return url.to_owned() };
        let mut pairs: Vec<(String, String)> = query_pairs(query).collect();
        for action in &self.0 {
            match &action.kind {
                Kind::Delete => pairs.retain(|(name, _)| *name != action.name),
                kind => {
                    let of_name = pairs.iter_mut().filter(|(name, _)| *name == action.name);
                    of_name.for_each(|(_, value)| *value = kind.change(value));
                }
            }
        }
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        let pairs = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", encode_query(name), encode_query(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{path}{mark}{query}{fragment}")
    }

    /// `Cookie` lines with their cookies changed, in one line; none if no cookie is left. What is no
    /// cookie by Go's rules is left out, as in Caddy.
    pub(crate) fn cookies(&self, lines: &[&str]) -> Vec<String> {
        let mut kept = Vec::new();
        for part in lines.iter().flat_map(|line| line.split(';')) {
            let (name, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
            let Some(cookie) = Cookie::parse(name, value) else { continue };
            if let Some(value) = self.one(cookie.name, cookie.value) {
                kept.push(format!("{}={}", cookie.name, written(&value, cookie.quoted)));
            }
        }
        if kept.is_empty() { Vec::new() } else { vec![kept.join("; ")] }
    }

    /// A `Set-Cookie` value with its cookie changed, and everything else as it was; what is no
    /// cookie stays.
    pub(crate) fn set_cookie(&self, line: &str) -> Option<String> {
        let (pair, attributes) = line.split_at(line.find(';').unwrap_or(line.len()));
        let Some((before, raw)) = pair.split_once('=') else { return Some(line.to_owned()) };
        // Blanks at the end of the pair are no part of it; those after `=` are one of the value.
        let Some(cookie) = Cookie::parse(before, raw.trim_end()) else {
            return Some(line.to_owned());
        };
        if self.action(cookie.name).is_none() {
            return Some(line.to_owned());
        }
        let value = self.one(cookie.name, cookie.value)?;
        let value = if cookie.quoted { format!("\"{value}\"") } else { value };
        let lead = &raw[..raw.len() - raw.trim_start().len()];
        let trail = &raw[raw.trim_end().len()..];
        Some(format!("{before}={lead}{value}{trail}{attributes}"))
    }

    /// The value after the first action of this name; `None` if that deletes it.
    fn one(&self, name: &str, value: &str) -> Option<String> {
        match self.action(name) {
            None => Some(value.to_owned()),
            Some(Kind::Delete) => None,
            Some(kind) => Some(kind.change(value)),
        }
    }

    /// What the first action of this name does.
    fn action(&self, name: &str) -> Option<&Kind> {
        self.0.iter().find(|action| action.name == name).map(|action| &action.kind)
    }
}

/// A cookie as Go's `net/http` reads it.
struct Cookie<'a> {
    name: &'a str,
    /// Without quotes around it.
    value: &'a str,
    quoted: bool,
}

impl<'a> Cookie<'a> {
    fn parse(name: &'a str, value: &'a str) -> Option<Self> {
        let name = name.trim();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return None;
        }
        let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let (value, quoted) = inner.map_or((value, false), |inner| (inner, true));
        value.bytes().all(in_cookie_value).then_some(Self { name, value, quoted })
    }
}

fn in_cookie_value(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && !b"\";\\".contains(&byte)
}

/// A cookie's value as Go writes it: without what must not be in one, and in quotes where it has to.
fn written(value: &str, quoted: bool) -> String {
    let value: String =
        value.chars().filter(|char| u8::try_from(*char).is_ok_and(in_cookie_value)).collect();
    if !value.is_empty() && (quoted || value.contains([' ', ','])) {
        return format!("\"{value}\"");
    }
    value
}

impl Action {
    fn compile(
        mut action: serde_json::Map<String, Json>,
        name_key: &str,
    ) -> Result<Self, ConfigError> {
        let mut text = |key: &str| match action.remove(key) {
            Some(Json::String(text)) => Ok(text),
            None | Some(Json::Null) => Ok(String::new()),
            Some(_) => Err(ConfigError::new(key, "expected a string")),
        };
        let (kind, name, value) = (text("type")?, text(name_key)?, text("value")?);
        if let Some(key) = action.keys().next() {
            return Err(ConfigError::new(key, format!("json: unknown field \"{key}\"")));
        }
        let kind = match kind.as_str() {
            "replace" => Kind::Replace(value),
            "hash" => Kind::Hash,
            "delete" => Kind::Delete,
            _ => return Err(ConfigError::new("type", "invalid action type")),
        };
        Ok(Self { name, kind })
    }
}

impl Kind {
    fn change(&self, value: &str) -> String {
        match self {
            Self::Replace(text) => text.clone(),
            Self::Hash => super::hash(value),
            Self::Delete => String::new(),
        }
    }
}
