//! `redundant-header` and `deprecated`: what the directives themselves warn of, with a code.

use caddis_caddyfile::Diagnostic;

use super::subject::Subject;
use super::{Findings, Lint};

const UNNECESSARY: &str = "Unnecessary header_up";

pub(super) static REDUNDANT_HEADER: Lint = Lint {
    code: "redundant-header",
    summary: "a header that is set by default already",
    explanation: "\
`reverse_proxy` sends `Host` unchanged and sets `X-Forwarded-For`, `X-Forwarded-Proto` and
`X-Forwarded-Host` by itself, with regard to trusted proxies. Lines such as
`header_up X-Forwarded-Proto {scheme}` are a habit from other servers; they add nothing, and where a
trusted proxy stands in front they replace its right value by a wrong one. Remove the line.",
    run: redundant,
};

pub(super) static DEPRECATED: Lint = Lint {
    code: "deprecated",
    summary: "something that has a newer name or form",
    explanation: "\
The line works, by an old name or in an old form that Caddy has announced to remove. The message says
what to write instead.",
    run: deprecated,
};

/// Whether a warning of the adapter is one of these lints.
pub(super) fn taken_up(warning: &Diagnostic) -> bool {
    warning.message.starts_with(UNNECESSARY) || is_deprecation(warning)
}

fn is_deprecation(warning: &Diagnostic) -> bool {
    warning.message.contains("deprecated")
}

fn redundant(subject: &Subject<'_>, findings: &mut Findings) {
    for warning in &subject.adapted.warnings {
        if warning.message.starts_with(UNNECESSARY) {
            let mut finding = warning.clone();
            name_label(&mut finding, "set by default");
            findings.push(finding.help("remove this line"));
        }
    }
}

fn deprecated(subject: &Subject<'_>, findings: &mut Findings) {
    for warning in subject.adapted.warnings.iter().filter(|warning| is_deprecation(warning)) {
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
