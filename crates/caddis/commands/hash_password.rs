//! `caddis hash-password`.

use std::{
    io::{BufRead, IsTerminal},
    process::ExitCode,
};

use caddis_http::hashes::{Algorithm, HashParams, hash_password as hash};

use super::Outcome;
use crate::args::HashPassword;

/// Prints the hash of a password, given by flag, on standard input, or typed twice.
pub(crate) fn hash_password(flags: &HashPassword) -> Outcome {
    let algorithm = Algorithm::parse(&flags.algorithm)
        .ok_or_else(|| format!("unrecognized hash algorithm: {}", flags.algorithm))?;
    let plaintext = match &flags.plaintext {
        Some(plaintext) => plaintext.clone(),
        None => ask()?,
    };
    if plaintext.is_empty() {
        return Err("password is required".into());
    }
    let params = HashParams {
        // As in Caddy, a cost that cannot be is the usual one.
        bcrypt_cost: match flags.bcrypt_cost {
            cost @ 4..=31 => cost,
            _ => 14,
        },
        argon2id_time: flags.argon2id_time,
        argon2id_memory: flags.argon2id_memory,
        argon2id_threads: flags.argon2id_threads,
        argon2id_keylen: flags.argon2id_keylen,
    };
    println!("{}", hash(algorithm, plaintext.as_bytes(), &params)?);
    Ok(ExitCode::SUCCESS)
}

fn ask() -> Result<String, String> {
    let typed = std::io::stdin().is_terminal();
    let line = |prompt: &str| -> Result<String, String> {
        if typed {
            eprint!("{prompt}");
        }
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let first = line("Enter password: ")?;
    if typed && line("Confirm password: ")? != first {
        return Err("password confirmation does not match".into());
    }
    Ok(first)
}
