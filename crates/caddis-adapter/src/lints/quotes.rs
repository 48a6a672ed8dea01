//! `foreign-quotes`, `semicolon`, `swallowed-lines`, `unquoted-value`: words that end elsewhere than
//! was meant.

use caddis_caddyfile::{Span, Token};

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static FOREIGN_QUOTES: Lint = Lint {
    code: "foreign-quotes",
    summary: "quotes that do not quote here",
    explanation: "\
Only double quotes and backticks quote. A single or typographic quote (`'`, `“`) is a character like any
other: `respond 'all is well'` has three arguments, and `respond 'ok'` answers with the quotes. Write
`\"all is well\"`.",
    run: Run::Text(foreign),
};

pub(super) static SEMICOLON: Lint = Lint {
    code: "semicolon",
    summary: "a line that ends with `;`",
    explanation: "\
A line ends where it ends. A `;` belongs to the last word, so that `root * /srv;` serves the folder
`/srv;`. Remove it; where it is meant, put the word into quotes.",
    run: Run::Text(semicolon),
};

pub(super) static SWALLOWED_LINES: Lint = Lint {
    code: "swallowed-lines",
    summary: "a quote that ends at the beginning of the next one",
    explanation: "\
Quoted text may span lines, so where a closing quote is forgotten the text goes on to the next quote in
the file, and the lines between are part of it. Such a text ends right before a word, where usually a
space is. Add the closing quote.",
    run: Run::Text(swallowed),
};

pub(super) static UNQUOTED_VALUE: Lint = Lint {
    code: "unquoted-value",
    summary: "a header's value in several words",
    explanation: "\
With two words after its name a header is searched and replaced, not set: in
`header Strict-Transport-Security max-age=31536000; preload` the word `max-age=31536000;` would be
replaced by `preload` in a header that the answer already has. A value with spaces goes into double quotes.",
    run: Run::Text(unquoted),
};

fn foreign(text: &Text<'_>, findings: &mut Findings) {
    const PAIRS: [(char, char); 3] = [('\'', '\''), ('“', '”'), ('‘', '’')];
    text.each(&mut |statement, parents| {
        let expression = |one: &Statement<'_>| {
            one.words.iter().any(|word| word.text == "expression" && !word.is_quoted())
        };
        // Texts of that language have quotes of their own.
        if expression(statement) || parents.iter().any(|parent| expression(parent)) {
            return;
        }
        let words = statement.words.get(1..).unwrap_or_default();
        for (open, close) in PAIRS {
            let opens = |word: &Token| !word.is_quoted() && word.text.starts_with(open);
            let closes = |word: &Token| {
                !word.is_quoted() && word.text.chars().count() > 1 && word.text.ends_with(close)
            };
            let Some(first) = words.iter().position(opens) else { continue };
            let Some(last) = words[first..].iter().position(closes) else { continue };
            let message = format!("`{open}` does not quote");
            let span = words[first].span.to(words[first + last].span);
            let finding = findings.add(&words[first], message, "");
            finding.labels =
                vec![(span, "the quotes are part of the text, and spaces end a word".into())];
            finding.help = Some("use double quotes: \"…\"".into());
        }
    });
}

/// Directives whose values may end with a semicolon.
const HEADERS: &[&str] = &["header", "header_down", "header_up", "request_header"];

fn semicolon(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, parents| {
        let chain = || parents.iter().copied().chain([statement]);
        if chain().any(|one| HEADERS.contains(&one.name()) || one.name().starts_with('@')) {
            return;
        }
        let Some(last) = statement.words.last() else { return };
        let Some(plain) = last.text.strip_suffix(';').filter(|plain| !plain.is_empty()) else {
            return;
        };
        if !last.is_quoted() {
            let message = format!("the `;` is part of the word `{}`", last.text);
            findings.add(last, message, "lines end without `;`").help =
                Some(format!("write `{plain}`"));
        }
    });
}

fn swallowed(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, _| {
        for pair in statement.words.windows(2) {
            let [quoted, next] = pair else { continue };
            let adjacent = quoted.span.file == next.span.file && quoted.span.end == next.span.start;
            if quoted.is_quoted() && adjacent && quoted.text.contains('\n') {
                let lines = quoted.text.matches('\n').count();
                let message = format!("this text goes on for {lines} more line(s)");
                let finding = findings.add(quoted, message, "");
                let quote = Span { end: quoted.span.start + 1, ..quoted.span };
                finding.labels = vec![
                    (quote, "the text from here".into()),
                    (next.span, "ends here, right before a word".into()),
                ];
                finding.help = Some("add the closing quote in its first line".into());
            }
        }
    });
}

fn unquoted(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, parents| {
        let is_header = |one: &Statement<'_>| HEADERS.contains(&one.name());
        let field = if is_header(statement) {
            1 + usize::from(statement.matcher().is_some() && !statement.name().contains('_'))
        } else if parents.last().is_some_and(|parent| is_header(parent)) {
            0
        } else {
            return;
        };
        let Some([name, find, replace, ..]) = statement.words.get(field..) else { return };
        let foreign = find.text.starts_with(['\'', '“', '‘']);
        if !find.is_quoted() && !foreign && find.text.len() > 1 && find.text.ends_with([';', ',']) {
            let message = format!("`{}` in {} is searched and replaced", find.text, name.text);
            let finding = findings.add(find, message, "");
            finding.labels =
                vec![(find.span.to(replace.span), "not the value of the header".into())];
            finding.help = Some("put the value into double quotes".into());
        }
    });
}
