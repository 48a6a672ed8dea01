//! `caddis manpage` and `caddis completion`: the command line, told to shells and to `man`.

use std::{io::Write, process::ExitCode};

use clap_complete::{generate, shells};

use super::Outcome;
use crate::args::{self, Completion, Manpage, Shell};

/// Writes a manual page for the program and for each command.
pub(crate) fn manpage(flags: &Manpage) -> Outcome {
    let failed = |error: std::io::Error| {
        format!("writing manual pages to {}: {error}", flags.directory.display())
    };
    std::fs::create_dir_all(&flags.directory).map_err(failed)?;
    clap_mangen::generate_to(args::command(), &flags.directory).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the completion script of a shell.
pub(crate) fn completion(flags: &Completion) -> Outcome {
    let mut command = args::command();
    let mut script = Vec::new();
    match flags.shell {
        Shell::Bash => generate(shells::Bash, &mut command, "caddis", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "caddis", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "caddis", &mut script),
        Shell::Powershell => generate(shells::PowerShell, &mut command, "caddis", &mut script),
    }
    // A reader that went away is no failure.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(ExitCode::SUCCESS)
}
