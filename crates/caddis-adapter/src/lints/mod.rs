//! Lints: what a Caddyfile says that is valid and most likely not meant.
//!
//! One file per lint or small family, and its line in [`LINTS`]. A lint looks at a [`Subject`] (the
//! statements as written, and the configuration that they made) and gives warnings. A finding is
//! silenced by a comment on its line or right above: `# caddis: allow CODE`.

mod admin;
mod auth;
mod environment;
mod headers;
mod health;
mod hosts;
mod json;
mod paths;
mod placeholders;
mod ports;
mod reach;
mod redirects;
mod regexps;
mod subject;
mod tls;
mod unused;
mod upstreams;

use caddis_caddyfile::{Diagnostic, File, SourceMap, Span, Token};

use crate::Adapted;

pub use json::{JsonFinding, run_json};

use subject::Subject;

/// One lint.
pub struct Lint {
    /// Its name, in words with hyphens.
    pub code: &'static str,
    /// What it finds, in one line.
    pub summary: &'static str,
    /// Why that matters and what to do, for `caddis check --explain`.
    pub explanation: &'static str,
    run: fn(&Subject<'_>, &mut Findings),
}

/// Every lint, sorted by code.
pub const LINTS: &[&Lint] = &[
    &headers::DEPRECATED,
    &health::HEALTH_TIMEOUT,
    &hosts::IMPOSSIBLE_HOST,
    &regexps::IMPOSSIBLE_REGEXP,
    &tls::INSECURE_UPSTREAM_TLS,
    &tls::INTERNAL_PUBLIC_NAME,
    &tls::ON_DEMAND_OPEN,
    &admin::OPEN_ADMIN,
    &paths::PATH_WITHOUT_WILDCARD,
    &auth::PLAIN_BASIC_AUTH,
    &upstreams::PLAIN_TO_HTTPS_PORT,
    &ports::PORT_CLASH,
    &redirects::REDIR_TARGET_IS_CODE,
    &headers::REDUNDANT_HEADER,
    &reach::SHADOWED_ROUTE,
    &admin::TRUSTS_EVERYONE,
    &placeholders::UNKNOWN_PLACEHOLDER,
    &reach::UNREACHABLE_ROUTE,
    &environment::UNSET_VARIABLE,
    &unused::UNUSED_MATCHER,
    &unused::UNUSED_ROUTE,
    &unused::UNUSED_SNIPPET,
    &upstreams::UPSTREAM_LOOP,
    &upstreams::WEIGHTS_MISMATCH,
    &tls::WILDCARD_NEEDS_DNS,
];

/// The lint with this code.
pub fn lint(code: &str) -> Option<&'static Lint> {
    LINTS.iter().copied().find(|lint| lint.code == code)
}

/// Runs all lints but the allowed ones; the findings are in the order of the texts. The warnings of
/// the adapter are among them.
pub fn run(file: &File, adapted: &Adapted, allowed: &[String]) -> Vec<Diagnostic> {
    let subject = Subject::new(file, adapted);
    let mut findings = Findings::default();
    for lint in LINTS {
        if allowed.iter().any(|code| code == lint.code) {
            continue;
        }
        findings.code = lint.code;
        (lint.run)(&subject, &mut findings);
    }
    findings.list.extend(adapted.warnings.iter().filter(|one| !headers::taken_up(one)).cloned());
    let mut list = findings.list;
    list.retain(|finding| !is_silenced(finding, &file.sources));
    list.sort_by_key(|finding| finding.labels.first().map(|(span, _)| (span.file, span.start)));
    list.dedup_by(|a, b| a.code == b.code && a.labels == b.labels && a.message == b.message);
    list
}

/// What lints found.
#[derive(Default)]
struct Findings {
    list: Vec<Diagnostic>,
    code: &'static str,
}

impl Findings {
    /// Adds a finding at a token; `label` says what is the matter there.
    fn add(&mut self, token: &Token, message: impl Into<String>, label: &str) -> &mut Diagnostic {
        let finding =
            Diagnostic::warning(message).code(self.code).placed_at(token).labelled(token, label);
        self.push(finding)
    }

    /// Adds a finding with its places made.
    fn push(&mut self, finding: Diagnostic) -> &mut Diagnostic {
        self.list.push(finding.code(self.code));
        self.list.last_mut().expect("one was pushed")
    }
}

/// Whether a comment allows a finding.
fn is_silenced(finding: &Diagnostic, sources: &SourceMap) -> bool {
    finding.labels.first().is_some_and(|(span, _)| allowed_at(*span, finding.code, sources))
}

fn allowed_at(span: Span, code: &str, sources: &SourceMap) -> bool {
    let Some(source) = sources.get(span.file) else { return false };
    let (line, _) = source.line_col(span.start);
    let above = (1..line).rev().map(|at| source.line(at)).take_while(|line| is_comment(line));
    std::iter::once(source.line(line)).chain(above).any(|line| allows(line, code))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether a line holds `# caddis: allow …` with this code.
fn allows(line: &str, code: &str) -> bool {
    let mut comments = line.match_indices('#').map(|(at, _)| line[at + 1..].trim_start());
    comments.any(|comment| {
        let Some(rest) = comment.strip_prefix("caddis:") else { return false };
        let Some(codes) = rest.trim_start().strip_prefix("allow ") else { return false };
        codes.split([',', ' ']).any(|word| word.trim() == code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_complete() {
        assert!(LINTS.is_sorted_by_key(|lint| lint.code));
        for lint in LINTS {
            assert!(
                lint.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                lint.code
            );
            assert!(lint.explanation.len() > lint.summary.len(), "{}", lint.code);
        }
        assert!(lint("unused-snippet").is_some() && lint("nothing").is_none());
    }

    #[test]
    fn comments_allow() {
        assert!(allows("x # caddis: allow a-b, c", "c"));
        assert!(allows("#caddis: allow a-b", "a-b"));
        assert!(!allows("# caddis: allow a-b", "a"));
        assert!(!allows("# allow a", "a"));
    }
}
