//! How values lie in Redis: a JSON object around each, as the plugin for Caddy writes it.
//!
//! ```json
//! {"value": "<base64>", "modified": "<RFC 3339>", "size": 3, "compression": 0, "encryption": 0}
//! ```
//!
//! `compression` is 0 (none), 1 (raw DEFLATE) or 2 (zlib); `encryption` 1 stands for AES-256-GCM with
//! the nonce before the text. The size is that of the bare value.

use std::io::{Read, Write};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{
    Compression as Level,
    read::{DeflateDecoder, ZlibDecoder},
    write::{DeflateEncoder, ZlibEncoder},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::storage::remote::Fault;

/// Longest value that is unpacked, as in the plugin.
const MAX_UNPACKED: u64 = 4 << 20;

/// How values are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None = 0,
    Flate = 1,
    Zlib = 2,
}

#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    modified: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    compression: i64,
    #[serde(default)]
    encryption: i64,
}

/// Wraps a value.
pub(super) fn seal(
    value: &[u8],
    compression: Compression,
    key: Option<&[u8; 32]>,
    now: OffsetDateTime,
) -> Result<Vec<u8>, Fault> {
    let packed = match compression {
        Compression::None => None,
        Compression::Flate => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Level::default());
            encoder.write_all(value).and_then(|()| encoder.finish()).ok()
        }
        Compression::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Level::default());
            encoder.write_all(value).and_then(|()| encoder.finish()).ok()
        }
    };
    // What would grow stays as it is.
    let packed = packed.filter(|packed| packed.len() < value.len());
    let compression = if packed.is_some() { compression as i64 } else { 0 };
    let mut bytes = packed.unwrap_or_else(|| value.to_vec());
    if let Some(key) = key {
        bytes = encrypt(bytes, key).ok_or_else(|| Fault::refused("encrypting a value"))?;
    }
    let envelope = Envelope {
        value: Some(STANDARD.encode(&bytes)),
        modified: now.format(&Rfc3339).map_err(Fault::refused)?,
        size: i64::try_from(value.len()).unwrap_or(i64::MAX),
        compression,
        encryption: i64::from(key.is_some()),
    };
    serde_json::to_vec(&envelope).map_err(Fault::refused)
}

/// Unwraps a value, with when it was written.
pub(super) fn open(
    name: &str,
    text: &[u8],
    key: Option<&[u8; 32]>,
) -> Result<(Vec<u8>, Option<OffsetDateTime>), Fault> {
    let envelope: Envelope =
        serde_json::from_slice(text).map_err(|error| Fault::garbage(name, error))?;
    let modified = OffsetDateTime::parse(&envelope.modified, &Rfc3339).ok();
    let value = envelope.value.unwrap_or_default();
    let mut bytes = STANDARD.decode(value).map_err(|error| Fault::garbage(name, error))?;
    if envelope.encryption > 0 {
        // Not garbage: others can read it, so it must not be written over.
        let key = key.ok_or_else(|| {
            Fault::refused(format!("{name} is encrypted; set `encryption_key` as for the others"))
        })?;
        bytes = decrypt(bytes, key).ok_or_else(|| {
            Fault::refused(format!(
                "{name} cannot be decrypted; `encryption_key` must be the one it was stored with"
            ))
        })?;
    }
    let unpacked = match envelope.compression {
        0 => return Ok((bytes, modified)),
        1 => unpack(DeflateDecoder::new(&bytes[..])),
        2 => unpack(ZlibDecoder::new(&bytes[..])),
        other => return Err(Fault::garbage(name, format!("unknown compression {other}"))),
    };
    Ok((unpacked.map_err(|error| Fault::garbage(name, error))?, modified))
}

fn unpack(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MAX_UNPACKED + 1).read_to_end(&mut out)?;
    if out.len() as u64 > MAX_UNPACKED {
        return Err(std::io::Error::other("longer than 4 MiB"));
    }
    Ok(out)
}

fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?))
}

fn encrypt(mut bytes: Vec<u8>, key: &[u8; 32]) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).ok()?;
    let unique = Nonce::assume_unique_for_key(nonce);
    cipher(key)?.seal_in_place_append_tag(unique, Aad::empty(), &mut bytes).ok()?;
    let mut out = nonce.to_vec();
    out.append(&mut bytes);
    Some(out)
}

fn decrypt(bytes: Vec<u8>, key: &[u8; 32]) -> Option<Vec<u8>> {
    let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let length = cipher(key)?.open_in_place(nonce, Aad::empty(), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::io;

    use time::OffsetDateTime;

    use super::{Compression, open, seal};
    use crate::storage::remote::Fault;

    const KEY: &[u8; 32] = b"1aedfs5kcM8lOZO3BDDMuwC23croDwRr";

    #[test]
    fn values_come_back() {
        let long = "certificate ".repeat(50);
        for compression in [Compression::None, Compression::Flate, Compression::Zlib] {
            for key in [None, Some(KEY)] {
                for value in ["", "x", &long] {
                    let now = OffsetDateTime::UNIX_EPOCH;
                    let sealed = seal(value.as_bytes(), compression, key, now).unwrap();
                    let (opened, modified) = open("a", &sealed, key).unwrap();
                    assert_eq!((opened.as_slice(), modified), (value.as_bytes(), Some(now)));
                }
            }
        }
    }

    #[test]
    fn the_form_is_known() {
        let sealed = seal(b"hi!", Compression::Flate, None, OffsetDateTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            String::from_utf8(sealed).unwrap(),
            r#"{"value":"aGkh","modified":"1970-01-01T00:00:00Z","size":3,"compression":0,"encryption":0}"#
        );
        // Go writes fractions and zones, and null for no bytes.
        let text = br#"{"value":null,"modified":"2026-03-01T10:00:00.123456789+02:00","size":0,"compression":0,"encryption":0}"#;
        let (value, modified) = open("a", text, None).unwrap();
        assert!(value.is_empty() && modified.is_some());
        // "caddy storage" packed by another program, raw and with its header.
        let raw = br#"{"value":"S05MSalUKC7JL0pMTwUA","modified":"","size":13,"compression":1,"encryption":0}"#;
        assert_eq!(open("a", raw, None).unwrap().0, b"caddy storage");
        let zlib = br#"{"value":"eJxLTkxJqVQoLskvSkxPBQAjOwUb","modified":"","size":13,"compression":2,"encryption":0}"#;
        assert_eq!(open("a", zlib, None).unwrap().0, b"caddy storage");
    }

    #[test]
    fn garbage_is_told_from_what_others_can_read() {
        let kind = |text: &[u8], key| match open("a", text, key) {
            Err(Fault::Refused(kind, message)) => (kind, message),
            other => panic!("{other:?}"),
        };
        for text in [
            &b"garbage"[..],
            br#"{"value":"%%%"}"#,
            br#"{"value":"AAAA","compression":1}"#,
            br#"{"value":"AAAA","compression":7}"#,
        ] {
            assert_eq!(kind(text, None).0, io::ErrorKind::InvalidData);
        }
        let now = OffsetDateTime::UNIX_EPOCH;
        let sealed = seal(b"secret", Compression::None, Some(KEY), now).unwrap();
        for key in [None, Some(b"another key of thirty-two bytes!")] {
            let (kind, message) = kind(&sealed, key);
            assert!(
                kind == io::ErrorKind::Other && message.contains("encryption_key"),
                "{message}"
            );
        }
        let short = br#"{"value":"AAAA","encryption":1}"#;
        assert!(kind(short, Some(KEY)).1.contains("cannot be decrypted"));
    }
}
