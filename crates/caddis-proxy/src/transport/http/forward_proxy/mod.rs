//! Forward proxies between this server and its upstreams.
//!
//! ```text
//! network_proxy none | url <url>
//! ```
//!
//! JSON: `{"from": "none"}` or `{"from": "url", "url": "…"}`; without either, the environment
//! decides (see [`Environment`]). The URL may hold placeholders, filled in per request.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use caddis_config::{ConfigError, Value};
use caddis_core::{CompileCx, Exchange, Template, template::Unknown};
use caddis_dns::forward_proxy::{self, Environment, Proxy, Scheme};

use super::{
    Failure, ProxyHeader,
    config::HttpTransportConfig,
    connect::{DialSettings, dial},
    stream::Carrier,
    tls::{self, TlsSettings},
};
use crate::upstream::Address;

/// The proxies that the environment names, one reading for all plans.
#[derive(Debug, Default)]
struct Known(OnceLock<Option<Arc<Environment>>>);

#[cfg(test)]
impl Known {
    /// Stands in for the environment; false where it was read already.
    fn set_for_test(&self, environment: Option<Environment>) -> bool {
        self.0.set(environment.map(Arc::new)).is_ok()
    }
}

fn of_environment(cx: &CompileCx<'_>) -> Option<Arc<Environment>> {
    cx.state.single::<Known>().0.get_or_init(Environment::of_process).clone()
}

shape! {
    /// `{"from": "url", …}`.
    pub(crate) struct UrlConfig {
        /// Where the proxy is.
        pub url: String,
    }

    /// `{"from": "none"}`.
    pub(crate) struct NoneConfig {}
}

/// What decides on the proxy of a transport.
#[derive(Debug)]
pub(crate) enum Source {
    /// There is none.
    None,
    /// Always this one.
    Fixed(Arc<Proxy>),
    /// A URL that is known per request.
    Template(Template),
    /// The environment's, for upstreams it does not except.
    Environment(Arc<Environment>),
}

impl Source {
    /// Reads `network_proxy` and `forward_proxy_url`, which goes before it as in Caddy.
    pub(crate) fn compile(
        config: &HttpTransportConfig,
        cx: &CompileCx<'_>,
    ) -> Result<Self, ConfigError> {
        if !config.forward_proxy_url.is_empty() {
            tracing::warn!(
                target: "http.reverse_proxy.transport.http",
                "forward_proxy_url is deprecated; use network_proxy instead"
            );
            return Self::from_url(&config.forward_proxy_url)
                .map_err(|error| ConfigError::new("forward_proxy_url", error));
        }
        let json = &config.network_proxy;
        if json.is_null() {
            return Ok(of_environment(cx).map_or(Self::None, Self::Environment));
        }
        Self::module(json, cx).map_err(|error| error.under("network_proxy"))
    }

    fn module(json: &Value, cx: &CompileCx<'_>) -> Result<Self, ConfigError> {
        match json.get("from").and_then(Value::as_str).unwrap_or_default() {
            "none" => cx.decode::<NoneConfig>(json, "from").map(|_| Self::None),
            "url" => {
                let config: UrlConfig = cx.decode(json, "from")?;
                Self::from_url(&config.url).map_err(|error| ConfigError::new("url", error))
            }
            name => Err(caddis_core::compile::unknown_module("caddy.network_proxy", name, "from")),
        }
    }

    fn from_url(text: &str) -> Result<Self, String> {
        let template = Template::parse(text);
        Ok(match template.as_static() {
            Some(text) => Self::Fixed(Arc::new(Proxy::parse(text)?)),
            None => Self::Template(template),
        })
    }

    /// Whether a proxy might be spoken to over TLS.
    pub(crate) fn may_use_tls(&self) -> bool {
        match self {
            Self::None => false,
            Self::Fixed(proxy) => proxy.scheme == Scheme::Https,
            Self::Template(_) => true,
            Self::Environment(environment) => environment.may_use_tls(),
        }
    }

    /// The proxy of this request, where the URL holds placeholders.
    pub(crate) fn varying(&self, ex: &Exchange) -> Result<Option<Varying>, String> {
        match self {
            Self::Template(template) => Varying::new(template.render(ex)).map(Some),
            _ => Ok(None),
        }
    }

    /// The same where there is no request.
    pub(crate) fn varying_global(&self) -> Result<Option<Varying>, String> {
        match self {
            Self::Template(template) => {
                let url = Template::render_global(template.raw(), Unknown::Empty);
                Varying::new(Cow::Owned(url)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The way to an upstream that is not reached directly.
    pub(crate) fn way(
        &self,
        address: &Address,
        tls: bool,
        varying: Option<&Varying>,
    ) -> Option<Box<Way>> {
        if address.is_unix() {
            return None;
        }
        let proxy = match self {
            Self::None => None,
            Self::Fixed(proxy) => Some(proxy),
            Self::Template(_) => varying.map(|varying| &varying.proxy),
            Self::Environment(environment) => {
                environment.proxy_for(&address.host, address.port, tls)
            }
        };
        Some(Box::new(Way::new(proxy?, address, tls)))
    }
}

/// A proxy that was found for one request.
#[derive(Debug)]
pub(crate) struct Varying {
    /// Its URL; with the address it names a pool.
    pub(crate) url: String,
    proxy: Arc<Proxy>,
}

impl Varying {
    fn new(url: Cow<'_, str>) -> Result<Self, String> {
        if url.is_empty() {
            return Err(
                "empty value for network_proxy URL after its placeholders were filled in; \
                        check that they exist"
                    .to_owned(),
            );
        }
        Ok(Self { proxy: Arc::new(Proxy::parse(&url)?), url: url.into_owned() })
    }
}

/// The way through a proxy to one upstream.
#[derive(Debug)]
pub(crate) struct Way {
    proxy: Arc<Proxy>,
    /// Host and port of the upstream.
    host: String,
    port: u16,
    /// What requests look like that the proxy itself answers.
    pub(crate) absolute: Option<Absolute>,
}

/// Requests to a proxy that reads them: in absolute form (RFC 9112, section 3.2.2).
#[derive(Debug)]
pub(crate) struct Absolute {
    /// The upstream, as URL and `Host` name it. The host of the client's request stands in neither:
    /// the proxy goes where they say, and clients are not to choose that.
    pub(crate) authority: String,
    /// `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl Way {
    fn new(proxy: &Arc<Proxy>, address: &Address, tls: bool) -> Self {
        // An empty host is this machine.
        let host = if address.host.is_empty() { "localhost" } else { &address.host };
        let absolute = (!tls && proxy.scheme != Scheme::Socks5).then(|| {
            let mut authority = join(host, address.port);
            if address.port == 80 {
                authority.truncate(authority.len() - ":80".len());
            }
            Absolute { authority, authorization: proxy.authorization() }
        });
        Self { proxy: proxy.clone(), host: host.to_owned(), port: address.port, absolute }
    }

    /// Connects to the proxy and has it connect to the upstream, unless it answers itself. Failures
    /// are none of dialling, as in Caddy.
    pub(crate) async fn open(
        &self,
        settings: &DialSettings,
        header: Option<&ProxyHeader>,
        tls: Option<&TlsSettings>,
    ) -> Result<Carrier, Failure> {
        let proxy = &*self.proxy;
        let address = Address::parse(&proxy.host_port).map_err(Failure::Transport)?;
        let mut carrier = dial(&address, settings, header).await.map_err(connecting)?;
        if proxy.scheme == Scheme::Https {
            let Some(tls) = tls else {
                let why = "proxyconnect tcp: no TLS settings for an https proxy".to_owned();
                return Err(Failure::Transport(why));
            };
            let config = Arc::clone(&tls.only_h1);
            carrier = tls::connect(carrier, config, &proxy.host, tls.handshake_timeout)
                .await
                .map_err(connecting)?
                .0;
        }
        if self.absolute.is_some() {
            return Ok(carrier);
        }
        let why = |error: &std::io::Error| crate::transport::io_text(error, "read");
        let target = (self.host.as_str(), self.port);
        match forward_proxy::open(proxy, &mut carrier, target, why).await {
            Ok(()) => Ok(carrier),
            Err(refused) if refused.is_timeout => Err(Failure::Timeout(refused.message)),
            Err(refused) => Err(Failure::Transport(refused.message)),
        }
    }
}

fn join(host: &str, port: u16) -> String {
    caddis_config::value::join_host_port(host, &port.to_string())
}

/// A failed connection to the proxy itself, in Go's words.
fn connecting(failure: Failure) -> Failure {
    match failure {
        Failure::Dial(text) | Failure::Transport(text) | Failure::Timeout(text) => {
            Failure::Transport(format!("proxyconnect tcp: {text}"))
        }
        other => other,
    }
}
