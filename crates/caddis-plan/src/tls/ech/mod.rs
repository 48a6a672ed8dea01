//! `encrypted_client_hello`: which names are sent in clear, and who tells clients of them (J123,
//! T156–T158).
//!
//! ```json
//! {"configs": [{"public_name": "public.example"}],
//!  "publication": [{"configs": ["public.example"], "domains": ["a.example"],
//!                   "publishers": {"dns": {"provider": {"name": "cloudflare"}}}}]}
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use caddis_config::{
    AutomationConfig, Config, ConfigError, Server,
    tls::{Ech, EchPublication},
};
use caddis_core::{Template, template::Unknown};
use caddis_tls::{
    ManagedSubject,
    ech::{DnsPublisher, EchPlan, Publication, PublishedName, default_publisher},
};
use serde_json::Value as Json;

use super::{IssuerCx, PolicyIndex, is_on_demand, issuers, subject};
use crate::{
    Protocols,
    auto_https::{host_names, listeners, port},
    names::qualifies,
};

/// Where it is in the configuration.
const PATH: &str = "apps.tls.encrypted_client_hello";
/// The order of protocols in HTTPS records.
const ALPN: [&str; 3] = ["h3", "h2", "http/1.1"];

/// What a configuration with Encrypted Client Hello needs of the engine.
#[derive(Debug)]
pub struct EchNeeds {
    /// What is to be kept and published.
    pub plan: Arc<EchPlan>,
    /// Public names that certificates can be had for.
    certificates: Vec<String>,
    /// Automation alone, for names that only the storage knows.
    automation: Config,
}

/// The names that servers have, with their protocols.
#[derive(Debug, Default)]
pub(crate) struct ServedNames {
    /// Those of routes, where HTTPS is automatic.
    hosts: BTreeMap<String, BTreeSet<String>>,
    /// Those of connection policies.
    policies: BTreeMap<String, BTreeSet<String>>,
}

// === impl EchNeeds ===

impl EchNeeds {
    /// The configured public names that certificates can be had for.
    pub fn certificates(&self) -> impl Iterator<Item = &String> {
        self.certificates.iter()
    }

    /// How a certificate is managed for a public name that was found in the storage; nothing for one
    /// that is managed already, or on demand, or that can have none.
    ///
    /// # Errors
    /// Settings that cannot be; they were checked before.
    pub fn certificate_of(&self, name: &str) -> Result<Option<ManagedSubject>, ConfigError> {
        let name = name.to_lowercase();
        if self.plan.public_names.contains(&name) || !qualifies(&name) {
            return Ok(None);
        }
        let app = self.automation.apps.tls.clone().unwrap_or_default();
        let cx = IssuerCx::new(&self.automation, app.dns.as_ref());
        let policies = app.automation.unwrap_or_default().policies;
        let policy = PolicyIndex::new(&policies).find(&name).map(|(_, policy)| policy);
        if policy.is_some_and(is_on_demand) {
            return Ok(None);
        }
        let issuers = policy.map(|policy| issuers(policy, &cx)).transpose()?.unwrap_or_default();
        subject(&name, policy, issuers, &cx).map(Some)
    }
}

/// The needs of a configuration, if it has any.
///
/// # Errors
/// A public name that cannot be sent, a publication of one that is none of them, publishers that are
/// not known or cannot be configured so.
pub(super) fn compile(
    config: &Config,
    served: &ServedNames,
) -> Result<Option<EchNeeds>, ConfigError> {
    let app = config.apps.tls.as_ref();
    let Some(ech) = app.and_then(|app| app.encrypted_client_hello.as_ref()) else {
        return Ok(None);
    };
    let cx = PublisherCx {
        dns: app.and_then(|app| app.dns.as_ref()),
        resolvers: app.map(|app| app.resolvers.as_slice()).unwrap_or_default(),
        served,
    };
    let public_names = public_names(ech).map_err(|error| error.under(PATH))?;
    let publications = publications(ech, &public_names, &cx)?;
    let mut automation = Config { storage: config.storage.clone(), ..Config::default() };
    automation.apps.http = config.apps.http.as_ref().map(|http| caddis_config::HttpApp {
        http_port: http.http_port,
        https_port: http.https_port,
        ..Default::default()
    });
    automation.apps.tls = app.map(|app| caddis_config::TlsApp {
        dns: app.dns.clone(),
        automation: app.automation.as_ref().map(|automation| AutomationConfig {
            policies: automation.policies.clone(),
            ..AutomationConfig::default()
        }),
        ..Default::default()
    });
    Ok(Some(EchNeeds {
        certificates: public_names.iter().filter(|name| qualifies(name)).cloned().collect(),
        plan: Arc::new(EchPlan { public_names, publications }),
        automation,
    }))
}

fn public_names(ech: &Ech) -> Result<Vec<String>, ConfigError> {
    let mut names: Vec<String> = Vec::new();
    for (at, config) in ech.configs.iter().enumerate() {
        let name = normalized(&config.public_name);
        if !(1..=255).contains(&name.len()) {
            let message = format!(
                "public name length ({}) must be in the range 1-255: give a domain name of this \
                 server, which clients send in clear",
                name.len()
            );
            return Err(ConfigError::new(format!("configs.{at}.public_name"), message));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What publications take from the rest of the configuration.
struct PublisherCx<'a> {
    /// The TLS app's DNS provider.
    dns: Option<&'a Json>,
    /// The TLS app's resolvers.
    resolvers: &'a [String],
    served: &'a ServedNames,
}

fn publications(
    ech: &Ech,
    public_names: &[String],
    cx: &PublisherCx<'_>,
) -> Result<Vec<Publication>, ConfigError> {
    match (&ech.publication, cx.dns) {
        (None, None) => Ok(Vec::new()),
        (None, Some(dns)) => {
            let publisher = default_publisher(dns).map_err(|mut error| {
                // As it is called inside other modules.
                if let Some(rest) = error.path.strip_prefix("provider") {
                    error.path = rest.trim_start_matches('.').to_owned();
                }
                error.under("apps.tls.dns")
            })?;
            Ok(vec![Publication {
                configs: None,
                names: cx.served.for_default(true),
                publishers: vec![Arc::new(publisher.with_resolvers(cx.resolvers))],
            }])
        }
        (Some(all), _) => all
            .iter()
            .enumerate()
            .map(|(at, one)| {
                publication(one, public_names, cx)
                    .map_err(|error| error.under(at.to_string()).under("publication").under(PATH))
            })
            .collect(),
    }
}

fn publication(
    config: &EchPublication,
    public_names: &[String],
    cx: &PublisherCx<'_>,
) -> Result<Publication, ConfigError> {
    let known = |(at, name): (usize, &String)| {
        let name = normalized(name);
        if public_names.contains(&name) {
            return Ok(name);
        }
        let message = format!(
            "there is no ECH config with the public name {name:?}: add it to `configs` of \
             `encrypted_client_hello`, or take it out here (there are: {})",
            public_names.join(", ")
        );
        Err(ConfigError::new(format!("configs.{at}"), message))
    };
    let configs =
        config.configs.as_ref().map(|names| names.iter().enumerate().map(known).collect());
    let names = match &config.domains {
        None => cx.served.for_default(false),
        Some(domains) => {
            let mut seen = BTreeSet::new();
            domains
                .iter()
                .map(|name| normalized(name))
                .filter(|name| !name.is_empty() && seen.insert(name.clone()))
                .map(|name| cx.served.published(name, false))
                .collect()
        }
    };
    let publisher = |(name, json): (&String, &Json)| {
        let fail = |message: String| Err(ConfigError::new("", message));
        let compiled = match (name.as_str(), json) {
            ("dns", Json::Null) => {
                fail("module value cannot be null: give {\"provider\": {\"name\": …}}".to_owned())
            }
            ("dns", json) => DnsPublisher::compile(json),
            (other, _) => {
                fail(format!("unknown module: tls.ech.publishers.{other} (there is: dns)"))
            }
        };
        let compiled = compiled.map(|publisher| Arc::new(publisher.with_resolvers(cx.resolvers)));
        compiled.map_err(|error| error.under(name).under("publishers"))
    };
    Ok(Publication {
        configs: configs.transpose()?,
        names,
        publishers: config.publishers.iter().map(publisher).collect::<Result<_, _>>()?,
    })
}

fn normalized(name: &str) -> String {
    name.trim().to_lowercase()
}

// === impl ServedNames ===

impl ServedNames {
    /// The names of all servers; none where nobody asks for them.
    pub(crate) fn of(config: &Config) -> Self {
        let wanted =
            config.apps.tls.as_ref().is_some_and(|app| app.encrypted_client_hello.is_some());
        let Some(http) = config.apps.http.as_ref().filter(|_| wanted) else {
            return Self::default();
        };
        let http_port = port(http.http_port, 80);
        let mut names = Self::default();
        for server in http.servers.values() {
            // What cannot be read is told where the server is compiled.
            let Ok(protocols) = Protocols::parse(&server.protocols) else { continue };
            names.add_hosts(server, http_port, protocols);
            names.add_policies(server, protocols);
        }
        names
    }

    fn add_hosts(&mut self, server: &Server, http_port: u16, protocols: Protocols) {
        let automatic = server.automatic_https.clone().unwrap_or_default();
        let Ok(listeners) = listeners(server) else { return };
        if automatic.disable || listeners.iter().all(|one| one.start_port == http_port) {
            return;
        }
        let spoken = [(protocols.h3, "h3"), (protocols.h2, "h2"), (protocols.h1, "http/1.1")];
        let spoken = || spoken.iter().filter(|(spoken, _)| *spoken).map(|(_, alpn)| *alpn);
        for name in host_names(server, &automatic).iter().filter_map(|name| hidden(name)) {
            self.hosts.entry(name).or_default().extend(spoken().map(str::to_owned));
        }
    }

    fn add_policies(&mut self, server: &Server, protocols: Protocols) {
        for policy in &server.tls_connection_policies {
            let names = policy.matchers.get("sni").and_then(Json::as_array);
            let names = names.into_iter().flatten().filter_map(Json::as_str);
            let names = names.map(|name| Template::render_global(name, Unknown::Keep));
            let alpn = match &policy.alpn {
                Some(alpn) => alpn.clone(),
                None => vec!["h2".to_owned(), "http/1.1".to_owned()],
            };
            let alpn = alpn.into_iter().filter(|name| match name.as_str() {
                "h2" => protocols.h2,
                "http/1.1" => protocols.h1,
                name => !name.is_empty(),
            });
            let alpn: Vec<String> = alpn.collect();
            for name in names.filter_map(|name| hidden(&name)) {
                self.policies.entry(name).or_default().extend(alpn.iter().cloned());
            }
        }
    }

    /// The names to publish for where none are given.
    fn for_default(&self, with_policies: bool) -> Vec<PublishedName> {
        let policies = with_policies.then_some(&self.policies);
        let names: BTreeSet<&String> =
            self.hosts.keys().chain(policies.into_iter().flat_map(BTreeMap::keys)).collect();
        names
            .into_iter()
            // Tailscale is the authority of these, and no zone of ours has them.
            .filter(|name| !name.ends_with(".ts.net"))
            .map(|name| self.published(name.clone(), with_policies))
            .collect()
    }

    /// A name with the protocols that its servers speak, best first.
    fn published(&self, name: String, with_policies: bool) -> PublishedName {
        let policies = with_policies.then(|| self.policies.get(&name)).flatten();
        let spoken: BTreeSet<&String> =
            self.hosts.get(&name).into_iter().chain(policies).flatten().collect();
        let known = ALPN.iter().filter(|known| spoken.iter().any(|alpn| alpn == *known));
        let others = spoken.iter().filter(|alpn| !ALPN.contains(&alpn.as_str()));
        let alpn = known.map(|alpn| (*alpn).to_owned());
        PublishedName { alpn: alpn.chain(others.map(|alpn| (*alpn).clone())).collect(), name }
    }
}

/// A name as it can be hidden: without a port, and neither an address nor one that only requests fill
/// in.
fn hidden(name: &str) -> Option<String> {
    let name = normalized(name);
    let is_address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_address(&name) {
        return None;
    }
    let host = match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => &name,
    };
    (!host.is_empty() && !host.contains(['{', '}', ':']) && !is_address(host))
        .then(|| host.to_owned())
}

#[cfg(test)]
mod tests;
