//! The admin endpoint's settings (spec A001–A008).

use caddis_config::{AdminConfig, ConfigError, NetworkAddress};
use caddis_core::Template;

use crate::config_loader::ConfigLoader;

/// Where the admin API listens and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// The address where none is configured and `CADDY_ADMIN` is not set.
pub const DEFAULT_ADMIN: &str = "localhost:2019";

impl AdminPlan {
    /// Resolves the settings; `default_listen` is used where the config names no address.
    ///
    /// # Errors
    /// An address that is none or stands for several.
    pub fn compile(
        config: Option<&AdminConfig>,
        default_listen: &str,
    ) -> Result<Self, ConfigError> {
        let empty = AdminConfig::default();
        let config = config.unwrap_or(&empty);
        let persist = config.config.as_ref().and_then(|settings| settings.persist).unwrap_or(true);
        let unsupported = |path: &str, what: &str| {
            Err(ConfigError::new(path, format!("{what} is not supported yet")))
        };
        if config.remote.is_some() {
            return unsupported("admin.remote", "remote administration");
        }
        if config.identity.is_some() {
            return unsupported("admin.identity", "an identity of the server");
        }
        let load = match &config.config {
            Some(settings) => ConfigLoader::compile(settings)?,
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
            });
        }
        let text = if config.listen.is_empty() { default_listen } else { &config.listen };
        let text = Template::render_global(text, caddis_core::template::Unknown::Empty);
        let fail = |message: String| ConfigError::new("admin.listen", message);
        let listen = NetworkAddress::parse_with_defaults(&text, "tcp", 2019)
            .map_err(|error| fail(format!("parsing admin listener address: {error}")))?;
        if listen.port_range_size() != 1 {
            return Err(fail(
                "must be exactly one listener address; cannot listen on: ".to_owned() + &text,
            ));
        }
        let origins = if config.origins.is_empty() {
            default_origins(&listen)
        } else {
            config.origins.clone()
        };
        let check_host = !listen.is_unix() && !listen.is_fd() && !listen.is_wildcard_interface();
        Ok(Self {
            listen: Some(listen),
            origins,
            enforce_origin: config.enforce_origin,
            check_host,
            persist,
            load,
        })
    }
}

fn default_origins(listen: &NetworkAddress) -> Vec<String> {
    if listen.is_unix() || listen.is_fd() {
        return vec!["".into(), "127.0.0.1".into(), "::1".into()];
    }
    let port = listen.port();
    if listen.is_loopback() {
        return ["localhost", "::1", "127.0.0.1"]
            .map(|host| caddis_config::value::join_host_port(host, &port))
            .to_vec();
    }
    vec![listen.join_host_port(0)]
}
