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
    let mut found = match trimmed.rsplit_once('/') {
        None => in_directory("", ".", trimmed),
        Some(("", file)) => in_directory("/", "/", file),
        Some((directory, file)) => {
            let directories =
                if has_meta(directory) { expand(directory) } else { vec![directory.to_owned()] };
            let mut all = Vec::new();
            for directory in directories {
                all.extend(in_directory(&format!("{directory}/"), &directory, file));
                if all.len() >= MOST {
                    break;
                }
            }
            all
        }
    };
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
