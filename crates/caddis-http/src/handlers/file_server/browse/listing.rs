//! The entries of a directory: read, sorted, cut.

use std::{
    fs::{self, FileType, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    time::SystemTime,
};

use caddis_core::target::encode_path_bytes;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::super::hide::Rules;
use crate::{handlers::support::date_time, names};

/// A directory's entries.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) items: Vec<Item>,
    pub(super) directories: usize,
    pub(super) files: usize,
    /// Bytes of all files; and with those that links lead to.
    pub(super) size: u64,
    pub(super) size_followed: u64,
    /// The newest modification in it.
    pub(super) modified: Option<SystemTime>,
}

/// One entry, in the shape of the JSON listing.
#[derive(Debug, Serialize)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) url: String,
    pub(super) mod_time: String,
    /// Go's mode bits.
    pub(super) mode: u32,
    pub(super) is_dir: bool,
    pub(super) is_symlink: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) symlink_path: String,
    #[serde(skip)]
    pub(super) modified: SystemTime,
}

/// Why there is no listing.
pub(super) enum Failure {
    Gone,
    Forbidden(io::Error),
    Other(io::Error),
}

/// How entries are ordered.
#[derive(Clone, Copy, Default)]
pub(super) struct Order {
    pub(super) by: By,
    pub(super) descending: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum By {
    Name,
    #[default]
    NameDirFirst,
    Size,
    Time,
}

impl By {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::NameDirFirst => "namedirfirst",
            Self::Size => "size",
            Self::Time => "time",
        }
    }
}

impl Order {
    pub(super) fn direction(self) -> &'static str {
        if self.descending { "desc" } else { "asc" }
    }

    /// Sets the criterion; false where the text is none.
    pub(super) fn set_by(&mut self, text: &str) -> bool {
        self.by = match text {
            "name" => By::Name,
            "namedirfirst" => By::NameDirFirst,
            "size" => By::Size,
            "time" => By::Time,
            _ => return false,
        };
        true
    }

    /// Sets the direction; false where the text is none.
    pub(super) fn set_direction(&mut self, text: &str) -> bool {
        self.descending = match text {
            "asc" => false,
            "desc" => true,
            _ => return false,
        };
        true
    }
}

/// Reads a directory, where blocking is allowed.
pub(super) fn read(
    directory: &str,
    hide: &Rules,
    reveal_symlinks: bool,
    limit: usize,
) -> Result<Listing, Failure> {
    let failure = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::Gone,
        io::ErrorKind::PermissionDenied => Failure::Forbidden(error),
        _ => Failure::Other(error),
    };
    let modified =
        fs::metadata(names::path(directory)).and_then(|metadata| metadata.modified()).ok();
    let mut listing = Listing { modified, ..Listing::default() };
    for entry in fs::read_dir(names::path(directory)).map_err(failure)?.take(limit) {
        let entry = entry.map_err(failure)?;
        let file_name = entry.file_name();
        let name = names::from_bytes(file_name.as_bytes());
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        if hide.hides(&path) {
            continue;
        }
        // What vanished in between is left out.
        let Ok(metadata) = entry.metadata() else { continue };
        let item = item(file_name.as_bytes(), &path, &metadata, reveal_symlinks);
        listing.modified = listing.modified.max(Some(item.modified));
        if !item.is_dir {
            listing.size += metadata.len();
            listing.size_followed += item.size;
        }
        *(if item.is_dir { &mut listing.directories } else { &mut listing.files }) += 1;
        listing.items.push(item);
    }
    Ok(listing)
}

fn item(name: &[u8], path: &str, metadata: &Metadata, reveal_symlinks: bool) -> Item {
    let path = names::path(path);
    let path = &*path;
    let is_symlink = metadata.file_type().is_symlink();
    let target = is_symlink.then(|| fs::metadata(path).ok()).flatten();
    let is_dir = metadata.is_dir() || target.as_ref().is_some_and(Metadata::is_dir);
    let mut url = format!("./{}", encode_path_bytes(name));
    let mut name = String::from_utf8_lossy(name).into_owned();
    if is_dir {
        name.push('/');
        url.push('/');
    }
    let symlink_path = if is_symlink && reveal_symlinks {
        fs::read_link(path).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    } else {
        String::new()
    };
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Item {
        size: target.as_ref().unwrap_or(metadata).len(),
        url,
        mod_time: date_time(modified).format(&Rfc3339).unwrap_or_default(),
        mode: go_mode(metadata.mode(), metadata.file_type()),
        is_dir,
        is_symlink,
        symlink_path,
        modified,
        name,
    }
}

/// A file's mode in Go's bits.
fn go_mode(mode: u32, kind: FileType) -> u32 {
    let bits = [
        (kind.is_dir(), 1 << 31),
        (kind.is_symlink(), 1 << 27),
        (kind.is_block_device() || kind.is_char_device(), 1 << 26),
        (kind.is_fifo(), 1 << 25),
        (kind.is_socket(), 1 << 24),
        (mode & 0o4000 != 0, 1 << 23),
        (mode & 0o2000 != 0, 1 << 22),
        (kind.is_char_device(), 1 << 21),
        (mode & 0o1000 != 0, 1 << 20),
    ];
    bits.iter().filter(|(set, _)| *set).fold(mode & 0o777, |mode, (_, bit)| mode | bit)
}

impl Listing {
    pub(super) fn sort(&mut self, order: Order) {
        // Names first, so that equal entries have an order too.
        self.items.sort_by_cached_key(|item| item.name.to_lowercase());
        match order.by {
            By::Name => {}
            By::NameDirFirst => self.items.sort_by_key(|item| !item.is_dir),
            // The size of a directory means nothing.
            By::Size => self
                .items
                .sort_by_key(|item| (!item.is_dir, if item.is_dir { 0 } else { item.size })),
            By::Time => self.items.sort_by_key(|item| item.modified),
        }
        if order.descending {
            self.items.reverse();
        }
    }

    /// Takes entries off the front, and leaves at most `limit`; 0 is no limit.
    pub(super) fn cut(&mut self, offset: usize, limit: usize) {
        if offset <= self.items.len() {
            self.items.drain(..offset);
        }
        if limit > 0 {
            self.items.truncate(limit);
        }
    }

    /// The entries as Go writes JSON.
    pub(super) fn json(&self) -> String {
        if self.items.is_empty() {
            return "null\n".into();
        }
        let mut text = serde_json::to_string(&self.items).unwrap_or_default();
        for (char, escape) in [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")] {
            text = text.replace(char, escape);
        }
        text.push('\n');
        text
    }
}
