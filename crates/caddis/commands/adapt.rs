//! `caddis adapt`: a Caddyfile as JSON.

use std::process::ExitCode;

use caddis_engine::Engine;

use super::{Outcome, explain};
use crate::{args::Adapt, registry, source};

/// Prints the JSON of a config, its warnings on standard error.
pub(crate) fn adapt(flags: &Adapt) -> Outcome {
    let registry = registry::standard();
    let mut config = flags.config.clone();
    if config.adapter.is_none() && config.config.is_some() {
        config.adapter = Some("caddyfile".into());
    }
    let loaded = source::load(&config, &registry).map_err(|failure| explain(&failure))?.ok_or(
        "input file required when there is no Caddyfile in current directory (use --config flag)",
    )?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let typed: Result<caddis_config::Config, _> = caddis_config::decode(loaded.json.clone());
    let text = match (&typed, flags.pretty) {
        (Ok(config), true) => caddis_config::json::write::to_string_pretty(config),
        (Ok(config), false) => caddis_config::json::write::to_string(config),
        (Err(_), true) => caddis_config::json::write::to_string_pretty(&loaded.json),
        (Err(_), false) => caddis_config::json::write::to_string(&loaded.json),
    };
    println!("{}", text.map_err(|error| error.to_string())?);
    if flags.validate {
        Engine::validate(&registry, &loaded.json)
            .map_err(|error| format!("validation: {error}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
