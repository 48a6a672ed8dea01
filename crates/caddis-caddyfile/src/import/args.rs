//! `{args[0]}`, `{args[1:]}` and the old `{args.0}`.
//!
//! A slice must be a token of its own and becomes several tokens. An index that is out of range
//! leaves the placeholder as it is.

use smol_str::SmolStr;

use crate::diagnostic::Diagnostic;
use crate::parser::Reports;
use crate::token::Token;

/// The arguments that a token of the form `{args[a:b]}` stands for.
pub(super) fn slice<'a>(
    token: &Token,
    args: &'a [SmolStr],
    reports: &mut Reports,
) -> Option<&'a [SmolStr]> {
    let range = token.text.strip_prefix("{args[")?.strip_suffix("]}")?;
    if range.is_empty() {
        warn(reports, token, format!("Placeholder {} cannot have an empty index", token.text));
        return None;
    }
    let (start, end) = range.split_once(':')?;
    // Two placeholders with a colon between them.
    if start.contains('}') || end.contains('{') {
        return None;
    }
    let mut index = |text: &str, default: usize, which: &str| {
        if text.is_empty() {
            return Some(default as i64);
        }
        let parsed = text.parse::<i64>().ok();
        if parsed.is_none() {
            let text = &token.text;
            warn(
                reports,
                token,
                format!("Variadic placeholder {text} has an invalid {which} index"),
            );
        }
        parsed
    };
    let start = index(start, 0, "start")?;
    let end = index(end, args.len(), "end")?;
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let found = range.and_then(|(start, end)| args.get(start..end));
    if found.is_none() {
        let (text, count) = (&token.text, args.len());
        let message = format!(
            "Variadic placeholder {text} indices are out of bounds, only {count} argument(s) exist"
        );
        warn(reports, token, message);
    }
    found
}

/// Replaces the argument placeholders inside a token; none if nothing changes. A backslash before a
/// brace goes, as always when placeholders are replaced.
pub(super) fn replace(token: &Token, args: &[SmolStr], reports: &mut Reports) -> Option<String> {
    let text = token.text.as_str();
    if !text.contains("{args") && !text.contains("\\{") && !text.contains("\\}") {
        return None;
    }
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(brace) = text[at..].find(['{', '}']).map(|found| at + found) {
        at = brace + 1;
        if brace > 0 && bytes[brace - 1] == b'\\' {
            out.push_str(&text[copied..brace - 1]);
            copied = brace;
        } else if let Some((key, after)) = key(text, brace)
            && let Some(value) = value(key, token, args, reports)
        {
            out.push_str(&text[copied..brace]);
            out.push_str(value);
            copied = after;
            at = after;
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

/// The key of a placeholder for an argument that opens at `brace`, and where it ends. Longer keys
/// than any number are not looked at, which bounds the search.
fn key(text: &str, brace: usize) -> Option<(&str, usize)> {
    const LONGEST: usize = 64;
    let inside = text[brace..].strip_prefix('{')?;
    if !inside.starts_with("args.") && !inside.starts_with("args[") {
        return None;
    }
    let end = inside.bytes().take(LONGEST).position(|b| b == b'}')?;
    let key = &inside[..end];
    (!key.ends_with('\\')).then_some((key, brace + end + 2))
}

fn value<'a>(
    key: &str,
    token: &Token,
    args: &'a [SmolStr],
    reports: &mut Reports,
) -> Option<&'a str> {
    let old = key.strip_prefix("args.").filter(|index| !index.is_empty());
    let index = match old {
        Some(index) => index,
        None => key.strip_prefix("args[")?.strip_suffix(']').filter(|index| !index.is_empty())?,
    };
    if old.is_none() && index.contains(':') {
        warn(reports, token, format!("Variadic placeholder {{{key}}} must be a token on its own"));
        return None;
    }
    let Ok(number) = index.parse::<i64>() else {
        warn(reports, token, format!("Placeholder {{{key}}} has an invalid index"));
        return None;
    };
    let found = usize::try_from(number).ok().and_then(|number| args.get(number));
    match found {
        None => {
            let count = args.len();
            let message = format!(
                "Placeholder {{{key}}} index is out of bounds, only {count} argument(s) exist"
            );
            warn(reports, token, message);
        }
        Some(_) if old.is_some() => {
            let message =
                format!("Placeholder {{{key}}} deprecated, use {{args[{index}]}} instead");
            warn(reports, token, message);
        }
        Some(_) => {}
    }
    found.map(SmolStr::as_str)
}

fn warn(reports: &mut Reports, token: &Token, message: String) {
    reports.push(Diagnostic::warning(message).at(token).code("caddyfile::args"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Vec<SmolStr> {
        ["a", "b", "c"].map(SmolStr::from).to_vec()
    }

    fn replaced(text: &str) -> String {
        let mut reports = Reports::default();
        let token = Token::synthetic(text);
        replace(&token, &args(), &mut reports).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn single_arguments() {
        let cases = [
            ("{args[0]}", "a"),
            ("x{args[0]}-{args[2]}y", "xa-cy"),
            ("{args.1}", "b"),
            ("{args[3]}", "{args[3]}"),
            ("{args[-1]}", "{args[-1]}"),
            ("{args[x]}", "{args[x]}"),
            ("{args[0:1]}x", "{args[0:1]}x"),
            ("{path}{args[0]}", "{path}a"),
            ("{vars.{args[0]}}", "{vars.a}"),
            ("\\{args[0]\\}", "{args[0]}"),
            ("{myargs[0]}", "{myargs[0]}"),
            ("{args[0]", "{args[0]"),
        ];
        for (text, want) in cases {
            assert_eq!(replaced(text), want, "{text}");
        }
    }

    #[test]
    fn slices() {
        let args = args();
        let of = |text: &str| {
            slice(&Token::synthetic(text), &args, &mut Reports::default()).map(<[_]>::len)
        };
        assert_eq!(of("{args[:]}"), Some(3));
        assert_eq!(of("{args[1:]}"), Some(2));
        assert_eq!(of("{args[:1]}"), Some(1));
        assert_eq!(of("{args[1:1]}"), Some(0));
        for text in ["{args[2:1]}", "{args[:4]}", "{args[0]}", "{args[]}", "{args[x:]}"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(of("{args[0]}:{args[1]}"), None);
    }

    #[test]
    fn many_braces_are_not_slow() {
        let text = "{args[".repeat(200_000) + "}";
        assert_eq!(replaced(&text), text);
    }
}
