//! `caddis start`: the server in the background.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use super::Outcome;
use crate::args::Start;

/// Starts `caddis run` and waits until it serves.
pub(crate) fn start(flags: &Start) -> Outcome {
    if flags.config.file() == Some("-") {
        let why = "the server in the background has no standard input to read its config from";
        return Err(format!("{why}; use `caddis run --config -`, or a file"));
    }
    // As Caddy: the loopback address of whichever family there is.
    let listener = TcpListener::bind("127.0.0.1:0")
        .or_else(|error| TcpListener::bind("[::1]:0").map_err(|_| error))
        .map_err(|error| format!("opening listener for success confirmation: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("run").arg("--pingback").arg(address.to_string());
    if let Some(config) = flags.config.file() {
        command.arg("--config").arg(config);
    }
    if let Some(adapter) = flags.config.adapter() {
        command.arg("--adapter").arg(adapter);
    }
    if flags.watch {
        command.arg("--watch");
    }
    if let Some(pidfile) = flags.pidfile.as_deref().filter(|path| !path.is_empty()) {
        command.arg("--pidfile").arg(pidfile);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("starting caddis process: {error}"))?;
    let secret: String = std::iter::repeat_with(secret_byte).take(32).collect();
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(secret.as_bytes())
            .map_err(|error| format!("writing confirmation bytes: {error}"))?;
    }
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    loop {
        if let Ok((mut stream, _)) = listener.accept() {
            let mut said = String::new();
            let read = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(5))))
                .and_then(|()| stream.read_to_string(&mut said));
            if read.is_ok() && said == secret {
                crate::say::say!(
                    "Successfully started caddis (pid={}) - caddis is running in the background",
                    child.id()
                );
                return Ok(ExitCode::SUCCESS);
            }
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("caddis process exited with error: {}", told(status)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Unpredictable enough to tell the child's call from a stranger's.
fn secret_byte() -> char {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let hash = RandomState::new().build_hasher().finish();
    char::from(b'a' + u8::try_from(hash % 26).unwrap_or(0))
}

/// How a process ended, in the words that people search for.
fn told(status: std::process::ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}
