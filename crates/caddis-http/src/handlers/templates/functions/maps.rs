//! Functions on dictionaries, and JSON.

use super::{Args, Res};
use crate::handlers::templates::value::Val;

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
            let value = unshared(args.get(2)?);
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
            Val::list(
                maps.iter()
                    .flat_map(|map| {
                        map.borrow().keys().map(|key| Val::str(key)).collect::<Vec<_>>()
                    })
                    .collect(),
            )
        }
        "values" => Val::list(args.map(0)?.borrow().values().cloned().collect()),
        "pick" | "omit" => {
            let named: Vec<String> = args.values[1..].iter().map(Val::shown).collect();
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
        "merge" => {
            let into = args.map(0)?;
            for at in 1..args.values.len() {
                let from = args.map(at)?.borrow().clone();
                for (key, value) in from {
                    into.borrow_mut().entry(key).or_insert_with(|| unshared(&value));
                }
            }
            Val::Map(into)
        }
        "toJson" | "mustToJson" => {
            let text = args.get(0)?.json().to_string();
            // As Go writes it, safe inside HTML.
            Val::str(&text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
        }
        "toRawJson" => Val::str(&args.get(0)?.json().to_string()),
        "toPrettyJson" => {
            Val::str(&serde_json::to_string_pretty(&args.get(0)?.json()).unwrap_or_default())
        }
        "fromJson" => {
            let found = serde_json::from_str(&args.text(0)?);
            found.map_or(Val::Nil, |json| Val::from_json(&json))
        }
        _ => return Ok(None),
    }))
}

/// A copy of what could hold the dictionary that it is put into, which then would never end.
fn unshared(value: &Val) -> Val {
    match value {
        Val::Map(_) | Val::List(_) => Val::from_json(&value.json()),
        other => other.clone(),
    }
}
