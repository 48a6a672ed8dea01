//! OCSP requests and responses (RFC 6960): just the parts that a server needs.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use time::{PrimitiveDateTime, macros::format_description};
use x509_parser::{
    asn1_rs::BitString,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::Oid,
    prelude::{FromDer, X509Certificate},
    x509::AlgorithmIdentifier,
};

use crate::{
    error::{Error, Result},
    key::{tlv, wrap},
    timestamp::Timestamp,
};

/// What a responder says about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked(Revocation),
    Unknown,
}

/// When and why a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// The reason (RFC 5280 §5.3.1); 0 where none is given.
    pub(crate) reason: u8,
    pub(crate) at: Timestamp,
}

impl Revocation {
    /// Whether others may have the key.
    pub(crate) fn is_of_key(self) -> bool {
        self.reason == 1
    }
}

/// A response that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: Status,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Option<Timestamp>,
    /// The end of the certificate of who signed in the issuer's name.
    pub(super) signer_ends: Option<Timestamp>,
}

/// Where a certificate's status is told.
pub(super) fn responder(leaf: &[u8]) -> Option<String> {
    access(leaf, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1])
}

/// Where the issuer's certificate lies.
pub(super) fn issuer_url(leaf: &[u8]) -> Option<String> {
    access(leaf, &[0x2b, 6, 1, 5, 5, 7, 0x30, 2])
}

/// The first URL of a method of access (RFC 5280 §4.2.2.1).
fn access(leaf: &[u8], method: &[u8]) -> Option<String> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    leaf.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else {
            return None;
        };
        access.iter().find_map(|one| match &one.access_location {
            GeneralName::URI(url) if one.access_method == Oid::new(method.into()) => {
                Some((*url).to_owned())
            }
            _ => None,
        })
    })
}

fn bad(what: &str) -> Error {
    Error::new(format!("OCSP: {what}"))
}

fn sequence(parts: &[&[u8]]) -> Option<Vec<u8>> {
    wrap(0x30, &parts.concat())
}

/// The name of a certificate in OCSP: hashes of its issuer, and its serial number.
fn certificate_id(leaf: &[u8], issuer: &[u8]) -> Result<Vec<u8>> {
    const SHA1: &[u8] = &[0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(Error::new)?;
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(Error::new)?;
    let name = digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer.subject().as_raw());
    let key = digest(&SHA1_FOR_LEGACY_USE_ONLY, &issuer.public_key().subject_public_key.data);
    let hashes = wrap(0x04, name.as_ref()).zip(wrap(0x04, key.as_ref()));
    let serial = wrap(0x02, leaf.tbs_certificate.raw_serial());
    hashes
        .zip(serial)
        .and_then(|((name, key), serial)| sequence(&[SHA1, &name, &key, &serial]))
        .ok_or_else(|| bad("serial number too long"))
}

/// A request for one certificate.
pub(super) fn request(leaf: &[u8], issuer: &[u8]) -> Result<Vec<u8>> {
    let mut der = certificate_id(leaf, issuer)?;
    for _ in 0..4 {
        der = sequence(&[&der]).ok_or_else(|| bad("request too long"))?;
    }
    Ok(der)
}

/// Reads a response: it must be signed for the issuer, and be about the certificate.
pub(super) fn parse(response: &[u8], leaf: &[u8], issuer: &[u8]) -> Result<Response> {
    let malformed = || bad("malformed response");
    let basic = basic(response)?;
    let (tbs, signed, certificates) = parts(basic).ok_or_else(malformed)?;
    let signer_ends = verify(signed, certificates, issuer)?;
    let id = certificate_id(leaf, issuer)?;
    let (_, wanted, _) = tlv(&id).ok_or_else(malformed)?;
    let answer = single(tbs, Some(wanted)).ok_or_else(malformed)?;
    let answer = answer.ok_or_else(|| bad("no answer for the certificate"))?;
    Ok(Response { signer_ends, ..answer })
}

/// Reads the first answer of a response without looking at its signature.
pub(super) fn read(response: &[u8]) -> Option<Response> {
    let (tbs, _, _) = parts(basic(response).ok()?)?;
    single(tbs, None)?
}

fn basic(response: &[u8]) -> Result<&[u8]> {
    const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let read = || {
        let (0x30, body, _) = tlv(response)? else { return None };
        let (0x0a, status, rest) = tlv(body)? else { return None };
        if status != [0] {
            return Some(Err(bad(&format!("responder's status {status:?}"))));
        }
        let (0xa0, bytes, _) = tlv(rest)? else { return None };
        let (0x30, bytes, _) = tlv(bytes)? else { return None };
        let (0x06, kind, rest) = tlv(bytes)? else { return None };
        let (0x04, basic, _) = tlv(rest)? else { return None };
        (kind == BASIC).then_some(Ok(basic))
    };
    read().unwrap_or_else(|| Err(bad("malformed response")))
}

/// What is signed, the algorithm, the signature.
type Signed<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The content of the signed part, the signature, the certificates beside.
type Parts<'a> = (&'a [u8], Signed<'a>, Option<&'a [u8]>);

/// The content of the signed part, what its signature is made of, and the certificates beside.
fn parts(basic: &[u8]) -> Option<Parts<'_>> {
    let (0x30, all, _) = tlv(basic)? else { return None };
    let (0x30, tbs, rest) = tlv(all)? else { return None };
    let raw = &all[..all.len() - rest.len()];
    let (0x30, _, after) = tlv(rest)? else { return None };
    let algorithm = &rest[..rest.len() - after.len()];
    let (0x03, _, end) = tlv(after)? else { return None };
    let signature = &after[..after.len() - end.len()];
    let certificates = match tlv(end) {
        Some((0xa0, inside, _)) => Some(inside),
        _ => None,
    };
    Some((tbs, (raw, algorithm, signature), certificates))
}

/// The issuer signs itself, or has given a certificate to the one who does; the end of that one.
fn verify(
    signed: Signed<'_>,
    certificates: Option<&[u8]>,
    issuer: &[u8],
) -> Result<Option<Timestamp>> {
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(Error::new)?;
    let (raw, algorithm, signature) = signed;
    let (_, algorithm) = AlgorithmIdentifier::from_der(algorithm).map_err(Error::new)?;
    let (_, signature) = BitString::from_der(signature).map_err(Error::new)?;
    let check = |key: &x509_parser::x509::SubjectPublicKeyInfo<'_>| {
        x509_parser::verify::verify_signature(key, &algorithm, &signature, raw)
    };
    if check(issuer.public_key()).is_ok() {
        return Ok(None);
    }
    let delegate = certificates
        .and_then(|inside| tlv(inside))
        .and_then(|(_, list, _)| X509Certificate::from_der(list).ok())
        .map(|(_, delegate)| delegate)
        .ok_or_else(|| bad("bad signature"))?;
    let may_sign =
        delegate.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.ocsp_signing);
    if !may_sign || delegate.verify_signature(Some(issuer.public_key())).is_err() {
        return Err(bad("signed by somebody who may not"));
    }
    check(delegate.public_key()).map_err(|_| bad("bad signature"))?;
    Ok(Some(delegate.validity().not_after.timestamp()))
}

/// The answer for a certificate, or the first one; the inner none where there is no such answer.
fn single(tbs: &[u8], wanted: Option<&[u8]>) -> Option<Option<Response>> {
    let mut rest = tbs;
    // The version, who answers, and when, come before the answers.
    let mut answers = loop {
        let (tag, inside, next) = tlv(rest)?;
        if tag == 0x30 {
            break inside;
        }
        rest = next;
    };
    while !answers.is_empty() {
        let (0x30, one, next) = tlv(answers)? else { return None };
        answers = next;
        let (0x30, id, one) = tlv(one)? else { return None };
        if wanted.is_some_and(|wanted| !same_id(id, wanted)) {
            continue;
        }
        let (status, said, one) = tlv(one)?;
        let status = match status {
            0x80 => Status::Good,
            0xa1 => Status::Revoked(revocation(said)?),
            _ => Status::Unknown,
        };
        let (0x18, this_update, one) = tlv(one)? else { return None };
        let next_update = match tlv(one) {
            Some((0xa0, inside, _)) => Some(time_of(tlv(inside)?.1)?),
            _ => None,
        };
        let this_update = time_of(this_update)?;
        return Some(Some(Response { status, this_update, next_update, signer_ends: None }));
    }
    Some(None)
}

/// When, and perhaps why (RFC 6960 §4.2.1, `RevokedInfo`).
fn revocation(said: &[u8]) -> Option<Revocation> {
    let (0x18, at, rest) = tlv(said)? else { return None };
    let reason = match tlv(rest) {
        Some((0xa0, inside, _)) => match tlv(inside)? {
            (0x0a, [reason], _) => *reason,
            _ => return None,
        },
        _ => 0,
    };
    Some(Revocation { reason, at: time_of(at)? })
}

/// The same hashes and serial number; the algorithm's parameters may be left out.
fn same_id(one: &[u8], two: &[u8]) -> bool {
    let after_algorithm = |id| tlv(id).map(|(_, _, rest)| rest);
    match (after_algorithm(one), after_algorithm(two)) {
        (Some(one), Some(two)) => one == two,
        _ => false,
    }
}

fn time_of(text: &[u8]) -> Option<Timestamp> {
    let format = format_description!("[year][month][day][hour][minute][second]Z");
    let text = std::str::from_utf8(text).ok()?;
    let at = PrimitiveDateTime::parse(text, &format).ok()?;
    Some(at.assume_utc().unix_timestamp())
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{KeyPair, SigningKey};

    use super::{Revocation, Status, certificate_id, parse, request, sequence};
    use crate::key::wrap;

    /// A root with a leaf, DER.
    pub(in crate::ocsp) fn pair(key: &KeyPair) -> (Vec<u8>, Vec<u8>) {
        let mut root = rcgen::CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_der = root.self_signed(key).unwrap().der().to_vec();
        let issuer = rcgen::Issuer::from_params(&root, key);
        let leaf = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        (leaf.der().to_vec(), root_der)
    }

    /// A response signed by a P-256 key, from 2020 to 2040.
    pub(crate) fn response(leaf: &[u8], root: &[u8], key: &KeyPair, status: &[u8]) -> Vec<u8> {
        const ECDSA: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let id = certificate_id(leaf, root).unwrap();
        let time = |tag, text: &[u8]| wrap(tag, text).unwrap();
        let next = wrap(0xa0, &time(0x18, b"20400101000000Z")).unwrap();
        let one = sequence(&[&id, status, &time(0x18, b"20200101000000Z"), &next]).unwrap();
        let by = wrap(0xa2, &wrap(0x04, &[0; 20]).unwrap()).unwrap();
        let all = sequence(&[&one]).unwrap();
        let tbs = sequence(&[&by, &time(0x18, b"20200101000000Z"), &all]).unwrap();
        let mut signature = vec![0];
        signature.extend(key.sign(&tbs).unwrap());
        let basic = sequence(&[&tbs, ECDSA, &wrap(0x03, &signature).unwrap()]).unwrap();
        let kind = [0x06, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
        let bytes = sequence(&[&kind, &wrap(0x04, &basic).unwrap()]).unwrap();
        sequence(&[&[0x0a, 1, 0], &wrap(0xa0, &bytes).unwrap()]).unwrap()
    }

    #[test]
    fn responses_are_read_and_forged_ones_refused() {
        let key = KeyPair::generate().unwrap();
        let (leaf, root) = pair(&key);
        assert!(request(&leaf, &root).unwrap().len() > 70);
        let good = response(&leaf, &root, &key, &[0x80, 0]);
        let parsed = parse(&good, &leaf, &root).unwrap();
        assert_eq!(parsed.status, Status::Good);
        assert_eq!((parsed.this_update, parsed.next_update), (1_577_836_800, Some(2_208_988_800)));
        let when = wrap(0x18, b"20200101000000Z").unwrap();
        let revoked = response(&leaf, &root, &key, &wrap(0xa1, &when).unwrap());
        let of = |status: Vec<u8>| parse(&status, &leaf, &root).unwrap().status;
        let at = 1_577_836_800;
        assert_eq!(of(revoked), Status::Revoked(Revocation { reason: 0, at }));
        let why = [&when[..], &[0xa0, 3, 0x0a, 1, 1]].concat();
        let revoked = response(&leaf, &root, &key, &wrap(0xa1, &why).unwrap());
        assert_eq!(of(revoked), Status::Revoked(Revocation { reason: 1, at }));
        let stranger = response(&leaf, &root, &KeyPair::generate().unwrap(), &[0x80, 0]);
        assert!(parse(&stranger, &leaf, &root).is_err());
        let (other, _) = pair(&key);
        assert!(parse(&good, &other, &root).is_err(), "about another certificate");
        assert_eq!(super::read(&good).unwrap(), parsed);
        for cut in [0, 5, 40, good.len() - 1] {
            assert!(parse(&good[..cut], &leaf, &root).is_err());
        }
        assert!(parse(&[0x30, 3, 0x0a, 1, 6], &leaf, &root).is_err());
    }
}
