//! `bcrypt`, in the form `$2a$COST$…`.

use super::HashParams;

/// More bytes do not count in bcrypt.
const LONGEST: usize = 72;

pub(super) fn hash(password: &[u8], params: &HashParams) -> Result<String, String> {
    if password.len() > LONGEST {
        return Err("bcrypt: password length exceeds 72 bytes".into());
    }
    let parts = bcrypt::hash_with_salt(password, params.bcrypt_cost, super::salt()?)
        .map_err(|error| format!("bcrypt: {error}"))?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

pub(super) fn verify(hash: &str, password: &[u8]) -> Result<bool, String> {
    bcrypt::verify(password, hash).map_err(|error| format!("bcrypt: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let params = HashParams { bcrypt_cost: 4, ..HashParams::default() };
        let made = hash(b"secret", &params).expect("hashes");
        assert!(made.starts_with("$2a$04$"), "{made}");
        assert_eq!(verify(&made, b"secret"), Ok(true));
        assert_eq!(verify(&made, b"wrong"), Ok(false));
        assert!(verify("$2a$nonsense", b"x").is_err());
        assert!(hash(&[b'x'; 73], &params).is_err());
        assert!(hash(b"x", &HashParams { bcrypt_cost: 99, ..params }).is_err());
    }
}
