//! A storage as a tar archive, one file per key, as Caddy's `storage export` writes it.
//!
//! Locks are left out: they belong to processes, not to what is kept.

use std::{
    fmt,
    io::{self, Read, Write},
    time::SystemTime,
};

use super::{Storage, keys::LOCKS};

/// Why an archive is not done.
#[derive(Debug)]
pub enum ArchiveError {
    /// The storage could not be read or written.
    Storage(io::Error),
    /// The archive could not be read or written.
    Archive(io::Error),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) | Self::Archive(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ArchiveError {}

/// Writes all that the storage holds; says how many values that is.
///
/// # Errors
/// The storage or the archive does not work. What was written until then is no whole archive.
pub fn export(storage: &dyn Storage, out: impl Write) -> Result<usize, ArchiveError> {
    let mut archive = tar::Builder::new(out);
    let mut count = 0;
    for key in storage.walk().map_err(ArchiveError::Storage)? {
        if is_lock(&key) {
            continue;
        }
        let read = storage.load(&key).and_then(|content| Ok((content, storage.modified(&key)?)));
        let (content, modified) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(target: "storage", key, "removed while the export was under way");
                continue;
            }
            Err(error) => return Err(ArchiveError::Storage(error)),
        };
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        header.set_mtime(modified.as_secs());
        archive
            .append_data(&mut header, &key, content.as_slice())
            .map_err(|error| ArchiveError::Archive(named(&key, &error)))?;
        count += 1;
    }
    let mut out = archive.into_inner().map_err(ArchiveError::Archive)?;
    out.flush().map_err(ArchiveError::Archive)?;
    Ok(count)
}

/// Stores all that an archive holds, over what is there; says how many values that is.
///
/// # Errors
/// The archive or the storage does not work. What came before is stored.
pub fn import(storage: &dyn Storage, from: impl Read) -> Result<usize, ArchiveError> {
    let mut archive = tar::Archive::new(from);
    let mut count = 0;
    for entry in archive.entries().map_err(ArchiveError::Archive)? {
        let mut entry = entry.map_err(ArchiveError::Archive)?;
        let kind = entry.header().entry_type();
        let name = entry.path_bytes();
        let key = std::str::from_utf8(&name)
            .map_err(|_| {
                let text = format!("{}: name is no text", String::from_utf8_lossy(&name));
                ArchiveError::Archive(io::Error::new(io::ErrorKind::InvalidData, text))
            })?
            .trim_start_matches("./")
            .to_owned();
        // Folders are made as they are needed.
        if !kind.is_file() || is_lock(&key) || key.is_empty() {
            continue;
        }
        let mut content = Vec::new();
        entry
            .read_to_end(&mut content)
            .map_err(|error| ArchiveError::Archive(named(&key, &error)))?;
        storage
            .store(&key, &content)
            .map_err(|error| ArchiveError::Storage(named(&key, &error)))?;
        count += 1;
    }
    Ok(count)
}

fn is_lock(key: &str) -> bool {
    key.split('/').next() == Some(LOCKS)
}

fn named(key: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{export, import};
    use crate::{
        storage::{FileSystem, Storage},
        testing::TempDir,
    };

    #[test]
    fn all_but_locks_comes_back() {
        let (one, two) = (TempDir::new(), TempDir::new());
        let (from, to) = (FileSystem::new(one.path()), FileSystem::new(two.path()));
        let long = format!("certificates/{0}/{1}/{1}.crt", "i".repeat(120), "n".repeat(200));
        for (key, content) in [
            ("a", &b"1"[..]),
            (&long, &[7; 1_000]),
            ("acme/x/y.json", b""),
            ("locks/l.lock", b"{}"),
        ] {
            from.store(key, content).unwrap();
        }
        let mut archive = Vec::new();
        assert_eq!(export(&from, &mut archive).unwrap(), 3);
        assert_eq!(import(&to, archive.as_slice()).unwrap(), 3);
        assert_eq!(to.walk().unwrap(), ["a", "acme/x/y.json", &long]);
        assert_eq!(to.load(&long).unwrap(), [7; 1_000]);
    }

    #[test]
    fn odd_archives_do_no_harm() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path().join("root"));
        assert!(import(&storage, &b"this is no archive, but long enough"[..]).is_err());
        let mut archive = Vec::new();
        from_names(&mut archive, &["../outside"]);
        let error = import(&storage, archive.as_slice()).unwrap_err();
        assert!(error.to_string().contains("../outside: bad storage key"), "{error}");
        assert!(!dir.path().join("outside").exists());
        let mut archive = Vec::new();
        from_names(&mut archive, &["./a", "folder/"]);
        assert_eq!(import(&storage, archive.as_slice()).unwrap(), 1);
        assert_eq!(storage.walk().unwrap(), ["a"]);
        archive.truncate(600);
        assert!(import(&storage, archive.as_slice()).is_err());
    }

    /// Headers of our own, since the library refuses names that lead out.
    fn from_names(out: &mut Vec<u8>, names: &[&str]) {
        let mut archive = tar::Builder::new(out);
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            let folder = name.ends_with('/');
            header.set_entry_type(if folder {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            header.set_size(if folder { 0 } else { 600 });
            header.set_cksum();
            let content = vec![1; if folder { 0 } else { 600 }];
            archive.append(&header, content.as_slice()).unwrap();
        }
        archive.finish().unwrap();
    }
}
