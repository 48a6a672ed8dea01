//! `impossible-status`: a status that no answer can have.

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static IMPOSSIBLE_STATUS: Lint = Lint {
    code: "impossible-status",
    summary: "a status code that is none",
    explanation: "\
The status of an answer is a number from 100 to 999, or a placeholder that becomes one. With anything else
the request fails when it comes, with status 500. A text of several words goes into double quotes.",
    run: Run::Text(run),
};

fn run(text: &Text<'_>, findings: &mut Findings) {
    text.each_directive(&mut |statement| {
        let Some(status) = status_of(statement) else { return };
        let code = status.text.parse::<u16>();
        if status.text.contains('{') || code.is_ok_and(|code| (100..1000).contains(&code)) {
            return;
        }
        let message = format!("`{}` is no status code", status.text);
        findings.add(status, message, "the request would fail").help =
            Some("a status is a number from 100 to 999, such as 404".into());
    });
}

/// The second word after the matcher of `respond` and `error`.
fn status_of<'a>(statement: &Statement<'a>) -> Option<&'a caddis_caddyfile::Token> {
    if !["respond", "error"].contains(&statement.name()) {
        return None;
    }
    statement.words.get(2 + usize::from(statement.matcher().is_some()))
}
