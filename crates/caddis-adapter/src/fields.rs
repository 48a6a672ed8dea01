//! JSON objects field by field; empty values are left out.

use serde_json::{Map, Value as Json};

/// An object in the making.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Json>);

impl Fields {
    /// A field, unless it is null.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Json>) {
        let value = value.into();
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// A text, unless it is empty.
    pub(crate) fn text(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            self.set(name, value);
        }
    }

    /// A list, unless it is empty.
    pub(crate) fn list<T: Into<Json>>(&mut self, name: &str, value: Vec<T>) {
        if !value.is_empty() {
            self.set(name, value);
        }
    }

    /// A number, unless it is 0.
    pub(crate) fn integer(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.set(name, value);
        }
    }

    /// `true`.
    pub(crate) fn flag(&mut self, name: &str) {
        self.set(name, true);
    }
}

impl From<Fields> for Json {
    fn from(fields: Fields) -> Self {
        Self::Object(fields.0)
    }
}
