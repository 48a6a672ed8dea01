//! JSON whose bytes equal those of Go's `encoding/json`: `<`, `>`, `&`, U+2028 and U+2029 are
//! escaped, numbers take Go's form, empty lists and objects stay on one line.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter};

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
        let mut plain = 0;
        for (at, c) in fragment.char_indices() {
            if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                writer.write_all(&fragment.as_bytes()[plain..at])?;
                write!(writer, "\\u{:04x}", u32::from(c))?;
                plain = at + c.len_utf8();
            }
        }
        writer.write_all(&fragment.as_bytes()[plain..])
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

    use super::{float, to_line, to_string, to_string_pretty};

    #[test]
    fn strings_are_escaped_for_html() {
        let value = json!({"k<": "a<b>&\u{2028}\u{2029}\"\\\n\u{1}é"});
        assert_eq!(
            to_string(&value).unwrap(),
            "{\"k\\u003c\":\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\n\\u0001é\"}"
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
