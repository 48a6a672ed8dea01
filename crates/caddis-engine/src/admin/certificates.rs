//! `GET /tls/certificates`: names, issuers, times and last errors of all certificates; and the same
//! as metrics.

use std::collections::BTreeMap;

use caddis_tls::CertManager;
use http::{Method, StatusCode};

use super::{Answer, ApiError, json_response, method_not_allowed};

/// Answers with all certificates.
pub(crate) fn answer<'a>(
    managers: impl Iterator<Item = &'a CertManager>,
    method: &Method,
) -> Answer {
    if method != Method::GET {
        return Err(method_not_allowed());
    }
    let report: Vec<_> = managers.flat_map(CertManager::report).collect();
    let json = serde_json::to_value(report)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(json_response(&json))
}

/// The text exposition of expiry times and of issues.
pub(crate) fn metrics(manager: Option<&CertManager>) -> String {
    let Some(manager) = manager else { return String::new() };
    let (issued, failed) = manager.counts();
    let mut out = format!(
        "# HELP caddis_tls_certificate_failures_total Failed attempts to get a certificate.\n\
         # TYPE caddis_tls_certificate_failures_total counter\n\
         caddis_tls_certificate_failures_total {failed}\n\
         # HELP caddis_tls_certificates_issued_total Certificates that issuers gave.\n\
         # TYPE caddis_tls_certificates_issued_total counter\n\
         caddis_tls_certificates_issued_total {issued}\n"
    );
    let report = manager.report();
    if report.is_empty() {
        return out;
    }
    // Names without a certificate have no time at which it expires.
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for certificate in &report {
        *counts.entry((certificate.kind, certificate.status)).or_default() += 1;
    }
    out.push_str(
        "# HELP caddis_tls_certificates Certificates, and names without one, by their status.\n\
         # TYPE caddis_tls_certificates gauge\n",
    );
    for ((kind, status), count) in counts {
        let labels = format!("kind=\"{kind}\",status=\"{status}\"");
        out.push_str(&format!("caddis_tls_certificates{{{labels}}} {count}\n"));
    }
    out.push_str(
        "# HELP caddis_tls_certificate_expiry_timestamp_seconds When a certificate expires.\n\
         # TYPE caddis_tls_certificate_expiry_timestamp_seconds gauge\n",
    );
    let mut last = None;
    for certificate in report {
        let (Some(name), Some(expires)) = (certificate.names.first(), certificate.expires) else {
            continue;
        };
        let issuer = certificate.issuer.as_deref().unwrap_or_default();
        let labels = format!("name=\"{}\",issuer=\"{}\"", escaped(name), escaped(issuer));
        // A series is told once.
        if last.as_ref() != Some(&labels) {
            out.push_str(&format!(
                "caddis_tls_certificate_expiry_timestamp_seconds{{{labels}}} {expires}\n"
            ));
        }
        last = Some(labels);
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
