//! Escapes and formats: Go's `printf`, HTML, JavaScript, sizes.

use super::Res;
use crate::handlers::templates::{eval::Stop, value::Val};

pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\u000A"),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c => out.push(c),
        }
    }
    out
}

/// Takes tags off.
pub(super) fn strip_html(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        out.push_str(before);
        match tag.split_once('>') {
            Some((_, after)) => rest = after,
            None => {
                out.push('<');
                rest = tag;
                break;
            }
        }
    }
    out + rest
}

pub(super) fn path_escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'$'
            | b'&'
            | b'+'
            | b':'
            | b'='
            | b'@' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

pub(super) fn humanize(what: &str, text: &str) -> Res<String> {
    if what != "size" {
        return Err(Stop::text(format!("no know function was given: {what}")));
    }
    let bytes: u64 =
        text.parse().map_err(|_| Stop::text(format!("humanize: {text} is no size")))?;
    if bytes < 10 {
        return Ok(format!("{bytes} B"));
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < 6 {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let digits = usize::from(value < 10.0);
    Ok(format!("{value:.digits$} {}", ["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit]))
}

/// Go's `Sprintf`, for the verbs that templates use.
pub(super) fn format(pattern: &str, values: &[Val]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let end = after.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+' | '#' | ' '));
        let Some(end) = end else {
            out.push_str("%!(NOVERB)");
            return out;
        };
        let (flags, verb) = after.split_at(end);
        let verb_len = verb.chars().next().map_or(0, char::len_utf8);
        rest = &verb[verb_len..];
        if verb.starts_with('%') {
            out.push('%');
            continue;
        }
        match values.next() {
            Some(value) => out.push_str(&one(flags, &verb[..verb_len], value)),
            None => {
                out.push_str("%!");
                out.push_str(&verb[..verb_len]);
                out.push_str("(MISSING)");
            }
        }
    }
    out + rest
}

fn one(flags: &str, verb: &str, value: &Val) -> String {
    let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
    let left = width.contains('-');
    let width = width.trim_start_matches(['-', '+', '#', ' ']);
    let zero = width.starts_with('0') && !left;
    let width = width.parse::<usize>().unwrap_or(0).min(1000);
    let text = match (verb, value) {
        ("q", value) => format!("{:?}", value.shown()),
        ("x", Val::Int(number)) => format!("{number:x}"),
        ("x", value) => value.shown().bytes().map(|byte| format!("{byte:02x}")).collect(),
        ("f", value) => {
            let digits = precision.parse::<usize>().unwrap_or(6).min(100);
            format!("{:.digits$}", value.float())
        }
        (_, value) => value.shown(),
    };
    let missing = width.saturating_sub(text.chars().count());
    match (left, zero) {
        (true, _) => text + &" ".repeat(missing),
        (_, true) => match text.strip_prefix('-') {
            Some(digits) => format!("-{}{digits}", "0".repeat(missing)),
            None => "0".repeat(missing) + &text,
        },
        _ => " ".repeat(missing) + &text,
    }
}
