//! An entry and its fields, borrowed from whoever logs.

use std::{borrow::Cow, time::Duration};

use caddis_core::Value;
use time::OffsetDateTime;

use crate::Level;

/// A field's value.
#[derive(Clone)]
pub(crate) enum Field<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Duration(Duration),
    Str(Cow<'a, str>),
    Strings(&'a [Cow<'a, str>]),
    List(Vec<String>),
    Json(&'a serde_json::Value),
    Object(&'a dyn Object),
}

impl<'a> Field<'a> {
    pub(crate) fn str(text: &'a str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }

    /// A placeholder's value.
    pub(crate) fn of(value: &'a Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Str(text) => Self::str(text),
            Value::List(items) => Self::List(items.clone()),
        }
    }
}

/// What receives fields.
pub(crate) type FieldSink<'s> = dyn FnMut(&str, Field<'_>) + 's;

/// A group of fields.
pub(crate) trait Object {
    /// Gives each field to `out`, in order.
    fn fields(&self, out: &mut FieldSink<'_>);
}

/// No fields.
impl Object for () {
    fn fields(&self, _: &mut FieldSink<'_>) {}
}

/// One log entry.
pub(crate) struct Entry<'a> {
    pub(crate) level: Level,
    pub(crate) time: OffsetDateTime,
    pub(crate) logger: &'a str,
    pub(crate) message: &'a str,
    pub(crate) fields: &'a dyn Object,
}
