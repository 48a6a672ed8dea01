//! Functions on dictionaries, and JSON.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use serde::Serialize;

use super::{Args, Res};
use crate::handlers::templates::value::Val;

type Map = Rc<RefCell<BTreeMap<String, Val>>>;

pub(super) fn of_maps(args: &Args<'_>) -> Res<Option<Val>> {
    Ok(Some(match args.name {
        "dict" => {
            let pairs = args.values.chunks(2);
            let entry =
                |pair: &[Val]| (pair[0].shown(), pair.get(1).cloned().unwrap_or(Val::str("")));
            Val::map(pairs.map(entry).collect())
        }
        "get" => args.map(0)?.borrow().get(&args.text(1)?).cloned().unwrap_or(Val::str("")),
        "set" => {
            let map = args.map(0)?;
            let value = unshared(args.get(2)?, &map);
            map.borrow_mut().insert(args.text(1)?, value);
            Val::Map(map)
        }
        "unset" => {
            let map = args.map(0)?;
            map.borrow_mut().remove(&args.text(1)?);
            Val::Map(map)
        }
        "hasKey" => Val::Bool(args.map(0)?.borrow().contains_key(&args.text(1)?)),
        "keys" => {
            let maps = (0..args.values.len()).map(|at| args.map(at)).collect::<Res<Vec<_>>>()?;
            let keys = |map: &Map| map.borrow().keys().map(|key| Val::str(key)).collect::<Vec<_>>();
            Val::list(maps.iter().flat_map(keys).collect())
        }
        "values" => Val::list(args.map(0)?.borrow().values().cloned().collect()),
        "pick" | "omit" => {
            let named: Vec<String> = args.rest().iter().map(Val::shown).collect();
            let map = args.map(0)?;
            let mut items = map.borrow().clone();
            items.retain(|key, _| named.contains(key) == (args.name == "pick"));
            Val::map(items)
        }
        "pluck" => {
            let key = args.text(0)?;
            let maps = (1..args.values.len()).map(|at| args.map(at)).collect::<Res<Vec<_>>>()?;
            Val::list(maps.iter().filter_map(|map| map.borrow().get(&key).cloned()).collect())
        }
        "merge" | "mustMerge" | "mergeOverwrite" | "mustMergeOverwrite" => {
            let into = args.map(0)?;
            let overwrite = args.name.ends_with("Overwrite");
            for at in 1..args.values.len() {
                merge(&into, &args.map(at)?, overwrite, 0);
            }
            Val::Map(into)
        }
        "dig" => dig(args)?,
        "deepCopy" | "mustDeepCopy" => copy(args.get(0)?, 0, &mut 0),
        "toJson" | "mustToJson" => {
            let text = args.get(0)?.json().to_string();
            // As Go writes it, safe inside HTML.
            Val::str(&html_safe(&text))
        }
        "toRawJson" | "mustToRawJson" => Val::str(&separators(&args.get(0)?.json().to_string())),
        "toPrettyJson" | "mustToPrettyJson" => Val::str(&html_safe(&pretty(&args.get(0)?.json()))),
        "fromJson" => {
            let found = serde_json::from_str(&args.text(0)?);
            found.map_or(Val::Nil, |json| Val::from_json(&json))
        }
        "mustFromJson" => {
            let found = serde_json::from_str(&args.text(0)?).map_err(|error| args.failed(error))?;
            Val::from_json(&found)
        }
        _ => return Ok(None),
    }))
}

/// Two spaces; empty lists and objects on one line, as in Go.
fn pretty(json: &serde_json::Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"  ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing to memory cannot fail.
    let _ = json.serialize(&mut writer);
    String::from_utf8_lossy(&out).into_owned()
}

fn html_safe(text: &str) -> String {
    separators(text).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Line separators, which JavaScript would take for line ends.
fn separators(text: &str) -> String {
    text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Values within values deeper than this are left out.
const MAX_DEPTH: usize = 50;
/// Values that a copy or a look for a dictionary visits.
const MAX_VISITS: usize = 1 << 18;

/// A copy of what holds the dictionary that it is put into, which then would never end.
fn unshared(value: &Val, into: &Map) -> Val {
    if holds(value, into, 0, &mut 0) { copy(value, 0, &mut 0) } else { value.clone() }
}

fn holds(value: &Val, map: &Map, depth: usize, visits: &mut usize) -> bool {
    *visits += 1;
    if depth > MAX_DEPTH || *visits > MAX_VISITS {
        // Not known; a copy is safe.
        return true;
    }
    match value {
        Val::List(items) => items.iter().any(|item| holds(item, map, depth + 1, visits)),
        Val::Map(items) => {
            Rc::ptr_eq(items, map)
                || items.borrow().values().any(|item| holds(item, map, depth + 1, visits))
        }
        _ => false,
    }
}

fn copy(value: &Val, depth: usize, visits: &mut usize) -> Val {
    *visits += 1;
    if depth > MAX_DEPTH || *visits > MAX_VISITS {
        return Val::Nil;
    }
    match value {
        Val::List(items) => {
            Val::list(items.iter().map(|item| copy(item, depth + 1, visits)).collect())
        }
        Val::Map(items) => {
            let items = items.borrow();
            let copied =
                items.iter().map(|(key, item)| (key.clone(), copy(item, depth + 1, visits)));
            Val::map(copied.collect())
        }
        other => other.clone(),
    }
}

/// What is not there, or is empty, comes from the other; dictionaries are merged inside.
fn merge(into: &Map, from: &Map, overwrite: bool, depth: usize) {
    if Rc::ptr_eq(into, from) || depth > MAX_DEPTH {
        return;
    }
    let from: Vec<(String, Val)> =
        from.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in from {
        let known = into.borrow().get(&key).cloned();
        match (known, &value) {
            (Some(Val::Map(inner)), Val::Map(other)) => merge(&inner, other, overwrite, depth + 1),
            (Some(known), _) if known.truth() && !overwrite => {}
            (_, value) => {
                let value = unshared(value, into);
                into.borrow_mut().insert(key, value);
            }
        }
    }
}

/// A value some dictionaries deep, or what stands in for it.
fn dig(args: &Args<'_>) -> Res {
    let [keys @ .., otherwise, map] = args.values else {
        return Err(args.failed("dig needs at least three arguments"));
    };
    let Some((last, keys)) = keys.split_last() else {
        return Err(args.failed("dig needs at least three arguments"));
    };
    let inside = |value: &Val, key: &Val| match value {
        Val::Map(items) => Ok(items.borrow().get(&key.shown()).cloned()),
        other => Err(args.failed(format_args!(
            "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
            other.type_name()
        ))),
    };
    let mut value = map.clone();
    for key in keys {
        match inside(&value, key)? {
            Some(found) => value = found,
            None => return Ok(otherwise.clone()),
        }
    }
    Ok(inside(&value, last)?.unwrap_or_else(|| otherwise.clone()))
}
