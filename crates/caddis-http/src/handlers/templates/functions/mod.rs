//! Functions of templates: Go's own, Caddy's, and the most used of sprig's.

mod lists;
mod maps;
mod numbers;
mod printing;
mod texts;
mod times;

use std::collections::BTreeMap;

use caddis_core::placeholder::Placeholder;
use http::StatusCode;

pub(super) use self::times::{date, time_method};
use self::{
    lists::of_lists,
    maps::of_maps,
    numbers::{of_codings, of_numbers},
    printing::{format, html, humanize, js, path_escape, strip_html},
    texts::of_texts,
    times::of_times,
};
use super::{
    eval::{Loaded, Need, Run, Stop},
    value::{Object, Val},
};

type Res<T = Val> = Result<T, Stop>;

/// Texts and lists that functions make are no larger than this.
const LARGEST: usize = 1 << 24;

/// Arguments of one call.
struct Args<'a> {
    name: &'a str,
    values: &'a [Val],
}

impl Args<'_> {
    fn get(&self, at: usize) -> Res<&Val> {
        let wrong = || {
            Stop::text(format!("wrong number of args for {}: got {}", self.name, self.values.len()))
        };
        self.values.get(at).ok_or_else(wrong)
    }

    fn text(&self, at: usize) -> Res<String> {
        Ok(self.get(at)?.shown())
    }

    fn int(&self, at: usize) -> Res<i64> {
        Ok(self.get(at)?.int())
    }

    fn size(&self, at: usize) -> Res<usize> {
        let number = usize::try_from(self.int(at)?.max(0)).unwrap_or(usize::MAX);
        if number > LARGEST {
            Err(Stop::text(format!("{}: too large", self.name)))
        } else {
            Ok(number)
        }
    }

    fn float(&self, at: usize) -> Res<f64> {
        Ok(self.get(at)?.float())
    }

    fn list(&self, at: usize) -> Res<Vec<Val>> {
        match self.get(at)? {
            Val::List(items) => Ok(items.to_vec()),
            Val::Nil => Ok(Vec::new()),
            other => Err(Stop::text(format!("{}: no list: {}", self.name, other.kind()))),
        }
    }

    fn map(&self, at: usize) -> Res<std::rc::Rc<std::cell::RefCell<BTreeMap<String, Val>>>> {
        match self.get(at)? {
            Val::Map(items) => Ok(items.clone()),
            other => Err(Stop::text(format!("{}: no dictionary: {}", self.name, other.kind()))),
        }
    }
}

/// Calls a function by its name.
pub(super) fn call(run: &mut Run<'_>, name: &str, values: &[Val]) -> Res {
    let args = Args { name, values };
    for group in [of_caddy, of_files] {
        if let Some(value) = group(run, &args)? {
            return Ok(value);
        }
    }
    for group in [of_go, of_texts, of_lists, of_maps, of_numbers, of_codings, of_times] {
        if let Some(value) = group(&args)? {
            return Ok(value);
        }
    }
    Err(Stop::text(format!("function {name:?} not defined")))
}

fn of_caddy(run: &mut Run<'_>, args: &Args<'_>) -> Res<Option<Val>> {
    Ok(Some(match args.name {
        "placeholder" | "ph" => {
            let key = args.text(0)?;
            if key.starts_with("file.") {
                return Ok(Some(Val::str("")));
            }
            let found = Placeholder::parse(&key);
            let found = found.value(run.ex).map(|value| value.text().into_owned());
            Val::str(&found.unwrap_or_default())
        }
        "env" => Val::str(&std::env::var(args.text(0)?).unwrap_or_default()),
        "httpError" => {
            let code =
                u16::try_from(args.int(0)?).ok().and_then(|code| StatusCode::from_u16(code).ok());
            return Err(Stop::Status(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)));
        }
        "stripHTML" => Val::str(&strip_html(&args.text(0)?)),
        "pathEscape" => Val::str(&path_escape(&args.text(0)?)),
        "humanize" => Val::str(&humanize(&args.text(0)?, &args.text(1)?)?),
        "splitFrontMatter" => super::front_matter::split(&args.text(0)?)?,
        "maybe" => {
            let name = args.text(0)?;
            match call(run, &name, &args.values[1..]) {
                Err(Stop::Text(text)) if text.ends_with("not defined") => Val::str(""),
                other => other?,
            }
        }
        _ => return Ok(None),
    }))
}

fn of_files(run: &mut Run<'_>, args: &Args<'_>) -> Res<Option<Val>> {
    Ok(Some(match args.name {
        "include" => {
            let text = run.read(&args.text(0)?)?.to_owned();
            let printed = run.text(&text, args.values[1..].to_vec())?;
            Val::str(&printed)
        }
        "import" => {
            let text = run.read(&args.text(0)?)?.to_owned();
            run.import(&text)?;
            Val::str("")
        }
        "readFile" => Val::str(run.read(&args.text(0)?)?),
        "fileExists" => match run.file(Need::Stat(args.text(0)?))? {
            Loaded::Stat(found) => Val::Bool(found.is_ok()),
            _ => Val::Bool(false),
        },
        "fileStat" => match run.file(Need::Stat(args.text(0)?))? {
            Loaded::Stat(Ok(stat)) => Val::Object(Object::File(stat.clone().into())),
            Loaded::Stat(Err(error)) => return Err(Stop::text(error.clone())),
            _ => Val::Nil,
        },
        "listFiles" => match run.file(Need::List(args.text(0)?))? {
            Loaded::Names(Ok(names)) => Val::strings(names.iter().map(String::as_str)),
            Loaded::Names(Err(error)) => return Err(Stop::text(error.clone())),
            _ => Val::Nil,
        },
        _ => return Ok(None),
    }))
}

fn of_go(args: &Args<'_>) -> Res<Option<Val>> {
    use std::cmp::Ordering::{Greater, Less};
    let order = || {
        let (one, two) = (args.get(0)?, args.get(1)?);
        one.compare(two).ok_or_else(|| Stop::text("incompatible types for comparison"))
    };
    Ok(Some(match args.name {
        "len" => Val::Int(match args.get(0)? {
            Val::Str(text) => text.len(),
            Val::List(items) => items.len(),
            Val::Map(items) => items.borrow().len(),
            other => return Err(Stop::text(format!("len of type {}", other.kind()))),
        } as i64),
        "index" => {
            let mut value = args.get(0)?.clone();
            for key in &args.values[1..] {
                value = index(&value, key)?;
            }
            value
        }
        "slice" => {
            let start = args.size(1)?;
            match args.get(0)? {
                Val::List(items) => {
                    let end = args.size(2).unwrap_or(items.len());
                    let part =
                        items.get(start..end).ok_or_else(|| Stop::text("index out of range"))?;
                    Val::list(part.to_vec())
                }
                other => {
                    let text = other.shown();
                    let end = args.size(2).unwrap_or(text.len());
                    Val::str(text.get(start..end).ok_or_else(|| Stop::text("index out of range"))?)
                }
            }
        }
        "not" => Val::Bool(!args.get(0)?.truth()),
        "eq" => {
            let first = args.get(0)?;
            args.get(1)?;
            Val::Bool(args.values[1..].iter().any(|other| first.equals(other)))
        }
        "ne" => Val::Bool(!args.get(0)?.equals(args.get(1)?)),
        "lt" => Val::Bool(order()? == Less),
        "le" => Val::Bool(order()? != Greater),
        "gt" => Val::Bool(order()? == Greater),
        "ge" => Val::Bool(order()? != Less),
        "print" => Val::str(&args.values.iter().map(Val::shown).collect::<String>()),
        "println" => Val::str(&format!("{}\n", joined(args.values, " "))),
        "printf" => Val::str(&format(&args.text(0)?, &args.values[1..])),
        "html" => Val::str(&html(&joined(args.values, ""))),
        "urlquery" => Val::str(&caddis_core::target::encode_query(&joined(args.values, ""))),
        "js" => Val::str(&js(&joined(args.values, ""))),
        _ => return Ok(None),
    }))
}

fn index(value: &Val, key: &Val) -> Res {
    match value {
        Val::List(items) => {
            let found = usize::try_from(key.int()).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| Stop::text(format!("index out of range: {}", key.shown())))
        }
        Val::Map(items) => Ok(items.borrow().get(&key.shown()).cloned().unwrap_or(Val::Nil)),
        Val::Str(text) => {
            let found = usize::try_from(key.int()).ok().and_then(|at| text.as_bytes().get(at));
            found
                .map(|byte| Val::Int(i64::from(*byte)))
                .ok_or_else(|| Stop::text(format!("index out of range: {}", key.shown())))
        }
        other => Err(Stop::text(format!("can't index item of type {}", other.kind()))),
    }
}

fn joined(values: &[Val], between: &str) -> String {
    values.iter().map(Val::shown).collect::<Vec<_>>().join(between)
}
