//! `caddis adapt`: a Caddyfile as JSON.

use std::{borrow::Cow, io::Write, process::ExitCode};

use caddis_caddyfile::Diagnostic;
use caddis_config::json::write;

use super::{Outcome, check, drawn};
use crate::{
    args::Adapt,
    registry, report,
    source::{self, Text},
};

/// Prints the JSON of a config, its warnings on standard error.
pub(crate) fn adapt(flags: &Adapt) -> Outcome {
    let registry = registry::standard();
    let name = source::name_of(&flags.config).ok_or(
        "input file required when there is no Caddyfile in current directory (use --config flag)",
    )?;
    let input = source::read(&name).map_err(|error| format!("reading input file: {error}"))?;
    let adapter = flags.config.adapter.as_deref().unwrap_or("caddyfile");
    if adapter.is_empty() {
        let why = "adapter name is required (use --adapt flag or leave unspecified for default)";
        return Err(why.into());
    }
    if adapter != "caddyfile" {
        return Err(format!("unrecognized config adapter: {adapter}"));
    }
    // A large text is not kept twice.
    let (given, kept) = match flags.validate {
        true => (Cow::Owned(input.clone()), input),
        false => (Cow::Owned(input), Vec::new()),
    };
    let (mut text, warnings, sources) =
        source::adapt_text(&name, given, &registry).map_err(|failure| {
            let message = drawn(&failure);
            // Here it goes without saying what was done.
            message.strip_prefix("adapting config using caddyfile: ").unwrap_or(&message).to_owned()
        })?;
    report::draw(&warnings, &sources);
    if flags.pretty {
        let config = caddis_config::from_str(&text).map_err(|error| error.to_string())?;
        text = write::to_string_pretty(&config).map_err(|error| error.to_string())?;
    }
    text.push('\n');
    // A reader that went away is no failure of adapting.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if flags.validate {
        let text = Text { name, bytes: kept, adapter: adapter.to_owned() };
        let (all, sources) = check::findings(&text, &registry, &[]);
        let errors: Vec<_> = all.into_iter().filter(Diagnostic::is_error).collect();
        report::draw(&errors, &sources);
        if let Some(first) = errors.first() {
            return Err(format!("validation: {first}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
