//! The issuer's settings.

use std::{sync::Arc, time::Duration};

use caddis_config::{
    ConfigError,
    tls::{AcmeIssuer, ChainPreference, DnsChallengeConfig},
};
use caddis_core::template::{Template, Unknown};
use caddis_dns::{DnsProvider, http::Route};
use serde_json::Value;

use super::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING, read_roots};
use crate::error::Error;

/// The ports on which challenges are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For HTTP-01.
    pub http: u16,
    /// For TLS-ALPN-01.
    pub https: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 80, https: 443 }
    }
}

/// An ACME issuer.
#[derive(Debug, Clone, PartialEq)]
pub struct AcmeConfig {
    /// The directory's URL.
    pub directory: String,
    /// The directory's URL for attempts after a failure; empty for none.
    pub test_directory: String,
    /// The account's mail address; may be empty.
    pub email: String,
    /// The certificate profile; empty for the authority's own choice.
    pub profile: String,
    /// The account's key, PEM; empty for one of its own.
    pub account_key: String,
    /// Key id and key of an account elsewhere.
    pub external_account: Option<(String, Vec<u8>)>,
    /// The longest time for one certificate.
    pub timeout: Option<Duration>,
    /// Files with the roots that the directory's certificate may have; the system's if empty.
    pub trusted_roots: Vec<String>,
    /// Which of several chains.
    pub preferred_chains: Option<ChainPreference>,
    /// The wanted lifetime.
    pub lifetime: Option<Duration>,
    /// HTTP-01 may be used.
    pub http: bool,
    /// TLS-ALPN-01 may be used.
    pub tls_alpn: bool,
    /// DNS-01, which excludes the others.
    pub dns: Option<DnsChallenge>,
    /// The ports.
    pub ports: Ports,
    /// The address of the challenge's own listeners.
    pub bind_host: String,
    /// Challenges are shared over the storage.
    pub distributed: bool,
    /// The way to the authority.
    pub route: Route,
}

/// The settings of DNS-01.
#[derive(Debug, Clone)]
pub struct DnsChallenge {
    pub(crate) provider: Arc<dyn DnsProvider>,
    /// The provider's JSON, for comparison.
    source: Value,
    pub(crate) ttl: Duration,
    pub(crate) propagation_delay: Duration,
    /// None: the record is not looked for.
    pub(crate) propagation_timeout: Option<Duration>,
    pub(crate) resolvers: Vec<String>,
    pub(crate) override_domain: String,
}

impl PartialEq for DnsChallenge {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
            && self.ttl == other.ttl
            && self.propagation_delay == other.propagation_delay
            && self.propagation_timeout == other.propagation_timeout
            && self.resolvers == other.resolvers
            && self.override_domain == other.override_domain
    }
}

impl Default for AcmeConfig {
    fn default() -> Self {
        Self {
            directory: LETS_ENCRYPT.to_owned(),
            test_directory: LETS_ENCRYPT_STAGING.to_owned(),
            email: String::new(),
            profile: String::new(),
            account_key: String::new(),
            external_account: None,
            timeout: None,
            trusted_roots: Vec::new(),
            preferred_chains: None,
            lifetime: None,
            http: true,
            tls_alpn: true,
            dns: None,
            ports: Ports::default(),
            bind_host: String::new(),
            distributed: true,
            route: Route::default(),
        }
    }
}

/// The settings from JSON, its `module` key removed. `dns` is the TLS app's own provider.
///
/// # Errors
/// Unknown fields and providers, settings that cannot be.
pub fn compile_acme(
    json: Value,
    ports: Ports,
    dns: Option<&Value>,
) -> Result<AcmeConfig, ConfigError> {
    let config: AcmeIssuer = caddis_config::decode(json)?;
    let route = Route::compile(config.network_proxy.as_ref())
        .map_err(|error| error.under("network_proxy"))?;
    let global = |text: &str| Template::render_global(text, Unknown::Keep);
    let defaults = AcmeConfig::default();
    let directory = global(&config.ca);
    let directory = if directory.is_empty() { defaults.directory.clone() } else { directory };
    let test = global(&config.test_ca);
    let test_directory = match test.as_str() {
        // The staging endpoint says nothing about other authorities.
        "" if directory == defaults.directory => defaults.test_directory.clone(),
        _ => test,
    };
    for (field, url) in [("ca", &directory), ("test_ca", &test_directory)] {
        if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(ConfigError::new(field, format!("not a URL: {url}")));
        }
    }
    // Without it a certificate would belong to another account than the config says.
    let email = Template::render_global_all(&config.email).map_err(|error| {
        let message = format!("expanding email address '{}': {error}", config.email);
        ConfigError::new("email", message)
    })?;
    let external_account = config.external_account.map(|account| {
        let (id, key) = (global(&account.key_id), global(&account.mac_key));
        decode_mac(&key).map(|key| (id, key)).ok_or_else(|| {
            ConfigError::new("external_account.mac_key", "decoding MAC key: illegal base64 data")
        })
    });
    let challenges = config.challenges.unwrap_or_default();
    let http = challenges.http.unwrap_or_default();
    let tls_alpn = challenges.tls_alpn.unwrap_or_default();
    let port = |field: &str, value: i64, default: u16| match value {
        0 => Ok(default),
        value => u16::try_from(value)
            .map_err(|_| ConfigError::new(field, format!("invalid port: {value}"))),
    };
    let ports = Ports {
        http: port("challenges.http.alternate_port", http.alternate_port, ports.http)?,
        https: port("challenges.tls-alpn.alternate_port", tls_alpn.alternate_port, ports.https)?,
    };
    Ok(AcmeConfig {
        directory,
        test_directory,
        email: email.trim().to_lowercase(),
        profile: global(&config.profile),
        account_key: global(&config.account_key),
        external_account: external_account.transpose()?,
        timeout: config.acme_timeout.positive(),
        trusted_roots: config.trusted_roots_pem_files.iter().map(|file| global(file)).collect(),
        preferred_chains: config.preferred_chains,
        lifetime: config.certificate_lifetime.positive(),
        http: !http.disabled,
        tls_alpn: !tls_alpn.disabled,
        dns: challenges
            .dns
            .map(|config| dns_challenge(config, dns))
            .transpose()
            .map_err(|error| error.under("challenges.dns"))?,
        ports,
        bind_host: challenges.bind_host,
        distributed: challenges.distributed != Some(false),
        route,
    })
}

impl AcmeConfig {
    /// Why the authority's roots cannot be had, where they are in files that cannot be read. Blocks.
    pub fn roots_fault(&self) -> Option<Error> {
        read_roots(&self.trusted_roots).err()
    }
}

/// Sees that a DNS provider is known and configured as it has to be.
///
/// # Errors
/// It is not.
pub fn check_dns_provider(config: &Value) -> Result<(), ConfigError> {
    caddis_dns::compile(config).map(|_| ())
}

/// The settings of a challenge by DNS; `default` is the provider where they name none.
///
/// # Errors
/// There is no provider, or it is not known.
pub(crate) fn dns_challenge(
    config: DnsChallengeConfig,
    default: Option<&Value>,
) -> Result<DnsChallenge, ConfigError> {
    let source = config.provider.as_ref().or(default);
    let source = source.ok_or_else(|| {
        ConfigError::new("provider", "DNS challenge enabled, but no DNS provider configured")
    })?;
    let nanos = config.propagation_timeout.0;
    Ok(DnsChallenge {
        provider: caddis_dns::compile(source)?,
        source: source.clone(),
        ttl: config.ttl.positive().unwrap_or_default(),
        propagation_delay: config.propagation_delay.positive().unwrap_or_default(),
        propagation_timeout: match nanos {
            0 => Some(Duration::from_secs(120)),
            nanos if nanos < 0 => None,
            _ => config.propagation_timeout.positive(),
        },
        resolvers: config.resolvers,
        override_domain: config.override_domain,
    })
}

/// The key of an external account: base64url, padded or not.
pub(super) fn decode_mac(text: &str) -> Option<Vec<u8>> {
    use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine};
    let text = text.trim().trim_end_matches('=');
    BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_STANDARD_NO_PAD.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Ports, compile_acme};
    use crate::acme::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING};

    #[test]
    fn defaults_and_their_test_endpoint() {
        let config = compile_acme(json!({}), Ports::default(), None).unwrap();
        assert_eq!(
            (config.directory.as_str(), config.test_directory.as_str()),
            (LETS_ENCRYPT, LETS_ENCRYPT_STAGING)
        );
        let other = json!({"ca": "https://ca.test/dir"});
        let config = compile_acme(other, Ports { http: 8080, https: 8443 }, None).unwrap();
        assert_eq!(config.test_directory, "");
        assert_eq!((config.ports.http, config.ports.https), (8080, 8443));
        let own = json!({"challenges": {"http": {"alternate_port": 81, "disabled": true}}});
        let config = compile_acme(own, Ports::default(), None).unwrap();
        assert_eq!((config.ports.http, config.http, config.tls_alpn), (81, false, true));
    }

    #[test]
    fn roots_have_to_be_there() {
        let with = |files: serde_json::Value| {
            let json = json!({ "trusted_roots_pem_files": files });
            compile_acme(json, Ports::default(), None).unwrap().roots_fault()
        };
        assert!(with(json!([])).is_none());
        let error = with(json!(["/none.pem"])).unwrap().to_string();
        assert!(error.contains("loading trusted root CA's PEM file: /none.pem"), "{error}");
    }

    #[test]
    fn settings_that_cannot_be() {
        let paths = [
            (json!({"external_account": {"key_id": "k", "mac_key": "?"}}), "external_account"),
            (json!({"ca": "nothing"}), "ca"),
            (json!({"email": "{env.CADDIS_UNSET}"}), "email"),
            (json!({"challenges": {"dns": {}}}), "challenges.dns"),
            (json!({"challenges": {"dns": {"provider": {"name": "x"}}}}), "challenges.dns"),
            (json!({"challenges": {"http": {"alternate_port": 70000}}}), "challenges.http"),
        ];
        for (json, path) in paths {
            let error = compile_acme(json, Ports::default(), None).unwrap_err();
            assert!(error.path.starts_with(path), "{error}");
        }
    }
}
