//! The last config on disk, for `run --resume` (spec A035).

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// Writes `autosave.json`, in the background; a failure is worth a log line, not more.
pub(crate) fn save(config: Arc<str>) {
    let path = caddis_tls::storage::config_dir().join("autosave.json");
    tokio::task::spawn_blocking(move || match write(&path, config.as_bytes()) {
        Ok(()) => tracing::info!(
            target: "admin",
            file = %path.display(),
            "autosaved config (load with --resume flag)"
        ),
        Err(error) => {
            tracing::error!(target: "admin", %error, file = %path.display(), "unable to autosave config");
        }
    });
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let draft = path.with_extension("json.new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
