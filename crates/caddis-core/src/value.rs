//! Values of placeholders and variables.

use std::borrow::Cow;

/// A typed value; borrowed where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Known, but nothing (Go's nil): empty as text.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Str(Cow<'a, str>),
    /// Several texts, shown in brackets as Go does.
    List(Vec<String>),
}

impl<'a> Value<'a> {
    /// A borrowed text.
    pub fn str(text: &'a str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }

    /// An owned text.
    pub fn string(text: impl Into<String>) -> Self {
        Self::Str(Cow::Owned(text.into()))
    }

    /// The value as text (spec L157).
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Float(value) => Cow::Owned(value.to_string()),
            Self::Str(text) => Cow::Borrowed(text),
            Self::List(items) => Cow::Owned(format!("[{}]", items.join(" "))),
        }
    }

    /// Appends the text form.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Str(text) => out.push_str(text),
            other => out.push_str(&other.text()),
        }
    }

    /// The same value without borrows.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Float(value) => Value::Float(value),
            Self::Str(text) => Value::Str(Cow::Owned(text.into_owned())),
            Self::List(items) => Value::List(items),
        }
    }

    /// A JSON scalar as a value; arrays of texts become lists, objects their JSON text.
    pub fn from_json(json: &serde_json::Value) -> Value<'static> {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Int),
            serde_json::Value::String(text) => Value::string(text.clone()),
            serde_json::Value::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect(),
            ),
            serde_json::Value::Object(_) => Value::string(json.to_string()),
        }
    }
}
