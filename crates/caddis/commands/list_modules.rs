//! `caddis list-modules`.

use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use crate::{
    args::{ListModules, version},
    registry,
    say::say,
};

/// What is told of a module.
#[derive(Serialize)]
struct Told {
    module_name: &'static str,
    module_type: &'static str,
    version: &'static str,
    package_url: &'static str,
}

/// Prints the module ids. All are standard: there are no others.
pub(crate) fn list_modules(flags: &ListModules) -> Outcome {
    let registry = registry::standard();
    let ids = if flags.skip_standard { Vec::new() } else { registry.module_ids() };
    if flags.json {
        let told = |module_name| Told {
            module_name,
            module_type: "standard",
            version: version(),
            package_url: "caddis",
        };
        let list: Vec<_> = ids.into_iter().map(told).collect();
        say!("{}", serde_json::to_string_pretty(&list).map_err(|error| error.to_string())?);
        return Ok(ExitCode::SUCCESS);
    }
    for id in &ids {
        let version = if flags.versions { format!(" {}", version()) } else { String::new() };
        let package = if flags.packages { " caddis" } else { "" };
        say!("{id}{version}{package}");
    }
    if !flags.skip_standard {
        say!("\n  Standard modules: {}", ids.len());
    }
    Ok(ExitCode::SUCCESS)
}
