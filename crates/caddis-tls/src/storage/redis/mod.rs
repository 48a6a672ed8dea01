//! `caddy.storage.redis`: keys as the plugin `pberkel/caddy-storage-redis` keeps them, so that its
//! store is used as it is.
//!
//! ```text
//! storage redis [cluster | failover] {
//!     host <host…>                     # 127.0.0.1
//!     port <port…>                     # 6379
//!     address <host:port…>             # in place of host and port
//!     username <name>
//!     password <password>
//!     sentinel_password <password>
//!     master_name <name>               # with failover
//!     db <number>                      # 0
//!     timeout <seconds>                # 5
//!     key_prefix <prefix>              # caddy
//!     encryption_key <32 characters>
//!     compression flate | zlib | false
//!     tls_enabled <bool>
//!     tls_insecure <bool>
//!     tls_server_certs_pem <pem>
//!     tls_server_certs_path <path>
//! }
//! ```
//!
//! Each key is a string below the prefix; each folder is a sorted set of what lies in it, folders
//! with a slash at the end, so that nothing has to be scanned. Locks are strings with a random
//! token and an expiry at `<prefix>/locks/<name>`.

mod client;
mod envelope;

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use caddis_config::ConfigError;
use redis::{Cmd, cmd};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use self::{
    client::{Client, Kind, Settings, Tls},
    envelope::Compression,
};
use super::{
    LockGuard, Storage,
    options::{self, List, Scalar},
    remote::{self, Fault, Held, Lease, Peer},
};

/// How long a lock is held without being renewed. (The plugin takes five seconds; a longer one does
/// not disturb it.)
const LOCK_TTL: Duration = Duration::from_secs(10);
const LOCK_RENEW: Duration = Duration::from_secs(3);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const REMEDY: &str = "is Redis running, and do `host` and `port` of `storage redis` name it?";

/// Puts the expiry off where the token is ours. Where there is none, a replica took over that had not
/// heard of it, or nobody else wanted it since it ended: then it is ours still.
const RENEW: &str = "local held = redis.call('get', KEYS[1]) if not held then redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end if held == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0";
/// Removes the lock where the token is ours.
const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    client_type: String,
    address: List,
    host: List,
    port: List,
    db: Scalar,
    timeout: Scalar,
    username: String,
    password: String,
    sentinel_password: String,
    master_name: String,
    key_prefix: Option<String>,
    encryption_key: String,
    compression: Scalar,
    tls_enabled: Scalar,
    tls_insecure: Scalar,
    tls_server_certs_pem: String,
    tls_server_certs_path: String,
    // They choose a replica to read from. Certificates are always read from the master.
    #[serde(rename = "route_by_latency")]
    _route_by_latency: Scalar,
    #[serde(rename = "route_randomly")]
    _route_randomly: Scalar,
}

/// Storage in Redis.
#[derive(Debug)]
struct Redis {
    peer: Arc<Peer>,
    store: Arc<Store>,
}

/// What the calls work with.
struct Store {
    client: Client,
    prefix: String,
    compression: Compression,
    key: Option<[u8; 32]>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The storage of a configuration. Nothing is connected yet.
pub(super) fn open(json: Value) -> Result<Arc<dyn Storage>, ConfigError> {
    let config: Config = caddis_config::decode(json)?;
    let settings = settings(&config)?;
    let prefix = prefix(&options::text(config.key_prefix.as_deref().unwrap_or("caddy")))?;
    let store = Store {
        prefix,
        compression: compression(&config.compression.text())?,
        key: encryption_key(&options::text(&config.encryption_key))?,
        client: Client::new(settings.clone()),
    };
    let addresses: Vec<_> =
        settings.addresses.iter().map(|(host, port)| joined(host, *port)).collect();
    let name = format!("redis:{}/{}/{}", addresses.join(","), settings.db, store.prefix);
    // Connecting and answering have a limit each.
    let peer = Peer::new(name, settings.timeout * 2, REMEDY);
    Ok(Arc::new(Redis { peer: Arc::new(peer), store: Arc::new(store) }))
}

fn settings(config: &Config) -> Result<Settings, ConfigError> {
    let addresses = addresses(config)?;
    let kind = match config.client_type.as_str() {
        "" | "simple" if addresses.len() > 1 => Kind::Cluster,
        "" | "simple" => Kind::One,
        "cluster" => Kind::Cluster,
        "failover" => {
            let master = options::text(&config.master_name);
            if master.is_empty() {
                let message = "'master_name' is required when using 'failover' client type";
                return Err(ConfigError::new("master_name", message));
            }
            Kind::Failover(master)
        }
        other => {
            let message =
                format!("unknown client type '{other}'; write simple, cluster or failover");
            return Err(ConfigError::new("client_type", message));
        }
    };
    let whole = |name: &str, value: &Scalar, default: i64| {
        let text = value.text();
        if text.is_empty() {
            return Ok(default);
        }
        let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
        number.ok_or_else(|| ConfigError::new(name, format!("invalid {name} value: {text}")))
    };
    let seconds = whole("timeout", &config.timeout, 0)?;
    let timeout = match u64::try_from(seconds) {
        Ok(0) | Err(_) => DEFAULT_TIMEOUT,
        Ok(seconds) => Duration::from_secs(seconds.min(3_600)),
    };
    Ok(Settings {
        kind,
        addresses,
        username: options::text(&config.username),
        password: options::text(&config.password),
        sentinel_password: options::text(&config.sentinel_password),
        db: whole("db", &config.db, 0)?,
        tls: tls(config)?,
        timeout,
    })
}

fn addresses(config: &Config) -> Result<Vec<(String, u16)>, ConfigError> {
    let port = |name: &str, text: &str| {
        text.parse::<u16>()
            .map_err(|_| ConfigError::new(name, format!("invalid port value: {text}")))
    };
    let mut all = Vec::new();
    for address in &config.address.0 {
        let address = options::text(address);
        let Some((host, number)) = address.rsplit_once(':') else {
            let message = format!("invalid address: {address}; write host:port");
            return Err(ConfigError::new("address", message));
        };
        all.push((host.trim_matches(['[', ']']).to_owned(), port("address", number)?));
    }
    if !all.is_empty() {
        return Ok(all);
    }
    // Where one list is shorter, its last one counts on.
    let (mut host, mut number) = ("127.0.0.1".to_owned(), 6379);
    for at in 0..config.host.0.len().max(config.port.0.len()).max(1) {
        if let Some(text) = config.host.0.get(at).map(|text| options::text(text))
            && !text.is_empty()
        {
            host = text;
        }
        if let Some(text) = config.port.0.get(at).map(|text| options::text(text))
            && !text.is_empty()
        {
            number = port("port", &text)?;
        }
        all.push((host.clone(), number));
    }
    Ok(all)
}

fn tls(config: &Config) -> Result<Option<Tls>, ConfigError> {
    if !config.tls_enabled.bool("tls_enabled")?.unwrap_or(false) {
        return Ok(None);
    }
    let pem = options::text(&config.tls_server_certs_pem);
    let path = options::text(&config.tls_server_certs_path);
    let roots = match (pem.is_empty(), path.is_empty()) {
        (true, true) => None,
        (false, true) => Some(pem.into_bytes()),
        (true, false) => Some(std::fs::read(&path).map_err(|error| {
            ConfigError::new("tls_server_certs_path", format!("{path}: {error}"))
        })?),
        (false, false) => {
            let message = "give either tls_server_certs_pem or tls_server_certs_path";
            return Err(ConfigError::new("tls_server_certs_path", message));
        }
    };
    let insecure = config.tls_insecure.bool("tls_insecure")?.unwrap_or(false);
    Ok(Some(Tls { insecure, roots }))
}

fn prefix(text: &str) -> Result<String, ConfigError> {
    let prefix = text.trim().trim_matches('/');
    let bad = |part: &&str| part.is_empty() || *part == "." || *part == "..";
    match prefix.split('/').find(bad) {
        Some(part) if !prefix.is_empty() => {
            Err(ConfigError::new("key_prefix", format!("invalid key_prefix segment: \"{part}\"")))
        }
        _ => Ok(prefix.to_owned()),
    }
}

fn compression(text: &str) -> Result<Compression, ConfigError> {
    match (text, options::parse_bool(text)) {
        ("", _) | (_, Some(false)) => Ok(Compression::None),
        ("flate", _) | (_, Some(true)) => Ok(Compression::Flate),
        ("zlib", _) => Ok(Compression::Zlib),
        _ => {
            let message =
                format!("invalid compression value: '{text}' (write 'flate', 'zlib' or 'false')");
            Err(ConfigError::new("compression", message))
        }
    }
}

fn encryption_key(text: &str) -> Result<Option<[u8; 32]>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    // Longer keys are cut, as in the plugin.
    let key = text.as_bytes().first_chunk::<32>().copied();
    key.map(Some).ok_or_else(|| {
        let message = "invalid length for 'encryption_key', must contain at least 32 bytes";
        ConfigError::new("encryption_key", message)
    })
}

fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Redis {
    fn place(&self, key: &str) -> io::Result<String> {
        remote::join(&self.store.prefix, key)
    }
}

impl Storage for Redis {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        self.peer.call(async move { Ok(store.get(&place).await?.0) })
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let (store, place, content) = (self.store.clone(), self.place(key)?, content.to_vec());
        self.peer.call(async move { store.put(&place, &content).await })
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        self.peer.call(async move { store.client.run(cmd("EXISTS").arg(place)).await })
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        self.peer.call(async move { store.remove(place).await })
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let (store, place) = (self.store.clone(), self.place(prefix)?);
        if place.is_empty() {
            let text = format!(
                "storage {}: the top cannot be listed without a `key_prefix`",
                self.peer.name()
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let found = self.peer.call(async move { store.folder(&place).await })?;
        let prefix = prefix.trim_matches('/');
        let names = found.iter().map(|name| name.trim_end_matches('/'));
        let mut keys: Vec<String> = match prefix {
            "" => names.map(str::to_owned).collect(),
            _ => names.map(|name| format!("{prefix}/{name}")).collect(),
        };
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        let (store, place) = (self.store.clone(), self.place(key)?);
        let modified = self.peer.call(async move { Ok(store.get(&place).await?.1) })?;
        Ok(modified.map_or(SystemTime::UNIX_EPOCH, SystemTime::from))
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        let key = self.place(&format!("locks/{name}"))?;
        let held = remote::acquire(self.peer.name(), name, wait, || {
            let token = token();
            let (store, key_, token_) = (self.store.clone(), key.clone(), token.clone());
            let ours = self.peer.call(async move { store.try_lock(&key_, &token_).await })?;
            let (peer, store, key) = (self.peer.clone(), self.store.clone(), key.clone());
            Ok(ours.then_some(RedisLock { peer, store, key, token }))
        })?;
        Ok(Box::new(Lease::hold(held, LOCK_RENEW)?))
    }

    fn describe(&self) -> String {
        self.peer.name().to_owned()
    }
}

impl Store {
    async fn get(&self, place: &str) -> Result<(Vec<u8>, Option<OffsetDateTime>), Fault> {
        let text: Option<Vec<u8>> = self.client.run(cmd("GET").arg(place)).await?;
        let text = text.ok_or_else(|| Fault::not_found(place))?;
        envelope::open(place, &text, self.key.as_ref())
    }

    async fn put(&self, place: &str, content: &[u8]) -> Result<(), Fault> {
        let now = OffsetDateTime::now_utc();
        let text = envelope::seal(content, self.compression, self.key.as_ref(), now)?;
        // The folders first, so that no value is ever without a place in them. A folder that knows
        // the name already is in its own folder, too.
        let (mut path, mut slash) = (place, "");
        while let Some((folder, name)) = path.rsplit_once('/') {
            let mut add = cmd("ZADD");
            add.arg(folder).arg(now.unix_timestamp()).arg(format!("{name}{slash}"));
            let added: i64 = self.client.run(&add).await?;
            if added == 0 {
                break;
            }
            (path, slash) = (folder, "/");
        }
        self.client.run(cmd("SET").arg(place).arg(text)).await
    }

    async fn folder(&self, place: &str) -> Result<Vec<String>, Fault> {
        let mut range = cmd("ZRANGE");
        range.arg(place).arg(0).arg(-1);
        match self.client.run(&range).await {
            // A value, not a folder.
            Err(Fault::Refused(_, text)) if text.contains("WRONGTYPE") => Ok(Vec::new()),
            other => other,
        }
    }

    /// Removes a value or a folder with all below it.
    async fn remove(&self, place: String) -> Result<(), Fault> {
        let mut todo = vec![place];
        while let Some(place) = todo.pop() {
            let inside = self.folder(&place).await?;
            if inside.is_empty() {
                self.forget(&place).await?;
                let _: i64 = self.client.run(cmd("DEL").arg(&place)).await?;
                continue;
            }
            for name in inside {
                let below = format!("{place}/{}", name.trim_end_matches('/'));
                // A folder whose set is lost would stay a member for ever.
                if name.ends_with('/') && self.folder(&below).await?.is_empty() {
                    let _: i64 = self.client.run(cmd("ZREM").arg(&place).arg(name)).await?;
                } else {
                    todo.push(below);
                }
            }
        }
        Ok(())
    }

    /// Takes a value out of its folder, and folders that are empty then out of theirs.
    async fn forget(&self, place: &str) -> Result<(), Fault> {
        let (mut path, mut slash) = (place, "");
        while let Some((folder, name)) = path.rsplit_once('/') {
            let mut remove = cmd("ZREM");
            remove.arg(folder).arg(format!("{name}{slash}"));
            let _: i64 = self.client.run(&remove).await?;
            let left: bool = self.client.run(cmd("EXISTS").arg(folder)).await?;
            if left {
                break;
            }
            (path, slash) = (folder, "/");
        }
        Ok(())
    }

    async fn try_lock(&self, key: &str, token: &str) -> Result<bool, Fault> {
        let millis = LOCK_TTL.as_millis() as u64;
        let mut set = cmd("SET");
        set.arg(key).arg(token).arg("NX").arg("PX").arg(millis);
        let set: Option<String> = self.client.run(&set).await?;
        if set.is_some() {
            return Ok(true);
        }
        // The command may have been sent twice.
        let holder: Option<Vec<u8>> = self.client.run(cmd("GET").arg(key)).await?;
        Ok(holder.is_some_and(|holder| holder == token.as_bytes()))
    }
}

struct RedisLock {
    peer: Arc<Peer>,
    store: Arc<Store>,
    key: String,
    token: String,
}

impl RedisLock {
    fn script(&self, script: &str, argument: Option<u64>) -> io::Result<bool> {
        let mut eval: Cmd = cmd("EVAL");
        eval.arg(script).arg(1).arg(&self.key).arg(&self.token).arg(argument);
        let store = self.store.clone();
        let done: i64 = self.peer.call(async move { store.client.run(&eval).await })?;
        Ok(done == 1)
    }
}

impl Held for RedisLock {
    fn name(&self) -> &str {
        &self.key
    }

    fn renew(&mut self) -> io::Result<bool> {
        self.script(RENEW, Some(LOCK_TTL.as_millis() as u64))
    }

    fn release(&mut self) -> io::Result<()> {
        self.script(RELEASE, None).map(drop)
    }
}

/// A text that nobody else comes upon.
fn token() -> String {
    let bytes: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Config, Kind, open, settings};

    fn read(json: serde_json::Value) -> super::Settings {
        settings(&caddis_config::decode::<Config>(json).unwrap()).unwrap()
    }

    #[test]
    fn addresses_are_joined() {
        let settings = read(json!({}));
        assert_eq!(settings.addresses, [("127.0.0.1".to_owned(), 6379)]);
        let settings = read(json!({"host": ["a", "b"], "port": ["1"], "db": "3", "timeout": 7}));
        assert_eq!(settings.addresses, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!((settings.kind, settings.db, settings.timeout.as_secs()), (Kind::Cluster, 3, 7));
        let settings = read(json!({"address": "[::1]:7", "host": "x", "client_type": "simple"}));
        assert_eq!(settings.addresses, [("::1".to_owned(), 7)]);
        let failover = read(json!({"client_type": "failover", "master_name": "m"}));
        assert_eq!(failover.kind, Kind::Failover("m".into()));
    }

    #[test]
    fn mistakes_are_told() {
        for (json, want) in [
            (json!({"port": "x"}), "port: invalid port value: x"),
            (json!({"address": "x"}), "address: invalid address: x; write host:port"),
            (json!({"db": -1}), "db: invalid db value: -1"),
            (json!({"key_prefix": "a/../b"}), "key_prefix: invalid key_prefix segment: \"..\""),
            (json!({"client_type": "failover"}), "master_name: 'master_name' is required"),
            (json!({"encryption_key": "short"}), "encryption_key: invalid length"),
            (json!({"compression": "gzip"}), "compression: invalid compression value: 'gzip'"),
            (json!({"tls_enabled": "maybe"}), "tls_enabled: invalid boolean value"),
            (json!({"hots": "x"}), "hots"),
        ] {
            let error = open(json).err().unwrap().to_string();
            assert!(error.starts_with(want) || want == "hots" && error.contains(want), "{error}");
        }
        let storage = open(json!({"host": "h", "password": "secret"})).unwrap();
        assert_eq!(storage.describe(), "redis:h:6379/0/caddy");
        assert!(!format!("{storage:?}").contains("secret"));
    }
}
