//! The functions of the language and of its libraries for strings, lists and numbers, with their
//! overloads.

use caddis_core::Result;
use jiff::tz::TimeZone;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{
    eval::{MAX_SIZE, bounded, error, no_overload, sorted},
    node::{Function, Val},
};
use Val::{Bool, Bytes, Duration, Float, Int, List, Map, Str, Time, Uint};

/// A function or method under one name.
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) method: bool,
    /// Letters of the arguments (a method's target first), `>`, and that of the result; apart by
    /// spaces.
    pub(super) overloads: &'static str,
    pub(super) call: Function,
}

const fn function(name: &'static str, overloads: &'static str, call: Function) -> Declared {
    Declared { name, method: false, overloads, call }
}

const fn method(name: &'static str, overloads: &'static str, call: Function) -> Declared {
    Declared { name, method: true, overloads, call }
}

/// Operators are here for their overloads; they have nodes of their own.
pub(super) static FUNCTIONS: &[Declared] = &[
    function("_+_", "ii>i uu>u dd>d ss>s bb>b tr>t rt>t rr>r ll>A", none),
    function("_-_", "ii>i uu>u dd>d tt>r tr>t rr>r", none),
    function("_*_", "ii>i uu>u dd>d", none),
    function("_/_", "ii>i uu>u dd>d", none),
    function("_%_", "ii>i uu>u", none),
    function("-_", "i>i d>d", none),
    function("!_", "o>o", none),
    function("_<_", ORDERED, none),
    function("_<=_", ORDERED, none),
    function("_>_", ORDERED, none),
    function("_>=_", ORDERED, none),
    function("ph", "qs>a", none),
    function("size", "s>i b>i l>i m>i", size),
    method("size", "s>i b>i l>i m>i", size),
    function("int", "i>i u>i d>i s>i t>i r>i", int),
    function("uint", "u>u i>u d>u s>u", uint),
    function("double", "d>d i>d u>d s>d", double),
    function("string", "s>s i>s u>s d>s o>s b>s t>s r>s", string),
    function("bool", "o>o s>o", boolean),
    function("bytes", "b>b s>b", bytes),
    function("duration", "r>r s>r i>r", duration),
    function("timestamp", "t>t s>t i>t", timestamp),
    function("dyn", "*>*", |args| args.first().cloned().ok_or_else(no_overload)),
    function("type", "*>Y", type_of),
    function("matches", "ss>o", matches),
    method("matches", "ss>o", matches),
    method("startsWith", "ss>o", |args| texts(args, |text, part| text.starts_with(part))),
    method("endsWith", "ss>o", |args| texts(args, |text, part| text.ends_with(part))),
    method("contains", "ss>o", |args| texts(args, |text, part| text.contains(part))),
    method("charAt", "si>s", char_at),
    method("indexOf", "ss>i ssi>i", index_of),
    method("lastIndexOf", "ss>i ssi>i", last_index_of),
    method("lowerAscii", "s>s", |args| text(args, str::to_ascii_lowercase)),
    method("upperAscii", "s>s", |args| text(args, str::to_ascii_uppercase)),
    method("trim", "s>s", |args| text(args, |text| text.trim().to_owned())),
    method("replace", "sss>s sssi>s", replace),
    method("split", "ss>S ssi>S", split),
    method("substring", "si>s sii>s", substring),
    method("join", "S>s Ss>s", join),
    method("format", "sl>s", super::format::format),
    method("reverse", "s>s l>A", reverse),
    function("strings.quote", "s>s", |args| text(args, quote)),
    method("slice", "lii>A", slice),
    method("flatten", "l>l li>l", flatten),
    method("sort", "l>A", sort),
    method("distinct", "l>A", distinct),
    function("lists.range", "i>I", range),
    function("math.ceil", "d>d", |args| float(args, f64::ceil)),
    function("math.floor", "d>d", |args| float(args, f64::floor)),
    function("math.round", "d>d", |args| float(args, f64::round)),
    function("math.trunc", "d>d", |args| float(args, f64::trunc)),
    function("math.sqrt", "d>d i>d u>d", sqrt),
    function("math.abs", "i>i u>u d>d", abs),
    function("math.sign", "i>i u>u d>d", sign),
    function("math.isNaN", "d>o", |args| test(args, f64::is_nan)),
    function("math.isInf", "d>o", |args| test(args, f64::is_infinite)),
    function("math.isFinite", "d>o", |args| test(args, f64::is_finite)),
    function("math.bitAnd", "ii>i uu>u", |args| bits(args, |one, two| one & two)),
    function("math.bitOr", "ii>i uu>u", |args| bits(args, |one, two| one | two)),
    function("math.bitXor", "ii>i uu>u", |args| bits(args, |one, two| one ^ two)),
    function("math.bitNot", "i>i u>u", bit_not),
    function("math.bitShiftLeft", "ii>i ui>u", |args| shift(args, true)),
    function("math.bitShiftRight", "ii>i ui>u", |args| shift(args, false)),
    method("getFullYear", "t>i ts>i", |args| in_zone(args, |at| at.year().into())),
    method("getMonth", "t>i ts>i", |args| in_zone(args, |at| i64::from(u8::from(at.month())) - 1)),
    method("getDate", "t>i ts>i", |args| in_zone(args, |at| at.day().into())),
    method("getDayOfMonth", "t>i ts>i", |args| in_zone(args, |at| i64::from(at.day()) - 1)),
    method("getDayOfWeek", "t>i ts>i", |args| {
        in_zone(args, |at| at.weekday().number_days_from_sunday().into())
    }),
    method("getDayOfYear", "t>i ts>i", |args| in_zone(args, |at| i64::from(at.ordinal()) - 1)),
    method("getHours", "t>i ts>i r>i", |args| part(args, 3_600_000_000_000, |at| at.hour().into())),
    method("getMinutes", "t>i ts>i r>i", |args| {
        part(args, 60_000_000_000, |at| at.minute().into())
    }),
    method("getSeconds", "t>i ts>i r>i", |args| part(args, 1_000_000_000, |at| at.second().into())),
    method("getMilliseconds", "t>i ts>i r>i", |args| {
        part(args, 1_000_000, |at| at.millisecond().into())
    }),
];

const ORDERED: &str = "oo>o ii>o uu>o dd>o ss>o bb>o tt>o rr>o";

/// Whether a name with dots is one of a function.
pub(super) fn is_known(name: &str) -> bool {
    name.contains('.') && FUNCTIONS.iter().any(|function| function.name == name)
}

fn none(_: &[Val]) -> Result<Val> {
    Err(no_overload())
}

fn count(len: usize) -> Val {
    Int(i64::try_from(len).unwrap_or(i64::MAX))
}

fn size(args: &[Val]) -> Result<Val> {
    Ok(count(match args {
        [Str(text)] => text.chars().count(),
        [Bytes(bytes)] => bytes.len(),
        [List(items)] => items.len(),
        [Map(entries)] => entries.len(),
        _ => return Err(no_overload()),
    }))
}

fn texts(args: &[Val], test: fn(&str, &str) -> bool) -> Result<Val> {
    match args {
        [Str(text), Str(part)] => Ok(Bool(test(text, part))),
        _ => Err(no_overload()),
    }
}

fn text(args: &[Val], change: fn(&str) -> String) -> Result<Val> {
    match args {
        [Str(text)] => bounded(change(text)),
        _ => Err(no_overload()),
    }
}

fn matches(args: &[Val]) -> Result<Val> {
    let [Str(text), Str(pattern)] = args else { return Err(no_overload()) };
    Ok(Bool(crate::regexp::compile(pattern).map_err(error)?.is_match(text)))
}

fn bad_conversion(value: &Val, to: &str) -> caddis_core::HttpError {
    error(format_args!("type conversion error from '{}' to '{to}'", value.type_name()))
}

/// Bounds within which a double is some int (2^63) or uint (2^64).
const INTS: f64 = 9_223_372_036_854_775_808.0;
const UINTS: f64 = 18_446_744_073_709_551_616.0;

#[expect(clippy::cast_possible_truncation, reason = "within bounds, it is what the call is for")]
fn int(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Int(match value {
        Int(value) | Duration(value) => *value,
        Uint(value) => i64::try_from(*value).map_err(|_| error("integer overflow"))?,
        Float(value) if *value > -INTS && *value < INTS => *value as i64,
        Float(_) => return Err(error("integer overflow")),
        Str(text) => text.parse().map_err(|_| bad_conversion(value, "int"))?,
        Time(at) => at.unix_timestamp(),
        _ => return Err(no_overload()),
    }))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within bounds, it is what the call is for"
)]
fn uint(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Uint(match value {
        Uint(value) => *value,
        Int(value) => u64::try_from(*value).map_err(|_| error("unsigned integer overflow"))?,
        Float(value) if *value >= 0.0 && *value < UINTS => *value as u64,
        Float(_) => return Err(error("unsigned integer overflow")),
        Str(text) => text.parse().map_err(|_| bad_conversion(value, "uint"))?,
        _ => return Err(no_overload()),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "it is what the call is for")]
fn double(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Float(match value {
        Float(value) => *value,
        Int(value) => *value as f64,
        Uint(value) => *value as f64,
        Str(text) => text.parse().map_err(|_| bad_conversion(value, "double"))?,
        _ => return Err(no_overload()),
    }))
}

fn string(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Str(match value {
        Str(text) => text.clone(),
        Int(value) => value.to_string(),
        Uint(value) => value.to_string(),
        Float(value) => value.to_string(),
        Bool(value) => value.to_string(),
        Bytes(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| error("invalid UTF-8 in bytes, cannot convert to string"))?
            .to_owned(),
        Time(at) => at.format(&Rfc3339).map_err(|_| bad_conversion(value, "string"))?,
        Duration(nanoseconds) => seconds(*nanoseconds),
        _ => return Err(no_overload()),
    }))
}

/// Nanoseconds as seconds with what is needed behind the point, for example `1.5s`.
pub(super) fn seconds(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let (whole, rest) = (all / 1_000_000_000, all % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{whole}s");
    }
    format!("{sign}{whole}.{}s", format!("{rest:09}").trim_end_matches('0'))
}

fn boolean(args: &[Val]) -> Result<Val> {
    match args {
        [Bool(value)] => Ok(Bool(*value)),
        [value @ Str(text)] => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Bool(false)),
            _ => Err(bad_conversion(value, "bool")),
        },
        _ => Err(no_overload()),
    }
}

fn bytes(args: &[Val]) -> Result<Val> {
    match args {
        [Bytes(bytes)] => Ok(Bytes(bytes.clone())),
        [Str(text)] => Ok(Bytes(text.clone().into_bytes())),
        _ => Err(no_overload()),
    }
}

fn duration(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Duration(match value {
        Duration(nanoseconds) | Int(nanoseconds) => *nanoseconds,
        Str(text) => {
            go_duration(text).ok_or_else(|| bad_conversion(value, "google.protobuf.Duration"))?
        }
        _ => return Err(no_overload()),
    }))
}

/// A duration as Go writes it, such as `1h30m` or `-1.5s`, in nanoseconds.
pub(super) fn go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() || total == 0.0 && rest.as_ptr() == text.as_ptr() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|char: char| char.is_ascii_digit() || char == '.');
        let (unit, after) = rest.split_at(unit.unwrap_or(rest.len()));
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number * factor;
        rest = after;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within the bounds of an i64")]
    (total.abs() < INTS).then_some((sign * total).round() as i64)
}

fn timestamp(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    let bad = || bad_conversion(value, "google.protobuf.Timestamp");
    Ok(Time(match value {
        Time(at) => *at,
        Int(seconds) => OffsetDateTime::from_unix_timestamp(*seconds).map_err(|_| bad())?,
        Str(text) => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?,
        _ => return Err(no_overload()),
    }))
}

fn type_of(args: &[Val]) -> Result<Val> {
    match args {
        [value] => Ok(Val::Type(value.type_name().to_owned())),
        _ => Err(no_overload()),
    }
}

/// The place in bytes of a character, by its number.
fn place(text: &str, at: i64) -> Result<usize> {
    let out = || error(format_args!("index out of range: {at}"));
    let at = usize::try_from(at).map_err(|_| out())?;
    match text.char_indices().nth(at) {
        Some((place, _)) => Ok(place),
        None if text.chars().count() == at => Ok(text.len()),
        None => Err(out()),
    }
}

/// The number of the character at this place, or -1.
fn char_number(text: &str, at: Option<usize>) -> Val {
    at.and_then(|at| text.get(..at)).map_or(Int(-1), |before| count(before.chars().count()))
}

fn char_at(args: &[Val]) -> Result<Val> {
    let [Str(text), Int(at)] = args else { return Err(no_overload()) };
    let rest = &text[place(text, *at)?..];
    Ok(Str(rest.chars().next().map(String::from).unwrap_or_default()))
}

fn index_of(args: &[Val]) -> Result<Val> {
    let (text, part, from) = match args {
        [Str(text), Str(part)] => (text, part, 0),
        [Str(text), Str(part), Int(from)] => (text, part, place(text, *from)?),
        _ => return Err(no_overload()),
    };
    Ok(char_number(text, text[from..].find(part.as_str()).map(|at| from + at)))
}

fn last_index_of(args: &[Val]) -> Result<Val> {
    let (text, part, most) = match args {
        [Str(text), Str(part)] => (text, part, text.len()),
        [Str(text), Str(part), Int(from)] => (text, part, place(text, *from)?),
        _ => return Err(no_overload()),
    };
    // The last place that is not behind the one given.
    let found = text.match_indices(part.as_str()).map(|(at, _)| at).filter(|at| *at <= most);
    let last = if part.is_empty() { Some(most) } else { found.last() };
    Ok(char_number(text, last))
}

fn replace(args: &[Val]) -> Result<Val> {
    match args {
        [Str(text), Str(from), Str(to)] => replaced(text, from, to, usize::MAX),
        [Str(text), Str(from), Str(to), Int(most)] => {
            replaced(text, from, to, usize::try_from(*most).unwrap_or(usize::MAX))
        }
        _ => Err(no_overload()),
    }
}

fn replaced(text: &str, from: &str, to: &str, most: usize) -> Result<Val> {
    // So that what is too long is never made.
    let times = text.matches(from).take(most).count();
    if times.saturating_mul(to.len()) > MAX_SIZE {
        return Err(error("a text is too long"));
    }
    bounded(text.replacen(from, to, most))
}

fn split(args: &[Val]) -> Result<Val> {
    let (text, by, limit) = match args {
        [Str(text), Str(by)] => (text, by, -1),
        [Str(text), Str(by), Int(limit)] => (text, by, *limit),
        _ => return Err(no_overload()),
    };
    let part = |part: &str| Str(part.to_owned());
    Ok(List(match usize::try_from(limit) {
        Ok(0) => Vec::new(),
        Ok(limit) if by.is_empty() => {
            let first: Vec<_> = text.char_indices().take(limit).map(|(at, _)| at).collect();
            let ends = first.iter().skip(1).copied().chain([text.len()]);
            first.iter().zip(ends).map(|(from, to)| part(&text[*from..to])).collect()
        }
        Err(_) if by.is_empty() => text.chars().map(|char| Str(char.to_string())).collect(),
        Ok(limit) => text.splitn(limit, by.as_str()).map(part).collect(),
        Err(_) => text.split(by.as_str()).map(part).collect(),
    }))
}

fn substring(args: &[Val]) -> Result<Val> {
    let (text, start, end) = match args {
        [Str(text), Int(start)] => (text, place(text, *start)?, text.len()),
        [Str(text), Int(start), Int(end)] => (text, place(text, *start)?, place(text, *end)?),
        _ => return Err(no_overload()),
    };
    let part = text.get(start..end);
    part.map(|part| Str(part.to_owned())).ok_or_else(|| error("invalid substring range"))
}

fn join(args: &[Val]) -> Result<Val> {
    let (items, by) = match args {
        [List(items)] => (items, ""),
        [List(items), Str(by)] => (items, by.as_str()),
        _ => return Err(no_overload()),
    };
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        let Str(text) = item else { return Err(no_overload()) };
        if at > 0 {
            out.push_str(by);
        }
        out.push_str(text);
        if out.len() > MAX_SIZE {
            return Err(error("a text is too long"));
        }
    }
    Ok(Str(out))
}

fn reverse(args: &[Val]) -> Result<Val> {
    match args {
        [Str(text)] => Ok(Str(text.chars().rev().collect())),
        [List(items)] => Ok(List(items.iter().rev().cloned().collect())),
        _ => Err(no_overload()),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

fn slice(args: &[Val]) -> Result<Val> {
    let [List(items), Int(start), Int(end)] = args else { return Err(no_overload()) };
    let bad = || {
        let len = items.len();
        error(format_args!("cannot slice({start}, {end}), list is length {len}"))
    };
    let start = usize::try_from(*start).map_err(|_| bad())?;
    let end = usize::try_from(*end).map_err(|_| bad())?;
    items.get(start..end).map(|part| List(part.to_vec())).ok_or_else(bad)
}

fn flatten(args: &[Val]) -> Result<Val> {
    let (items, depth) = match args {
        [List(items)] => (items, 1),
        [List(_), Int(depth)] if *depth < 0 => {
            return Err(error("level must be non-negative"));
        }
        [List(items), Int(depth)] => (items, *depth),
        _ => return Err(no_overload()),
    };
    let mut flat = items.clone();
    for _ in 0..depth {
        if !flat.iter().any(|item| matches!(item, List(_))) {
            break;
        }
        let items = std::mem::take(&mut flat);
        for item in items {
            match item {
                List(inner) => flat.extend(inner),
                item => flat.push(item),
            }
        }
        if flat.len() > MAX_SIZE {
            return Err(error("a list is too long"));
        }
    }
    Ok(List(flat))
}

fn sort(args: &[Val]) -> Result<Val> {
    let [List(items)] = args else { return Err(no_overload()) };
    Ok(List(sorted(items.clone(), items)?))
}

fn distinct(args: &[Val]) -> Result<Val> {
    let [List(items)] = args else { return Err(no_overload()) };
    let mut kept: Vec<Val> = Vec::new();
    // Each is compared with all before it, so the number is bounded.
    if items.len() > 10_000 {
        return Err(error("a list is too long"));
    }
    for item in items {
        if !kept.iter().any(|known| known.equals(item)) {
            kept.push(item.clone());
        }
    }
    Ok(List(kept))
}

fn range(args: &[Val]) -> Result<Val> {
    let [Int(end)] = args else { return Err(no_overload()) };
    if usize::try_from(*end).is_ok_and(|end| end > MAX_SIZE) {
        return Err(error("a list is too long"));
    }
    Ok(List((0..*end).map(Int).collect()))
}

fn float(args: &[Val], change: fn(f64) -> f64) -> Result<Val> {
    match args {
        [Float(value)] => Ok(Float(change(*value))),
        _ => Err(no_overload()),
    }
}

fn test(args: &[Val], test: fn(f64) -> bool) -> Result<Val> {
    match args {
        [Float(value)] => Ok(Bool(test(*value))),
        _ => Err(no_overload()),
    }
}

fn sqrt(args: &[Val]) -> Result<Val> {
    float(&[double(args)?], f64::sqrt)
}

fn abs(args: &[Val]) -> Result<Val> {
    Ok(match args {
        [Int(value)] => Int(value.checked_abs().ok_or_else(|| error("integer overflow"))?),
        [Uint(value)] => Uint(*value),
        [Float(value)] => Float(value.abs()),
        _ => return Err(no_overload()),
    })
}

fn sign(args: &[Val]) -> Result<Val> {
    Ok(match args {
        [Int(value)] => Int(value.signum()),
        [Uint(value)] => Uint(u64::from(*value > 0)),
        [Float(value)] if *value == 0.0 => Float(0.0),
        [Float(value)] => Float(value.signum()),
        _ => return Err(no_overload()),
    })
}

#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "bits stay as they are")]
fn bits(args: &[Val], change: fn(u64, u64) -> u64) -> Result<Val> {
    Ok(match args {
        [Int(one), Int(two)] => Int(change(*one as u64, *two as u64) as i64),
        [Uint(one), Uint(two)] => Uint(change(*one, *two)),
        _ => return Err(no_overload()),
    })
}

fn bit_not(args: &[Val]) -> Result<Val> {
    Ok(match args {
        [Int(value)] => Int(!value),
        [Uint(value)] => Uint(!value),
        _ => return Err(no_overload()),
    })
}

#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "bits stay as they are")]
fn shift(args: &[Val], left: bool) -> Result<Val> {
    let shifted = |value: u64, by: i64| {
        let by = u32::try_from(by)
            .map_err(|_| error(format_args!("math.bitShift() negative offset: {by}")))?;
        let result = if left { value.checked_shl(by) } else { value.checked_shr(by) };
        Ok::<_, caddis_core::HttpError>(result.unwrap_or(0))
    };
    Ok(match args {
        [Int(value), Int(by)] => Int(shifted(*value as u64, *by)? as i64),
        [Uint(value), Int(by)] => Uint(shifted(*value, *by)?),
        _ => return Err(no_overload()),
    })
}

/// `math.greatest`.
pub(super) fn greatest(args: &[Val]) -> Result<Val> {
    extreme(args, std::cmp::Ordering::Greater)
}

/// `math.least`.
pub(super) fn least(args: &[Val]) -> Result<Val> {
    extreme(args, std::cmp::Ordering::Less)
}

fn extreme(args: &[Val], wanted: std::cmp::Ordering) -> Result<Val> {
    let items = match args {
        [List(items)] => items,
        args => args,
    };
    let mut best: Option<&Val> = None;
    for item in items {
        if !matches!(item, Int(_) | Uint(_) | Float(_)) {
            return Err(no_overload());
        }
        if best.is_none_or(|best| item.order(best) == Some(wanted)) {
            best = Some(item);
        }
    }
    best.cloned().ok_or_else(|| error("a list without items has no extreme"))
}

/// A part of a time, in UTC or in the zone that is given by its name or as an offset.
fn in_zone(args: &[Val], get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Time(at)] => Ok(Int(get(&at.to_offset(UtcOffset::UTC)))),
        [Time(at), Str(zone)] => {
            let offset = match zone.contains(':') {
                true => offset(zone),
                false => offset_of_place(zone, at),
            };
            let offset = offset.ok_or_else(|| error(format_args!("unknown time zone {zone}")))?;
            Ok(Int(get(&at.to_offset(offset))))
        }
        _ => Err(no_overload()),
    }
}

/// The offset that a zone such as `Europe/Berlin` has at a time, by the zones of the system or, where
/// it has none, by those in the program.
fn offset_of_place(zone: &str, at: &OffsetDateTime) -> Option<UtcOffset> {
    let zone = match zone {
        "" | "UTC" | "Z" => return Some(UtcOffset::UTC),
        "Local" => TimeZone::system(),
        zone => TimeZone::get(zone).ok()?,
    };
    let at = jiff::Timestamp::from_second(at.unix_timestamp()).ok()?;
    UtcOffset::from_whole_seconds(zone.to_offset(at).seconds()).ok()
}

fn offset(zone: &str) -> Option<UtcOffset> {
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// A part of a time, or how often a unit is in a duration.
fn part(args: &[Val], unit: i64, get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Duration(nanoseconds)] => Ok(Int(nanoseconds / unit)),
        args => in_zone(args, get),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("0", Some(0)),
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("5ms", Some(5_000_000)),
            ("1µs", Some(1000)),
            ("", None),
            ("5", None),
            ("x", None),
            ("1d", None),
            ("s", None),
            ("9999999999h", None),
        ];
        for (text, want) in cases {
            assert_eq!(go_duration(text), want, "{text}");
        }
        assert_eq!(seconds(-1_500_000_000), "-1.5s");
        assert_eq!(seconds(90_000_000_000), "90s");
    }
}
