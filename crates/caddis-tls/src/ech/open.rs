//! Opens hidden hellos (RFC 9849 §7.1).

use rustls::crypto::{
    aws_lc_rs::hpke,
    hpke::{EncapsulatedSecret, Hpke},
};

use super::{EchKey, config::KDF, hello};

/// What became of a client's hello.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It hides nothing.
    Visible,
    /// None of the keys opens what it hides, so it is taken as it is. Clients have configurations
    /// that are no more, and send noise that looks like a hidden hello (§6.2).
    Sealed,
    /// The hello that it hides: a handshake message.
    Hidden(Vec<u8>),
    /// It hides what no client may send.
    Illegal,
}

/// Opens a hello, a handshake message with its header, with the key that it was sealed for.
pub fn open(keys: &[EchKey], message: &[u8]) -> Opened {
    let Some(hidden) = hello::hidden(message) else { return Opened::Visible };
    let suite: &dyn Hpke = match hidden.suite {
        (KDF, 1) => hpke::DH_KEM_X25519_HKDF_SHA256_AES_128,
        (KDF, 2) => hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
        (KDF, 3) => hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305,
        _ => return Opened::Sealed,
    };
    let mut data = None;
    for key in keys.iter().filter(|key| key.config.id == hidden.config_id) {
        let info = [b"tls ech\0", key.config.as_bytes()].concat();
        let enc = EncapsulatedSecret(hidden.enc.to_vec());
        let data = data.get_or_insert_with(|| hidden.associated_data());
        let Ok(decrypted) = suite.open(&enc, &info, data, hidden.payload(), &key.private) else {
            continue;
        };
        return match hidden.reveal(&decrypted) {
            Some(message) => Opened::Hidden(message),
            None => Opened::Illegal,
        };
    }
    Opened::Sealed
}
