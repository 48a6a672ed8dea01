//! What a run has to have before it goes on: it asks, stops, and begins anew when the answer is
//! there.

use std::{
    io::{Error, Read, Result as IoResult},
    net::ToSocketAddrs,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{MAX_SIZE, value::FileStat};
use crate::{handlers::support::date_time, path::sanitized_join};

/// What is wanted: of the disk by path below the root, of the own server, of DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Need {
    Read(String),
    List(String),
    Stat(String),
    /// What the own server answers at a URI.
    Http(String),
    /// An address of a host.
    Host(String),
}

/// What was said to it.
#[derive(Debug, Clone)]
pub(super) enum Loaded {
    Text(Result<String, String>),
    Names(Result<Vec<String>, String>),
    Stat(Result<FileStat, String>),
}

/// Names of a directory beyond these are left out.
const MAX_NAMES: usize = 100_000;

/// Asks the disk or DNS, away from the worker's thread.
pub(super) async fn load(root: String, need: Need) -> Loaded {
    let failed = match &need {
        Need::Read(_) | Need::Host(_) | Need::Http(_) => Loaded::Text(Err("canceled".to_owned())),
        Need::List(_) => Loaded::Names(Err("canceled".to_owned())),
        Need::Stat(_) => Loaded::Stat(Err("canceled".to_owned())),
    };
    tokio::task::spawn_blocking(move || load_now(&root, &need)).await.unwrap_or(failed)
}

fn load_now(root: &str, need: &Need) -> Loaded {
    let text = |path: &str, error: Error| format!("{path}: {error}");
    match need {
        Need::Read(path) => {
            Loaded::Text(read(&sanitized_join(root, path)).map_err(|error| text(path, error)))
        }
        Need::List(path) => {
            Loaded::Names(names(&sanitized_join(root, path)).map_err(|error| text(path, error)))
        }
        Need::Stat(path) => {
            Loaded::Stat(stat(&sanitized_join(root, path)).map_err(|error| text(path, error)))
        }
        Need::Host(name) => Loaded::Text(Ok(address(name))),
        Need::Http(_) => Loaded::Text(Err("not on disk".to_owned())),
    }
}

/// Any address of a host; none prints as nothing.
fn address(name: &str) -> String {
    let found: Vec<_> = (name, 0).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let chosen = fastrand::choice(&found);
    chosen.map(|address| address.ip().to_string()).unwrap_or_default()
}

/// A file's text. What never ends, or waits for somebody to write, is no file to read.
fn read(path: &Path) -> IoResult<String> {
    let file = caddis_core::disk::open_patiently(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(Error::other("not a regular file"));
    }
    // A file may grow while it is read.
    let mut bytes = Vec::new();
    let read = file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if read > MAX_SIZE {
        return Err(Error::other("the file is too large"));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn names(path: &Path) -> IoResult<Vec<String>> {
    let entries = std::fs::read_dir(path)?.take(MAX_NAMES);
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<IoResult<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn stat(path: &Path) -> IoResult<FileStat> {
    let found = std::fs::metadata(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(FileStat {
        name: name.unwrap_or_default(),
        size: found.len(),
        is_dir: found.is_dir(),
        mode: found.permissions().mode() & 0o777 | if found.is_dir() { 1 << 31 } else { 0 },
        modified: found.modified().ok().map(date_time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::file_server::test_dir::TestDir;

    #[test]
    fn devices_and_directories_are_no_texts() {
        // Neither the endless one nor the one that waits is read.
        let dir = TestDir::new(&[("text", "a")]);
        let pipe = format!("{}/pipe", dir.path());
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a pipe");
        for path in ["/dev/zero", &pipe, dir.path()] {
            assert!(read(Path::new(path)).is_err(), "{path}");
        }
        let text = read(&Path::new(dir.path()).join("text"));
        assert_eq!(text.ok().as_deref(), Some("a"));
    }
}
