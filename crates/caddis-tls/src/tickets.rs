//! Session tickets: one set of keys for all policies, so a session can be resumed on any of them,
//! over reloads, and on other servers with the same storage.
//!
//! JSON (J145): `{"key_source": {"provider": "standard"}, "rotation_interval": "12h", "max_keys": 4,
//! "disable_rotation": false, "disabled": false}`. With `{"provider": "distributed", "storage": …}`
//! the keys are in the storage, in a file of our own (`stek/caddis.json`): a ticket holds what the
//! TLS library writes, so Caddy's could not be read nor ours by Caddy.
//!
//! A ticket is the key's name (16 bytes), a nonce (12), and the session sealed by AES-256-GCM; both
//! name and key are derived from 32 bytes of chance.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use caddis_config::{ConfigError, tls::SessionTicketService};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    certificate::provider,
    error::{Context, Error, Result},
    storage::{self, Storage},
    timestamp::{self, Timestamp},
};

/// How often keys change (T044).
const ROTATION: i64 = 12 * 60 * 60;
/// Keys in use at a time (T044).
const MAX_KEYS: usize = 4;
/// The longest life of a ticket, seconds: far below what RFC 8446 §4.6.1 allows, since a session that
/// is resumed is no more secret than the key that sealed its ticket.
const MAX_LIFETIME: i64 = 24 * 60 * 60;
const NAME_LEN: usize = 16;
/// Where the keys are in the storage.
const FILE: &str = "stek/caddis.json";
/// As Caddy calls it (T145).
const LOCK: &str = "stek_check";
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// The ticket keys of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Tickets {
    settings: Settings,
    /// Absent for `standard`.
    storage: Option<Arc<dyn Storage>>,
    /// All sets of keys since the start, by their source.
    rings: Arc<Mutex<HashMap<String, Arc<Keyring>>>>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    disabled: bool,
    max_keys: usize,
    rotation: i64,
    rotates: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { disabled: false, max_keys: MAX_KEYS, rotation: ROTATION, rotates: true }
    }
}

impl Tickets {
    /// The same keys under other settings; `default` is the configuration's storage.
    ///
    /// # Errors
    /// A key source or storage that is not known.
    pub fn with_config(
        &self,
        config: Option<&SessionTicketService>,
        default: &Arc<dyn Storage>,
    ) -> std::result::Result<Self, ConfigError> {
        let rings = self.rings.clone();
        let Some(config) = config else { return Ok(Self { rings, ..Self::default() }) };
        let source = config.key_source.as_ref();
        let provider = source.and_then(|source| source.get("provider")).and_then(Value::as_str);
        if source.is_some() && provider.is_none() {
            let message = "module name not specified with key 'provider'";
            return Err(ConfigError::new("session_tickets.key_source", message));
        }
        let storage = match provider.unwrap_or("standard") {
            "standard" => None,
            "distributed" => {
                let own = source.and_then(|source| source.get("storage")).cloned();
                Some(match own.filter(|own| !own.is_null()) {
                    Some(own) => storage::from_config(&Some(own))
                        .map_err(|error| error.under("session_tickets.key_source"))?,
                    None => default.clone(),
                })
            }
            other => {
                let message = format!("unknown module: tls.stek.{other}");
                return Err(ConfigError::new("session_tickets.key_source", message));
            }
        };
        let rotation = config.rotation_interval.positive();
        let rotation = rotation.and_then(|time| i64::try_from(time.as_secs()).ok());
        let settings = Settings {
            disabled: config.disabled,
            max_keys: usize::try_from(config.max_keys)
                .ok()
                .filter(|max| *max > 0)
                .unwrap_or(MAX_KEYS),
            rotation: rotation.unwrap_or(ROTATION).max(1),
            rotates: !config.disable_rotation,
        };
        Ok(Self { settings, storage, rings })
    }

    /// The keys, made or loaded at first use; none where tickets are off. Blocks.
    pub(crate) fn ticketer(&self) -> Result<Option<Arc<dyn ProducesTickets>>> {
        if self.settings.disabled {
            return Ok(None);
        }
        let source = self.storage.as_ref().map_or_else(String::new, |storage| storage.describe());
        let ring = {
            let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            let make = || Arc::new(Keyring::new(self.storage.clone()));
            rings.entry(source).or_insert_with(make).clone()
        };
        ring.set(&self.settings);
        if ring.keys.load().is_empty() {
            ring.look(timestamp::now()).context("session ticket keys")?;
        }
        Ok(Some(ring))
    }

    /// Takes in keys of other servers, and makes new ones where it is time. Blocks.
    pub(crate) fn look(&self, now: Timestamp) {
        let rings: Vec<_> = {
            let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            rings.values().cloned().collect()
        };
        // The table's hold and this one are two; what nobody else holds is out of use.
        for ring in rings.iter().filter(|ring| Arc::strong_count(ring) > 2) {
            let looked = ring.look(now);
            let troubled = ring.troubled.swap(looked.is_err(), Ordering::Relaxed);
            match looked {
                // Once, however long it lasts.
                Err(error) if !troubled => tracing::error!(
                    target: "tls.stek",
                    %error,
                    remedy = "see whether the storage is there and can be written",
                    "session ticket keys could not be looked after: those in use stay; trying again \
                     every minute"
                ),
                Ok(()) if troubled => {
                    tracing::info!(target: "tls.stek", "session ticket keys are looked after again");
                }
                _ => {}
            }
        }
    }
}

/// One set of keys.
struct Keyring {
    /// Newest first.
    keys: ArcSwap<Vec<Arc<TicketKey>>>,
    storage: Option<Arc<dyn Storage>>,
    next_rotation: AtomicI64,
    max_keys: AtomicUsize,
    rotation: AtomicI64,
    rotates: AtomicBool,
    lifetime: AtomicU32,
    /// The last look failed.
    troubled: AtomicBool,
    /// One change at a time.
    changing: Mutex<()>,
}

struct TicketKey {
    secret: [u8; 32],
    name: [u8; NAME_LEN],
    seal: RandomizedNonceKey,
}

/// The keys as they are stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// Base64, newest first.
    keys: Vec<String>,
    /// When there is to be a new one, seconds since 1970.
    next_rotation: Timestamp,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    fn new(storage: Option<Arc<dyn Storage>>) -> Self {
        Self {
            keys: ArcSwap::default(),
            storage,
            next_rotation: AtomicI64::new(0),
            max_keys: AtomicUsize::new(MAX_KEYS),
            rotation: AtomicI64::new(ROTATION),
            rotates: AtomicBool::new(true),
            lifetime: AtomicU32::new(0),
            troubled: AtomicBool::new(false),
            changing: Mutex::default(),
        }
    }

    fn set(&self, settings: &Settings) {
        self.max_keys.store(settings.max_keys, Ordering::Relaxed);
        self.rotation.store(settings.rotation, Ordering::Relaxed);
        self.rotates.store(settings.rotates, Ordering::Relaxed);
        let keys = i64::try_from(settings.max_keys).unwrap_or(i64::MAX);
        let lifetime = settings.rotation.saturating_mul(keys).clamp(1, MAX_LIFETIME);
        self.lifetime.store(u32::try_from(lifetime).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn is_due(&self, next_rotation: Timestamp, now: Timestamp) -> bool {
        self.rotates.load(Ordering::Relaxed) && now >= next_rotation
    }

    fn look(&self, now: Timestamp) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(storage) = &self.storage else {
            let keys = self.keys.load_full();
            let next = self.next_rotation.load(Ordering::Relaxed);
            if keys.is_empty() || self.is_due(next, now) {
                let (next, turns) = self.turns(if keys.is_empty() { now } else { next }, now);
                self.put(self.rotated(&keys, turns)?, next);
            }
            return Ok(());
        };
        if let Some((keys, next)) = load(&**storage)?
            && !self.is_due(next, now)
        {
            self.put(self.known(keys), next);
            return Ok(());
        }
        let _guard = storage.lock(LOCK, LOCK_WAIT)?;
        // Another server may have been faster.
        let (keys, (next, turns)) = match load(&**storage)? {
            Some((keys, next)) if !self.is_due(next, now) => {
                self.put(self.known(keys), next);
                return Ok(());
            }
            Some((keys, next)) => (self.known(keys), self.turns(next, now)),
            // Where they are gone, those in use still open what they sealed.
            None => (self.keys.load().to_vec(), self.turns(now, now)),
        };
        let keys = self.rotated(&keys, turns)?;
        let texts = keys.iter().map(|key| BASE64_STANDARD.encode(key.secret)).collect();
        let stored = serde_json::to_vec(&Stored { keys: texts, next_rotation: next });
        storage.store(FILE, &stored.map_err(Error::new)?)?;
        tracing::info!(target: "tls.stek", keys = keys.len(), "rotated session ticket keys");
        self.put(keys, next);
        Ok(())
    }

    fn put(&self, keys: Vec<Arc<TicketKey>>, next: Timestamp) {
        self.next_rotation.store(next, Ordering::Relaxed);
        self.keys.store(Arc::new(keys));
    }

    /// The same keys, those in use as they are.
    fn known(&self, keys: Vec<TicketKey>) -> Vec<Arc<TicketKey>> {
        let old = self.keys.load();
        let same = |key: &TicketKey| old.iter().find(|one| one.secret == key.secret).cloned();
        keys.into_iter().map(|key| same(&key).unwrap_or_else(|| Arc::new(key))).collect()
    }

    /// When the next key is to come, and how many should have come since the last: none were made
    /// while nobody asked for any.
    fn turns(&self, next: Timestamp, now: Timestamp) -> (Timestamp, usize) {
        let rotation = self.rotation.load(Ordering::Relaxed).max(1);
        let late = now.saturating_sub(next).max(0);
        let turns = usize::try_from(late / rotation).unwrap_or(usize::MAX).saturating_add(1);
        (now.saturating_sub(late % rotation).saturating_add(rotation), turns)
    }

    /// A new key, and of the old ones those that are not to go after so many turns.
    fn rotated(&self, keys: &[Arc<TicketKey>], turns: usize) -> Result<Vec<Arc<TicketKey>>> {
        let mut secret = [0; 32];
        provider().secure_random.fill(&mut secret).map_err(|_| Error::new("no random numbers"))?;
        let mut all = vec![Arc::new(TicketKey::new(secret)?)];
        let kept = self.max_keys.load(Ordering::Relaxed).saturating_sub(turns);
        all.extend(keys.iter().take(kept).cloned());
        Ok(all)
    }
}

/// The stored keys; none where there are none, or nothing that can be read, which is replaced then.
fn load(storage: &dyn Storage) -> Result<Option<(Vec<TicketKey>, Timestamp)>> {
    let text = match storage.load(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::new(error).while_doing(format!("loading {FILE}"))),
    };
    match parse(&text) {
        Ok((keys, _)) if keys.is_empty() => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            tracing::error!(
                target: "tls.stek",
                %error,
                remedy = "see what else writes to the storage",
                "stored session ticket keys cannot be read; they are replaced"
            );
            Ok(None)
        }
    }
}

fn parse(text: &[u8]) -> Result<(Vec<TicketKey>, Timestamp)> {
    let stored: Stored = serde_json::from_slice(text).context(FILE)?;
    let key = |text: &String| -> Result<TicketKey> {
        let bytes = BASE64_STANDARD.decode(text).context(FILE)?;
        let secret = bytes.try_into().map_err(|_| Error::new(format!("{FILE}: malformed key")))?;
        TicketKey::new(secret)
    };
    Ok((stored.keys.iter().map(key).collect::<Result<_>>()?, stored.next_rotation))
}

impl TicketKey {
    fn new(secret: [u8; 32]) -> Result<Self> {
        let source = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let derived = hmac::sign(&source, b"caddis ticket key name");
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(derived.as_ref().get(..NAME_LEN).unwrap_or(&[0; NAME_LEN]));
        let sealing = hmac::sign(&source, b"caddis ticket sealing key");
        let seal = RandomizedNonceKey::new(&AES_256_GCM, sealing.as_ref())
            .map_err(|_| Error::new("malformed session ticket key"))?;
        Ok(Self { secret, name, seal })
    }
}

impl Keyring {
    /// Makes a new key where it is time: a ticket is not to live until somebody looks. Keys of a
    /// storage wait for that look, as no handshake waits for a storage.
    fn freshen(&self, now: Timestamp) {
        if self.storage.is_none()
            && self.is_due(self.next_rotation.load(Ordering::Relaxed), now)
            && let Err(error) = self.look(now)
        {
            tracing::debug!(target: "tls.stek", %error, "rotating session ticket keys");
        }
    }

    fn seal(&self, plain: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        self.freshen(now);
        let keys = self.keys.load();
        let key = keys.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key.seal.seal_in_place_append_tag(Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        self.freshen(now);
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = key.seal.open_in_place(nonce, Aad::from(key.name), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

impl ProducesTickets for Keyring {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime.load(Ordering::Relaxed)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, timestamp::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use caddis_config::tls::SessionTicketService;
    use serde_json::json;

    use super::{FILE, Keyring, MAX_KEYS, ROTATION, Tickets};
    use crate::{
        storage::{FileSystem, Storage},
        testing::TempDir,
    };

    fn storage(folder: &TempDir) -> Arc<dyn Storage> {
        Arc::new(FileSystem::new(folder.path().to_owned()))
    }

    #[test]
    fn keys_are_shared_over_reloads() {
        let folder = TempDir::new();
        let (tickets, storage) = (Tickets::default(), storage(&folder));
        let with = |config: Option<&SessionTicketService>| tickets.with_config(config, &storage);
        let one = with(None).unwrap().ticketer().unwrap().unwrap();
        let two = with(None).unwrap().ticketer().unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.lifetime(), 24 * 3_600);
        let off = SessionTicketService { disabled: true, ..SessionTicketService::default() };
        assert!(with(Some(&off)).unwrap().ticketer().unwrap().is_none());
        for source in [json!({"provider": "other"}), json!({}), json!(null)] {
            let key_source = Some(source);
            let other = SessionTicketService { key_source, ..SessionTicketService::default() };
            assert!(with(Some(&other)).is_err());
        }
        assert!(!storage.exists(FILE).unwrap_or(true), "standard keys are in memory alone");
    }

    #[test]
    fn tickets_open_until_their_key_is_gone() {
        let ring = Keyring::new(None);
        ring.look(0).unwrap();
        let mut ticket = ring.seal(b"session", 1).unwrap();
        assert_eq!(ring.open(&ticket, 2).as_deref(), Some(&b"session"[..]));
        for turn in 1..=MAX_KEYS as i64 {
            assert!(ring.open(&ticket, turn * ROTATION - 1).is_some(), "{turn}");
            ring.look(turn * ROTATION).unwrap();
        }
        let end = MAX_KEYS as i64 * ROTATION;
        assert_eq!(ring.open(&ticket, end), None);
        assert_eq!(ring.keys.load().len(), MAX_KEYS);
        ticket = ring.seal(b"session", end).unwrap();
        *ticket.last_mut().unwrap() ^= 1;
        assert_eq!(ring.open(&ticket, end), None);
        assert_eq!(ring.open(b"short", end), None);
    }

    /// Nobody has to look for keys to end in time, however long nothing happened.
    #[test]
    fn keys_end_in_time() {
        for at in [2, 3, 10, 1000] {
            let ring = Keyring::new(None);
            ring.max_keys.store(2, std::sync::atomic::Ordering::Relaxed);
            ring.look(0).unwrap();
            let ticket = ring.seal(b"session", 1).unwrap();
            assert!(ring.open(&ticket, ROTATION - 1).is_some());
            let late = ring.seal(b"session", ROTATION - 1).unwrap();
            assert_eq!(ring.open(&ticket, at * ROTATION), None, "{at}");
            assert_eq!(ring.open(&late, at * ROTATION), None, "{at}");
            // The times of changes stay those of the first key.
            let fresh = ring.seal(b"session", at * ROTATION + 5).unwrap();
            assert!(ring.open(&fresh, (at + 2) * ROTATION - 1).is_some());
            assert_eq!(ring.open(&fresh, (at + 2) * ROTATION), None);
        }
        let ring = Keyring::new(None);
        ring.look(0).unwrap();
        let ticket = ring.seal(b"session", 1).unwrap();
        assert!(ring.open(&ticket, ROTATION).is_some());
        assert_eq!(ring.keys.load().len(), 2, "the second key is made when it is time");
    }

    #[test]
    fn servers_share_keys_by_the_storage() {
        let folder = TempDir::new();
        let (one, two) =
            (Keyring::new(Some(storage(&folder))), Keyring::new(Some(storage(&folder))));
        one.look(0).unwrap();
        two.look(10).unwrap();
        let ticket = one.seal(b"session", 10).unwrap();
        assert_eq!(two.open(&ticket, 10).as_deref(), Some(&b"session"[..]));
        // One of them rotates, the other follows; old tickets still open.
        two.look(ROTATION).unwrap();
        let fresh = two.seal(b"fresh", ROTATION).unwrap();
        assert_eq!(one.open(&fresh, ROTATION), None);
        one.look(ROTATION + 1).unwrap();
        assert_eq!(one.open(&fresh, ROTATION).as_deref(), Some(&b"fresh"[..]));
        assert!(one.open(&ticket, ROTATION).is_some() && two.open(&ticket, ROTATION).is_some());
        assert_eq!(one.keys.load().len(), 2);
        // What cannot be read is replaced, the keys in use stay, and the others follow.
        for nonsense in [&b"nonsense"[..], b"", b"{\"keys\": [\"AA==\"]}", b"{}"] {
            let before = one.seal(b"session", ROTATION).unwrap();
            storage(&folder).store(FILE, nonsense).unwrap();
            one.look(ROTATION + 2).unwrap();
            assert!(one.open(&before, ROTATION).is_some());
            let ticket = one.seal(b"session", ROTATION).unwrap();
            two.look(ROTATION + 3).unwrap();
            assert!(two.open(&ticket, ROTATION).is_some());
            Keyring::new(Some(storage(&folder))).look(ROTATION + 4).unwrap();
        }
    }

    #[test]
    fn without_rotation_keys_stay() {
        let ring = Keyring::new(None);
        ring.rotates.store(false, std::sync::atomic::Ordering::Relaxed);
        ring.look(0).unwrap();
        ring.look(100 * ROTATION).unwrap();
        assert_eq!(ring.keys.load().len(), 1);
    }
}
