//! `caddis manpage` and `caddis completion`: the command line, told to shells and to `man`.

use std::{io::Write, path::Path, process::ExitCode};

use clap_complete::{generate, shells};

use super::{HALFWAY, Outcome};
use crate::{
    args::{self, Completion, Manpage, Shell},
    source,
};

/// Writes a manual page for the program and for each command.
pub(crate) fn manpage(flags: &Manpage) -> Outcome {
    let folder = flags.directory.trim();
    if folder.is_empty() {
        super::failed("designated output directory and specified section are required");
        return Ok(ExitCode::from(HALFWAY));
    }
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    let folder_made = std::fs::create_dir_all(folder);
    if let Err(error) = folder_made.and_then(|()| pages(command, Path::new(folder))) {
        super::failed(&format!("writing manual pages to {folder}: {}", source::plain(&error)));
        return Ok(ExitCode::from(HALFWAY));
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and of those below it, in the section that packages look for them in.
fn pages(command: clap::Command, folder: &Path) -> std::io::Result<()> {
    for inner in command.get_subcommands() {
        pages(inner.clone(), folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command).section("8").render(&mut page)?;
    std::fs::write(folder.join(format!("{name}.8")), page)
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
