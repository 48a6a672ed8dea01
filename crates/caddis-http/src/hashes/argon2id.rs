//! `argon2id`, in the form `$argon2id$v=19$m=…,t=…,p=…$SALT$KEY`.

use argon2::{Argon2, Params, Version};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

use super::HashParams;

/// A gibibyte, in KiB: a hash that asks for more is refused.
const MOST_MEMORY: u32 = 1 << 20;

pub(super) fn hash(password: &[u8], params: &HashParams) -> Result<String, String> {
    let salt = super::salt()?;
    let HashParams { argon2id_memory: m, argon2id_time: t, argon2id_threads: p, .. } = *params;
    let key = key(password, &salt, m, t, p, params.argon2id_keylen)?;
    let encode = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
    Ok(format!("$argon2id$v=19$m={m},t={t},p={p}${}${}", encode(&salt), encode(&key)))
}

pub(super) fn verify(hash: &str, password: &[u8]) -> Result<bool, String> {
    let parts: Vec<&str> = hash.split('$').collect();
    let ["", variant, version, params, salt, stored] = parts.as_slice() else {
        return Err("invalid hash format".into());
    };
    if *variant != "argon2id" {
        return Err(format!("unsupported variant: {variant}"));
    }
    if *version != "v=19" {
        return Err(format!("incompatible version: {version}"));
    }
    let params: Vec<&str> = params.split(',').collect();
    let [memory, time, threads] = params.as_slice() else {
        return Err("invalid parameters".into());
    };
    let number = |text: &str, prefix: &str, name: &str| {
        let digits = text.strip_prefix(prefix).unwrap_or(text);
        digits.parse().map_err(|_| format!("invalid {name} parameter: {text}"))
    };
    let decode = |text: &str, name: &str| {
        BASE64_STANDARD_NO_PAD.decode(text).map_err(|error| format!("decode {name}: {error}"))
    };
    let (salt, stored) = (decode(salt, "salt")?, decode(stored, "key")?);
    let computed = key(
        password,
        &salt,
        number(memory, "m=", "memory")?,
        number(time, "t=", "iterations")?,
        number(threads, "p=", "parallelism")?,
        u32::try_from(stored.len()).unwrap_or(0),
    )?;
    // Without an early end, so that time tells nothing.
    let difference = computed.iter().zip(&stored).fold(0, |all, (one, two)| all | (one ^ two));
    Ok(computed.len() == stored.len() && difference == 0)
}

fn key(
    password: &[u8],
    salt: &[u8],
    memory: u32,
    time: u32,
    threads: u32,
    length: u32,
) -> Result<Vec<u8>, String> {
    if memory > MOST_MEMORY {
        return Err(format!("argon2: more memory than {MOST_MEMORY} KiB is not allowed"));
    }
    let length = usize::try_from(length).unwrap_or(0);
    let params = Params::new(memory, time, threads, Some(length));
    let params = params.map_err(|error| format!("argon2: {error}"))?;
    let mut key = vec![0; length];
    Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut key)
        .map_err(|error| format!("argon2: {error}"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let params = HashParams { argon2id_memory: 64, ..HashParams::default() };
        let made = hash(b"secret", &params).expect("hashes");
        assert!(made.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{made}");
        assert_eq!(verify(&made, b"secret"), Ok(true));
        assert_eq!(verify(&made, b"wrong"), Ok(false));
        for bad in [
            "",
            "$argon2i$v=19$m=64,t=1,p=1$a$b",
            "$argon2id$v=19$m=64$a$b",
            "$argon2id$v=18$m=64,t=1,p=1$YWFhYWFhYWE$YWE",
            "$argon2id$v=19$m=4294967295,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWE",
        ] {
            assert!(verify(bad, b"x").is_err(), "{bad}");
        }
    }
}
