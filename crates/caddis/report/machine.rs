//! Findings as JSON, as SARIF, and as annotations of GitHub Actions.

use std::collections::BTreeSet;
use std::fmt::Write;

use caddis_adapter::lints;
use caddis_caddyfile::{Diagnostic, SourceMap, Span};
use serde_json::{Value as Json, json};

/// A place in a file, lines and columns from 1.
struct Region<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    end_line: u32,
    end_column: u32,
}

fn region(span: Span, sources: &SourceMap) -> Option<Region<'_>> {
    let source = sources.get(span.file)?;
    let (line, column) = source.line_col(span.start);
    let (end_line, end_column) = source.line_col(span.end);
    Some(Region { file: &source.name, line, column, end_line, end_column })
}

fn main_region<'a>(one: &Diagnostic, sources: &'a SourceMap) -> Option<Region<'a>> {
    one.labels.first().and_then(|(span, _)| region(*span, sources))
}

fn severity(one: &Diagnostic) -> &'static str {
    if one.is_error() { "error" } else { "warning" }
}

/// `{"errors": N, "warnings": N, "findings": […]}`.
pub(super) fn json(all: &[Diagnostic], sources: &SourceMap) -> Json {
    let errors = all.iter().filter(|one| one.is_error()).count();
    let findings = findings(all, sources);
    json!({ "errors": errors, "warnings": all.len() - errors, "findings": findings })
}

/// One object for each.
pub(super) fn findings(all: &[Diagnostic], sources: &SourceMap) -> Vec<Json> {
    all.iter().map(|one| finding(one, sources)).collect()
}

fn finding(one: &Diagnostic, sources: &SourceMap) -> Json {
    let place = |span: Span, text: &str| {
        region(span, sources).map(|region| {
            json!({
                "file": region.file,
                "line": region.line,
                "column": region.column,
                "end_line": region.end_line,
                "end_column": region.end_column,
                "text": text,
            })
        })
    };
    let labels: Vec<Json> =
        one.labels.iter().filter_map(|(span, text)| place(*span, text)).collect();
    let imports: Vec<Json> = one
        .imports
        .iter()
        .flat_map(|chain| chain.iter())
        .map(|link| json!({ "file": link.file.as_str(), "line": link.line, "name": link.name.as_deref() }))
        .collect();
    let main = main_region(one, sources);
    let (file, line) = match (&main, &one.place) {
        (Some(region), _) => (Some(region.file), Some(region.line)),
        (None, Some((file, line))) => (Some(file.as_str()), Some(*line)),
        (None, None) => (None, None),
    };
    json!({
        "severity": severity(one),
        "code": one.code,
        "message": one.message,
        "help": one.help,
        "file": file,
        "line": line,
        "column": main.as_ref().map(|region| region.column),
        "labels": labels,
        "imports": imports,
    })
}

/// A SARIF log with one run.
pub(super) fn sarif(all: &[Diagnostic], sources: &SourceMap) -> Json {
    let codes: BTreeSet<&str> = all.iter().map(|one| one.code).collect();
    let rules: Vec<Json> = codes.into_iter().map(rule).collect();
    let results: Vec<Json> = all.iter().map(|one| result(one, sources)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "caddis",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    })
}

fn rule(code: &str) -> Json {
    match lints::lint(code) {
        Some(lint) => json!({
            "id": code,
            "shortDescription": { "text": lint.summary },
            "fullDescription": { "text": lint.explanation },
        }),
        None => json!({ "id": code }),
    }
}

fn result(one: &Diagnostic, sources: &SourceMap) -> Json {
    let location = |region: Region<'_>| {
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": region.file },
            "region": {
                "startLine": region.line,
                "startColumn": region.column,
                "endLine": region.end_line,
                "endColumn": region.end_column,
            },
        }})
    };
    let locations: Vec<Json> = main_region(one, sources).map(location).into_iter().collect();
    let text = match &one.help {
        Some(help) => format!("{}\n{help}", one.message),
        None => one.message.clone(),
    };
    json!({
        "ruleId": one.code,
        "level": severity(one),
        "message": { "text": text },
        "locations": locations,
    })
}

/// One `::error` or `::warning` line for each.
pub(super) fn github(all: &[Diagnostic], sources: &SourceMap) -> String {
    let mut out = String::new();
    for one in all {
        let mut properties = vec![format!("title={}", property(one.code))];
        if let Some(region) = main_region(one, sources) {
            properties.insert(0, format!("file={}", property(region.file)));
            properties.push(format!("line={}", region.line));
            properties.push(format!("col={}", region.column));
            properties.push(format!("endLine={}", region.end_line));
            if region.end_line == region.line {
                properties.push(format!("endColumn={}", region.end_column));
            }
        }
        let text = match &one.help {
            Some(help) => format!("{}\n{help}", one.message),
            None => one.message.clone(),
        };
        // Writing into a text does not fail.
        let _ = writeln!(out, "::{} {}::{}", severity(one), properties.join(","), data(&text));
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use caddis_caddyfile::Source;

    use super::*;

    fn sample() -> (Vec<Diagnostic>, SourceMap) {
        let mut sources = SourceMap::new();
        let id = sources.add(Source::new("Caddyfile", "a\nbb cc\n"));
        let one =
            Diagnostic::error("wrong: 100%").label(Span::new(id, 5, 7), "here").help("do\nit");
        (vec![one, Diagnostic::warning("odd")], sources)
    }

    #[test]
    fn annotations() {
        let (all, sources) = sample();
        let text = github(&all, &sources);
        assert_eq!(
            text,
            "::error file=Caddyfile,title=caddyfile%3A%3Aerror,line=2,col=4,endLine=2,endColumn=6::wrong: 100%25%0Ado%0Ait\n::warning title=caddyfile%3A%3Awarning::odd\n"
        );
    }

    #[test]
    fn objects() {
        let (all, sources) = sample();
        let report = json(&all, &sources);
        assert_eq!((&report["errors"], &report["warnings"]), (&json!(1), &json!(1)));
        assert_eq!(report["findings"][0]["column"], 4);
        let log = sarif(&all, &sources);
        let first = &log["runs"][0]["results"][0];
        assert_eq!(first["locations"][0]["physicalLocation"]["region"]["endColumn"], 6);
    }
}
