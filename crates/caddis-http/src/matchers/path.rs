//! `path`: the request's path.
//!
//! ```text
//! path <paths...>
//! ```
//!
//! JSON: a list of patterns, compared without regard to case after the path was decoded and
//! cleaned: exact, `prefix*`, `*suffix`, `*middle*`, or a glob whose `*` does not cross a slash. A
//! `%` in a pattern compares that part as it travels; `%*` is any span of it.

use std::borrow::Cow;

use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result, Template};
use serde_json::Value as Json;

use super::{list_of_args, list_shape};
use crate::{glob::go_match, path::clean_path};

/// `http.matchers.path`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.path", parse: |d| list_of_args(d, "path"), compile };

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Glob(String),
    /// Compared as it travels.
    Escaped(String),
}

struct Pattern {
    kind: Kind,
    /// The pattern itself has doubled slashes, so the path keeps its own.
    keep_slashes: bool,
}

enum Entry {
    Static(Pattern),
    Dynamic(Template),
}

struct Paths(Vec<Entry>);

impl Pattern {
    fn parse(text: &str) -> Self {
        let text = text.to_lowercase();
        let keep_slashes = text.contains("//");
        let kind = if text == "*" {
            Kind::Any
        } else if text.contains('%') {
            Kind::Escaped(text)
        } else {
            match (text.strip_prefix('*'), text.strip_suffix('*'), text.matches('*').count()) {
                (Some(_), Some(_), 2) => Kind::Contains(text[1..text.len() - 1].to_owned()),
                (Some(rest), None, 1) => Kind::Suffix(rest.to_owned()),
                (None, Some(rest), 1) => Kind::Prefix(rest.to_owned()),
                _ if text.contains(['*', '?', '[', '\\']) => Kind::Glob(text),
                _ => Kind::Exact(text),
            }
        };
        Self { kind, keep_slashes }
    }

    fn matches(&self, path: &str, escaped: &str) -> bool {
        if let Kind::Escaped(pattern) = &self.kind {
            return matches_escaped(&clean_path(escaped, !self.keep_slashes), pattern);
        }
        let path = clean_path(path, !self.keep_slashes);
        match &self.kind {
            Kind::Any => true,
            Kind::Exact(want) => path == *want,
            Kind::Prefix(want) => path.starts_with(want.as_str()),
            Kind::Suffix(want) => path.ends_with(want.as_str()),
            Kind::Contains(want) => path.contains(want.as_str()),
            Kind::Glob(pattern) => go_match(pattern, &path) == Ok(true),
            Kind::Escaped(_) => false,
        }
    }
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let patterns: Vec<String> = list_shape(json)?;
    let entries = patterns.iter().map(|text| {
        let template = Template::parse(text);
        // A backslash is the glob's own escape unless it is the brace's.
        match template.as_static() {
            Some(text) => Entry::Static(Pattern::parse(text)),
            None => Entry::Dynamic(template),
        }
    });
    Ok(Box::new(Paths(entries.collect())))
}

fn lower(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.to_lowercase())
}

impl Matcher for Paths {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let target = &ex.request.target;
        let (path, escaped) = (lower(target.path()), target.escaped_path());
        Ok(self.0.iter().any(|entry| match entry {
            Entry::Static(pattern) => pattern.matches(&path, escaped),
            Entry::Dynamic(template) => {
                Pattern::parse(&template.render(ex)).matches(&path, escaped)
            }
        }))
    }
}

/// Walks pattern and path side by side: what the pattern writes with `%` is taken from the path as
/// it travels, the rest decoded. The result is then compared as a glob.
fn matches_escaped(escaped: &str, pattern: &str) -> bool {
    let path = escaped.to_lowercase().into_bytes();
    let pattern_bytes = pattern.as_bytes();
    let mut text: Vec<u8> = Vec::with_capacity(path.len());
    let (mut at, mut in_path) = (0, 0);
    while at < pattern_bytes.len() && in_path < path.len() {
        let (char, length) = decoded_byte(&path[in_path..]);
        let mut decode = true;
        match pattern_bytes[at] {
            b'%' if pattern_bytes.len() >= at + 3 && pattern_bytes[at + 1] != b'*' => {
                // Literal escape: as it travels, or nothing where the path has none here.
                if length == 3 {
                    text.extend_from_slice(&path[in_path..in_path + 3]);
                }
                in_path += length;
                at += 3;
                continue;
            }
            byte @ (b'%' | b'*') => {
                if byte == b'%' {
                    decode = false;
                    at += 1;
                }
                let rest = &path[in_path..];
                let until = match pattern_bytes.get(at + 1) {
                    None => rest.len(),
                    Some(next) => match rest.iter().position(|byte| byte == next) {
                        Some(until) => until,
                        None => return false,
                    },
                };
                push_span(&mut text, &rest[..until], decode);
                in_path += until;
            }
            _ => {
                text.push(char);
                in_path += length;
            }
        }
        at += 1;
    }
    push_span(&mut text, &path[in_path..], true);
    go_match(&pattern.replace("%*", "*"), &String::from_utf8_lossy(&text)) == Ok(true)
}

fn push_span(text: &mut Vec<u8>, mut span: &[u8], decode: bool) {
    if !decode {
        text.extend_from_slice(span);
        return;
    }
    while !span.is_empty() {
        let (byte, length) = decoded_byte(span);
        text.push(byte);
        span = &span[length..];
    }
}

/// The first byte, decoded, and how many bytes it took. The slice is not empty.
fn decoded_byte(path: &[u8]) -> (u8, usize) {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if let [b'%', high, low, ..] = path
        && let (Some(high), Some(low)) = (digit(high), digit(low))
    {
        return (high << 4 | low, 3);
    }
    (path.first().copied().unwrap_or_default(), 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, matches};
    use super::*;

    #[test]
    fn a_line_without_paths_is_refused() {
        let json = testing::parse(&MODULE, "path").expect("parses");
        let error = testing::compile(&MODULE, &json).err();
        assert_eq!(error.as_deref(), Some("module value cannot be null"));
    }

    #[test]
    fn forms() {
        let cases = [
            ("/exact", "/EXACT", true),
            ("/exact", "/exact/", false),
            ("/pre*", "/pre", true),
            ("/other/*", "/other", false),
            ("/other/*", "/other/", true),
            ("*.gif", "/x/y.GIF", true),
            ("*.gif", "/a.gif/b", false),
            ("*/mid/*", "/mid/y", true),
            ("/a*z", "/abcz", true),
            ("/a*z", "/abc/z", false),
            ("/", "/", true),
            ("*", "/anything", true),
            ("/Alpha/*", "/ALPHA/x", true),
            ("/{http.request.uri.query.p}/*", "/dyn/x?p=dyn", true),
            ("/{http.request.uri.query.p}/*", "/dyn/x", false),
            ("/nope /b*", "/bee", false),
        ];
        for (pattern, target, want) in cases {
            assert_eq!(matches(&MODULE, &format!("path \"{pattern}\""), target), want, "{pattern}");
        }
        assert!(matches(&MODULE, "path /a*\npath /b*", "/bee"));
    }

    #[test]
    fn normalized_paths() {
        let cases = [
            ("/admin/*", "//admin/x", true),
            ("/admin/*", "/./admin/x", true),
            ("/admin/*", "/x/../admin/y", true),
            ("/admin/*", "/%61dmin/x", true),
            ("/admin/*", "/admin%2Fx", true),
            ("/a//b*", "/a//b/c", true),
            ("/a//b*", "/a/b", false),
            ("/with space*", "/with%20space/x", true),
            ("/enc%2Fslash", "/enc%2fslash", true),
            ("/enc%2Fslash", "/enc/slash", false),
            ("/enc%2Fslash", "/enc%2fslashed", false),
            ("/enc%2Fslash", "/%65nc/slash", false),
            ("/pct/%*", "/pct/%41", true),
            ("/pct/%*", "/pct/a%2Fb", true),
            ("/café", "/caf%C3%A9", true),
        ];
        for (pattern, target, want) in cases {
            assert_eq!(matches(&MODULE, &format!("path \"{pattern}\""), target), want, "{pattern}");
        }
    }
}
