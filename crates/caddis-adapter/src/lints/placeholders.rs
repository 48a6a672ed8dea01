//! `unknown-placeholder`: `{name}` that nothing fills.

use std::collections::HashSet;

use caddis_caddyfile::nearest;
use caddis_core::placeholder::Placeholder;
use caddis_core::placeholder::known_keys;

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};
use crate::shorthand;

pub(super) static UNKNOWN_PLACEHOLDER: Lint = Lint {
    code: "unknown-placeholder",
    summary: "a placeholder that nothing fills",
    explanation: "\
A placeholder whose name nobody knows is replaced by nothing, or stays as it is, depending on where it
stands. Check its spelling; short names such as `{host}` and `{header.NAME}` stand for long ones
(`{http.request.host}`). Variables are read as `{vars.NAME}`, environment variables at run time as
`{env.NAME}`.",
    run: Run::Text(run),
};

/// Beginnings of names that handlers and matchers fill.
const FAMILIES: &[&str] = &[
    "args",
    "block",
    "blocks.",
    "caddy.",
    "event.",
    "http.auth.",
    "http.handlers.",
    "http.intercept.",
    "http.matchers.file.",
    "http.regexp.",
    "http.request.body",
    "http.request.cookie.",
    "http.request.header.",
    "http.request.host.labels.",
    "http.request.orig_uri.path.",
    "http.request.tls.",
    "http.request.uri.path.",
    "http.response.",
    "http.reverse_proxy.",
    "http.url_pattern.",
    "l4.",
    "system.",
    "tls.",
];
/// The clock, of which only these parts are known.
const CLOCK: &[&str] = &[
    "time.now",
    "time.now.common_log",
    "time.now.http",
    "time.now.unix",
    "time.now.unix_ms",
    "time.now.year",
];
/// Directives whose words are not replaced, or are patterns.
const LITERAL: &[&str] = &["log", "header_regexp", "path_regexp", "vars_regexp", "path_rewrite"];

fn run(text: &Text<'_>, findings: &mut Findings) {
    let mut own: HashSet<String> = HashSet::new();
    text.each(&mut |statement, _| {
        if statement.name() == "map" {
            for word in &statement.words[1..] {
                own.extend(names(&word.text).map(str::to_owned));
            }
        }
    });
    text.each(&mut |statement, parents| {
        let chain = || parents.iter().copied().chain([statement]);
        if chain().any(|one| is_literal(one)) || is_route_block(parents) {
            return;
        }
        for word in statement.words {
            for (old, new) in old_forms(&word.text) {
                let message = format!("unknown placeholder {{{old}}}");
                findings.add(word, message, "a form of Caddy 1").help =
                    Some(format!("write `{{{new}}}`"));
            }
            for name in names(&word.text) {
                if own.contains(name) || is_known(name) {
                    continue;
                }
                let message = format!("unknown placeholder {{{name}}}");
                let near = near(name);
                let finding = findings.add(word, message, "nothing fills it");
                finding.help = near.map(|near| format!("did you mean `{{{near}}}`?"));
            }
        }
    });
}

fn is_literal(statement: &Statement<'_>) -> bool {
    LITERAL.contains(&statement.name())
        || statement.word(1).is_some_and(|word| LITERAL.contains(&word) && word != "log")
}

/// Whether this is inside of a part that is handed to others as it is.
fn is_route_block(parents: &[&Statement<'_>]) -> bool {
    parents.iter().any(|parent| parent.name() == "events")
}

/// What stands between single braces and looks like a name.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('{')?;
            let after = &rest[open + 1..];
            let escaped = rest[..open].ends_with(['\\', '$', '{']);
            let close = after.find(['{', '}'])?;
            if after.as_bytes()[close] == b'{' {
                // A brace inside of a brace: a template, or no placeholder.
                rest = after[close..].trim_start_matches('{');
                if rest.len() == after.len() - close {
                    rest = &after[close..];
                }
                let end = rest.find("}}").map_or(rest.len(), |at| at + 2);
                rest = &rest[end..];
                continue;
            }
            let name = &after[..close];
            rest = &after[close + 1..];
            if !escaped && looks_like_name(name) {
                return Some(name);
            }
        }
    })
}

/// Placeholders as of Caddy 1, such as `{>Header}`, and what they are now.
fn old_forms(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let family = match rest.bytes().next()? {
            b'>' => "header",
            b'~' => "cookie",
            b'?' => "query",
            _ => return None,
        };
        let name = &rest[1..rest.find('}')?];
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let is_escaped = text[..at].ends_with('\\');
        (!name.is_empty() && !is_escaped && name.bytes().all(is_name))
            .then(|| (&rest[..=name.len()], format!("{family}.{name}")))
    })
}

fn looks_like_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && !name.ends_with('.')
}

fn is_known(name: &str) -> bool {
    let long = shorthand::long_name(name);
    is_known_long(long.as_deref().unwrap_or(name))
}

/// Whether a placeholder is known by its long name.
pub(super) fn is_known_long(name: &str) -> bool {
    if name.starts_with("time.") {
        return CLOCK.contains(&name);
    }
    FAMILIES.iter().any(|family| name.starts_with(family))
        || !matches!(Placeholder::parse(name), Placeholder::Dynamic(_))
}

/// The long name that a short one stands for in a Caddyfile, or one that is near.
pub(super) fn near_long(name: &str) -> Option<String> {
    shorthand::long_name(name)
        .map(|long| long.to_string())
        .or_else(|| nearest(name, known_keys()).map(str::to_owned))
}

fn near(name: &str) -> Option<&'static str> {
    nearest(name, shorthand::short_names())
        .or_else(|| nearest(name, known_keys().chain(CLOCK.iter().copied())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names() {
        let of = |text: &'static str| names(text).collect::<Vec<_>>();
        assert_eq!(of("a {host} b{path}"), ["host", "path"]);
        assert_eq!(of("{{now}} {\"a\": 1} {} { x } \\{host} {3} {A}"), Vec::<&str>::new());
        assert_eq!(of("{x"), Vec::<&str>::new());
        assert!(is_known("host") && is_known("re.a.1") && is_known("env.X") && is_known("file./x"));
        let of = |text: &'static str| old_forms(text).collect::<Vec<_>>();
        assert_eq!(
            of("a{>X-Y}{~c}"),
            [(">X-Y", "header.X-Y".to_owned()), ("~c", "cookie.c".into())]
        );
        assert!(of("{>} {> x} \\{?q} {>x").is_empty());
        assert!(is_known("time.now.unix") && !is_known("time.now.unixx"));
        assert!(!is_known("hots") && near("hots") == Some("host"));
    }
}
