//! `certificate_selection`: which of several certificates a connection policy takes.
//!
//! JSON: `{"serial_number": ["…"], "subject_organization": ["…"], "public_key_algorithm": "ecdsa",
//! "any_tag": ["…"], "all_tags": ["…"]}`; all given conditions must hold.

use caddis_config::{ConfigError, tls::CustomCertSelectionPolicy};
use serde_json::Value;

use crate::certificate::{Certificate, PublicKeyAlgorithm};

/// The compiled conditions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selection {
    pub(crate) serial_number: Vec<String>,
    pub(crate) subject_organization: Vec<String>,
    pub(crate) algorithm: Option<PublicKeyAlgorithm>,
    pub(crate) any_tag: Vec<String>,
    pub(crate) all_tags: Vec<String>,
}

impl Selection {
    pub(crate) fn compile(config: &CustomCertSelectionPolicy) -> Result<Self, ConfigError> {
        for serial in &config.serial_number {
            if serial.is_empty() || !serial.bytes().all(|byte| byte.is_ascii_digit()) {
                let message = format!("invalid serial number: {serial}");
                return Err(ConfigError::new("serial_number", message));
            }
        }
        let algorithm = match &config.public_key_algorithm {
            None | Some(Value::Null) => None,
            Some(value) => algorithm(value).ok_or_else(|| {
                let message = format!("unrecognized public key algorithm: {value}");
                ConfigError::new("public_key_algorithm", message)
            })?,
        };
        Ok(Self {
            serial_number: config.serial_number.clone(),
            subject_organization: config.subject_organization.clone(),
            algorithm,
            any_tag: config.any_tag.clone(),
            all_tags: config.all_tags.clone(),
        })
    }

    /// Whether all conditions hold for a certificate.
    pub(crate) fn matches(&self, certificate: &Certificate) -> bool {
        let has = |tag: &String| certificate.tags.contains(tag);
        (self.serial_number.is_empty() || self.serial_number.contains(&certificate.serial))
            && (self.subject_organization.is_empty()
                || certificate
                    .organizations
                    .iter()
                    .any(|organization| self.subject_organization.contains(organization)))
            && self.algorithm.is_none_or(|algorithm| algorithm == certificate.algorithm)
            && (self.any_tag.is_empty() || self.any_tag.iter().any(has))
            && self.all_tags.iter().all(has)
    }
}

/// A name or Go's number; 0 means any.
fn algorithm(value: &Value) -> Option<Option<PublicKeyAlgorithm>> {
    let text = match value {
        Value::String(text) => text.to_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(match text.as_str() {
        "" | "0" => None,
        "rsa" | "1" => Some(PublicKeyAlgorithm::Rsa),
        "dsa" | "2" => Some(PublicKeyAlgorithm::Dsa),
        "ecdsa" | "3" => Some(PublicKeyAlgorithm::Ecdsa),
        "ed25519" | "4" => Some(PublicKeyAlgorithm::Ed25519),
        _ => return None,
    })
}
