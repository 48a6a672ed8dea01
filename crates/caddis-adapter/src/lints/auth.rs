//! `plain-basic-auth`: passwords over plain HTTP.

use caddis_config::{NetworkAddress, Server};

use super::subject::Subject;
use super::{Findings, Lint, Run};

pub(super) static PLAIN_BASIC_AUTH: Lint = Lint {
    code: "plain-basic-auth",
    summary: "`basic_auth` on a site that is served over plain HTTP",
    explanation: "\
With `basic_auth` the browser sends the password with every request, readable for everyone on the way
where the site has no TLS. Give the site a name without `http://` and port 80 (it then gets a
certificate), or allow this lint where a proxy in front ends TLS. Sites that listen on loopback only,
and servers with `trusted_proxies`, are left alone.",
    run: Run::Sites(run),
};

fn run(subject: &Subject<'_>, findings: &mut Findings) {
    // What is not there yet may be a name, for which there is TLS.
    if subject.text.file.sources.unset_variables().next().is_some() {
        return;
    }
    let http_port = subject.adapted.config.apps.http.as_ref().map_or(0, |http| http.http_port);
    let http_port = if http_port == 0 { 80 } else { http_port };
    for handler in subject.handlers() {
        let Some(place) = handler.place else { continue };
        if handler.name != "authentication"
            || handler.json.pointer("/providers/http_basic").is_none()
            || !is_plain(handler.server, http_port)
        {
            continue;
        }
        let message = "passwords are sent over plain HTTP";
        let site =
            subject.adapted.origins.find(&format!("apps.http.servers.{}", handler.server_name));
        let finding = findings.add(&place.token, message, "asks for a password");
        finding.labels.extend(site.map(|site| (site, "this site has no TLS".to_owned())));
        finding.help = Some("serve the site over HTTPS: a name without `http://` is enough".into());
    }
}

/// What of a server says whether it speaks TLS.
pub(super) struct Facts<'a> {
    pub(super) listen: &'a [NetworkAddress],
    pub(super) has_policies: bool,
    pub(super) trusts_proxies: bool,
    /// Whether automatic HTTPS is off.
    pub(super) is_off: bool,
    /// Hosts that automatic HTTPS leaves alone.
    pub(super) skip: Vec<&'a str>,
    /// The hosts of its routes.
    pub(super) hosts: Vec<&'a str>,
}

impl Facts<'_> {
    /// Whether a server speaks no TLS, and not on loopback alone.
    pub(super) fn is_plain(&self, http_port: i64) -> bool {
        if self.has_policies || self.trusts_proxies {
            return false;
        }
        if self.listen.iter().all(|one| one.is_unix() || one.is_loopback()) {
            return false;
        }
        if self.listen.iter().all(|one| i64::from(one.start_port) == http_port) {
            return !self.is_local();
        }
        let has_names = self.hosts.iter().any(|host| !self.skip.contains(host));
        (self.is_off || !has_names)
            && !self.listen.iter().all(|one| one.start_port == 443)
            && !self.is_local()
    }

    /// Whether all hosts are this machine.
    fn is_local(&self) -> bool {
        let is_local = |host: &&str| {
            *host == "localhost" || host.ends_with(".localhost") || *host == "127.0.0.1"
        };
        !self.hosts.is_empty() && self.hosts.iter().all(is_local)
    }
}

fn is_plain(server: &Server, http_port: i64) -> bool {
    let listen: Result<Vec<_>, _> =
        server.listen.iter().map(|text| NetworkAddress::parse(text)).collect();
    let Ok(listen) = listen else { return false };
    let automatic = server.automatic_https.as_ref();
    let facts = Facts {
        listen: &listen,
        has_policies: !server.tls_connection_policies.is_empty(),
        trusts_proxies: server.trusted_proxies.is_some(),
        is_off: automatic.is_some_and(|automatic| automatic.disable),
        skip: automatic.iter().flat_map(|one| &one.skip).map(String::as_str).collect(),
        hosts: hosts(server).collect(),
    };
    facts.is_plain(http_port)
}

fn hosts(server: &Server) -> impl Iterator<Item = &str> {
    let sets = server.routes.iter().flat_map(|route| &route.matcher_sets);
    sets.filter_map(|set| set.get("host")?.as_array()).flatten().filter_map(|host| host.as_str())
}
