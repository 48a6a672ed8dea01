//! Where things lie in the storage (spec T122–T135): the same layout as Caddy's, so that a folder
//! made by it is used as it is.

/// The folder of leaf certificates.
pub(crate) const CERTIFICATES: &str = "certificates";

/// The folder of locks.
pub(crate) const LOCKS: &str = "locks";

/// The three files of a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKeys {
    /// The chain, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub private_key: String,
    /// Names and issuer data, JSON.
    pub metadata: String,
}

impl SiteKeys {
    /// The keys of a name's certificate by an issuer.
    pub fn new(issuer_key: &str, name: &str) -> Self {
        let safe = safe(name);
        let base = format!("{CERTIFICATES}/{}/{safe}/{safe}", safe_issuer(issuer_key));
        Self {
            certificate: format!("{base}.crt"),
            private_key: format!("{base}.key"),
            metadata: format!("{base}.json"),
        }
    }
}

/// A file of an authority, for example `root.crt`.
pub fn authority(id: &str, file: &str) -> String {
    format!("pki/authorities/{id}/{file}")
}

/// The folder name for an ACME directory's certificates: host and path, slashes as dashes.
pub fn acme_issuer_key(directory: &str) -> String {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (host, path) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.trim_matches('/');
    let joined = if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") };
    joined.replace('/', "-").to_lowercase()
}

fn safe_issuer(key: &str) -> String {
    safe(key)
}

/// A text made safe for a file name (T127).
pub fn safe(text: &str) -> String {
    let text = text.trim().to_lowercase();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' => out.push('_'),
            '+' => out.push_str("_plus_"),
            '*' => out.push_str("wildcard_"),
            ':' => out.push('-'),
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.' | '-') => out.push(c),
            _ => {}
        }
    }
    while let Some(at) = out.find("..") {
        out.replace_range(at..at + 2, "");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{SiteKeys, acme_issuer_key, safe};

    #[test]
    fn names_are_safe() {
        for (name, want) in [
            ("Example.com", "example.com"),
            ("*.example.com", "wildcard_.example.com"),
            ("::1", "--1"),
            ("a b+c", "a_b_plus_c"),
            ("../../etc/passwd", "etcpasswd"),
            ("....", ""),
            ("ü.test", ".test"),
        ] {
            assert_eq!(safe(name), want, "{name}");
        }
    }

    #[test]
    fn keys_equal_the_known_layout() {
        let keys = SiteKeys::new("local", "*.b.test");
        assert_eq!(keys.certificate, "certificates/local/wildcard_.b.test/wildcard_.b.test.crt");
        assert_eq!(
            acme_issuer_key("https://acme-v02.api.letsencrypt.org/directory"),
            "acme-v02.api.letsencrypt.org-directory"
        );
        assert_eq!(acme_issuer_key("https://acme.zerossl.com/v2/DV90"), "acme.zerossl.com-v2-dv90");
    }
}
