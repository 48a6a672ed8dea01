//! Findings for people and for programs: drawn with miette, or as JSON, SARIF, GitHub annotations.

mod machine;

use std::{collections::HashMap, fmt::Write, io::IsTerminal};

use caddis_caddyfile::{Diagnostic, SourceMap, Span, plain};
use clap::ValueEnum;
use miette::{GraphicalReportHandler, GraphicalTheme};

/// How findings are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Drawings for people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Annotations of GitHub Actions
    Github,
}

/// Most import lines that a drawing shows.
const SHOWN_IMPORTS: usize = 3;

/// Draws diagnostics on standard error, in colour only on a terminal.
pub(crate) fn draw(all: &[Diagnostic], sources: &SourceMap) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    crate::say::err(drawn(all, sources, colour));
}

/// The drawings of diagnostics. What shows more than once through several imports is drawn once.
pub(crate) fn drawn(all: &[Diagnostic], sources: &SourceMap, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_links(false).with_wrap_lines(false);
    let mut out = String::new();
    for (one, more) in folded(all) {
        let one = with_imports(one, more, sources);
        let mut text = String::new();
        match handler.render_report(&mut text, &one.with_sources(sources)) {
            Ok(()) => {
                for line in text.trim_end().lines() {
                    out.push_str(line.trim_end());
                    out.push('\n');
                }
            }
            // Writing into a text does not fail.
            Err(_) => drop(writeln!(out, "{one}")),
        }
        out.push('\n');
    }
    out
}

/// Prints diagnostics on standard output for programs.
pub(crate) fn print(format: Format, all: &[Diagnostic], sources: &SourceMap) {
    match format {
        Format::Text => {}
        Format::Json => crate::say::say!("{:#}", machine::json(all, sources)),
        Format::Sarif => crate::say::say!("{:#}", machine::sarif(all, sources)),
        Format::Github => crate::say::out(machine::github(all, sources)),
    }
}

/// Diagnostics as the objects of `findings` in `caddis check --format json`.
pub(crate) fn findings(all: &[Diagnostic], sources: &SourceMap) -> Vec<serde_json::Value> {
    machine::findings(all, sources)
}

/// Diagnostics with the number of later ones that say the same of the same place.
pub(crate) fn folded(all: &[Diagnostic]) -> Vec<(&Diagnostic, usize)> {
    let mut list: Vec<(&Diagnostic, usize)> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for one in all {
        let is_placed = !one.labels.is_empty();
        let place =
            is_placed.then(|| *known.entry((&one.labels, &one.message)).or_insert(list.len()));
        match place.filter(|_| one.imports.is_some()).and_then(|place| list.get_mut(place)) {
            Some((_, count)) => *count += 1,
            None => list.push((one, 0)),
        }
    }
    list
}

/// The diagnostic with the import lines that led to it.
fn with_imports(one: &Diagnostic, more: usize, sources: &SourceMap) -> Diagnostic {
    let mut one = one.clone();
    one.message = plain(&one.message).into_owned();
    one.help = one.help.take().map(|help| plain(&help).into_owned());
    for (_, label) in &mut one.labels {
        *label = plain(label).into_owned();
    }
    let chain = one.imports.clone();
    for link in chain.iter().flat_map(|chain| chain.iter()).take(SHOWN_IMPORTS) {
        if let Some(span) = line_span(&link.file, link.line, sources) {
            one.labels.push((span, "imported here".into()));
        }
    }
    if more > 0 {
        let times =
            if more == 1 { "one more import".into() } else { format!("{more} more imports") };
        let help = one.help.take().map_or(String::new(), |help| format!("{help}\n"));
        one.help = Some(format!("{help}the same through {times}"));
    }
    one
}

/// The words of a line.
fn line_span(file: &str, line: u32, sources: &SourceMap) -> Option<Span> {
    let (id, source) = sources.iter().find(|(_, source)| source.name == file)?;
    let text = source.line(line);
    let start = text.as_ptr() as usize - source.text.as_ptr() as usize;
    let indent = text.len() - text.trim_start().len();
    let words = text.trim();
    (!words.is_empty()).then(|| {
        let start = (start + indent) as u32;
        Span::new(id, start, start + words.len() as u32)
    })
}
