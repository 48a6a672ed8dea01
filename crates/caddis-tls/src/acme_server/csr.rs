//! The request of a certificate (RFC 8555 §7.4, RFC 2986).

use std::net::IpAddr;

use rcgen::SubjectPublicKeyInfo;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    public_key::PublicKey,
};

use super::{book::Identifier, jws::Jwk, problem::Problem};
use crate::certificate;

/// What a request says.
pub(super) struct Csr {
    /// Sorted, each once.
    pub(super) names: Vec<Identifier>,
    /// Whom the certificate is for.
    pub(super) key: SubjectPublicKeyInfo,
    /// The same as accounts have keys.
    pub(super) jwk: Option<Jwk>,
}

impl Csr {
    /// Reads a request and checks its signature.
    pub(super) fn parse(der: &[u8]) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(400, "badCSR", detail);
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|error| bad(format!("malformed certificate request: {error}")))?;
        if !rest.is_empty() {
            return Err(bad("malformed certificate request: trailing bytes".into()));
        }
        request.verify_signature().map_err(|_| bad("signature does not verify".into()))?;
        let info = &request.certification_request_info;
        if let Ok(PublicKey::RSA(key)) = info.subject_pki.parsed()
            && key.key_size() < 2048
        {
            return Err(bad("RSA key has fewer than 2048 bits".into()));
        }
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|error| bad(format!("public key: {error}")))?;
        let mut names = Vec::new();
        for name in info.subject.iter_common_name() {
            let name = name.as_str().map_err(|error| bad(error.to_string()))?;
            names.push(match name.parse::<IpAddr>() {
                Ok(ip) => Identifier::Ip(ip),
                Err(_) => Identifier::Dns(name.to_ascii_lowercase()),
            });
        }
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(alternative) = extension else { continue };
            for name in &alternative.general_names {
                names.push(identifier(name).ok_or_else(|| {
                    bad("only names of hosts and addresses can be asked for".into())
                })?);
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(Self { names, key, jwk: Jwk::of_certificate(&info.subject_pki) })
    }
}

fn identifier(name: &GeneralName<'_>) -> Option<Identifier> {
    match name {
        GeneralName::DNSName(name) => Some(Identifier::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => certificate::address(bytes).map(Identifier::Ip),
        _ => None,
    }
}
