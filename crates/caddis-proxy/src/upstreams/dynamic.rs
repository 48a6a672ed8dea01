//! Dynamic sources at run time: addresses of a name, looked up and kept for a while.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use caddis_config::{ConfigError, Value, value::join_host_port};
use caddis_core::{CompileCx, Exchange, Table, Template};

use super::{AConfig, MultiConfig, SrvConfig};
use crate::{
    dns::Resolver,
    generation::Generation,
    transport::http::{PoolId, ResolverConfig, is_number},
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
    /// The handler's place among its likes.
    pub(crate) place: Place,
    /// Most connections to one address.
    pub(crate) max_conns: usize,
    /// Requests at which an upstream is full.
    pub(crate) max_requests: i64,
    /// Failures at which it is down.
    pub(crate) max_fails: Option<i64>,
}

/// What tells the connections of handlers apart that have the same transport.
pub(crate) enum Place {
    /// Counted for each address, so that other addresses may come and go.
    PerAddress(Arc<Generation>),
    /// The same for all addresses, which are found later.
    Handler(String),
}

impl Maker {
    fn place(&self, dial: &str) -> String {
        match &self.place {
            Place::PerAddress(generation) => {
                generation.place(&format!("{} {dial}", self.fingerprint)).to_string()
            }
            Place::Handler(place) => place.clone(),
        }
    }

    /// An upstream at an address; placeholders in it are filled in per request.
    pub(crate) fn make(&self, dial: &str, max_requests: i64) -> Upstream {
        let template = Template::parse(dial);
        let target = match template.as_static() {
            Some(text) => Address::parse(text).map_or_else(Target::Wrong, Target::Fixed),
            None => Target::Template(template),
        };
        Upstream {
            target,
            state: self.states.lease(dial.to_owned(), UpstreamState::default),
            active: None,
            max_requests: if max_requests == 0 { self.max_requests } else { max_requests },
            max_fails: self.max_fails,
            pool: {
                let handler = format!("{} {}", self.fingerprint, self.place(dial));
                PoolId::lease(&self.pools, &handler, dial, self.max_conns)
            },
            dial: dial.to_owned(),
        }
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
    refresh: Duration,
    resolver: Option<Resolver>,
    kind: Kind,
}

enum Kind {
    /// Addresses, of these families, with this port.
    A { port: Template, v4: bool, v6: bool },
    /// Hosts and ports of a service.
    Srv {
        /// What goes before the host, for example `tcp4/`.
        prefix: String,
        /// How much longer an answer is used after a failed look-up.
        grace: Duration,
    },
}

impl Kind {
    /// What one source may ask of one name and differs.
    fn key(&self, ex: &Exchange) -> String {
        match self {
            Self::A { port, v4, v6 } => format!("{} {v4} {v6}", port.render(ex)),
            Self::Srv { prefix, .. } => format!("srv {prefix}"),
        }
    }
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

    /// The upstreams for a request. Where one of several sources fails, it is left out. For `again`,
    /// a further try, services are looked up anew: what was known led nowhere.
    pub(crate) async fn upstreams(
        &self,
        ex: &Exchange,
        again: bool,
    ) -> Result<Arc<[Upstream]>, String> {
        if let [single] = &*self.lookups {
            return self.look_up(0, single, ex, again).await;
        }
        let mut all = Vec::new();
        for (at, lookup) in self.lookups.iter().enumerate() {
            match self.look_up(at, lookup, ex, again).await {
                Ok(upstreams) => all.extend(upstreams.iter().cloned()),
                Err(error) => tracing::error!(
                    target: "http.reverse_proxy.upstreams.multi",
                    %error,
                    "upstream source returned error"
                ),
            }
        }
        Ok(all.into())
    }

    /// Those of one source. When it is time to ask again one request does, and the others go on with
    /// what is known meanwhile.
    async fn look_up(
        &self,
        at: usize,
        lookup: &Lookup,
        ex: &Exchange,
        again: bool,
    ) -> Result<Arc<[Upstream]>, String> {
        let name = lookup.name.render(ex);
        // Sources may ask different servers for one name.
        let key = format!("{at} {name} {}", lookup.kind.key(ex));
        let anew = again && matches!(lookup.kind, Kind::Srv { .. });
        if !anew && let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let asked = tokio::time::timeout(TIMEOUT, self.ask(lookup, &name, ex)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("lookup {name}: i/o timeout")));
        let all = match asked {
            Ok(all) => all,
            Err(error) => return self.failed(&key, &lookup.kind, anew, error),
        };
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

    /// What is known and need not be asked for again. To whom it is time to ask this says nothing,
    /// once within the time that asking may take.
    fn known(&self, key: &str) -> Option<Arc<[Upstream]>> {
        let mut cache = self.cache();
        let cached = cache.get_mut(key)?;
        let now = Instant::now();
        if cached.until > now {
            return Some(cached.upstreams.clone());
        }
        cached.until = now + TIMEOUT;
        None
    }

    async fn ask(
        &self,
        lookup: &Lookup,
        name: &str,
        ex: &Exchange,
    ) -> Result<Vec<Upstream>, String> {
        match &lookup.kind {
            Kind::A { port, v4, v6 } => {
                let port = port.render(ex);
                let found = addresses(lookup.resolver.as_ref(), name, *v4, *v6).await?;
                let dials = found.iter().map(|ip| join_host_port(&ip.to_string(), &port));
                Ok(dials.map(|dial| self.maker.make(&dial, 0)).collect())
            }
            Kind::Srv { prefix, .. } => {
                let resolver = match &lookup.resolver {
                    Some(resolver) => resolver.clone(),
                    None => Resolver::system().await,
                };
                let found = resolver.services(name).await?;
                let dials = found.iter().map(|service| {
                    let address = join_host_port(&service.target, &service.port.to_string());
                    format!("{prefix}{address}")
                });
                Ok(dials.map(|dial| self.maker.make(&dial, 0)).collect())
            }
        }
    }

    /// After a look-up failed: for a service the answer of before, as long as the config lets it.
    fn failed(
        &self,
        key: &str,
        kind: &Kind,
        anew: bool,
        error: String,
    ) -> Result<Arc<[Upstream]>, String> {
        let mut cache = self.cache();
        if let Kind::Srv { grace, .. } = kind
            && !grace.is_zero()
            && let Some(cached) = cache.get_mut(key)
        {
            tracing::error!(
                target: "http.reverse_proxy.upstreams.srv",
                %error,
                "SRV lookup failed; using previously cached"
            );
            cached.until = Instant::now() + *grace;
            return Ok(cached.upstreams.clone());
        }
        if !anew {
            // It was time to ask, and the next request is to.
            cache.remove(key);
        }
        Err(error)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<String, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn addresses(
    resolver: Option<&Resolver>,
    name: &str,
    v4: bool,
    v6: bool,
) -> Result<Vec<IpAddr>, String> {
    if let Some(resolver) = resolver {
        return resolver.addresses(name, v4, v6).await;
    }
    if is_number(name) {
        return Err(format!("lookup {name}: no such host"));
    }
    let found = tokio::net::lookup_host((name, 0)).await;
    let found = found.map_err(|_| format!("lookup {name}: no such host"))?;
    let wanted = |ip: &IpAddr| if ip.is_ipv4() { v4 } else { v6 };
    Ok(found.map(|address| address.ip()).filter(wanted).collect())
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
            lookups.push(service(cx.decode(json, "source")?)?);
            Ok(())
        }
        _ => Err(caddis_core::compile::unknown_module(
            "http.reverse_proxy.upstreams",
            name,
            "source",
        )),
    }
}

fn resolver(config: Option<&ResolverConfig>) -> Result<Option<Resolver>, ConfigError> {
    config.map(Resolver::compile).transpose().map_err(|error| error.under("resolver"))
}

fn lookup(config: AConfig) -> Result<Lookup, ConfigError> {
    let versions = config.versions.unwrap_or_default();
    let neither = versions.ipv4.is_none() && versions.ipv6.is_none();
    let port = if config.port.is_empty() { "80" } else { &config.port };
    Ok(Lookup {
        name: Template::parse(&config.name),
        refresh: config.refresh.positive().unwrap_or(REFRESH),
        resolver: resolver(config.resolver.as_ref())?,
        kind: Kind::A {
            port: Template::parse(port),
            v4: neither || versions.ipv4 == Some(true),
            v6: neither || versions.ipv6 == Some(true),
        },
    })
}

/// `_service._proto.name`, or the name alone where the two are not set.
fn service(config: SrvConfig) -> Result<Lookup, ConfigError> {
    let name = match (&*config.service, &*config.proto) {
        ("", "") => config.name,
        (service, proto) => format!("_{service}._{proto}.{}", config.name),
    };
    let network = config.dial_network;
    Ok(Lookup {
        name: Template::parse(&name),
        refresh: config.refresh.positive().unwrap_or(REFRESH),
        resolver: resolver(config.resolver.as_ref())?,
        kind: Kind::Srv {
            prefix: if network.is_empty() { network } else { format!("{network}/") },
            grace: config.grace_period.positive().unwrap_or_default(),
        },
    })
}

#[cfg(test)]
mod tests {
    use caddis_core::State;

    use super::*;

    fn dynamic() -> Dynamic {
        let state = State::default();
        let maker = Maker {
            states: state.table(),
            pools: state.table(),
            fingerprint: String::new(),
            place: Place::Handler(String::new()),
            max_conns: 0,
            max_requests: 0,
            max_fails: None,
        };
        Dynamic { lookups: Vec::new(), maker, cache: Mutex::default() }
    }

    #[test]
    fn one_request_asks_when_it_is_time() {
        let dynamic = dynamic();
        assert!(dynamic.known("a").is_none());
        let cached = |until| Cached { until, upstreams: Arc::new([]) };
        let now = Instant::now();
        dynamic.cache().insert("a".into(), cached(now + REFRESH));
        assert!(dynamic.known("a").is_some());
        dynamic.cache().insert("a".into(), cached(now));
        assert!(dynamic.known("a").is_none(), "this one asks");
        assert!(dynamic.known("a").is_some(), "the others go on");
        // A look-up that failed leaves the next one to ask; a second try takes nothing away.
        let kind = Kind::A { port: Template::parse("80"), v4: true, v6: true };
        assert!(dynamic.failed("a", &kind, true, "no".into()).is_err());
        assert!(dynamic.known("a").is_some());
        assert!(dynamic.failed("a", &kind, false, "no".into()).is_err());
        assert!(dynamic.known("a").is_none());
        // A service's addresses are used on for a while.
        let kind = Kind::Srv { prefix: String::new(), grace: REFRESH };
        dynamic.cache().insert("a".into(), cached(now));
        assert!(dynamic.failed("a", &kind, false, "no".into()).is_ok());
        assert!(dynamic.known("a").is_some());
    }
}
