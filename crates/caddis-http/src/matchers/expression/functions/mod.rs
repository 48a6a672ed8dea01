//! The functions of the language and of its libraries for strings, lists and numbers, with their
//! overloads.

mod conversions;
mod lists;
mod numbers;
mod texts;
mod times;

use caddis_core::Result;

use self::{
    conversions::{boolean, bytes, double, duration, int, string, timestamp, type_of, uint},
    lists::{distinct, flatten, range, slice, sort},
    numbers::{abs, bit_not, bits, float, shift, sign, sqrt, test},
    texts::{char_at, index_of, join, last_index_of, quote, replace, split, substring},
    times::{in_zone, part},
};
use super::{
    eval::{bounded, error, no_overload},
    node::{
        Function,
        Val::{self, Bool, Bytes, Int, List, Map, Str},
    },
};

pub(super) use self::{
    conversions::seconds,
    numbers::{greatest, least},
};

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

fn reverse(args: &[Val]) -> Result<Val> {
    match args {
        [Str(text)] => Ok(Str(text.chars().rev().collect())),
        [List(items)] => Ok(List(items.iter().rev().cloned().collect())),
        _ => Err(no_overload()),
    }
}
