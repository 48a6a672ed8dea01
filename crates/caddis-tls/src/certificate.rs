//! A parsed chain with its key, and what is chosen by: names, validity, tags.

use std::sync::Arc;

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::{
    error::{Context, Error, Result},
    key,
    timestamp::{self, Timestamp},
};

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Chain and key for rustls.
    pub key: Arc<CertifiedKey>,
    /// Lower-case names: DNS names, addresses, mail addresses, URIs; the common name first.
    pub names: Vec<String>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Marks for certificate selection.
    pub tags: Vec<String>,
    /// The serial number, decimal.
    pub serial: String,
    /// The subject's organisations.
    pub organizations: Vec<String>,
    /// The kind of public key, as `certificate_selection` names it.
    pub algorithm: PublicKeyAlgorithm,
    /// Whether clients are to refuse it without a staple (RFC 7633).
    pub must_staple: bool,
    /// SHA-256 of the leaf.
    pub fingerprint: [u8; 32],
}

/// Kinds of public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKeyAlgorithm {
    /// Go's number 1.
    Rsa,
    /// Go's number 2.
    Dsa,
    /// Go's number 3.
    Ecdsa,
    /// Go's number 4.
    Ed25519,
    /// None of them.
    Unknown,
}

impl Certificate {
    /// A certificate from separate PEM texts of chain and key.
    pub fn from_pem(chain: &[u8], key: &[u8], tags: Vec<String>) -> Result<Self> {
        let key = key::from_pem(key)?;
        Self::new(parse_chain(chain)?, key, tags)
    }

    /// A certificate from one PEM text that holds chain and key (T166).
    pub fn from_bundle(bundle: &[u8], tags: Vec<String>) -> Result<Self> {
        let mut chain = Vec::new();
        let mut private_key = None;
        for block in pem::parse_many(bundle).map_err(Error::new)? {
            match block.tag() {
                "CERTIFICATE" => chain.push(CertificateDer::from(block.into_contents())),
                "EC PARAMETERS" => {}
                tag if tag.ends_with("PRIVATE KEY") => {
                    if private_key.is_none() {
                        private_key = Some(key::from_block(block)?);
                    }
                }
                tag => return Err(Error::new(format!("unrecognized PEM block type: {tag}"))),
            }
        }
        if chain.is_empty() {
            return Err(Error::new("failed to parse PEM data"));
        }
        let key = private_key.ok_or_else(|| Error::new("no private key block found"))?;
        Self::new(chain, key, tags)
    }

    /// A certificate from parsed parts; the key must belong to the leaf.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        tags: Vec<String>,
    ) -> Result<Self> {
        let leaf = chain.first().ok_or_else(|| Error::new("no certificate found"))?;
        let facts = Facts::parse(leaf)?;
        let fingerprint = Sha256::digest(leaf.as_ref()).into();
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .context("private key does not match public key or is not supported")?;
        Ok(Self {
            key: Arc::new(certified),
            names: facts.names,
            not_before: facts.not_before,
            not_after: facts.not_after,
            tags,
            serial: facts.serial,
            organizations: facts.organizations,
            algorithm: facts.algorithm,
            must_staple: facts.must_staple,
            fingerprint,
        })
    }

    /// Whether the leaf is past its validity.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    /// Whether the leaf becomes valid only later than clocks differ: it was made by a clock that
    /// was ahead.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        timestamp::is_ahead(self.not_before, now)
    }

    /// Whether the leaf names this subject itself; wildcards are names as any other.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The crypto provider of the whole process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use std::sync::OnceLock;
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// The certificates of a PEM text, other blocks left out.
pub(crate) fn parse_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = pem::parse_many(text)
        .map_err(Error::new)?
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    if chain.is_empty() {
        return Err(Error::new("no certificate found"));
    }
    Ok(chain)
}

/// What is read from a certificate.
pub(crate) struct Facts {
    pub(crate) names: Vec<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) common_name: String,
    pub(crate) serial: String,
    organizations: Vec<String>,
    algorithm: PublicKeyAlgorithm,
    must_staple: bool,
}

impl Facts {
    pub(crate) fn parse(der: &[u8]) -> Result<Self> {
        let (_, x509) = X509Certificate::from_der(der)
            .map_err(|error| Error::new(format!("malformed certificate: {error}")))?;
        let common_name = x509
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned();
        let mut names = Vec::new();
        if !common_name.is_empty() {
            names.push(common_name.to_lowercase());
        }
        for name in san(&x509) {
            let name = name.to_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let organizations = x509.subject().iter_organization();
        Ok(Self {
            names,
            not_before: x509.validity().not_before.timestamp(),
            not_after: x509.validity().not_after.timestamp(),
            common_name,
            serial: decimal(x509.raw_serial()),
            organizations: organizations
                .filter_map(|name| name.as_str().ok())
                .map(str::to_owned)
                .collect(),
            algorithm: match x509.public_key().algorithm.algorithm.to_id_string().as_str() {
                "1.2.840.113549.1.1.1" => PublicKeyAlgorithm::Rsa,
                "1.2.840.10040.4.1" => PublicKeyAlgorithm::Dsa,
                "1.2.840.10045.2.1" => PublicKeyAlgorithm::Ecdsa,
                "1.3.101.112" => PublicKeyAlgorithm::Ed25519,
                _ => PublicKeyAlgorithm::Unknown,
            },
            must_staple: x509.extensions().iter().any(|extension| {
                extension.oid.to_id_string() == TLS_FEATURE && features(extension.value)
            }),
        })
    }
}

/// The extension of features that a server has to show (RFC 7633 §4.1).
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";

/// Whether status_request (5) is among the features: a sequence of small integers.
fn features(value: &[u8]) -> bool {
    let Some((0x30, mut rest, _)) = key::tlv(value) else { return false };
    while let Some((0x02, feature, next)) = key::tlv(rest) {
        if feature == [5] {
            return true;
        }
        rest = next;
    }
    false
}

fn san(x509: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = x509.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(general_name).collect()
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    }
}

/// An address from its octets.
pub(crate) fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}

/// A big-endian number in decimal; long ones (no certificate has them) are cut.
pub(crate) fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in bytes.iter().take(64) {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 10) as u8;
            carry /= 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Certificate, decimal, parse_chain};
    use crate::key::{KeyType, to_pem};

    #[test]
    fn serials_are_decimal() {
        assert_eq!(decimal(&[0x10, 0x02]), "4098");
        assert_eq!(decimal(&[0]), "0");
        assert_eq!(decimal(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), "18446744073709551616");
    }

    #[test]
    fn staples_that_are_a_must() {
        for (feature, want) in [
            (Some(&[0x30, 0x03, 0x02, 0x01, 0x05][..]), true),
            (Some(&[0x30, 0x06, 0x02, 0x01, 0x11, 0x02, 0x01, 0x05]), true),
            (Some(&[0x30, 0x03, 0x02, 0x01, 0x11]), false),
            (Some(&[0x30]), false),
            (None, false),
        ] {
            let key = KeyType::P256.generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.custom_extensions.extend(feature.map(|content| {
                let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
                rcgen::CustomExtension::from_oid_content(&oid, content.to_vec())
            }));
            let chain = params.self_signed(&key).unwrap().pem();
            let certificate =
                Certificate::from_pem(chain.as_bytes(), to_pem(&key).as_bytes(), vec![]).unwrap();
            assert_eq!(certificate.must_staple, want, "{feature:?}");
        }
    }

    #[test]
    fn bundles_hold_chain_and_key() {
        let key = KeyType::P256.generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["A.test".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let bundle = format!("{chain}\n{}", to_pem(&key));
        let certificate = Certificate::from_bundle(bundle.as_bytes(), Vec::new()).unwrap();
        assert!(certificate.covers("a.test"));
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let with_parameters = format!("{parameters}{}{chain}", to_pem(&key));
        Certificate::from_bundle(with_parameters.as_bytes(), Vec::new()).unwrap();
        let other = to_pem(&KeyType::P256.generate().unwrap());
        assert!(Certificate::from_pem(chain.as_bytes(), other.as_bytes(), vec![]).is_err());
        assert!(Certificate::from_bundle(chain.as_bytes(), Vec::new()).is_err());
        let odd = format!("{bundle}-----BEGIN X-----\nAAAA\n-----END X-----\n");
        let error = Certificate::from_bundle(odd.as_bytes(), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "unrecognized PEM block type: X");
        assert!(parse_chain(b"nothing").is_err());
    }
}
