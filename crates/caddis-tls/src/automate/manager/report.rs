//! What is known about each certificate, for people.

use serde::Serialize;

use super::CertManager;
use crate::{
    automate::subject::State,
    certificate::Certificate,
    timestamp::{Timestamp, text},
};

/// A certificate, or a name that has none.
#[derive(Debug, Clone, Serialize)]
pub struct CertReport {
    /// The names.
    pub names: Vec<String>,
    /// `managed`, `on_demand` or `loaded`.
    pub kind: &'static str,
    /// `valid`, `obtaining`, `renewing`, `waiting`, `stuck`, `loading`, `expired`.
    pub status: &'static str,
    /// The issuer, as it is named in the storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Start of validity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// End of validity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When it will be renewed, or the next attempt made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What may be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<String>,
    /// End of validity, seconds since 1970.
    #[serde(skip)]
    pub expires: Option<Timestamp>,
}

impl CertManager {
    /// All certificates, sorted by name.
    pub fn report(&self) -> Vec<CertReport> {
        let now = self.now();
        let inner = self.lock();
        let mut all: Vec<CertReport> = Vec::with_capacity(inner.entries.len());
        for (name, entry) in &inner.entries {
            let certificate = entry.certificate();
            let expired =
                certificate.as_ref().is_some_and(|certificate| certificate.is_expired(now));
            let mut report = describe(certificate.as_deref());
            if report.names.is_empty() {
                report.names.push(name.clone());
            }
            report.kind = if entry.on_demand { "on_demand" } else { "managed" };
            report.status = match entry.state {
                _ if expired => "expired",
                State::Loading => "loading",
                State::Valid { .. } => "valid",
                State::Obtaining { .. } => "obtaining",
                State::Renewing { .. } => "renewing",
                State::Waiting { .. } => "waiting",
                State::Stuck { .. } => "stuck",
            };
            report.issuer = match &entry.served {
                Some(served) => Some(served.issuer.clone()),
                None => entry.subject.issuers.first().map(super::Issuer::storage_key),
            };
            report.next_attempt = entry.state.wake_at().map(text);
            report.failures = entry.state.failures();
            if let Some(last) = &entry.last_error {
                report.last_error = Some(last.error.clone());
                report.remedy = Some(last.remedy.clone()).filter(|remedy| !remedy.is_empty());
                report.last_error_at = Some(text(last.at));
            }
            all.push(report);
        }
        for certificate in &inner.loaded {
            let mut report = describe(Some(certificate));
            report.status = if certificate.is_expired(now) { "expired" } else { "valid" };
            all.push(report);
        }
        all.sort_by(|one, two| one.names.cmp(&two.names));
        all
    }
}

fn describe(certificate: Option<&Certificate>) -> CertReport {
    CertReport {
        names: certificate.map(|one| one.names.clone()).unwrap_or_default(),
        kind: "loaded",
        status: "valid",
        issuer: None,
        serial: certificate.map(|one| one.serial.clone()),
        not_before: certificate.map(|one| text(one.not_before)),
        not_after: certificate.map(|one| text(one.not_after)),
        next_attempt: None,
        failures: 0,
        last_error: None,
        remedy: None,
        last_error_at: None,
        expires: certificate.map(|one| one.not_after),
    }
}
