//! An entry and its fields, borrowed from whoever logs.

use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter},
    time::Duration,
};

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

/// A place in the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: u32,
}

impl Display for Caller<'_> {
    /// Folder, file and line, as zap shortens it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let from = self.file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
        write!(f, "{}:{}", &self.file[from..], self.line)
    }
}

/// One log entry.
pub(crate) struct Entry<'a> {
    pub(crate) level: Level,
    pub(crate) time: OffsetDateTime,
    pub(crate) logger: &'a str,
    /// The place in the source that logs.
    pub(crate) caller: Option<Caller<'a>>,
    pub(crate) message: &'a str,
    pub(crate) fields: &'a dyn Object,
}
