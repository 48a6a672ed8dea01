//! `acme_server`: an ACME authority (RFC 8555) for others, whose certificates a local authority
//! signs (D014–D026).
//!
//! JSON (J107): `{"handler": "acme_server", "ca": "local", "lifetime": "12h", "host": "",
//! "path_prefix": "/acme/", "sign_with_root": false, "resolvers": ["…"],
//! "challenges": ["http-01", "tls-alpn-01", "dns-01"], "policy": {"allow": {"domains": ["…"],
//! "ip_ranges": ["…"]}, "deny": {…}, "allow_wildcard_names": false},
//! "validation_ports": {"http": 80, "https": 443}}`. The last is not in Caddy. The directory is at
//! `<path_prefix><ca>/directory`; requests below the prefix are answered, others passed on.
//!
//! Accounts are in the storage; orders and nonces in memory, over reloads but not over restarts.

mod accounts;
mod book;
mod csr;
mod jws;
mod nonces;
mod policy;
mod problem;
mod requests;
mod validate;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration as StdDuration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use caddis_config::{ConfigError, Duration};
use caddis_core::{
    Body, CompileCx, Exchange, Handler, HandlerModule, LocalBoxFuture, Middleware, Next, Response,
    Result as HttpResult, State,
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    certificate,
    error::{Error, Result},
    pki::{DEFAULT_CA, Pki},
    timestamp::{self, Timestamp},
};
use book::{Book, Kind};
use nonces::Nonces;
use policy::{Policy, PolicyConfig};
use validate::Validator;

/// `http.handlers.acme_server`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.acme_server", compile };

/// Lifetime of certificates (D016).
const LIFETIME: StdDuration = StdDuration::from_secs(12 * 60 * 60);
/// What is below the host (D023).
const PREFIX: &str = "/acme/";
/// Bytes of a request; certificates and requests for many names fit.
const MAX_REQUEST: usize = 256 << 10;

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    #[serde(deserialize_with = "caddis_config::nullable")]
    ca: String,
    #[serde(deserialize_with = "caddis_config::nullable")]
    lifetime: Duration,
    #[serde(deserialize_with = "caddis_config::nullable")]
    host: String,
    #[serde(deserialize_with = "caddis_config::nullable")]
    path_prefix: String,
    #[serde(deserialize_with = "caddis_config::nullable")]
    sign_with_root: bool,
    #[serde(deserialize_with = "caddis_config::nullable")]
    resolvers: Vec<String>,
    #[serde(deserialize_with = "caddis_config::nullable")]
    challenges: Vec<String>,
    policy: Option<PolicyConfig>,
    validation_ports: Option<ValidationPorts>,
}

/// Where challenges are looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ValidationPorts {
    http: u16,
    https: u16,
}

impl Default for ValidationPorts {
    fn default() -> Self {
        Self { http: 80, https: 443 }
    }
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> std::result::Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let ca = if config.ca.is_empty() { DEFAULT_CA.to_owned() } else { config.ca };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !ca.chars().all(plain) || ca.starts_with('.') {
        return Err(ConfigError::new("ca", format!("id {ca:?} cannot be part of a path")));
    }
    let mut kinds = Vec::new();
    for (at, name) in config.challenges.iter().enumerate() {
        kinds.push(Kind::parse(name).ok_or_else(|| {
            ConfigError::new(
                format!("challenges.{at}"),
                format!("acme challenge \"{name}\" is not supported"),
            )
        })?);
    }
    let policy = Policy::compile(config.policy.as_ref()).map_err(|error| error.under("policy"))?;
    if policy.is_empty() {
        cx.warnings.push(format!(
            "acme_server of authority {ca:?} has no rules: whoever reaches it and meets a \
             challenge gets a certificate for any name"
        ));
    }
    let prefix = if config.path_prefix.is_empty() { PREFIX.into() } else { config.path_prefix };
    if !prefix.starts_with('/') || !prefix.ends_with('/') {
        let message = "the prefix has to begin and to end with a slash";
        return Err(ConfigError::new("path_prefix", message));
    }
    let ports = config.validation_ports.unwrap_or_default();
    let settings = Settings {
        lifetime: config.lifetime.positive().unwrap_or(LIFETIME),
        host: config.host,
        prefix,
        sign_with_root: config.sign_with_root,
        kinds: if kinds.is_empty() { Kind::ALL.to_vec() } else { kinds },
        policy,
        resolvers: config.resolvers,
        ports: (ports.http, ports.https),
        ca: ca.clone(),
    };
    let server = Arc::new(Server {
        settings,
        memory: cx.state.table::<String, Memory>().lease(ca, Memory::default),
        bound: OnceLock::new(),
    });
    cx.state.single::<AcmeServers>().want(&server);
    Ok(Handler::middleware(AcmeServer(server)))
}

/// Servers that were compiled and not yet bound; a single value of `State`.
#[derive(Debug, Default)]
pub struct AcmeServers(Mutex<Vec<Weak<Server>>>);

impl AcmeServers {
    fn want(&self, server: &Arc<Server>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(server));
    }

    /// Opens the authorities of servers that were compiled since the last call. `resolvers` are for
    /// those that name none. Blocks.
    ///
    /// # Errors
    /// An authority that is not configured or cannot be opened, a lifetime beyond its own.
    pub fn bind(state: &State, pki: &Arc<Pki>, resolvers: &[String]) -> Result<()> {
        let servers = std::mem::take(
            &mut *state.single::<Self>().0.lock().unwrap_or_else(PoisonError::into_inner),
        );
        servers.into_iter().filter_map(|server| server.upgrade()).try_for_each(|server| {
            let bound = server.bind(pki, resolvers);
            bound.map_err(|error| error.while_doing("acme_server"))
        })
    }
}

/// A server's settings.
#[derive(Debug)]
struct Settings {
    ca: String,
    lifetime: StdDuration,
    host: String,
    prefix: String,
    sign_with_root: bool,
    kinds: Vec<Kind>,
    policy: Policy,
    resolvers: Vec<String>,
    ports: (u16, u16),
}

/// What outlives a reload, one per authority.
#[derive(Debug, Default)]
struct Memory {
    nonces: Nonces,
    book: Mutex<Book>,
}

impl Memory {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server with its settings, memory, and authority.
#[derive(Debug)]
struct Server {
    settings: Settings,
    memory: Arc<Memory>,
    bound: OnceLock<Bound>,
}

#[derive(Debug)]
struct Bound {
    pki: Arc<Pki>,
    validator: Validator,
}

impl Server {
    fn bind(&self, pki: &Arc<Pki>, resolvers: &[String]) -> Result<()> {
        let settings = &self.settings;
        let authority = pki.authority(&settings.ca, timestamp::now())?;
        let lifetime = i64::try_from(settings.lifetime.as_secs()).unwrap_or(i64::MAX);
        if let Some(intermediate) = authority.intermediate_lifetime()
            && lifetime >= intermediate
        {
            return Err(Error::new(format!(
                "certificate lifetime ({lifetime}s) should be less than intermediate certificate \
                 lifetime ({intermediate}s)"
            )));
        }
        let own = &settings.resolvers;
        let resolvers = if own.is_empty() { resolvers } else { own }.to_vec();
        let (http_port, tls_port) = settings.ports;
        let validator = Validator { resolvers, http_port, tls_port };
        // A server is bound once.
        let _ = self.bound.set(Bound { pki: pki.clone(), validator });
        Ok(())
    }
}

/// The handler.
struct AcmeServer(Arc<Server>);

impl Middleware for AcmeServer {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let settings = &self.0.settings;
            let path = ex.request.target.path().to_owned();
            let Some(rest) = path.strip_prefix(&settings.prefix) else {
                return next.run(ex).await;
            };
            let host = if settings.host.is_empty() { &*ex.request.host } else { &settings.host };
            // Always HTTPS, as RFC 8555 §6.1 demands; where it ends at a proxy before us, too.
            let base = format!("https://{host}{}{}/", settings.prefix, settings.ca);
            let reply = match rest.split_once('/') {
                Some((ca, rest)) if ca == settings.ca => {
                    let body = ex.request.body.take();
                    let request = requests::Request {
                        method: ex.request.method.clone(),
                        rest: rest.to_owned(),
                        base: base.clone(),
                        content_type: content_type(ex),
                    };
                    match body.collect(MAX_REQUEST).await {
                        Ok(body) => requests::answer(&self.0, request, &body).await,
                        Err(error) => return Err(error.into()),
                    }
                }
                _ => requests::Reply::problem(&problem::Problem::not_found()),
            };
            Ok(self.send(ex, reply, &base))
        })
    }
}

impl AcmeServer {
    fn send(&self, ex: &mut Exchange, reply: requests::Reply, base: &str) -> Response {
        let status =
            StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = ex.respond(status);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(nonce) = HeaderValue::from_str(&self.0.memory.nonces.give()) {
            headers.insert(REPLAY_NONCE, nonce);
        }
        let index = (header::LINK, format!("<{base}directory>;rel=\"index\""));
        for (name, value) in reply.headers.into_iter().chain([index]) {
            // A host that cannot be in a header was refused long before.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
        if !reply.content_type.is_empty() {
            let kind = HeaderValue::from_static(reply.content_type);
            headers.insert(header::CONTENT_TYPE, kind);
        }
        *response.body_mut() = Body::from(reply.body);
        response
    }
}

fn content_type(ex: &Exchange) -> String {
    let value = ex.request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let bare = value.unwrap_or_default().split(';').next().unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

/// 128 bits of chance, for ids, tokens and nonces.
fn random_id() -> String {
    let mut bytes = [0; 16];
    if certificate::provider().secure_random.fill(&mut bytes).is_err() {
        // The library's own source never fails once it works; this one is seeded by the system.
        bytes = std::array::from_fn(|_| fastrand::u8(..));
    }
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn rfc3339(at: Timestamp) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
