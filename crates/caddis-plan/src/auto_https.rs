//! Automatic HTTPS: which servers speak TLS, which names get certificates, which redirects are
//! added (spec T102–T121). Pure: config in, config and names out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use caddis_config::{AutoHttpsConfig, Config, ConfigError, NetworkAddress, Server};
use caddis_core::{Template, template::Unknown};

use crate::{names::qualifies, redirects::Redirects};

/// A name that needs a certificate from automation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagedName {
    /// The name.
    pub name: String,
    /// Not where a given certificate has the name (spec T110).
    pub unless_loaded: bool,
}

/// Rewrites the HTTP app and collects the names to manage.
///
/// # Errors
/// A listener address that is none.
pub fn auto_https(config: &mut Config) -> Result<Vec<ManagedName>, ConfigError> {
    let Some(app) = config.apps.http.as_mut() else { return Ok(Vec::new()) };
    let http_port = port(app.http_port, 80);
    let https_port = port(app.https_port, 443);
    let mut managed = BTreeMap::new();
    let mut redirects = Redirects::default();
    for (name, server) in &mut app.servers {
        let path = format!("apps.http.servers.{name}");
        server_phase(server, http_port, https_port, &mut managed, &mut redirects)
            .map_err(|error| error.under(&path))?;
    }
    redirects.install(app, http_port, https_port);
    let managed = managed.into_iter();
    Ok(managed.map(|(name, unless_loaded)| ManagedName { name, unless_loaded }).collect())
}

pub(crate) fn port(configured: i64, default: u16) -> u16 {
    u16::try_from(configured).ok().filter(|port| *port != 0).unwrap_or(default)
}

fn server_phase(
    server: &mut Server,
    http_port: u16,
    https_port: u16,
    managed: &mut BTreeMap<String, bool>,
    redirects: &mut Redirects,
) -> Result<(), ConfigError> {
    let automatic = server.automatic_https.clone().unwrap_or_default();
    if automatic.disable {
        return Ok(());
    }
    let listeners = listeners(server)?;
    if !listeners.is_empty() && listeners.iter().all(|one| one.start_port == http_port) {
        return Ok(());
    }
    let names = host_names(server, &automatic);
    let only_https = !listeners.is_empty()
        && listeners.iter().all(|one| one.start_port == https_port && !one.is_unix());
    if names.is_empty() && server.tls_connection_policies.is_empty() {
        if only_https {
            server.tls_connection_policies.push(caddis_config::ConnectionPolicy::default());
        } else {
            return Ok(());
        }
    }
    if !automatic.disable_certificates {
        let wanted =
            |name: &&String| qualifies(name) && !automatic.skip_certificates.contains(name);
        for name in names.iter().filter(wanted) {
            // One server that does not care for given certificates is enough.
            *managed.entry(name.clone()).or_insert(true) &= !automatic.ignore_loaded_certificates;
        }
    }
    if server.tls_connection_policies.is_empty() {
        server.tls_connection_policies.push(caddis_config::ConnectionPolicy::default());
    }
    if automatic.disable_redirects {
        return Ok(());
    }
    let names = if names.is_empty() { BTreeSet::from([String::new()]) } else { names };
    for listener in listeners {
        if listener.start_port != http_port && !listener.is_unix() && !listener.is_fd() {
            redirects.add(listener, names.clone(), server);
        }
    }
    Ok(())
}

/// The listener addresses of a server, one per port.
pub(crate) fn listeners(server: &Server) -> Result<Vec<NetworkAddress>, ConfigError> {
    let mut all = Vec::new();
    for text in &server.listen {
        let text = Template::render_global(text, Unknown::Empty);
        let address = NetworkAddress::parse(&text)
            .map_err(|error| ConfigError::new("listen", format!("{text}: {error}")))?;
        all.extend(address.expand());
    }
    Ok(all)
}

/// Names of the top-level host matchers, without those to skip.
pub(crate) fn host_names(server: &Server, automatic: &AutoHttpsConfig) -> BTreeSet<String> {
    // A Caddyfile has each of its sites without TLS here.
    let skip: HashSet<&String> = automatic.skip.iter().collect();
    server
        .routes
        .iter()
        .flat_map(|route| &route.matcher_sets)
        .filter_map(|set| set.get("host")?.as_array())
        .flatten()
        .filter_map(|host| host.as_str())
        .map(|host| Template::render_global(host, Unknown::Keep).to_lowercase())
        .filter(|host| !host.is_empty() && !skip.contains(host))
        .collect()
}
