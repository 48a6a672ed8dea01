//! `redundant-header` and `deprecated`: what the directives themselves warn of, with a code; and
//! `cors-credentials`.

use caddis_caddyfile::{Diagnostic, Token};

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

const UNNECESSARY: &str = "Unnecessary header_up";

pub(super) static REDUNDANT_HEADER: Lint = Lint {
    code: "redundant-header",
    summary: "a header that is set by default already",
    explanation: "\
`reverse_proxy` sends `Host` unchanged and sets `X-Forwarded-For`, `X-Forwarded-Proto` and
`X-Forwarded-Host` by itself, with regard to trusted proxies. Lines such as
`header_up X-Forwarded-Proto {scheme}` are a habit from other servers; they add nothing, and where a
trusted proxy stands in front they replace its right value by a wrong one. Remove the line.",
    run: Run::Text(redundant),
};

pub(super) static DEPRECATED: Lint = Lint {
    code: "deprecated",
    summary: "something that has a newer name or form",
    explanation: "\
The line works, by an old name or in an old form that Caddy has announced to remove. The message says
what to write instead.",
    run: Run::Text(deprecated),
};

pub(super) static CORS_CREDENTIALS: Lint = Lint {
    code: "cors-credentials",
    summary: "credentials for every origin, which browsers refuse",
    explanation: "\
Browsers refuse an answer to a request with credentials whose `Access-Control-Allow-Origin` is `*`. Name
the origin (`Access-Control-Allow-Origin https://app.example.com`), or leave
`Access-Control-Allow-Credentials` away.",
    run: Run::Text(cors),
};

pub(super) const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
pub(super) const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";

fn cors(text: &Text<'_>, findings: &mut Findings) {
    for site in &text.sites {
        cors_in(&site.body, findings);
    }
}

/// Looks at the `header` directives that stand side by side with the same matcher.
fn cors_in(list: &[Statement<'_>], findings: &mut Findings) {
    let headers = || list.iter().filter(|one| one.name() == "header");
    for header in headers() {
        let same = |other: &&Statement<'_>| {
            let of = |one: &Statement<'_>| one.matcher().map(|token| token.text.clone());
            of(header) == of(other)
        };
        let Some(credentials) = value_of(header, ALLOW_CREDENTIALS, "true") else { continue };
        let Some(origin) = headers().filter(same).find_map(|one| value_of(one, ALLOW_ORIGIN, "*"))
        else {
            continue;
        };
        let message = "browsers refuse credentials where the allowed origin is `*`";
        let finding = findings.add(credentials, message, "has no effect");
        finding.labels.push((origin.span, "every origin".into()));
        finding.help = Some("name the origin, or leave this line away".into());
    }
    for statement in list {
        cors_in(&statement.body, findings);
    }
}

/// The name of a header in a `header` directive, where it is set to a value.
fn value_of<'a>(header: &Statement<'a>, name: &str, value: &str) -> Option<&'a Token> {
    let at = 1 + usize::from(header.matcher().is_some());
    let own = header.words.get(at..);
    let lines = own.into_iter().chain(header.body.iter().map(|line| line.words));
    lines
        .filter_map(|words| match words {
            [field, given, ..] => Some((field, given)),
            _ => None,
        })
        .find(|(field, given)| {
            field.text.trim_start_matches(['+', '?', '>']).eq_ignore_ascii_case(name)
                && given.text == value
        })
        .map(|(field, _)| field)
}

/// Whether a warning of the adapter is one of these lints.
pub(super) fn taken_up(warning: &Diagnostic) -> bool {
    warning.message.starts_with(UNNECESSARY) || is_deprecation(warning)
}

fn is_deprecation(warning: &Diagnostic) -> bool {
    warning.message.contains("deprecated")
}

fn redundant(text: &Text<'_>, findings: &mut Findings) {
    for warning in text.warnings {
        if warning.message.starts_with(UNNECESSARY) {
            let mut finding = warning.clone();
            name_label(&mut finding, "set by default");
            findings.push(finding.help("remove this line"));
        }
    }
}

fn deprecated(text: &Text<'_>, findings: &mut Findings) {
    for warning in text.warnings.iter().filter(|warning| is_deprecation(warning)) {
        let mut finding = warning.clone();
        name_label(&mut finding, "deprecated");
        findings.push(finding);
    }
}

fn name_label(finding: &mut Diagnostic, text: &str) {
    if let Some((_, label)) = finding.labels.first_mut() {
        text.clone_into(label);
    }
}
