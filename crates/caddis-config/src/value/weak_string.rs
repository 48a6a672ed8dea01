//! A string that JSON may also write as a number or a boolean, such as a status code that may be
//! a placeholder.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::omit::Omit;

/// Text; written as boolean or whole number when it reads as one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WeakString(pub String);

impl WeakString {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As an integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// As a number, if it is a finite one.
    pub fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl From<&str> for WeakString {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for WeakString {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<i64> for WeakString {
    fn from(number: i64) -> Self {
        Self(number.to_string())
    }
}

impl fmt::Display for WeakString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Omit for WeakString {
    fn is_omitted(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for WeakString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            "true" => return serializer.serialize_bool(true),
            "false" => return serializer.serialize_bool(false),
            _ => {}
        }
        match self.as_int() {
            Some(int) => serializer.serialize_i64(int),
            None => serializer.serialize_str(&self.0),
        }
    }
}

struct WeakVisitor;

impl Visitor<'_> for WeakVisitor {
    type Value = WeakString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, number or boolean")
    }

    fn visit_str<E>(self, text: &str) -> Result<WeakString, E> {
        Ok(WeakString(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<WeakString, E> {
        Ok(WeakString(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<WeakString, E> {
        Ok(WeakString(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<WeakString, E> {
        Ok(WeakString(number.to_string()))
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<WeakString, E> {
        Ok(WeakString(boolean.to_string()))
    }

    fn visit_unit<E>(self) -> Result<WeakString, E> {
        Ok(WeakString::default())
    }
}

impl<'de> Deserialize<'de> for WeakString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeakVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::WeakString;

    #[test]
    fn forms() {
        for (json, text, written) in [
            ("404", "404", "404"),
            ("\"404\"", "404", "404"),
            ("true", "true", "true"),
            (
                "\"{http.error.status_code}\"",
                "{http.error.status_code}",
                "\"{http.error.status_code}\"",
            ),
            ("1.5", "1.5", "\"1.5\""),
            ("null", "", "\"\""),
            ("\"nan\"", "nan", "\"nan\""),
        ] {
            let weak: WeakString = serde_json::from_str(json).unwrap();
            assert_eq!(weak.as_str(), text);
            assert_eq!(serde_json::to_string(&weak).unwrap(), written);
        }
        assert!(serde_json::from_str::<WeakString>("[]").is_err());
    }
}
