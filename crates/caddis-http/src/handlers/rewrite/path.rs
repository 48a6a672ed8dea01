//! Rewrites of the path, and of the whole URI.

use std::borrow::Cow;

use caddis_config::ConfigError;
use caddis_core::{
    Exchange, Target, Template,
    target::{decode, decode_bytes, encode_path_bytes, encode_query},
    template::Unknown,
};
use regex::Regex;

use super::Config;
use crate::{names, path::clean_path, regexp};

/// A new URI: path, query, or both; the fragment is left out.
#[derive(Debug)]
pub(super) struct Uri {
    path: Option<Template>,
    query: Option<QueryTemplate>,
}

/// A query with placeholders: its keys and values in turn.
#[derive(Debug)]
struct QueryTemplate(Vec<QueryPart>);

#[derive(Debug)]
struct QueryPart {
    text: Template,
    /// Whether it stands where a key does.
    key: bool,
}

const PATH: &str = "http.request.uri.path";
const QUERY: &str = "http.request.uri.query";
const FILE: &str = "http.matchers.file.relative";

impl Uri {
    pub(super) fn compile(uri: &str) -> Self {
        let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
        let (path, query) = match uri.split_once('?') {
            Some((path, query)) => (path, Some(QueryTemplate::parse(query))),
            None => (uri, None),
        };
        Self { path: (!path.is_empty()).then(|| Template::parse(path)), query }
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        let query = self.query.iter().flat_map(|query| query.0.iter().map(|part| &part.text));
        self.path.iter().chain(query).collect()
    }

    pub(super) fn apply(&self, target: &mut Target, ex: &Exchange) {
        let mut query = self.query.as_ref().map(|query| query.render(ex));
        if let Some(template) = &self.path {
            let path = render_path(template, target, ex);
            let (path, injected) = match path.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (&*path, None),
            };
            // A query that came out of a placeholder counts where a lone question mark asks for
            // one; it does not replace what was written, nor the request's own.
            if let Some(injected) = injected
                && self.query.as_ref().is_some_and(|query| query.0.is_empty())
            {
                query = Some(injected.replace('{', "%7B").replace('}', "%7D"));
            }
            match decode_bytes(path).map(String::from_utf8) {
                Some(Ok(decoded)) => target.set_path(&decoded),
                // No UTF-8, so the escaped form alone tells all of it.
                Some(Err(error)) => target.set_escaped_path(&encode_path_bytes(error.as_bytes())),
                None => target.set_path(path),
            }
        }
        if let Some(query) = query {
            target.set_query((!query.is_empty()).then_some(query.as_str()));
        }
    }
}

/// Paths within a path are put in escaped, so that their `?` and `%` do not become delimiters.
fn render_path<'t>(template: &'t Template, target: &Target, ex: &Exchange) -> Cow<'t, str> {
    if let Some(text) = template.as_static() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(template.render_map(ex, Unknown::Empty, |key, value, out| match key {
        PATH => out.push_str(target.escaped_path()),
        FILE => out.push_str(&encode_path_bytes(&names::bytes(&value))),
        _ => out.push_str(&value),
    }))
}

impl QueryTemplate {
    fn parse(query: &str) -> Self {
        let mut parts = Vec::new();
        for pair in query.split('&') {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (pair, None),
            };
            parts.push(QueryPart { text: Template::parse(key), key: true });
            if let Some(value) = value {
                parts.push(QueryPart { text: Template::parse(value), key: false });
            }
        }
        if query.is_empty() {
            parts.clear();
        }
        // As in Caddy, an equals sign at the very end is not written.
        if query.ends_with('=') {
            parts.pop();
        }
        Self(parts)
    }

    fn render(&self, ex: &Exchange) -> String {
        let mut out = String::new();
        for part in &self.0 {
            let text = part.text.render_map(ex, Unknown::Empty, |name, value, out| {
                if name == QUERY && part.key {
                    // A whole query is escaped already.
                    out.push_str(&value);
                } else {
                    out.push_str(&encode_query(&value));
                }
            });
            if !part.key {
                out.push('=');
            } else if !out.is_empty() && !text.is_empty() {
                out.push('&');
            }
            out.push_str(&text);
        }
        out
    }
}

/// One change of the path (and, for `Replace`, of the query).
#[derive(Debug)]
pub(super) enum PathOp {
    StripPrefix(Template),
    StripSuffix(Template),
    Replace { find: Template, replace: Template, limit: usize, merge: bool },
    Regexp(Regex, Template),
}

impl PathOp {
    pub(super) fn compile_all(config: &Config) -> Result<Vec<Self>, ConfigError> {
        let mut ops = Vec::new();
        if !config.strip_path_prefix.is_empty() {
            ops.push(Self::StripPrefix(Template::parse(&config.strip_path_prefix)));
        }
        if !config.strip_path_suffix.is_empty() {
            ops.push(Self::StripSuffix(Template::parse(&config.strip_path_suffix)));
        }
        for op in config.uri_substring.iter().filter(|op| !op.find.is_empty()) {
            ops.push(Self::Replace {
                find: Template::parse(&op.find),
                replace: Template::parse(&op.replace),
                limit: usize::try_from(op.limit).ok().filter(|n| *n > 0).unwrap_or(usize::MAX),
                merge: !op.find.contains("//"),
            });
        }
        for (at, op) in config.path_regexp.iter().enumerate() {
            let fail = |message| ConfigError::new(format!("path_regexp.{at}"), message);
            if op.find.is_empty() {
                return Err(fail("path_regexp find cannot be empty".to_owned()));
            }
            let regexp = regexp::compile(&op.find)
                .map_err(|error| fail(format!("compiling regular expression {at}: {error}")))?;
            ops.push(Self::Regexp(regexp, Template::parse(&op.replace)));
        }
        Ok(ops)
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        match self {
            Self::StripPrefix(text) | Self::StripSuffix(text) | Self::Regexp(_, text) => {
                vec![text]
            }
            Self::Replace { find, replace, .. } => vec![find, replace],
        }
    }

    pub(super) fn apply(&self, target: &mut Target, ex: &Exchange) {
        match self {
            Self::StripPrefix(prefix) => {
                let mut prefix = prefix.render(ex);
                if !prefix.starts_with('/') {
                    prefix = Cow::Owned(format!("/{prefix}"));
                }
                let merge = !prefix.contains("//");
                change(target, |path| {
                    let path = clean_path(path, merge);
                    trim_prefix(&path, &prefix).to_owned()
                });
            }
            Self::StripSuffix(suffix) => {
                let suffix = suffix.render(ex);
                let merge = !suffix.contains("//");
                change(target, |path| {
                    let path = clean_path(path, merge);
                    trim_suffix(&path, &suffix).to_owned()
                });
            }
            Self::Replace { find, replace, limit, merge } => {
                let (find, replace) = (find.render(ex), replace.render(ex));
                if find.is_empty() {
                    return;
                }
                change(target, |path| clean_path(path, *merge).replacen(&*find, &replace, *limit));
                if let Some(query) = target.query().filter(|query| query.contains(&*find)) {
                    let query = query.replacen(&*find, &replace, *limit);
                    target.set_query(Some(&query));
                }
            }
            Self::Regexp(regexp, replace) => {
                let replace = replace.render(ex);
                change(target, |path| regexp.replace_all(path, &*replace).into_owned());
            }
        }
    }
}

/// Changes the path in its escaped form; where the result is no escaped path, in its decoded form.
fn change(target: &mut Target, new: impl Fn(&str) -> String) {
    // An empty path travels as a slash.
    let escaped = if target.path().is_empty() { "" } else { target.escaped_path() };
    let raw = new(escaped);
    match decode(&raw) {
        Some(decoded) if !decoded.is_empty() => {
            if is_escaped(&raw) {
                target.set_escaped_path(&raw);
            } else {
                target.set_path(&decoded);
            }
        }
        _ => {
            let path = new(target.path());
            target.set_path(&path);
        }
    }
}

/// Whether every byte may stand in a path as it travels.
fn is_escaped(path: &str) -> bool {
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]%/".contains(&byte))
}

/// Takes a prefix off an escaped path: letter case does not matter, and a character of the prefix
/// that is not escaped matches its escape.
fn trim_prefix<'p>(path: &'p str, prefix: &str) -> &'p str {
    let (bytes, prefix) = (path.as_bytes(), prefix.as_bytes());
    let mut at = 0;
    for wanted in prefix {
        let Some(&byte) = bytes.get(at) else { return path };
        let (byte, length) = match bytes.get(at..at + 3) {
            Some(escape) if byte == b'%' && *wanted != b'%' => match unescape(escape) {
                Some(byte) => (byte, 3),
                None => return path,
            },
            _ => (byte, 1),
        };
        if !byte.eq_ignore_ascii_case(wanted) {
            return path;
        }
        at += length;
    }
    path.get(at..).unwrap_or(path)
}

/// Takes a suffix off an escaped path. Here escapes stay as they travel, as in Caddy.
fn trim_suffix<'p>(path: &'p str, suffix: &str) -> &'p str {
    let at = path.len().checked_sub(suffix.len());
    match at.and_then(|at| path.split_at_checked(at)) {
        Some((before, end)) if end.eq_ignore_ascii_case(suffix) => before,
        _ => path,
    }
}

fn unescape(escape: &[u8]) -> Option<u8> {
    let [b'%', digits @ ..] = escape else { return None };
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (path, prefix, want) in [
            ("/prefix", "/prefix", ""),
            ("/prefix/foo", "/prefix", "/foo"),
            ("/PREFIX/foo", "/prefix", "/foo"),
            ("/a%2Fb/c", "/a/b", "/c"),
            ("/a/b/c", "/a%2Fb", "/a/b/c"),
            ("/a%2fb/c", "/a%2Fb", "/c"),
            ("/other", "/prefix", "/other"),
            ("/%zz", "/z", "/%zz"),
            ("/é", "/\u{e9}", ""),
        ] {
            assert_eq!(trim_prefix(path, prefix), want, "{path} {prefix}");
        }
    }

    #[test]
    fn suffixes() {
        for (path, suffix, want) in [
            ("/page.html", ".html", "/page"),
            ("/page.HTML", ".html", "/page"),
            ("/a%20b", " b", "/a%20b"),
            ("/a%20b", "%20B", "/a"),
            ("/a%2Fb", "%2Fb", "/a"),
            ("/a/b", "%2Fb", "/a/b"),
            ("b", "abc", "b"),
            ("/x", "", "/x"),
        ] {
            assert_eq!(trim_suffix(path, suffix), want, "{path} {suffix}");
        }
    }
}
