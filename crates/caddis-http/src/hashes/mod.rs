//! Password hashes (`http.authentication.hashes.*`): making and comparing them. Both take long by
//! design, so callers run them where blocking is allowed.

mod argon2id;
mod bcrypt;

/// The algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// `bcrypt`.
    #[default]
    Bcrypt,
    /// `argon2id`.
    Argon2id,
}

/// What a new hash is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashParams {
    /// Cost of bcrypt, from 4 to 31.
    pub bcrypt_cost: u32,
    /// Passes of argon2id.
    pub argon2id_time: u32,
    /// Memory of argon2id in KiB.
    pub argon2id_memory: u32,
    /// Lanes of argon2id.
    pub argon2id_threads: u32,
    /// Bytes of the key that argon2id makes.
    pub argon2id_keylen: u32,
}

impl Default for HashParams {
    fn default() -> Self {
        Self {
            bcrypt_cost: 14,
            argon2id_time: 1,
            argon2id_memory: 46 * 1024,
            argon2id_threads: 1,
            argon2id_keylen: 32,
        }
    }
}

impl Algorithm {
    /// All algorithms by their names.
    const ALL: [(&str, Self); 2] = [("bcrypt", Self::Bcrypt), ("argon2id", Self::Argon2id)];

    /// The algorithm of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// The names of all algorithms.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, _)| *name)
    }

    /// Whether the password is the one of the hash.
    ///
    /// # Errors
    /// The hash is malformed.
    pub fn verify(self, hash: &str, password: &[u8]) -> Result<bool, String> {
        match self {
            Self::Bcrypt => bcrypt::verify(hash, password),
            Self::Argon2id => argon2id::verify(hash, password),
        }
    }
}

/// Hashes a password, for a configuration.
///
/// # Errors
/// Parameters or a password that the algorithm does not take.
pub fn hash_password(
    algorithm: Algorithm,
    password: &[u8],
    params: &HashParams,
) -> Result<String, String> {
    match algorithm {
        Algorithm::Bcrypt => bcrypt::hash(password, params),
        Algorithm::Argon2id => argon2id::hash(password, params),
    }
}

/// Sixteen bytes that nobody can guess.
fn salt() -> Result<[u8; 16], String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| format!("failed to generate salt: {error}"))?;
    Ok(salt)
}
