//! The program's entry: an exit code, nothing else.

fn main() {}
