//! `'%s is %d'.format([…])`: values in a text.

use std::fmt::Write;

use caddis_core::{HttpError, Result};
use time::format_description::well_known::Rfc3339;

use super::{
    eval::{MAX_SIZE, bounded, error, no_overload},
    functions::seconds,
    node::Val,
};

/// Digits behind the point, where none are asked for.
const PRECISION: usize = 6;
/// More are of no use.
const MAX_PRECISION: usize = 1000;

/// The function.
pub(super) fn format(args: &[Val]) -> Result<Val> {
    let [Val::Str(format), Val::List(values)] = args else { return Err(no_overload()) };
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = format.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut precision = PRECISION;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|char: char| !char.is_ascii_digit()).unwrap_or(after.len());
            precision = after[..end]
                .parse()
                .ok()
                .filter(|digits| *digits <= MAX_PRECISION)
                .ok_or_else(|| wrong("could not parse precision"))?;
            rest = &after[end..];
        }
        let mut chars = rest.chars();
        let clause = chars.next().ok_or_else(|| wrong("unexpected end of string"))?;
        rest = chars.as_str();
        let value = values.next().ok_or_else(|| wrong("index out of range"))?;
        write_clause(&mut out, clause, precision, value)?;
        if out.len() > MAX_SIZE {
            return Err(error("a text is too long"));
        }
    }
    out.push_str(rest);
    bounded(out)
}

fn wrong(why: impl std::fmt::Display) -> HttpError {
    error(format_args!("error during formatting: {why}"))
}

fn write_clause(out: &mut String, clause: char, precision: usize, value: &Val) -> Result<()> {
    let only = |what: &str| wrong(format_args!("{what}, was given {}", value.type_name()));
    // Writing to a text never fails.
    let _ = match (clause, value) {
        ('s', value) => {
            write_value(out, value);
            Ok(())
        }
        ('d', Val::Int(value)) => write!(out, "{value}"),
        ('d', Val::Uint(value)) => write!(out, "{value}"),
        ('d', Val::Float(value)) => write!(out, "{value}"),
        ('d', _) => {
            return Err(only("decimal clause can only be used on ints, uints, and doubles"));
        }
        ('f', value) => match number(value) {
            Some(number) => write!(out, "{number:.precision$}"),
            None => {
                return Err(only(
                    "fixed-point clause can only be used on ints, uints, and doubles",
                ));
            }
        },
        ('e', value) => match number(value) {
            Some(number) => write!(out, "{}", scientific(number, precision)),
            None => {
                return Err(only("scientific clause can only be used on ints, uints, and doubles"));
            }
        },
        ('b', Val::Int(value)) if *value < 0 => write!(out, "-{:b}", value.unsigned_abs()),
        ('b', Val::Int(value)) => write!(out, "{value:b}"),
        ('b', Val::Uint(value)) => write!(out, "{value:b}"),
        ('b', Val::Bool(value)) => write!(out, "{}", u8::from(*value)),
        ('b', _) => {
            return Err(only("only ints, uints, and bools can be formatted as binary"));
        }
        ('o', Val::Int(value)) if *value < 0 => write!(out, "-{:o}", value.unsigned_abs()),
        ('o', Val::Int(value)) => write!(out, "{value:o}"),
        ('o', Val::Uint(value)) => write!(out, "{value:o}"),
        ('o', _) => return Err(only("octal clause can only be used on ints and uints")),
        ('x' | 'X', value) => {
            let hex = hex(value).ok_or_else(|| {
                only("only ints, uints, bytes, and strings can be formatted as hex")
            })?;
            write!(out, "{}", if clause == 'X' { hex.to_uppercase() } else { hex })
        }
        (other, _) => {
            return Err(wrong(format_args!("unrecognized formatting clause \"{other}\"")));
        }
    };
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "it is shown as a double")]
fn number(value: &Val) -> Option<f64> {
    match value {
        Val::Int(value) => Some(*value as f64),
        Val::Uint(value) => Some(*value as f64),
        Val::Float(value) => Some(*value),
        _ => None,
    }
}

/// With an exponent of two digits at least, as Go writes it.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

fn hex(value: &Val) -> Option<String> {
    let all = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match value {
        Val::Int(value) if *value < 0 => Some(format!("-{:x}", value.unsigned_abs())),
        Val::Int(value) => Some(format!("{value:x}")),
        Val::Uint(value) => Some(format!("{value:x}")),
        Val::Bytes(bytes) => Some(all(bytes)),
        Val::Str(text) => Some(all(text.as_bytes())),
        _ => None,
    }
}

fn write_value(out: &mut String, value: &Val) {
    let _ = match value {
        Val::Null => write!(out, "null"),
        Val::Bool(value) => write!(out, "{value}"),
        Val::Int(value) => write!(out, "{value}"),
        Val::Uint(value) => write!(out, "{value}"),
        Val::Float(value) => write!(out, "{value}"),
        Val::Str(text) | Val::Type(text) => write!(out, "{text}"),
        Val::Bytes(bytes) => write!(out, "{}", String::from_utf8_lossy(bytes)),
        Val::Duration(nanoseconds) => write!(out, "{}", seconds(*nanoseconds)),
        Val::Time(at) => write!(out, "{}", at.format(&Rfc3339).unwrap_or_default()),
        Val::Request => write!(out, "http.Request"),
        Val::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_value(out, item);
            }
            write!(out, "]")
        }
        Val::Map(entries) => {
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_value(out, key);
                out.push_str(": ");
                write_value(out, value);
            }
            write!(out, "}}")
        }
    };
}
