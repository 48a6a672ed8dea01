//! `tls.ech.publishers.dns`: tells clients of ECH configurations by HTTPS records (RFC 9848), through
//! a DNS provider (T158, J125).
//!
//! ```json
//! {"provider": {"name": "cloudflare", "api_token": "…"}}
//! ```
//! A record of ours has priority 2 and the target `.`, so that one with priority 1 overrides it. It
//! takes the place of the record with that priority and target, whose other parameters it keeps;
//! records with others are left alone. Caddy's takes the place of all HTTPS records of the name.

use std::{net::IpAddr, sync::Arc, time::Duration};

use caddis_config::ConfigError;
use caddis_core::punycode::to_ascii;
use caddis_dns::{DnsProvider, NameRecords, ServiceBinding, ServiceRecord, query, relative};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::error::{Context, Error, Result};

/// Leaves room for a record with priority 1.
const PRIORITY: u16 = 2;
const TTL: Duration = Duration::from_secs(300);
/// Longest time for finding a zone: resolvers are asked for each label of a name.
const ZONE_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for one call of a provider.
const PROVIDER_LIMIT: Duration = Duration::from_secs(150);
/// Longest time for all names: others on the storage wait for their turn meanwhile.
const WHOLE_LIMIT: Duration = Duration::from_secs(1800);
/// Names at a time; providers have limits of rate.
const AT_ONCE: usize = 4;

/// A name to publish configurations for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedName {
    /// The name of a site; `*.` for a wildcard.
    pub name: String,
    /// The protocols that the site speaks, best first. None leaves what is published.
    pub alpn: Vec<String>,
}

/// What came of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The record is there.
    Set,
    /// The name can have no such record, which was logged; to try again soon is of no use.
    Skipped,
}

/// Publishes by HTTPS records.
#[derive(Debug)]
pub struct DnsPublisher {
    key: String,
    provider: Arc<dyn DnsProvider>,
    resolvers: Vec<String>,
    /// Longest time for one call of the provider.
    limit: Duration,
    /// Longest time for all names.
    whole_limit: Duration,
    /// Whether it was configured as a module of its own, whose name its log lines then have.
    is_module: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    provider: Option<Value>,
}

/// Logs a warning under the name that Caddy's line has.
macro_rules! warn_as {
    ($publisher:expr, $($what:tt)*) => {
        if $publisher.is_module {
            tracing::warn!(target: "tls.ech.publishers.dns", $($what)*);
        } else {
            tracing::warn!(target: "tls.ech", $($what)*);
        }
    };
}

impl DnsPublisher {
    /// The publisher of a `publishers.dns` object.
    ///
    /// # Errors
    /// There is no provider, or it is not known or cannot be configured so.
    pub fn compile(json: &Value) -> std::result::Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        let provider = config.provider.ok_or_else(|| {
            ConfigError::new("provider", "publishing ECH configs needs a DNS provider")
        })?;
        let name = provider.get("name").and_then(Value::as_str).unwrap_or_default();
        let this = Self::for_provider(caddis_dns::compile(&provider)?, name);
        Ok(Self { is_module: true, ..this })
    }

    /// The publisher where none is configured: by the provider of the global option `dns`, whose
    /// module has this name.
    pub fn for_provider(provider: Arc<dyn DnsProvider>, name: &str) -> Self {
        Self {
            key: format!("dns.providers.{name}"),
            provider,
            resolvers: Vec::new(),
            limit: PROVIDER_LIMIT,
            whole_limit: WHOLE_LIMIT,
            is_module: false,
        }
    }

    /// The same publisher, which asks these resolvers for zones; the system's where there are none.
    #[must_use]
    pub fn with_resolvers(self, resolvers: &[String]) -> Self {
        Self { resolvers: resolvers.to_vec(), ..self }
    }

    /// The provider's module id: by it the storage tells what was published where.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Publishes a list of configurations for names, a few at a time; the results are in the order of
    /// the names. What goes wrong with one does not hold up the others. Half an hour at most.
    pub async fn publish(
        &self,
        names: &[PublishedName],
        config_list: &[u8],
    ) -> Vec<(String, Result<Published>)> {
        let resolvers = query::resolvers(&self.resolvers);
        let deadline = Instant::now() + self.whole_limit;
        let work = names.iter().map(|name| {
            let work = self.publish_one(name, config_list, &resolvers);
            async move {
                let done = tokio::time::timeout_at(deadline, work).await;
                let late = |_| {
                    let limit = self.whole_limit.as_secs();
                    Err(Error::new(format!("not done within {limit} s, which all names share")))
                };
                (name.name.clone(), done.unwrap_or_else(late))
            }
        });
        let work: Vec<_> = work.collect();
        stream::iter(work).buffered(AT_ONCE).collect().await
    }

    async fn publish_one(
        &self,
        name: &PublishedName,
        config_list: &[u8],
        resolvers: &[String],
    ) -> Result<Published> {
        let domain = to_ascii(name.name.trim_end_matches('.'));
        let zone = zone_of(&domain, resolvers).await?;
        let relative = relative(&domain, &zone).unwrap_or_else(|| "@".to_owned());
        let found = within(self.limit, self.provider.look_up(&zone, &relative)).await.context(
            "unable to get existing DNS records to publish ECH data to HTTPS DNS record",
        )?;
        if let Some(alias) = &found.alias {
            warn_as!(
                self,
                domain,
                cname_value = alias,
                "domain has CNAME record, so unable to publish ECH data to HTTPS record"
            );
            return Ok(Published::Skipped);
        }
        if !found.is_used {
            // A record of its own would take the name away from a wildcard.
            warn_as!(
                self,
                domain,
                relative_name = relative,
                zone = format!("{zone}."),
                "domain does not have any existing records, so skipping publication of HTTPS record"
            );
            return Ok(Published::Skipped);
        }
        if let Some(alias) = found.services.iter().find(|service| service.priority == 0) {
            // Clients pass over all others beside it (RFC 9460 §2.4.1).
            warn_as!(
                self,
                domain,
                https_value = %alias,
                "domain has HTTPS record with priority 0 (an alias), so unable to publish ECH data \
                 beside it"
            );
            return Ok(Published::Skipped);
        }
        let record = ServiceRecord {
            binding: binding(&found, name, config_list)?,
            name: relative,
            ttl: TTL,
        };
        within(self.limit, self.provider.set_service(&zone, &record)).await.map_err(|error| {
            Error::new(format!(
                "unable to publish ECH data to HTTPS DNS record: {error} (zone={zone}. \
                 dns_record_name={})",
                record.name
            ))
        })?;
        Ok(Published::Set)
    }
}

async fn zone_of(domain: &str, resolvers: &[String]) -> Result<String> {
    let fail = |error: &dyn std::fmt::Display| {
        Error::new(format!(
            "could not determine zone for domain: {error} (domain={domain} nameservers=[{}])",
            resolvers.join(" ")
        ))
    };
    let name = domain.strip_prefix("*.").unwrap_or(domain);
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(fail(&"an IP address has no zone"));
    }
    within(ZONE_LIMIT, query::zone_of(name, resolvers)).await.map_err(|error| fail(&error))
}

/// What to publish: the parameters that are there already, those of our own record before those of
/// another one for the same server, with ours set.
fn binding(
    found: &NameRecords,
    name: &PublishedName,
    config_list: &[u8],
) -> Result<ServiceBinding> {
    let own = || found.services.iter().filter(|service| service.is_own());
    let ours = own().find(|service| service.priority == PRIORITY);
    let old = ours.or_else(|| own().min_by_key(|service| service.priority));
    let mut params = old.map(|service| service.params.clone()).unwrap_or_default();
    params.set_ech(config_list).context("ECH config list")?;
    if !name.alpn.is_empty() {
        params.set_alpn(&name.alpn).context("ALPN")?;
    }
    Ok(ServiceBinding { priority: PRIORITY, target: String::new(), params })
}

/// The outcome of something that may not take longer than this.
async fn within<T, E: std::fmt::Display>(
    limit: Duration,
    work: impl Future<Output = std::result::Result<T, E>>,
) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(Error::new),
        Err(_) => Err(Error::new(format!("no answer within {} s", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests;
