//! `splitFrontMatter`: what stands before a text, between `---` (YAML), `+++` (TOML), or as a JSON
//! object. Of YAML and TOML the flat part is read: `key: value`, `key = value`, lists in brackets
//! and lists of `- item` lines.

use std::collections::BTreeMap;

use super::{
    eval::{Stop, map_of},
    value::Val,
};

/// `{Meta, Body}` of a text.
pub(super) fn split(text: &str) -> Result<Val, Stop> {
    let (meta, body) = parts(text)?;
    Ok(map_of([("Meta", meta), ("Body", Val::str(body))]))
}

fn parts(text: &str) -> Result<(Val, &str), Stop> {
    let none = || Ok((Val::map(BTreeMap::new()), text));
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (closing, by): (&[&str], char) = match line.trim_end() {
        "---" => (&["---", "..."], ':'),
        "+++" => (&["+++"], '='),
        "{" => return json(text),
        _ => return none(),
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if closing.contains(&line.trim_end()) {
            // The body begins with the end of that line, as Caddy has it.
            return Ok((Val::map(flat(&rest[..at], by)?), &rest[at + line.trim_end().len()..]));
        }
        at += line.len();
    }
    Err(Stop::text("unterminated front matter"))
}

fn json(text: &str) -> Result<(Val, &str), Stop> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    match stream.next() {
        Some(Ok(json)) => Ok((Val::from_json(&json), &text[stream.byte_offset()..])),
        _ => Err(Stop::text("invalid front matter")),
    }
}

fn flat(text: &str, by: char) -> Result<BTreeMap<String, Val>, Stop> {
    let mut found = BTreeMap::new();
    let mut last: Option<(String, Vec<Val>)> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let (Some(item), Some((_, items))) = (trimmed.strip_prefix("- "), &mut last) {
            items.push(scalar(item.trim()));
            continue;
        }
        if let Some((key, items)) = last.take() {
            found.insert(key, Val::list(items));
        }
        let Some((key, value)) = trimmed.split_once(by).filter(|_| !line.starts_with(' ')) else {
            return Err(Stop::text(format!("front matter: cannot read {trimmed:?}")));
        };
        let (key, value) = (unquoted(key.trim()).to_owned(), value.trim());
        if value.is_empty() {
            last = Some((key, Vec::new()));
        } else {
            found.insert(key, scalar(value));
        }
    }
    if let Some((key, items)) = last {
        found.insert(key, Val::list(items));
    }
    Ok(found)
}

fn scalar(text: &str) -> Val {
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let items = inside.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Val::list(items.map(plain).collect());
    }
    plain(text)
}

fn plain(text: &str) -> Val {
    let bare = unquoted(text);
    if bare.len() < text.len() {
        return Val::str(bare);
    }
    match text {
        "true" => Val::Bool(true),
        "false" => Val::Bool(false),
        "null" | "~" => Val::Nil,
        _ => match (text.parse(), text.parse()) {
            (Ok(number), _) => Val::Int(number),
            (_, Ok(number)) => Val::Float(number),
            _ => Val::str(text),
        },
    }
}

fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}
