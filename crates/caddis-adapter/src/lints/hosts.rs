//! `impossible-host`: a host matcher for a host that the site does not serve.

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};
use crate::servers::matches_wildcard;

pub(super) static IMPOSSIBLE_HOST: Lint = Lint {
    code: "impossible-host",
    summary: "a host matcher that can never match in its site",
    explanation: "\
Inside of a site only requests for the site's own hosts arrive. `@x host other.com` in the site
`example.com` therefore never matches, and what it is for never runs. Add the host to the site's
addresses, or give it a site of its own.",
    run: Run::Text(run),
};

fn run(text: &Text<'_>, findings: &mut Findings) {
    for site in text.real_sites() {
        let addresses = site.addresses();
        let unclear = |host: &str| host.is_empty() || host.contains('{');
        if addresses.is_empty()
            || addresses.len() != site.block.keys.len()
            || addresses.iter().any(|address| unclear(&address.host))
        {
            continue;
        }
        let served = |host: &str| {
            host.contains(['*', '{'])
                || addresses.iter().any(|address| {
                    address.host.eq_ignore_ascii_case(host) || matches_wildcard(host, &address.host)
                })
        };
        look(&site.body, &served, site.block.keys.first(), findings);
    }
}

fn look(
    list: &[Statement<'_>],
    served: &dyn Fn(&str) -> bool,
    key: Option<&caddis_caddyfile::Token>,
    findings: &mut Findings,
) {
    for statement in list.iter().filter(|statement| statement.name().starts_with('@')) {
        let own = (statement.word(1) == Some("host")).then(|| &statement.words[1..]);
        let inside = statement.body.iter().filter(|one| one.name() == "host").map(|one| one.words);
        for words in own.into_iter().chain(inside) {
            let hosts = &words[1..];
            // In a snippet it may be for another of the sites that import it.
            if hosts.is_empty()
                || words[0].imports().is_some()
                || hosts.iter().any(|host| served(&host.text))
            {
                continue;
            }
            let message = format!("no request for {} arrives in this site", hosts[0].text);
            let finding = findings.add(&hosts[0], message, "never matches");
            if let Some(key) = key {
                finding.labels.push((key.span, "the site's hosts".into()));
            }
            finding.help = Some("add the host to the addresses of the site, or remove this".into());
        }
    }
    for statement in list {
        look(&statement.body, served, key, findings);
    }
}
