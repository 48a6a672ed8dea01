//! `insecure-upstream-tls`, `internal-public-name`, `on-demand-open`, `unsupported-cipher`,
//! `wildcard-needs-dns`: certificates that are not checked, not trusted, given to anyone, or never
//! got, and cipher suites that are not there.

use super::subject::{Site, Statement, Text};
use super::{Findings, Lint, Run};
use crate::address::Address;

pub(super) static INSECURE_UPSTREAM_TLS: Lint = Lint {
    code: "insecure-upstream-tls",
    summary: "the certificate of an upstream is not verified",
    explanation: "\
With `tls_insecure_skip_verify` whoever is on the way to the upstream can take its place. Trust the
certificate that it has instead: `tls_trust_pool file ca.pem`, and `tls_server_name` where the name
differs. Where upstream and proxy are on one machine, plain HTTP is as good.",
    run: Run::Text(insecure),
};

pub(super) static INTERNAL_PUBLIC_NAME: Lint = Lint {
    code: "internal-public-name",
    summary: "a public name with a certificate of the internal authority",
    explanation: "\
`tls internal` signs with caddis' own local authority, which no visitor's browser trusts. For a name
that can be reached from the internet, leave it away: a public certificate comes by itself. Allow this
lint where all visitors have the local root certificate installed, or another proxy stands in front.",
    run: Run::Text(internal),
};

pub(super) static ON_DEMAND_OPEN: Lint = Lint {
    code: "on-demand-open",
    summary: "certificates on demand for any name that anyone asks for",
    explanation: "\
With `on_demand` a certificate is got during the handshake for whatever name a client names. Without a
permission, strangers make the server ask for certificates without end, until the authority's rate
limits block your own names; so nothing is issued without one. Set the global option
`on_demand_tls { ask <url> }` with an endpoint that knows your names.",
    run: Run::Text(on_demand),
};

pub(super) static UNSUPPORTED_CIPHER: Lint = Lint {
    code: "unsupported-cipher",
    summary: "a cipher suite that Caddy has and caddis does not",
    explanation: "\
Suites with CBC are open to padding attacks where they are not written with great care, and no client
of the last ten years needs them; caddis has none and leaves them out of the list. Remove them. Without
`ciphers` at all the list is the one that this machine is fastest with, and has strong suites only.",
    run: Run::Text(ciphers),
};

pub(super) static WILDCARD_NEEDS_DNS: Lint = Lint {
    code: "wildcard-needs-dns",
    summary: "a wildcard name without the DNS challenge",
    explanation: "\
Public authorities give certificates for `*.example.com` only after a DNS challenge. Configure a DNS
provider (`tls { dns <provider> … }`, or the global option `acme_dns`), use `tls internal`, own
certificate files or `on_demand`; or list the names instead of the wildcard.",
    run: Run::Text(wildcard),
};

fn insecure(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, parents| {
        let in_transport = parents.last().is_some_and(|parent| parent.name() == "transport");
        if statement.name() == "tls_insecure_skip_verify" && in_transport {
            let message = "the upstream's certificate is not verified";
            findings.add(statement.token(), message, "anyone can pose as the upstream").help =
                Some("trust its certificate instead: `tls_trust_pool file <ca.pem>`".into());
        }
    });
}

/// Whether a public authority may know a name.
pub(super) fn is_public(host: &str) -> bool {
    const LOCAL: &[&str] = &[
        "arpa",
        "corp",
        "example",
        "home",
        "internal",
        "intranet",
        "invalid",
        "lan",
        "loc",
        "local",
        "localdomain",
        "localhost",
        "onion",
        "private",
        "test",
    ];
    let name = host.trim_start_matches("*.");
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains('.')
        && !name.contains(['{', '*', '[', ':'])
        && name.parse::<std::net::IpAddr>().is_err()
        && !LOCAL.contains(&last)
        && !last.is_empty()
}

fn tls_of<'s, 'a>(site: &'s Site<'a>) -> impl Iterator<Item = &'s Statement<'a>> {
    site.body.iter().filter(|statement| statement.name() == "tls")
}

fn is_internal(tls: &Statement<'_>) -> bool {
    tls.word(1) == Some("internal")
        || tls.body.iter().any(|one| one.name() == "issuer" && one.word(1) == Some("internal"))
}

fn internal(text: &Text<'_>, findings: &mut Findings) {
    for site in text.real_sites() {
        let Some(tls) = tls_of(site).find(|tls| is_internal(tls)) else { continue };
        // The server of an authority has no other choice.
        if site.body.iter().any(|statement| statement.name() == "acme_server") {
            continue;
        }
        // An issuer beside others is a fallback.
        if tls.body.iter().filter(|one| one.name() == "issuer").count() > 1 {
            continue;
        }
        let keys = site.block.keys.iter().zip(site.addresses());
        let Some((key, address)) = keys.into_iter().find(|(_, one)| is_public(&one.host)) else {
            continue;
        };
        let message = format!("{} gets a certificate that browsers do not trust", address.host);
        let finding = findings.add(tls.token(), message, "signed by the local authority");
        finding.labels.push((key.span, "a public name".into()));
        finding.help = Some("leave `tls internal` away to get a public certificate".into());
    }
}

fn on_demand(text: &Text<'_>, findings: &mut Findings) {
    let permitted = text
        .option("on_demand_tls")
        .is_some_and(|option| option.child("permission").or_else(|| option.child("ask")).is_some());
    if permitted {
        return;
    }
    for site in text.real_sites() {
        // Names that are written down are bounded.
        if site.addresses().iter().all(|one| !one.host.is_empty() && !one.host.starts_with('*')) {
            continue;
        }
        for statement in tls_of(site).filter_map(|tls| tls.child("on_demand")) {
            let message = "certificates on demand without a permission";
            findings.add(statement.token(), message, "for any name that a client asks for").help =
                Some("set the global option `on_demand_tls { ask <url> }`".into());
        }
    }
}

/// Whether a suite is one that only Caddy has.
pub(super) fn is_unsupported(suite: &str) -> bool {
    suite.starts_with("TLS_ECDHE_") && suite.contains("_CBC_")
}

fn ciphers(text: &Text<'_>, findings: &mut Findings) {
    text.each(&mut |statement, parents| {
        if statement.name() != "ciphers" || parents.last().is_none_or(|one| one.name() != "tls") {
            return;
        }
        for word in statement.words.iter().skip(1).filter(|word| is_unsupported(&word.text)) {
            let message = format!("{} is left out: suites with CBC are weak", word.text);
            findings.add(word, message, "not there").help =
                Some("remove it; without `ciphers` the default list has strong suites only".into());
        }
    });
}

fn wildcard(text: &Text<'_>, findings: &mut Findings) {
    let global = ["acme_dns", "local_certs", "cert_issuer", "dns"];
    let off = |option: &Statement<'_>| {
        option.name() == "auto_https"
            && (option.mentions("off") || option.mentions("disable_certs"))
    };
    if text.options.iter().any(|option| global.contains(&option.name()) || off(option)) {
        return;
    }
    let http_port = text.option("http_port").and_then(|option| option.word(1)).unwrap_or("80");
    let needs = |address: &Address| {
        address.host.starts_with("*.")
            && is_public(&address.host)
            && address.scheme != "http"
            && address.port != http_port
    };
    for site in text.real_sites() {
        if tls_of(site).any(gets_wildcards) {
            continue;
        }
        for (key, _) in site.block.keys.iter().zip(site.addresses()).filter(|(_, one)| needs(one)) {
            let message =
                format!("no certificate can be got for {} without the DNS challenge", key.text);
            findings.add(key, message, "a wildcard").help =
                Some("configure a DNS provider: `tls { dns <provider> … }`".into());
        }
    }
}

/// Whether a `tls` directive says where certificates for wildcards come from.
fn gets_wildcards(tls: &Statement<'_>) -> bool {
    const WAYS: &[&str] = &[
        "ca",
        "ca_root",
        "dns",
        "dns_challenge_override_domain",
        "get_certificate",
        "issuer",
        "load",
        "on_demand",
    ];
    is_internal(tls) || tls.words.len() > 2 || tls.body.iter().any(|one| WAYS.contains(&one.name()))
}
