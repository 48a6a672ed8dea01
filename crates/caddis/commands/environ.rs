//! `caddis environ`: what the program sees around it.

use std::process::ExitCode;

use super::Outcome;
use crate::{args, say::say};

/// Prints paths, build facts and the environment (spec A048).
pub(crate) fn environ() -> Outcome {
    let config = caddis_tls::storage::config_dir();
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.unwrap_or_else(|| ".".into());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    say!("caddy.HomeDir={}", home.to_string_lossy());
    say!("caddy.AppDataDir={}", caddis_tls::storage::data_dir().display());
    say!("caddy.AppConfigDir={}", config.display());
    say!("caddy.ConfigAutosavePath={}", config.join("autosave.json").display());
    say!("caddy.Version={}", args::version());
    say!("runtime.GOOS={}", system());
    say!("runtime.GOARCH={}", architecture());
    say!("runtime.Compiler=rustc");
    say!("runtime.NumCPU={cores}");
    let workers = super::run::workers_wanted();
    say!("runtime.GOMAXPROCS={}", if workers == 0 { cores } else { workers });
    match std::env::current_dir() {
        Ok(folder) => say!("os.Getwd={}\n", folder.display()),
        Err(error) => say!("os.Getwd=<error: {}>\n", crate::source::plain(&error)),
    }
    for (key, value) in std::env::vars_os() {
        say!("{}={}", key.to_string_lossy(), value.to_string_lossy());
    }
    Ok(ExitCode::SUCCESS)
}

/// The system, by the name that scripts know.
pub(crate) fn system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// The architecture, by the name that scripts know.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    }
}
