//! The admin endpoints' settings (spec A001–A011).

use std::sync::Arc;

use caddis_config::{AdminConfig, Config, ConfigError, NetworkAddress, RemoteAdmin};
use caddis_core::Template;
use caddis_tls::{ManagedSubject, RemoteAccess, storage::OtherStorage};

use crate::config_loader::ConfigLoader;

/// Where the admin API listens and who may use it.
#[derive(Debug, Clone)]
pub struct AdminPlan {
    /// The address; `None` where the endpoint is disabled.
    pub listen: Option<NetworkAddress>,
    /// Allowed hosts and origins (`host:port`, or with scheme).
    pub origins: Vec<String>,
    /// Whether a request must have an allowed `Origin`.
    pub enforce_origin: bool,
    /// Whether the `Host` header is checked.
    pub check_host: bool,
    /// Whether the config is kept on disk after a load.
    pub persist: bool,
    /// The config to pull from elsewhere.
    pub load: Option<ConfigLoader>,
    /// Names of this server, for which it has certificates of its own.
    pub identity: Option<IdentityPlan>,
    /// The endpoint for others; there is an identity then.
    pub remote: Option<Arc<RemotePlan>>,
}

/// `admin.identity`: certificates that say who this server is.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityPlan {
    /// The names, with their issuers.
    pub subjects: Vec<ManagedSubject>,
    /// Where they are kept: on this machine, since they are this server's alone, whatever storage a
    /// fleet shares.
    pub storage: OtherStorage,
}

/// `admin.remote`: the endpoint that asks clients for certificates.
#[derive(Debug)]
pub struct RemotePlan {
    /// The address.
    pub listen: NetworkAddress,
    /// Who may do what.
    pub access: RemoteAccess,
}

/// The address of the remote endpoint where none is configured.
pub const DEFAULT_REMOTE_ADMIN: &str = ":2021";

/// The address where none is configured and `CADDY_ADMIN` is not set.
pub const DEFAULT_ADMIN: &str = "localhost:2019";

impl AdminPlan {
    /// Resolves the settings; `default_listen` is used where the config names no address, and
    /// issuers take what they need from the `whole` config.
    ///
    /// # Errors
    /// An address that is none or stands for several; a remote endpoint without an identity or with
    /// certificates that are none; issuers that cannot be.
    pub fn compile(
        config: Option<&AdminConfig>,
        default_listen: &str,
        whole: &Config,
    ) -> Result<Self, ConfigError> {
        let empty = AdminConfig::default();
        let config = config.unwrap_or(&empty);
        let persist = config.config.as_ref().and_then(|settings| settings.persist).unwrap_or(true);
        let identity = match &config.identity {
            Some(identity) => Some(
                crate::tls::identity(identity, whole)
                    .map_err(|error| error.under("admin.identity"))?,
            ),
            None => None,
        };
        let remote = match &config.remote {
            Some(remote) => Some(Arc::new(RemotePlan::compile(remote, identity.as_ref())?)),
            None => None,
        };
        let load = match &config.config {
            Some(settings) => ConfigLoader::compile(settings, identity.as_ref())?,
            None => None,
        };
        if config.disabled {
            let origins = Vec::new();
            return Ok(Self {
                listen: None,
                origins,
                enforce_origin: false,
                check_host: false,
                persist,
                load,
                identity,
                remote,
            });
        }
        let text = if config.listen.is_empty() { default_listen } else { &config.listen };
        let listen = one_address(text).map_err(|error| error.under("admin.listen"))?;
        let origins = config.origins.clone().unwrap_or_else(|| default_origins(&listen));
        let check_host = !listen.is_unix() && !listen.is_fd() && !listen.is_wildcard_interface();
        Ok(Self {
            listen: Some(listen),
            origins,
            enforce_origin: config.enforce_origin,
            check_host,
            persist,
            load,
            identity,
            remote,
        })
    }
}

impl AdminPlan {
    /// The allowed origins as URLs, for logs: `//localhost:2019`.
    pub fn shown_origins(&self) -> Vec<String> {
        let shown = |origin: &String| match origin.contains("://") {
            true => origin.clone(),
            false => format!("//{origin}"),
        };
        self.origins.iter().map(shown).collect()
    }
}

impl RemotePlan {
    fn compile(config: &RemoteAdmin, identity: Option<&IdentityPlan>) -> Result<Self, ConfigError> {
        if identity.is_none_or(|identity| identity.subjects.is_empty()) {
            let message = "remote administration needs a certificate to show to its clients: name \
                this server in `admin.identity.identifiers`, with `issuers` that can give it one";
            return Err(ConfigError::new("admin.remote", message));
        }
        let text = match config.listen.as_str() {
            "" => DEFAULT_REMOTE_ADMIN,
            listen => listen,
        };
        let listen = one_address(text).map_err(|error| error.under("admin.remote.listen"))?;
        let access = RemoteAccess::compile(&config.access_control)
            .map_err(|error| error.under("admin.remote.access_control"))?;
        Ok(Self { listen, access })
    }
}

/// The one address that a text with placeholders names.
fn one_address(text: &str) -> Result<NetworkAddress, ConfigError> {
    let fail = |message: String| ConfigError::new("", message);
    let text = Template::render_global(text, caddis_core::template::Unknown::Empty);
    let listen = NetworkAddress::parse_with_defaults(&text, "tcp", 2019)
        .map_err(|error| fail(format!("parsing listener address: {error}")))?;
    if listen.port_range_size() != 1 {
        let message = "must be exactly one listener address; cannot listen on: ";
        return Err(fail(message.to_owned() + &text));
    }
    Ok(listen)
}

fn default_origins(listen: &NetworkAddress) -> Vec<String> {
    if listen.is_unix() || listen.is_fd() {
        // No browser gets there.
        return Vec::new();
    }
    let port = listen.port();
    if listen.is_loopback() {
        return ["localhost", "::1", "127.0.0.1"]
            .map(|host| caddis_config::value::join_host_port(host, &port))
            .to_vec();
    }
    vec![listen.join_host_port(0)]
}
