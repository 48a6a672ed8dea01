//! `{$VAR}` and `{$VAR:default}`: replaced in the raw text before it is split into tokens.
//!
//! The value may hold several words, quotes or whole blocks. It is not searched again. The default
//! is used only for a variable that is not set, and ends at the first `}`. `{$}` stays.

use std::borrow::Cow;

use crate::diagnostic::{Diagnostic, Result};
use crate::limits;
use crate::loader::Loader;
use crate::span::{FileId, Span};

/// A text with its variables replaced, and the way back.
pub(crate) struct Expanded<'a> {
    pub(crate) text: Cow<'a, str>,
    replaced: Vec<Replaced>,
    /// Places of variables that are not set and have no default.
    pub(crate) unset: Vec<(u32, u32)>,
}

/// One replacement: where the value is now, and where `{$VAR}` was.
struct Replaced {
    now: (usize, usize),
    was: (usize, usize),
}

impl<'a> Expanded<'a> {
    /// A text without replacements.
    pub(crate) fn plain(text: &'a str) -> Self {
        Self { text: Cow::Borrowed(text), replaced: Vec::new(), unset: Vec::new() }
    }

    /// The place in the original text of a range of this one.
    pub(crate) fn span(&self, file: FileId, start: usize, end: usize) -> Span {
        Span::new(file, self.start(start) as u32, self.end(end.max(start)) as u32)
    }

    fn start(&self, at: usize) -> usize {
        let before = self.replaced.partition_point(|r| r.now.0 <= at);
        match before.checked_sub(1).map(|last| &self.replaced[last]) {
            Some(r) if at < r.now.1 => r.was.0,
            Some(r) => r.was.1 + (at - r.now.1),
            None => at,
        }
    }

    fn end(&self, at: usize) -> usize {
        let before = self.replaced.partition_point(|r| r.now.0 < at);
        match before.checked_sub(1).map(|last| &self.replaced[last]) {
            Some(r) if at <= r.now.1 => r.was.1,
            Some(r) => r.was.1 + (at - r.now.1),
            None => at,
        }
    }
}

/// Replaces the variables of a text.
pub(crate) fn expand<'a>(text: &'a str, loader: &dyn Loader) -> Result<Expanded<'a>> {
    const OPEN: &str = "{$";
    let mut out = String::new();
    let mut replaced = Vec::new();
    let mut unset = Vec::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(open) = text[from..].find(OPEN).map(|at| from + at) {
        let Some(close) = text[open + OPEN.len()..].find('}').map(|at| open + OPEN.len() + at)
        else {
            break;
        };
        from = close + 1;
        let inside = &text[open + OPEN.len()..close];
        if inside.is_empty() {
            continue;
        }
        let (name, default) = match inside.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let value = loader.env(name);
        if value.is_none() && default.is_none() {
            unset.push((open as u32, from as u32));
        }
        out.push_str(&text[copied..open]);
        let start = out.len();
        out.push_str(value.as_deref().or(default).unwrap_or(""));
        replaced.push(Replaced { now: (start, out.len()), was: (open, from) });
        copied = from;
        if out.len() > limits::TEXT_BYTES {
            return Err(too_long());
        }
    }
    if replaced.is_empty() {
        return Ok(Expanded::plain(text));
    }
    out.push_str(&text[copied..]);
    if out.len() > limits::TEXT_BYTES {
        return Err(too_long());
    }
    Ok(Expanded { text: Cow::Owned(out), replaced, unset })
}

fn too_long() -> Diagnostic {
    Diagnostic::error("the text is too long after replacing environment variables")
        .code("caddyfile::limit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::MemoryLoader;

    fn expanded(text: &str) -> String {
        let loader = MemoryLoader::new().var("A", "1 2").var("EMPTY", "").var("R", "{$A}");
        expand(text, &loader).expect("short").text.into_owned()
    }

    #[test]
    fn rules() {
        let cases = [
            ("x {$A} y", "x 1 2 y"),
            ("{$NO}", ""),
            ("{$NO:a:b c}", "a:b c"),
            ("{$EMPTY:default}", ""),
            ("{$}{$A}", "{$}1 2"),
            ("{$A", "{$A"),
            ("{$R}", "{$A}"),
            ("# \"{$A}\"", "# \"1 2\""),
            ("{$:x}", "x"),
            ("{env.A}", "{env.A}"),
        ];
        for (text, want) in cases {
            assert_eq!(expanded(text), want, "{text}");
        }
    }

    #[test]
    fn places_lead_back() {
        let loader = MemoryLoader::new().var("A", "long value");
        let text = "a {$A} b{$NO}c";
        let now = expand(text, &loader).expect("short");
        assert_eq!(now.text, "a long value bc");
        let origin = |start, end| {
            let span = now.span(FileId(0), start, end);
            &text[span.start as usize..span.end as usize]
        };
        assert_eq!(origin(0, 1), "a");
        assert_eq!(origin(2, 6), "{$A}");
        assert_eq!(origin(7, 12), "{$A}");
        assert_eq!(origin(13, 14), "b");
        assert_eq!(origin(13, 15), "b{$NO}c");
        assert_eq!(origin(14, 15), "c");
    }

    #[test]
    fn growth_is_bounded() {
        let loader = MemoryLoader::new().var("A", &"x".repeat(1 << 20));
        assert!(expand(&"{$A}".repeat(1000), &loader).is_err());
    }
}
