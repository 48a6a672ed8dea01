//! `caddis environ`: what the program sees around it.

use std::process::ExitCode;

use super::Outcome;
use crate::args;

/// Prints paths, build facts and the environment.
pub(crate) fn environ() -> Outcome {
    println!("caddy.AppDataDir={}", caddis_tls::storage::data_dir().display());
    println!("caddy.AppConfigDir={}", caddis_tls::storage::config_dir().display());
    println!("caddy.Version={}", args::version());
    println!("runtime.GOOS={}", std::env::consts::OS);
    println!("runtime.GOARCH={}", std::env::consts::ARCH);
    let folder = std::env::current_dir().map_err(|error| error.to_string())?;
    println!("os.Getwd={}\n", folder.display());
    for (key, value) in std::env::vars_os() {
        println!("{}={}", key.to_string_lossy(), value.to_string_lossy());
    }
    Ok(ExitCode::SUCCESS)
}
