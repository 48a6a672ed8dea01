//! The part that touches the file system: from a request's path to an open file.

use std::{
    fs::{File, Metadata},
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::hide::Rules;
use crate::disk::{Disk, Seen};
use crate::path::sanitized_join;

/// Files up to this size are read at once.
pub(super) const SMALL: u64 = 64 * 1024;
/// More than any entity tag needs.
const MAX_ETAG: u64 = 4096;

/// What is looked for.
pub(super) struct Lookup {
    pub(super) root: String,
    /// The request's path.
    pub(super) path: String,
    pub(super) hide: Arc<Rules>,
    pub(super) index: Vec<String>,
    /// Accepted codings, best first: name and suffix.
    pub(super) codings: Vec<(&'static str, &'static str)>,
    pub(super) etag_extensions: Arc<[String]>,
    /// Whether the original path ends with a slash; `None` where it may be as it is.
    pub(super) trailing_slash: Option<bool>,
    /// Whether a small file is read right away.
    pub(super) read: bool,
}

/// What was found.
pub(super) enum Outcome {
    File(Found),
    /// A directory without an index.
    Directory(String),
    NotFound,
    /// A slash is to be added to the path (true) or taken off.
    Redirect(bool),
    Invalid(io::Error),
    Forbidden(io::Error),
    Failed(io::Error),
    /// The file is there but cannot be opened now.
    Busy(io::Error),
}

/// An open file.
pub(super) struct Found {
    /// The name that decides on the type, without a coding's suffix.
    pub(super) filename: String,
    pub(super) coding: Option<&'static str>,
    /// With its quotes; empty where there is none.
    pub(super) etag: String,
    /// In whole seconds; `None` where it is meaningless or cannot be told in a header.
    pub(super) modified: Option<SystemTime>,
    pub(super) size: u64,
    pub(super) content: Content,
}

pub(super) enum Content {
    Read(Bytes),
    Open(File),
}

impl Lookup {
    /// Looks; the outcome counts unless the disk has missed something.
    pub(super) fn run(&self, disk: &Disk) -> Outcome {
        let joined = sanitized_join(&self.root, &self.path).to_string_lossy().into_owned();
        let mut filename = match joined.strip_suffix('/') {
            Some("") | None => joined,
            Some(trimmed) => trimmed.to_owned(),
        };
        let mut seen = match disk.look(&filename) {
            Ok(seen) => seen,
            Err(error) => return Outcome::of(error),
        };
        let mut implicit = false;
        if seen.metadata.is_dir()
            && let Some((name, found)) = self.find_index(disk, &filename)
        {
            (filename, seen, implicit) = (name, found, true);
        }
        if seen.metadata.is_dir() {
            return Outcome::Directory(filename);
        }
        if self.hide.hides(&filename) {
            return Outcome::NotFound;
        }
        match (self.trailing_slash, implicit) {
            (Some(false), true) => return Outcome::Redirect(true),
            (Some(true), false) => return Outcome::Redirect(false),
            _ => {}
        }
        // Opening a pipe would wait for its other end.
        if !seen.metadata.is_file() {
            return Outcome::NotFound;
        }
        for (coding, suffix) in &self.codings {
            let name = format!("{filename}{suffix}");
            if let Ok(seen) = disk.look(&name)
                && seen.metadata.is_file()
                && let Ok(open) = disk.open_seen(seen, &name)
                && let Ok(found) = self.found(disk, open, (&name, &filename), Some(coding))
            {
                return Outcome::File(found);
            }
        }
        let open = match disk.open_seen(seen, &filename) {
            Ok(open) => open,
            Err(error) => {
                return match Outcome::of(error) {
                    Outcome::Failed(error) | Outcome::Invalid(error) => Outcome::Busy(error),
                    other => other,
                };
            }
        };
        match self.found(disk, open, (&filename, &filename), None) {
            Ok(found) => Outcome::File(found),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn find_index(&self, disk: &Disk, directory: &str) -> Option<(String, Seen)> {
        self.index.iter().find_map(|index| {
            let path = sanitized_join(directory, index).to_string_lossy().into_owned();
            if self.hide.hides(&path) {
                return None;
            }
            let seen = disk.look(&path).ok()?;
            Some((path, seen))
        })
    }

    /// Everything about the file is asked of the open file, so it cannot change in between.
    fn found(
        &self,
        disk: &Disk,
        (file, metadata): (File, Metadata),
        (name, filename): (&str, &str),
        coding: Option<&'static str>,
    ) -> io::Result<Found> {
        let size = metadata.len();
        let etag = match self.etag_from_file(disk, name)? {
            Some(etag) => etag,
            None => etag(&metadata),
        };
        let content = if self.read && size <= SMALL {
            Content::Read(disk.read(&file, size)?.into())
        } else {
            Content::Open(file)
        };
        let size = match &content {
            Content::Read(bytes) => bytes.len() as u64,
            Content::Open(_) => size,
        };
        let modified = metadata.modified().ok().and_then(whole_seconds);
        Ok(Found { filename: filename.to_owned(), coding, etag, modified, size, content })
    }

    fn etag_from_file(&self, disk: &Disk, name: &str) -> io::Result<Option<String>> {
        for suffix in &*self.etag_extensions {
            match disk.open(&format!("{name}{suffix}")) {
                Ok(file) => {
                    let length = file.metadata()?.len().min(MAX_ETAG);
                    let mut text = disk.read(&file, length)?;
                    text.retain(|byte| *byte != b'\n');
                    let text = String::from_utf8_lossy(&text).into_owned();
                    return Ok((!text.is_empty()).then_some(text));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Outcome {
    fn of(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound | Kind::NotADirectory | Kind::InvalidFilename => Self::NotFound,
            Kind::InvalidInput => Self::Invalid(error),
            Kind::PermissionDenied => Self::Forbidden(error),
            _ => Self::Failed(error),
        }
    }
}

/// The time in whole seconds, if a header can tell it.
pub(super) fn whole_seconds(time: SystemTime) -> Option<SystemTime> {
    const YEAR_10000: u64 = 253_402_300_800;
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (seconds > 0 && seconds < YEAR_10000).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A strong tag of modification time and size (spec D069).
fn etag(metadata: &Metadata) -> String {
    let nanoseconds = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) if after.as_secs() > 1 => i128::try_from(after.as_nanos()).unwrap_or(0),
        Ok(Err(before)) => -i128::try_from(before.duration().as_nanos()).unwrap_or(0),
        _ => return String::new(),
    };
    format!("\"{}-{}\"", base36(nanoseconds), base36(i128::from(metadata.len())))
}

fn base36(value: i128) -> String {
    let mut rest = value.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(rest % 36).ok().and_then(|digit| char::from_digit(digit, 36));
        digits.push(digit.unwrap_or('0'));
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_base_36() {
        assert_eq!(base36(0), "0");
        assert_eq!(base36(2000), "1jk");
        assert_eq!(base36(-37), "-11");
        // 2024-01-02 03:04:05 UTC
        assert_eq!(base36(1_704_164_645_000_000_000), "cy3vy63hrojk");
    }
}
