//! The library for strings; places are counted in characters.

use caddis_core::Result;

use super::count;
use crate::matchers::expression::{
    eval::{MAX_SIZE, bounded, error, no_overload},
    node::Val::{self, Int, List, Str},
};

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

pub(super) fn char_at(args: &[Val]) -> Result<Val> {
    let [Str(text), Int(at)] = args else { return Err(no_overload()) };
    let rest = &text[place(text, *at)?..];
    Ok(Str(rest.chars().next().map(String::from).unwrap_or_default()))
}

pub(super) fn index_of(args: &[Val]) -> Result<Val> {
    let (text, part, from) = match args {
        [Str(text), Str(part)] => (text, part, 0),
        [Str(text), Str(part), Int(from)] => (text, part, place(text, *from)?),
        _ => return Err(no_overload()),
    };
    Ok(char_number(text, text[from..].find(part.as_str()).map(|at| from + at)))
}

pub(super) fn last_index_of(args: &[Val]) -> Result<Val> {
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

pub(super) fn replace(args: &[Val]) -> Result<Val> {
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

pub(super) fn split(args: &[Val]) -> Result<Val> {
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

pub(super) fn substring(args: &[Val]) -> Result<Val> {
    let (text, start, end) = match args {
        [Str(text), Int(start)] => (text, place(text, *start)?, text.len()),
        [Str(text), Int(start), Int(end)] => (text, place(text, *start)?, place(text, *end)?),
        _ => return Err(no_overload()),
    };
    let part = text.get(start..end);
    part.map(|part| Str(part.to_owned())).ok_or_else(|| error("invalid substring range"))
}

pub(super) fn join(args: &[Val]) -> Result<Val> {
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

pub(super) fn quote(text: &str) -> String {
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
