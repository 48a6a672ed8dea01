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

    /// `Cookie` lines with their cookies changed, in one line; none if no cookie is left.
    pub(crate) fn cookies(&self, lines: &[&str]) -> Vec<String> {
        let mut kept = Vec::new();
        for part in lines.iter().flat_map(|line| line.split(';')) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if let Some(value) = self.one(name, value) {
                kept.push(format!("{name}={value}"));
            }
        }
        if kept.is_empty() { Vec::new() } else { vec![kept.join("; ")] }
    }

    /// A `Set-Cookie` value with its cookie changed and its attributes kept.
    pub(crate) fn set_cookie(&self, line: &str) -> Option<String> {
        let (pair, attributes) = match line.find(';') {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let Some((name, value)) = pair.split_once('=') else { return Some(line.to_owned()) };
        let value = self.one(name.trim(), value)?;
        Some(format!("{name}={value}{attributes}"))
    }

    /// The value after the first action of this name; `None` if that deletes it.
    fn one(&self, name: &str, value: &str) -> Option<String> {
        match self.0.iter().find(|action| action.name == name).map(|action| &action.kind) {
            None => Some(value.to_owned()),
            Some(Kind::Delete) => None,
            Some(kind) => Some(kind.change(value)),
        }
    }
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
