//! Keeps the ECH keys of a configuration: loads them before it is served, and looks after them each
//! hour while it is.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{
    EchKey, EchKeyring,
    publication::{Publication, Publishing, blocking},
    stored::{Stored, refreshed},
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

/// Keys as they were found in the storage, or made.
#[derive(Debug)]
pub struct EchKeys(Vec<Stored>);

impl EchKeys {
    /// All keys in the storage. Those that are missing are made, old ones replaced, and what is no
    /// key is removed, under the storage's lock.
    ///
    /// # Errors
    /// The storage does not work; nothing is removed for that.
    pub async fn load(storage: &Arc<dyn Storage>, plan: &EchPlan) -> Result<Self> {
        let (storage, wanted) = (storage.clone(), plan.public_names.clone());
        let now = OffsetDateTime::now_utc();
        let keys = blocking(move || refreshed(&*storage, &wanted, now)).await?;
        for key in &keys {
            tracing::debug!(
                target: "tls.ech",
                public_name = key.public_name(),
                id = key.key.config.id,
                "loaded ECH config"
            );
        }
        Ok(Self(keys))
    }

    /// The names that are sent in clear, those of keys that are left from other configurations
    /// among them: clients may know them still, and then ask for their certificates.
    pub fn public_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Stored::public_name)
    }

    /// Puts the keys in place for handshakes.
    ///
    /// # Errors
    /// More than fit into one list.
    pub fn put_in(self, ring: &EchKeyring) -> Result<()> {
        let (current, replaced): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(Stored::is_current);
        let keys =
            |all: Vec<Stored>| -> Vec<EchKey> { all.into_iter().map(|key| key.key).collect() };
        ring.put(keys(current), keys(replaced))
    }
}

/// Publishes, and looks after the keys each hour, for as long as it is polled. A failure is told and
/// tried again at the next hour; keys in use stay.
pub async fn keep(ring: Arc<EchKeyring>, storage: Arc<dyn Storage>, plan: Arc<EchPlan>) {
    let mut publishing = Publishing::default();
    let now = OffsetDateTime::now_utc;
    loop {
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
            let looked = EchKeys::load(&storage, &plan).await;
            match looked.and_then(|keys| keys.put_in(&ring)) {
                Ok(()) => break,
                Err(error) => tracing::error!(
                    target: "tls.ech",
                    %error,
                    "rotating ECH configs failed; those in use stay, trying again in an hour"
                ),
            }
        }
    }
}
