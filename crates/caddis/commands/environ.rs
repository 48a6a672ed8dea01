//! `caddis environ`: what the program sees around it.

use std::process::ExitCode;

use super::Outcome;
use crate::args;

/// Prints paths, build facts and the environment.
pub(crate) fn environ() -> Outcome {
    let config = caddis_tls::storage::config_dir();
    let home = std::env::var_os("HOME").unwrap_or_default();
    println!("caddy.HomeDir={}", home.to_string_lossy());
    println!("caddy.AppDataDir={}", caddis_tls::storage::data_dir().display());
    println!("caddy.AppConfigDir={}", config.display());
    println!("caddy.ConfigAutosavePath={}", config.join("autosave.json").display());
    println!("caddy.Version={}", args::version());
    println!("runtime.GOOS={}", std::env::consts::OS);
    // By the names that scripts know.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    println!("runtime.GOARCH={architecture}");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("runtime.NumCPU={cores}");
    let folder = std::env::current_dir().map_err(|error| error.to_string())?;
    println!("os.Getwd={}\n", folder.display());
    for (key, value) in std::env::vars_os() {
        println!("{}={}", key.to_string_lossy(), value.to_string_lossy());
    }
    Ok(ExitCode::SUCCESS)
}
