//! A certificate of the local authority.

use std::{sync::Arc, time::Duration};

use super::{
    JobCx, ManagedSubject, Served,
    request::{pem_of, request as csr_of},
    stored,
};
use crate::{
    certificate::Certificate,
    error::Result,
    key,
    pki::{DEFAULT_CA, LeafRequest},
    storage::keys::SiteKeys,
    timestamp::Timestamp,
};

/// Lifetime of leaves, seconds (T149).
const LIFETIME: i64 = 12 * 60 * 60;

/// The issuer's settings.
pub(super) struct Request {
    ca: String,
    lifetime: i64,
    sign_with_root: bool,
}

impl Request {
    pub(super) fn new(ca: &str, lifetime: Option<Duration>, sign_with_root: bool) -> Self {
        let lifetime = lifetime
            .map_or(LIFETIME, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
            .max(1);
        Self { ca: ca_id(ca).to_owned(), lifetime, sign_with_root }
    }
}

/// The authority's id.
pub(in crate::automate) fn ca_id(id: &str) -> &str {
    if id.is_empty() { DEFAULT_CA } else { id }
}

pub(super) fn issue(
    cx: &JobCx,
    subject: &ManagedSubject,
    request: &Request,
    now: Timestamp,
) -> Result<Served> {
    let keys = SiteKeys::new(&request.ca, &subject.name);
    let authority = cx.pki.authority(&request.ca, now)?;
    let pair = subject.key_pair(&*cx.storage, &keys)?;
    let leaf = LeafRequest {
        names: vec![subject.name.clone()],
        lifetime: request.lifetime,
        sign_with_root: request.sign_with_root,
    };
    let issued = authority.issue(&leaf, &pair, now)?;
    let pem = key::to_pem(&pair);
    let certificate =
        Certificate::from_pem(issued.chain_pem.as_bytes(), pem.as_bytes(), Vec::new())?;
    let unstored = Some(stored::files(&subject.name, (&pem, &issued.chain_pem), None));
    let csr = if cx.wants_csr() { Some(pem_of(&csr_of(subject, &pair)?)) } else { None };
    Ok(Served {
        certificate: Arc::new(certificate),
        issuer: request.ca.clone(),
        directory: None,
        renewal_info: None,
        keys,
        unstored,
        csr: csr.map(String::into_boxed_str),
    })
}
