//! `plain-basic-auth`: passwords over plain HTTP.

use caddis_config::{NetworkAddress, Server};

use super::subject::Subject;
use super::{Findings, Lint};

pub(super) static PLAIN_BASIC_AUTH: Lint = Lint {
    code: "plain-basic-auth",
    summary: "`basic_auth` on a site that is served over plain HTTP",
    explanation: "\
With `basic_auth` the browser sends the password with every request, readable for everyone on the way
where the site has no TLS. Give the site a name without `http://` and port 80 (it then gets a
certificate), or allow this lint where a proxy in front ends TLS. Sites that listen on loopback only,
and servers with `trusted_proxies`, are left alone.",
    run,
};

fn run(subject: &Subject<'_>, findings: &mut Findings) {
    let http_port = subject.adapted.config.apps.http.as_ref().map_or(0, |http| http.http_port);
    let http_port = if http_port == 0 { 80 } else { http_port };
    subject.each_handler(&mut |handler| {
        let Some(place) = handler.place else { return };
        if handler.name != "authentication"
            || handler.json.pointer("/providers/http_basic").is_none()
            || !is_plain(handler.server, http_port)
        {
            return;
        }
        let message = "passwords are sent over plain HTTP";
        let site =
            subject.adapted.origins.find(&format!("apps.http.servers.{}", handler.server_name));
        let finding = findings.add(&place.token, message, "asks for a password");
        finding.labels.extend(site.map(|site| (site, "this site has no TLS".to_owned())));
        finding.help = Some("serve the site over HTTPS: a name without `http://` is enough".into());
    });
}

/// Whether a server speaks no TLS, and not on loopback alone.
fn is_plain(server: &Server, http_port: i64) -> bool {
    let Ok(listen) =
        server.listen.iter().map(|text| NetworkAddress::parse(text)).collect::<Result<Vec<_>, _>>()
    else {
        return false;
    };
    if !server.tls_connection_policies.is_empty() || server.trusted_proxies.is_some() {
        return false;
    }
    if listen.iter().all(|one| one.is_unix() || one.is_loopback()) {
        return false;
    }
    if listen.iter().all(|one| i64::from(one.start_port) == http_port) {
        return !only_local_hosts(server);
    }
    let automatic = server.automatic_https.clone().unwrap_or_default();
    let has_names = hosts(server).any(|host| !automatic.skip.iter().any(|skip| skip == host));
    (automatic.disable || !has_names)
        && !listen.iter().all(|one| one.start_port == 443)
        && !only_local_hosts(server)
}

fn hosts(server: &Server) -> impl Iterator<Item = &str> {
    let sets = server.routes.iter().flat_map(|route| &route.matcher_sets);
    sets.filter_map(|set| set.get("host")?.as_array()).flatten().filter_map(|host| host.as_str())
}

fn only_local_hosts(server: &Server) -> bool {
    let mut all = hosts(server).peekable();
    all.peek().is_some()
        && all
            .all(|host| host == "localhost" || host.ends_with(".localhost") || host == "127.0.0.1")
}
