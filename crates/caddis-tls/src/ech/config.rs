//! `ECHConfig`: what a client needs for hiding its hello (RFC 9849 §4).
//!
//! One key exchange, X25519 with SHA-256, and the three ciphers of HPKE: what Caddy makes and what
//! Go's server takes, so that a storage can be shared and changed over.

use rustls::crypto::{
    aws_lc_rs::hpke,
    hpke::{Hpke, HpkePrivateKey, HpkePublicKey},
};

use crate::error::{Context, Error, Result};

/// The version, which is the number of the extension as well.
pub(super) const VERSION: u16 = 0xfe0d;
/// DHKEM(X25519, HKDF-SHA256) of RFC 9180 §7.1.
const KEM: u16 = 0x0020;
/// HKDF-SHA256 of RFC 9180 §7.2.
pub(super) const KDF: u16 = 0x0001;
/// AES-128-GCM, AES-256-GCM and ChaCha20Poly1305 of RFC 9180 §7.3.
const CIPHERS: [u16; 3] = [0x0001, 0x0002, 0x0003];
/// How much longer than the public name a hidden name may be before its length shows: Caddy's
/// allowance.
const NAME_ALLOWANCE: usize = 16;

/// A configuration as it is published, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchConfig {
    /// The number by which clients say what they used. Others may have the same.
    pub id: u8,
    /// The name that is sent in clear.
    pub public_name: String,
    bytes: Vec<u8>,
}

impl EchConfig {
    /// A configuration with a key of its own.
    ///
    /// # Errors
    /// A name that is empty or longer than 255 octets; no randomness.
    pub fn generate(id: u8, public_name: &str) -> Result<(Self, HpkePrivateKey)> {
        let Ok(name_length @ 1..) = u8::try_from(public_name.len()) else {
            return Err(Error::new(format!(
                "public name {public_name:?} has {} octets: 1 to 255 can be sent",
                public_name.len()
            )));
        };
        let longest = u8::try_from(public_name.len() + NAME_ALLOWANCE).unwrap_or(u8::MAX);
        let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
        let (HpkePublicKey(public), private) =
            suite.generate_key_pair().context("generating a key")?;
        let mut contents = vec![id];
        contents.extend(KEM.to_be_bytes());
        opaque16(&mut contents, &public);
        let suites = CIPHERS.map(|cipher| [KDF.to_be_bytes(), cipher.to_be_bytes()].concat());
        opaque16(&mut contents, &suites.concat());
        contents.push(longest);
        contents.push(name_length);
        contents.extend(public_name.as_bytes());
        // No extensions.
        opaque16(&mut contents, &[]);
        let mut bytes = VERSION.to_be_bytes().to_vec();
        opaque16(&mut bytes, &contents);
        Ok((Self { id, public_name: public_name.to_owned(), bytes }, private))
    }

    /// Reads a configuration from the storage.
    ///
    /// # Errors
    /// Another version, a key exchange or ciphers that are not supported, lengths that do not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let odd = || Error::new("ECH config is cut off or has lengths that do not fit");
        let mut reader = Reader(bytes);
        let version = reader.number().ok_or_else(odd)?;
        if version != VERSION {
            return Err(Error::new(format!(
                "ECH config is of version {version:#06x}: {VERSION:#06x} is supported"
            )));
        }
        let mut contents = Reader(reader.opaque16().ok_or_else(odd)?);
        let id = contents.byte().ok_or_else(odd)?;
        let kem = contents.number().ok_or_else(odd)?;
        let public = contents.opaque16().ok_or_else(odd)?;
        let suites = contents.opaque16().ok_or_else(odd)?;
        let _longest = contents.byte().ok_or_else(odd)?;
        let name = contents.opaque8().ok_or_else(odd)?;
        let _extensions = contents.opaque16().ok_or_else(odd)?;
        if !reader.0.is_empty() || !contents.0.is_empty() || name.is_empty() {
            return Err(odd());
        }
        if kem != KEM || public.len() != 32 {
            return Err(Error::new(format!(
                "ECH config has a key of kind {kem:#06x}: {KEM:#06x} (X25519) is supported"
            )));
        }
        let (suites, rest) = suites.as_chunks::<4>();
        let known = |suite: &[u8; 4]| {
            let [a, b, c, d] = *suite;
            u16::from_be_bytes([a, b]) == KDF && CIPHERS.contains(&u16::from_be_bytes([c, d]))
        };
        if suites.is_empty() || !rest.is_empty() || !suites.iter().all(known) {
            return Err(Error::new("ECH config names ciphers that are not supported"));
        }
        let public_name = String::from_utf8(name.to_vec()).context("public name of ECH config")?;
        Ok(Self { id, public_name, bytes: bytes.to_vec() })
    }

    /// As it is stored, published and known to clients.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The public half of its key.
    pub(super) fn public_key(&self) -> &[u8] {
        // After version, length, id, kind of key and length of the key.
        self.bytes.get(9..41).unwrap_or_default()
    }

    /// An `ECHConfigList`, which is what the parameter `ech` of an HTTPS record holds (RFC 9848 §3).
    ///
    /// # Errors
    /// More than fit into 65,535 octets.
    pub fn list<'a>(configs: impl IntoIterator<Item = &'a Self>) -> Result<Vec<u8>> {
        let all: Vec<u8> = configs.into_iter().flat_map(|config| config.bytes.clone()).collect();
        if all.len() > usize::from(u16::MAX) {
            return Err(Error::new("too many ECH configs for one list"));
        }
        let mut list = Vec::with_capacity(all.len() + 2);
        opaque16(&mut list, &all);
        Ok(list)
    }
}

/// Writes a length of two octets and the content, which has to fit.
pub(super) fn opaque16(out: &mut Vec<u8>, content: &[u8]) {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(&content[..usize::from(length)]);
}

/// Reads what TLS writes (RFC 8446 §3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    pub(super) fn opaque8(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    pub(super) fn opaque16(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::EchConfig;

    #[test]
    fn a_config_is_read_as_it_was_made() {
        let (made, private) = EchConfig::generate(7, "public.example").unwrap();
        assert_eq!(private.secret_bytes().len(), 32);
        assert_eq!(made, EchConfig::parse(made.as_bytes()).unwrap());
        assert_eq!((made.id, &*made.public_name), (7, "public.example"));
        let list = EchConfig::list([&made, &made]).unwrap();
        assert_eq!(list.len(), 2 + 2 * made.as_bytes().len());
        rustls::client::EchConfig::new(
            list.into(),
            rustls::crypto::aws_lc_rs::hpke::ALL_SUPPORTED_SUITES,
        )
        .expect("a client takes it");
    }

    #[test]
    fn names_fit_into_their_length() {
        assert!(EchConfig::generate(0, "").is_err());
        assert!(EchConfig::generate(0, &"a".repeat(256)).is_err());
        assert!(EchConfig::generate(0, &"a".repeat(255)).is_ok());
    }

    #[test]
    fn what_is_not_a_config_is_refused() {
        let (made, _) = EchConfig::generate(7, "public.example").unwrap();
        let good = made.as_bytes();
        for end in 0..good.len() {
            assert!(EchConfig::parse(&good[..end]).is_err(), "{end}");
        }
        assert!(EchConfig::parse(&[good, &[0]].concat()).is_err());
        for (at, says) in [(0, "version"), (5, "kind"), (44, "ciphers")] {
            let mut bad = good.to_vec();
            bad[at] ^= 0x40;
            let error = EchConfig::parse(&bad).unwrap_err().to_string();
            assert!(error.contains(says), "{at}: {error}");
        }
    }
}
