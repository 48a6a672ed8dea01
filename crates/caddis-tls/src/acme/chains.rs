//! Which of the chains that an authority offers (`preferred_chains`).
//!
//! JSON: `{"smallest": true, "root_common_name": ["…"], "any_common_name": ["…"]}`.

use caddis_config::tls::ChainPreference;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AcmeConfig, account::Session};
use crate::certificate::parse_chain;

/// The chain to take: the preferred one, or the authority's own choice.
pub(super) async fn preferred(
    config: &AcmeConfig,
    session: &Session,
    url: &str,
    chain: String,
) -> String {
    let Some(preference) = &config.preferred_chains else { return chain };
    let mut all = vec![chain];
    let first = session.transport.chain(url);
    for alternate in first.map(|chain| chain.alternates).unwrap_or_default() {
        // The library has no call for it: the answer is no order, but the transport keeps it.
        let _ = session.account.order(alternate.clone()).await;
        match session.transport.chain(&alternate) {
            Some(chain) => all.push(chain.pem),
            None => tracing::warn!(
                target: "tls.issuance.acme",
                url = alternate,
                "retrieving alternate certificate chain failed"
            ),
        }
    }
    let at = choose(preference, &all).unwrap_or_else(|| {
        tracing::warn!(
            target: "tls.issuance.acme",
            "did not find chain matching preferences; using first"
        );
        0
    });
    all.swap_remove(at)
}

fn choose(preference: &ChainPreference, chains: &[String]) -> Option<usize> {
    let parsed: Vec<Vec<(Vec<String>, String)>> = chains.iter().map(|chain| names(chain)).collect();
    let issuer =
        |chain: &Vec<(Vec<String>, String)>| chain.last().map(|(_, issuer)| issuer.clone());
    if preference.smallest == Some(true) {
        return (0..chains.len()).min_by_key(|at| chains[*at].len());
    }
    for wanted in &preference.root_common_name {
        let found = parsed.iter().position(|chain| issuer(chain).as_ref() == Some(wanted));
        if found.is_some() {
            return found;
        }
    }
    for wanted in &preference.any_common_name {
        let found =
            parsed.iter().position(|chain| chain.iter().any(|(_, issuer)| issuer == wanted));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Subject and issuer common names, leaf first.
fn names(chain: &str) -> Vec<(Vec<String>, String)> {
    let certificates = parse_chain(chain.as_bytes()).unwrap_or_default();
    certificates
        .iter()
        .filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let common = |name: &x509_parser::x509::X509Name<'_>| {
                let names = name.iter_common_name().filter_map(|name| name.as_str().ok());
                names.map(str::to_owned).collect::<Vec<_>>()
            };
            let issuer = common(certificate.issuer()).pop().unwrap_or_default();
            Some((common(certificate.subject()), issuer))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use caddis_config::tls::ChainPreference;

    use super::choose;

    fn chain(root: &str, extra: bool) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, root);
        let one = params.self_signed(&key).unwrap().pem();
        if extra { format!("{one}{one}") } else { one }
    }

    #[test]
    fn preferences() {
        let chains = [chain("Old Root", true), chain("New Root", false)];
        let pick = |preference: ChainPreference| choose(&preference, &chains);
        let none = ChainPreference::default();
        assert_eq!(pick(none.clone()), None);
        assert_eq!(pick(ChainPreference { smallest: Some(true), ..none.clone() }), Some(1));
        let root = vec!["Nothing".to_owned(), "New Root".to_owned()];
        assert_eq!(pick(ChainPreference { root_common_name: root, ..none.clone() }), Some(1));
        let any = vec!["Old Root".to_owned()];
        assert_eq!(pick(ChainPreference { any_common_name: any, ..none }), Some(0));
    }
}
