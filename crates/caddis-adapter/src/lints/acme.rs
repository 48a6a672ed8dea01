//! `staging-ca` and `placeholder-email`: leftovers in the settings of authorities.

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static STAGING_CA: Lint = Lint {
    code: "staging-ca",
    summary: "certificates of a staging endpoint, which no browser trusts",
    explanation: "\
The staging endpoint of Let's Encrypt is for trying things out: its limits are high, and no browser
trusts its certificates. Remove the line when the setup works; new certificates are then got from the
real endpoint. Allow this lint on machines that are for trials.",
    run: Run::Text(staging),
};

pub(super) static PLACEHOLDER_EMAIL: Lint = Lint {
    code: "placeholder-email",
    summary: "an e-mail address of example.com for a certificate account",
    explanation: "\
Authorities refuse accounts whose address is at `example.com`, `example.net` or `example.org`, so no
certificate is got. Write your own address, or leave `email` away.",
    run: Run::Text(email),
};

/// Whether a URL is that of a staging endpoint.
pub(super) fn is_staging(url: &str) -> bool {
    url.contains("://acme-staging-v02.api.letsencrypt.org/")
}

/// Whether an address is one of those that stand in examples.
pub(super) fn is_placeholder(email: &str) -> bool {
    let Some((_, domain)) = email.rsplit_once('@') else { return false };
    ["example.com", "example.net", "example.org"].contains(&domain.to_ascii_lowercase().as_str())
}

fn staging(text: &Text<'_>, findings: &mut Findings) {
    const NAMES: &[&str] = &["acme_ca", "ca", "dir"];
    let mut see = |statement: &Statement<'_>| {
        let url = statement.words.get(1).filter(|_| NAMES.contains(&statement.name()));
        if let Some(url) = url.filter(|url| is_staging(&url.text)) {
            let message = "certificates of the staging endpoint are not trusted by browsers";
            findings.add(url, message, "for trials only").help =
                Some("remove this line when the setup works".into());
        }
    };
    each_setting(text, &mut see);
}

fn email(text: &Text<'_>, findings: &mut Findings) {
    // Another authority may think otherwise.
    if text.option("acme_ca").is_some() || text.option("local_certs").is_some() {
        return;
    }
    let mut see = |statement: &Statement<'_>| {
        let Some(email) = statement.words.get(1) else { return };
        if ["email", "tls"].contains(&statement.name())
            && is_placeholder(&email.text)
            && statement.child("ca").is_none()
        {
            let message = format!("authorities refuse accounts of {}", email.text);
            findings.add(email, message, "an address of examples").help =
                Some("write your own address, or leave it away".into());
        }
    };
    each_setting(text, &mut see);
}

/// Calls `see` with global options, `tls` directives, and the lines inside of them.
fn each_setting<'a>(text: &Text<'a>, see: &mut dyn FnMut(&Statement<'a>)) {
    fn all<'a>(list: &[Statement<'a>], see: &mut dyn FnMut(&Statement<'a>)) {
        for statement in list {
            see(statement);
            all(&statement.body, see);
        }
    }
    all(&text.options, see);
    for tls in text.real_sites().flat_map(|site| &site.body).filter(|one| one.name() == "tls") {
        see(tls);
        all(&tls.body, see);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(is_placeholder("me@example.com") && is_placeholder("me@Example.ORG"));
        assert!(!is_placeholder("me@my-example.com") && !is_placeholder("example.com"));
        assert!(is_staging("https://acme-staging-v02.api.letsencrypt.org/directory"));
        assert!(!is_staging("https://acme-v02.api.letsencrypt.org/directory"));
    }
}
