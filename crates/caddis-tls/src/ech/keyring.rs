//! The ECH keys that handshakes look at.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::crypto::hpke::HpkePrivateKey;

use super::{EchConfig, Rejection};
use crate::error::Result;

/// A configuration with the key that opens what clients seal for it.
pub struct EchKey {
    /// What clients have been told.
    pub config: EchConfig,
    /// The secret half of its key.
    pub private: HpkePrivateKey,
}

/// The keys in use now; none at first. Handshakes look at them; who rotates keys puts others in
/// their place.
#[derive(Default)]
pub struct EchKeyring {
    keys: ArcSwap<Keys>,
}

/// Keys to be put in a ring.
#[derive(Debug, Default)]
pub(super) struct Keys {
    all: Arc<Vec<EchKey>>,
    retry: Arc<Vec<u8>>,
}

// === impl EchKey ===

impl Clone for EchKey {
    fn clone(&self) -> Self {
        let private = HpkePrivateKey::from(self.private.secret_bytes().to_vec());
        Self { config: self.config.clone(), private }
    }
}

impl fmt::Debug for EchKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EchKey").field("config", &self.config).finish_non_exhaustive()
    }
}

// === impl EchKeyring ===

impl EchKeyring {
    /// A keyring of keys none of which has been replaced.
    ///
    /// # Errors
    /// More configurations than fit into one list (65,535 octets).
    pub fn new(keys: Vec<EchKey>) -> Result<Self> {
        Ok(Self { keys: ArcSwap::from_pointee(Keys::new(keys, Vec::new())?) })
    }

    /// All keys whose hellos are opened: those that are told to clients, then those that have been
    /// replaced and that some clients may know still. Several may have the same id.
    pub fn look(&self) -> Arc<Vec<EchKey>> {
        self.keys.load().all.clone()
    }

    /// The `ECHConfigList` of the configurations that have not been replaced.
    pub fn list(&self) -> Arc<Vec<u8>> {
        self.keys.load().retry.clone()
    }

    /// For clients whose hello could not be opened (RFC 9849 §7.1): [`list`](Self::list).
    pub fn rejection(&self) -> Option<Rejection> {
        Rejection::new(&self.list())
    }

    /// Puts other keys in place; handshakes that began go on with those they have looked at.
    pub(super) fn put(&self, keys: Arc<Keys>) {
        self.keys.store(keys);
    }
}

impl fmt::Debug for EchKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EchKeyring").field(&self.look()).finish()
    }
}

// === impl Keys ===

impl Keys {
    /// Keys that clients are told of, and those that have been replaced.
    ///
    /// # Errors
    /// As [`EchKeyring::new`].
    pub(super) fn new(mut current: Vec<EchKey>, replaced: Vec<EchKey>) -> Result<Self> {
        let retry = Arc::new(EchConfig::list(current.iter().map(|key| &key.config))?);
        current.extend(replaced);
        Ok(Self { all: Arc::new(current), retry })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{EchKey, EchKeyring, Keys};
    use crate::ech::EchConfig;

    #[test]
    fn clients_are_told_what_has_not_been_replaced() {
        let key = |id| {
            let (config, private) = EchConfig::generate(id, "public.example").unwrap();
            EchKey { config, private }
        };
        let (one, two) = (key(1), key(2));
        let ring = EchKeyring::new(vec![one.clone()]).unwrap();
        let before = ring.look();
        assert_eq!(*ring.list(), EchConfig::list([&one.config]).unwrap());
        ring.put(Arc::new(Keys::new(vec![two.clone()], vec![one.clone()]).unwrap()));
        let ids: Vec<u8> = ring.look().iter().map(|key| key.config.id).collect();
        assert_eq!(ids, [2, 1]);
        assert_eq!(*ring.list(), EchConfig::list([&two.config]).unwrap());
        assert_eq!(before.len(), 1);
        let secret = format!("{:?}", one.private.secret_bytes());
        assert!(!format!("{ring:?}").contains(&secret));
    }
}
