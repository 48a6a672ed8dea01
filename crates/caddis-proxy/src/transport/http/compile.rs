//! Config to [`HttpTransport`].

use std::{sync::Arc, time::Duration};

use caddis_config::{ConfigError, NetworkAddress};
use caddis_core::CompileCx;
use tokio::sync::Semaphore;

use super::{
    HttpTransport, KeepAlive,
    config::{HttpTransportConfig, TlsConfig},
    connect::{DialSettings, LocalAddress},
    forward_proxy, proxy_protocol, tls,
};
use crate::dns::Resolver;

const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
const FALLBACK_DELAY: Duration = Duration::from_millis(300);
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_IDLE: usize = 32;
const MAX_HEAD: usize = 10 << 20;

/// Compiles the transport; files of certificates are read here.
pub(crate) fn compile(
    config: &HttpTransportConfig,
    cx: &CompileCx<'_>,
) -> Result<HttpTransport, ConfigError> {
    check_versions(config)?;
    let has = |version: &str| config.versions.iter().any(|known| known == version);
    let standard = config.versions.is_empty();
    let (h1, h2, h3) = (standard || has("1.1"), standard || has("2"), has("3"));
    let mut alpn = Vec::new();
    if h3 {
        alpn.push("h3");
    }
    if h2 {
        alpn.push("h2");
    }
    if h1 || !h2 {
        alpn.push("http/1.1");
    }
    let tls = match &config.tls {
        Some(tls) => Some(tls::compile(tls, &alpn, cx).map_err(|error| error.under("tls"))?),
        None => None,
    };
    let forward = forward_proxy::Source::compile(config, cx)?;
    let forward_tls = if tls.is_none() && forward.may_use_tls() {
        Some(tls::compile(&TlsConfig::default(), &["http/1.1"], cx)?)
    } else {
        None
    };
    let fingerprint =
        serde_json::to_string(config).map_err(|error| ConfigError::new("", error.to_string()))?;
    Ok(HttpTransport {
        dial: dial(config)?,
        keep: keep(config),
        tls,
        forward,
        forward_tls,
        h2,
        h2c: has("h2c"),
        h3,
        compression: config.compression != Some(false),
        proxy_protocol: match config.proxy_protocol.as_str() {
            "" => None,
            "v1" => Some(proxy_protocol::Version::V1),
            "v2" => Some(proxy_protocol::Version::V2),
            other => {
                let why = format!("unexpected proxy protocol version {other}");
                return Err(ConfigError::new("proxy_protocol", why));
            }
        },
        max_head: usize::try_from(config.max_response_header_size)
            .ok()
            .filter(|size| *size > 0)
            .unwrap_or(MAX_HEAD),
        header_timeout: config.response_header_timeout.positive(),
        continue_timeout: config.expect_continue_timeout.positive(),
        read_timeout: config.read_timeout.positive(),
        write_timeout: config.write_timeout.positive(),
        max_conns: usize::try_from(config.max_conns_per_host).unwrap_or(0),
        fingerprint,
    })
}

fn check_versions(config: &HttpTransportConfig) -> Result<(), ConfigError> {
    let wrong = |why: String| Err(ConfigError::new("versions", why));
    for version in &config.versions {
        if !matches!(version.as_str(), "1.1" | "2" | "h2c" | "3") {
            return wrong(format!(
                "unsupported HTTP version: {version}, supported version: 1.1, 2, h2c, 3"
            ));
        }
    }
    if config.versions.len() > 1 && config.versions.iter().any(|version| version == "3") {
        return wrong(
            "if HTTP/3 is enabled to the upstream, no other HTTP versions are supported".to_owned(),
        );
    }
    Ok(())
}

fn dial(config: &HttpTransportConfig) -> Result<DialSettings, ConfigError> {
    let delay = config.dial_fallback_delay;
    let probe = config.keep_alive.as_ref().map(|keep| keep.probe_interval).unwrap_or_default();
    Ok(DialSettings {
        timeout: config.dial_timeout.positive().unwrap_or(DIAL_TIMEOUT),
        fallback_delay: if delay.is_zero() { Some(FALLBACK_DELAY) } else { delay.positive() },
        local: local_address(&config.local_address)?,
        resolver: config
            .resolver
            .as_ref()
            .map(Resolver::compile)
            .transpose()
            .map_err(|error| error.under("resolver"))?,
        probe_interval: if probe.is_zero() { Some(PROBE_INTERVAL) } else { probe.positive() },
    })
}

fn local_address(text: &str) -> Result<Option<LocalAddress>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| ConfigError::new("local_address", why);
    let address = NetworkAddress::parse(text).map_err(wrong)?;
    if address.port_range_size() > 1 {
        return Err(wrong("local_address must be a single address, not a port range".to_owned()));
    }
    let six = match address.network.as_str() {
        "tcp" => None,
        "tcp4" => Some(false),
        "tcp6" => Some(true),
        "unix" => return Ok(Some(LocalAddress::Unix(address.host.into()))),
        "unixgram" | "unixpacket" => {
            return Ok(Some(LocalAddress::UnixDatagram(address.host.into())));
        }
        "udp" | "udp4" | "udp6" => {
            return Err(wrong("local_address must be a TCP address, not a UDP address".to_owned()));
        }
        _ => return Err(wrong("unsupported network".to_owned())),
    };
    let port = address.start_port;
    Ok(Some(match address.ip() {
        Some(ip) if six.is_some_and(|six| six != ip.is_ipv6()) => {
            return Err(wrong(format!("address {}: no suitable address found", address.host)));
        }
        Some(ip) => LocalAddress::Ip(ip, port),
        None if address.host.is_empty() => LocalAddress::Any(port),
        None => LocalAddress::Name { host: address.host, port, six },
    }))
}

fn keep(config: &HttpTransportConfig) -> KeepAlive {
    let keep = config.keep_alive.clone().unwrap_or_default();
    KeepAlive {
        enabled: keep.enabled != Some(false),
        idle_timeout: keep.idle_timeout.positive().unwrap_or(IDLE_TIMEOUT),
        max_idle: usize::try_from(keep.max_idle_conns_per_host)
            .ok()
            .filter(|count| *count > 0)
            .unwrap_or(MAX_IDLE),
        total: usize::try_from(keep.max_idle_conns)
            .ok()
            .filter(|count| *count > 0)
            .map(|count| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))),
    }
}
