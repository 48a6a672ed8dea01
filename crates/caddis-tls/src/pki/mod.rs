//! The `pki` app: certificate authorities by id, opened when first used and kept over reloads.
//!
//! JSON: `{"certificate_authorities": {"local": {"name": "…", "root_common_name": "…",
//! "intermediate_common_name": "…", "intermediate_lifetime": "7d", "install_trust": false,
//! "root": {…}, "intermediate": {…}, "maintenance_interval": "10m", "renewal_window_ratio": 0.2}}}`.

mod ca;
mod java;
mod sign;
pub mod trust;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use caddis_config::Ca as CaConfig;

pub use ca::{Ca, CaInfo};
pub use sign::{Issued, LeafRequest};

use crate::{
    error::{Error, Result},
    storage::{self, Storage},
    timestamp::{self, Timestamp},
};

/// The id of the authority that is always there.
pub const DEFAULT_CA: &str = "local";

/// What keeps configured authorities from being what they are to be: files that are missing or do not
/// belong together, lifetimes that cannot be (T153, T154). Makes nothing. Blocks.
pub fn faults(configs: &BTreeMap<String, CaConfig>, storage: &Arc<dyn Storage>) -> Vec<Error> {
    let check = |(id, config): (&String, &CaConfig)| {
        let own = config.storage.as_ref().map(|_| storage::from_config(&config.storage));
        let storage = match own.transpose() {
            Ok(own) => own.unwrap_or_else(|| storage.clone()),
            Err(error) => return Err(Error::new(error)),
        };
        ca::check(id, config, &*storage, timestamp::now())
            .map_err(|error| error.while_doing(format!("provisioning CA '{id}'")))
    };
    configs.iter().filter_map(|one| check(one).err()).collect()
}

/// All authorities.
#[derive(Debug)]
pub struct Pki {
    inner: Mutex<Inner>,
    opening: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    configs: BTreeMap<String, CaConfig>,
    open: HashMap<String, Arc<Ca>>,
    /// Roots, PEM, that were put into trust stores or are not to be.
    installed: HashSet<String>,
    /// Roots, PEM, of authorities that were configured anew, by id.
    replaced: HashMap<String, String>,
}

impl Pki {
    /// Authorities kept in this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                storage,
                configs: BTreeMap::new(),
                open: HashMap::new(),
                installed: HashSet::new(),
                replaced: HashMap::new(),
            }),
            opening: Mutex::new(()),
        }
    }

    /// Takes over a new configuration; authorities that did not change stay open.
    pub fn configure(&self, storage: Arc<dyn Storage>, configs: BTreeMap<String, CaConfig>) {
        let mut inner = self.lock();
        let moved = inner.storage.describe() != storage.describe();
        let old = std::mem::replace(&mut inner.configs, configs);
        inner.storage = storage;
        let changed: Vec<String> = inner
            .open
            .keys()
            .filter(|id| moved || old.get(*id) != inner.configs.get(*id))
            .cloned()
            .collect();
        for id in changed {
            if let Some(ca) = inner.open.remove(&id) {
                // What was served last came from the first of them.
                inner.replaced.entry(id).or_insert_with(|| ca.root_pem());
            }
        }
    }

    /// Whether there may be news for [`Self::new_roots`].
    pub(crate) fn has_replaced(&self) -> bool {
        !self.lock().replaced.is_empty()
    }

    /// The authorities that have another root since they were configured anew, each told once.
    /// Blocks.
    pub(crate) fn new_roots(&self, now: Timestamp) -> Vec<String> {
        let replaced = std::mem::take(&mut self.lock().replaced);
        let other = |id: &str, root: &str| {
            self.authority(id, now).is_ok_and(|authority| authority.root_pem() != root)
        };
        replaced.into_iter().filter(|(id, root)| other(id, root)).map(|(id, _)| id).collect()
    }

    /// The authority with this id, loaded or made at its first use. Blocks.
    ///
    /// # Errors
    /// An id that is not configured, unreadable files.
    pub fn authority(&self, id: &str, now: Timestamp) -> Result<Arc<Ca>> {
        let id = if id.is_empty() { DEFAULT_CA } else { id };
        if let Some(ca) = self.lock().open.get(id) {
            return Ok(ca.clone());
        }
        // One opener at a time; the others then find it open.
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let (config, storage) = {
            let inner = self.lock();
            if let Some(ca) = inner.open.get(id) {
                return Ok(ca.clone());
            }
            let config = match inner.configs.get(id) {
                Some(config) => config.clone(),
                None if id == DEFAULT_CA => CaConfig::default(),
                None => {
                    let text = format!("no certificate authority configured with id: {id}");
                    return Err(Error::new(text));
                }
            };
            (config, inner.storage.clone())
        };
        let storage = match &config.storage {
            Some(_) => storage::from_config(&config.storage).map_err(Error::new)?,
            None => storage,
        };
        let ca = Arc::new(Ca::open(id, &config, storage, now)?);
        Ok(self.lock().open.entry(id.to_owned()).or_insert(ca).clone())
    }

    /// Authorities in use.
    pub fn open_authorities(&self) -> Vec<Arc<Ca>> {
        self.lock().open.values().cloned().collect()
    }

    /// Ids that are configured.
    pub fn configured(&self) -> Vec<String> {
        self.lock().configs.keys().cloned().collect()
    }

    /// Puts the roots of the open authorities into the trust stores, each once. Blocks.
    pub(crate) fn install_roots(&self) {
        for ca in self.open_authorities() {
            let root = ca.root_pem();
            if self.lock().installed.insert(root) {
                ca.install_root();
            }
        }
    }

    /// Where the authorities are kept that name no storage of their own.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.lock().storage.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
