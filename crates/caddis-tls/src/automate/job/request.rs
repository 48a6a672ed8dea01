//! What an authority outside is sent: a key and a signing request, made once the storage is seen to
//! work.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::{JobCx, ManagedSubject, blocking};
use crate::{
    acme::Failure,
    error::Result,
    key,
    storage::{self, keys::SiteKeys},
};

/// A key with its request.
pub(super) struct Prepared {
    /// The request, DER.
    pub(super) csr: Vec<u8>,
    /// The key, PEM.
    pub(super) key: String,
}

impl Prepared {
    /// Sees that the storage works, and makes key and request.
    pub(super) async fn new(
        cx: &JobCx,
        subject: &Arc<ManagedSubject>,
        keys: &SiteKeys,
    ) -> std::result::Result<Self, Failure> {
        let (storage, subject, keys) = (cx.storage.clone(), subject.clone(), keys.clone());
        blocking(move || {
            // Before an authority is bothered.
            storage::probe(&*storage).map_err(|error| {
                let what = "failed storage check; storage is probably misconfigured";
                Failure::of_storage(what, &error)
            })?;
            let pair = subject.key_pair(&*storage, &keys)?;
            Ok(Self { csr: request(&subject, &pair)?, key: key::to_pem(&pair) })
        })
        .await?
    }
}

/// The request in PEM.
pub(super) fn pem_of(csr: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE REQUEST", csr), lines)
}

/// The request for a subject and its key, DER.
pub(super) fn request(subject: &ManagedSubject, pair: &KeyPair) -> Result<Vec<u8>> {
    let mut params = CertificateParams::new(vec![subject.name.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    if subject.must_staple {
        // RFC 7633: the feature status_request.
        let feature = vec![0x30, 0x03, 0x02, 0x01, 0x05];
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
        params.custom_extensions.push(CustomExtension::from_oid_content(&oid, feature));
    }
    Ok(params.serialize_request(pair)?.der().to_vec())
}
