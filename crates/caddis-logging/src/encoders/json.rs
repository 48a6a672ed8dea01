//! JSON as zap writes it, and the `json` encoder.
//!
//! ```text
//! format json {
//!     <common options>
//! }
//! ```
//! JSON: `{"format": "json", …}` with the common options.

use std::{borrow::Cow, io::Write};

use smallvec::SmallVec;

use super::options::{DurationFormat, Options, TimeFormat};
use crate::{
    field::{Caller, Entry, Field, Object},
    filters::{Node, Outcome},
};

/// The filters in force at one level of an entry, outermost first.
pub(crate) type Nodes<'n> = SmallVec<[&'n Node; 2]>;

/// Appends JSON to a line.
pub(crate) struct JsonWriter<'w> {
    pub(crate) out: &'w mut Vec<u8>,
    pub(crate) options: &'w Options,
    /// Whether a blank follows each comma and colon, as in the console format.
    pub(crate) spaced: bool,
}

/// Writes the head of an entry: everything but its fields, with the `caller` where there is one.
/// The object stays open.
pub(crate) fn head(writer: &mut JsonWriter<'_>, entry: &Entry<'_>, caller: Option<Caller<'_>>) {
    let options = writer.options;
    writer.out.push(b'{');
    if !options.level_key.is_empty() {
        writer.key(&options.level_key);
        writer.text(options.level(entry.level));
    }
    if !options.time_key.is_empty() {
        writer.key(&options.time_key);
        writer.time(entry.time);
    }
    if !options.name_key.is_empty() && !entry.logger.is_empty() {
        writer.key(&options.name_key);
        writer.text(entry.logger);
    }
    if let Some(caller) = caller {
        writer.key(&options.caller_key);
        writer.text(&caller.to_string());
    }
    if !options.message_key.is_empty() {
        writer.key(&options.message_key);
        writer.text(entry.message);
    }
}

impl JsonWriter<'_> {
    fn separate(&mut self) {
        if matches!(self.out.last(), Some(b'{' | b'[' | b':' | b' ')) {
            return;
        }
        self.out.push(b',');
        if self.spaced {
            self.out.push(b' ');
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.text(key);
        self.out.push(b':');
        if self.spaced {
            self.out.push(b' ');
        }
    }

    /// Writes one field after the filters of its level.
    pub(crate) fn field(&mut self, key: &str, field: Field<'_>, nodes: &[&Node]) {
        let mut key = Cow::Borrowed(key);
        let mut field = field;
        let mut inner = Nodes::new();
        for node in nodes {
            let Some(child) = node.children.get(&*key) else { continue };
            match &child.filter {
                None => inner.push(child),
                Some(filter) => match filter.apply(field) {
                    Outcome::Delete => return,
                    Outcome::Keep(value) => field = value,
                    Outcome::Rename(name, value) => {
                        key = Cow::Borrowed(name);
                        field = value;
                    }
                },
            }
        }
        self.key(&key);
        self.value(&field, &inner);
    }

    fn value(&mut self, field: &Field<'_>, nodes: &[&Node]) {
        match field {
            Field::Null => self.out.extend_from_slice(b"null"),
            Field::Bool(value) => self.display(value),
            Field::Int(value) => self.display(value),
            Field::Uint(value) => self.display(value),
            Field::Float(value) => self.float(*value),
            Field::Duration(value) => match self.options.duration_format {
                DurationFormat::Seconds => self.float(value.as_nanos() as f64 / 1e9),
                DurationFormat::Millis => self.display(&value.as_millis()),
                DurationFormat::Nanos => self.display(&value.as_nanos()),
                DurationFormat::Text => {
                    self.text(&caddis_config::Duration::from(*value).to_string());
                }
            },
            Field::Str(text) => self.text(text),
            Field::Strings(items) => self.array(items.iter().map(|item| &**item)),
            Field::List(items) => self.array(items.iter().map(String::as_str)),
            Field::Json(json) => self.json(json),
            Field::Object(object) => self.object(*object, nodes),
        }
    }

    /// Writes an object whose fields go through these filters.
    pub(crate) fn object(&mut self, object: &dyn Object, nodes: &[&Node]) {
        self.out.push(b'{');
        object.fields(&mut |key, field| self.field(key, field, nodes));
        self.out.push(b'}');
    }

    fn array<'t>(&mut self, items: impl Iterator<Item = &'t str>) {
        self.out.push(b'[');
        for item in items {
            self.separate();
            self.text(item);
        }
        self.out.push(b']');
    }

    fn json(&mut self, json: &serde_json::Value) {
        // A value in memory always has a JSON form.
        let _ = serde_json::to_writer(&mut *self.out, json);
    }

    fn display(&mut self, value: &dyn std::fmt::Display) {
        // Writing to memory cannot fail.
        let _ = write!(self.out, "{value}");
    }

    fn float(&mut self, value: f64) {
        if value.is_finite() {
            return self.display(&value);
        }
        self.text(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        });
    }

    fn time(&mut self, time: time::OffsetDateTime) {
        let nanos = time.unix_timestamp_nanos();
        match self.options.time_format {
            TimeFormat::Seconds => self.float(nanos as f64 / 1e9),
            TimeFormat::Millis => self.float(nanos as f64 / 1e6),
            TimeFormat::Nanos => self.display(&nanos),
            TimeFormat::Layout(_) => {
                let text = self.options.time_text(time).unwrap_or_default();
                self.text(&text);
            }
        }
    }

    /// Writes a string with zap's escapes.
    pub(crate) fn text(&mut self, text: &str) {
        self.out.push(b'"');
        escape(self.out, text);
        self.out.push(b'"');
    }
}

fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && !matches!(byte, b'"' | b'\\') {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
}
