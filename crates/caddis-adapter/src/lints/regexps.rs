//! `impossible-regexp`: patterns that nothing can match.

use caddis_caddyfile::Token;
use regex_syntax::hir::{Hir, HirKind, Look};

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static IMPOSSIBLE_REGEXP: Lint = Lint {
    code: "impossible-regexp",
    summary: "a regular expression that can never match",
    explanation: "\
The pattern wants something before `^` or after `$`, or it is a path pattern that begins with `^` and
something else than a slash: paths begin with `/`. What the matcher is for never runs. Note that a
path pattern sees the path alone, without host and query.",
    run: Run::Text(run),
};

fn run(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, _| {
        let Some((pattern, is_path)) = pattern(statement) else { return };
        let Some(label) = why_impossible(&pattern.text, is_path) else { return };
        let message = format!("the pattern {} can never match", pattern.text);
        findings.add(pattern, message, label);
    });
}

/// Why a pattern can never match; none if it can, or is none.
pub(super) fn why_impossible(pattern: &str, is_path: bool) -> Option<&'static str> {
    let hir = regex_syntax::Parser::new().parse(pattern).ok()?;
    if is_impossible(&hir) {
        Some("wants something before its beginning or after its end")
    } else if is_path && never_a_path(&hir) {
        Some("paths begin with a slash")
    } else {
        None
    }
}

/// The pattern in a statement, and whether it is for whole paths.
fn pattern<'a>(statement: &Statement<'a>) -> Option<(&'a Token, bool)> {
    let words = statement.words;
    let at = usize::from(statement.name().starts_with('@'));
    let kind = words.get(at)?.text.as_str();
    let rest = &words[at + 1..];
    match (kind, rest.len()) {
        ("path_regexp", 1 | 2) => Some((rest.last()?, true)),
        ("header_regexp" | "vars_regexp", 2 | 3) => Some((rest.last()?, false)),
        _ if statement.name() == "uri" => {
            let at = words.iter().position(|word| word.text == "path_regexp")?;
            Some((words.get(at + 1)?, false))
        }
        _ => None,
    }
}

/// Whether every way to match wants the impossible.
fn is_impossible(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Concat(parts) => {
            parts.iter().any(is_impossible)
                || parts.iter().enumerate().any(|(at, part)| {
                    let wants = |parts: &[Hir]| {
                        parts.iter().any(|one| one.properties().minimum_len().unwrap_or(0) > 0)
                    };
                    let is = |look: Look| matches!(part.kind(), HirKind::Look(own) if *own == look);
                    (is(Look::Start) && wants(&parts[..at]))
                        || (is(Look::End) && wants(&parts[at + 1..]))
                })
        }
        HirKind::Alternation(parts) => parts.iter().all(is_impossible),
        HirKind::Capture(capture) => is_impossible(&capture.sub),
        HirKind::Repetition(repetition) => repetition.min > 0 && is_impossible(&repetition.sub),
        HirKind::Class(class) => class.minimum_len().is_none(),
        _ => false,
    }
}

/// Whether a pattern begins with `^` and a letter that no path begins with.
fn never_a_path(hir: &Hir) -> bool {
    let HirKind::Concat(parts) = hir.kind() else { return false };
    let [first, second, ..] = parts.as_slice() else { return false };
    let anchored = matches!(first.kind(), HirKind::Look(Look::Start));
    let HirKind::Literal(literal) = second.kind() else { return false };
    anchored && literal.0.first().is_some_and(|byte| *byte != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_ones() {
        let hir = |text: &str| regex_syntax::Parser::new().parse(text).unwrap();
        for text in ["a^b", "a$b", "(x$)y^", "^/a$/", "[^\\s\\S]"] {
            assert!(is_impossible(&hir(text)), "{text}");
        }
        for text in ["^/a$", "a|b", "(^|/)a", "a($|/)", "x*^a", ""] {
            assert!(!is_impossible(&hir(text)), "{text}");
        }
        assert!(never_a_path(&hir("^api")) && !never_a_path(&hir("^/api")));
        assert!(!never_a_path(&hir("api")) && !never_a_path(&hir("^(/|x)")));
    }
}
