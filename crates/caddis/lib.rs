//! caddis: a web server and reverse proxy that runs the Caddyfile people already have.
//!
//! This crate is the program: command line, registry of modules, drawing of diagnostics. The
//! parts live in the `caddis-*` crates.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command's product is what it prints"
)]

mod args;
mod client;
mod commands;
mod diagnose;
mod json_place;
mod registry;
mod report;
mod say;
mod source;
mod words;

use std::process::ExitCode;

/// Every module that the program has, for tools that adapt or compile configs without a command.
pub fn registry() -> caddis_core::Registry {
    registry::standard()
}

/// Parses the command line and runs the command.
pub fn run() -> ExitCode {
    let arguments = match words::parse(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let Some(command) = arguments.command else {
        if arguments.version {
            say::say!("{}", args::version());
        } else {
            // Without a command there is nothing to do but to tell what there is.
            say::out(args::command().render_long_help());
        }
        return ExitCode::SUCCESS;
    };
    match commands::execute(command) {
        Ok(code) => code,
        Err(failure) => {
            say::complain!("Error: {}", caddis_caddyfile::plain(&failure.to_string()));
            ExitCode::FAILURE
        }
    }
}
