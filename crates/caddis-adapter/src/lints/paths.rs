//! `path-without-wildcard`: a path that matches one single path where a whole folder is meant.

use std::collections::HashMap;

use caddis_caddyfile::Token;

use super::subject::Subject;
use super::{Findings, Lint};

pub(super) static PATH_WITHOUT_WILDCARD: Lint = Lint {
    code: "path-without-wildcard",
    summary: "a path matcher without `*` where everything below the path is meant",
    explanation: "\
A path matcher is exact: `/admin` matches `/admin` and neither `/admin/` nor `/admin/users`. In front
of `basic_auth`, `file_server`, `handle_path` and the like that is rarely meant, and with
`basic_auth /admin` it leaves everything below open. Write `/admin*` or `/admin/*` (the second does
not match `/admin` itself). `/` alone matches only the start page; leave it away to match everything.",
    run,
};

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

fn run(subject: &Subject<'_>, findings: &mut Findings) {
    let mut named: HashMap<&str, &Token> = HashMap::new();
    subject.each(&mut |statement, _| {
        if let [name, kind, path] = statement.words
            && name.text.starts_with('@')
            && kind.text == "path"
            && statement.body.is_empty()
        {
            named.insert(&name.text, path);
        }
    });
    subject.each_directive(&mut |statement| {
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
        let message = format!("`{name}` applies to requests for exactly {text}");
        let finding = findings.add(path, message, "matches this path alone");
        finding.help = Some(match text.trim_end_matches('/') {
            "" => "leave `/` away to match every request".to_owned(),
            base => format!("for everything below write `{base}/*` (or `{base}*`)"),
        });
    });
}

fn is_suspicious(directive: &str, path: &str) -> bool {
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
    use super::is_suspicious;

    #[test]
    fn which_paths() {
        assert!(is_suspicious("basic_auth", "/admin") && is_suspicious("reverse_proxy", "/"));
        assert!(is_suspicious("handle", "/api/") && is_suspicious("file_server", "/static/"));
        assert!(!is_suspicious("handle", "/api") && !is_suspicious("reverse_proxy", "/ws"));
        assert!(!is_suspicious("file_server", "/robots.txt") && !is_suspicious("handle", "/"));
        assert!(!is_suspicious("basic_auth", "/admin/*") && !is_suspicious("respond", "/x/"));
    }
}
