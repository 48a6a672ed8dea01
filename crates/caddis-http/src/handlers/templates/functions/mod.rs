//! Functions of templates: Go's own, Caddy's, and sprig's.

mod codings;
mod crypto;
mod lists;
mod maps;
mod numbers;
mod printf;
mod printing;
mod semver;
mod signatures;
mod texts;
mod times;

use std::collections::BTreeMap;

use caddis_core::placeholder::Placeholder;
use http::StatusCode;

use self::{
    codings::of_codings,
    crypto::of_crypto,
    lists::of_lists,
    maps::of_maps,
    numbers::of_numbers,
    printf::{format, sprint},
    printing::{humanize, js, path_escape, strip_html},
    semver::of_versions,
    texts::of_texts,
    times::of_times,
};
pub(super) use self::{
    printing::html,
    semver::Version,
    signatures::is_known,
    times::{date, duration, duration_method, time_method},
};
use super::{
    eval::{Res, Run, Stop},
    needs::{Loaded, Need},
    value::{Object, Val},
};

/// Texts that functions make are no longer than this, in bytes.
const LARGEST: usize = 1 << 24;
/// Lists that functions make have no more items than this.
const MOST: usize = 1 << 20;

/// Arguments of one call, checked against what the function takes.
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

    /// All but the first.
    fn rest(&self) -> &[Val] {
        self.values.get(1..).unwrap_or_default()
    }

    fn text(&self, at: usize) -> Res<String> {
        Ok(self.get(at)?.shown())
    }

    fn int(&self, at: usize) -> Res<i64> {
        Ok(self.get(at)?.int())
    }

    fn size(&self, at: usize) -> Res<usize> {
        let number = usize::try_from(self.int(at)?.max(0)).unwrap_or(usize::MAX);
        if number > LARGEST { Err(self.too_large()) } else { Ok(number) }
    }

    /// Whether a text of so many bytes may be made.
    fn fits(&self, bytes: usize) -> Res<()> {
        if bytes > LARGEST { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Stop {
        Stop::text(format!("error calling {}: too large", self.name))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Stop {
        Stop::text(format!("error calling {}: {why}", self.name))
    }

    fn float(&self, at: usize) -> Res<f64> {
        Ok(self.get(at)?.float())
    }

    fn list(&self, at: usize) -> Res<Vec<Val>> {
        match self.get(at)? {
            Val::List(items) => Ok(items.to_vec()),
            other => {
                Err(self.failed(format_args!("cannot find {} on type {}", self.name, other.kind())))
            }
        }
    }

    /// A list of texts, unless they are too many.
    fn parts<'t>(&self, parts: impl Iterator<Item = &'t str>) -> Res<Vec<&'t str>> {
        let found: Vec<_> = parts.take(MOST + 1).collect();
        if found.len() > MOST { Err(self.too_large()) } else { Ok(found) }
    }

    /// The texts of a list; of anything else, its own. Nothing in it is left out.
    fn texts(&self, value: &Val) -> Res<Vec<String>> {
        let items = match value {
            Val::List(items) => items.as_slice(),
            other => std::slice::from_ref(other),
        };
        let mut size = 0usize;
        let mut found = Vec::new();
        for item in items.iter().filter(|item| !matches!(item, Val::Nil)) {
            let text = item.shown();
            size = size.saturating_add(text.len());
            self.fits(size)?;
            found.push(text);
        }
        Ok(found)
    }

    fn map(&self, at: usize) -> Res<std::rc::Rc<std::cell::RefCell<BTreeMap<String, Val>>>> {
        match self.get(at)? {
            Val::Map(items) => Ok(items.clone()),
            other => Err(self.failed(format_args!("no dictionary: {}", other.kind()))),
        }
    }
}

/// Calls a function by its name.
pub(super) fn call(run: &mut Run<'_>, name: &str, values: &[Val]) -> Res {
    signatures::check(name, values)?;
    run.charge(values, name)?;
    if let ("set" | "merge" | "mergeOverwrite" | "mustMerge" | "mustMergeOverwrite", [into, ..]) =
        (name, values)
    {
        run.will_change(into);
    }
    let value = run_function(run, name, values)?;
    run.charge(std::slice::from_ref(&value), "")?;
    Ok(value)
}

fn run_function(run: &mut Run<'_>, name: &str, values: &[Val]) -> Res {
    let args = Args { name, values };
    for group in [of_caddy, of_files] {
        if let Some(value) = group(run, &args)? {
            return Ok(value);
        }
    }
    let groups = [
        of_go,
        of_texts,
        of_lists,
        of_maps,
        of_numbers,
        of_codings,
        of_crypto,
        of_times,
        of_versions,
    ];
    for group in groups {
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
        "expandenv" => Val::str(&expand_env(&args.text(0)?)),
        "httpError" => {
            let code =
                u16::try_from(args.int(0)?).ok().and_then(|code| StatusCode::from_u16(code).ok());
            return Err(Stop::Status(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)));
        }
        "stripHTML" => Val::str(&strip_html(&args.text(0)?)),
        "pathEscape" => Val::str(&path_escape(&args.text(0)?)),
        "humanize" => Val::str(&humanize(&args.text(0)?, &args.text(1)?)?),
        "markdown" => Val::str(&super::markdown::render(&plain(args.get(0)?)).map_err(Stop::text)?),
        "splitFrontMatter" => super::front_matter::split(&plain(args.get(0)?))?,
        // Functions of plugins; none is compiled in.
        "maybe" => {
            let name = args.text(0)?;
            tracing::warn!(
                target: "http.handlers.templates.maybe",
                name,
                "template function could not be found; ignoring invocation"
            );
            Val::str("")
        }
        "call" => return Err(args.failed("non-function")),
        _ => return Ok(None),
    }))
}

/// As text, nothing where it is nothing.
fn plain(value: &Val) -> String {
    match value {
        Val::Nil => String::new(),
        other => other.shown(),
    }
}

/// `$NAME` and `${NAME}` replaced.
fn expand_env(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, next) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(found) => found,
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
            }
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&std::env::var(name).unwrap_or_default());
        }
        rest = next;
    }
    out + rest
}

fn of_files(run: &mut Run<'_>, args: &Args<'_>) -> Res<Option<Val>> {
    Ok(Some(match args.name {
        "include" => {
            let text = run.read(&args.text(0)?)?.to_owned();
            let printed = run.text(&args.text(0)?, &text, args.rest().to_vec())?;
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
        "httpInclude" => {
            let uri = args.text(0)?;
            let text = match run.file(Need::Http(uri.clone()))? {
                Loaded::Text(Ok(text)) => text.as_str(),
                Loaded::Text(Err(error)) => return Err(args.failed(error)),
                _ => "",
            };
            let printed = run.text(&uri, text, run.given())?;
            Val::str(&printed)
        }
        "getHostByName" => match run.file(Need::Host(args.text(0)?))? {
            Loaded::Text(Ok(address)) => Val::str(address),
            _ => Val::str(""),
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
        one.compare(two).ok_or_else(|| args.failed("incompatible types for comparison"))
    };
    Ok(Some(match args.name {
        "len" => Val::Int(match args.get(0)? {
            Val::Str(text) => text.len(),
            Val::List(items) => items.len(),
            Val::Map(items) => items.borrow().len(),
            Val::Nil => return Err(args.failed("len of nil pointer")),
            other => return Err(args.failed(format_args!("len of type {}", other.type_name()))),
        } as i64),
        "index" => {
            let mut value = args.get(0)?.clone();
            for key in args.rest() {
                value = index(args, &value, key)?;
            }
            value
        }
        "not" => Val::Bool(!args.get(0)?.truth()),
        "eq" => {
            let first = args.get(0)?;
            args.get(1).map_err(|_| args.failed("missing argument for comparison"))?;
            let mut found = false;
            for other in args.rest() {
                found = equal(args, first, other)?;
                if found {
                    break;
                }
            }
            Val::Bool(found)
        }
        "ne" => Val::Bool(!equal(args, args.get(0)?, args.get(1)?)?),
        "lt" => Val::Bool(order()? == Less),
        "le" => Val::Bool(order()? != Greater),
        "gt" => Val::Bool(order()? == Greater),
        "ge" => Val::Bool(order()? != Less),
        "print" => Val::str(&sprint(args.values)),
        "println" => Val::str(&format!("{}\n", joined(args.values, " "))),
        "printf" => Val::str(&format(&args.text(0)?, args.rest())),
        "html" => Val::str(&html(&sprint(args.values))),
        "urlquery" => Val::str(&caddis_core::target::encode_query(&sprint(args.values))),
        "js" => Val::str(&js(&sprint(args.values))),
        _ => return Ok(None),
    }))
}

/// Go's `eq`: what is of other kinds cannot be compared.
fn equal(args: &Args<'_>, one: &Val, two: &Val) -> Res<bool> {
    let group = |value: &Val| match value {
        Val::Bool(_) => 1,
        Val::Float(_) => 2,
        Val::Str(_) => 3,
        Val::List(_) | Val::Map(_) => 4,
        Val::Time(_) => 5,
        Val::Object(_) => 6,
        Val::Nil => 0,
        _ => 7,
    };
    match (group(one), group(two)) {
        (0, other) | (other, 0) => Ok(other == 0),
        (4, _) | (_, 4) => Err(args.failed(format_args!(
            "non-comparable type {}: {}",
            one.shown(),
            one.type_name()
        ))),
        (one_group, two_group) if one_group != two_group => {
            Err(args.failed("incompatible types for comparison"))
        }
        (7, _) => Ok(one.int() == two.int()),
        _ => Ok(one.equals(two)),
    }
}

fn index(args: &Args<'_>, value: &Val, key: &Val) -> Res {
    let place = |length: usize| {
        let Some(at) = key.whole() else {
            return Err(
                args.failed(format_args!("cannot index slice/array with type {}", key.type_name()))
            );
        };
        let found = usize::try_from(at).ok().filter(|at| *at < length);
        found.ok_or_else(|| args.failed(format_args!("index out of range: {at}")))
    };
    match value {
        Val::List(items) => Ok(items.get(place(items.len())?).cloned().unwrap_or(Val::Nil)),
        Val::Map(items) => match key {
            Val::Str(key) => Ok(items.borrow().get(&**key).cloned().unwrap_or(Val::Nil)),
            other => {
                Err(args
                    .failed(format_args!("value has type {}; should be string", other.type_name())))
            }
        },
        Val::Str(text) => {
            let byte = text.as_bytes().get(place(text.len())?).copied();
            Ok(Val::Byte(byte.unwrap_or_default()))
        }
        Val::Nil => Err(args.failed("index of untyped nil")),
        other => Err(args.failed(format_args!("can't index item of type {}", other.type_name()))),
    }
}

fn joined(values: &[Val], between: &str) -> String {
    values.iter().map(Val::shown).collect::<Vec<_>>().join(between)
}
