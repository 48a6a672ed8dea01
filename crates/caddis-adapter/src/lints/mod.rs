//! Lints: what a Caddyfile says that is valid and most likely not meant.
//!
//! One file per lint or small family, and its line in [`LINTS`]. A lint looks at a [`Text`] (the
//! statements as written) or a [`Subject`] (with the configuration that they made) and gives
//! warnings. A finding is silenced by a comment on its line or right above: `# caddis: allow CODE`.

mod acme;
mod addresses;
mod admin;
mod auth;
mod captures;
mod environment;
mod files;
mod headers;
mod health;
mod hosts;
mod https;
mod json;
mod paths;
mod placeholders;
mod ports;
mod quotes;
mod reach;
mod redirects;
mod regexps;
mod status;
mod subject;
mod tls;
mod unused;
mod upstreams;

use caddis_caddyfile::{Diagnostic, File, ServerBlock, SourceMap, Span, Token};
use caddis_config::Config;
use caddis_core::Registry;

use crate::Repaired;

pub use json::{JsonFinding, run_json};

pub(crate) use subject::within;
use subject::{Subject, Text};

/// One lint.
pub struct Lint {
    /// Its name, in words with hyphens.
    pub code: &'static str,
    /// What it finds, in one line.
    pub summary: &'static str,
    /// Why that matters and what to do, for `caddis check --explain`.
    pub explanation: &'static str,
    run: Run,
}

/// What a lint has to see.
enum Run {
    /// All statements of the file at once.
    Text(fn(&Text<'_>, &mut Findings)),
    /// Sites with the configuration that they make; those of a large file come in parts.
    Sites(fn(&Subject<'_>, &mut Findings)),
    /// The same, but what is found is about one directive, whatever else is in its site.
    Directives(fn(&Subject<'_>, &mut Findings)),
}

/// Every lint, sorted by code.
pub const LINTS: &[&Lint] = &[
    &headers::CORS_CREDENTIALS,
    &headers::DEPRECATED,
    &quotes::FOREIGN_QUOTES,
    &health::HEALTH_CHECK_OFF,
    &health::HEALTH_TIMEOUT,
    &https::HTTPS_WITHOUT_CERTIFICATE,
    &hosts::IMPOSSIBLE_HOST,
    &paths::IMPOSSIBLE_PATH,
    &regexps::IMPOSSIBLE_REGEXP,
    &status::IMPOSSIBLE_STATUS,
    &tls::INSECURE_UPSTREAM_TLS,
    &tls::INTERNAL_PUBLIC_NAME,
    &tls::ON_DEMAND_OPEN,
    &admin::OPEN_ADMIN,
    &paths::PATH_WITHOUT_WILDCARD,
    &acme::PLACEHOLDER_EMAIL,
    &auth::PLAIN_BASIC_AUTH,
    &upstreams::PLAIN_TO_HTTPS_PORT,
    &ports::PORT_CLASH,
    &redirects::REDIR_TARGET_IS_CODE,
    &redirects::REDIRECT_LOOP,
    &headers::REDUNDANT_HEADER,
    &paths::REPEATED_STRIP,
    &quotes::SEMICOLON,
    &reach::SHADOWED_ROUTE,
    &acme::STAGING_CA,
    &quotes::SWALLOWED_LINES,
    &admin::TRUSTS_EVERYONE,
    &files::TRY_FILES_WITHOUT_EFFECT,
    &captures::UNKNOWN_CAPTURE,
    &placeholders::UNKNOWN_PLACEHOLDER,
    &quotes::UNQUOTED_VALUE,
    &reach::UNREACHABLE_ROUTE,
    &environment::UNSET_VARIABLE,
    &tls::UNSUPPORTED_CIPHER,
    &unused::UNUSED_MATCHER,
    &files::UNUSED_ROOT,
    &unused::UNUSED_ROUTE,
    &unused::UNUSED_SNIPPET,
    &upstreams::UPSTREAM_LOOP,
    &upstreams::UPSTREAM_PATH,
    &upstreams::WEIGHTS_MISMATCH,
    &tls::WILDCARD_NEEDS_DNS,
];

/// The lint with this code.
pub fn lint(code: &str) -> Option<&'static Lint> {
    LINTS.iter().copied().find(|lint| lint.code == code)
}

/// Most sites whose configuration is there at once, so that a file with thousands takes no more memory
/// to check than to adapt. More than a list of routes may have for `shadowed-route` to look at it.
const SITES_AT_ONCE: usize = 512;

/// Runs all lints but the allowed ones on a file that adapts, with the `warnings` of the adapter; the
/// findings are in the order of the texts. `see` gets the configuration of each part of the sites, with
/// the options and named routes.
pub fn run(
    file: &File,
    warnings: &[Diagnostic],
    registry: &Registry,
    allowed: &[String],
    see: &mut dyn FnMut(Config),
) -> Vec<Diagnostic> {
    let mut findings = Findings::default();
    on_text(&Text::new(file, warnings, file.blocks.iter()), allowed, &mut findings);
    each_part(&file.blocks, &mut |blocks| {
        // A part may fail only where the whole does, too.
        let Ok(adapted) = crate::adapt_blocks(blocks, registry) else { return };
        let text = Text::new(file, warnings, blocks.iter().copied());
        on_sites(&Subject::new(text, &adapted), allowed, &mut findings);
        see(adapted.config);
    });
    findings.list.extend(warnings.iter().filter(|one| !headers::taken_up(one)).cloned());
    sorted(findings, file)
}

/// Lints about words of one line, whatever other lines there may be.
const OF_ONE_LINE: &[&str] = &[
    "deprecated",
    "foreign-quotes",
    "impossible-path",
    "impossible-regexp",
    "impossible-status",
    "insecure-upstream-tls",
    "path-without-wildcard",
    "placeholder-email",
    "redir-target-is-code",
    "semicolon",
    "staging-ca",
    "trusts-everyone",
    "unknown-placeholder",
    "unquoted-value",
    "unsupported-cipher",
];

/// What is in doubt of a file with mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// What is in some directives.
    Directives,
    /// Which directives there are, as something could not be imported.
    Imports,
    /// Even where blocks begin and end.
    Blocks,
}

/// Runs lints on a file with mistakes, as far as what they look at is beyond doubt; `repaired` is what
/// adapts of it.
pub fn run_on_mistaken(
    file: &File,
    repaired: Option<&Repaired>,
    doubt: Doubt,
    registry: &Registry,
    allowed: &[String],
) -> Vec<Diagnostic> {
    let mut findings = Findings::default();
    let warnings = repaired.map_or(&[][..], |repaired| &repaired.adapted.warnings);
    let text = Text::new(file, warnings, file.blocks.iter());
    // Where blocks are in doubt, only those that may explain why.
    let explain = [environment::UNSET_VARIABLE.code, quotes::SWALLOWED_LINES.code];
    let concerned = LINTS.iter().filter(|lint| match doubt {
        Doubt::Blocks => explain.contains(&lint.code),
        Doubt::Imports => explain.contains(&lint.code) || OF_ONE_LINE.contains(&lint.code),
        Doubt::Directives => true,
    });
    concerned.for_each(|lint| run_one(lint, allowed, &mut findings, &text, None));
    // What an unknown directive fills is unknown, too, unless it is like something known.
    let is_guess = |finding: &Diagnostic| {
        finding.code == placeholders::UNKNOWN_PLACEHOLDER.code && finding.help.is_none()
    };
    findings.list.retain(|finding| !is_guess(finding));
    if let Some(repaired) = repaired.filter(|_| doubt != Doubt::Blocks) {
        on_repaired(repaired, doubt, registry, allowed, &mut findings);
    }
    sorted(findings, file)
}

/// Runs the lints that look at configurations: those about one directive on all directives of which
/// nothing was taken out, the others on such sites.
fn on_repaired(
    repaired: &Repaired,
    doubt: Doubt,
    registry: &Registry,
    allowed: &[String],
    findings: &mut Findings,
) {
    let Repaired { file, gone, adapted } = repaired;
    let mut found = Findings::default();
    let mut look = |blocks: &[ServerBlock], is_whole: bool| {
        each_part(blocks, &mut |blocks| {
            let Ok(adapted) = crate::adapt_blocks(blocks, registry) else { return };
            let text = Text::new(file, &[], blocks.iter().copied());
            let subject = Subject::new(text, &adapted);
            let concerned =
                LINTS.iter().filter(|lint| is_whole == matches!(lint.run, Run::Sites(_)));
            concerned
                .for_each(|lint| run_one(lint, allowed, &mut found, &subject.text, Some(&subject)));
        });
    };
    look(&file.blocks, false);
    if doubt == Doubt::Directives && gone.options_are_whole() {
        let is_shared = |block: &ServerBlock| block.is_named_route || block.keys.is_empty();
        let whole = file.blocks.iter().filter(|block| is_shared(block) || gone.is_whole(block));
        look(&whole.cloned().collect::<Vec<_>>(), true);
    }
    found.list.retain(|finding| gone.leaves_alone(finding));
    findings.list.append(&mut found.list);
    let warnings = adapted.warnings.iter().filter(|one| !headers::taken_up(one));
    findings.list.extend(warnings.filter(|one| gone.leaves_alone(one)).cloned());
}

/// Calls `see` with the blocks of some sites, those of options and named routes before them, until
/// every site was there.
fn each_part<'a>(all: &'a [ServerBlock], see: &mut dyn FnMut(&[&'a ServerBlock])) {
    let is_shared = |(at, block): (usize, &ServerBlock)| {
        block.is_named_route || (at == 0 && block.keys.is_empty())
    };
    let (shared, sites): (Vec<_>, Vec<_>) =
        all.iter().enumerate().partition(|(at, block)| is_shared((*at, block)));
    let blocks = |list: &[(usize, &'a ServerBlock)]| list.iter().map(|(_, block)| *block).collect();
    let shared: Vec<&ServerBlock> = blocks(&shared);
    if sites.is_empty() {
        see(&shared);
    }
    for part in sites.chunks(SITES_AT_ONCE) {
        let part: Vec<&ServerBlock> = blocks(part);
        see(&[shared.as_slice(), part.as_slice()].concat());
    }
}

fn on_text(text: &Text<'_>, allowed: &[String], findings: &mut Findings) {
    LINTS.iter().for_each(|lint| run_one(lint, allowed, findings, text, None));
}

fn on_sites(subject: &Subject<'_>, allowed: &[String], findings: &mut Findings) {
    for lint in LINTS {
        run_one(lint, allowed, findings, &subject.text, Some(subject));
    }
}

/// Runs a lint, if it looks at what is there: sites if they are given, the text if not.
fn run_one(
    lint: &Lint,
    allowed: &[String],
    findings: &mut Findings,
    text: &Text<'_>,
    subject: Option<&Subject<'_>>,
) {
    if allowed.iter().any(|code| code == lint.code) {
        return;
    }
    findings.code = lint.code;
    match (&lint.run, subject) {
        (Run::Text(run), None) => run(text, findings),
        (Run::Sites(run) | Run::Directives(run), Some(subject)) => run(subject, findings),
        _ => {}
    }
}

fn sorted(findings: Findings, file: &File) -> Vec<Diagnostic> {
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
