//! The commands, one file each.

mod adapt;
mod certs;
mod certs_check;
pub(crate) mod check;
mod environ;
mod explain;
mod file_server;
mod fmt;
mod hash_password;
mod list_modules;
mod packages;
mod reload;
mod respond;
mod reverse_proxy;
mod run;
mod shell;
mod start;
mod stop;
mod storage;
mod trust;

use std::{os::unix::process::CommandExt, path::PathBuf, process::ExitCode};

use crate::{
    args::{self, CertsCommand, Command, StorageCommand},
    report, say,
    source::{self, Failure},
};

/// What a command ends with: an exit code, or a sentence for `Error: …` and exit code 1.
pub(crate) type Outcome = Result<ExitCode, String>;

/// Exit code where it went wrong half-way (spec A078).
const HALFWAY: u8 = 3;

/// Says why a command failed.
pub(crate) fn failed(why: &str) {
    say::complain!("Error: {why}");
}

/// Runs a command.
pub(crate) fn execute(command: Command) -> Outcome {
    apply_env_files(env_files_of(&command))?;
    match command {
        Command::Run(flags) => run::run(&flags),
        Command::Start(flags) => start::start(&flags),
        Command::Stop(flags) => stop::stop(&flags),
        Command::Certs(flags) => match &flags.command {
            Some(CertsCommand::Check(check)) => certs_check::check(check),
            None => certs::certs(&flags),
        },
        Command::Trust(flags) => trust::trust(&flags),
        Command::Untrust(flags) => trust::untrust(&flags),
        Command::Reload(flags) => reload::reload(&flags),
        Command::Check(flags) => check::check(&flags),
        Command::Explain(flags) => explain::explain(&flags),
        Command::Adapt(flags) => adapt::adapt(&flags),
        Command::Fmt(flags) => fmt::fmt(&flags),
        Command::Version => {
            say::say!("{}", args::version());
            Ok(ExitCode::SUCCESS)
        }
        Command::BuildInfo => build_info(),
        Command::Environ(_) => environ::environ(),
        Command::ListModules(flags) => list_modules::list_modules(&flags),
        Command::Storage(command) => storage::storage(&command),
        Command::HashPassword(flags) => hash_password::hash_password(&flags),
        Command::FileServer(flags) => file_server::file_server(&flags),
        Command::ReverseProxy(flags) => reverse_proxy::reverse_proxy(&flags),
        Command::Respond(flags) => respond::respond(&flags),
        Command::Manpage(flags) => shell::manpage(&flags),
        Command::Completion(flags) => shell::completion(&flags),
        Command::Upgrade(_) => packages::upgrade(),
        Command::AddPackage(flags) => packages::add(&flags),
        Command::RemovePackage(flags) => packages::remove(&flags),
    }
}

/// Facts of the build, each after its name and a tab.
fn build_info() -> Outcome {
    say::say!("path\tcaddis");
    say::say!("mod\tcaddis\t{}", args::version());
    say::say!("build\tOS={}", environ::system());
    say::say!("build\tARCH={}", environ::architecture());
    say::say!("build\tprofile={}", if cfg!(debug_assertions) { "dev" } else { "release" });
    Ok(ExitCode::SUCCESS)
}

fn env_files_of(command: &Command) -> &[PathBuf] {
    match command {
        Command::Run(flags) => &flags.config.envfile,
        Command::Start(flags) => &flags.config.envfile,
        Command::Stop(flags) => &flags.config.envfile,
        Command::Certs(flags) => match &flags.command {
            Some(CertsCommand::Check(check)) => &check.client.config.envfile,
            None => &flags.client.config.envfile,
        },
        Command::Trust(flags) => &flags.client.config.envfile,
        Command::Untrust(flags) => &flags.client.config.envfile,
        Command::Reload(flags) => &flags.client.config.envfile,
        Command::Check(flags) => &flags.config.envfile,
        Command::Explain(flags) => &flags.config.envfile,
        Command::Adapt(flags) => &flags.config.envfile,
        Command::Environ(flags) => &flags.envfile,
        Command::Storage(StorageCommand::Export(flags)) => &flags.config.envfile,
        Command::Storage(StorageCommand::Import(flags)) => &flags.config.envfile,
        _ => &[],
    }
}

/// Starts the same command anew with the variables of the files in its environment. (A running
/// process cannot change its environment safely while it has threads.)
fn apply_env_files(files: &[PathBuf]) -> Result<(), String> {
    if files.is_empty() {
        return Ok(());
    }
    let variables = source::env_files(files)?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut arguments = std::env::args_os().skip(1);
    let mut kept = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--envfile" {
            arguments.next();
        } else if !argument.to_string_lossy().starts_with("--envfile=") {
            kept.push(argument);
        }
    }
    let error = std::process::Command::new(program).args(kept).envs(variables).exec();
    Err(format!("starting with the environment files' variables: {error}"))
}

/// Draws the mistakes of a Caddyfile, and gives the sentence for `Error: …`.
pub(crate) fn drawn(failure: &Failure) -> String {
    if let Failure::Diagnostics(all, sources) = failure {
        let mut all = all.clone();
        check::in_order(&mut all);
        report::draw(&all, sources);
    }
    failure.to_string()
}
