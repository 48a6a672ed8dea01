//! The connection to Redis: one server, a cluster, or the master that Sentinels name. Made when it
//! is needed, and again when it broke.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client as OneClient, Cmd, ConnectionAddr, ConnectionInfo,
    FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisFuture,
    TlsCertificates, TlsMode,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use crate::storage::remote::Fault;

/// How to reach the servers.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) kind: Kind,
    /// Hosts and ports.
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) sentinel_password: String,
    pub(super) db: i64,
    pub(super) tls: Option<Tls>,
    /// For connecting, and for each answer.
    pub(super) timeout: Duration,
}

/// What stands at the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    Cluster,
    /// Sentinels that know a master by this name.
    Failover(String),
}

/// How the server shows who it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Anything is believed.
    pub(super) insecure: bool,
    /// PEM; the system's roots if absent.
    pub(super) roots: Option<Vec<u8>>,
}

/// A client with its connection.
pub(super) struct Client {
    settings: Settings,
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("addresses", &self.settings.addresses)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, redis::Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<redis::Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(cmd, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

impl Client {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, connection: Mutex::default() }
    }

    /// Runs a command. It is sent again where a connection from before turns out to be gone, so it
    /// has to be one that may be sent twice.
    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        for again in [true, false] {
            let (mut connection, fresh) = self.connection().await?;
            match command.query_async(&mut connection).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    let broken = error.is_io_error()
                        || error.is_unrecoverable_error()
                        || error.code() == Some("READONLY");
                    if broken {
                        *self.connection.lock().await = None;
                    }
                    if !(broken && again && !fresh) {
                        return Err(fault(&error));
                    }
                }
            }
        }
        Err(Fault::gone("the connection breaks at once"))
    }

    /// The connection, and whether it was made just now.
    async fn connection(&self) -> Result<(Connection, bool), Fault> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok((connection.clone(), false));
        }
        let made = self.settings.connect().await.map_err(|error| fault(&error))?;
        *slot = Some(made.clone());
        Ok((made, true))
    }
}

impl Settings {
    async fn connect(&self) -> Result<Connection, RedisError> {
        if self.tls.is_some() {
            // The driver takes the process's provider. It may be set already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        match &self.kind {
            Kind::One => self.connect_one().await,
            Kind::Cluster => self.connect_cluster().await,
            Kind::Failover(master) => self.connect_failover(master).await,
        }
    }

    async fn connect_one(&self) -> Result<Connection, RedisError> {
        let mut infos = self.infos()?;
        if infos.is_empty() {
            return Err((redis::ErrorKind::InvalidClientConfig, "no address").into());
        }
        let info = infos.swap_remove(0);
        let client = match self.certificates() {
            Some(certificates) => OneClient::build_with_tls(info, certificates)?,
            None => OneClient::open(info)?,
        };
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        client.get_multiplexed_async_connection_with_config(&limits).await.map(Connection::One)
    }

    async fn connect_cluster(&self) -> Result<Connection, RedisError> {
        let mut builder = ClusterClient::builder(self.infos()?)
            .connection_timeout(self.timeout)
            .response_timeout(self.timeout)
            .retries(3);
        if let Some(mode) = self.tls_mode() {
            builder = builder.tls(mode);
        }
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        builder.build()?.get_async_connection().await.map(Connection::Cluster)
    }

    async fn connect_failover(&self, master: &str) -> Result<Connection, RedisError> {
        let addresses = self.addresses.iter().map(|address| self.address(address));
        let mut builder =
            SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
                .set_client_to_redis_db(self.db);
        if !self.username.is_empty() {
            builder = builder.set_client_to_redis_username(&self.username);
        }
        if !self.password.is_empty() {
            builder = builder.set_client_to_redis_password(&self.password);
        }
        if !self.sentinel_password.is_empty() {
            builder = builder.set_client_to_sentinel_password(&self.sentinel_password);
        }
        if let Some(mode) = self.tls_mode() {
            builder =
                builder.set_client_to_redis_tls_mode(mode).set_client_to_sentinel_tls_mode(mode);
        }
        if let Some(certificates) = self.certificates() {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let mut client = builder.build()?;
        client.get_async_connection_with_config(&limits).await.map(Connection::One)
    }

    fn address(&self, (host, port): &(String, u16)) -> ConnectionAddr {
        let (host, port) = (host.clone(), *port);
        match &self.tls {
            Some(tls) => {
                ConnectionAddr::TcpTls { host, port, insecure: tls.insecure, tls_params: None }
            }
            None => ConnectionAddr::Tcp(host, port),
        }
    }

    fn infos(&self) -> Result<Vec<ConnectionInfo>, RedisError> {
        let mut login = RedisConnectionInfo::default().set_db(self.db);
        if !self.username.is_empty() {
            login = login.set_username(&self.username);
        }
        if !self.password.is_empty() {
            login = login.set_password(&self.password);
        }
        let infos = self.addresses.iter().map(|address| {
            let info = self.address(address).into_connection_info()?;
            Ok(info.set_redis_settings(login.clone()))
        });
        infos.collect()
    }

    fn tls_mode(&self) -> Option<TlsMode> {
        let tls = self.tls.as_ref()?;
        Some(if tls.insecure { TlsMode::Insecure } else { TlsMode::Secure })
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let tls = self.tls.as_ref()?;
        let root_cert = Some(tls.roots.clone().filter(|_| !tls.insecure)?);
        Some(TlsCertificates { client_tls: None, root_cert })
    }
}

/// What to do about errors, by the word with which they begin.
const REMEDIES: &[(&str, &str)] = &[
    ("NOAUTH", "set `password` (and `username`) of `storage redis`"),
    ("WRONGPASS", "check `username` and `password` of `storage redis`"),
    (
        "NOPERM",
        "the user of `storage redis` needs the commands get, set, del, exists, zadd, zrem, zrange, eval for its keys",
    ),
    ("READONLY", "this server is a replica: name the master, or use `storage redis failover`"),
    (
        "OOM",
        "Redis is full: raise `maxmemory`, or give it a policy that spares keys without expiry",
    ),
    ("MISCONF", "Redis cannot write to its disk: look at its log"),
    ("MOVED", "this is a cluster: write `storage redis cluster`"),
    ("CROSSSLOT", "this is a cluster: write `storage redis cluster`"),
];

fn fault(error: &RedisError) -> Fault {
    let text = error.to_string();
    let known = REMEDIES.iter().find(|(code, _)| error.code() == Some(code) || text.contains(code));
    if let Some((_, remedy)) = known {
        return Fault::refused(format!("{text} ({remedy})"));
    }
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        return Fault::refused(format!("{text} (check `username` and `password`)"));
    }
    let gone = error.is_io_error() || error.is_unrecoverable_error() || error.is_cluster_error();
    if gone
        || error.code().is_some_and(|code| ["LOADING", "CLUSTERDOWN", "TRYAGAIN"].contains(&code))
    {
        return Fault::gone(text);
    }
    Fault::refused(text)
}
