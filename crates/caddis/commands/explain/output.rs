//! The report for people and for programs.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::request::Asked;
use super::walk::{Report, Step};

/// Column at which places stand.
const PLACE: usize = 56;

pub(super) fn text(asked: &Asked, report: &Report) -> String {
    let mut out = String::new();
    let tls = report.listener.as_ref().is_some_and(|listener| listener.tls);
    let https = asked.https.unwrap_or(tls);
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(format!("{} {}", asked.method, asked.url(https)));
    line(String::new());
    if let Some(listener) = &report.listener {
        let speaks = if listener.tls { "HTTPS" } else { "plain HTTP" };
        line(format!("listener {} ({speaks}, server {})", listener.address, listener.server));
    }
    if report.other_sites > 0 {
        let plural = if report.other_sites == 1 { "site is" } else { "sites are" };
        line(format!("  {} {plural} for other hosts", report.other_sites));
    }
    for step in &report.steps {
        line(step_line(step));
        for why in &step.why {
            line(format!("{}    {why}", indent(step)));
        }
    }
    line(String::new());
    let status = report.status.map_or(String::new(), |status| format!("{status}, "));
    line(format!("→ {status}{}", report.end));
    out
}

fn indent(step: &Step) -> String {
    "  ".repeat(step.depth)
}

fn step_line(step: &Step) -> String {
    let sign = if step.taken { "✓" } else { "✗" };
    let kind = if step.kind == "site" { "site " } else { "" };
    let mut text = format!("{}{sign} {kind}{}", indent(step), step.text);
    if let (Some(file), Some(line)) = (&step.file, step.line) {
        let width = PLACE.saturating_sub(text.chars().count());
        // Writing into a text does not fail.
        let _ = write!(text, "{:width$}  {file}:{line}", "");
    }
    text
}

pub(super) fn json(asked: &Asked, report: &Report) -> Json {
    let listener = report.listener.as_ref().map(|listener| {
        json!({ "address": listener.address, "server": listener.server, "tls": listener.tls })
    });
    let tls = report.listener.as_ref().is_some_and(|listener| listener.tls);
    let steps: Vec<Json> = report
        .steps
        .iter()
        .map(|step| {
            json!({
                "depth": step.depth,
                "kind": step.kind,
                "text": step.text,
                "file": step.file,
                "line": step.line,
                "taken": step.taken,
                "why": step.why,
            })
        })
        .collect();
    json!({
        "method": asked.method.as_str(),
        "url": asked.url(asked.https.unwrap_or(tls)),
        "listener": listener,
        "other_sites": report.other_sites,
        "steps": steps,
        "status": report.status,
        "end": report.end,
    })
}
