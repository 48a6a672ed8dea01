//! Keeps the ECH keys of a configuration: loads them before it is served, and looks after them each
//! hour while it is.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use time::OffsetDateTime;

use super::{
    EchKeyring,
    keyring::Keys,
    publication::{Publication, Publishing, blocking},
    stored::{Stored, current_of, refreshed},
};
use crate::{error::Result, storage::Storage};

/// How often keys are looked at (spec T157).
const LOOK: Duration = Duration::from_secs(60 * 60);

/// What a configuration wants.
#[derive(Debug, Default)]
pub struct EchPlan {
    /// The names that are sent in clear, in lower case.
    pub public_names: Vec<String>,
    /// How clients are told.
    pub publications: Vec<Publication>,
}

impl EchPlan {
    /// Whether nobody is told of the configurations.
    fn is_unpublished(&self) -> bool {
        self.publications.iter().all(|publication| publication.publishers.is_empty())
    }
}

/// Keys as they were found in the storage, or made.
#[derive(Debug)]
pub struct EchKeys {
    public_names: BTreeSet<String>,
    keys: Arc<Keys>,
}

impl EchKeys {
    /// All keys in the storage. Those that are missing are made, old ones replaced, and what is no
    /// key is removed, under the storage's lock.
    ///
    /// # Errors
    /// The storage does not work (nothing is removed for that), or has more keys than fit into one
    /// list.
    pub async fn load(storage: &Arc<dyn Storage>, plan: &EchPlan) -> Result<Self> {
        let (storage, wanted) = (storage.clone(), plan.public_names.clone());
        let now = OffsetDateTime::now_utc();
        let found = blocking(move || refreshed(&*storage, &wanted, now)).await?;
        for key in &found {
            tracing::debug!(
                target: "tls.ech",
                public_name = key.public_name(),
                id = key.key.config.id,
                "loaded ECH config"
            );
        }
        let public_names = found.iter().map(|key| key.public_name().to_owned()).collect();
        let current = current_of(&found, &plan.public_names, true);
        let replaced = found.into_iter().filter(|key| !key.is_current()).collect();
        let keys = |all: Vec<Stored>| all.into_iter().map(|key| key.key).collect();
        let keys = Keys::new(keys(current), keys(replaced))?;
        Ok(Self { public_names, keys: Arc::new(keys) })
    }

    /// The names that are sent in clear, those of keys that are left from other configurations
    /// among them: clients may know them still, and then ask for their certificates.
    pub fn public_names(&self) -> impl Iterator<Item = &str> {
        self.public_names.iter().map(String::as_str)
    }

    /// Puts the keys in place for handshakes.
    pub fn put_in(&self, ring: &EchKeyring) {
        ring.put(self.keys.clone());
    }
}

/// Publishes, and looks after the keys each hour, for as long as it is polled. A failure is told and
/// tried again at the next hour; keys in use stay.
pub async fn keep(ring: Arc<EchKeyring>, storage: Arc<dyn Storage>, plan: Arc<EchPlan>) {
    let mut publishing = Publishing::default();
    let now = OffsetDateTime::now_utc;
    let mut told = None;
    loop {
        if plan.is_unpublished() && told.as_ref() != Some(&ring.list()) {
            let list = ring.list();
            tracing::info!(
                target: "tls.ech",
                ech = BASE64_STANDARD.encode(&*list),
                remedy = "name a DNS provider (`dns` among the global options, or inside `ech`), or \
                    put `ech` into the HTTPS records of your names by hand, anew after each rotation",
                "ECH configs are not published by this server, so most clients do not know of them"
            );
            told = Some(list);
        }
        let (publications, names) = (&plan.publications, &plan.public_names);
        if let Err(error) = publishing.publish(&storage, publications, names, now).await {
            tracing::error!(
                target: "tls.ech",
                %error,
                "publication(s) failed; trying again in an hour"
            );
        }
        loop {
            tokio::time::sleep(LOOK).await;
            match EchKeys::load(&storage, &plan).await {
                Ok(keys) => {
                    keys.put_in(&ring);
                    break;
                }
                Err(error) => tracing::error!(
                    target: "tls.ech",
                    %error,
                    "rotating ECH configs failed; those in use stay, trying again in an hour"
                ),
            }
        }
    }
}
