//! Values of storage options: texts, numbers or booleans as Caddy and its plugins write them.

use std::time::Duration;

use caddis_config::ConfigError;
use caddis_core::template::{Template, Unknown};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// A text with its placeholders (`{env.X}`) filled in; those nobody knows become nothing.
pub(super) fn text(raw: &str) -> String {
    Template::render_global(raw, Unknown::Empty)
}

/// The same, else the environment variable's value.
pub(super) fn text_or_env(raw: &str, variable: &str) -> String {
    let text = text(raw);
    if text.is_empty() { std::env::var(variable).unwrap_or_default() } else { text }
}

/// A text that may be written as a number or boolean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::default()),
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(bool) => Ok(Self(bool.to_string())),
            _ => Err(de::Error::custom("expected a text, number or boolean")),
        }
    }
}

impl Scalar {
    /// The text with its placeholders filled in.
    pub(super) fn text(&self) -> String {
        text(&self.0)
    }

    /// As boolean, in Go's spellings; `None` where nothing is written.
    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        let text = self.text();
        if text.is_empty() {
            return Ok(None);
        }
        parse_bool(&text).map(Some).ok_or_else(|| {
            ConfigError::new(name, format!("invalid boolean value: '{text}'; write true or false"))
        })
    }
}

/// One text or several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Array(values) => values,
            one => vec![one],
        };
        let texts = values.into_iter().map(|value| match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(de::Error::custom("expected texts")),
        });
        texts.collect::<Result<_, _>>().map(Self)
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration that has to be positive; `default` where it is zero.
pub(super) fn positive(duration: caddis_config::Duration, default: Duration) -> Duration {
    duration.positive().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::{List, Scalar, parse_bool};

    #[test]
    fn values_are_read_in_all_their_forms() {
        for (value, want) in [(json!(5), "5"), (json!("x"), "x"), (json!(true), "true")] {
            assert_eq!(from_value::<Scalar>(value).unwrap().0, want);
        }
        assert!(from_value::<Scalar>(json!([])).is_err());
        assert_eq!(from_value::<List>(json!("a")).unwrap().0, ["a"]);
        assert_eq!(from_value::<List>(json!(["a", 1])).unwrap().0, ["a", "1"]);
        assert!(from_value::<List>(json!([[]])).is_err());
        assert_eq!(Scalar("T".into()).bool("x").unwrap(), Some(true));
        assert_eq!(Scalar::default().bool("x").unwrap(), None);
        assert!(Scalar("yes".into()).bool("x").is_err());
        assert_eq!(parse_bool("0"), Some(false));
    }
}
