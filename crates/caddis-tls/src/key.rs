//! Private keys: making them, and PEM in the forms that Go writes (`EC PRIVATE KEY` for curves).

use rcgen::{KeyPair, RsaKeySize};
use rustls_pki_types::PrivateKeyDer;

use crate::error::{Error, Result};

/// The kinds of keys for managed certificates (`key_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyType {
    /// `ed25519`.
    Ed25519,
    /// `p256`, the default.
    #[default]
    P256,
    /// `p384`.
    P384,
    /// `rsa2048`.
    Rsa2048,
    /// `rsa4096`.
    Rsa4096,
}

impl KeyType {
    /// The kind with this name; the default for no name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" | "p256" => Self::P256,
            "p384" => Self::P384,
            "ed25519" => Self::Ed25519,
            "rsa2048" => Self::Rsa2048,
            "rsa4096" => Self::Rsa4096,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa4096 => "rsa4096",
        }
    }

    /// Makes a key.
    pub(crate) fn generate(self) -> Result<KeyPair> {
        Ok(match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
            Self::Rsa2048 => rsa(RsaKeySize::_2048)?,
            Self::Rsa4096 => rsa(RsaKeySize::_4096)?,
        })
    }
}

fn rsa(size: RsaKeySize) -> Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)?)
}

/// The key as PEM.
pub(crate) fn to_pem(key: &KeyPair) -> String {
    pkcs8_to_pem(key.serialized_der())
}

/// A key in PKCS #8 as PEM.
pub(crate) fn pkcs8_to_pem(der: &[u8]) -> String {
    match sec1(der) {
        Some(sec1) => encode("EC PRIVATE KEY", &sec1),
        None => encode("PRIVATE KEY", der),
    }
}

/// PKCS #8 form of a P-256 key in RFC 5915 form; none for other curves.
pub(crate) fn p256_pkcs8(sec1: &[u8]) -> Option<Vec<u8>> {
    const ALGORITHM: &[u8] = &[
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let curve = &ALGORITHM[11..];
    let (0x30, parts, _) = tlv(sec1)? else { return None };
    let mut out = vec![0x02, 0x01, 0x00];
    out.extend(ALGORITHM);
    // The curve is told by the algorithm; beside the key it is left out.
    let mut inner = Vec::new();
    let mut rest = parts;
    let mut p256 = false;
    while let Some((tag, value, next)) = tlv(rest) {
        match tag {
            0xa0 if value != curve => return None,
            0xa0 => p256 = true,
            0x04 if value.len() != 32 => return None,
            _ => inner.extend(&rest[..rest.len() - next.len()]),
        }
        rest = next;
    }
    if !p256 {
        return None;
    }
    out.extend(wrap(0x04, &wrap(0x30, &inner)?)?);
    wrap(0x30, &out)
}

/// Any DER as PEM with this label, lines ended by `\n`.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

/// The first private key of a PEM text.
pub(crate) fn from_pem(text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    let blocks = pem::parse_many(text).map_err(Error::new)?;
    let block = blocks
        .into_iter()
        .find(|block| block.tag().ends_with("PRIVATE KEY"))
        .ok_or_else(|| Error::new("no private key found"))?;
    from_block(block)
}

/// A private key from its PEM block.
pub(crate) fn from_block(block: pem::Pem) -> Result<PrivateKeyDer<'static>> {
    let encrypted = block.headers().get("Proc-Type").is_some_and(|kind| kind.contains("ENCRYPTED"));
    if encrypted || block.tag() == "ENCRYPTED PRIVATE KEY" {
        return Err(Error::new("encrypted private keys are not supported"));
    }
    PrivateKeyDer::try_from(block.into_contents())
        .map_err(|_| Error::new("unknown private key type"))
}

/// A key that can sign certificates.
pub(crate) fn signing_pair(text: &[u8]) -> Result<KeyPair> {
    Ok(KeyPair::try_from(&from_pem(text)?)?)
}

/// RFC 5915 form of a curve key in PKCS #8; none for other keys.
fn sec1(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (0x30, body, _) = tlv(pkcs8)? else { return None };
    let (0x02, _, rest) = tlv(body)? else { return None };
    let (0x30, algorithm, rest) = tlv(rest)? else { return None };
    let (0x04, inner, _) = tlv(rest)? else { return None };
    let (0x06, _, curve) = tlv(algorithm)? else { return None };
    let (0x06, _, b"") = tlv(curve)? else { return None };
    let (0x30, parts, _) = tlv(inner)? else { return None };
    let (0x02, _, rest) = tlv(parts)? else { return None };
    let (0x04, _, after) = tlv(rest)? else { return None };
    let head = &parts[..parts.len() - after.len()];
    let mut content = head.to_vec();
    content.extend(wrap(0xa0, curve)?);
    let mut rest = after;
    while let Some((tag, value, next)) = tlv(rest) {
        if tag == 0xa1 {
            content.extend(wrap(0xa1, value)?);
        }
        rest = next;
    }
    wrap(0x30, &content)
}

/// One DER value: tag, content, what follows.
pub(crate) fn tlv(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 if rest.len() >= 2 => {
            (usize::from(rest[0]) << 8 | usize::from(rest[1]), rest.get(2..)?)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

pub(crate) fn wrap(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(u8::try_from(length).ok()?),
        length @ 0x80..=0xff => out.extend([0x81, u8::try_from(length).ok()?]),
        length => {
            out.push(0x82);
            out.extend(u16::try_from(length).ok()?.to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{KeyType, from_pem, signing_pair, to_pem};

    #[test]
    fn keys_survive_their_pem() {
        for (kind, label) in [
            (KeyType::P256, "EC PRIVATE KEY"),
            (KeyType::P384, "EC PRIVATE KEY"),
            (KeyType::Ed25519, "PRIVATE KEY"),
        ] {
            let key = kind.generate().unwrap();
            let pem = to_pem(&key);
            assert!(pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{pem}");
            let again = signing_pair(pem.as_bytes()).unwrap();
            assert_eq!(again.public_key_raw(), key.public_key_raw());
        }
    }

    #[test]
    fn broken_keys_are_refused() {
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ] {
            assert!(signing_pair(text.as_bytes()).is_err(), "{text}");
        }
        assert!(from_pem(b"-----BEGIN").is_err());
    }
}
