//! Expansion of path patterns against the file system, as Go's `filepath.Glob`.

use crate::glob::go_match;

/// Whether a path holds characters with a meaning in patterns.
pub(super) fn has_meta(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Escapes these characters.
pub(super) fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(char);
    }
}

/// More matches than this are left out.
const MOST: usize = 10_000;

/// The existing paths that fit; none where the pattern is malformed.
pub(super) fn expand(pattern: &str) -> Vec<String> {
    if !has_meta(pattern) {
        let exists = std::fs::symlink_metadata(pattern).is_ok();
        return exists.then(|| pattern.to_owned()).into_iter().collect();
    }
    let trailing = pattern.len() > 1 && pattern.ends_with('/');
    let trimmed = pattern.strip_suffix('/').filter(|_| trailing).unwrap_or(pattern);
    // Elements behind the first one with a pattern, the last one first. Not by recursion: clients
    // may say how many there are.
    let mut behind = Vec::new();
    let mut rest = trimmed;
    let mut found = loop {
        match rest.rsplit_once('/') {
            None => break in_directory("", ".", rest),
            Some(("", file)) => break in_directory("/", "/", file),
            Some((directory, file)) if has_meta(directory) => {
                behind.push(file);
                rest = directory;
            }
            Some((directory, file)) => {
                break in_directory(&format!("{directory}/"), directory, file);
            }
        }
    };
    while let Some(file) = behind.pop()
        && !found.is_empty()
    {
        let mut all = Vec::new();
        for directory in found {
            all.extend(in_directory(&format!("{directory}/"), &directory, file));
            if all.len() >= MOST {
                break;
            }
        }
        found = all;
    }
    found.truncate(MOST);
    if trailing {
        found.iter_mut().for_each(|path| path.push('/'));
    }
    found
}

fn in_directory(prefix: &str, directory: &str, pattern: &str) -> Vec<String> {
    if go_match(pattern, "").is_err() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| go_match(pattern, name) == Ok(true))
        .take(MOST)
        .map(|name| format!("{prefix}{name}"))
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::file_server::test_dir::TestDir;

    #[test]
    fn expands_element_by_element() {
        let dir = TestDir::new(&[("a1/x.html", ""), ("a2/x.html", ""), ("a2/b/y.html", "")]);
        let shown = |pattern: &str| {
            let found = expand(&format!("{}/{pattern}", dir.path()));
            let found = found.iter().filter_map(|path| path.strip_prefix(dir.path()));
            found.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("a*/x.html"), "/a1/x.html /a2/x.html");
        assert_eq!(shown("*/b/*.html"), "/a2/b/y.html");
        assert_eq!(shown("a?/"), "/a1/ /a2/");
        assert_eq!(shown("\\a1/*"), "/a1/x.html");
        assert_eq!(shown("a1/[").as_str(), "");
    }

    #[test]
    fn long_paths_of_clients_end() {
        let dir = TestDir::new(&[("f", "")]);
        assert!(expand(&format!("{}/\\*{}/*", dir.path(), "/a".repeat(100_000))).is_empty());
    }
}
