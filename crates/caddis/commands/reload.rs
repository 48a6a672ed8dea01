//! `caddis reload`: `POST /load` of the adapted config.

use std::process::ExitCode;

use super::{Outcome, drawn};
use crate::{args::Reload, client, diagnose, registry, report, source};

/// Gives the running server a new config.
pub(crate) fn reload(flags: &Reload) -> Outcome {
    let loaded = source::load(&flags.client.config, &registry::standard())
        .map_err(|failure| drawn(&failure))?
        .ok_or(
            "no config file to load; name one with --config, or run this where the Caddyfile is",
        )?;
    report::draw(&loaded.warnings, &loaded.sources);
    // What can be seen here is said here, with its place; the running server would only name the path.
    let mistakes =
        diagnose::mistakes(&registry::standard(), loaded.json.clone(), || loaded.json.clone());
    let mistakes: Vec<_> = mistakes.into_iter().filter(|one| !one.path.is_empty()).collect();
    if !mistakes.is_empty() {
        let (all, sources) = diagnose::locate_all(&loaded.text, &mistakes, &registry::standard());
        report::draw(&all, &sources);
        let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
        return Err(format!("loading config: {}", texts.join("; ")));
    }
    let address = match &flags.client.address {
        Some(address) => address.clone(),
        None => client::from_config(Some(&loaded.json)),
    };
    let mut headers = vec![("Content-Type", "application/json")];
    if flags.force {
        headers.push(("Cache-Control", "must-revalidate"));
    }
    let file = loaded.file.clone().unwrap_or_default();
    headers.push(("Caddy-Config-Source-File", &file));
    headers.push(("Caddy-Config-Source-Adapter", &loaded.adapter));
    client::post(&address, "/load", &headers, loaded.json.to_string().as_bytes())
        .map_err(|error| format!("sending configuration to instance: {error}"))?;
    Ok(ExitCode::SUCCESS)
}
