//! `unused-snippet`, `unused-matcher`, `unused-route`: defined and never used.

use std::collections::{BTreeMap, HashSet};

use caddis_caddyfile::{Diagnostic, Span, Token};

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static UNUSED_SNIPPET: Lint = Lint {
    code: "unused-snippet",
    summary: "a snippet that no import names",
    explanation:
        "\
A snippet `(name) { … }` has no effect by itself; only `import name` brings its lines into a site. A
snippet that nobody imports is left over, or the import names another one. Remove it, or import it.",
    run: Run::Text(snippets),
};

pub(super) static UNUSED_MATCHER: Lint = Lint {
    code: "unused-matcher",
    summary: "a named matcher that no directive uses",
    explanation: "\
A matcher `@name …` does nothing until a directive names it (`handle @name { … }`). One that nobody
names is left over, or a directive was meant to have it and now applies to every request. Use it, or
remove it.",
    run: Run::Text(matchers),
};

pub(super) static UNUSED_ROUTE: Lint = Lint {
    code: "unused-route",
    summary: "a named route that no `invoke` names",
    explanation: "\
A named route `&(name) { … }` runs only where `invoke name` stands in a site. One that nobody invokes
is left over. Remove it, or invoke it.",
    run: Run::Text(routes),
};

fn snippets(text: &Text<'_>, findings: &mut Findings) {
    for note in text.file.snippets.iter().filter(|note| !note.used) {
        let sources = &text.file.sources;
        let mut finding = Diagnostic::warning(format!("snippet ({}) is never imported", note.name))
            .label(note.span, "defined here")
            .help(format!("import it where it is meant (`import {}`), or remove it", note.name));
        let (line, _) = sources.line_col(note.span);
        finding.place =
            sources.get(note.span.file).map(|source| (source.name.as_str().into(), line));
        findings.push(finding);
    }
}

fn matchers(text: &Text<'_>, findings: &mut Findings) {
    // A definition in a snippet may be used in one of the sites that import it.
    let mut seen: BTreeMap<Span, (Token, bool)> = BTreeMap::new();
    for site in &text.sites {
        look(&site.body, &mut seen);
    }
    for (token, _) in seen.values().filter(|(_, used)| !used) {
        let message = format!("matcher {} is never used", token.text);
        findings.add(token, message, "defined here").help =
            Some("name it in the directive that is meant to have it, or remove it".into());
    }
}

fn look(list: &[Statement<'_>], seen: &mut BTreeMap<Span, (Token, bool)>) {
    for statement in list {
        if statement.name().starts_with('@') && statement.name().len() > 1 {
            let name = statement.name();
            let used =
                list.iter().any(|other| !std::ptr::eq(other, statement) && uses(other, name));
            let entry =
                seen.entry(statement.token().span).or_insert((statement.token().clone(), false));
            entry.1 |= used;
        }
        look(&statement.body, seen);
    }
}

fn uses(statement: &Statement<'_>, name: &str) -> bool {
    let words = if statement.name() == name { &statement.words[1..] } else { statement.words };
    words.iter().any(|word| word.text == name) || statement.body.iter().any(|one| uses(one, name))
}

fn routes(text: &Text<'_>, findings: &mut Findings) {
    let mut invoked: HashSet<&str> = HashSet::new();
    text.each(&mut |statement, _| {
        if statement.name() == "invoke" {
            invoked.extend(statement.words[1..].iter().map(|word| word.text.as_str()));
        }
    });
    for route in text.sites.iter().filter(|site| site.block.is_named_route) {
        let Some(key) = route.block.keys.first() else { continue };
        if !invoked.contains(key.text.as_str()) {
            let message = format!("named route &({}) is never invoked", key.text);
            findings.add(key, message, "defined here").help =
                Some(format!("run it with `invoke {}` in a site, or remove it", key.text));
        }
    }
}
