//! `unknown-capture`: `{re.name.1}` of a regular expression that is nowhere.

use std::collections::HashSet;

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static UNKNOWN_CAPTURE: Lint = Lint {
    code: "unknown-capture",
    summary: "a capture of a regular expression that has no such name",
    explanation: "\
`{re.NAME.1}` is what the first group of the regular expression NAME matched. The name is the word
before the pattern (`path_regexp NAME ^/a/(.*)$`), else that of the named matcher it stands in. With
another name nothing fills the placeholder.",
    run: Run::Text(run),
};

const KINDS: &[&str] = &["header_regexp", "path_regexp", "vars_regexp"];

fn run(text: &Text<'_>, findings: &mut Findings) {
    let mut known: HashSet<&str> = HashSet::new();
    let mut unclear = false;
    text.each(&mut |statement, parents| {
        let chain = parents.iter().map(|one| one.name()).chain([statement.name()]);
        known.extend(
            chain.filter(|_| names_regexp(statement)).filter_map(|name| name.strip_prefix('@')),
        );
        known.extend(own_names(statement));
        // Names inside of expressions are not looked for.
        unclear |= statement.words.iter().any(|word| word.text.contains("_regexp("));
    });
    if unclear {
        return;
    }
    text.each(&mut |statement, parents| {
        if parents.iter().chain([&statement]).any(|one| one.name() == "log") {
            return;
        }
        for word in statement.words {
            for name in captures(&word.text).filter(|name| !known.contains(name)) {
                let message = format!("no regular expression is called {name}");
                let finding = findings.add(word, message, "nothing fills it");
                let near = caddis_caddyfile::nearest(name, known.iter().copied());
                finding.help = Some(match near {
                    Some(near) => format!("did you mean `{{re.{near}.…}}`?"),
                    None => format!("name the pattern: `path_regexp {name} <pattern>`"),
                });
            }
        }
    });
}

fn names_regexp(statement: &Statement<'_>) -> bool {
    statement.words.iter().any(|word| KINDS.contains(&word.text.as_str()))
}

/// The words after the kind of a matcher by regular expression; more than there are names among them.
fn own_names<'a>(statement: &Statement<'a>) -> impl Iterator<Item = &'a str> {
    let words: &'a [_] = statement.words;
    let at = words.iter().position(|word| KINDS.contains(&word.text.as_str()));
    at.into_iter().flat_map(move |at| &words[at + 1..]).map(|word| word.text.as_str())
}

/// The names in `{re.NAME.…}` and `{http.regexp.NAME.…}`; captures without a name are none.
fn captures(text: &str) -> impl Iterator<Item = &str> {
    let after =
        |start: &'static str| text.match_indices(start).map(move |(at, _)| at + start.len());
    after("{re.").chain(after("{http.regexp.")).filter_map(|at| {
        let rest = &text[at..];
        let inner = &rest[..rest.find('}')?];
        let (name, group) = inner.split_once('.')?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        (is_name && !name.is_empty() && !group.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::captures;

    #[test]
    fn finds_names() {
        let of = |text: &'static str| captures(text).collect::<Vec<_>>();
        assert_eq!(of("/x{re.a.1}{http.regexp.b.c}"), ["a", "b"]);
        assert_eq!(of("{re.1} {re.} {re.a {re.{x}.1} {re..1}"), Vec::<&str>::new());
    }
}
