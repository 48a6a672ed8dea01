//! Certificates and ciphers in JSON: `on-demand-open`, `internal-public-name`, `wildcard-needs-dns`,
//! `staging-ca`, `placeholder-email`, `unsupported-cipher`.

use serde_json::Value as Json;

use super::{Findings, ports, texts};
use crate::lints::{acme, tls};
use crate::servers::matches_wildcard;

/// An automation policy with its path.
struct Policy<'a> {
    json: &'a Json,
    path: String,
}

impl<'a> Policy<'a> {
    /// The issuers that are given, with their paths.
    fn issuers(&self) -> impl Iterator<Item = (String, &'a Json)> {
        let list = self.json.get("issuers").and_then(Json::as_array).into_iter().flatten();
        let path = self.path.clone();
        list.enumerate().map(move |(at, issuer)| (format!("{path}.issuers.{at}"), issuer))
    }

    fn subjects(&self) -> impl Iterator<Item = &'a str> {
        texts(self.json, "subjects")
    }

    /// Whether it is the one for a name.
    fn is_for(&self, name: &str) -> bool {
        let mut subjects = self.subjects().peekable();
        subjects.peek().is_none()
            || subjects.any(|one| one.eq_ignore_ascii_case(name) || matches_wildcard(name, one))
    }

    /// Whether certificates for wildcards can be had.
    fn gets_wildcards(&self) -> bool {
        let mut issuers = self.issuers().peekable();
        let by_dns = |issuer: &Json| {
            module(issuer) != "acme"
                || issuer.pointer("/challenges/dns").is_some()
                || issuer.get("ca").is_some()
        };
        self.json.get("on_demand") == Some(&Json::Bool(true))
            || self.json.get("get_certificate").is_some()
            || (issuers.peek().is_some() && issuers.any(|(_, issuer)| by_dns(issuer)))
    }
}

fn module(issuer: &Json) -> &str {
    issuer.get("module").and_then(Json::as_str).unwrap_or_default()
}

pub(super) fn run(config: &Json, findings: &mut Findings<'_>) {
    let policies = config.pointer("/apps/tls/automation/policies").and_then(Json::as_array);
    let policies: Vec<_> = policies
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, json)| Policy { json, path: format!("apps.tls.automation.policies.{at}") })
        .collect();
    on_demand(config, &policies, findings);
    for policy in &policies {
        accounts(policy, findings);
        internal(config, policy, findings);
    }
    wildcards(config, &policies, findings);
    ciphers(config, findings);
}

fn ciphers(config: &Json, findings: &mut Findings<'_>) {
    let servers = config.pointer("/apps/http/servers").and_then(Json::as_object);
    for (name, server) in servers.into_iter().flatten() {
        let policies = server.get("tls_connection_policies").and_then(Json::as_array);
        for (at, policy) in policies.into_iter().flatten().enumerate() {
            let base = format!("apps.http.servers.{name}.tls_connection_policies.{at}");
            for suite in texts(policy, "cipher_suites").filter(|one| tls::is_unsupported(one)) {
                let path = format!("{base}.cipher_suites");
                let message = format!("{suite} is left out: suites with CBC are weak");
                let help =
                    "remove it; without `cipher_suites` the default list has strong ones only";
                findings.add(&tls::UNSUPPORTED_CIPHER, path, message, "not there", help);
            }
        }
    }
}

fn on_demand(config: &Json, policies: &[Policy<'_>], findings: &mut Findings<'_>) {
    let permitted = config.pointer("/apps/tls/automation/on_demand");
    let has = |name: &str| permitted.is_some_and(|config| config.get(name).is_some());
    if has("permission") || has("ask") {
        return;
    }
    for policy in policies {
        // Names that are written down are bounded.
        if policy.subjects().next().is_some() && !policy.subjects().any(|one| one.starts_with('*'))
        {
            continue;
        }
        if policy.json.get("on_demand") == Some(&Json::Bool(true)) {
            let path = format!("{}.on_demand", policy.path);
            let message = "certificates on demand without a permission";
            let help = "set `permission` in apps.tls.automation.on_demand";
            let label = "for any name that a client asks for";
            findings.add(&tls::ON_DEMAND_OPEN, path, message, label, help);
        }
    }
}

fn accounts(policy: &Policy<'_>, findings: &mut Findings<'_>) {
    for (path, issuer) in policy.issuers() {
        let text = |name: &str| issuer.get(name).and_then(Json::as_str).unwrap_or_default();
        if acme::is_staging(text("ca")) {
            let message = "certificates of the staging endpoint are not trusted by browsers";
            let help = "remove `ca` when the setup works";
            let path = format!("{path}.ca");
            findings.add(&acme::STAGING_CA, path, message, "for trials only", help);
        }
        if acme::is_placeholder(text("email")) && text("ca").is_empty() {
            let message = format!("authorities refuse accounts of {}", text("email"));
            let help = "write your own address, or leave it away";
            let path = format!("{path}.email");
            findings.add(&acme::PLACEHOLDER_EMAIL, path, message, "an address of examples", help);
        }
    }
}

fn internal(config: &Json, policy: &Policy<'_>, findings: &mut Findings<'_>) {
    let issuers: Vec<_> = policy.issuers().collect();
    let [(path, issuer)] = issuers.as_slice() else { return };
    if module(issuer) != "internal" || holds_acme_server(config) {
        return;
    }
    if let Some(name) = policy.subjects().find(|name| tls::is_public(name)) {
        let message = format!("{name} gets a certificate that browsers do not trust");
        let help = "leave `issuers` away to get a public certificate";
        let label = "signed by the local authority";
        findings.add(&tls::INTERNAL_PUBLIC_NAME, path.as_str(), message, label, help);
    }
}

/// Whether the config serves an authority of its own, whose server has no other choice.
fn holds_acme_server(json: &Json) -> bool {
    match json {
        Json::Object(object) => {
            object.get("handler").and_then(Json::as_str) == Some("acme_server")
                || object.values().any(holds_acme_server)
        }
        Json::Array(items) => items.iter().any(holds_acme_server),
        _ => false,
    }
}

fn wildcards(config: &Json, policies: &[Policy<'_>], findings: &mut Findings<'_>) {
    // Given certificates may cover the names, and DNS may be set for all issuers.
    if ["/apps/tls/certificates", "/apps/tls/dns"].iter().any(|part| config.pointer(part).is_some())
    {
        return;
    }
    let http_port = ports::port(config, "http_port", 80);
    let servers = config.pointer("/apps/http/servers").and_then(Json::as_object);
    for (server_name, server) in servers.into_iter().flatten() {
        let automatic = server.get("automatic_https");
        let flag = |name: &str| automatic.and_then(|one| one.get(name)) == Some(&Json::Bool(true));
        let skipped = |host: &str| {
            let skips =
                |list: &str| automatic.is_some_and(|one| texts(one, list).any(|own| own == host));
            skips("skip") || skips("skip_certificates")
        };
        if flag("disable") || flag("disable_certificates") || super::listens_only(server, http_port)
        {
            continue;
        }
        for (at, host) in super::hosts(server) {
            let covered = policies.iter().find(|policy| policy.is_for(host));
            if !host.starts_with("*.")
                || !tls::is_public(host)
                || skipped(host)
                || covered.is_some_and(Policy::gets_wildcards)
            {
                continue;
            }
            let message = format!("no certificate can be got for {host} without the DNS challenge");
            let help = "give its automation policy an issuer with `challenges.dns`";
            let path = format!("apps.http.servers.{server_name}.{at}");
            findings.add(&tls::WILDCARD_NEEDS_DNS, path, message, "a wildcard", help);
        }
    }
}
