//! Hashes, ciphers and random numbers. What makes keys and certificates is left out.

use aws_lc_rs::{
    cipher::{
        AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    digest,
    iv::FixedLength,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Args, Res};
use crate::handlers::templates::value::Val;

pub(super) fn of_crypto(args: &Args<'_>) -> Res<Option<Val>> {
    let text = || args.text(0);
    Ok(Some(Val::str(&match args.name {
        "sha1sum" => hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text()?),
        "sha256sum" => hash(&digest::SHA256, &text()?),
        "sha512sum" => hash(&digest::SHA512, &text()?),
        "bcrypt" => bcrypt(args, &text()?)?,
        "htpasswd" => {
            let user = text()?;
            if user.contains(':') {
                format!("invalid username: {user}")
            } else {
                format!("{user}:{}", bcrypt(args, &args.text(1)?)?)
            }
        }
        "randBytes" => {
            let mut bytes = vec![0; args.size(0)?];
            getrandom::fill(&mut bytes).map_err(|error| args.failed(error))?;
            BASE64_STANDARD.encode(bytes)
        }
        "uuidv4" => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|error| args.failed(error))?;
            let number = u128::from_be_bytes(bytes);
            let number = (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
            let text = format!("{number:032x}");
            [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
        }
        "encryptAES" => encrypt(args)?,
        "decryptAES" => decrypt(args)?,
        "derivePassword"
        | "genPrivateKey"
        | "genCA"
        | "genCAWithKey"
        | "genSelfSignedCert"
        | "genSelfSignedCertWithKey"
        | "genSignedCert"
        | "genSignedCertWithKey"
        | "buildCustomCert" => {
            return Err(
                args.failed("caddis has no functions that make keys, passwords and certificates")
            );
        }
        _ => return Ok(None),
    })))
}

fn hash(algorithm: &'static digest::Algorithm, text: &str) -> String {
    let found = digest::digest(algorithm, text.as_bytes());
    found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bcrypt(args: &Args<'_>, password: &str) -> Res<String> {
    // Go's default cost and its prefix.
    const COST: u32 = 10;
    if password.len() > 72 {
        return Ok(
            "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes"
                .to_owned(),
        );
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| args.failed(error))?;
    let parts = bcrypt::hash_with_salt(password, COST, salt).map_err(|error| args.failed(error))?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

/// The password as a key: cut or filled up.
fn key(password: &str) -> Result<UnboundCipherKey, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; 32];
    for (slot, byte) in bytes.iter_mut().zip(password.bytes()) {
        *slot = byte;
    }
    UnboundCipherKey::new(&AES_256, &bytes)
}

/// AES-256 in CBC with the initial vector in front, as base64.
fn encrypt(args: &Args<'_>) -> Res<String> {
    let sealed = || {
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key(&args.text(0).ok()?).ok()?).ok()?;
        let mut bytes = args.text(1).ok()?.into_bytes();
        let context = key.encrypt(&mut bytes).ok()?;
        let vector: &[u8] = (&context).try_into().ok()?;
        Some(BASE64_STANDARD.encode([vector, &bytes].concat()))
    };
    sealed().ok_or_else(|| args.failed("cannot encrypt"))
}

fn decrypt(args: &Args<'_>) -> Res<String> {
    let opened = || {
        let bytes = BASE64_STANDARD.decode(args.text(1).ok()?).ok()?;
        let (vector, sealed) = bytes.split_at_checked(16)?;
        let vector: [u8; 16] = vector.try_into().ok()?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key(&args.text(0).ok()?).ok()?).ok()?;
        let mut sealed = sealed.to_vec();
        let context = DecryptionContext::Iv128(FixedLength::from(vector));
        let plain = key.decrypt(&mut sealed, context).ok()?;
        Some(String::from_utf8_lossy(plain).into_owned())
    };
    opened().ok_or_else(|| args.failed("cannot decrypt"))
}
