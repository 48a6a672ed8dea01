//! YAML as Go's library (yaml.v3) reads it into values without types.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use time::OffsetDateTime;

use super::value::{Val, integer};

/// Values within each other.
const MAX_DEPTH: usize = 100;
/// Values in all, those that aliases repeat among them.
const MAX_VALUES: usize = 1 << 18;

/// The mapping of a document.
///
/// # Errors
/// What is no YAML, no mapping, or too much.
pub(super) fn read(text: &str) -> Result<Val, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| format!("yaml: {error}"))?;
        if let Some(value) = builder.take(event)? {
            return match value {
                Val::Map(_) => Ok(value),
                Val::Nil => Ok(Val::map(BTreeMap::new())),
                _ => Err("yaml: cannot unmarshal into map[string]interface {}".to_owned()),
            };
        }
    }
    Ok(Val::map(BTreeMap::new()))
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Val, usize)>,
    count: usize,
}

/// A list or mapping whose end was not read yet.
struct Open {
    anchor: usize,
    before: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Val>),
    Map(BTreeMap<String, Val>, Vec<Val>, Option<String>),
}

impl Builder {
    /// The document's value, once it is all there.
    fn take(&mut self, event: Event<'_>) -> Result<Option<Val>, String> {
        let too_much = || "yaml: document contains excessive aliasing".to_owned();
        if self.open.len() > MAX_DEPTH || self.count > MAX_VALUES {
            return Err(too_much());
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count += 1;
                let value = scalar(&text, style, tag.as_deref())?;
                if anchor > 0 {
                    self.anchors.insert(anchor, (value.clone(), 1));
                }
                self.put(value)
            }
            Event::SequenceStart(anchor, _) => Ok(self.begin(anchor, Kind::List(Vec::new()))),
            Event::MappingStart(anchor, _) => {
                Ok(self.begin(anchor, Kind::Map(BTreeMap::new(), Vec::new(), None)))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(None) };
                let value = match open.kind {
                    Kind::List(items) => Val::list(items),
                    Kind::Map(mut items, merged, _) => {
                        for other in merged {
                            if let Val::Map(other) = other {
                                for (key, value) in other.borrow().iter() {
                                    items.entry(key.clone()).or_insert_with(|| value.clone());
                                }
                            }
                        }
                        Val::map(items)
                    }
                };
                if open.anchor > 0 {
                    let size = self.count - open.before;
                    self.anchors.insert(open.anchor, (value.clone(), size));
                }
                self.put(value)
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (value, size) = known.ok_or_else(|| "yaml: unknown anchor".to_owned())?;
                self.count += size;
                self.put(value)
            }
            _ => Ok(None),
        }
    }

    fn begin(&mut self, anchor: usize, kind: Kind) -> Option<Val> {
        self.count += 1;
        self.open.push(Open { anchor, before: self.count, kind });
        None
    }

    fn put(&mut self, value: Val) -> Result<Option<Val>, String> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => return Ok(Some(value)),
            Some(Kind::List(items)) => items.push(value),
            Some(Kind::Map(items, merged, key)) => match key.take() {
                None => {
                    let name = value.shown();
                    // Aliases make long keys of few letters.
                    self.count += name.len() / 64;
                    *key = Some(name);
                }
                Some(name) if name == "<<" => match value {
                    Val::List(others) => merged.extend(others.iter().cloned()),
                    other => merged.push(other),
                },
                Some(name) => {
                    if items.contains_key(&name) {
                        return Err(format!("yaml: mapping key {name:?} already defined"));
                    }
                    items.insert(name, value);
                }
            },
        }
        Ok(None)
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Val, String> {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let wrong = |kind: &str| format!("yaml: cannot decode {text:?} as a !!{kind}");
    match (tag, style) {
        (Some("str" | "binary"), _) => Ok(Val::str(text)),
        (Some(kind @ ("int" | "float" | "bool" | "null")), _) => match (kind, plain(text)) {
            ("int", value @ Val::Int(_)) | ("bool", value @ Val::Bool(_)) => Ok(value),
            ("float", Val::Int(number)) => Ok(Val::Float(number as f64)),
            ("float", value @ Val::Float(_)) | ("null", value @ Val::Nil) => Ok(value),
            _ => Err(wrong(kind)),
        },
        (_, ScalarStyle::Plain) => Ok(plain(text)),
        _ => Ok(Val::str(text)),
    }
}

/// What a text without quotes is.
fn plain(text: &str) -> Val {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Val::Nil,
        "true" | "True" | "TRUE" => return Val::Bool(true),
        "false" | "False" | "FALSE" => return Val::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Val::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Val::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Val::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Val::str(text);
    }
    if let Some(time) = time(text) {
        return Val::Time(time);
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Val::Int(number);
    }
    let is_float = digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match digits.parse() {
        Ok(number) if is_float => Val::Float(number),
        _ => Val::str(text),
    }
}

/// A date, or a date and a time, in the forms that YAML knows.
pub(super) fn time(text: &str) -> Option<OffsetDateTime> {
    let year = text.as_bytes().get(..5)?;
    if !year[..4].iter().all(u8::is_ascii_digit) || year[4] != b'-' {
        return None;
    }
    let layouts = [
        "2006-1-2",
        "2006-1-2T15:4:5.999999999Z07:00",
        "2006-1-2t15:4:5.999999999Z07:00",
        "2006-1-2 15:4:5.999999999Z07:00",
        "2006-1-2 15:4:5.999999999",
        "2006-1-2T15:4:5.999999999",
    ];
    layouts.into_iter().find_map(|layout| caddis_core::Layout::parse(layout).read(text).ok())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_as_go() {
        for (text, want) in [
            (
                "a: 1\nb: 1.5\nc: yes\nd: true\ne: ~\nf: '1'",
                r#"{"a":1,"b":1.5,"c":"yes","d":true,"e":null,"f":"1"}"#,
            ),
            ("a: 0x10\nb: 010\nc: 1_000\nd: 1e3", r#"{"a":16,"b":8,"c":1000,"d":1000}"#),
            (
                "a: &x {k: v}\nb: *x\nc:\n  <<: *x\n  l: w",
                r#"{"a":{"k":"v"},"b":{"k":"v"},"c":{"k":"v","l":"w"}}"#,
            ),
            ("a: |\n  one\n  two\nb: >\n  x\n  y\n", r#"{"a":"one\ntwo\n","b":"x y\n"}"#),
            ("d: 2024-02-29\n", r#"{"d":"2024-02-29T00:00:00Z"}"#),
            ("", "{}"),
        ] {
            assert_eq!(read(text).expect("reads").json().to_string(), want, "{text}");
        }
        assert!(read("a: 1\na: 2").is_err());
        assert!(read("- a").is_err());
        assert!(read("a: *x").is_err());
    }

    #[test]
    fn bombs_are_errors() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..12 {
            let before = at - 1;
            let item = format!("*a{before}");
            text += &format!("a{at}: &a{at} [{}]\n", [item.as_str(); 9].join(", "));
        }
        assert!(read(&text).is_err());
        assert!(read(&("a: ".to_owned() + &"[".repeat(5000))).is_err());
    }
}
