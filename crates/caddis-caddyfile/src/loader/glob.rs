//! File name patterns as Go's `filepath.Match` has them: `*`, `?`, `\x`.
//!
//! `[...]` never gets here: the parser refuses it.

/// Whether the pattern holds anything but plain characters.
pub(super) fn has_meta(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// Whether the pattern is well formed.
pub(super) fn is_valid(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '[' => return false,
            '\\' if chars.next().is_none() => return false,
            _ => {}
        }
    }
    true
}

/// Whether `name`, one path segment, matches `pattern`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last `*` took one more character.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => 1,
            Some('\\') if pattern.get(p + 1) == Some(&name[n]) => 2,
            Some(c) if *c != '\\' && *c == name[n] => 1,
            _ => 0,
        };
        if step > 0 {
            p += step;
            n += 1;
        } else if let Some((after, taken)) = star {
            p = after;
            n = taken + 1;
            star = Some((after, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// All paths that match, found with `list` (names in a directory) and `exists`.
pub(super) fn expand(
    pattern: &str,
    list: &dyn Fn(&str) -> Vec<String>,
    exists: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let (rooted, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut found = vec![String::new()];
    let mut first = true;
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        let prefix = if first && !rooted { "" } else { "/" };
        first = false;
        let mut next = Vec::new();
        for dir in &found {
            if !has_meta(part) {
                let path = format!("{dir}{prefix}{part}");
                if exists(&path) {
                    next.push(path);
                }
                continue;
            }
            let mut names = list(dir_or_here(dir, rooted));
            names.retain(|name| matches(part, name));
            names.sort_unstable();
            next.extend(names.iter().map(|name| format!("{dir}{prefix}{name}")));
        }
        found = next;
    }
    found.retain(|path| !path.is_empty());
    found
}

fn dir_or_here(dir: &str, rooted: bool) -> &str {
    match (dir.is_empty(), rooted) {
        (false, _) => dir,
        (true, true) => "/",
        (true, false) => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let yes =
            [("*.conf", "a.conf"), ("a?c", "abc"), ("*", ".x"), ("a*b*", "a12b3"), ("\\*", "*")];
        let no = [("*.conf", "a.confx"), ("a?c", "ac"), ("\\*", "a"), ("a", "ab")];
        for (pattern, name) in yes {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in no {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(is_valid("a*") && !is_valid("a[b") && !is_valid("a\\"));
    }

    #[test]
    fn a_hard_pattern_is_not_slow() {
        assert!(!matches("a*a*a*a*a*a*a*a*a*b", &"a".repeat(5_000)));
    }
}
