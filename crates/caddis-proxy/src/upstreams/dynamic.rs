//! Dynamic sources at run time: addresses of a name, looked up and kept for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use caddis_config::{ConfigError, Value, value::join_host_port};
use caddis_core::{CompileCx, Exchange, Table, Template};

use super::{AConfig, MultiConfig};
use crate::{
    transport::http::PoolId,
    upstream::{Address, Target, Upstream, UpstreamState},
};

const REFRESH: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Names whose addresses a handler keeps.
const MAX_CACHED: usize = 100;
/// Sources within sources deeper than this are refused.
const MAX_DEPTH: usize = 8;

/// Makes upstreams: what all upstreams of a handler have in common.
pub(crate) struct Maker {
    /// Counters by address.
    pub(crate) states: Arc<Table<String, UpstreamState>>,
    /// Pools by transport and address.
    pub(crate) pools: Arc<Table<String, PoolId>>,
    /// The transport.
    pub(crate) fingerprint: String,
    /// Most connections to one address.
    pub(crate) max_conns: usize,
    /// Requests at which an upstream is full.
    pub(crate) max_requests: i64,
    /// Failures at which it is down.
    pub(crate) max_fails: Option<i64>,
}

impl Maker {
    /// An upstream at an address; placeholders in it are filled in per request.
    pub(crate) fn make(&self, dial: &str, max_requests: i64) -> Result<Upstream, String> {
        let template = Template::parse(dial);
        let target = match template.as_static() {
            Some(text) => Target::Fixed(Address::parse(text)?),
            None => Target::Template(template),
        };
        Ok(Upstream {
            target,
            state: self.states.lease(dial.to_owned(), UpstreamState::default),
            active: None,
            max_requests: if max_requests == 0 { self.max_requests } else { max_requests },
            max_fails: self.max_fails,
            pool: PoolId::lease(&self.pools, &self.fingerprint, dial, self.max_conns),
            dial: dial.to_owned(),
        })
    }
}

/// A compiled source.
pub(crate) struct Dynamic {
    lookups: Vec<Lookup>,
    maker: Maker,
    cache: Mutex<HashMap<String, Cached>>,
}

struct Lookup {
    name: Template,
    port: Template,
    refresh: Duration,
    v4: bool,
    v6: bool,
}

struct Cached {
    until: Instant,
    upstreams: Arc<[Upstream]>,
}

impl Dynamic {
    /// Compiles a source.
    pub(crate) fn compile(
        json: &Value,
        maker: Maker,
        cx: &CompileCx<'_>,
    ) -> Result<Self, ConfigError> {
        let mut lookups = Vec::new();
        collect(json, &mut lookups, cx, 0)?;
        Ok(Self { lookups, maker, cache: Mutex::default() })
    }

    /// The upstreams for a request. Where one of several sources fails, it is left out.
    pub(crate) async fn upstreams(&self, ex: &Exchange) -> Result<Arc<[Upstream]>, String> {
        if let [single] = &*self.lookups {
            return self.look_up(single, ex).await;
        }
        let mut all = Vec::new();
        for lookup in &self.lookups {
            match self.look_up(lookup, ex).await {
                Ok(upstreams) => all.extend(upstreams.iter().cloned()),
                Err(error) => tracing::warn!(
                    target: "http.reverse_proxy.upstreams.multi",
                    %error,
                    "upstream source returned error"
                ),
            }
        }
        Ok(all.into())
    }

    async fn look_up(&self, lookup: &Lookup, ex: &Exchange) -> Result<Arc<[Upstream]>, String> {
        let (name, port) = (lookup.name.render(ex), lookup.port.render(ex));
        let key = format!("{name} {port} {} {}", lookup.v4, lookup.v6);
        if let Some(cached) = self.cache().get(&key)
            && cached.until > Instant::now()
        {
            return Ok(cached.upstreams.clone());
        }
        let query = tokio::net::lookup_host((name.to_string(), 0));
        let found = tokio::time::timeout(TIMEOUT, query)
            .await
            .map_err(|_| format!("lookup {name}: i/o timeout"))?
            .map_err(|_| format!("lookup {name}: no such host"))?;
        let mut all = Vec::new();
        for address in found {
            let wanted = if address.is_ipv4() { lookup.v4 } else { lookup.v6 };
            if wanted {
                all.push(self.maker.make(&join_host_port(&address.ip().to_string(), &port), 0)?);
            }
        }
        let upstreams: Arc<[Upstream]> = all.into();
        let mut cache = self.cache();
        if cache.len() >= MAX_CACHED {
            let now = Instant::now();
            cache.retain(|_, cached| cached.until > now);
            if cache.len() >= MAX_CACHED {
                cache.clear();
            }
        }
        let until = Instant::now() + lookup.refresh;
        cache.insert(key, Cached { until, upstreams: upstreams.clone() });
        Ok(upstreams)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<String, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(
    json: &Value,
    lookups: &mut Vec<Lookup>,
    cx: &CompileCx<'_>,
    depth: usize,
) -> Result<(), ConfigError> {
    let name = json.get("source").and_then(Value::as_str).unwrap_or_default();
    match name {
        "a" => {
            lookups.push(lookup(cx.decode(json, "source")?)?);
            Ok(())
        }
        "multi" if depth < MAX_DEPTH => {
            let config: MultiConfig = cx.decode(json, "source")?;
            for (at, source) in config.sources.iter().enumerate() {
                collect(source, lookups, cx, depth + 1)
                    .map_err(|error| error.under(format!("sources.{at}")))?;
            }
            Ok(())
        }
        "multi" => Err(ConfigError::new("sources", "sources are nested too deeply")),
        "srv" => {
            Err(ConfigError::new("source", "upstreams from SRV records are not supported yet"))
        }
        _ => Err(caddis_core::compile::unknown_module(
            "http.reverse_proxy.upstreams",
            name,
            "source",
        )),
    }
}

fn lookup(config: AConfig) -> Result<Lookup, ConfigError> {
    if config.resolver.is_some() {
        let why = "a resolver of its own is not supported yet";
        return Err(ConfigError::new("resolver", why));
    }
    let versions = config.versions.unwrap_or_default();
    let neither = versions.ipv4.is_none() && versions.ipv6.is_none();
    let port = if config.port.is_empty() { "80" } else { &config.port };
    Ok(Lookup {
        name: Template::parse(&config.name),
        port: Template::parse(port),
        refresh: config.refresh.positive().unwrap_or(REFRESH),
        v4: neither || versions.ipv4 == Some(true),
        v6: neither || versions.ipv6 == Some(true),
    })
}
