//! OCSP staples (T054, T092): got from the responder that a certificate names, kept in the storage
//! as Caddy keeps them (T131), renewed at half of their validity.

mod message;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use caddis_dns::http::HttpClient;
use http::{Request, header};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::{
    certificate::Certificate,
    error::{Context, Error, Result},
    index::{normalized, wildcards},
    key,
    storage::{Storage, keys},
    timestamp::Timestamp,
};
pub(crate) use message::Revocation;
use message::{Response, Status};

#[cfg(test)]
pub(crate) use message::tests::response;

/// Seconds until a responder that failed is asked again.
const AFTER_FAILURE: i64 = 10 * 60;
/// The same where clients refuse the certificate without a staple (RFC 7633).
const WHERE_DEMANDED: i64 = 60;
/// Staples are not served in their last seconds: until they are looked at again they would be over.
const MARGIN: i64 = 30;
/// Validity of a response that names no end.
const DEFAULT_VALIDITY: i64 = 24 * 60 * 60;

/// Certificates of shorter lifetimes are not worth a word about a responder that fails, as in Caddy.
const SHORT_LIVED: i64 = 7 * 24 * 60 * 60;

/// What an automation policy says of staples (T059).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StapleRule {
    /// The policy's subjects, with wildcards; all names if empty.
    pub subjects: Vec<String>,
    /// No staples (`disable_ocsp_stapling`).
    pub off: bool,
    /// Responders by those they replace; an empty one is not asked (`ocsp_overrides`).
    pub overrides: HashMap<String, String>,
}

/// What the policies say, in their order. As for all else the first one counts that has a name; the
/// name is a certificate's first, whoever made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StapleRules(Arc<[StapleRule]>);

impl StapleRules {
    /// Of all policies in their order.
    pub fn new(rules: Vec<StapleRule>) -> Self {
        let says = |rule: &StapleRule| rule.off || !rule.overrides.is_empty();
        // Nearly always they say nothing.
        if rules.iter().any(says) { Self(rules.into()) } else { Self::default() }
    }

    fn of(&self, certificate: &Certificate) -> Option<&StapleRule> {
        if self.0.is_empty() {
            return None;
        }
        let name = normalized(certificate.names.first()?);
        let is = |subject: &String| {
            let subject = normalized(subject);
            subject == name || wildcards(&name).any(|wide| wide == subject)
        };
        self.0.iter().find(|rule| rule.subjects.is_empty() || rule.subjects.iter().any(is))
    }
}

/// The staples of all certificates, by their fingerprints.
#[derive(Debug, Default)]
pub(crate) struct Staples {
    known: Mutex<HashMap<[u8; 32], Staple>>,
    client: HttpClient,
}

#[derive(Debug, Clone)]
struct Staple {
    /// The response; none where there is none (yet).
    der: Option<Vec<u8>>,
    expires: Timestamp,
    /// When the responder is to be asked; none where there is no responder.
    ask_at: Option<Timestamp>,
}

impl Staple {
    /// Whether it is to be served at this time.
    fn is_for(&self, now: Timestamp) -> bool {
        now < self.expires.saturating_sub(MARGIN)
    }
}

/// What came of looking after a certificate's staple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looked {
    /// Nothing changed.
    Same,
    /// There is a new staple to serve.
    New,
    /// The certificate was revoked.
    Revoked(Revocation),
}

impl Staples {
    /// The certificate with its staple, where there is one.
    pub(crate) fn staple(&self, certificate: Arc<Certificate>, now: Timestamp) -> Arc<Certificate> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let staple = known.get(&certificate.fingerprint);
        let der = staple.filter(|staple| staple.is_for(now)).and_then(|one| one.der.clone());
        if der == certificate.key.ocsp {
            return certificate;
        }
        let old = &certificate.key;
        let mut key = CertifiedKey::new(old.cert.clone(), old.key.clone());
        key.ocsp = der;
        Arc::new(Certificate { key: Arc::new(key), ..Certificate::clone(&certificate) })
    }

    /// Forgets all, so that they are looked at anew.
    pub(crate) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets certificates that are not served any more.
    pub(crate) fn retain(&self, served: &[Arc<Certificate>]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > served.len() {
            let served: HashSet<_> = served.iter().map(|one| one.fingerprint).collect();
            known.retain(|print, _| served.contains(print));
        }
    }

    /// Whether there is something to do for a certificate.
    pub(crate) fn is_due(&self, certificate: &Certificate, now: Timestamp) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let staple = known.entry(certificate.fingerprint).or_insert_with(|| {
            let leaf = certificate.key.cert.first();
            let responder = leaf.and_then(|leaf| message::responder(leaf));
            // Where the chain has no issuer, the certificate may say where it is.
            let has_issuer = certificate.key.cert.len() > 1
                || leaf.is_some_and(|leaf| message::issuer_url(leaf).is_some());
            let useful = responder.is_some() && has_issuer;
            Staple { der: None, expires: 0, ask_at: useful.then_some(now) }
        });
        staple.ask_at.is_some_and(|at| now >= at)
    }

    /// Whether there is a staple to serve with a certificate now.
    pub(crate) fn has(&self, certificate: &Certificate, now: Timestamp) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let staple = known.get(&certificate.fingerprint);
        staple.is_some_and(|staple| staple.der.is_some() && staple.is_for(now))
    }

    /// Whether a certificate is served with a staple that is over.
    pub(crate) fn has_lapsed(&self, certificate: &Certificate, now: Timestamp) -> bool {
        certificate.key.ocsp.is_some() && !self.has(certificate, now)
    }

    /// Gets a staple from the storage or the responder.
    pub(crate) async fn look(
        &self,
        certificate: &Certificate,
        storage: &Arc<dyn Storage>,
        rules: &StapleRules,
        now: Timestamp,
    ) -> Looked {
        let result = self.fetch(certificate, storage, rules, now).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(staple) = known.get_mut(&certificate.fingerprint) else { return Looked::Same };
        match result {
            Ok(None) => {
                staple.ask_at = None;
                Looked::Same
            }
            Ok(Some((der, response))) => {
                let (ask_at, expires) = times(&response);
                // Past its half is a stored one whose responder failed.
                let soonest = if ask_at <= now { AFTER_FAILURE } else { 60 };
                staple.ask_at = Some(ask_at.max(now.saturating_add(soonest)));
                if let Status::Revoked(revocation) = response.status {
                    staple.der = None;
                    return Looked::Revoked(revocation);
                }
                staple.expires = expires;
                staple.der = Some(der);
                Looked::New
            }
            Err(error) => {
                let lifetime = certificate.not_after.saturating_sub(certificate.not_before);
                if lifetime >= SHORT_LIVED || certificate.must_staple {
                    tracing::warn!(
                        target: "tls",
                        identifiers = certificate.names.join(","),
                        error = %error,
                        "stapling OCSP"
                    );
                }
                let has = staple.der.is_some() && staple.is_for(now);
                let urgent = certificate.must_staple && !has;
                let after = if urgent { WHERE_DEMANDED } else { AFTER_FAILURE };
                staple.ask_at = Some(now.saturating_add(after));
                Looked::Same
            }
        }
    }

    async fn fetch(
        &self,
        certificate: &Certificate,
        storage: &Arc<dyn Storage>,
        rules: &StapleRules,
        now: Timestamp,
    ) -> Result<Option<(Vec<u8>, Response)>> {
        let [leaf, rest @ ..] = &certificate.key.cert[..] else { return Ok(None) };
        let Some(mut url) = message::responder(leaf) else { return Ok(None) };
        let rule = rules.of(certificate);
        if rule.is_some_and(|rule| rule.off) {
            return Ok(None);
        }
        if let Some(other) = rule.and_then(|rule| rule.overrides.get(&url)) {
            if other.is_empty() {
                return Ok(None);
            }
            url.clone_from(other);
        }
        let place = storage_key(certificate);
        let (reading, key) = (storage.clone(), place.clone());
        let stored = tokio::task::spawn_blocking(move || reading.load(&key).ok()).await;
        let stored = stored.ok().flatten().and_then(|der| {
            let response = match rest.first() {
                Some(issuer) => message::parse(&der, leaf, issuer).ok()?,
                // It was looked at when it came.
                None => message::read(&der)?,
            };
            let usable = response.status == Status::Good
                && now < times(&response).1
                && outlived(&response, certificate).is_ok();
            usable.then_some((der, response))
        });
        if let Some(stored) = stored.clone().filter(|(_, response)| now < times(response).0) {
            return Ok(Some(stored));
        }
        let asked = async {
            let issuer = match rest.first() {
                Some(issuer) => issuer.clone(),
                None => self.issuer(leaf).await?,
            };
            let (der, response) = self.ask(&url, leaf, &issuer, now).await?;
            outlived(&response, certificate)?;
            Ok((der, response))
        };
        let asked: Result<_> = asked.await;
        match asked {
            Ok((der, response)) => {
                if response.status == Status::Good {
                    keep(storage, place, der.clone()).await;
                }
                Ok(Some((der, response)))
            }
            // One that is not fresh is as valid; the responder is asked again all the same.
            Err(error) => match stored {
                Some((der, response)) => {
                    tracing::warn!(
                        target: "tls",
                        identifiers = certificate.names.join(","),
                        error = %error,
                        "stapling OCSP: the stored response is used on"
                    );
                    Ok(Some((der, response)))
                }
                None => Err(error),
            },
        }
    }

    /// The issuer's certificate from where the leaf says that it is.
    async fn issuer(&self, leaf: &[u8]) -> Result<CertificateDer<'static>> {
        let url = message::issuer_url(leaf)
            .ok_or_else(|| Error::new("OCSP: no URL to issuing certificate"))?;
        let request = Request::get(&url).body(Bytes::new()).map_err(Error::new)?;
        let answer = self.client.send(request).await.context("getting issuer certificate")?;
        if !answer.status().is_success() {
            let message = format!("getting issuer certificate: {url}: HTTP {}", answer.status());
            return Err(Error::new(message));
        }
        Ok(CertificateDer::from(answer.into_body().to_vec()))
    }

    /// Asks a responder.
    async fn ask(
        &self,
        url: &str,
        leaf: &[u8],
        issuer: &[u8],
        now: Timestamp,
    ) -> Result<(Vec<u8>, Response)> {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/ocsp-request")
            .body(Bytes::from(message::request(leaf, issuer)?))
            .map_err(Error::new)?;
        let answer = self.client.send(request).await.context("making OCSP request")?;
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(Error::new(format!("OCSP: the responder {url} answers HTTP {status}")));
        }
        let der = answer.into_body().to_vec();
        let response = message::parse(&der, leaf, issuer)?;
        if response.status == Status::Unknown {
            return Err(Error::new("OCSP: the responder does not know the certificate"));
        }
        if now >= times(&response).1 {
            return Err(Error::new("OCSP: the response has expired"));
        }
        Ok((der, response))
    }
}

/// Stores a response for the next start, and for others.
async fn keep(storage: &Arc<dyn Storage>, place: String, content: Vec<u8>) {
    let writing = storage.clone();
    let stored = tokio::task::spawn_blocking(move || writing.store(&place, &content)).await;
    if let Ok(Err(error)) = stored {
        tracing::warn!(target: "tls", %error, "storing OCSP staple");
    }
}

/// When to ask again, and when a response is over. One whose signer's certificate ends before it is
/// asked for at the half of that.
fn times(response: &Response) -> (Timestamp, Timestamp) {
    let from = response.this_update;
    let end = response.next_update.unwrap_or(from.saturating_add(DEFAULT_VALIDITY));
    let fresh = response.signer_ends.map_or(end, |signer| signer.min(end));
    (from.saturating_add(fresh.saturating_sub(from) / 2), end)
}

/// A response that says "good" beyond the end of the certificate is bogus, and clients choke on it.
fn outlived(response: &Response, certificate: &Certificate) -> Result<()> {
    let beyond = response.next_update.is_some_and(|end| end > certificate.not_after);
    if response.status == Status::Good && beyond {
        return Err(Error::new("OCSP: the response is valid after certificate expiration"));
    }
    Ok(())
}

/// When a stored response is over; none where it is no response.
pub(crate) fn ends(der: &[u8]) -> Option<Timestamp> {
    message::read(der).map(|response| times(&response).1)
}

/// `ocsp/<first name>-<hash of the PEM>`.
pub(crate) fn storage_key(certificate: &Certificate) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for der in &certificate.key.cert {
        for byte in key::encode("CERTIFICATE", der).bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    let name = certificate.names.first().map(|name| keys::safe(name) + "-").unwrap_or_default();
    format!("ocsp/{name}{hash:x}")
}

#[cfg(test)]
mod tests {
    use super::{
        message::{self, Status},
        times,
    };

    #[test]
    fn staples_are_renewed_at_half_time() {
        let response = |next_update| message::Response {
            status: Status::Good,
            this_update: 1_000,
            next_update,
            signer_ends: None,
        };
        assert_eq!(times(&response(Some(3_000))), (2_000, 3_000));
        let mut brief = response(Some(3_000));
        brief.signer_ends = Some(1_400);
        assert_eq!(times(&brief), (1_200, 3_000));
        assert_eq!(times(&response(None)), (44_200, 87_400));
    }
}
