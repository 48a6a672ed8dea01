//! Paths of requests and of files: cleaning as Go does, and joining without a way out.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

/// Cleans a path lexically, as Go's `path.Clean`: `.` and empty elements vanish, `..` takes the
/// element before it away. The empty path is `.`.
pub fn clean(path: &str) -> Cow<'_, str> {
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let rooted = path.starts_with('/');
    let mut out = String::with_capacity(path.len());
    if rooted {
        out.push('/');
    }
    // Below this length there is nothing that `..` could take away.
    let mut fixed = out.len();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." if out.len() > fixed => {
                let cut = out[fixed..].rfind('/').map_or(fixed, |at| fixed + at);
                out.truncate(cut);
            }
            ".." if rooted => {}
            ".." => {
                if !out.is_empty() {
                    out.push('/');
                }
                out.push_str("..");
                fixed = out.len();
            }
            element => {
                if out.len() > usize::from(rooted) {
                    out.push('/');
                }
                out.push_str(element);
            }
        }
    }
    if out.is_empty() {
        out.push('.');
    }
    Cow::Owned(out)
}

/// Whether `clean` would change nothing (may say no for some clean relative paths).
fn is_clean(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else { return false };
    inner.is_empty() || inner.split('/').all(|element| !matches!(element, "" | "." | ".."))
}

/// Cleans the path of a request and keeps a trailing slash, as Caddy does before it compares
/// paths. Without `collapse_slashes`, doubled slashes survive.
pub fn clean_path(path: &str, collapse_slashes: bool) -> Cow<'_, str> {
    if is_clean(path) || is_clean(path.strip_suffix('/').unwrap_or(path)) && path != "/" {
        return Cow::Borrowed(path);
    }
    if collapse_slashes {
        return clean_keeping_slash(path);
    }
    // A character that the path does not hold keeps empty elements alive through the cleaning. Were
    // it one of the path's own, `.` and `..` could come into being when it is taken out.
    let mark = ('\u{f0000}'..=char::MAX).rev().find(|mark| !path.contains(*mark));
    let mark = mark.unwrap_or(char::MAX);
    let mut marked = String::with_capacity(path.len() + 8);
    for (at, char) in path.char_indices() {
        marked.push(char);
        if char == '/' && path[at + 1..].starts_with('/') {
            marked.push(mark);
        }
    }
    Cow::Owned(clean_keeping_slash(&marked).replace(mark, ""))
}

fn clean_keeping_slash(path: &str) -> Cow<'_, str> {
    let rooted;
    let input = if path.starts_with('/') {
        path
    } else {
        rooted = format!("/{path}");
        &rooted
    };
    let mut cleaned = clean(input).into_owned();
    if cleaned != "/" && path.ends_with('/') {
        cleaned.push('/');
    }
    Cow::Owned(cleaned)
}

/// Joins the path of a request below a root so that the result never leaves the root. An empty
/// root is the current directory. A trailing slash of the request's path is kept.
pub fn sanitized_join(root: &str, request_path: &str) -> PathBuf {
    let root = if root.is_empty() { "." } else { root };
    let rooted = format!("/{request_path}");
    let cleaned = clean(&rooted);
    let relative = cleaned.trim_start_matches('/');
    let root = clean(root);
    let mut joined = if relative.is_empty() {
        root.into_owned()
    } else if root == "/" {
        format!("/{relative}")
    } else if root == "." {
        relative.to_owned()
    } else {
        format!("{root}/{relative}")
    };
    if request_path.ends_with('/') && !joined.ends_with('/') {
        joined.push('/');
    }
    PathBuf::from(joined)
}

/// The last element's extension with its dot, as Go's `path.Ext`.
pub fn extension(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.rfind('.').map_or("", |at| &file[at..])
}

/// Joins two paths of the file system as Go's `filepath.Join`.
pub fn join(base: &str, more: &str) -> PathBuf {
    if base.is_empty() {
        return Path::new(&*clean(more)).to_path_buf();
    }
    PathBuf::from(&*clean(&format!("{base}/{more}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go() {
        let cases = [
            ("", "."),
            ("abc", "abc"),
            ("abc/def", "abc/def"),
            (".", "."),
            ("..", ".."),
            ("../..", "../.."),
            ("../../abc", "../../abc"),
            ("/", "/"),
            ("/abc", "/abc"),
            ("abc/", "abc"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("//abc", "/abc"),
            ("abc/./def", "abc/def"),
            ("abc/def/ghi/../jkl", "abc/def/jkl"),
            ("abc/def/../../..", ".."),
            ("/abc/def/../../..", "/"),
            ("abc/def/../../../ghi/jkl/../../../mno", "../../mno"),
            ("/../abc", "/abc"),
        ];
        for (path, want) in cases {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn keeps_trailing_and_doubled_slashes() {
        let cases = [
            ("/foo", true, "/foo"),
            ("/foo/", true, "/foo/"),
            ("//foo", true, "/foo"),
            ("/foo//bar/", true, "/foo/bar/"),
            ("//foo", false, "//foo"),
            ("/foo//bar", false, "/foo//bar"),
            ("/foo/../bar//", false, "/bar//"),
            ("/", false, "/"),
            ("/a//.\u{10ffff}./b", false, "/a//.\u{10ffff}./b"),
            ("/a//\u{10ffff}\u{10fffe}/../b", false, "/a//b"),
            ("", true, "/"),
        ];
        for (path, collapse, want) in cases {
            assert_eq!(clean_path(path, collapse), want, "{path} {collapse}");
        }
    }

    #[test]
    fn never_leaves_the_root() {
        let cases = [
            ("/a", "/../b", "/a/b"),
            ("", "/x", "x"),
            ("/srv", "/", "/srv/"),
            ("/srv/", "/a/b/", "/srv/a/b/"),
            ("/", "/a", "/a"),
            (".", "/../../etc/passwd", "etc/passwd"),
        ];
        for (root, path, want) in cases {
            assert_eq!(sanitized_join(root, path), PathBuf::from(want), "{root} {path}");
        }
    }
}
