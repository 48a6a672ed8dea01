//! ECH keys in the storage, as Caddy keeps them (spec T133): `ech/configs/<id>/` with `key.bin` (32
//! octets), `config.bin` and `meta.json`. Several servers, and Caddy's among them, may share it. All
//! calls block.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use aws_lc_rs::agreement::{PrivateKey, X25519};
use rustls::crypto::hpke::HpkePrivateKey;
use time::OffsetDateTime;

use super::{
    EchConfig, EchKey,
    meta::{GoTime, Meta},
    rotation::{Known, Step, steps},
};
use crate::{
    error::{Context, Error, Result},
    storage::{self, LockGuard, Storage},
};

/// The folder of all configurations.
const CONFIGS: &str = "ech/configs";
/// Whoever makes, replaces or deletes keys holds it (spec T159).
const LOCK: &str = "ech_rotation";
/// How long others may hold it: who has died loses it after ten seconds.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// A key in the storage.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Its key in the storage. It ends in the configuration's id, unless somebody copied folders.
    folder: String,
    pub(super) key: EchKey,
    pub(super) meta: Meta,
}

/// All that was found.
#[derive(Debug, Default)]
struct Content {
    keys: Vec<Stored>,
    /// Folders that hold no key, and why.
    garbage: Vec<(String, Error)>,
    /// Ids that a new configuration must not have.
    taken: BTreeSet<u8>,
}

/// The keys in the storage after all has been done that is due: those that are missing are made, old
/// ones replaced, older ones deleted, and what is no key removed. Newest first.
///
/// # Errors
/// The storage does not work; nothing is removed for that.
pub(super) fn refreshed(
    storage: &dyn Storage,
    wanted: &[String],
    now: OffsetDateTime,
) -> Result<Vec<Stored>> {
    let content = read(storage)?;
    if content.garbage.is_empty() && content.steps(wanted, now).is_empty() {
        return Ok(content.sorted());
    }
    let _guard = locked(storage)?;
    // What looked half-made may be whole by now, and another server may have been faster.
    let mut content = read(storage)?;
    for (folder, why) in std::mem::take(&mut content.garbage) {
        remove(storage, &folder).with_context_of(&folder, "removing")?;
        tracing::warn!(
            target: "tls.ech",
            folder,
            error = %why,
            "could not load ECH config; deleted its config folder"
        );
    }
    for step in content.steps(wanted, now) {
        content.apply(storage, step, now)?;
    }
    Ok(content.sorted())
}

/// The keys in the storage as they are. Newest first.
///
/// # Errors
/// The storage does not work.
pub(super) fn present(storage: &dyn Storage) -> Result<Vec<Stored>> {
    Ok(read(storage)?.sorted())
}

/// Takes note of what a publisher has published of these keys.
///
/// # Errors
/// The storage does not work; some may have been noted.
pub(super) fn note_published(
    storage: &dyn Storage,
    keys: &[Stored],
    publisher: &str,
    names: &[String],
    at: OffsetDateTime,
) -> Result<()> {
    // Rotation writes the same files.
    let _guard = locked(storage)?;
    for stored in keys {
        // Of one that is gone nothing is to be left.
        if !storage.exists(&stored.file("key.bin")).with_context_of(&stored.folder, "looking at")? {
            continue;
        }
        let meta = load(storage, &stored.file("meta.json"));
        let mut meta = match meta.with_context_of(&stored.folder, "loading")? {
            Some(json) => Meta::parse(&json).unwrap_or_else(|_| stored.meta.clone()),
            None => stored.meta.clone(),
        };
        meta.note_published(publisher, names.iter().map(String::as_str), at);
        store_meta(storage, &stored.folder, &meta)?;
    }
    Ok(())
}

// === impl Stored ===

impl Stored {
    pub(super) fn is_current(&self) -> bool {
        !self.meta.is_replaced()
    }

    pub(super) fn public_name(&self) -> &str {
        &self.key.config.public_name
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn known(&self) -> Known<'_> {
        Known {
            folder: &self.folder,
            public_name: self.public_name(),
            created: self.meta.created.0,
            is_replaced: self.meta.is_replaced(),
        }
    }
}

// === impl Content ===

impl Content {
    fn steps(&self, wanted: &[String], now: OffsetDateTime) -> Vec<Step> {
        let known: Vec<Known<'_>> = self.keys.iter().map(Stored::known).collect();
        steps(&known, wanted, now)
    }

    fn apply(&mut self, storage: &dyn Storage, step: Step, now: OffsetDateTime) -> Result<()> {
        match step {
            Step::Make(public_name) => {
                let made = self.make(storage, &public_name, now)?;
                tracing::debug!(
                    target: "tls.ech",
                    public_name,
                    id = made,
                    "generated new ECH config"
                );
            }
            Step::Replace(folder) => {
                let Some(old) = self.keys.iter().find(|key| key.folder == folder) else {
                    return Ok(());
                };
                let (old, public_name) = (old.key.config.id, old.public_name().to_owned());
                // First its successor, so that there is always one.
                let new = self.make(storage, &public_name, now)?;
                self.retire(storage, &folder, now)?;
                tracing::debug!(
                    target: "tls.ech",
                    public_name,
                    old_id = old,
                    new_id = new,
                    "rotated ECH key"
                );
            }
            Step::Retire(folder) => self.retire(storage, &folder, now)?,
            Step::Delete(folder) => {
                remove(storage, &folder).with_context_of(&folder, "deleting expired ECH config")?;
                let gone = self.keys.extract_if(.., |key| key.folder == folder);
                for key in gone {
                    tracing::debug!(
                        target: "tls.ech",
                        public_name = key.public_name(),
                        id = key.key.config.id,
                        "deleted expired ECH key"
                    );
                }
            }
        }
        Ok(())
    }

    fn retire(&mut self, storage: &dyn Storage, folder: &str, now: OffsetDateTime) -> Result<()> {
        let Some(key) = self.keys.iter_mut().find(|key| key.folder == folder) else {
            return Ok(());
        };
        key.meta.replaced = GoTime(now);
        store_meta(storage, folder, &key.meta)
    }

    /// Makes a key and stores it; gives its id.
    fn make(
        &mut self,
        storage: &dyn Storage,
        public_name: &str,
        now: OffsetDateTime,
    ) -> Result<u8> {
        let free: Vec<u8> = (0..=u8::MAX).filter(|id| !self.taken.contains(id)).collect();
        let Some(id) = fastrand::choice(free) else {
            let text = format!(
                "all 256 ids of ECH configs are taken: remove those that are out of use below \
                 {CONFIGS} in the storage"
            );
            return Err(Error::new(text));
        };
        let (config, private) = EchConfig::generate(id, public_name)?;
        let folder = format!("{CONFIGS}/{id}");
        let stored = Stored { folder, key: EchKey { config, private }, meta: Meta::new(now) };
        let store = |file: &str, content: &[u8]| {
            let key = stored.file(file);
            storage.store(&key, content).with_context_of(&key, "storing")
        };
        store("key.bin", stored.key.private.secret_bytes())?;
        store("config.bin", stored.key.config.as_bytes())?;
        store_meta(storage, &stored.folder, &stored.meta)?;
        self.taken.insert(id);
        self.keys.push(stored);
        Ok(id)
    }

    fn sorted(mut self) -> Vec<Stored> {
        self.keys.sort_by_key(|key| std::cmp::Reverse(key.meta.created));
        self.keys
    }
}

fn locked(storage: &dyn Storage) -> Result<Box<dyn LockGuard>> {
    storage.lock(LOCK, LOCK_WAIT).with_context_of(LOCK, "locking")
}

fn read(storage: &dyn Storage) -> Result<Content> {
    let mut content = Content::default();
    for folder in storage.list(CONFIGS).with_context_of(CONFIGS, "listing")? {
        content.taken.extend(folder.rsplit('/').next().and_then(|id| id.parse::<u8>().ok()));
        match read_one(storage, &folder) {
            Ok(stored) => {
                content.taken.insert(stored.key.config.id);
                content.keys.push(stored);
            }
            Err(Trouble::Garbage(why)) => content.garbage.push((folder, why)),
            Err(Trouble::Unreadable(error)) => tracing::warn!(
                target: "tls.ech",
                folder,
                %error,
                remedy = "see whether the storage is configured as when it was written, or remove \
                    the folder",
                "could not load ECH config; it is left as it is"
            ),
            Err(Trouble::Storage(error)) => return Err(error),
        }
    }
    Ok(content)
}

/// Why a folder gave no key.
enum Trouble {
    /// The storage works, and there is none.
    Garbage(Error),
    /// The storage has something that it cannot make sense of, which may be for the lack of the
    /// right secret.
    Unreadable(io::Error),
    Storage(Error),
}

fn read_one(storage: &dyn Storage, folder: &str) -> std::result::Result<Stored, Trouble> {
    let read = |file: &str| match load(storage, &format!("{folder}/{file}")) {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Trouble::Unreadable(error)),
        Err(error) => Err(Trouble::Storage(told(&error, folder, "loading"))),
    };
    let must = |file: &str| {
        let missing = || Trouble::Garbage(Error::new(format!("{file} is missing")));
        read(file)?.ok_or_else(missing)
    };
    let garbage = |file: &str, error: &dyn std::fmt::Display| {
        Trouble::Garbage(Error::new(error).while_doing(file))
    };
    let private = must("key.bin")?;
    let config =
        EchConfig::parse(&must("config.bin")?).map_err(|error| garbage("config.bin", &error))?;
    let public = PrivateKey::from_private_key(&X25519, &private)
        .and_then(|key| Ok(key.compute_public_key()?))
        .map_err(|error| garbage("key.bin", &error))?;
    if public.as_ref() != config.public_key() {
        return Err(garbage("key.bin", &"it is not the key of config.bin"));
    }
    let meta = match read("meta.json")? {
        Some(json) => Meta::parse(&json).map_err(|error| garbage("meta.json", &error))?,
        // When it was made is not known then, so it is replaced.
        None => {
            tracing::warn!(
                target: "tls.ech",
                folder,
                "ECH config metadata file missing; the config will be replaced"
            );
            Meta::default()
        }
    };
    let key = EchKey { config, private: HpkePrivateKey::from(private) };
    Ok(Stored { folder: folder.to_owned(), key, meta })
}

/// A file's content; nothing where it is known that there is no such file.
fn load(storage: &dyn Storage, key: &str) -> io::Result<Option<Vec<u8>>> {
    match storage.load(key) {
        Ok(content) => Ok(Some(content)),
        // A file where a folder should be, or a folder where a file should be.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn store_meta(storage: &dyn Storage, folder: &str, meta: &Meta) -> Result<()> {
    let key = format!("{folder}/meta.json");
    let json = meta.write().context(&key)?;
    storage.store(&key, &json).with_context_of(&key, "storing")
}

fn remove(storage: &dyn Storage, folder: &str) -> io::Result<()> {
    match storage.delete(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Says of an error of the storage where it happened and what may be done about it.
trait StorageContext<T> {
    fn with_context_of(self, key: &str, doing: &str) -> Result<T>;
}

impl<T> StorageContext<T> for io::Result<T> {
    fn with_context_of(self, key: &str, doing: &str) -> Result<T> {
        self.map_err(|error| told(&error, key, doing))
    }
}

fn told(error: &io::Error, key: &str, doing: &str) -> Error {
    match error.kind() {
        // Storages elsewhere say themselves what may be done about them.
        io::ErrorKind::NotConnected => Error::new(format!("{doing} {key}: {error}")),
        kind => Error::new(format!("{doing} {key}: {error} ({})", storage::remedy(kind))),
    }
}

/// Which current keys a list of public names stands for, in the order of the names; all where no name
/// is given, those of other names last.
pub(super) fn current_of(keys: &[Stored], order: &[String], all: bool) -> Vec<Stored> {
    let place: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut chosen: Vec<(usize, Stored)> = keys
        .iter()
        .filter(|key| key.is_current())
        .filter_map(|key| {
            let at = place.get(key.public_name()).copied();
            Some((at.or_else(|| all.then_some(usize::MAX))?, key.clone()))
        })
        .collect();
    // Newest first within a name, as they come.
    chosen.sort_by_key(|(at, _)| *at);
    chosen.into_iter().map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests;
