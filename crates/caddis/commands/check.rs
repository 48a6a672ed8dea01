//! `caddis check` (and `validate`): every mistake of a config at once.

use std::process::ExitCode;

use caddis_engine::{Engine, LoadError};

use super::Outcome;
use crate::{
    args::Config,
    registry, report,
    source::{self, Failure},
};

/// Checks a config as far as it can be without opening sockets.
pub(crate) fn check(flags: &Config) -> Outcome {
    let registry = registry::standard();
    let loaded = match source::load(flags, &registry) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => {
            let message = "no config file to check; name one with --config, or run this where the Caddyfile is";
            return Err(message.into());
        }
        Err(Failure::Message(message)) => return Err(message),
        Err(Failure::Diagnostics(all, sources)) => {
            report::draw(&all, &sources);
            let errors = all.iter().filter(|one| one.is_error()).count();
            let first = Failure::Diagnostics(all, sources).to_string();
            let plural = if errors == 1 { "mistake" } else { "mistakes" };
            eprintln!("{errors} {plural} found");
            return Err(first);
        }
    };
    report::draw(&loaded.warnings, &loaded.sources);
    match Engine::validate(&registry, &loaded.json) {
        Ok(()) => {
            println!("Valid configuration");
            Ok(ExitCode::SUCCESS)
        }
        Err(LoadError::Config(errors)) => {
            for error in &errors {
                eprintln!("× {error}");
            }
            let name = loaded.file.as_deref().unwrap_or("the config");
            Err(format!("{name}: {} mistake(s) found", errors.len()))
        }
        Err(LoadError::Activate(message)) => Err(message),
    }
}
