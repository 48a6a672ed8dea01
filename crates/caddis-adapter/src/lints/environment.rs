//! `unset-variable`: `{$VAR}` without a default, where the variable is not set.

use std::collections::BTreeMap;

use caddis_caddyfile::Diagnostic;

use super::subject::Text;
use super::{Findings, Lint, Run};

pub(super) static UNSET_VARIABLE: Lint = Lint {
    code: "unset-variable",
    summary: "an environment variable that is not set and has no default",
    explanation: "\
`{$NAME}` is replaced by the value of an environment variable before the file is read. Where the
variable is not set, nothing takes its place: an address becomes empty, an argument vanishes. Set the
variable (also for the service that runs caddis), load it with `--envfile`, or write a default:
`{$NAME:value}`. With `{$NAME:}` the empty value is meant.",
    run: Run::Text(run),
};

/// Most places of a variable that are shown.
const SHOWN: usize = 4;

fn run(text: &Text<'_>, findings: &mut Findings) {
    let sources = &text.file.sources;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for span in sources.unset_variables() {
        let written = sources.text(span);
        let name = written.trim_start_matches("{$").trim_end_matches('}');
        // One finding for each variable, with its first other places.
        if let Some(first) = seen.get(name).and_then(|at| findings.list.get_mut(*at)) {
            let is_near = first.labels.first().is_some_and(|(other, _)| other.file == span.file);
            if is_near && first.labels.len() < SHOWN {
                first.labels.push((span, "and here".to_owned()));
            }
            continue;
        }
        seen.insert(name, findings.list.len());
        let message = format!("environment variable {name} is not set and has no default");
        let mut finding = Diagnostic::warning(message)
            .label(span, "becomes nothing")
            .help(format!("set {name}, or write a default: {{${name}:value}}"));
        let (line, _) = sources.line_col(span);
        finding.place = sources.get(span.file).map(|source| (source.name.as_str().into(), line));
        findings.push(finding);
    }
}
