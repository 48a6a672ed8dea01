//! `caddis hash-password`.

use super::Outcome;
use crate::args::HashPassword;

/// Prints the hash of a password.
pub(crate) fn hash_password(flags: &HashPassword) -> Outcome {
    Err(format!("hash-password is not available for {}", flags.algorithm))
}
