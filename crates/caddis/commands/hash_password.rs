//! `caddis hash-password`.

use std::{
    io::{BufRead, IsTerminal, stdin},
    process::ExitCode,
};

use caddis_http::hashes::{Algorithm, HashParams, hash_password as hash};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Outcome;
use crate::{args::HashPassword, say, source};

/// Prints the hash of a password, given by flag, on standard input, or typed twice (spec A052).
pub(crate) fn hash_password(flags: &HashPassword) -> Outcome {
    let plaintext = match flags.plaintext.as_deref().unwrap_or_default() {
        "" => ask()?,
        given => given.as_bytes().to_vec(),
    };
    if plaintext.is_empty() {
        return Err("plaintext is required".into());
    }
    let algorithm = Algorithm::parse(&flags.algorithm)
        .ok_or_else(|| format!("unrecognized hash algorithm: {}", flags.algorithm))?;
    let params = HashParams {
        // As in Caddy, a cost that cannot be is the usual one.
        bcrypt_cost: match flags.bcrypt_cost {
            cost @ 4..=31 => u32::try_from(cost).unwrap_or(14),
            _ => 14,
        },
        argon2id_time: flags.argon2id_time,
        argon2id_memory: flags.argon2id_memory,
        argon2id_threads: flags.argon2id_threads.into(),
        argon2id_keylen: flags.argon2id_keylen,
    };
    say::say!("{}", hash(algorithm, &plaintext, &params)?);
    Ok(ExitCode::SUCCESS)
}

/// The password as bytes: passwords of an older encoding are hashed as they are sent.
fn ask() -> Result<Vec<u8>, String> {
    if !stdin().is_terminal() {
        return line();
    }
    let unseen = Unseen::start()?;
    say::err("Enter password: ");
    let first = line();
    say::err("\n");
    let first = first?;
    say::err("Confirm password: ");
    let again = line();
    say::err("\n");
    drop(unseen);
    if again? != first {
        return Err("password does not match".into());
    }
    Ok(first)
}

/// A line of standard input without its end.
fn line() -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    stdin().lock().read_until(b'\n', &mut line).map_err(|error| source::plain(&error))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until dropped.
struct Unseen(Termios);

impl Unseen {
    fn start() -> Result<Self, String> {
        let failed = |error: rustix::io::Errno| format!("hiding what is typed: {error}");
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        let again = before.clone();
        // Ctrl-C must not leave a shell behind that shows nothing.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime
                && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
            {
                restore(&again);
                std::process::exit(1);
            }
        });
        tcsetattr(stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        restore(&self.0);
    }
}

fn restore(before: &Termios) {
    // A terminal that is gone needs nothing.
    let _ = tcsetattr(stdin(), OptionalActions::Flush, before);
}
