//! `unused-snippet`, `unused-matcher`, `unused-route`: defined and never used.

use std::collections::{BTreeMap, HashMap, HashSet};

use caddis_caddyfile::{Diagnostic, Span, Token, nearest};

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
        look(&site.body, &mut Names::new(), &mut seen);
    }
    for (token, _) in seen.values().filter(|(_, used)| !used) {
        let message = format!("matcher {} is never used", token.text);
        findings.add(token, message, "defined here").help =
            Some("name it in the directive that is meant to have it, or remove it".into());
    }
}

/// How often each name is defined around a place.
type Names<'a> = HashMap<&'a str, usize>;

fn look<'a>(
    list: &[Statement<'a>],
    names: &mut Names<'a>,
    seen: &mut BTreeMap<Span, (Token, bool)>,
) {
    let own: Vec<&str> = defined(list);
    enter(names, &own);
    let mut strays = None;
    let mut all = Names::new();
    list.iter().for_each(|statement| count_uses(statement, &mut all));
    for statement in list {
        if statement.name().starts_with('@') && statement.name().len() > 1 {
            let name = statement.name();
            let mut within = Names::new();
            count_uses(statement, &mut within);
            let used = all.get(name) > within.get(name)
                || strays.get_or_insert_with(|| Strays::of(list, names)).may_mean(name);
            let entry =
                seen.entry(statement.token().span).or_insert((statement.token().clone(), false));
            entry.1 |= used;
        }
        look(&statement.body, names, seen);
    }
    leave(names, &own);
}

/// What is used in some lines and defined nowhere around: each may be one of the matchers of these lines,
/// mistyped.
#[derive(Default)]
struct Strays<'a> {
    /// The matchers whose names are near.
    near: HashSet<&'a str>,
    /// Whether one is like none of them.
    other: bool,
}

impl<'a> Strays<'a> {
    fn of(list: &[Statement<'a>], names: &mut Names<'a>) -> Self {
        let mut found = HashSet::new();
        list.iter().for_each(|statement| collect_strays(statement, names, &mut found));
        // Beyond a few, nothing can be said.
        let mut strays = Self { other: found.len() > 32, ..Self::default() };
        for stray in found.into_iter().take(32) {
            match nearest(stray, defined(list)) {
                Some(near) => strays.near.insert(near),
                None => std::mem::replace(&mut strays.other, true),
            };
        }
        strays
    }

    fn may_mean(&self, name: &str) -> bool {
        self.other || self.near.contains(name)
    }
}

fn collect_strays<'a>(
    statement: &Statement<'a>,
    names: &mut Names<'a>,
    found: &mut HashSet<&'a str>,
) {
    let word = statement.matcher().map(|word| word.text.as_str());
    let is_use = |word: &&str| word.starts_with('@') && !statement.name().starts_with('@');
    found.extend(word.filter(is_use).filter(|word| !names.contains_key(word)));
    let own = defined(&statement.body);
    enter(names, &own);
    statement.body.iter().for_each(|one| collect_strays(one, names, found));
    leave(names, &own);
}

/// The matchers that are defined in a list of lines.
fn defined<'a>(list: &[Statement<'a>]) -> Vec<&'a str> {
    list.iter().map(Statement::name).filter(|name| name.starts_with('@')).collect()
}

fn enter<'a>(names: &mut Names<'a>, own: &[&'a str]) {
    own.iter().for_each(|name| *names.entry(name).or_default() += 1);
}

fn leave<'a>(names: &mut Names<'a>, own: &[&'a str]) {
    for name in own {
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
    }
}

/// Counts what may be uses of matchers in a line and its block: the first words of lines define them.
fn count_uses<'a>(statement: &Statement<'a>, uses: &mut Names<'a>) {
    let words = statement.words.iter().skip(1).map(|word| word.text.as_str());
    for word in words.filter(|word| word.starts_with('@')) {
        *uses.entry(word).or_default() += 1;
    }
    statement.body.iter().for_each(|one| count_uses(one, uses));
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
