//! `caddy.storage.postgres`: the tables of the plugin `yroc92/postgres-storage`, so that its store
//! is used as it is.
//!
//! ```text
//! storage postgres {
//!     connection_string <url or pairs>
//!     host <host>                      # in place of the string: localhost
//!     port <port>                      # 5432
//!     user <name>
//!     password <password>
//!     dbname <name>
//!     sslmode disable | prefer | require | verify-ca | verify-full
//!     disable_ddl <bool>
//!     query_timeout <duration>         # 3s
//!     lock_timeout <duration>          # 1m
//! }
//! ```
//!
//! What is not given is taken from `POSTGRES_CONN_STRING`, `POSTGRES_HOST` and so on.
//!
//! A lock is a row with its end. The row has no place for a holder's name, so the end itself, exact
//! to the microsecond, tells whose it is: who put it there finds it unchanged.

mod connection_string;
mod tls;

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use caddis_config::{ConfigError, Duration as ConfigDuration};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_postgres::{
    Client, NoTls, Row,
    config::SslMode,
    error::SqlState,
    types::{ToSql, Type},
};

use self::{
    connection_string::{quoted, split},
    tls::{Connector, Mode},
};
use super::{
    LockGuard, Storage,
    options::{self, Scalar},
    remote::{self, Fault, Held, Lease, Peer},
};

const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(60);
const REMEDY: &str = "is PostgreSQL running, and do `host` and `port` or `connection_string` of `storage postgres` name it?";

const LOAD: &str = "select value from certmagic_data where key = $1";
const STORE: &str = "insert into certmagic_data (key, value) values ($1, $2) \
    on conflict (key) do update set value = $2, modified = current_timestamp";
const EXISTS: &str =
    "select 1 from certmagic_data where key = $1 or left(key, char_length($2)) = $2 limit 1";
const DELETE: &str = "delete from certmagic_data where key = $1 or left(key, char_length($2)) = $2";
const LIST: &str = "select key from certmagic_data where left(key, char_length($1)) = $1";
const MODIFIED: &str = "select (extract(epoch from modified) * 1000)::bigint from certmagic_data \
    where key = $1";
/// The clock is the server's, so that those of the fleet do not matter.
const LOCK: &str = "insert into certmagic_locks (key, expires) \
    values ($1, clock_timestamp() + $2 * interval '1 millisecond') \
    on conflict (key) do update set expires = excluded.expires \
    where certmagic_locks.expires <= clock_timestamp() returning expires::text";
const RENEW: &str = "update certmagic_locks \
    set expires = clock_timestamp() + $2 * interval '1 millisecond' \
    where key = $1 and expires = $3::text::timestamptz returning expires::text";
const RELEASE: &str =
    "delete from certmagic_locks where key = $1 and expires = $2::text::timestamptz";
const CHECK: &str = "select key, value, modified from certmagic_data limit 0; \
    select key, expires from certmagic_locks limit 0";
const CREATE: &str = "create table if not exists certmagic_data (key text primary key, \
    value bytea, modified timestamptz default current_timestamp); \
    create table if not exists certmagic_locks (key text primary key, \
    expires timestamptz default current_timestamp)";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    query_timeout: ConfigDuration,
    lock_timeout: ConfigDuration,
    host: String,
    port: Scalar,
    user: String,
    password: String,
    dbname: String,
    sslmode: String,
    connection_string: String,
    disable_ddl: Scalar,
}

/// Storage in PostgreSQL.
#[derive(Debug)]
struct Postgres {
    peer: Arc<Peer>,
    database: Arc<Database>,
    lock_timeout: Duration,
}

/// The storage of a configuration. Nothing is connected yet.
pub(super) fn open(json: Value) -> Result<Arc<dyn Storage>, ConfigError> {
    let config: Config = caddis_config::decode(json)?;
    let disable_ddl = match config.disable_ddl.bool("disable_ddl")? {
        Some(true) => true,
        _ => match std::env::var("POSTGRES_DISABLE_DDL") {
            Ok(text) if !text.is_empty() => options::parse_bool(&text).ok_or_else(|| {
                ConfigError::new("disable_ddl", "POSTGRES_DISABLE_DDL is neither true nor false")
            })?,
            _ => false,
        },
    };
    let (settings, connector) = settings(&config)?;
    let name = describe(&settings);
    let limit = options::positive(config.query_timeout, QUERY_TIMEOUT);
    // The first call connects, too.
    let peer = Peer::new(name, limit + CONNECT_TIMEOUT, REMEDY);
    let database = Database { settings, connector, disable_ddl, limit, client: Mutex::default() };
    Ok(Arc::new(Postgres {
        peer: Arc::new(peer),
        database: Arc::new(database),
        lock_timeout: options::positive(config.lock_timeout, LOCK_TIMEOUT)
            .max(Duration::from_secs(1)),
    }))
}

type Settings = (tokio_postgres::Config, Option<Connector>);

fn settings(config: &Config) -> Result<Settings, ConfigError> {
    let string = options::text_or_env(&config.connection_string, "POSTGRES_CONN_STRING");
    let (parts, path) = if string.is_empty() {
        let mut pairs = Vec::new();
        for (key, value, variable) in [
            ("host", options::text_or_env(&config.host, "POSTGRES_HOST"), "localhost"),
            ("port", options::text_or_env(&config.port.0, "POSTGRES_PORT"), ""),
            ("user", options::text_or_env(&config.user, "POSTGRES_USER"), ""),
            ("password", options::text_or_env(&config.password, "POSTGRES_PASSWORD"), ""),
            ("dbname", options::text_or_env(&config.dbname, "POSTGRES_DBNAME"), ""),
            ("sslmode", options::text_or_env(&config.sslmode, "POSTGRES_SSLMODE"), ""),
        ] {
            let value = if value.is_empty() { variable.to_owned() } else { value };
            if !value.is_empty() {
                pairs.push(format!("{key}={}", quoted(&value)));
            }
        }
        (split(&pairs.join(" ")), "")
    } else {
        (split(&string), "connection_string")
    };
    if !parts.unknown.is_empty() {
        let message = format!("{} is not supported yet", parts.unknown.join(", "));
        return Err(ConfigError::new(path, message));
    }
    let mode = Mode::parse(parts.mode.as_deref().unwrap_or_default()).ok_or_else(|| {
        let place = if path.is_empty() { "sslmode" } else { path };
        ConfigError::new(
            place,
            "unknown sslmode; write disable, prefer, require, verify-ca or verify-full",
        )
    })?;
    // The driver's errors may quote the text, and it may hold a password.
    let mut settings: tokio_postgres::Config = parts
        .rest
        .parse()
        .map_err(|_| ConfigError::new(path, "this is no connection string for PostgreSQL"))?;
    if settings.get_hosts().is_empty() && settings.get_hostaddrs().is_empty() {
        settings.host("localhost");
    }
    if settings.get_user().is_none() {
        return Err(ConfigError::new("user", "`user` is missing"));
    }
    settings.ssl_mode(match mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    settings.connect_timeout(CONNECT_TIMEOUT);
    // Certificates are seldom asked for; what is between forgets connections sooner.
    settings.keepalives_idle(KEEPALIVE);
    settings.application_name("caddis");
    let roots =
        parts.root.filter(|_| mode != Mode::Disable).map(|file| roots(&file)).transpose()?;
    let connector = (mode != Mode::Disable)
        .then(|| Connector::new(mode, roots))
        .transpose()
        .map_err(|error| ConfigError::new(path, error.to_string()))?;
    Ok((settings, connector))
}

fn roots(file: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bad = |error: &dyn fmt::Display| {
        ConfigError::new("connection_string", format!("sslrootcert: {file}: {error}"))
    };
    let text = std::fs::read(file).map_err(|error| bad(&error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.map_err(|error| bad(&error))
}

fn describe(settings: &tokio_postgres::Config) -> String {
    use tokio_postgres::config::Host;
    let host = match settings.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => settings.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = settings.get_ports().first().copied().unwrap_or(5432);
    let user = settings.get_user().unwrap_or_default();
    format!("postgres:{host}:{port}/{}", settings.get_dbname().unwrap_or(user))
}

/// The database with its connection, made when it is needed and again when it broke.
struct Database {
    settings: tokio_postgres::Config,
    connector: Option<Connector>,
    disable_ddl: bool,
    limit: Duration,
    client: Mutex<Option<Arc<Client>>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

type Arguments<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl Database {
    /// Runs one statement; without a name, so that it works behind poolers.
    async fn query(&self, sql: &str, arguments: Arguments<'_>) -> Result<Vec<Row>, Fault> {
        let client = self.client().await?;
        let query = client.query_typed(sql, arguments);
        match tokio::time::timeout(self.limit, query).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                if client.is_closed() || error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
                {
                    self.forget(&client).await;
                }
                Err(fault(&error))
            }
            Err(_) => {
                // The answer may still come, and later ones behind it.
                self.forget(&client).await;
                Err(Fault::gone(format!("no answer within {} s", self.limit.as_secs_f32())))
            }
        }
    }

    async fn forget(&self, broken: &Arc<Client>) {
        let mut slot = self.client.lock().await;
        if slot.as_ref().is_some_and(|client| Arc::ptr_eq(client, broken)) {
            *slot = None;
        }
    }

    async fn client(&self) -> Result<Arc<Client>, Fault> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        *slot = None;
        let client = Arc::new(self.connect().await?);
        self.prepare(&client).await?;
        *slot = Some(client.clone());
        Ok(client)
    }

    async fn connect(&self) -> Result<Client, Fault> {
        macro_rules! drive {
            ($connection:expr) => {
                tokio::spawn(async move {
                    // Whoever waits for an answer is told.
                    if let Err(error) = $connection.await {
                        tracing::debug!(target: "storage", %error, "connection ended");
                    }
                })
            };
        }
        let client = match &self.connector {
            Some(connector) => {
                let connected = self.settings.connect(connector.clone()).await;
                let (client, connection) = connected.map_err(|error| fault(&error))?;
                drive!(connection);
                client
            }
            None => {
                let connected = self.settings.connect(NoTls).await;
                let (client, connection) = connected.map_err(|error| fault(&error))?;
                drive!(connection);
                client
            }
        };
        Ok(client)
    }

    /// Sees that the tables are there.
    async fn prepare(&self, client: &Client) -> Result<(), Fault> {
        let checked = match client.batch_execute(CHECK).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if checked.code() != Some(&SqlState::UNDEFINED_TABLE) || self.disable_ddl {
            return Err(fault(&checked));
        }
        match client.batch_execute(CREATE).await {
            Ok(()) => Ok(()),
            // Two servers of a fleet may start at the same time.
            Err(_) if client.batch_execute(CHECK).await.is_ok() => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }
}

/// What to do about errors, by SQLSTATE.
const REMEDIES: &[(&SqlState, &str)] = &[
    (&SqlState::INVALID_PASSWORD, "check `user` and `password` of `storage postgres`"),
    (
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        "check `user` of `storage postgres` and pg_hba.conf",
    ),
    (
        &SqlState::INVALID_CATALOG_NAME,
        "create the database, or correct `dbname` of `storage postgres`",
    ),
    (
        &SqlState::UNDEFINED_TABLE,
        "create the tables certmagic_data and certmagic_locks, or leave `disable_ddl` out",
    ),
    (
        &SqlState::INSUFFICIENT_PRIVILEGE,
        "the user needs select, insert, update and delete on certmagic_data and certmagic_locks, and create where they are not there yet",
    ),
    (
        &SqlState::READ_ONLY_SQL_TRANSACTION,
        "this server is a standby or set read-only: name the primary",
    ),
    (&SqlState::DISK_FULL, "the database's disk is full: make room"),
    (&SqlState::OUT_OF_MEMORY, "the database is out of memory"),
    (&SqlState::TOO_MANY_CONNECTIONS, "raise max_connections of the server"),
];

fn fault(error: &tokio_postgres::Error) -> Fault {
    let mut text = error.to_string();
    if let Some(database) = error.as_db_error() {
        text = format!("{}: {}", database.severity(), database.message());
    } else if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    if let Some(code) = error.code() {
        if let Some((_, remedy)) = REMEDIES.iter().find(|(known, _)| *known == code) {
            return Fault::refused(format!("{text} ({remedy})"));
        }
        // 57P0x: it is being shut down or started; 08: connection trouble.
        if code.code().starts_with("57P") || code.code().starts_with("08") {
            return Fault::gone(text);
        }
        return Fault::refused(text);
    }
    if text.contains("does not support TLS") {
        return Fault::refused(format!("{text} (set `sslmode disable`, or turn TLS on there)"));
    }
    if text.contains("password missing") || text.contains("authentication") {
        return Fault::refused(format!("{text} (set `password` of `storage postgres`)"));
    }
    Fault::gone(text)
}

/// The key as it is stored, and what all keys below it begin with.
fn places(key: &str) -> io::Result<(String, String)> {
    let key = remote::join("", key)?;
    let below = if key.is_empty() { String::new() } else { format!("{key}/") };
    Ok((key, below))
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row) -> Result<T, Fault> {
    row.try_get(0).map_err(|error| Fault::refused(format!("unexpected answer: {error}")))
}

impl Storage for Postgres {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        let (database, (key, _)) = (self.database.clone(), places(key)?);
        self.peer.call(async move {
            let rows = database.query(LOAD, &[(&key, Type::TEXT)]).await?;
            let row = rows.first().ok_or_else(|| Fault::not_found(&key))?;
            let value: Option<Vec<u8>> = column(row)?;
            Ok(value.unwrap_or_default())
        })
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let (database, (key, _), content) = (self.database.clone(), places(key)?, content.to_vec());
        self.peer.call(async move {
            let arguments: Arguments<'_> = &[(&key, Type::TEXT), (&content, Type::BYTEA)];
            database.query(STORE, arguments).await.map(drop)
        })
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        let (database, (key, below)) = (self.database.clone(), places(key)?);
        self.peer.call(async move {
            let arguments: Arguments<'_> = &[(&key, Type::TEXT), (&below, Type::TEXT)];
            Ok(!database.query(EXISTS, arguments).await?.is_empty())
        })
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let (database, (key, below)) = (self.database.clone(), places(key)?);
        if key.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "bad storage key"));
        }
        self.peer.call(async move {
            let arguments: Arguments<'_> = &[(&key, Type::TEXT), (&below, Type::TEXT)];
            database.query(DELETE, arguments).await.map(drop)
        })
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let (database, (folder, below)) = (self.database.clone(), places(prefix)?);
        let keys: Vec<String> = self.peer.call(async move {
            let rows = database.query(LIST, &[(&below, Type::TEXT)]).await?;
            rows.iter().map(column).collect()
        })?;
        Ok(remote::children(&folder, keys.iter().map(String::as_str)))
    }

    fn walk(&self) -> io::Result<Vec<String>> {
        let database = self.database.clone();
        let mut keys: Vec<String> = self.peer.call(async move {
            let rows = database.query(LIST, &[(&"", Type::TEXT)]).await?;
            rows.iter().map(column).collect()
        })?;
        keys.sort();
        Ok(keys)
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        let (database, (key, _)) = (self.database.clone(), places(key)?);
        let millis: Option<i64> = self.peer.call(async move {
            let rows = database.query(MODIFIED, &[(&key, Type::TEXT)]).await?;
            column(rows.first().ok_or_else(|| Fault::not_found(&key))?)
        })?;
        let millis = millis.and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default();
        Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        let lease = i64::try_from(self.lock_timeout.as_millis()).unwrap_or(i64::MAX);
        let held = remote::acquire(self.peer.name(), name, wait, || {
            let (database, key) = (self.database.clone(), name.to_owned());
            let end: Option<String> = self.peer.call(async move {
                let arguments: Arguments<'_> = &[(&key, Type::TEXT), (&lease, Type::INT8)];
                database.query(LOCK, arguments).await?.first().map(column).transpose()
            })?;
            Ok(end.map(|end| PostgresLock {
                peer: self.peer.clone(),
                database: self.database.clone(),
                key: name.to_owned(),
                end,
                lease,
            }))
        })?;
        Ok(Box::new(Lease::hold(held, self.lock_timeout / 3)?))
    }

    fn describe(&self) -> String {
        self.peer.name().to_owned()
    }
}

struct PostgresLock {
    peer: Arc<Peer>,
    database: Arc<Database>,
    key: String,
    /// As the database tells it.
    end: String,
    /// Milliseconds.
    lease: i64,
}

impl Held for PostgresLock {
    fn name(&self) -> &str {
        &self.key
    }

    fn renew(&mut self) -> io::Result<bool> {
        let (database, key, end, lease) =
            (self.database.clone(), self.key.clone(), self.end.clone(), self.lease);
        let end: Option<String> = self.peer.call(async move {
            let arguments: Arguments<'_> =
                &[(&key, Type::TEXT), (&lease, Type::INT8), (&end, Type::TEXT)];
            database.query(RENEW, arguments).await?.first().map(column).transpose()
        })?;
        let Some(end) = end else { return Ok(false) };
        self.end = end;
        Ok(true)
    }

    fn release(&mut self) -> io::Result<()> {
        let (database, key, end) = (self.database.clone(), self.key.clone(), self.end.clone());
        self.peer.call(async move {
            let arguments: Arguments<'_> = &[(&key, Type::TEXT), (&end, Type::TEXT)];
            database.query(RELEASE, arguments).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::open;

    #[test]
    fn settings_are_joined() {
        let string = json!({"connection_string": "postgres://u:p%20w@h:7/d?sslmode=disable"});
        assert_eq!(open(string).unwrap().describe(), "postgres:h:7/d");
        let fields = json!({"host": "h", "port": 7, "user": "u", "password": "it's", "dbname": "d",
            "sslmode": "verify-full", "disable_ddl": true, "query_timeout": "1s",
            "lock_timeout": 5_000_000_000_i64});
        let storage = open(fields).unwrap();
        assert_eq!(storage.describe(), "postgres:h:7/d");
        assert!(!format!("{storage:?}").contains("it's"));
        assert_eq!(open(json!({"user": "u"})).unwrap().describe(), "postgres:localhost:5432/u");
    }

    #[test]
    fn mistakes_are_told() {
        for (json, want) in [
            (
                json!({"connection_string": "postgres://u:secret@h:x/"}),
                "connection_string: this is no",
            ),
            (
                json!({"connection_string": "postgres://u@h/?sslkey=x"}),
                "connection_string: sslkey is not supported yet",
            ),
            (json!({"user": "u", "sslmode": "on"}), "sslmode: unknown sslmode"),
            (json!({"host": "h"}), "user: `user` is missing"),
            (json!({"user": "u", "disable_ddl": "x"}), "disable_ddl: invalid boolean value"),
        ] {
            let error = open(json).err().unwrap().to_string();
            assert!(error.starts_with(want) && !error.contains("secret"), "{error}");
        }
    }
}
