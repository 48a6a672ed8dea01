//! TLS-ALPN-01 (RFC 8737): a certificate for the protocol `acme-tls/1` that carries the answer.

use std::{net::IpAddr, sync::Arc};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

use super::{Challenges, Kind, Pending};
use crate::{
    certificate::provider,
    error::{Error, Result},
    key::KeyType,
};

const PROTOCOL: &[u8] = b"acme-tls/1";

/// Whether a client asks for a challenge's answer, and for which name.
pub fn is_challenge_hello(hello: &ClientHello<'_>) -> Option<String> {
    let mut protocols = hello.alpn()?;
    if protocols.next()? != PROTOCOL || protocols.next().is_some() {
        return None;
    }
    hello.server_name().map(str::to_lowercase)
}

impl Challenges {
    /// The configuration that answers the challenge of a name, where there is one.
    pub async fn tls_answer(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let pending = match self.here(name) {
            Some(pending) => Pending::clone(&pending),
            None => self.elsewhere(name).await?,
        };
        if pending.kind != Kind::TlsAlpn01.name() {
            return None;
        }
        match answer(&pending) {
            Ok(config) => {
                tracing::info!(
                    target: "tls.issuance.acme",
                    identifier = name,
                    challenge = Kind::TlsAlpn01.name(),
                    "served key authentication certificate"
                );
                Some(Arc::new(config))
            }
            Err(error) => {
                tracing::error!(target: "tls.issuance.acme", identifier = name, error = %error,
                    "making challenge certificate");
                None
            }
        }
    }
}

fn answer(pending: &Pending) -> Result<ServerConfig> {
    let key = KeyType::P256.generate()?;
    let mut params = CertificateParams::new(vec![pending.identifier.value.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(7);
    let digest = Sha256::digest(pending.key_authorization.as_bytes());
    params.custom_extensions.push(CustomExtension::new_acme_identifier(&digest));
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::try_from(key.serialized_der().to_vec()).map_err(Error::new)?;
    // Not looked at: what it holds is critical and known to authorities only.
    let signer = provider().key_provider.load_private_key(der)?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], signer);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(certified))));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The server name that stands for an address (RFC 8738).
pub(crate) fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let mut out = String::with_capacity(72);
            for byte in ip.octets().iter().rev() {
                out.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
            }
            out + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reverse_name;

    #[test]
    fn addresses_have_names() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        let six = reverse_name("2001:db8::1".parse().unwrap());
        assert!(six.starts_with("1.0.0.0.") && six.ends_with("8.b.d.0.1.0.0.2.ip6.arpa"), "{six}");
    }
}
