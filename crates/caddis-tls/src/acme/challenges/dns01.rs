//! DNS-01: a TXT record at `_acme-challenge.<name>`, or where that is delegated to (T072).

use std::{sync::Arc, time::Duration};

use caddis_dns::{DnsProvider, TxtRecord, query};
use tokio::time::Instant;

use crate::acme::{Failure, config::DnsChallenge};

const POLL: Duration = Duration::from_secs(2);
/// Longest time for the provider's own work.
const PROVIDER_LIMIT: Duration = Duration::from_secs(150);

/// A record that is in place; to be taken away by [`DnsRecord::remove`].
pub(in crate::acme) struct DnsRecord {
    provider: Arc<dyn DnsProvider>,
    zone: String,
    records: Vec<TxtRecord>,
}

impl DnsRecord {
    /// Sets the record and waits until it is seen.
    pub(in crate::acme) async fn present(
        config: &DnsChallenge,
        name: &str,
        value: String,
    ) -> Result<Self, Failure> {
        let name = name.strip_prefix("*.").unwrap_or(name);
        let resolvers = query::resolvers(&config.resolvers);
        let full = if config.override_domain.is_empty() {
            format!("_acme-challenge.{name}")
        } else {
            config.override_domain.trim_end_matches('.').to_lowercase()
        };
        let zone = query::zone_of(&full, &resolvers).await.map_err(|error| {
            Failure::new(format!("could not determine zone for domain \"{full}\": {error}"))
        })?;
        let relative = match full.strip_suffix(&zone) {
            Some("") | None => "@".to_owned(),
            Some(relative) => relative.trim_end_matches('.').to_owned(),
        };
        let record = TxtRecord { name: relative, value: value.clone(), ttl: config.ttl };
        let this = Self { provider: config.provider.clone(), zone, records: vec![record] };
        let added = this.provider.append(&this.zone, &this.records);
        let added = tokio::time::timeout(PROVIDER_LIMIT, added).await;
        match added {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let (full, zone) = (&full, &this.zone);
                let text = format!("adding temporary record for zone \"{zone}\", {full}: {error}");
                return Err(Failure::new(text));
            }
            Err(_) => return Err(Failure::new("adding temporary record: timeout")),
        }
        if let Err(failure) = this.propagated(config, &full, &value, &resolvers).await {
            this.remove().await;
            return Err(failure);
        }
        Ok(this)
    }

    async fn propagated(
        &self,
        config: &DnsChallenge,
        full: &str,
        value: &str,
        resolvers: &[String],
    ) -> Result<(), Failure> {
        tokio::time::sleep(config.propagation_delay).await;
        let Some(limit) = config.propagation_timeout else { return Ok(()) };
        let deadline = Instant::now() + limit;
        let mut last = String::new();
        loop {
            let servers = if config.resolvers.is_empty() {
                query::zone_servers(&self.zone, resolvers).await
            } else {
                Ok(resolvers.to_vec())
            };
            let seen = match servers {
                Ok(servers) => query::has_txt(full, value, &servers).await,
                Err(error) => Err(error),
            };
            match seen {
                Ok(true) => return Ok(()),
                Ok(false) => last.clear(),
                Err(error) => last = format!(" (last error: {error})"),
            }
            if Instant::now() + POLL > deadline {
                let text = format!("timed out waiting for record to fully propagate{last}");
                return Err(Failure::new(text));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the record away again.
    pub(in crate::acme) async fn remove(self) {
        let removed = self.provider.delete(&self.zone, &self.records);
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
