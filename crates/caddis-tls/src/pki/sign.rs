//! Making certificates: root, intermediate and leaf, with the extensions that Caddy's have.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::{
    certificate::provider,
    error::{Context, Error, Result},
    timestamp::Timestamp,
};

/// A wish for a leaf certificate.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// The subjects: DNS names, addresses, mail addresses, URIs.
    pub names: Vec<String>,
    /// Seconds of validity.
    pub lifetime: i64,
    /// Sign with the root itself.
    pub sign_with_root: bool,
}

/// An issued leaf.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf and issuers, PEM.
    pub chain_pem: String,
    /// End of validity.
    pub not_after: Timestamp,
}

/// A self-signed root.
pub(super) fn root(
    name: &str,
    key: &KeyPair,
    now: Timestamp,
    lifetime: i64,
) -> Result<CertificateDer<'static>> {
    let params = authority(name, 1, now, now.saturating_add(lifetime))?;
    Ok(params.self_signed(key)?.der().clone())
}

/// An intermediate under a root.
pub(super) fn intermediate(
    name: &str,
    key: &KeyPair,
    root: &Issuer<'_, KeyPair>,
    (now, not_after): (Timestamp, Timestamp),
) -> Result<CertificateDer<'static>> {
    let mut params = authority(name, 0, now, not_after)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, root)?.der().clone())
}

/// A leaf for servers and clients.
pub(super) fn leaf(
    names: &[String],
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
    (now, not_after): (Timestamp, Timestamp),
) -> Result<CertificateDer<'static>> {
    let mut params = base(now, not_after)?;
    for name in names {
        params.subject_alt_names.push(san(name)?);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions.push(subject_key_identifier(&params.key_identifier(key))?);
    Ok(params.signed_by(key, issuer)?.der().clone())
}

/// The extension that tells keys of the same name apart.
fn subject_key_identifier(id: &[u8]) -> Result<CustomExtension> {
    let length = u8::try_from(id.len()).ok().filter(|length| *length < 0x80);
    let length = length.ok_or_else(|| Error::new("key identifier is too long"))?;
    let content = [&[0x04, length], id].concat();
    Ok(CustomExtension::from_oid_content(&[2, 5, 29, 14], content))
}

fn authority(name: &str, depth: u8, now: Timestamp, end: Timestamp) -> Result<CertificateParams> {
    let mut params = base(now, end)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn base(now: Timestamp, end: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date(now)?;
    params.not_after = date(end)?;
    let mut serial = [0u8; 16];
    provider().secure_random.fill(&mut serial).map_err(|_| Error::new("no random numbers"))?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn date(at: Timestamp) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at).context("certificate lifetime out of range")
}

fn san(name: &str) -> Result<SanType> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let text = name.try_into().context(format!("certificate subject {name:?}"))?;
    Ok(if name.contains("://") {
        SanType::URI(text)
    } else if name.contains('@') {
        SanType::Rfc822Name(text)
    } else {
        SanType::DnsName(text)
    })
}
