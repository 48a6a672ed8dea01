//! `insecure_secrets_log`: the secrets of connections in NSS key log format, appended to a file.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use caddis_core::template::{Template, Unknown};
use rustls::KeyLog;

use crate::error::{Context, Result};

#[derive(Debug)]
struct SecretsLog(Mutex<File>);

/// Opens the file; warns that traffic can be read with it.
pub(super) fn open(name: &str) -> Result<Arc<dyn KeyLog>> {
    let name = Template::render_global(name, Unknown::Keep);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(&name).context(format!("opening {name}"))?;
    tracing::warn!(
        target: "tls",
        log_filename = name,
        "TLS SECURITY COMPROMISED: secrets logging is enabled!"
    );
    Ok(Arc::new(SecretsLog(Mutex::new(file))))
}

impl KeyLog for SecretsLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One write per line; a full disk must not end connections.
        let _ = file.write_all(line.as_bytes());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
