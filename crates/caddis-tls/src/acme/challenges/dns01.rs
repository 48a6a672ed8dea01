//! DNS-01: a TXT record at `_acme-challenge.<name>`, or where that is delegated to (T072); and the
//! CNAME records of ZeroSSL's API.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use caddis_dns::{Alias, DnsError, DnsProvider, TxtRecord, query, relative};
use tokio::{task::JoinSet, time::Instant};

use crate::acme::{Failure, config::DnsChallenge};

const POLL: Duration = Duration::from_secs(2);
/// Longest time for the provider's own work.
const PROVIDER_LIMIT: Duration = Duration::from_secs(150);

/// What may be done where a record is not seen in time.
const NOT_SEEN: &str = "give it more time by `propagation_timeout`, name `resolvers` that see it, or \
    see whether the provider's account has this zone";

/// A record that is in place; to be taken away by [`DnsRecord::remove`].
pub(crate) struct DnsRecord(Arc<Placed>);

struct Placed {
    provider: Arc<dyn DnsProvider>,
    zone: String,
    record: Record,
    removed: AtomicBool,
}

/// The records that are in place, so that a server that stops takes them away: nobody else would, and
/// a provider has room for some only.
#[derive(Default)]
pub(crate) struct Records(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    stopped: bool,
    all: Vec<Weak<Placed>>,
}

impl Records {
    fn add(&self, placed: &Arc<Placed>) -> Result<(), Failure> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.stopped {
            return Err(Failure::new("the server stops"));
        }
        kept.all.retain(|one| one.strong_count() > 0);
        kept.all.push(Arc::downgrade(placed));
        Ok(())
    }

    /// Whether there are any; from now on there are no more.
    pub(crate) fn stop(&self) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.stopped = true;
        kept.all.iter().any(|one| one.strong_count() > 0)
    }

    /// Takes all away, at the same time.
    pub(crate) async fn remove(&self) {
        let all = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).all);
        let mut removing = JoinSet::new();
        for placed in all.iter().filter_map(Weak::upgrade) {
            removing.spawn(async move { placed.remove().await });
        }
        while removing.join_next().await.is_some() {}
    }
}

enum Record {
    Text([TxtRecord; 1]),
    Alias(Alias),
}

impl DnsRecord {
    /// Sets the record of a challenge and waits until it is seen.
    pub(in crate::acme) async fn present(
        records: &Records,
        config: &DnsChallenge,
        name: &str,
        value: String,
    ) -> Result<Self, Failure> {
        let name = name.strip_prefix("*.").unwrap_or(name);
        let full = if config.override_domain.is_empty() {
            format!("_acme-challenge.{name}")
        } else {
            config.override_domain.trim_end_matches('.').to_lowercase()
        };
        let ttl = config.ttl;
        let record = |name| Record::Text([TxtRecord { name, value, ttl }]);
        let this = Self::add(records, config, &full, record).await?;
        if let Err(failure) = this.0.propagated(config, &full).await {
            this.remove().await;
            return Err(failure);
        }
        Ok(this)
    }

    /// Makes a name an alias of another, and waits for some time until that is seen; the authority
    /// may see it all the same when we do not.
    pub(crate) async fn present_cname(
        records: &Records,
        config: &DnsChallenge,
        full: &str,
        target: &str,
    ) -> Result<Self, Failure> {
        let full = full.trim_end_matches('.').to_lowercase();
        let (target, ttl) = (target.trim_end_matches('.').to_lowercase(), config.ttl);
        let record = |name| Record::Alias(Alias { name, target, ttl });
        let this = Self::add(records, config, &full, record).await?;
        if let Err(error) = this.0.propagated(config, &full).await {
            tracing::warn!(
                target: "tls.issuance.zerossl",
                domain = full,
                %error,
                "failed CNAME record propagation check"
            );
        }
        Ok(this)
    }

    /// Adds a record; `record` makes it from the name below the zone.
    async fn add(
        records: &Records,
        config: &DnsChallenge,
        full: &str,
        record: impl FnOnce(String) -> Record,
    ) -> Result<Self, Failure> {
        let resolvers = query::resolvers(&config.resolvers);
        let zone = query::zone_of(full, &resolvers).await.map_err(|error| {
            Failure::new(format!("could not determine zone for domain \"{full}\": {error}"))
        })?;
        let relative = relative(full, &zone).unwrap_or_else(|| "@".to_owned());
        let placed = Arc::new(Placed {
            provider: config.provider.clone(),
            zone,
            record: record(relative),
            removed: AtomicBool::new(false),
        });
        // Before it is there: the end may come while it is set.
        records.add(&placed)?;
        let added = match &placed.record {
            Record::Text(records) => placed.provider.append(&placed.zone, records),
            Record::Alias(alias) => placed.provider.append_alias(&placed.zone, alias),
        };
        match tokio::time::timeout(PROVIDER_LIMIT, added).await {
            Ok(Ok(())) => Ok(Self(placed.clone())),
            Ok(Err(error)) => {
                let zone = &placed.zone;
                let text = format!("adding temporary record for zone \"{zone}\", {full}: {error}");
                Err(Failure::new(text))
            }
            Err(_) => Err(Failure::new("adding temporary record: timeout")),
        }
    }

    /// Takes the record away again.
    pub(crate) async fn remove(self) {
        self.0.remove().await;
    }
}

impl Placed {
    async fn propagated(&self, config: &DnsChallenge, full: &str) -> Result<(), Failure> {
        let resolvers = query::resolvers(&config.resolvers);
        tokio::time::sleep(config.propagation_delay).await;
        let Some(limit) = config.propagation_timeout else { return Ok(()) };
        let deadline = Instant::now() + limit;
        let mut last = String::new();
        loop {
            let servers = if config.resolvers.is_empty() {
                query::zone_servers(&self.zone, &resolvers).await
            } else {
                Ok(resolvers.clone())
            };
            let seen = match servers {
                Ok(servers) => self.is_seen(full, &servers).await,
                Err(error) => Err(error),
            };
            match seen {
                Ok(true) => return Ok(()),
                Ok(false) => last.clear(),
                Err(error) => last = format!(" (last error: {error})"),
            }
            if Instant::now() + POLL > deadline {
                let text = format!("timed out waiting for record to fully propagate{last}");
                return Err(Failure::new(text).remedied(NOT_SEEN));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is_seen(&self, full: &str, servers: &[String]) -> Result<bool, DnsError> {
        match &self.record {
            Record::Text([record]) => query::has_txt(full, &record.value, servers).await,
            Record::Alias(alias) => query::has_cname(full, &alias.target, servers).await,
        }
    }

    async fn remove(&self) {
        if self.removed.swap(true, Ordering::Relaxed) {
            return;
        }
        let removed = match &self.record {
            Record::Text(records) => self.provider.delete(&self.zone, records),
            Record::Alias(alias) => self.provider.delete_alias(&self.zone, alias),
        };
        let error = match tokio::time::timeout(PROVIDER_LIMIT, removed).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timeout".to_owned(),
        };
        tracing::error!(
            target: "tls.issuance.acme",
            zone = self.zone,
            error,
            "cleaning up: deleting temporary record failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use caddis_dns::{DnsFuture, DnsProvider, TxtRecord};

    use super::{DnsRecord, Placed, Record, Records};

    #[derive(Debug, Default)]
    struct Counts(AtomicUsize);

    impl DnsProvider for Counts {
        fn append<'a>(&'a self, _: &'a str, _: &'a [TxtRecord]) -> DnsFuture<'a> {
            Box::pin(async { Ok(()) })
        }

        fn delete<'a>(&'a self, _: &'a str, _: &'a [TxtRecord]) -> DnsFuture<'a> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_takes_its_records_away() {
        let provider = Arc::new(Counts::default());
        let records = Records::default();
        let place = || {
            let text = TxtRecord {
                name: "_acme-challenge".into(),
                value: "v".into(),
                ttl: Duration::ZERO,
            };
            let placed = Arc::new(Placed {
                provider: provider.clone(),
                zone: "a.test".to_owned(),
                record: Record::Text([text]),
                removed: AtomicBool::new(false),
            });
            records.add(&placed).map(|()| DnsRecord(placed))
        };
        let [one, two] = [place().unwrap(), place().unwrap()];
        one.remove().await;
        assert_eq!(provider.0.load(Ordering::Relaxed), 1);
        assert!(records.stop());
        assert!(place().is_err(), "no more from now on");
        records.remove().await;
        two.remove().await;
        assert_eq!(provider.0.load(Ordering::Relaxed), 2, "each once");
        assert!(!records.stop());
    }
}
