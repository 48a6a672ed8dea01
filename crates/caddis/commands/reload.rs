//! `caddis reload`: `POST /load` of the adapted config.

use std::process::ExitCode;

use super::{Outcome, explain};
use crate::{args::Reload, client, registry, source};

/// Gives the running server a new config.
pub(crate) fn reload(flags: &Reload) -> Outcome {
    let loaded = source::load(&flags.client.config, &registry::standard())
        .map_err(|failure| explain(&failure))?
        .ok_or(
            "no config file to load; name one with --config, or run this where the Caddyfile is",
        )?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
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
    client::post(&address, "/load", &headers, loaded.json.to_string().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
