//! `caddy.storage.s3`: one object per key in a bucket of any S3 service, as the plugins
//! `ss098/certmagic-s3` and `techknowlogick/certmagic-s3` keep them.
//!
//! ```text
//! storage s3 {
//!     host <host[:port]>               # or endpoint <url>
//!     bucket <name>
//!     region <name>                    # learned where it is not given
//!     access_id <id>                   # or access_key <id>
//!     secret_key <key>
//!     prefix <prefix>
//!     insecure <bool>                  # plain HTTP to `host`; any certificate of `endpoint`
//!     use_iam_provider <bool>          # credentials of the environment, container or instance
//!     profile <name>
//!     role_arn <arn>                   # a role to take on with them
//!     use_path_style <bool>
//!     encryption_key <32 characters>
//! }
//! ```
//!
//! What is not given is taken from `S3_HOST`, `S3_BUCKET`, `S3_ACCESS_ID`, `S3_SECRET_KEY`,
//! `S3_PREFIX` and `S3_INSECURE`. The options of the second plugin (`endpoint`, `access_key`) have
//! its default prefix, `acme`. With an encryption key, objects are a nonce and a NaCl secretbox.
//!
//! A lock is the object `<prefix>/<name>.lock` with a time in it. It is written where there is none
//! (`If-None-Match: *`), renewed and taken over where it is the known one (`If-Match`), and over
//! when the service's own clock says that it was not renewed for a while.

mod client;
mod listing;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use caddis_config::ConfigError;
use caddis_dns::{
    aws::{CredentialProvider, CredentialSources, Credentials},
    http::{HttpClient, HttpOptions},
};
use crypto_secretbox::{KeyInit, XSalsa20Poly1305, aead::Aead};
use http::{HeaderMap, Uri, header};
use serde::Deserialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::client::{Client, If, Origin, Put};
use super::{
    LockGuard, Storage, keys,
    options::{self, Scalar},
    remote::{self, Fault, Held, Lease, Peer},
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A lock that was not renewed for so long has no living owner.
const LOCK_TTL: Duration = Duration::from_secs(15);
const LOCK_RENEW: Duration = Duration::from_secs(5);
/// How long a lock must stand unchanged where the service knows no conditions.
const SETTLE: Duration = Duration::from_secs(1);
const LOCK_END: &str = ".lock";
const DEFAULT_REGION: &str = "us-east-1";
const REMEDY: &str = "is the service there, and does `host` or `endpoint` of `storage s3` name it?";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    host: String,
    endpoint: String,
    bucket: String,
    region: String,
    access_id: String,
    access_key: String,
    secret_key: String,
    profile: String,
    role_arn: String,
    prefix: String,
    insecure: Scalar,
    use_iam_provider: Scalar,
    use_path_style: Scalar,
    encryption_key: String,
}

/// Storage in a bucket.
#[derive(Debug)]
struct S3 {
    peer: Arc<Peer>,
    store: Arc<Store>,
}

struct Store {
    client: Client,
    prefix: String,
    key: Option<XSalsa20Poly1305>,
    /// Whether the service keeps conditions: not known yet, yes, no.
    conditions: AtomicU8,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("client", &self.client).finish_non_exhaustive()
    }
}

const UNKNOWN: u8 = 0;
const KEPT: u8 = 1;
const IGNORED: u8 = 2;

/// The storage of a configuration. Nothing is connected yet.
pub(super) fn open(json: Value) -> Result<Arc<dyn Storage>, ConfigError> {
    let config: Config = caddis_config::decode(json)?;
    let second = !config.access_key.is_empty() || !config.endpoint.is_empty();
    let bucket = options::text_or_env(&config.bucket, "S3_BUCKET");
    if bucket.is_empty() || bucket.contains(['/', '?', '#']) {
        return Err(ConfigError::new("bucket", "bucket is empty, or no name of a bucket"));
    }
    let region = options::text_or_env(&config.region, "AWS_REGION");
    let (origin, insecure) = origin(&config, &region)?;
    let amazon = origin.authority.ends_with(".amazonaws.com");
    let path_style = match config.use_path_style.bool("use_path_style")? {
        Some(true) => true,
        // A dot in the name would not be covered by the wildcard of the certificate.
        _ => !amazon || bucket.contains('.'),
    };
    let prefix = match options::text_or_env(&config.prefix, "S3_PREFIX") {
        prefix if prefix.is_empty() && second => "acme".to_owned(),
        prefix => prefix.trim_matches('/').to_owned(),
    };
    let key = options::text(&config.encryption_key);
    let key = match key.len() {
        0 => None,
        32 => XSalsa20Poly1305::new_from_slice(key.as_bytes()).ok(),
        _ => {
            let message = "encryption key must have exactly 32 bytes";
            return Err(ConfigError::new("encryption_key", message));
        }
    };
    let region = if region.is_empty() { region_of(&origin.authority) } else { region };
    let name = format!("s3:{}/{bucket}/{prefix}", origin.authority);
    let credentials = credentials(&config, &region)?;
    let http = HttpClient::with(HttpOptions { insecure, ..HttpOptions::default() });
    let client = Client::new(origin, bucket, path_style, region, credentials, http);
    let store = Store { client, prefix, key, conditions: AtomicU8::new(UNKNOWN) };
    let peer = Peer::new(name, TIMEOUT, REMEDY);
    Ok(Arc::new(S3 { peer: Arc::new(peer), store: Arc::new(store) }))
}

/// Where the service is, and whether its certificate may be anything.
fn origin(config: &Config, region: &str) -> Result<(Origin, bool), ConfigError> {
    let insecure = match config.insecure.bool("insecure")? {
        Some(insecure) => insecure,
        None => std::env::var("S3_INSECURE")
            .is_ok_and(|text| options::parse_bool(&text).unwrap_or_default()),
    };
    let endpoint = options::text(&config.endpoint);
    let host = match (endpoint.is_empty(), config.host.is_empty()) {
        (false, false) => {
            let message = "cannot specify both 'host' and 'endpoint' options";
            return Err(ConfigError::new("endpoint", message));
        }
        (false, true) => String::new(),
        _ => options::text_or_env(&config.host, "S3_HOST"),
    };
    if !endpoint.is_empty() {
        let bad =
            || ConfigError::new("endpoint", "write http://host[:port] or https://host[:port]");
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(bad()),
        };
        let insecure = insecure && scheme == "https";
        if insecure {
            tracing::warn!(
                target: "storage",
                endpoint,
                "the certificate of the S3 service is not verified; use this for tests only"
            );
        }
        let authority = uri.authority().ok_or_else(bad)?.to_string();
        return Ok((Origin { scheme, authority }, insecure));
    }
    let scheme = if insecure { "http" } else { "https" };
    if host.is_empty() {
        // Amazon's own.
        let region = if region.is_empty() { DEFAULT_REGION } else { region };
        let authority = format!("s3.{region}.amazonaws.com");
        return Ok((Origin { scheme, authority }, false));
    }
    if host.contains("://") {
        let message = "host must not contain a scheme prefix like https://";
        return Err(ConfigError::new("host", message));
    }
    let whole: Result<Uri, _> = format!("{scheme}://{host}/").parse();
    if whole.is_err() || host.contains(['/', '?', '#', '@']) {
        return Err(ConfigError::new("host", "write host or host:port"));
    }
    Ok((Origin { scheme, authority: host }, false))
}

fn credentials(config: &Config, region: &str) -> Result<CredentialProvider, ConfigError> {
    let profile = options::text(&config.profile);
    let named = if config.access_id.is_empty() { &config.access_key } else { &config.access_id };
    let access_key_id = options::text_or_env(named, "S3_ACCESS_ID");
    let secret_access_key = options::text_or_env(&config.secret_key, "S3_SECRET_KEY");
    let environment = config.use_iam_provider.bool("use_iam_provider")?.unwrap_or(false)
        || std::env::var("S3_USE_IAM_PROVIDER")
            .is_ok_and(|text| options::parse_bool(&text).unwrap_or_default())
        || !profile.is_empty();
    // The second plugin looks around where no keys are given.
    let role = options::text(&config.role_arn);
    let keyless = access_key_id.is_empty() && secret_access_key.is_empty();
    let environment = environment || keyless && (!role.is_empty() || !config.endpoint.is_empty());
    if !environment {
        let missing = |field: &str| {
            let message =
                format!("{field} is empty and use_iam_provider is false; give it, or `profile`");
            Err(ConfigError::new(field, message))
        };
        if access_key_id.is_empty() {
            return missing("access_id");
        }
        if secret_access_key.is_empty() {
            return missing("secret_key");
        }
    }
    let session_token = String::new();
    let fixed = Credentials { access_key_id, secret_access_key, session_token };
    let fixed = (!environment).then_some(fixed);
    Ok(CredentialSources { fixed, profile, role, region: region.to_owned() }.provider())
}

/// The region in the name of an endpoint of Amazon's.
fn region_of(authority: &str) -> String {
    let host = authority.strip_suffix(".amazonaws.com").unwrap_or_default();
    let region = host.rsplit('.').next().unwrap_or_default();
    let region = region.strip_prefix("s3-").unwrap_or(region);
    if region.contains('-') { region.to_owned() } else { DEFAULT_REGION.to_owned() }
}

impl S3 {
    fn place(&self, key: &str) -> io::Result<String> {
        remote::join(&self.store.prefix, key)
    }

    /// What keys begin with that are below one.
    fn below(&self, key: &str) -> io::Result<String> {
        let place = self.place(key)?;
        Ok(if place.is_empty() { place } else { format!("{place}/") })
    }

    /// Keys of the storage from those of the bucket; sorted, locks left out.
    fn bare(&self, keys: Vec<String>) -> Vec<String> {
        let start = if self.store.prefix.is_empty() { 0 } else { self.store.prefix.len() + 1 };
        let mut bare: Vec<String> = keys
            .iter()
            .filter_map(|key| key.get(start..))
            .map(|key| key.trim_end_matches('/'))
            .filter(|key| !key.is_empty())
            .filter(|key| key.contains('/') || !key.ends_with(LOCK_END))
            .map(str::to_owned)
            .collect();
        bare.sort();
        bare.dedup();
        bare
    }
}

impl Storage for S3 {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        self.peer.call(async move {
            let (body, _) = store.client.get(&place).await?;
            store.opened(&place, &body)
        })
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        let content = store.sealed(content)?;
        self.peer.call(async move { store.client.put(&place, content).await })
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        let (store, place, below) = (self.store.clone(), self.place(key)?, self.below(key)?);
        self.peer.call(async move {
            Ok(store.client.head(&place).await?.is_some()
                || !store.client.list(&below, true).await?.is_empty())
        })
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let (store, place, below) = (self.store.clone(), self.place(key)?, self.below(key)?);
        if key.trim_matches('/').is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "bad storage key"));
        }
        self.peer.call(async move {
            for key in store.client.list(&below, false).await? {
                store.client.delete(&key).await?;
            }
            store.client.delete(&place).await
        })
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let (store, below) = (self.store.clone(), self.below(prefix)?);
        let keys = self.peer.call(async move { store.client.list(&below, true).await })?;
        Ok(self.bare(keys))
    }

    fn walk(&self) -> io::Result<Vec<String>> {
        let (store, below) = (self.store.clone(), self.below("")?);
        let keys = self.peer.call(async move { store.client.list(&below, false).await })?;
        Ok(self.bare(keys))
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        let fields = self.peer.call(async move {
            let fields = store.client.head(&place).await?;
            fields.ok_or_else(|| Fault::not_found(&place))
        })?;
        Ok(time_of(&fields, &header::LAST_MODIFIED).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        let key = self.place(&format!("{}{LOCK_END}", keys::safe(name)))?;
        let held = remote::acquire(self.peer.name(), name, wait, || {
            let (store, key_) = (self.store.clone(), key.clone());
            let got = self.peer.call(async move { store.try_lock(&key_).await })?;
            Ok(got.map(|(token, tag)| S3Lock {
                peer: self.peer.clone(),
                store: self.store.clone(),
                key: key.clone(),
                token,
                tag,
            }))
        })?;
        Ok(Box::new(Lease::hold(held, LOCK_RENEW)?))
    }

    fn describe(&self) -> String {
        self.peer.name().to_owned()
    }
}

impl Store {
    fn sealed(&self, content: &[u8]) -> io::Result<Bytes> {
        let Some(key) = &self.key else { return Ok(Bytes::copy_from_slice(content)) };
        let bad = |_| io::Error::other("encrypting a value");
        let mut nonce = [0; 24];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| io::Error::other("no random numbers"))?;
        let mut out = nonce.to_vec();
        out.extend(key.encrypt(&nonce.into(), content).map_err(bad)?);
        Ok(out.into())
    }

    fn opened(&self, place: &str, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let Some(key) = &self.key else { return Ok(body.to_vec()) };
        if body.is_empty() {
            return Ok(Vec::new());
        }
        let bare = body
            .split_first_chunk::<24>()
            .and_then(|(nonce, text)| key.decrypt(nonce.into(), text).ok());
        // Not garbage: others may be able to read it, so it must not be written over.
        bare.ok_or_else(|| {
            Fault::refused(format!(
                "{place} cannot be decrypted; `encryption_key` must be the one it was stored with"
            ))
        })
    }

    /// Token and entity tag of a lock that is ours now.
    async fn try_lock(&self, key: &str) -> Result<Option<(String, String)>, Fault> {
        let condition = match self.client.get(key).await {
            Err(Fault::Refused(io::ErrorKind::NotFound, _)) => If::Absent,
            Err(other) => return Err(other),
            Ok((_, fields)) if !is_over(&fields) => return Ok(None),
            Ok((_, fields)) => {
                tracing::warn!(target: "storage", lock = key, "taking over a lock without a holder");
                let tag = fields.get(header::ETAG).and_then(|tag| tag.to_str().ok());
                tag.map_or(If::Always, |tag| If::Same(tag.to_owned()))
            }
        };
        let token = token()?;
        let content = Bytes::from(token.clone());
        let known = self.conditions.load(Ordering::Relaxed);
        let condition = if known == IGNORED { If::Always } else { condition };
        match self.client.put_if(key, content.clone(), &condition).await? {
            Put::Done(_) => {}
            // The request may have been sent twice.
            Put::Refused => {}
            Put::Unsupported => {
                self.no_conditions();
                self.client.put(key, content.clone()).await?;
            }
        }
        if known == UNKNOWN && self.conditions.load(Ordering::Relaxed) == UNKNOWN {
            match self.client.put_if(key, content, &If::Absent).await? {
                Put::Refused => self.conditions.store(KEPT, Ordering::Relaxed),
                Put::Done(_) | Put::Unsupported => self.no_conditions(),
            }
        }
        if self.conditions.load(Ordering::Relaxed) == IGNORED {
            tokio::time::sleep(SETTLE).await;
        }
        self.held(key, &token).await
    }

    fn no_conditions(&self) {
        if self.conditions.swap(IGNORED, Ordering::Relaxed) != IGNORED {
            tracing::warn!(
                target: "storage",
                bucket = self.client.bucket,
                "this S3 service does not keep conditions of writes (If-None-Match): two servers \
                 that start at the same moment may both ask for a certificate"
            );
        }
    }

    /// Token and entity tag where the lock has our token.
    async fn held(&self, key: &str, token: &str) -> Result<Option<(String, String)>, Fault> {
        match self.client.get(key).await {
            Ok((body, fields)) if body == token.as_bytes() => {
                let tag = fields.get(header::ETAG).and_then(|tag| tag.to_str().ok());
                Ok(Some((token.to_owned(), tag.unwrap_or_default().to_owned())))
            }
            Ok(_) | Err(Fault::Refused(io::ErrorKind::NotFound, _)) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// Whether a lock was not renewed for too long, by the service's own clock.
fn is_over(fields: &HeaderMap) -> bool {
    let now = time_of(fields, &header::DATE).unwrap_or_else(SystemTime::now);
    time_of(fields, &header::LAST_MODIFIED)
        .is_some_and(|written| now.duration_since(written).is_ok_and(|age| age > LOCK_TTL))
}

fn time_of(fields: &HeaderMap, name: &header::HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(fields.get(name)?.to_str().ok()?).ok()
}

/// A time, as the plugin writes it into locks; its nanoseconds are chance, so that no two are alike.
fn token() -> Result<String, Fault> {
    let nanosecond = fastrand::u32(1..1_000_000_000);
    let now = OffsetDateTime::now_utc().replace_nanosecond(nanosecond).map_err(Fault::refused)?;
    now.format(&Rfc3339).map_err(Fault::refused)
}

struct S3Lock {
    peer: Arc<Peer>,
    store: Arc<Store>,
    key: String,
    token: String,
    tag: String,
}

impl Held for S3Lock {
    fn name(&self) -> &str {
        &self.key
    }

    fn renew(&mut self) -> io::Result<bool> {
        let (store, key, old, tag) =
            (self.store.clone(), self.key.clone(), self.token.clone(), self.tag.clone());
        let renewed = self.peer.call(async move {
            let token = token()?;
            let kept = store.conditions.load(Ordering::Relaxed) == KEPT && !tag.is_empty();
            if !kept && store.held(&key, &old).await?.is_none() {
                return Ok(None);
            }
            let condition = if kept { If::Same(tag) } else { If::Always };
            match store.client.put_if(&key, Bytes::from(token.clone()), &condition).await? {
                Put::Done(tag) if !tag.is_empty() => Ok(Some((token, tag))),
                // A request that was sent twice is refused the second time.
                _ => store.held(&key, &token).await,
            }
        })?;
        let Some((token, tag)) = renewed else { return Ok(false) };
        (self.token, self.tag) = (token, tag);
        Ok(true)
    }

    fn release(&mut self) -> io::Result<()> {
        let (store, key, token) = (self.store.clone(), self.key.clone(), self.token.clone());
        self.peer.call(async move {
            match store.held(&key, &token).await? {
                Some(_) => store.client.delete(&key).await,
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::{is_over, open, region_of, token};

    fn with(more: Value) -> Value {
        let mut json = json!({"bucket": "b", "access_id": "id", "secret_key": "secret"});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json
    }

    #[test]
    fn endpoints_and_prefixes() {
        for (more, want) in [
            (json!({"host": "h:9000", "insecure": true, "prefix": "/ssl/"}), "s3:h:9000/b/ssl"),
            (json!({"endpoint": "http://h:9000"}), "s3:h:9000/b/acme"),
            (json!({"region": "eu-west-1"}), "s3:s3.eu-west-1.amazonaws.com/b/"),
        ] {
            let storage = open(with(more)).unwrap();
            assert_eq!(storage.describe(), want);
            assert!(!format!("{storage:?}").contains("secret"));
        }
        assert_eq!(region_of("s3.eu-west-1.amazonaws.com"), "eu-west-1");
        assert_eq!(region_of("s3-us-west-2.amazonaws.com"), "us-west-2");
        assert_eq!(region_of("s3.amazonaws.com"), "us-east-1");
        assert_eq!(region_of("minio.test:9000"), "us-east-1");
    }

    #[test]
    fn mistakes_are_told() {
        for (json, want) in [
            (json!({}), "bucket: bucket is empty"),
            (json!({"bucket": "b"}), "access_id: access_id is empty and use_iam_provider is false"),
            (json!({"bucket": "b", "access_id": "x"}), "secret_key: secret_key is empty"),
            (with(json!({"host": "https://h"})), "host: host must not contain a scheme"),
            (with(json!({"host": "h/x"})), "host: write host or host:port"),
            (with(json!({"endpoint": "h"})), "endpoint: write http://host[:port]"),
            (with(json!({"endpoint": "http://h", "host": "h"})), "endpoint: cannot specify both"),
            (with(json!({"encryption_key": "x"})), "encryption_key: encryption key must have"),
        ] {
            let error = open(json).err().unwrap().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn locks_end_by_the_clock_of_the_service() {
        let fields = |age: u64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let mut fields = HeaderMap::new();
            for (name, time) in [("date", now), ("last-modified", now - Duration::from_secs(age))] {
                fields.insert(name, httpdate::fmt_http_date(time).parse().unwrap());
            }
            fields
        };
        assert!(!is_over(&fields(15)) && is_over(&fields(17)));
        assert!(!is_over(&HeaderMap::new()), "without times it is left alone");
        assert_ne!(token().unwrap(), token().unwrap());
    }
}
