//! Functions on texts. Lengths and places count bytes where sprig counts bytes; where one would be
//! inside of a character, the character is left out.

use std::collections::{BTreeMap, HashSet};

use super::{Args, Res, printf::quoted};
use crate::handlers::templates::value::Val;

pub(super) fn of_texts(args: &Args<'_>) -> Res<Option<Val>> {
    let first = || args.text(0);
    let second = || args.text(1);
    Ok(Some(Val::str(&match args.name {
        "hello" => "Hello!".to_owned(),
        "upper" => first()?.to_uppercase(),
        "lower" => first()?.to_lowercase(),
        "title" => title(&first()?),
        "untitle" => untitle(&first()?),
        "trim" => first()?.trim().to_owned(),
        "trimAll" | "trimall" => {
            let set: HashSet<char> = first()?.chars().collect();
            second()?.trim_matches(|c| set.contains(&c)).to_owned()
        }
        "trimPrefix" => second()?.strip_prefix(&*first()?).map_or(second()?, str::to_owned),
        "trimSuffix" => second()?.strip_suffix(&*first()?).map_or(second()?, str::to_owned),
        "replace" => {
            let (from, to, text) = (first()?, second()?, args.text(2)?);
            args.fits(text.len().saturating_add(1).saturating_mul(to.len().max(1)))?;
            text.replace(&from, &to)
        }
        "repeat" => {
            let (count, text) = (args.size(0)?, second()?);
            if args.int(0)? < 0 {
                return Err(args.failed("strings: negative Repeat count"));
            }
            args.fits(count.saturating_mul(text.len()))?;
            text.repeat(count)
        }
        "substr" => {
            let (start, end, text) = (args.int(0)?, args.int(1)?, args.text(2)?);
            let length = text.len() as i64;
            let end = if end < 0 || end > length { length } else { end };
            let start = start.max(0);
            if start > end {
                return Err(args.failed("slice bounds out of range"));
            }
            part(&text, start, end)
        }
        "trunc" => {
            let (count, text) = (args.int(0)?, second()?);
            let length = text.len() as i64;
            match count {
                count if count < 0 && length + count > 0 => part(&text, length + count, length),
                count if count >= 0 && length > count => part(&text, 0, count),
                _ => text,
            }
        }
        "abbrev" => abbreviate(args, &second()?, 0, args.int(0)?)?,
        "abbrevboth" => abbreviate(args, &args.text(2)?, args.int(0)?, args.int(1)?)?,
        "nospace" => first()?.chars().filter(|c| !c.is_whitespace()).collect(),
        "initials" => first()?.split_whitespace().filter_map(|word| word.chars().next()).collect(),
        "swapcase" => swap_case(&first()?),
        "shuffle" => {
            let mut chars: Vec<char> = first()?.chars().collect();
            fastrand::shuffle(&mut chars);
            chars.into_iter().collect()
        }
        "quote" => each(args.values, |value| quoted(&value.shown())),
        "squote" => each(args.values, |value| format!("'{}'", value.shown())),
        "cat" => each(args.values, Val::shown),
        "indent" => indent(args, &second()?)?,
        "nindent" => format!("\n{}", indent(args, &second()?)?),
        "plural" => {
            if args.int(2)? == 1 {
                first()?
            } else {
                second()?
            }
        }
        "snakecase" => words(&first()?, '_'),
        "kebabcase" => words(&first()?, '-'),
        "camelcase" => camel_case(&first()?),
        "wrap" => wrap(args, &second()?, "\n", false)?,
        "wrapWith" => wrap(args, &args.text(2)?, &second()?, true)?,
        "join" => {
            let (texts, between) = (args.texts(args.get(1)?)?, first()?);
            args.fits(texts.len().saturating_mul(between.len()))?;
            texts.join(&between)
        }
        "toString" => args.get(0)?.shown(),
        "contains" => return Ok(Some(Val::Bool(second()?.contains(&*first()?)))),
        "hasPrefix" => return Ok(Some(Val::Bool(second()?.starts_with(&*first()?)))),
        "hasSuffix" => return Ok(Some(Val::Bool(second()?.ends_with(&*first()?)))),
        "splitList" => return Ok(Some(Val::strings(split(args, &first()?, &second()?, None)?))),
        "split" => return Ok(Some(numbered(split(args, &first()?, &second()?, None)?))),
        "splitn" => {
            let count = args.int(1)?;
            let most = (count >= 0).then(|| usize::try_from(count).unwrap_or(0));
            return Ok(Some(numbered(split(args, &first()?, &args.text(2)?, most)?)));
        }
        "regexMatch" => {
            // What is no expression matches nothing.
            let text = second()?;
            let found = regex(args).is_ok_and(|regex| regex.is_match(&text));
            return Ok(Some(Val::Bool(found)));
        }
        "mustRegexMatch" => {
            return Ok(Some(Val::Bool(regex(args)?.is_match(&second()?))));
        }
        "regexFind" | "mustRegexFind" => {
            let text = second()?;
            regex(args)?.find(&text).map_or(String::new(), |found| found.as_str().to_owned())
        }
        "regexFindAll" | "mustRegexFindAll" => {
            let (text, most) = (second()?, usize::try_from(args.int(2)?).unwrap_or(usize::MAX));
            let pattern = regex(args)?;
            let found = pattern.find_iter(&text).take(most).map(|found| found.as_str());
            return Ok(Some(Val::strings(args.parts(found)?)));
        }
        "regexReplaceAll" | "mustRegexReplaceAll" => {
            let with = args.text(2)?;
            replace_all(args, |found, out| found.expand(&with, out))?
        }
        "regexReplaceAllLiteral" | "mustRegexReplaceAllLiteral" => {
            let with = args.text(2)?;
            replace_all(args, |_, out| out.push_str(&with))?
        }
        "regexSplit" | "mustRegexSplit" => {
            let text = second()?;
            return regex_split(args, &text, args.int(2)?).map(Some);
        }
        "regexQuoteMeta" => {
            let text = first()?;
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if "\\.+*?()|[]{}^$".contains(c) {
                    out.push('\\');
                }
                out.push(c);
            }
            out
        }
        "fail" => return Err(args.failed(first()?)),
        _ => return Ok(None),
    })))
}

/// Replaces what matches, unless the text gets too long by it.
fn replace_all(args: &Args<'_>, with: impl Fn(&regex::Captures<'_>, &mut String)) -> Res<String> {
    let (pattern, text) = (regex(args)?, args.text(1)?);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for found in pattern.captures_iter(&text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[done..whole.start()]);
        with(&found, &mut out);
        done = whole.end();
        args.fits(out.len())?;
    }
    out.push_str(&text[done..]);
    args.fits(out.len())?;
    Ok(out)
}

fn each(values: &[Val], show: impl Fn(&Val) -> String) -> String {
    let shown = values.iter().filter(|value| !matches!(value, Val::Nil)).map(show);
    shown.collect::<Vec<_>>().join(" ")
}

fn split<'t>(args: &Args<'_>, by: &str, text: &'t str, most: Option<usize>) -> Res<Vec<&'t str>> {
    match (by.is_empty(), most) {
        (_, Some(0)) => Ok(Vec::new()),
        (true, most) => {
            // Each character; the last part is what is left.
            let singles = most.map_or(usize::MAX, |most| most - 1);
            let starts = text.char_indices().map(|(at, _)| at);
            let starts = starts.enumerate().take_while(|(count, _)| *count <= singles);
            let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
            args.parts(starts.zip(ends).map(|((count, start), end)| {
                if count == singles { &text[start..] } else { &text[start..end] }
            }))
        }
        (false, Some(most)) => args.parts(text.splitn(most, by)),
        (false, None) => args.parts(text.split(by)),
    }
}

/// A dictionary `_0`, `_1`, ….
fn numbered(parts: Vec<&str>) -> Val {
    let pairs = parts.into_iter().enumerate();
    Val::map(pairs.map(|(at, part)| (format!("_{at}"), Val::str(part))).collect::<BTreeMap<_, _>>())
}

fn regex(args: &Args<'_>) -> Res<regex::Regex> {
    crate::regexp::compile(&args.text(0)?).map_err(|error| args.failed(error))
}

/// Go's `Regexp.Split`.
fn regex_split(args: &Args<'_>, text: &str, count: i64) -> Res {
    let pattern = regex(args)?;
    if count == 0 {
        return Ok(Val::list(Vec::new()));
    }
    if !args.text(0)?.is_empty() && text.is_empty() {
        return Ok(Val::strings([""]));
    }
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for found in pattern.find_iter(text).take(most) {
        if parts.len() + 1 == most {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(&text[begin..end]);
        }
        begin = found.end();
    }
    if end != text.len() {
        parts.push(&text[begin..]);
    }
    Ok(Val::strings(args.parts(parts.into_iter())?))
}

fn part(text: &str, start: i64, end: i64) -> String {
    let at = |place: i64| usize::try_from(place).unwrap_or(0).min(text.len());
    let bytes = text.as_bytes().get(at(start)..at(end)).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// Capital letters at the beginnings of words, as Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut last = ' ';
    for c in text.chars() {
        let starts = match last {
            '_' => false,
            last if last.is_ascii() => !last.is_ascii_alphanumeric(),
            last => !last.is_alphanumeric() && last.is_whitespace(),
        };
        if starts {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        last = c;
    }
    out
}

fn untitle(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
        start = c.is_whitespace();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

/// Cuts in the middle or at the end, with `...` in the place.
fn abbreviate(args: &Args<'_>, text: &str, left: i64, right: i64) -> Res<String> {
    let both = args.name == "abbrevboth";
    if right < 4 || (both && left > 0 && right < 7) {
        return Ok(text.to_owned());
    }
    let length = text.len() as i64;
    if length <= right {
        return Ok(text.to_owned());
    }
    let offset = left.clamp(0, length);
    let offset = if length - offset < right - 3 { length - (right - 3) } else { offset };
    if offset <= 4 {
        return Ok(part(text, 0, right - 3) + "...");
    }
    if right < 7 {
        return Err(args.failed("Minimum abbreviation width with offset is 7"));
    }
    if offset + right - 3 < length {
        let rest = part(text, offset, length);
        let end = part(&rest, 0, right - 6);
        return Ok(format!("...{end}..."));
    }
    Ok(format!("...{}", part(text, length - (right - 3), length)))
}

fn indent(args: &Args<'_>, text: &str) -> Res<String> {
    if args.int(0)? < 0 {
        return Err(args.failed("strings: negative Repeat count"));
    }
    let count = args.size(0)?;
    let lines = text.split('\n').count();
    args.fits(lines.saturating_mul(count).saturating_add(text.len()))?;
    let pad = " ".repeat(count);
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

/// Wraps at words.
fn wrap(args: &Args<'_>, text: &str, newline: &str, cut_long: bool) -> Res<String> {
    let width = usize::try_from(args.int(0)?.max(1)).unwrap_or(usize::MAX);
    let newline = if newline.is_empty() { "\n" } else { newline };
    let chars: Vec<char> = text.chars().collect();
    let length = chars.len();
    let mut out = String::new();
    let mut offset = 0;
    let take = |from: usize, to: usize| chars[from.min(length)..to.min(length)].iter();
    while length - offset > width {
        args.fits(out.len())?;
        if chars[offset] == ' ' {
            offset += 1;
            continue;
        }
        let end = offset.saturating_add(width).saturating_add(1).min(length);
        let space = (offset..end).rev().find(|at| chars[*at] == ' ');
        if let Some(space) = space {
            out.extend(take(offset, space));
            out.push_str(newline);
            offset = space + 1;
        } else if cut_long {
            out.extend(take(offset, offset + width));
            out.push_str(newline);
            offset += width;
        } else {
            match (offset + width..length).find(|at| chars[*at] == ' ') {
                Some(space) => {
                    out.extend(take(offset, space));
                    out.push_str(newline);
                    offset = space + 1;
                }
                None => {
                    out.extend(take(offset, length));
                    offset = length;
                }
            }
        }
    }
    out.extend(take(offset, length));
    Ok(out)
}

/// The words of a name in any case, lower case, with a sign between them.
fn words(text: &str, between: char) -> String {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Upper,
        Lower,
        Digit,
        Sign,
        Other,
    }
    let kind = |c: char| match c {
        c if c.is_uppercase() => Kind::Upper,
        c if c.is_numeric() => Kind::Digit,
        '_' | '-' | ' ' => Kind::Sign,
        c if c.is_whitespace() => Kind::Sign,
        c if c.is_alphabetic() => Kind::Lower,
        _ => Kind::Other,
    };
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in chars.iter().copied().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).map(|c| kind(*c));
        let after = chars.get(at + 1).map(|c| kind(*c));
        match kind(c) {
            Kind::Sign => {
                out.push(between);
                continue;
            }
            Kind::Upper => {
                let starts = matches!(before, Some(Kind::Lower | Kind::Digit))
                    || (before == Some(Kind::Upper) && after == Some(Kind::Lower));
                if starts {
                    out.push(between);
                }
            }
            Kind::Digit => {
                if matches!(before, Some(Kind::Lower | Kind::Upper)) && starts_number(&chars, at) {
                    out.push(between);
                }
            }
            Kind::Lower | Kind::Other => {}
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Whether digits behind letters begin a word: those that a small letter follows do, unless digits
/// stand in front of the letters, too.
fn starts_number(chars: &[char], at: usize) -> bool {
    // A capital letter begins a word of its own.
    let before = chars[..at].iter().rev().find(|c| !c.is_lowercase());
    let after = chars[at..].iter().find(|c| !c.is_numeric());
    after.is_some_and(|c| c.is_lowercase()) && before.is_none_or(|c| !c.is_numeric())
}

/// Words begin with capital letters, without signs between them; signs around a name stay, and of
/// several between words all but one.
fn camel_case(text: &str) -> String {
    let is_sign = |c: char| matches!(c, '_' | '-') || c.is_whitespace();
    let mut out = String::with_capacity(text.len());
    let mut signs: Vec<char> = Vec::new();
    let mut first = true;
    // Whether all of the word so far is capital letters, of which the first alone stays one.
    let mut shouted = false;
    for c in text.chars() {
        if is_sign(c) {
            signs.push(c);
            continue;
        }
        let skipped = usize::from(!first);
        let starts = first || !signs.is_empty();
        out.extend(signs.drain(..).skip(skipped));
        first = false;
        shouted = (starts || shouted) && c.is_uppercase();
        if starts {
            out.extend(c.to_uppercase());
        } else if shouted {
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
    }
    out.extend(signs);
    out
}
