//! `path-without-wildcard`, `impossible-path`, `repeated-strip`: paths that match less than they seem to,
//! or are cut twice.

use std::collections::{HashMap, HashSet};

use caddis_caddyfile::Token;

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static PATH_WITHOUT_WILDCARD: Lint = Lint {
    code: "path-without-wildcard",
    summary: "a path matcher without `*` where everything below the path is meant",
    explanation: "\
A path matcher is exact: `/admin` matches `/admin` and neither `/admin/` nor `/admin/users`. In front
of `basic_auth`, `file_server`, `handle_path` and the like that is rarely meant, and with
`basic_auth /admin` it leaves everything below open. Write `/admin*` or `/admin/*` (the second does
not match `/admin` itself). `/` alone matches only the start page; leave it away to match everything.",
    run: Run::Text(wildcards),
};

pub(super) static IMPOSSIBLE_PATH: Lint = Lint {
    code: "impossible-path",
    summary: "a path matcher that can never match",
    explanation: "\
A path matcher sees the path alone: it begins with a slash, and has neither host nor query. A pattern
such as `api/*` or `/search?q=*` therefore matches no request. Begin with `/` (or `*`), match a query by
`query q=*`, and a host by `host`.",
    run: Run::Text(impossible),
};

pub(super) static REPEATED_STRIP: Lint = Lint {
    code: "repeated-strip",
    summary: "a prefix is stripped that `handle_path` has stripped already",
    explanation: "\
`handle_path /api/*` takes `/api` off the path before its block runs. `uri strip_prefix /api` inside finds
nothing to strip, unless the path has the prefix twice. Remove the line, or use `handle`.",
    run: Run::Text(strips),
};

/// Why a pattern of a path matcher matches no path. With `rewritten` a rewrite may have left a path
/// without its slash.
pub(super) fn why_impossible(pattern: &str, rewritten: bool) -> Option<&'static str> {
    let first = pattern.bytes().next()?;
    if !rewritten && first.is_ascii_alphanumeric() || matches!(first, b'.' | b'_' | b'-') {
        return Some("paths begin with a slash");
    }
    let (_, query) = pattern.split_once('?')?;
    (first == b'/' && query.contains('=')).then_some("a path has no query")
}

fn impossible(text: &Text<'_>, findings: &mut Findings) {
    let mut rewritten = false;
    text.each(&mut |statement, _| {
        let targets = match statement.name() {
            "rewrite" => statement.words.last().map(std::slice::from_ref).unwrap_or_default(),
            "try_files" => &statement.words[1..],
            _ => &[],
        };
        rewritten |= targets.iter().any(|target| !target.text.starts_with(['/', '{', '?']));
    });
    let mut see = |patterns: &[Token]| {
        for pattern in patterns {
            let Some(label) = why_impossible(&pattern.text, rewritten) else { continue };
            let message = format!("the path {} matches no request", pattern.text);
            let finding = findings.add(pattern, message, label);
            finding.help = Some(if label.contains("query") {
                "match the query by a named matcher: `query NAME=VALUE`".to_owned()
            } else if pattern.text.contains("://") || pattern.text.contains('.') {
                "match a host by `host`; a path begins with `/` or `*`".to_owned()
            } else {
                format!("write `/{}`", pattern.text)
            });
        }
    };
    text.each(&mut |statement, parents| match statement.words {
        [name, kind, patterns @ ..] if name.text.starts_with('@') && kind.text == "path" => {
            see(patterns);
        }
        [kind, patterns @ ..] if kind.text == "path" && is_in_matcher(parents) => see(patterns),
        [not, kind, patterns @ ..]
            if not.text == "not" && kind.text == "path" && is_in_matcher(parents) =>
        {
            see(patterns);
        }
        _ => {}
    });
    text.each_directive(&mut |statement| {
        // The path of `root /srv` is no matcher.
        if let Some(matcher) = statement.words.get(1)
            && !matcher.text.starts_with('@')
            && statement.name() != "root"
            && why_impossible(&matcher.text, rewritten).is_some_and(|why| why.contains("query"))
            && (!statement.body.is_empty() || statement.words.len() > 2)
        {
            see(std::slice::from_ref(matcher));
        }
    });
}

fn is_in_matcher(parents: &[&Statement<'_>]) -> bool {
    parents.iter().any(|parent| parent.name().starts_with('@'))
}

fn strips(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, parents| {
        let [uri, strip, prefix] = statement.words else { return };
        if uri.text != "uri" || strip.text != "strip_prefix" {
            return;
        }
        let Some(around) = parents.last().filter(|parent| parent.name() == "handle_path") else {
            return;
        };
        let Some(path) = around.words.get(1) else { return };
        let base = path.text.trim_end_matches('*').trim_end_matches('/');
        if base.is_empty() || !base.eq_ignore_ascii_case(prefix.text.trim_end_matches('/')) {
            return;
        }
        let message = format!("{base} is stripped already");
        let finding = findings.add(prefix, message, "finds nothing to strip");
        finding.labels.push((around.token().span, "strips it".into()));
        finding.help = Some("remove this line, or use `handle` instead of `handle_path`".into());
    });
}

/// Directives that serve or guard folders.
const FOLDERS: &[&str] = &[
    "basic_auth",
    "basicauth",
    "file_server",
    "forward_auth",
    "handle_path",
    "php_fastcgi",
    "root",
];
/// Directives for which an exact path is common, unless it ends with a slash.
const EITHER: &[&str] = &["handle", "reverse_proxy", "route"];

fn wildcards(text: &Text<'_>, findings: &mut Findings) {
    let mut named: HashMap<&str, &Token> = HashMap::new();
    let mut exact: HashSet<&str> = HashSet::new();
    text.each_directive(&mut |statement| {
        exact.extend(statement.matcher().map(|path| path.text.as_str()));
    });
    text.each(&mut |statement, _| {
        if let [name, kind, path] = statement.words
            && name.text.starts_with('@')
            && kind.text == "path"
            && statement.body.is_empty()
        {
            named.insert(&name.text, path);
        }
    });
    text.each_directive(&mut |statement| {
        let Some(mut path) = statement.matcher() else { return };
        // `root /srv` has no matcher.
        if statement.name() == "root" && statement.words.len() < 3 {
            return;
        }
        if path.text.starts_with('@') {
            match named.get(path.text.as_str()) {
                Some(defined) => path = defined,
                None => return,
            }
        }
        let name = statement.name();
        if !is_suspicious(name, &path.text) {
            return;
        }
        let text = &path.text;
        // Who writes a path with and without its slash means just these two.
        if EITHER.contains(&name) && text.strip_suffix('/').is_some_and(|text| exact.contains(text))
        {
            return;
        }
        let message = format!("`{name}` applies to requests for exactly {text}");
        let finding = findings.add(path, message, "matches this path alone");
        finding.help = Some(match text.trim_end_matches('/') {
            "" => "leave `/` away to match every request".to_owned(),
            base => format!("for everything below write `{base}/*` (or `{base}*`)"),
        });
    });
}

/// Whether a directive with such a path is rarely meant for this path alone.
pub(super) fn is_suspicious(directive: &str, path: &str) -> bool {
    if path.contains(['*', '{', '?']) || !path.starts_with('/') {
        return false;
    }
    if FOLDERS.contains(&directive) {
        let last = path.rsplit('/').next().unwrap_or_default();
        return path == "/" || !last.contains('.');
    }
    if path == "/" {
        return directive == "reverse_proxy";
    }
    EITHER.contains(&directive) && path.ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_paths() {
        assert!(is_suspicious("basic_auth", "/admin") && is_suspicious("reverse_proxy", "/"));
        assert!(is_suspicious("handle", "/api/") && is_suspicious("file_server", "/static/"));
        assert!(!is_suspicious("handle", "/api") && !is_suspicious("reverse_proxy", "/ws"));
        assert!(!is_suspicious("file_server", "/robots.txt") && !is_suspicious("handle", "/"));
        assert!(!is_suspicious("basic_auth", "/admin/*") && !is_suspicious("respond", "/x/"));
    }

    #[test]
    fn paths_that_are_none() {
        for path in ["api/*", "example.com/x", "https://a/b", "/search?q=*", "/?a=b"] {
            assert!(why_impossible(path, false).is_some(), "{path}");
        }
        assert!(why_impossible("index.php", true).is_none());
        for path in ["/api/*", "*.php", "{path}", "/a?c", "/", "", "[/]x"] {
            assert!(why_impossible(path, false).is_none(), "{path}");
        }
    }
}
