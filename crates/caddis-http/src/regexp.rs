//! Regular expressions in Go's syntax, and their captures as placeholders.

use caddis_core::{Exchange, Value};
use regex::Regex;
use smallvec::SmallVec;

/// A compiled expression with the names under which its captures are kept.
#[derive(Debug, Clone)]
pub struct Regexp {
    regex: Regex,
    /// The placeholders of each group, by number and by name.
    keys: Vec<SmallVec<[String; 2]>>,
}

/// Compiles an expression in Go's syntax.
///
/// # Errors
/// The expression's mistake, in words.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    // Far more than useful expressions need, so that a hostile one cannot eat the memory.
    const SIZE_LIMIT: usize = 16 << 20;
    let build = |pattern: &str| regex::RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build();
    let pattern = go_syntax(pattern);
    build(&pattern).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("invalid");
        let reason = match line.trim_start_matches("error: ").trim() {
            // Go's words for what is met most.
            "unclosed group" => "missing closing )",
            "unopened group" => "unexpected )",
            "unclosed character class" => "missing closing ]",
            "repetition operator missing expression" => "missing argument to repetition operator",
            other => other,
        };
        format!("error parsing regexp: {reason}: `{pattern}`")
    })
}

/// Rewrites what Go accepts and the engine here reads differently: `\z` is the same, `\Q..\E`
/// quotes, `\C` does not exist; classes may hold a literal `[` and doubled operators.
fn go_syntax(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    let mut class_start = false;
    while let Some(char) = chars.next() {
        let at_start = std::mem::take(&mut class_start);
        match char {
            '\\' => match chars.next() {
                Some('Q') => quote(&mut chars, &mut out),
                // Go allows any punctuation to be escaped; so does the engine, except for few.
                Some(next) if is_needless_escape(next) => out.push(next),
                Some(next) => {
                    out.push('\\');
                    out.push(next);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                // A named class: copied up to its end.
                while let Some(next) = chars.next() {
                    out.push(next);
                    if next == ':' && chars.peek() == Some(&']') {
                        break;
                    }
                }
                if let Some(end) = chars.next() {
                    out.push(end);
                }
            }
            ']' if in_class && at_start => out.push_str("\\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // Inside classes these would nest or combine sets.
            '[' => out.push_str("\\["),
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(char);
            }
            '-' if in_class && chars.peek() == Some(&'-') => out.push_str("\\-"),
            other => out.push(other),
        }
    }
    out
}

fn is_needless_escape(char: char) -> bool {
    matches!(char, '"' | '\'' | '/' | ':' | ';' | ',' | '=' | '@' | '!' | '`' | '_' | '%')
}

fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(char) = chars.next() {
        if char == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        text.push(char);
    }
    out.push_str(&regex::escape(&text));
}

impl Regexp {
    /// Compiles an expression whose captures go to `http.regexp.NAME.*` (with a name) and to
    /// `http.regexp.*`.
    ///
    /// # Errors
    /// The expression's mistake, in words.
    pub fn new(name: &str, pattern: &str) -> Result<Self, String> {
        let regex = compile(pattern)?;
        let mut prefixes = vec!["http.regexp.".to_owned()];
        if !name.is_empty() {
            prefixes.push(format!("http.regexp.{name}."));
        }
        let keys_of = |(index, group): (usize, Option<&str>)| {
            let by_number = prefixes.iter().map(|prefix| format!("{prefix}{index}"));
            let by_name =
                prefixes.iter().filter_map(|prefix| group.map(|group| format!("{prefix}{group}")));
            by_number.chain(by_name).collect()
        };
        let keys = regex.capture_names().enumerate().map(keys_of).collect();
        Ok(Self { regex, keys })
    }

    /// The expression.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Whether the text matches; keeps the captures in the exchange if so.
    pub fn capture(&self, text: &str, ex: &mut Exchange) -> bool {
        let Some(captures) = self.regex.captures(text) else { return false };
        for (index, keys) in self.keys.iter().enumerate() {
            let value = captures.get(index).map_or("", |found| found.as_str());
            for key in keys {
                ex.set_value(key.as_str(), Value::string(value));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caddis_core::Template;

    #[test]
    fn keeps_captures() {
        let mut ex = Exchange::for_test("/");
        let regexp = Regexp::new("r", r"^/(?P<first>[a-z]+)/(\d+)$").expect("compiles");
        assert!(regexp.capture("/ab/12", &mut ex));
        let text = "{http.regexp.r.1} {http.regexp.r.first} {http.regexp.2} {http.regexp.0}";
        assert_eq!(Template::parse(text).render(&ex), "ab ab 12 /ab/12");
        assert!(!regexp.capture("/ab", &mut ex));
    }

    #[test]
    fn reads_go_syntax() {
        for (pattern, text, want) in [
            (r"a\/b", "a/b", true),
            (r"\Qa.b\E$", "a.b", true),
            (r"\Qa.b\E$", "axb", false),
            (r"^[[a]$", "[", true),
            (r"^[^]]$", "]", false),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[a&&b]$", "&", true),
            (r"(?i)ABC", "abc", true),
        ] {
            assert_eq!(compile(pattern).expect(pattern).is_match(text), want, "{pattern}");
        }
        assert!(compile("(").is_err());
    }
}
