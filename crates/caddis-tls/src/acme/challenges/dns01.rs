//! DNS-01: a TXT record at `_acme-challenge.<name>`, or where that is delegated to (T072); and the
//! CNAME records of ZeroSSL's API.

use std::{sync::Arc, time::Duration};

use caddis_dns::{Alias, DnsError, DnsProvider, TxtRecord, query, relative};
use tokio::time::Instant;

use crate::acme::{Failure, config::DnsChallenge};

const POLL: Duration = Duration::from_secs(2);
/// Longest time for the provider's own work.
const PROVIDER_LIMIT: Duration = Duration::from_secs(150);

/// What may be done where a record is not seen in time.
const NOT_SEEN: &str = "give it more time by `propagation_timeout`, name `resolvers` that see it, or \
    see whether the provider's account has this zone";

/// A record that is in place; to be taken away by [`DnsRecord::remove`].
pub(crate) struct DnsRecord {
    provider: Arc<dyn DnsProvider>,
    zone: String,
    record: Record,
}

enum Record {
    Text([TxtRecord; 1]),
    Alias(Alias),
}

impl DnsRecord {
    /// Sets the record of a challenge and waits until it is seen.
    pub(in crate::acme) async fn present(
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
        let this = Self::add(config, &full, record).await?;
        if let Err(failure) = this.propagated(config, &full).await {
            this.remove().await;
            return Err(failure);
        }
        Ok(this)
    }

    /// Makes a name an alias of another, and waits for some time until that is seen; the authority
    /// may see it all the same when we do not.
    pub(crate) async fn present_cname(
        config: &DnsChallenge,
        full: &str,
        target: &str,
    ) -> Result<Self, Failure> {
        let full = full.trim_end_matches('.').to_lowercase();
        let (target, ttl) = (target.trim_end_matches('.').to_lowercase(), config.ttl);
        let record = |name| Record::Alias(Alias { name, target, ttl });
        let this = Self::add(config, &full, record).await?;
        if let Err(error) = this.propagated(config, &full).await {
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
        config: &DnsChallenge,
        full: &str,
        record: impl FnOnce(String) -> Record,
    ) -> Result<Self, Failure> {
        let resolvers = query::resolvers(&config.resolvers);
        let zone = query::zone_of(full, &resolvers).await.map_err(|error| {
            Failure::new(format!("could not determine zone for domain \"{full}\": {error}"))
        })?;
        let relative = relative(full, &zone).unwrap_or_else(|| "@".to_owned());
        let this = Self { provider: config.provider.clone(), zone, record: record(relative) };
        let added = match &this.record {
            Record::Text(records) => this.provider.append(&this.zone, records),
            Record::Alias(alias) => this.provider.append_alias(&this.zone, alias),
        };
        match tokio::time::timeout(PROVIDER_LIMIT, added).await {
            Ok(Ok(())) => Ok(this),
            Ok(Err(error)) => {
                let zone = &this.zone;
                let text = format!("adding temporary record for zone \"{zone}\", {full}: {error}");
                Err(Failure::new(text))
            }
            Err(_) => Err(Failure::new("adding temporary record: timeout")),
        }
    }

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

    /// Takes the record away again.
    pub(crate) async fn remove(self) {
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
