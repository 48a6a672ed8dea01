//! Values of templates, as Go prints and compares them.

use std::{cell::RefCell, cmp::Ordering, collections::BTreeMap, fmt::Write, rc::Rc};

use serde_json::Value as Json;
use time::OffsetDateTime;

use super::listing::Listing;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Val {
    Nil,
    Bool(bool),
    Int(i64),
    /// Go's `int64`, which is no `int`: sprig calculates in it.
    Int64(i64),
    /// A byte of a text.
    Byte(u8),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Vec<Self>>),
    Map(Rc<RefCell<BTreeMap<String, Self>>>),
    Time(OffsetDateTime),
    /// Nanoseconds.
    Duration(i64),
    /// A number with a name: its Go type, its number, how it is printed.
    Named(&'static str, i64, Rc<str>),
    Object(Object),
}

/// A value whose fields and methods are looked up.
#[derive(Debug, Clone)]
pub(super) enum Object {
    /// The data of a template, with its arguments.
    Context(Rc<Vec<Val>>),
    /// The request; before rewrites if `true`.
    Request(bool),
    Url(bool),
    Query(bool),
    RequestHeader,
    ResponseHeader,
    File(Rc<FileStat>),
    Version(Rc<super::functions::Version>),
    /// The data of a directory listing, and an entry of it by its place.
    Listing(Rc<Listing>),
    Item(Rc<Listing>, usize),
    /// The data of the body of `caddis respond`.
    Server(Rc<ServerData>),
}

/// What the body of `caddis respond` may tell.
#[derive(Debug, Clone)]
pub struct ServerData {
    /// The number of the server, from 0.
    pub number: usize,
    /// Its port.
    pub port: u16,
    /// Its address.
    pub address: String,
}

/// What `fileStat` tells.
#[derive(Debug, Clone)]
pub(super) struct FileStat {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) is_dir: bool,
    /// Go's mode bits.
    pub(super) mode: u32,
    pub(super) modified: Option<OffsetDateTime>,
}

/// Values within values deeper than this are not printed.
const MAX_DEPTH: usize = 50;
/// Printing a value ends about here.
const MAX_TEXT: usize = 16 << 20;
/// Lists and dictionaries within each other.
const MAX_NESTING: usize = 200;
/// Values that a conversion to JSON visits.
const MAX_VISITS: usize = 1 << 20;

impl Val {
    pub(super) fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    pub(super) fn map(items: BTreeMap<String, Self>) -> Self {
        Self::Map(Rc::new(RefCell::new(items)))
    }

    /// A dictionary with these entries.
    pub(super) fn map_of(items: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        Self::map(items.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub(super) fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Self {
        Self::list(items.into_iter().map(Self::str).collect())
    }

    /// Whether `if` takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Int64(value) | Self::Duration(value) => *value != 0,
            Self::Byte(value) => *value != 0,
            Self::Named(_, value, _) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(items) => !items.borrow().is_empty(),
            Self::Time(_) | Self::Object(_) => true,
        }
    }

    /// Go's name of its kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Named(..) => "int",
            Self::Int64(_) | Self::Duration(_) => "int64",
            Self::Byte(_) => "uint8",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Object(Object::Query(_) | Object::RequestHeader) => "map",
            Self::Object(Object::Request(false) | Object::Url(_) | Object::Version(_)) => "ptr",
            Self::Time(_) | Self::Object(_) => "struct",
        }
    }

    /// Go's name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
            Self::Named(name, ..) => name,
            Self::Object(object) => match object {
                Object::Context(_) => "*templates.TemplateContext",
                Object::Request(false) => "*http.Request",
                Object::Request(true) => "http.Request",
                Object::Url(_) => "*url.URL",
                Object::Query(_) => "url.Values",
                Object::RequestHeader => "http.Header",
                Object::ResponseHeader => "templates.WrappedHeader",
                Object::File(_) => "*os.fileStat",
                Object::Version(_) => "*semver.Version",
                Object::Listing(_) => "*fileserver.browseTemplateContext",
                Object::Item(..) => "fileserver.fileInfo",
                Object::Server(_) => "struct { N int; Port uint; Address string }",
            },
            other => other.kind(),
        }
    }

    /// The text that an action prints.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Nil => "<no value>".to_owned(),
            other => other.shown(),
        }
    }

    /// Go's `%v`.
    pub(super) fn shown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        if depth > MAX_DEPTH || out.len() > MAX_TEXT {
            return out.push_str("...");
        }
        match self {
            Self::Nil => out.push_str("<nil>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Byte(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Named(_, _, text) => out.push_str(text),
            Self::Duration(value) => out.push_str(&super::functions::duration(*value)),
            Self::Object(Object::Version(version)) => out.push_str(&version.to_string()),
            Self::Int(value) | Self::Int64(value) => {
                // Writing to a text cannot fail.
                let _ = write!(out, "{value}");
            }
            Self::Float(value) => out.push_str(&float(*value)),
            Self::Str(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if out.len() > MAX_TEXT {
                        break;
                    }
                    if at > 0 {
                        out.push(' ');
                    }
                    item.write(out, depth + 1);
                }
                out.push(']');
            }
            Self::Map(items) => {
                out.push_str("map[");
                for (at, (key, item)) in items.borrow().iter().enumerate() {
                    if out.len() > MAX_TEXT {
                        break;
                    }
                    if at > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    item.write(out, depth + 1);
                }
                out.push(']');
            }
            Self::Time(time) => {
                out.push_str(&super::functions::date(
                    "2006-01-02 15:04:05.999999999 -0700 MST",
                    time,
                ));
            }
            Self::Object(_) => out.push_str("{...}"),
        }
    }

    /// As JSON; what is too much of it is `null`.
    pub(super) fn json(&self) -> Json {
        self.json_at(0, &mut 0)
    }

    /// Values may share parts many times over, so visits are counted, those of long texts by their
    /// length.
    fn json_at(&self, depth: usize, visits: &mut usize) -> Json {
        *visits += self.weight();
        match self {
            _ if depth > MAX_DEPTH || *visits > MAX_VISITS => Json::Null,
            Self::Nil | Self::Object(_) => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) | Self::Int64(value) | Self::Duration(value) => (*value).into(),
            Self::Byte(value) => (*value).into(),
            Self::Named(_, value, _) => (*value).into(),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                (*value as i64).into()
            }
            Self::Float(value) => (*value).into(),
            Self::Str(text) => (&**text).into(),
            Self::List(items) => items.iter().map(|item| item.json_at(depth + 1, visits)).collect(),
            Self::Map(items) => Json::Object(
                items
                    .borrow()
                    .iter()
                    .map(|(key, item)| (key.clone(), item.json_at(depth + 1, visits)))
                    .collect(),
            ),
            Self::Time(time) => {
                super::functions::date("2006-01-02T15:04:05.999999999Z07:00", time).into()
            }
        }
    }

    /// From JSON; numbers are floats, as in Go.
    pub(super) fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Float(number.as_f64().unwrap_or_default()),
            Json::String(text) => Self::str(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(items) => Self::map(
                items.iter().map(|(key, item)| (key.clone(), Self::from_json(item))).collect(),
            ),
        }
    }

    /// A whole number, as sprig makes it of anything; 0 where it is none.
    pub(super) fn int(&self) -> i64 {
        match self {
            Self::Bool(value) => i64::from(*value),
            Self::Byte(value) => i64::from(*value),
            Self::Int(value)
            | Self::Int64(value)
            | Self::Duration(value)
            | Self::Named(_, value, _) => *value,
            Self::Float(value) => *value as i64,
            Self::Str(text) => whole(text).unwrap_or(0),
            _ => 0,
        }
    }

    /// A number, as sprig makes it of anything; 0 where it is none.
    pub(super) fn float(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            Self::Str(text) => text.parse().unwrap_or(0.0),
            other => other.int() as f64,
        }
    }

    /// A whole number of any size in Go's sense.
    pub(super) fn whole(&self) -> Option<i64> {
        match self {
            Self::Int(_) | Self::Int64(_) | Self::Byte(_) | Self::Duration(_) | Self::Named(..) => {
                Some(self.int())
            }
            _ => None,
        }
    }

    /// Order, where the two can be compared as Go's `lt` does.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Float(one), Self::Float(two)) => one.partial_cmp(two),
            (Self::Str(one), Self::Str(two)) => Some(one.cmp(two)),
            _ => Some(self.whole()?.cmp(&other.whole()?)),
        }
    }

    /// How many values there are in a list or dictionary, looked at as deep as they may nest;
    /// `None` where they nest deeper, or are too many.
    pub(super) fn nested(&self) -> Option<usize> {
        let mut visits = 0;
        self.nests_at(0, &mut visits).then_some(visits)
    }

    fn nests_at(&self, depth: usize, visits: &mut usize) -> bool {
        if depth > MAX_NESTING || *visits > MAX_VISITS {
            return false;
        }
        match self {
            Self::List(items) => {
                *visits += items.len();
                items.iter().all(|item| item.nests_at(depth + 1, visits))
            }
            Self::Map(items) => {
                let items = items.borrow();
                *visits += items.len();
                items.values().all(|item| item.nests_at(depth + 1, visits))
            }
            _ => true,
        }
    }

    /// What looking at it costs, its inside left out: as a visit, and more where it is long.
    fn weight(&self) -> usize {
        match self {
            Self::Str(text) => 1 + text.len() / 32,
            _ => 1,
        }
    }

    /// Equality as Go's `reflect.DeepEqual` has it: types count.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.equals_within(other, &mut 0)
    }

    /// Likewise; adds to what the comparisons so far cost.
    pub(super) fn equals_within(&self, other: &Self, work: &mut usize) -> bool {
        let mut visits = 0;
        let equal = self.equals_at(other, 0, &mut visits);
        *work += visits;
        equal
    }

    fn equals_at(&self, other: &Self, depth: usize, visits: &mut usize) -> bool {
        *visits += self.weight();
        if depth > MAX_NESTING || *visits > MAX_VISITS {
            return false;
        }
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Int(one), Self::Int(two)) | (Self::Int64(one), Self::Int64(two)) => one == two,
            (Self::Byte(one), Self::Byte(two)) => one == two,
            (Self::Duration(one), Self::Duration(two)) => one == two,
            (Self::Named(kind, one, _), Self::Named(other, two, _)) => kind == other && one == two,
            (Self::Float(one), Self::Float(two)) => one == two,
            (Self::Str(one), Self::Str(two)) => one == two,
            (Self::Time(one), Self::Time(two)) => one == two,
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len()
                    && one
                        .iter()
                        .zip(two.iter())
                        .all(|(one, two)| one.equals_at(two, depth + 1, visits))
            }
            (Self::Map(one), Self::Map(two)) => {
                let (one, two) = (one.borrow(), two.borrow());
                let pairs = || one.iter().zip(two.iter());
                one.len() == two.len()
                    && pairs().all(|(one, two)| {
                        one.0 == two.0 && one.1.equals_at(two.1, depth + 1, visits)
                    })
            }
            _ => false,
        }
    }
}

/// A whole number in a text, with Go's prefixes; a fraction of zeros is taken.
fn whole(text: &str) -> Option<i64> {
    match text.split_once('.') {
        Some((number, zeros)) if zeros.bytes().all(|byte| byte == b'0') => integer(number),
        _ => integer(text),
    }
}

/// A whole number in a text: a sign, and digits in the base that Go's prefixes tell.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // A further sign would be read as one.
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -size } else { size }).ok()
}

/// Go's `%v` of a number.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_as_go_reads_them() {
        for (text, want) in [
            ("12", Some(12)),
            ("-0x10", Some(-16)),
            ("+0B11", Some(3)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0x-8000000000000000", None),
            ("--1", None),
            ("0x", None),
            ("08", None),
            ("", None),
            ("0\u{e4}", None),
        ] {
            assert_eq!(integer(text), want, "{text}");
        }
    }
}
