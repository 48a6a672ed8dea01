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
mod source;

use std::process::ExitCode;

use clap::Parser;

/// Every module that the program has, for tools that adapt or compile configs without a command.
pub fn registry() -> caddis_core::Registry {
    registry::standard()
}

/// Parses the command line and runs the command.
pub fn run() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failures; a usage error is exit code 1, as in Caddy.
            let code = u8::from(error.use_stderr());
            // Nowhere is left to say that printing failed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let Some(command) = arguments.command else {
        if arguments.version {
            println!("{}", args::version());
        } else {
            // Without a command there is nothing to do but to tell what there is.
            let _ = args::command().print_help();
        }
        return ExitCode::SUCCESS;
    };
    match commands::execute(command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("Error: {failure}");
            ExitCode::FAILURE
        }
    }
}
