//! The program's entry: an exit code, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    caddis::run()
}
