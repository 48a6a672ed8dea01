//! The last config on disk, for `run --resume` (spec A035).

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Configs so far.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// The number of the config that is on disk.
static WRITTEN: Mutex<u64> = Mutex::new(0);

/// Writes `autosave.json`, in the background; a failure is worth a log line, not more.
pub(crate) fn save(config: Arc<str>) {
    let path = caddis_tls::storage::config_dir().join("autosave.json");
    let number = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
    tokio::task::spawn_blocking(move || {
        match write_latest(&path, config.as_bytes(), number, &WRITTEN) {
            Ok(true) => tracing::info!(
                file = %path.display(),
                "autosaved config (load with --resume flag)"
            ),
            // A later one was quicker.
            Ok(false) => {}
            Err(error) => {
                tracing::error!(target: "admin", %error, file = %path.display(), "unable to autosave config");
            }
        }
    });
}

/// Writes one config at a time, and none over a later one: threads take loads that follow each other
/// quickly in any order. Whether it was written.
fn write_latest(path: &Path, text: &[u8], number: u64, written: &Mutex<u64>) -> io::Result<bool> {
    let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
    if *written > number {
        return Ok(false);
    }
    write(path, text)?;
    *written = number;
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_config_stays() {
        let folder = std::env::temp_dir().join(format!("caddis-autosave-{}", std::process::id()));
        let path = folder.join("autosave.json");
        let written = Mutex::new(0);
        assert!(write_latest(&path, b"2", 2, &written).unwrap());
        assert!(!write_latest(&path, b"1", 1, &written).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"2");
        std::thread::scope(|scope| {
            for number in 3..40_u64 {
                let (path, written) = (&path, &written);
                scope.spawn(move || {
                    write_latest(path, number.to_string().as_bytes(), number, written).unwrap()
                });
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"39");
        fs::remove_dir_all(folder).unwrap();
    }
}
