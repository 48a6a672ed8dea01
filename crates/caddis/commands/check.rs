//! `caddis check` (and `validate`): every mistake of a config at once, and what is most likely one.

use std::{collections::HashSet, process::ExitCode, sync::Arc};

use caddis_adapter::lints::{self, Doubt};
use caddis_caddyfile::{Diagnostic, File, FsLoader, SourceMap, Span};
use caddis_config::ConfigError;
use caddis_core::Registry;
use caddis_engine::Checker;

use super::Outcome;
use crate::{
    args::Check,
    diagnose::{self, Found, Traced},
    registry,
    report::{self, Format},
    source::{self, Failure, Text},
};

/// Checks a config as far as it can be without opening sockets.
pub(crate) fn check(flags: &Check) -> Outcome {
    if let Some(code) = &flags.explain {
        return explain_code(code);
    }
    if let Some(code) = flags.allow.iter().find(|code| lints::lint(code).is_none()) {
        return Err(unknown_code(code));
    }
    let text = match source::read_text(&flags.config) {
        Ok(Some(text)) => text,
        Ok(None) => {
            let message = "no config file to check; name one with --config, or run this where the Caddyfile is";
            return Err(message.into());
        }
        Err(failure) => return Err(failure.to_string()),
    };
    let (mut all, sources) = by_stage(&text, &registry::standard(), &flags.allow);
    let sentence = Failure::Diagnostics(all.clone(), sources.clone()).to_string();
    in_order(&mut all);
    if flags.format == Format::Text {
        report::draw(&all, &sources);
    } else {
        report::print(flags.format, &all, &sources);
    }
    let folded = report::folded(&all);
    let errors = folded.iter().filter(|(one, _)| one.is_error()).count();
    let warnings = folded.len() - errors;
    if errors > 0 {
        crate::say::complain!("{}", count(errors, "mistake") + " found");
        return Err(sentence);
    }
    if warnings > 0 && flags.strict {
        return Err(format!("{} found, and --strict was given", count(warnings, "warning")));
    }
    if flags.format == Format::Text {
        match warnings {
            0 => crate::say::say!("Valid configuration"),
            some => crate::say::say!("Valid configuration, {}", count(some, "warning")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// All that is wrong or odd in a config, in the order of the text.
pub(crate) fn findings(text: &Text, registry: &Registry, allowed: &[String]) -> Found {
    let (mut all, sources) = by_stage(text, registry, allowed);
    in_order(&mut all);
    (all, sources)
}

/// The mistakes alone, the one that Caddy names first.
pub(crate) fn mistakes_of(text: &Text, registry: &Registry) -> Found {
    let (mut all, sources) = by_stage(text, registry, &[]);
    all.retain(Diagnostic::is_error);
    (all, sources)
}

/// All findings, the first mistake being the one that Caddy names: a file is read, then adapted, then its
/// modules are set up.
fn by_stage(text: &Text, registry: &Registry, allowed: &[String]) -> Found {
    if text.is_json() {
        in_json(text, registry, allowed)
    } else {
        in_caddyfile(text, registry, allowed)
    }
}

fn in_json(text: &Text, registry: &Registry, allowed: &[String]) -> Found {
    match source::parse_json(text) {
        Ok(json) => {
            let again = || source::parse_json(text).unwrap_or_default();
            let odd = lints::run_json(&json, allowed);
            let mistakes = diagnose::mistakes(registry, json, again);
            diagnose::in_json(text, &mistakes, odd, registry)
        }
        Err(Failure::Diagnostics(all, sources)) => (all, sources),
        Err(Failure::Message(message)) => (vec![Diagnostic::error(message)], Arc::default()),
    }
}

fn in_caddyfile(text: &Text, registry: &Registry, allowed: &[String]) -> Found {
    if text.bytes.is_empty() {
        return (vec![source::nothing(&text.name)], Arc::default());
    }
    let parse = || caddis_caddyfile::parse(&text.name, &text.bytes, &FsLoader);
    let (mut file, mut all) = parse();
    let is_broken = all.iter().any(Diagnostic::is_error);
    if !is_broken && let Some(odd) = what_is_odd(&file, registry, allowed) {
        all.extend(odd);
        return (all, Arc::new(file.sources));
    }
    // The tokens of a large file are given up for the tree that is validated, and read again.
    let blocks = std::mem::take(&mut file.blocks);
    let adapted = match caddis_adapter::adapt_to_text(blocks, registry) {
        Ok(adapted) if !is_broken => Ok(adapted),
        adapted => Err(adapted.err().unwrap_or_default()),
    };
    let (json, warnings, literal) = match adapted {
        Ok((json, warnings)) => (json, warnings, None),
        Err(errors) => {
            // What the adapter says of a word that is wrong already adds nothing.
            let wrong: Vec<_> = all.iter().filter_map(|one| Some(one.labels.first()?.0)).collect();
            let is_new =
                |one: &Diagnostic| one.labels.first().is_none_or(|(span, _)| !wrong.contains(span));
            all.extend(errors.iter().filter(|one| is_new(one)).cloned());
            let (file, _) = parse();
            let sources = &file.sources;
            match caddis_adapter::reword_stray_brace(&mut all, sources, &FsLoader, registry) {
                Some((literal, adapted)) => {
                    all.clear();
                    let json = serde_json::to_string(&adapted.config).unwrap_or_default();
                    (json, adapted.warnings, Some(literal))
                }
                None => {
                    if let Some(found) = by_layout(text, &all, registry, allowed) {
                        return found;
                    }
                    return what_is_left(file, all, errors, registry, allowed);
                }
            }
        }
    };
    drop(file);
    let found = mistakes(json, text, registry);
    let file = literal.unwrap_or_else(|| parse().0);
    all.extend(lints::run(&file, &warnings, registry, allowed, &mut |_| {}));
    if found.is_empty() {
        return (all, Arc::new(file.sources));
    }
    let sources = match Traced::of(file, registry) {
        Ok(traced) => {
            all.extend(found.iter().map(|error| traced.at(error, registry)));
            traced.file.sources
        }
        Err((file, errors)) => {
            all.extend(errors);
            file.sources
        }
    };
    (all, Arc::new(sources))
}

/// The mistakes that are known of a file, and what else is wrong or odd in what adapts of it; `errors`
/// are those of the adapter.
fn what_is_left(
    file: File,
    mut all: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
    registry: &Registry,
    allowed: &[String],
) -> Found {
    let is_unclear = |one: &Diagnostic| one.is_error() && STRUCTURE.contains(&one.code);
    let doubt = if all.iter().any(is_unclear) {
        Doubt::Blocks
    } else if all.iter().filter(|one| one.is_error()).count() > errors.len() {
        Doubt::Imports
    } else {
        Doubt::Directives
    };
    let sources = file.sources.clone();
    let (beyond, odd) = beyond_mistakes(file, errors, doubt, &all, registry, allowed);
    if let Some(beyond) = beyond {
        add_beyond(&mut all, beyond);
    }
    all.extend(odd);
    (all, Arc::new(sources))
}

/// What shows in a file only when its mistakes are taken out, and what is odd in it; `known` are these
/// mistakes, `errors` those of the adapter.
fn beyond_mistakes(
    file: File,
    errors: Vec<Diagnostic>,
    doubt: Doubt,
    known: &[Diagnostic],
    registry: &Registry,
    allowed: &[String],
) -> (Option<(Vec<Diagnostic>, SourceMap)>, Vec<Diagnostic>) {
    let written = File { blocks: file.blocks.clone(), ..File::default() };
    let written =
        File { sources: file.sources.clone(), snippets: file.snippets.clone(), ..written };
    let repaired = caddis_adapter::repair(file, errors, registry);
    let mut odd = lints::run_on_mistaken(&written, repaired.as_ref(), doubt, registry, allowed);
    // Where the line is a mistake, or that which opens its block, its `;` goes with that.
    let strange = blocks_of_unknown(&written, known);
    odd.retain(|one| {
        one.code != "semicolon"
            || !(share_a_line(one, known, &written.sources)
                || one.labels.first().is_some_and(|(span, _)| strange.contains(span)))
    });
    (repaired.map(|repaired| diagnose::beyond(repaired, registry)), odd)
}

/// The words in the blocks of unknown directives.
fn blocks_of_unknown(file: &File, known: &[Diagnostic]) -> HashSet<Span> {
    let is_unknown =
        |one: &&Diagnostic| one.code == "adapter::unknown_directive" && one.meant.is_none();
    let names: HashSet<Span> =
        known.iter().filter(is_unknown).filter_map(|one| Some(one.labels.first()?.0)).collect();
    let segments = file.blocks.iter().flat_map(|block| &block.segments);
    let unknown =
        segments.filter(|segment| segment.name().is_some_and(|name| names.contains(&name.span)));
    unknown.flat_map(|segment| segment.0.iter().map(|word| word.span)).collect()
}

/// Adds mistakes that stand in lines in which no other one is known.
fn add_beyond(all: &mut Vec<Diagnostic>, (beyond, sources): (Vec<Diagnostic>, SourceMap)) {
    let known: Vec<_> = all.iter().filter(|one| one.is_error()).cloned().collect();
    all.extend(beyond.into_iter().filter(|one| !share_a_line(one, &known, &sources)));
}

/// What is odd in a file without mistakes; `None` where it has some.
///
/// The configuration is never there as a whole: it is checked without the handlers of sites, and then
/// for some sites at a time. For thousands of sites this takes less time than to write and read its text.
fn what_is_odd(file: &File, registry: &Registry, allowed: &[String]) -> Option<Vec<Diagnostic>> {
    let checker = Checker::new(registry);
    let outline = caddis_adapter::adapt_outline(file, registry).ok()?;
    let mut fine = checker.accepts(outline.config, true);
    let mut see = |part| fine = fine && checker.accepts(part, false);
    let odd = lints::run(file, &outline.warnings, registry, allowed, &mut see);
    fine.then_some(odd)
}

/// Whether a finding is drawn on the line of one of these.
fn share_a_line(one: &Diagnostic, others: &[Diagnostic], sources: &SourceMap) -> bool {
    let line = |one: &Diagnostic| {
        let (span, _) = one.labels.first()?;
        Some((span.file, sources.line_col(*span).0))
    };
    let here = line(one);
    here.is_some() && others.iter().any(|other| line(other) == here)
}

/// The mistakes of a config that adapted. Its tree, and the places of its parts, which take as much
/// memory again, are never there together.
fn mistakes(json: String, text: &Text, registry: &Registry) -> Vec<ConfigError> {
    let tree = match serde_json::from_str(&json) {
        Ok(tree) => tree,
        Err(error) => return vec![ConfigError::new("", format!("encoding config: {error}"))],
    };
    drop(json);
    diagnose::mistakes(registry, tree, || source::json_of(text, registry).unwrap_or_default())
}

/// Mistakes that leave the blocks of a file in doubt.
const STRUCTURE: [&str; 6] = [
    "adapter::key",
    "caddyfile::eof",
    "caddyfile::limit",
    "caddyfile::structure",
    "caddyfile::syntax",
    caddis_caddyfile::STRAY_BRACE,
];

/// The mistakes of a file in which braces are missing: these, and what is wrong beside. `all` is what
/// was found without a thought of the indentation; `None` if that is better.
fn by_layout(
    text: &Text,
    all: &[Diagnostic],
    registry: &Registry,
    allowed: &[String],
) -> Option<Found> {
    /// Most braces that may be missing; with more the indentation means nothing.
    const MOST: usize = 8;
    let first = all.iter().find(|one| one.is_error())?;
    let (file, mut found, mut notes) =
        caddis_caddyfile::parse_by_layout(&text.name, &text.bytes, &FsLoader)?;
    let doubt = if found.is_empty() { Doubt::Directives } else { Doubt::Imports };
    let errors = caddis_adapter::adapt(&file, registry).err().unwrap_or_default();
    found.extend(errors.iter().cloned());
    found.iter_mut().for_each(caddis_caddyfile::forget_layout);
    let unclear = |one: &Diagnostic| one.is_error() && STRUCTURE.contains(&one.code);
    if notes.len() > MOST || found.iter().any(unclear) {
        return None;
    }
    // The sentence that Caddy has for the file stays, drawn at the brace that is its cause.
    let sentence = first.to_string();
    if !found.iter().any(|one| one.to_string() == sentence) {
        let at = notes.iter().position(|note| note.place == first.place).unwrap_or(0);
        let cause = notes.get_mut(at)?;
        cause.message.clone_from(&first.message);
        cause.place.clone_from(&first.place);
        cause.imports.clone_from(&first.imports);
    }
    found.extend(notes);
    let sources = file.sources.clone();
    let (beyond, mut odd) = beyond_mistakes(file, errors, doubt, &found, registry, allowed);
    odd.iter_mut().for_each(caddis_caddyfile::forget_layout);
    let mut beyond = beyond.unwrap_or_default();
    beyond.0.iter_mut().for_each(caddis_caddyfile::forget_layout);
    add_beyond(&mut found, beyond);
    found.extend(odd);
    // Caddy's sentence stays the first.
    if let Some(at) = found.iter().position(|one| one.to_string() == sentence) {
        found[..=at].rotate_right(1);
    }
    Some((found, Arc::new(sources)))
}

/// Sorts findings by place; those without one come last.
pub(crate) fn in_order(all: &mut [Diagnostic]) {
    all.sort_by_key(|one| {
        let place = one.labels.first().map(|(span, _)| (span.file, span.start));
        (place.is_none(), place)
    });
}

fn unknown_code(code: &str) -> String {
    let known = lints::LINTS.iter().map(|lint| lint.code);
    let near = caddis_caddyfile::nearest(code, known);
    let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("there is no lint {code}{hint} (`caddis check --explain list` names all)")
}

/// `--explain CODE`, and `--explain list`.
fn explain_code(code: &str) -> Outcome {
    if code == "list" {
        for lint in lints::LINTS {
            crate::say::say!("{:26}{}", lint.code, lint.summary);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let lint = lints::lint(code).ok_or_else(|| unknown_code(code))?;
    crate::say::say!("{}: {}\n\n{}\n", lint.code, lint.summary, lint.explanation);
    crate::say::say!(
        "To allow it: `# caddis: allow {0}` on the line or right above, or --allow {0}.",
        lint.code
    );
    Ok(ExitCode::SUCCESS)
}
