//! Facts of a finished handshake, and the `{http.request.tls.client.*}` placeholders.

use std::rc::Rc;

use base64::{Engine, prelude::BASE64_STANDARD};
use caddis_core::{Exchange, TlsInfo, Value, exchange::PlaceholderSource};
use rustls::{CommonState, HandshakeKind, ServerConnection};
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::{certificate, key, names::distinguished_name, policy::suite_name};

/// The prefix of the placeholders about the client's certificate.
pub const CLIENT_PREFIX: &str = "http.request.tls.client.";

/// The facts of a connection whose handshake is done; whether its hello was hidden is for others
/// to add.
pub fn tls_info(connection: &ServerConnection) -> TlsInfo {
    info(connection, connection.server_name())
}

/// The facts of a QUIC connection whose handshake is done.
pub fn quic_tls_info(connection: &rustls::quic::ServerConnection) -> TlsInfo {
    info(connection, connection.server_name())
}

fn info(connection: &CommonState, server_name: Option<&str>) -> TlsInfo {
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    TlsInfo {
        version: connection.protocol_version().map_or(0, u16::from),
        cipher_suite: suite.map_or(0, u16::from),
        cipher_name: suite.map_or("", suite_name),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        ech: false,
        alpn: connection
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).as_ref().into())
            .unwrap_or_default(),
        server_name: server_name.unwrap_or_default().into(),
        client_certificates: connection
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.as_ref().to_vec())
            .collect(),
    }
}

/// A client's certificate as text.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificate {
    der: Vec<u8>,
    public_key: Vec<u8>,
    /// The subject, RFC 2253 style.
    pub subject: String,
    /// The issuer, RFC 2253 style.
    pub issuer: String,
    /// The subject's common name.
    pub common_name: String,
    /// The serial number, decimal.
    pub serial: String,
    dns_names: Vec<String>,
    emails: Vec<String>,
    ips: Vec<String>,
    uris: Vec<String>,
}

impl ClientCertificate {
    /// Reads the leaf that a client showed; none where it showed none.
    pub fn of(tls: &TlsInfo) -> Option<Self> {
        Self::parse(tls.client_certificates.first()?)
    }

    /// Reads a certificate.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, x509) = X509Certificate::from_der(der).ok()?;
        let mut parsed = Self {
            der: der.to_vec(),
            public_key: x509.public_key().subject_public_key.data.to_vec(),
            subject: distinguished_name(x509.subject()),
            issuer: distinguished_name(x509.issuer()),
            common_name: x509
                .subject()
                .iter_common_name()
                .last()
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            serial: certificate::decimal(x509.raw_serial()),
            ..Self::default()
        };
        if let Ok(Some(extension)) = x509.subject_alternative_name() {
            for name in &extension.value.general_names {
                parsed.add_name(name);
            }
        }
        Some(parsed)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(text) => self.dns_names.push((*text).to_owned()),
            GeneralName::RFC822Name(text) => self.emails.push((*text).to_owned()),
            GeneralName::URI(text) => self.uris.push((*text).to_owned()),
            GeneralName::IPAddress(bytes) => {
                self.ips.extend(certificate::address(bytes).map(|ip| ip.to_string()));
            }
            _ => {}
        }
    }

    /// The value of a placeholder, by the key after [`CLIENT_PREFIX`].
    pub fn value(&self, field: &str) -> Option<Value<'static>> {
        Some(match field {
            "fingerprint" => Value::string(sha256(&self.der)),
            "public_key" => Value::string(hex(&self.public_key)),
            "public_key_sha256" => Value::string(sha256(&self.public_key)),
            "issuer" => Value::string(self.issuer.as_str()),
            "serial" => Value::string(self.serial.as_str()),
            "subject" => Value::string(self.subject.as_str()),
            "certificate_pem" => Value::string(key::encode("CERTIFICATE", &self.der)),
            "certificate_der_base64" => Value::string(BASE64_STANDARD.encode(&self.der)),
            _ => return self.name(field.strip_prefix("san.")?),
        })
    }

    fn name(&self, field: &str) -> Option<Value<'static>> {
        let (kind, index) = field.split_once('.').unwrap_or((field, ""));
        let names = match kind {
            "dns_names" => &self.dns_names,
            "emails" => &self.emails,
            "ips" => &self.ips,
            "uris" => &self.uris,
            _ => return None,
        };
        if index.is_empty() {
            return Some(Value::List(names.clone()));
        }
        // Beyond the last there is nothing, which is a value, too; as in Caddy.
        let name = names.get(index.parse::<usize>().ok()?);
        Some(Value::string(name.map(String::as_str).unwrap_or_default()))
    }
}

/// Answers `{http.request.tls.client.*}` on one connection; add it to each of its exchanges.
#[derive(Debug)]
pub struct ClientPlaceholders(ClientCertificate);

impl ClientPlaceholders {
    /// The source for a connection; none where the client showed no certificate.
    pub fn of(tls: &TlsInfo) -> Option<Rc<dyn PlaceholderSource>> {
        ClientCertificate::of(tls).map(|client| Rc::new(Self(client)) as _)
    }
}

impl PlaceholderSource for ClientPlaceholders {
    fn value(&self, key: &str, _: &Exchange) -> Option<Value<'static>> {
        self.0.value(key.strip_prefix(CLIENT_PREFIX)?)
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::ClientCertificate;

    const ALICE: &str = "MIIB0DCCAXegAwIBAgICEAIwCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOQ2xpZW50IFRlc3QgQ0EwIBcNMjQwMTAxMDAwMDAwWhgPMjEyMzEyMzEyMzU5NTlaMCYxDjAMBgNVBAMMBWFsaWNlMRQwEgYDVQQKDAtDb25mb3JtYW5jZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBiklxd8EoE6brj48e20Y8JuOrWHYSxIqBLUa6AIDOZLY+Ihjjbz5lWvDTpyMwf7XSaSY1mru0cvZMmYtWogFNGjgZ8wgZwwCQYDVR0TBAIwADALBgNVHQ8EBAMCB4AwEwYDVR0lBAwwCgYIKwYBBQUHAwIwLQYDVR0RBCYwJIEQYWxpY2VAdXNlcnMudGVzdIIQYWxpY2UudXNlcnMudGVzdDAdBgNVHQ4EFgQU6W1wOunysOol+uA4sA1NYHTFTlgwHwYDVR0jBBgwFoAUTMnpmtbmxoLQAhTgh33B3O9yIVkwCgYIKoZIzj0EAwIDRwAwRAIgFiLde6Asu1wB95caNvs9pGjBIdracbzSRD6cVS6ZBxUCIBsB0zgf8ZfbyY6PCk66ZGcDJEl+8nZVG9al+PiCAE/U";

    #[test]
    fn placeholders_of_a_client() {
        let client = ClientCertificate::parse(&BASE64_STANDARD.decode(ALICE).unwrap()).unwrap();
        let cases = [
            ("subject", Some("CN=alice,O=Conformance")),
            ("issuer", Some("CN=Client Test CA")),
            ("serial", Some("4098")),
            (
                "fingerprint",
                Some("0f3ce676edf1fdb9a210c0391b2b6b6969361848d0bd5943547a71d5fb465de2"),
            ),
            (
                "public_key_sha256",
                Some("dd7f3f250d9cb268a9edd309b76ad482efe77031a02a037a409983e4ecf9c545"),
            ),
            ("certificate_der_base64", Some(ALICE)),
            ("san.dns_names", Some("[alice.users.test]")),
            ("san.dns_names.0", Some("alice.users.test")),
            ("san.dns_names.1", Some("")),
            ("san.dns_names.x", None),
            ("san.emails", Some("[alice@users.test]")),
            ("san.uris", Some("[]")),
            ("san.x", None),
            ("nothing", None),
        ];
        for (field, want) in cases {
            let value = client.value(field).map(|value| value.text().into_owned());
            assert_eq!(value.as_deref(), want, "{field}");
        }
        assert!(ClientCertificate::parse(b"garbage").is_none());
    }
}
