//! `caddis list-modules`.

use std::process::ExitCode;

use super::Outcome;
use crate::{
    args::{ListModules, version},
    registry,
};

/// Prints the module ids.
pub(crate) fn list_modules(flags: &ListModules) -> Outcome {
    let registry = registry::standard();
    let ids = if flags.skip_standard { Vec::new() } else { registry.module_ids() };
    if flags.json {
        let list: Vec<_> = ids
            .iter()
            .map(|id| serde_json::json!({ "module_name": id, "module_type": "standard", "version": version() }))
            .collect();
        println!("{}", serde_json::Value::from(list));
        return Ok(ExitCode::SUCCESS);
    }
    for id in &ids {
        let package = if flags.packages { " caddis" } else { "" };
        let version = if flags.versions { format!(" {}", version()) } else { String::new() };
        println!("{id}{package}{version}");
    }
    println!(
        "\n  Standard modules: {}\n\n  Non-standard modules: 0\n\n  Unknown modules: 0",
        ids.len()
    );
    Ok(ExitCode::SUCCESS)
}
