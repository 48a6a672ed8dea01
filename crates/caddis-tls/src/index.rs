//! Names to certificates: an immutable snapshot, and the choice for a handshake (T047–T052).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use caddis_core::{client_certificates::ClientCertificate, punycode::to_ascii};
use rustls::SignatureScheme;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{certificate::Certificate, selection::Selection, timestamp::Timestamp};

/// The certificates in use, by name.
#[derive(Debug, Default)]
pub struct CertIndex {
    all: Vec<Arc<Certificate>>,
    by_name: HashMap<String, Vec<Arc<Certificate>>>,
}

/// The place where the current snapshot is found.
#[derive(Debug, Default)]
pub struct CertStore(ArcSwap<CertIndex>);

/// What a choice is made by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The name the client asked for.
    pub(crate) name: Option<&'a str>,
    /// The server's address on this connection.
    pub(crate) local: Option<IpAddr>,
    /// Name where the client sent none.
    pub(crate) default_sni: &'a str,
    /// Name where nothing was found.
    pub(crate) fallback_sni: &'a str,
    /// The policy's own choice.
    pub(crate) selection: Option<&'a Selection>,
    /// What the client can verify; empty if unknown.
    pub(crate) schemes: &'a [SignatureScheme],
    /// The time.
    pub(crate) now: Timestamp,
}

impl CertStore {
    /// The current snapshot.
    pub fn load(&self) -> Arc<CertIndex> {
        self.0.load_full()
    }

    /// The current snapshot for a short look; cores do not fight over its count.
    pub(crate) fn look(&self) -> arc_swap::Guard<Arc<CertIndex>> {
        self.0.load()
    }

    /// What can be shown for a name to a server that asks for a certificate: all that hold the name,
    /// then those whose wildcards cover it.
    pub fn for_client(&self, name: &str) -> Vec<ClientCertificate> {
        let (index, name) = (self.look(), normalized(name));
        let all = index.named(&name).iter().cloned();
        let wide = wildcards(&name).flat_map(|candidate| index.named(&candidate).to_vec());
        all.chain(wide)
            .map(|certificate| ClientCertificate {
                issuers: certificate.key.cert.iter().filter_map(|der| issuer(der)).collect(),
                key: certificate.key.clone(),
            })
            .collect()
    }

    /// Puts a new snapshot in place.
    pub(crate) fn publish(&self, index: CertIndex) {
        self.0.store(Arc::new(index));
    }
}

impl CertIndex {
    /// An index of these certificates; the same leaf twice counts once.
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Self {
        let mut seen: HashMap<[u8; 32], usize> = HashMap::new();
        let mut all: Vec<Arc<Certificate>> = Vec::with_capacity(certificates.len());
        for certificate in certificates {
            if let Some(&at) = seen.get(&certificate.fingerprint) {
                merge_tags(&mut all[at], &certificate);
            } else {
                seen.insert(certificate.fingerprint, all.len());
                all.push(certificate);
            }
        }
        let mut by_name: HashMap<String, Vec<Arc<Certificate>>> = HashMap::new();
        for certificate in &all {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_default().push(certificate.clone());
            }
        }
        Self { all, by_name }
    }

    /// All certificates.
    pub fn all(&self) -> &[Arc<Certificate>] {
        &self.all
    }

    /// The certificates that hold this very name (lower case).
    pub fn named(&self, name: &str) -> &[Arc<Certificate>] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether any certificate is for this name, be it by a wildcard.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let name = normalized(name);
        !self.named(&name).is_empty()
            || wildcards(&name).any(|candidate| !self.named(&candidate).is_empty())
    }

    /// The certificate for a handshake.
    pub(crate) fn choose(&self, wanted: &Wanted<'_>) -> Option<Arc<Certificate>> {
        let name = wanted.name.map(normalized).filter(|name| !name.is_empty());
        let found = match &name {
            Some(name) => self.by_sni(name, wanted),
            None => wanted
                .local
                .and_then(|ip| self.pick(&ip.to_canonical().to_string(), wanted))
                .or_else(|| self.named_setting(wanted.default_sni, wanted)),
        };
        found.or_else(|| self.named_setting(wanted.fallback_sni, wanted))
    }

    fn named_setting(&self, name: &str, wanted: &Wanted<'_>) -> Option<Arc<Certificate>> {
        let name = normalized(name);
        if name.is_empty() { None } else { self.pick(&name, wanted) }
    }

    fn by_sni(&self, name: &str, wanted: &Wanted<'_>) -> Option<Arc<Certificate>> {
        self.pick(name, wanted)
            .or_else(|| wildcards(name).find_map(|candidate| self.pick(&candidate, wanted)))
    }

    fn pick(&self, name: &str, wanted: &Wanted<'_>) -> Option<Arc<Certificate>> {
        let candidates = self.named(name);
        match wanted.selection {
            None => best(candidates.iter(), wanted),
            Some(selection) => {
                let candidates = if candidates.is_empty() { &self.all } else { candidates };
                best(candidates.iter().filter(|one| selection.matches(one)), wanted)
            }
        }
    }
}

/// The name of who signed a certificate, DER.
fn issuer(der: &[u8]) -> Option<Vec<u8>> {
    let (_, x509) = X509Certificate::from_der(der).ok()?;
    Some(x509.issuer().as_raw().to_vec())
}

/// The names of certificates that would cover a name: labels become `*` from the left, one more
/// each time.
pub(crate) fn wildcards(name: &str) -> impl Iterator<Item = String> + '_ {
    let labels: Vec<&str> = name.split('.').collect();
    (1..=labels.len().min(128)).map(move |stars| {
        let mut out = "*.".repeat(stars);
        match labels.get(stars..) {
            Some(rest) if !rest.is_empty() => out.push_str(&rest.join(".")),
            _ => {
                out.pop();
            }
        }
        out
    })
}

/// A name as it is in certificates and hellos: lower case, labels beyond ASCII in their encoded form
/// (RFC 5280 §7.2).
pub(crate) fn normalized(name: &str) -> String {
    to_ascii(name.trim())
}

/// The first that the client can use and that is in its validity; else one it can use; else any.
fn best<'a>(
    candidates: impl Iterator<Item = &'a Arc<Certificate>>,
    wanted: &Wanted<'_>,
) -> Option<Arc<Certificate>> {
    let mut choice: Option<(u8, &Arc<Certificate>)> = None;
    for certificate in candidates {
        let usable = wanted.schemes.is_empty()
            || certificate.key.key.choose_scheme(wanted.schemes).is_some();
        let rank = 2 * u8::from(usable) + u8::from(!certificate.is_expired(wanted.now));
        if rank == 3 {
            return Some(certificate.clone());
        }
        if choice.is_none_or(|(other, _)| rank > other) {
            choice = Some((rank, certificate));
        }
    }
    choice.map(|(_, certificate)| certificate.clone())
}

fn merge_tags(into: &mut Arc<Certificate>, from: &Certificate) {
    if from.tags.iter().any(|tag| !into.tags.contains(tag)) {
        let mut merged = Certificate::clone(into);
        merged.tags.extend(from.tags.iter().filter(|tag| !into.tags.contains(tag)).cloned());
        *into = Arc::new(merged);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{CertIndex, Wanted, normalized, wildcards};
    use crate::{
        certificate::Certificate,
        key::{KeyType, to_pem},
        selection::Selection,
    };

    fn certificate(names: &[&str], tag: &str, not_after: i64) -> Arc<Certificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyType::P256.generate().unwrap();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(not_after).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let tags = if tag.is_empty() { Vec::new() } else { vec![tag.to_owned()] };
        Arc::new(Certificate::from_pem(chain.as_bytes(), to_pem(&key).as_bytes(), tags).unwrap())
    }

    fn wanted(name: Option<&str>) -> Wanted<'_> {
        Wanted {
            name,
            local: None,
            default_sni: "",
            fallback_sni: "",
            selection: None,
            schemes: &[],
            now: 1_000,
        }
    }

    #[test]
    fn wildcards_grow_from_the_left() {
        assert_eq!(wildcards("a.b.c").collect::<Vec<_>>(), ["*.b.c", "*.*.c", "*.*.*"]);
        assert_eq!(wildcards("a").collect::<Vec<_>>(), ["*"]);
        assert_eq!(normalized(" *.Bücher.test"), "*.xn--bcher-kva.test");
    }

    #[test]
    fn choice_table() {
        let index = CertIndex::new(vec![
            certificate(&["a.test"], "", 500),
            certificate(&["a.test", "b.test"], "", 5_000),
            certificate(&["*.wild.test"], "w", 5_000),
            certificate(&["127.0.0.1"], "", 5_000),
        ]);
        let first = |wanted: &Wanted<'_>| index.choose(wanted).map(|one| one.names.join(" "));
        let cases = [
            (Some("a.test"), Some("a.test b.test")),
            (Some("A.TEST"), Some("a.test b.test")),
            (Some("x.wild.test"), Some("*.wild.test")),
            (Some("x.y.wild.test"), None),
            (Some("wild.test"), None),
            (Some("nothere.test"), None),
            (None, None),
        ];
        for (name, want) in cases {
            assert_eq!(first(&wanted(name)).as_deref(), want, "{name:?}");
        }
        let local = "127.0.0.1".parse::<IpAddr>().ok();
        let with = Wanted { local, default_sni: "b.test", ..wanted(None) };
        assert_eq!(first(&with).as_deref(), Some("127.0.0.1"));
        let with = Wanted { default_sni: "b.test", ..wanted(None) };
        assert_eq!(first(&with).as_deref(), Some("a.test b.test"));
        assert_eq!(first(&Wanted { name: Some("q.test"), ..with }), None);
        let with = Wanted { fallback_sni: "b.test", ..wanted(Some("q.test")) };
        assert_eq!(first(&with).as_deref(), Some("a.test b.test"));
        let any = Selection { any_tag: vec!["w".to_owned()], ..Selection::default() };
        let with = Wanted { selection: Some(&any), ..wanted(Some("q.test")) };
        assert_eq!(first(&with).as_deref(), Some("*.wild.test"));
        let with = Wanted { selection: Some(&any), ..wanted(Some("a.test")) };
        assert_eq!(
            first(&with).as_deref(),
            Some("*.wild.test"),
            "the name's own certificates lack the tag, so all are looked at"
        );
    }
}
