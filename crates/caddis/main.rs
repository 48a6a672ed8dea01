//! The program's entry: an exit code, nothing else.

use std::process::ExitCode;

/// Requests allocate in sizes that the system's allocator is slow with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    caddis::run()
}
