//! Patterns with `*`, `?` and `[classes]`, as Go's `path.Match`.

/// A pattern that is none: an unclosed class, a trailing backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPattern;

impl std::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("syntax error in pattern")
    }
}

impl std::error::Error for BadPattern {}

/// Whether the whole name fits the pattern; `*` and `?` do not match a slash.
///
/// # Errors
/// A malformed pattern, whether or not the name would reach the malformed part.
pub fn go_match(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    check(pattern)?;
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on after a mismatch: the pattern after the last star, and the name there.
    let mut retry: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            retry = Some((rest, name));
            pattern = rest;
            continue;
        }
        if pattern.is_empty() && name.is_empty() {
            return Ok(true);
        }
        if let Some((rest_pattern, rest_name)) = step(pattern, name) {
            (pattern, name) = (rest_pattern, rest_name);
            continue;
        }
        // The star takes one character more, but never a slash.
        let Some((after_star, at)) = retry else { return Ok(false) };
        let mut chars = at.chars();
        match chars.next() {
            None | Some('/') => return Ok(false),
            Some(_) => {}
        }
        retry = Some((after_star, chars.as_str()));
        (pattern, name) = (after_star, chars.as_str());
    }
}

/// Matches one character against one pattern item that is no star.
fn step<'p, 'n>(pattern: &'p str, name: &'n str) -> Option<(&'p str, &'n str)> {
    let mut chars = name.chars();
    let char = chars.next()?;
    let mut items = pattern.chars();
    let rest = match items.next()? {
        '?' if char != '/' => items.as_str(),
        '?' => return None,
        '[' => {
            let (fits, rest) = class(items.as_str(), char)?;
            if !fits {
                return None;
            }
            rest
        }
        '\\' => {
            if items.next()? != char {
                return None;
            }
            items.as_str()
        }
        literal if literal == char => items.as_str(),
        _ => return None,
    };
    Some((rest, chars.as_str()))
}

/// Reads a class (after its bracket): whether the character is in it, and the pattern after it.
/// `None` where it is malformed.
fn class(pattern: &str, char: char) -> Option<(bool, &str)> {
    let (negated, mut rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut fits = false;
    let mut ranges = 0;
    loop {
        if ranges > 0
            && let Some(after) = rest.strip_prefix(']')
        {
            return Some((fits != negated, after));
        }
        let (low, after) = class_char(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix('-') {
            (high, rest) = class_char(after)?;
        }
        fits |= (low..=high).contains(&char);
        ranges += 1;
    }
}

fn class_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let mut char = chars.next()?;
    match char {
        '-' | ']' => return None,
        '\\' => char = chars.next()?,
        _ => {}
    }
    // A class must be closed, so something must follow.
    (!chars.as_str().is_empty()).then_some((char, chars.as_str()))
}

/// Checks a pattern.
///
/// # Errors
/// The pattern is malformed.
pub fn check(pattern: &str) -> Result<(), BadPattern> {
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        match char {
            '\\' => {
                let escaped = rest.chars().next().ok_or(BadPattern)?;
                rest = &rest[escaped.len_utf8()..];
            }
            '[' => rest = class(rest, '\0').ok_or(BadPattern)?.1,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go() {
        let cases = [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[^b-d]", "abc", Ok(false)),
            ("ab[e-g]", "abc", Ok(false)),
            ("a\\*b", "a*b", Ok(true)),
            ("a?b", "a/b", Ok(false)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("[\\]a]", "]", Ok(true)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("a[", "ab", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
            ("", "", Ok(true)),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(go_match(pattern, name), want, "{pattern} {name}");
        }
    }
}
