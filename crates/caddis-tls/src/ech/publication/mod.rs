//! Publication: telling clients of the configurations, for the names that they hide (spec T158).
//!
//! What has been published where is kept with each key, so that nothing is published twice, by
//! whichever server on one storage. Only keys that have not been replaced are published: a client
//! takes the first of a list that it can use.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use caddis_config::ConfigError;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{runtime::Handle, time::Instant};

use super::{
    EchConfig,
    publisher::{DnsPublisher, Published, PublishedName},
    stored::{self, Stored, current_of},
};
use crate::{
    error::{Context, Error, Result},
    storage::{self, LockGuard, Storage},
};

/// Whoever publishes holds it (spec T159).
const LOCK: &str = "ech_publish";
/// How long another server may publish before this one looks again in an hour.
const LOCK_WAIT: Duration = Duration::from_secs(10 * 60);
/// How often it is looked whether the lock is free.
const LOCK_POLL: Duration = Duration::from_secs(5);
/// So many names are published before it is noted.
const BATCH: usize = 20;
/// After so long a name that could have no record is tried again: it may have one by now.
const SKIPPED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Who publishes, what, and for whom.
#[derive(Debug)]
pub struct Publication<P = DnsPublisher> {
    /// The public names of the configurations; absent for all.
    pub configs: Option<Vec<String>>,
    /// The names that are hidden.
    pub names: Vec<PublishedName>,
    /// Who publishes.
    pub publishers: Vec<Arc<P>>,
}

/// The publisher where none is configured: by the provider of the global option `dns`.
///
/// # Errors
/// The provider is not known or cannot be configured so.
pub fn default_publisher(dns: &Value) -> std::result::Result<DnsPublisher, ConfigError> {
    let name = dns.get("name").and_then(Value::as_str).unwrap_or_default();
    Ok(DnsPublisher::for_provider(caddis_dns::compile(dns)?, name))
}

/// A way to publish.
pub(super) trait Publisher {
    /// By it the storage tells what was published where.
    fn key(&self) -> &str;
    /// Publishes a list for names; the results are those of the names, in any order.
    fn publish(
        &self,
        names: &[PublishedName],
        config_list: &[u8],
    ) -> impl Future<Output = Vec<(String, Result<Published>)>>;
}

impl Publisher for DnsPublisher {
    fn key(&self) -> &str {
        self.key()
    }

    async fn publish(
        &self,
        names: &[PublishedName],
        config_list: &[u8],
    ) -> Vec<(String, Result<Published>)> {
        self.publish(names, config_list).await
    }
}

/// What is known of publications besides what the storage knows.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Names that could have no record, by publisher and name.
    skipped: HashMap<(String, String), Instant>,
    skipped_for: Duration,
    lock_wait: Duration,
    lock_poll: Duration,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            skipped: HashMap::new(),
            skipped_for: SKIPPED_FOR,
            lock_wait: LOCK_WAIT,
            lock_poll: LOCK_POLL,
        }
    }
}

/// Names that a publisher has not told of all configurations yet.
struct Due {
    keys: Vec<Stored>,
    names: Vec<PublishedName>,
}

impl Publishing {
    /// Publishes what has not been published. What fails is told, and left for the next call.
    ///
    /// # Errors
    /// The storage does not work, or another server has been publishing for long.
    pub(super) async fn publish<P: Publisher>(
        &mut self,
        storage: &Arc<dyn Storage>,
        publications: &[Publication<P>],
        public_names: &[String],
        clock: fn() -> OffsetDateTime,
    ) -> Result<()> {
        let keys = present(storage).await?;
        let is_due = |publication: &Publication<P>| {
            let mut publishers = publication.publishers.iter();
            publishers.any(|publisher| {
                self.due(&keys, publication, public_names, publisher.key()).is_some()
            })
        };
        if !publications.iter().any(is_due) {
            tracing::debug!(
                target: "tls.ech",
                "ECH config list already published by publisher for associated domains (or no \
                 domains to publish for)"
            );
            return Ok(());
        }
        let _guard = self.locked(storage).await?;
        for publication in publications {
            for publisher in &publication.publishers {
                // Another server may have been faster, and so may the publication before.
                let keys = present(storage).await?;
                let Some(due) = self.due(&keys, publication, public_names, publisher.key()) else {
                    continue;
                };
                // In pieces, so that whoever is stopped on the way goes on where it was.
                for names in due.names.chunks(BATCH) {
                    self.publish_due(storage, &**publisher, &due.keys, names, clock).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits in short pieces, so that nobody has to wait for a thread that waits.
    async fn locked(&self, storage: &Arc<dyn Storage>) -> Result<Held> {
        let start = Instant::now();
        loop {
            let one = storage.clone();
            let taken = blocking(move || Ok(one.lock(LOCK, Duration::ZERO))).await?;
            match taken {
                Ok(guard) => return Ok(Held(Some(guard))),
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut
                        && start.elapsed() < self.lock_wait =>
                {
                    tokio::time::sleep(self.lock_poll).await;
                }
                Err(error) => {
                    let remedy = storage::remedy(error.kind());
                    return Err(Error::new(format!("locking {LOCK}: {error} ({remedy})")));
                }
            }
        }
    }

    fn due<P>(
        &self,
        keys: &[Stored],
        publication: &Publication<P>,
        public_names: &[String],
        publisher: &str,
    ) -> Option<Due> {
        let keys = match &publication.configs {
            None => current_of(keys, public_names, true),
            Some(names) => current_of(keys, names, false),
        };
        let is_due = |name: &&PublishedName| {
            let skipped = self.skipped.get(&(publisher.to_owned(), name.name.clone()));
            skipped.is_none_or(|at| at.elapsed() >= self.skipped_for)
                && keys.iter().any(|key| !key.meta.is_published(publisher, &name.name))
        };
        let names: Vec<_> = publication.names.iter().filter(is_due).cloned().collect();
        (!names.is_empty()).then_some(Due { keys, names })
    }

    async fn publish_due<P: Publisher>(
        &mut self,
        storage: &Arc<dyn Storage>,
        publisher: &P,
        keys: &[Stored],
        names: &[PublishedName],
        clock: fn() -> OffsetDateTime,
    ) -> Result<()> {
        let key = publisher.key().to_owned();
        let list = EchConfig::list(keys.iter().map(|key| &key.key.config))?;
        let config_ids: Vec<u8> = keys.iter().map(|key| key.key.config.id).collect();
        let config_ids = json!(config_ids);
        let all: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
        tracing::debug!(
            target: "tls.ech",
            publisher = key,
            json.domains = %json!(all),
            json.config_ids = %config_ids,
            "publishing ECH config list"
        );
        let at = clock();
        let (mut set, mut failed) = (Vec::new(), BTreeSet::new());
        for (name, result) in publisher.publish(names, &list).await {
            let place = (key.clone(), name.clone());
            match result {
                Ok(Published::Set) => {
                    self.skipped.remove(&place);
                    set.push(name);
                }
                // Why was logged by the publisher.
                Ok(Published::Skipped) => {
                    self.skipped.insert(place, Instant::now());
                }
                Err(error) => {
                    tracing::error!(
                        target: "tls.ech",
                        publisher = key,
                        domain = name,
                        json.config_ids = %config_ids,
                        %error,
                        remedy = "see whether the DNS provider's credentials may read and write the \
                            zone, or name the domains to publish for in `publication`",
                        "failed to publish ECH configuration list; trying again in an hour"
                    );
                    failed.insert(name);
                }
            }
        }
        if set.is_empty() {
            if !failed.is_empty() {
                tracing::error!(
                    target: "tls.ech",
                    publisher = key,
                    json.domains = %json!(failed),
                    json.config_ids = %config_ids,
                    "all domains failed to publish ECH configuration list (see earlier errors)"
                );
            }
            return Ok(());
        }
        let some_or_all = if failed.is_empty() { "all" } else { "some" };
        tracing::info!(
            target: "tls.ech",
            publisher = key,
            json.domains = %json!(set),
            json.config_ids = %config_ids,
            "successfully published ECH configuration list for {some_or_all} domains"
        );
        let (storage, keys) = (storage.clone(), keys.to_vec());
        let noted =
            blocking(move || stored::note_published(&*storage, &keys, &key, &set, at)).await;
        noted.context("keeping what was published")
    }
}

async fn present(storage: &Arc<dyn Storage>) -> Result<Vec<Stored>> {
    let storage = storage.clone();
    blocking(move || stored::present(&*storage)).await
}

/// Does what blocks on another thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::new)?
}

/// A lock that is let go of on another thread, since that may take a call to another machine.
struct Held(Option<Box<dyn LockGuard>>);

impl Drop for Held {
    fn drop(&mut self) {
        let guard = self.0.take();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(guard))),
            Err(_) => drop(guard),
        }
    }
}

#[cfg(test)]
mod tests;
