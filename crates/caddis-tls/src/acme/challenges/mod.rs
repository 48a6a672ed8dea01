//! The challenges that are under way: kept in memory, and in the storage as Caddy keeps them (T130),
//! so that any instance on it can answer.

mod dns01;
mod http01;
mod listener;
mod tls_alpn01;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use instant_acme::ChallengeType;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub(crate) use dns01::{DnsRecord, Records};
pub use tls_alpn01::is_challenge_hello;
pub(crate) use tls_alpn01::reverse_name;

use super::{AcmeConfig, Failure, storage_prefix};
use crate::storage::{Storage, keys};

/// Look-ups in the storage for requests from outside at the same time; more are not answered.
const MAX_LOOKUPS: usize = 32;

/// A way to show control of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http01,
    TlsAlpn01,
    Dns01,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    pub(super) fn acme(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Dns01 => ChallengeType::Dns01,
        }
    }
}

/// Which challenge worked last; it is tried first (T071).
#[derive(Debug, Default)]
pub(super) struct Learned(AtomicU8);

impl Learned {
    /// The challenges to try for a name, in order.
    pub(super) fn kinds(&self, config: &AcmeConfig, name: &str) -> Vec<Kind> {
        if config.dns.is_some() {
            return vec![Kind::Dns01];
        }
        if name.starts_with("*.") {
            return Vec::new();
        }
        let mut kinds = Vec::new();
        if config.http {
            kinds.push(Kind::Http01);
        }
        if config.tls_alpn {
            kinds.push(Kind::TlsAlpn01);
        }
        match self.0.load(Ordering::Relaxed) {
            0 if fastrand::bool() => kinds.reverse(),
            2 => kinds.reverse(),
            _ => {}
        }
        kinds
    }

    pub(super) fn worked(&self, kind: Kind) {
        let value = match kind {
            Kind::Http01 => 1,
            Kind::TlsAlpn01 => 2,
            Kind::Dns01 => return,
        };
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A challenge with its answer, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) status: String,
    pub(super) token: String,
    #[serde(rename = "keyAuthorization")]
    pub(super) key_authorization: String,
    pub(super) identifier: Identifier,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Identifier {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: String,
}

/// All challenges of the process, and where those of others are found.
pub struct Challenges {
    active: Mutex<HashMap<String, Arc<Pending>>>,
    shared: Mutex<Vec<Shared>>,
    lookups: Semaphore,
    listeners: listener::Listeners,
    /// Those that are DNS records.
    pub(crate) records: Records,
}

#[derive(Clone)]
struct Shared {
    storage: Arc<dyn Storage>,
    /// The authorities in use, by their place in the storage.
    prefixes: Vec<String>,
}

impl Default for Challenges {
    fn default() -> Self {
        Self {
            active: Mutex::default(),
            shared: Mutex::default(),
            lookups: Semaphore::new(MAX_LOOKUPS),
            listeners: listener::Listeners::default(),
            records: Records::default(),
        }
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges")
    }
}

impl Challenges {
    /// Takes over where the challenges of other instances are found: storages, each with the
    /// places of the authorities whose challenges lie there.
    pub(crate) fn share(&self, storages: Vec<(Arc<dyn Storage>, Vec<String>)>) {
        let shared = storages.into_iter().filter_map(|(storage, mut prefixes)| {
            prefixes.sort();
            prefixes.dedup();
            (!prefixes.is_empty()).then_some(Shared { storage, prefixes })
        });
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = shared.collect();
    }

    /// Makes a challenge answerable, here and by others on the storage.
    pub(super) async fn present(
        self: &Arc<Self>,
        kind: Kind,
        pending: Pending,
        config: &AcmeConfig,
        directory: &str,
        storage: &Arc<dyn Storage>,
    ) -> Result<Presented, Failure> {
        let key = challenge_key(kind, &pending.identifier);
        let prefix = storage_prefix(directory);
        let shared = config.distributed.then_some((storage, prefix.as_str()));
        let mut presented = self.show(key, pending, shared).await?;
        presented.listener = match kind {
            Kind::Http01 => self.listen(&config.bind_host, config.ports.http, false),
            Kind::TlsAlpn01 => self.listen(&config.bind_host, config.ports.https, true),
            Kind::Dns01 => None,
        };
        Ok(presented)
    }

    /// Makes a file of ZeroSSL's API answerable, here and by others on the storage: what Caddy
    /// stores in the form of a challenge.
    pub(crate) async fn present_file(
        self: &Arc<Self>,
        name: &str,
        url: &str,
        content: String,
        (host, port): (&str, u16),
        storage: &Arc<dyn Storage>,
    ) -> Result<Presented, Failure> {
        let pending = Pending {
            kind: String::new(),
            url: url.to_owned(),
            status: String::new(),
            token: content,
            key_authorization: String::new(),
            identifier: Identifier { kind: String::new(), value: name.to_owned() },
        };
        let shared = Some((storage, crate::zerossl::KEY));
        let mut presented = self.show(name.to_lowercase(), pending, shared).await?;
        presented.listener = self.listen(host, port, false);
        Ok(presented)
    }

    async fn show(
        self: &Arc<Self>,
        key: String,
        pending: Pending,
        shared: Option<(&Arc<dyn Storage>, &str)>,
    ) -> Result<Presented, Failure> {
        let mut presented =
            Presented { challenges: self.clone(), key: key.clone(), stored: None, listener: None };
        if let Some((storage, prefix)) = shared {
            let json = serde_json::to_vec(&pending).map_err(Failure::new)?;
            let place = token_key(prefix, &key);
            presented.stored = Some((storage.clone(), place.clone()));
            let storage = storage.clone();
            let stored = tokio::task::spawn_blocking(move || storage.store(&place, &json)).await;
            // The authority was asked already, so this counts as a failure of the attempt.
            stored.map_err(Failure::new)?.map_err(|error| Failure {
                storage: false,
                ..Failure::of_storage("storing challenge information", &error)
            })?;
        }
        self.lock().insert(key, Arc::new(pending));
        Ok(presented)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Pending>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self, key: &str) -> Option<Arc<Pending>> {
        self.lock().get(key).cloned()
    }

    /// A challenge that another instance started.
    async fn elsewhere(&self, key: &str) -> Option<Pending> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shared.is_empty() {
            return None;
        }
        let _place = self.lookups.try_acquire().ok()?;
        let key = key.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            shared.iter().find_map(|Shared { storage, prefixes }| {
                prefixes.iter().find_map(|prefix| {
                    let text = storage.load(&token_key(prefix, &key)).ok()?;
                    serde_json::from_slice::<Pending>(&text).ok()
                })
            })
        });
        found.await.ok().flatten()
    }
}

fn token_key(prefix: &str, key: &str) -> String {
    format!("{prefix}/challenge_tokens/{}.json", keys::safe(key))
}

/// A challenge is found by its name; for addresses in TLS-ALPN-01, by the name that stands for them.
fn challenge_key(kind: Kind, identifier: &Identifier) -> String {
    match identifier.value.parse::<IpAddr>() {
        Ok(ip) if kind == Kind::TlsAlpn01 => reverse_name(ip),
        _ => identifier.value.to_lowercase(),
    }
}

/// A challenge that can be answered until this is dropped.
pub(crate) struct Presented {
    challenges: Arc<Challenges>,
    key: String,
    stored: Option<(Arc<dyn Storage>, String)>,
    listener: Option<listener::InUse>,
}

impl Drop for Presented {
    fn drop(&mut self) {
        self.challenges.lock().remove(&self.key);
        drop(self.listener.take());
        if let Some((storage, place)) = self.stored.take() {
            let remove = move || {
                if let Err(error) = storage.delete(&place)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(target: "tls.issuance.acme", %error, "removing challenge");
                }
            };
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(remove)),
                Err(_) => remove(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Challenges, Identifier, Kind, Learned, Pending};
    use crate::{
        acme::AcmeConfig,
        storage::{FileSystem, Storage},
        testing::TempDir,
    };

    fn pending(kind: Kind, name: &str) -> Pending {
        Pending {
            kind: kind.name().into(),
            url: "https://ca.test/chal/1".into(),
            status: "pending".into(),
            token: "tok".into(),
            key_authorization: "tok.thumb".into(),
            identifier: Identifier { kind: "dns".into(), value: name.into() },
        }
    }

    #[tokio::test]
    async fn answers_are_found_here_and_by_others() {
        let dir = TempDir::new();
        let storage: Arc<dyn Storage> = Arc::new(FileSystem::new(dir.path()));
        let directory = "https://ca.test/dir".to_owned();
        // Port 0 gives a free port to the challenge's own listener.
        let ports = crate::acme::Ports { http: 0, https: 0 };
        let config = AcmeConfig { ports, ..AcmeConfig::default() };
        let one = Arc::new(Challenges::default());
        let other = Arc::new(Challenges::default());
        // Policies may have storages of their own; all are looked at.
        let empty = TempDir::new();
        let apart: Arc<dyn Storage> = Arc::new(FileSystem::new(empty.path()));
        let prefixes = || vec![super::storage_prefix(&directory)];
        other.share(vec![(apart, prefixes()), (storage.clone(), prefixes())]);
        let path = "/.well-known/acme-challenge/tok";
        let wanted = pending(Kind::Http01, "a.test");
        let presented =
            one.present(Kind::Http01, wanted, &config, &directory, &storage).await.unwrap();
        for challenges in [&one, &other] {
            let answer = challenges.http_answer("A.test", path).await;
            assert_eq!(answer.as_deref(), Some("tok.thumb"));
            assert_eq!(
                challenges.http_answer("a.test", "/.well-known/acme-challenge/x").await,
                None
            );
        }
        let any_host = one.http_answer("10.0.0.1", path).await;
        assert_eq!(any_host.as_deref(), Some("tok.thumb"), "the token alone is enough here");
        assert_eq!(other.http_answer("b.test", path).await, None);
        drop(presented);
        assert_eq!(one.http_answer("a.test", path).await, None);
        for _ in 0..200 {
            if storage.list("acme/ca.test-dir/challenge_tokens").unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the stored challenge is left");
    }

    #[tokio::test]
    async fn tls_alpn_certificates_carry_the_digest() {
        let dir = TempDir::new();
        let storage: Arc<dyn Storage> = Arc::new(FileSystem::new(dir.path()));
        let ports = crate::acme::Ports { http: 0, https: 0 };
        let config = AcmeConfig { ports, ..AcmeConfig::default() };
        let challenges = Arc::new(Challenges::default());
        let kind = Kind::TlsAlpn01;
        let wanted = pending(kind, "a.test");
        let _presented =
            challenges.present(kind, wanted, &config, "https://ca.test/dir", &storage).await;
        assert!(challenges.tls_answer("a.test").await.is_some());
        assert!(challenges.tls_answer("b.test").await.is_none());
        assert_eq!(challenges.http_answer("a.test", "/.well-known/acme-challenge/tok").await, None);
    }

    #[test]
    fn what_worked_comes_first() {
        let learned = Learned::default();
        let config = AcmeConfig::default();
        learned.worked(Kind::TlsAlpn01);
        assert_eq!(learned.kinds(&config, "a.test"), [Kind::TlsAlpn01, Kind::Http01]);
        learned.worked(Kind::Http01);
        assert_eq!(learned.kinds(&config, "a.test"), [Kind::Http01, Kind::TlsAlpn01]);
        assert!(learned.kinds(&config, "*.a.test").is_empty());
        let http_only = AcmeConfig { tls_alpn: false, ..config };
        assert_eq!(learned.kinds(&http_only, "a.test"), [Kind::Http01]);
    }
}
