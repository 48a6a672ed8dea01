//! Functions on texts.

use super::{Args, LARGEST, Res, joined};
use crate::handlers::templates::{eval::Stop, value::Val};

pub(super) fn of_texts(args: &Args<'_>) -> Res<Option<Val>> {
    // The text is the last argument of most.
    let last = args.values.len().saturating_sub(1);
    let text = || args.text(last);
    let first = || args.text(0);
    Ok(Some(Val::str(&match args.name {
        "upper" => text()?.to_uppercase(),
        "lower" => text()?.to_lowercase(),
        "title" => by_words(&text()?, char::to_uppercase),
        "untitle" => by_words(&text()?, char::to_lowercase),
        "trim" => text()?.trim().to_owned(),
        "trimAll" => text()?.trim_matches(|c| first().is_ok_and(|set| set.contains(c))).to_owned(),
        "trimPrefix" => text()?.strip_prefix(&*first()?).map_or(text()?, str::to_owned),
        "trimSuffix" => text()?.strip_suffix(&*first()?).map_or(text()?, str::to_owned),
        "replace" => {
            let (from, to, text) = (first()?, args.text(1)?, args.text(2)?);
            if text.len().saturating_mul(to.len().max(1)) > LARGEST {
                return Err(Stop::text("replace: too large"));
            }
            text.replace(&from, &to)
        }
        "repeat" => {
            let (count, text) = (args.size(0)?, args.text(1)?);
            if count.saturating_mul(text.len()) > LARGEST {
                return Err(Stop::text("repeat: too large"));
            }
            text.repeat(count)
        }
        "substr" => {
            let text: Vec<char> = args.text(2)?.chars().collect();
            let end = usize::try_from(args.int(1)?).unwrap_or(text.len()).min(text.len());
            text[args.size(0)?.min(end)..end].iter().collect()
        }
        "trunc" => {
            let text: Vec<char> = text()?.chars().collect();
            let count = args.int(0)?;
            let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX).min(text.len());
            let part = if count < 0 { &text[text.len() - size..] } else { &text[..size] };
            part.iter().collect()
        }
        "abbrev" => {
            let (width, text): (usize, Vec<char>) =
                (args.size(0)?, args.text(1)?.chars().collect());
            match width < 4 || text.len() <= width {
                true => text.into_iter().collect(),
                false => text[..width - 3].iter().collect::<String>() + "...",
            }
        }
        "nospace" => text()?.chars().filter(|c| !c.is_whitespace()).collect(),
        "initials" => text()?.split_whitespace().filter_map(|word| word.chars().next()).collect(),
        "swapcase" => text()?.chars().map(swap_case).collect(),
        "quote" => {
            args.values.iter().map(|v| format!("{:?}", v.shown())).collect::<Vec<_>>().join(" ")
        }
        "squote" => {
            args.values.iter().map(|v| format!("'{}'", v.shown())).collect::<Vec<_>>().join(" ")
        }
        "cat" => joined(args.values, " "),
        "indent" => indent(args.size(0)?.min(1000), &args.text(1)?),
        "nindent" => format!("\n{}", indent(args.size(0)?.min(1000), &args.text(1)?)),
        "plural" => {
            if args.int(2)? == 1 {
                first()?
            } else {
                args.text(1)?
            }
        }
        "snakecase" => words(&text()?).join("_"),
        "kebabcase" => words(&text()?).join("-"),
        "camelcase" => {
            words(&text()?).iter().map(|word| by_words(word, char::to_uppercase)).collect()
        }
        "join" => {
            let items = args.list(1).unwrap_or_else(|_| args.values[1..].to_vec());
            joined(&items, &first()?)
        }
        "toString" => text()?,
        "contains" => return Ok(Some(Val::Bool(text()?.contains(&*first()?)))),
        "hasPrefix" => return Ok(Some(Val::Bool(text()?.starts_with(&*first()?)))),
        "hasSuffix" => return Ok(Some(Val::Bool(text()?.ends_with(&*first()?)))),
        "splitList" => {
            let (by, text) = (first()?, text()?);
            return Ok(Some(Val::strings(text.split(&*by))));
        }
        "regexMatch" => return Ok(Some(Val::Bool(regex(&first()?)?.is_match(&args.text(1)?)))),
        "regexFind" => {
            let text = args.text(1)?;
            regex(&first()?)?.find(&text).map_or(String::new(), |found| found.as_str().to_owned())
        }
        "regexFindAll" => {
            let (text, most) = (args.text(1)?, usize::try_from(args.int(2)?).unwrap_or(usize::MAX));
            let pattern = regex(&first()?)?;
            return Ok(Some(Val::strings(
                pattern.find_iter(&text).take(most).map(|found| found.as_str()),
            )));
        }
        "regexReplaceAll" => {
            regex(&first()?)?.replace_all(&args.text(1)?, &*args.text(2)?).into_owned()
        }
        "regexReplaceAllLiteral" => {
            let with = args.text(2)?;
            regex(&first()?)?.replace_all(&args.text(1)?, regex::NoExpand(&with)).into_owned()
        }
        "regexQuoteMeta" => regex::escape(&first()?),
        "fail" => return Err(Stop::text(first()?)),
        _ => return Ok(None),
    })))
}

fn regex(pattern: &str) -> Res<regex::Regex> {
    let builder = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    builder.map_err(|error| Stop::text(error.to_string()))
}

fn by_words<I: Iterator<Item = char>>(text: &str, change: fn(char) -> I) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            out.extend(change(c));
        } else {
            out.push(c);
        }
        start = c.is_whitespace();
    }
    out
}

fn swap_case(c: char) -> char {
    let mut other =
        if c.is_uppercase() { c.to_lowercase().next() } else { c.to_uppercase().next() };
    other.take().unwrap_or(c)
}

fn indent(count: usize, text: &str) -> String {
    let pad = " ".repeat(count);
    text.split('\n').map(|line| format!("{pad}{line}")).collect::<Vec<_>>().join("\n")
}

/// The words of a name in any case, lower case.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() {
            lower = false;
            words.push(String::new());
            continue;
        }
        if words.is_empty() || (c.is_uppercase() && lower) {
            words.push(String::new());
        }
        lower = c.is_lowercase() || c.is_numeric();
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
