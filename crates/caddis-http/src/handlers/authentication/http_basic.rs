//! `http_basic`: user names and passwords in the `Authorization` header (RFC 7617).
//!
//! JSON: [`Config`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Template, template::Unknown};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::super::support::field_value;
use crate::hashes::Algorithm;

/// JSON shape of the provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    /// `{"algorithm"}`; bcrypt if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    accounts: Vec<Account>,
    #[serde(skip_serializing_if = "String::is_empty")]
    realm: String,
    /// Present where results of comparisons are remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_cache: Option<HashCache>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Account {
    username: String,
    /// The hash, or the hash in base64.
    password: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HashCache {}

/// The compiled provider.
pub(super) struct HttpBasic {
    algorithm: Algorithm,
    /// Name to hash.
    accounts: HashMap<String, Arc<str>>,
    /// Compared where the name is unknown, so that time does not tell. `None` without accounts.
    decoy: Option<Arc<str>>,
    challenge: HeaderValue,
    cache: Option<Arc<Cache>>,
    gate: Arc<Gate>,
}

/// Bounds how many comparisons run at once in the whole process.
struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Semaphore::new(cores))
    }
}

const CACHE_SIZE: usize = 1000;

/// Results by a keyed digest of user, hash and password.
struct Cache {
    key: [u8; 32],
    results: Mutex<HashMap<[u8; 32], bool>>,
}

impl Cache {
    fn new() -> Result<Self, ConfigError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| ConfigError::new("hash_cache", format!("no random bytes: {error}")))?;
        Ok(Self { key, results: Mutex::default() })
    }

    /// The user counts as well, known or not: else the time of an answer would tell whether an
    /// unknown user's password was compared before, and so who is unknown.
    fn digest(&self, user: &str, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut inner = Sha256::new_with_prefix(self.key);
        for part in [user, hash] {
            inner.update((part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        inner.update(password);
        // Twice, as in HMAC, so that a digest cannot be extended.
        Sha256::new_with_prefix(self.key).chain_update(inner.finalize()).finalize().into()
    }

    fn get(&self, digest: &[u8; 32]) -> Option<bool> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    fn put(&self, digest: [u8; 32], same: bool) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if results.len() >= CACHE_SIZE {
            // The map's own order is as good as random.
            let some: Vec<_> = results.keys().take(CACHE_SIZE / 10).copied().collect();
            for digest in some {
                results.remove(&digest);
            }
        }
        results.insert(digest, same);
    }
}

/// Reads the directive.
pub(super) fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut config = Config { hash_cache: Some(HashCache {}), ..Config::default() };
    let args = d.remaining_args();
    if args.len() > 2 {
        return Err(d.arg_err());
    }
    let algorithm = args.first().map_or("bcrypt", String::as_str);
    if Algorithm::parse(algorithm).is_none() {
        let error = d.err(format_args!("unrecognized hash algorithm: {algorithm}"));
        return Err(error.meant_one_of(algorithm, Algorithm::names()));
    }
    config.hash = Some(json!({"algorithm": algorithm}));
    config.realm = args.get(1).cloned().unwrap_or_default();
    let nesting = d.nesting();
    while d.next_block(nesting) {
        let username = d.val().to_owned();
        let password = if d.next_arg() { d.val().to_owned() } else { String::new() };
        if d.next_arg() {
            return Err(d.arg_err());
        }
        if username.is_empty() || password.is_empty() {
            return Err(d.err("username and password cannot be empty or missing"));
        }
        config.accounts.push(Account { username, password });
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

impl HttpBasic {
    pub(super) fn compile(json: &Json, cx: &CompileCx<'_>) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        let algorithm = match &config.hash {
            None => Algorithm::Bcrypt,
            Some(hash) => {
                let name = hash.get("algorithm").and_then(Json::as_str).unwrap_or_default();
                let unknown = || {
                    let namespace = "http.authentication.hashes";
                    caddis_core::compile::unknown_module(namespace, name, "hash")
                };
                Algorithm::parse(name).ok_or_else(unknown)?
            }
        };
        let mut accounts = HashMap::new();
        let mut decoy = None;
        for (at, account) in config.accounts.iter().enumerate() {
            let (name, hash) = compile_account(at, account, &accounts)
                .map_err(|message| ConfigError::new(format!("accounts.{at}"), message))?;
            decoy.get_or_insert_with(|| hash.clone());
            accounts.insert(name, hash);
        }
        let realm = if config.realm.is_empty() { "restricted" } else { &config.realm };
        Ok(Self {
            algorithm,
            accounts,
            decoy,
            challenge: field_value(&format!("Basic realm=\"{realm}\"")),
            cache: config.hash_cache.map(|_| Cache::new()).transpose()?.map(Arc::new),
            gate: cx.state.single(),
        })
    }

    /// The user, if the request names one and has the right password. Else a challenge is added
    /// to the answer to come.
    pub(super) async fn authenticate(&self, ex: &mut Exchange) -> Option<String> {
        let found = match credentials(ex) {
            Some((user, password)) => self.check(user, password).await,
            None => None,
        };
        if found.is_none() {
            ex.early_headers.insert(header::WWW_AUTHENTICATE, self.challenge.clone());
        }
        found
    }

    async fn check(&self, user: String, password: Vec<u8>) -> Option<String> {
        let account = self.accounts.get(&user);
        let known = account.is_some();
        let hash = account.or(self.decoy.as_ref())?.clone();
        let same = self.compare(&user, hash, password).await;
        (same && known).then_some(user)
    }

    async fn compare(&self, user: &str, hash: Arc<str>, password: Vec<u8>) -> bool {
        let digest = self.cache.as_ref().map(|cache| cache.digest(user, &hash, &password));
        let remembered = || self.cache.as_ref().zip(digest).and_then(|(cache, d)| cache.get(&d));
        if let Some(same) = remembered() {
            return same;
        }
        let Ok(_permit) = self.gate.0.acquire().await else { return false };
        // Somebody with the same password may have been faster.
        if let Some(same) = remembered() {
            return same;
        }
        let algorithm = self.algorithm;
        let compared =
            tokio::task::spawn_blocking(move || algorithm.verify(&hash, &password)).await;
        match compared {
            Ok(Ok(same)) => {
                if let Some((cache, digest)) = self.cache.as_ref().zip(digest) {
                    cache.put(digest, same);
                }
                same
            }
            Ok(Err(error)) => {
                tracing::error!(provider = "http_basic", error, "auth provider returned error");
                false
            }
            Err(_) => false,
        }
    }
}

/// Name and hash of an account, with placeholders filled in.
fn compile_account(
    at: usize,
    account: &Account,
    known: &HashMap<String, Arc<str>>,
) -> Result<(String, Arc<str>), String> {
    let name = Template::render_global(&account.username, Unknown::Empty);
    let password = Template::render_global(&account.password, Unknown::Empty);
    if known.contains_key(&name) {
        return Err(format!("account {at}: username is not unique: {name}"));
    }
    if name.is_empty() || password.is_empty() {
        return Err(format!("account {at}: username and password are required"));
    }
    if password.starts_with('$') {
        return Ok((name, password.into()));
    }
    let bytes = BASE64_STANDARD
        .decode(&password)
        .map_err(|error| format!("base64-decoding password: {error}"))?;
    let hash = String::from_utf8(bytes).map_err(|_| "base64-decoding password: not a hash")?;
    Ok((name, hash.into()))
}

/// Name and password from the header; `None` where there are none.
fn credentials(ex: &Exchange) -> Option<(String, Vec<u8>)> {
    let value = ex.request.headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_share_no_results() {
        let cache = Cache::new().expect("a cache");
        let digest = |user, hash, password: &str| cache.digest(user, hash, password.as_bytes());
        assert_eq!(digest("a", "$h", "p"), digest("a", "$h", "p"));
        for other in [digest("b", "$h", "p"), digest("a$", "h", "p"), digest("a", "$hp", "")] {
            assert_ne!(digest("a", "$h", "p"), other);
        }
        assert_ne!(digest("a", "$h", "p"), Cache::new().expect("a cache").digest("a", "$h", b"p"));
    }
}
