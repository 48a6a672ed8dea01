//! JSON whose bytes equal those of Go's `encoding/json`: `<`, `>`, `&`, U+2028 and U+2029 are
//! escaped, numbers take Go's form, empty lists and objects stay on one line.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter};
use serde_json::{Number, Value};

/// Compact, as `json.Marshal`.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    write_with(value, GoFormatter(CompactFormatter))
}

/// Indented with tabs, as `json.Indent`; no newline at the end.
pub fn to_string_pretty<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    write_with(value, GoFormatter(PrettyFormatter::with_indent(b"\t")))
}

/// Compact with a newline at the end, as `json.Encoder` (what `GET /config/` answers).
pub fn to_line<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut line = to_string(value)?;
    line.push('\n');
    Ok(line)
}

/// Appends a value, compact; as [`to_string`], in less time.
pub fn push_value(out: &mut String, value: &Value) {
    push_with(out, value, &mut |_, _| false);
}

/// [`push_value`], in which `put` may write something else for a text; it says whether it did.
pub fn push_with(out: &mut String, value: &Value, put: &mut impl FnMut(&mut String, &str) -> bool) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => push_number(out, number),
        Value::String(text) => {
            if !put(out, text) {
                push_string(out, text);
            }
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_with(out, item, put);
            }
            out.push(']');
        }
        Value::Object(fields) => push_fields(out, fields.iter(), put),
    }
}

/// Appends an object of these fields.
pub fn push_fields<'a>(
    out: &mut String,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    put: &mut impl FnMut(&mut String, &str) -> bool,
) {
    out.push('{');
    for (at, (name, value)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_with(out, value, put);
    }
    out.push('}');
}

fn push_number(out: &mut String, number: &Number) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(whole), ..) => write!(out, "{whole}"),
        (_, Some(whole), _) => write!(out, "{whole}"),
        (.., Some(decimal)) => write!(out, "{}", float(decimal)),
        _ => write!(out, "null"),
    };
}

/// Appends a text in quotes.
pub fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    let mut rest = text;
    let odd = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\' || may_need_escape(byte);
    while let Some(at) = rest.bytes().position(odd) {
        let Some(c) = rest[at..].chars().next() else { break };
        let (before, after) = rest.split_at(at + c.len_utf8());
        out.push_str(&before[..at]);
        rest = after;
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            _ if c < ' ' || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push_str(rest);
    out.push('"');
}

fn write_with<T, F>(value: &T, formatter: F) -> Result<String, serde_json::Error>
where
    T: Serialize + ?Sized,
    F: Formatter,
{
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// The layout of another formatter with Go's strings and numbers.
struct GoFormatter<F>(F);

/// Passes layout through.
macro_rules! layout {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => { $(
        fn $name<W: ?Sized + io::Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        }
    )* };
}

impl<F: Formatter> Formatter for GoFormatter<F> {
    layout! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.bytes().position(may_need_escape) {
            let Some(c) = rest[at..].chars().next() else { break };
            let (plain, after) = rest.split_at(at + c.len_utf8());
            rest = after;
            if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                writer.write_all(&plain.as_bytes()[..at])?;
                write!(writer, "\\u{:04x}", u32::from(c))?;
            } else {
                writer.write_all(plain.as_bytes())?;
            }
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        writer.write_all(float(f64::from(value)).as_bytes())
    }
}

/// Whether a byte is, or begins, a character that Go escapes. 0xE2 begins U+2028 and others.
fn may_need_escape(byte: u8) -> bool {
    matches!(byte, b'<' | b'>' | b'&' | 0xe2)
}

/// Plain decimals, or an exponent outside 1e-6 … 1e21.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        };
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{float, push_value, push_with, to_line, to_string, to_string_pretty};

    #[test]
    fn both_writers_agree() {
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        let value = json!({"<k": [all, "", 1, -1, 1.5, 1e30, u64::MAX, null, true, {}, []], "b": {"c": "\u{1f600}"}});
        let mut out = String::new();
        push_value(&mut out, &value);
        assert_eq!(out, to_string(&value).unwrap());
        out.clear();
        push_with(&mut out, &json!(["a", "b"]), &mut |out, text| {
            out.push_str(if text == "b" { "{}" } else { "" });
            text == "b"
        });
        assert_eq!(out, r#"["a",{}]"#);
    }

    #[test]
    fn strings_are_escaped_for_html() {
        let value = json!({"k<": "a<b>&\u{2026}\u{2028}\u{2029}\"\\\n\u{1}é"});
        assert_eq!(
            to_string(&value).unwrap(),
            "{\"k\\u003c\":\"a\\u003cb\\u003e\\u0026\u{2026}\\u2028\\u2029\\\"\\\\\\n\\u0001é\"}"
        );
        assert_eq!(to_line(&json!(null)).unwrap(), "null\n");
    }

    #[test]
    fn pretty_is_tabs() {
        let value = json!({"a": [1, {}], "b": [], "c": {"d": "<"}});
        assert_eq!(
            to_string_pretty(&value).unwrap(),
            "{\n\t\"a\": [\n\t\t1,\n\t\t{}\n\t],\n\t\"b\": [],\n\t\"c\": {\n\t\t\"d\": \"\\u003c\"\n\t}\n}"
        );
    }

    #[test]
    fn floats_are_gos() {
        for (value, text) in [
            (1.0, "1"),
            (0.0, "0"),
            (0.1666, "0.1666"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.000_001, "0.000001"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
