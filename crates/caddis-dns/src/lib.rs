//! DNS providers (`dns.providers.*`): who can set the TXT records of ACME's DNS-01 challenge, and the
//! HTTPS records that tell clients of Encrypted Client Hello.
//!
//! One provider is one file with a [`Provider`] static and a line in [`PROVIDERS`]. Beside them lie
//! what providers and the challenge need: an HTTPS client ([`http`]), whom TLS clients believe
//! ([`server_check`]), look-ups ([`query`]) and the signatures of AWS ([`aws`]).

mod acmedns;
mod api;
pub mod aws;
pub mod caa;
mod cloudflare;
mod desec;
mod digitalocean;
mod duckdns;
mod exec;
pub mod forward_proxy;
mod gandi;
mod hetzner;
pub mod http;
mod ovh;
mod porkbun;
pub mod query;
mod records;
mod rfc2136;
mod route53;
pub mod server_check;
mod service_binding;
pub mod syntax;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use caddis_config::ConfigError;
use serde_json::Value;

pub use self::{
    records::relative,
    service_binding::{ServiceBinding, ServiceParams},
    syntax::{Field, FieldKind, Syntax},
};

/// A TXT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxtRecord {
    /// The name relative to the zone, for example `_acme-challenge.www`; `@` is the zone itself.
    pub name: String,
    /// The text, without quotes.
    pub value: String,
    /// Time to live; zero leaves it to the provider.
    pub ttl: Duration,
}

impl TxtRecord {
    /// The whole name, without the final dot.
    pub fn full_name(&self, zone: &str) -> String {
        full_name(&self.name, zone)
    }
}

fn full_name(name: &str, zone: &str) -> String {
    let zone = zone.trim_end_matches('.');
    if name == "@" { zone.to_owned() } else { format!("{name}.{zone}") }
}

/// A CNAME record: a name that is an alias of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name relative to the zone; a zone itself has no alias.
    pub name: String,
    /// The other name, without the final dot.
    pub target: String,
    /// Time to live; zero leaves it to the provider.
    pub ttl: Duration,
}

/// An HTTPS record (RFC 9460).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The name relative to the zone; `@` is the zone itself.
    pub name: String,
    /// What it says.
    pub binding: ServiceBinding,
    /// Time to live; zero leaves it to the provider.
    pub ttl: Duration,
}

/// What a zone has at a name: its own records, not those of a wildcard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameRecords {
    /// Whether there is any record.
    pub is_used: bool,
    /// What the name is an alias of (CNAME), without the final dot.
    pub alias: Option<String>,
    /// The HTTPS records.
    pub services: Vec<ServiceBinding>,
}

impl NameRecords {
    /// Takes a record in: its type, and its data as a zone file has it.
    ///
    /// # Errors
    /// An HTTPS record that cannot be read.
    pub fn add(&mut self, kind: &str, data: &str) -> Result<(), DnsError> {
        self.is_used = true;
        match kind {
            "CNAME" => self.alias = Some(data.trim_end_matches('.').to_owned()),
            "HTTPS" => self.services.push(data.parse().map_err(|error| {
                DnsError(format!(
                    "HTTPS record '{data}' cannot be read: {error}; change it or remove it"
                ))
            })?),
            _ => {}
        }
        Ok(())
    }
}

/// Why a provider could not do it: one sentence, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsError(pub String);

impl DnsError {
    /// An error with this text.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DnsError {}

/// What a provider's methods return.
pub type DnsFuture<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send + 'a>>;

/// Somebody who keeps DNS zones. Zones are given without the final dot.
pub trait DnsProvider: Send + Sync + fmt::Debug {
    /// Adds records; others of the same name stay.
    fn append<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a>;
    /// Removes exactly these records; that one is gone already is no error.
    fn delete<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a>;
    /// Adds an alias. Not every provider's service knows how; those that do not say so.
    fn append_alias<'a>(&'a self, _zone: &'a str, _alias: &'a Alias) -> DnsFuture<'a> {
        Box::pin(std::future::ready(Err(no_aliases())))
    }
    /// Removes an alias; that it is gone already is no error.
    fn delete_alias<'a>(&'a self, _zone: &'a str, _alias: &'a Alias) -> DnsFuture<'a> {
        Box::pin(std::future::ready(Err(no_aliases())))
    }
    /// Tells what there is at a name, relative to the zone (`@` is the zone itself). Not every
    /// provider's service knows HTTPS records; those that do not say so.
    fn look_up<'a>(&'a self, _zone: &'a str, _name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(std::future::ready(Err(no_services())))
    }
    /// Sets an HTTPS record: it takes the place of those of its name, priority and target, if there
    /// are any; all others stay as they are.
    fn set_service<'a>(&'a self, _zone: &'a str, _record: &'a ServiceRecord) -> DnsFuture<'a> {
        Box::pin(std::future::ready(Err(no_services())))
    }
}

fn no_services() -> DnsError {
    DnsError::new(
        "this DNS provider's service knows no HTTPS records: keep the zone at another provider \
         (neither acmedns, digitalocean nor duckdns), or give `ech` a `dns` provider of its own",
    )
}

fn no_aliases() -> DnsError {
    DnsError::new(
        "this DNS provider's service knows no CNAME records: leave `dns` out, so that ZeroSSL looks \
         for a file over HTTP, or use another provider (neither acmedns nor duckdns)",
    )
}

/// A provider module: how its configuration is written and compiled.
#[derive(Debug)]
pub struct Provider {
    /// The name, as in `dns <name>` and `dns.providers.<name>`.
    pub name: &'static str,
    /// How it is written in a Caddyfile.
    pub syntax: Syntax,
    /// From the JSON object without its `name` key, placeholders still in it.
    pub compile: fn(&Value) -> Result<Arc<dyn DnsProvider>, ConfigError>,
}

/// All providers.
pub static PROVIDERS: &[&Provider] = &[
    &acmedns::PROVIDER,
    &cloudflare::PROVIDER,
    &desec::PROVIDER,
    &digitalocean::PROVIDER,
    &duckdns::PROVIDER,
    &exec::PROVIDER,
    &gandi::PROVIDER,
    &hetzner::PROVIDER,
    &ovh::PROVIDER,
    &porkbun::PROVIDER,
    &rfc2136::PROVIDER,
    &route53::PROVIDER,
];

/// The ids of all providers.
pub const OTHER_IDS: &[&str] = &[
    "dns.providers.acmedns",
    "dns.providers.cloudflare",
    "dns.providers.desec",
    "dns.providers.digitalocean",
    "dns.providers.duckdns",
    "dns.providers.exec",
    "dns.providers.gandi",
    "dns.providers.hetzner",
    "dns.providers.ovh",
    "dns.providers.porkbun",
    "dns.providers.rfc2136",
    "dns.providers.route53",
];

/// The provider of a JSON object with its `name`.
///
/// # Errors
/// An unknown provider, settings that cannot be.
pub fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    let name = json.get("name").and_then(Value::as_str).unwrap_or_default();
    let provider = PROVIDERS.iter().find(|provider| provider.name == name).ok_or_else(|| {
        ConfigError::new("provider", format!("unknown module: dns.providers.{name}"))
    })?;
    let mut bare = json.clone();
    if let Some(object) = bare.as_object_mut() {
        object.remove("name");
    }
    (provider.compile)(&bare).map_err(|mut error| {
        error.message = format!("{name}: {}", error.message);
        error.under("provider")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{OTHER_IDS, PROVIDERS, ServiceRecord, TxtRecord, compile};

    #[test]
    fn ids_are_those_of_the_providers() {
        let ids: Vec<String> =
            PROVIDERS.iter().map(|provider| format!("dns.providers.{}", provider.name)).collect();
        assert_eq!(ids, OTHER_IDS);
    }

    #[test]
    fn placeholders_reach_providers_and_unknown_fields_do_not() {
        // Cargo sets it for tests.
        let key = "{env.CARGO_PKG_NAME}";
        let json = json!({"name": "rfc2136", "key_name": key, "key_alg": "hmac-sha256", "key": "", "server": "s"});
        assert!(format!("{:?}", compile(&json).unwrap()).contains("\"caddis-dns\""));
        for provider in PROVIDERS {
            let json = json!({"name": provider.name, "no_such_field": 1});
            let error = compile(&json).unwrap_err().to_string();
            assert!(error.contains("no_such_field"), "{}: {error}", provider.name);
        }
    }

    #[test]
    fn unknown_providers_are_named() {
        let error = compile(&json!({"name": "none"})).unwrap_err();
        assert_eq!(error.message, "unknown module: dns.providers.none");
        assert!(compile(&json!({"name": "exec", "command": ["true"]})).is_ok());
    }

    #[tokio::test]
    async fn services_without_https_records_say_so() {
        let record = ServiceRecord {
            name: "@".into(),
            binding: "2 . alpn=h2".parse().unwrap(),
            ttl: Duration::ZERO,
        };
        let account = json!({"username": "u", "password": "p", "subdomain": "s", "server_url": "http://127.0.0.1:1"});
        for (name, mut json) in [
            ("acmedns", account),
            ("digitalocean", json!({"auth_token": "t"})),
            ("duckdns", json!({"api_token": "t"})),
        ] {
            json["name"] = name.into();
            let provider = compile(&json).unwrap();
            let looked = provider.look_up("a.test", "@").await.unwrap_err().to_string();
            let set = provider.set_service("a.test", &record).await.unwrap_err().to_string();
            assert_eq!(looked, set);
            assert!(set.starts_with("this DNS provider's service knows no HTTPS records: "));
            assert!(set.contains(name));
        }
    }

    #[test]
    fn names_are_joined() {
        let record =
            |name: &str| TxtRecord { name: name.into(), value: "v".into(), ttl: Duration::ZERO };
        assert_eq!(record("_acme-challenge.a").full_name("b.test."), "_acme-challenge.a.b.test");
        assert_eq!(record("@").full_name("b.test"), "b.test");
    }
}
