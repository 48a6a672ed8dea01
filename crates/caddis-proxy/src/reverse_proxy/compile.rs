//! Config to handler.

use std::sync::Arc;

use caddis_config::{ConfigError, IpRanges, Value};
use caddis_core::{CompileCx, Handler, MatcherSet, ResponseMatcher, Task, Template};
use caddis_http::handlers::{headers::HeaderOps, rewrite::Rewrite};

use super::{
    answer::{Down, ResponseHandler},
    config::{Config, PassiveConfig, ResponseHandlerConfig},
    handler::{Balancing, Passive, ReverseProxy, Streams},
};
use crate::{
    generation::Generation,
    health::active,
    selection::{self, Policy},
    transport::{
        Transport, fastcgi,
        http::{HttpTransportConfig, compile as compile_http},
    },
    upstream::{ActiveState, Target, Upstream},
    upstreams::{Dynamic, Maker, Place},
};

/// Compiles the handler.
pub(super) fn compile(json: &Value, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    if !config.circuit_breaker.is_null() {
        return Err(circuit_breaker(&config.circuit_breaker));
    }
    let generation = Generation::of(cx);
    let transport = transport(&config.transport, cx)?;
    if matches!(&transport, Transport::Http(http) if http.lacks_tls()) {
        cx.warnings.push(
            "reverse_proxy: `versions 3` needs TLS, without which each request is answered with \
             502; write https:// before the upstreams"
                .to_owned(),
        );
    }
    let upstreams = upstreams(&config, &transport, &generation, cx);
    let dynamic = match &config.dynamic_upstreams {
        Value::Null => None,
        json => {
            let own = format!("{} {json}", transport.fingerprint());
            let place = Place::Handler(format!("{json} {}", generation.place(&own)));
            Some(
                Dynamic::compile(json, maker(&config, &transport, place, cx), cx)
                    .map_err(|error| error.under("dynamic_upstreams"))?,
            )
        }
    };
    generation.watch(cx, &upstreams);
    start_checks(&config, &upstreams, &transport, &generation, cx)?;
    let (request_ops, down) = headers(&config)?;
    let lb = balancing(&config, cx).map_err(|error| error.under("load_balancing"))?;
    let handlers = response_handlers(&config.handle_response, cx)
        .map_err(|error| error.under("handle_response"))?;
    let trusted = IpRanges::parse(&config.trusted_proxies)
        .map_err(|error| ConfigError::new("trusted_proxies", error))?;
    let needs_map =
        request_ops.is_some() || matches!(lb.policy, Policy::Header { .. } | Policy::Cookie(_));
    let keeps_headers = !handlers.is_empty() || down.ops.is_some() || lb.has_expression;
    let rewrite = config
        .rewrite
        .as_ref()
        .map(Rewrite::compile)
        .transpose()
        .map_err(|error| error.under("rewrite"))?;
    let passive = config.health_checks.and_then(|checks| checks.passive).map(passive);
    Ok(Handler::middleware(ReverseProxy {
        upstreams,
        dynamic,
        lb,
        passive,
        trusted,
        request_ops,
        down: Arc::new(down),
        rewrite,
        handlers,
        request_buffers: match (&transport, config.request_buffers) {
            // Small bodies get a length, which FastCGI asks for.
            (Transport::FastCgi(_), 0) => 4096,
            (_, buffers) => buffers,
        },
        response_buffers: config.response_buffers,
        streams: Streams {
            timeout: config.stream_timeout.positive(),
            close_delay: config.stream_close_delay.as_std().unwrap_or_default(),
        },
        generation,
        verbose_logs: config.verbose_logs,
        needs_map,
        keeps_headers,
        passes_fields: !keeps_headers && config.response_buffers == 0,
        transport,
    }))
}

/// Circuit breakers are modules that others add; there is none here, as in Caddy itself.
fn circuit_breaker(json: &Value) -> ConfigError {
    match json.get("type").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => {
            let namespace = "http.reverse_proxy.circuit_breakers";
            caddis_core::compile::unknown_module(namespace, name, "type").under("circuit_breaker")
        }
        _ => ConfigError::new("circuit_breaker", "module name not specified with key 'type'"),
    }
}

fn transport(json: &Value, cx: &CompileCx<'_>) -> Result<Transport, ConfigError> {
    let name = json.get("protocol").and_then(Value::as_str).unwrap_or("http");
    match name {
        "http" => {
            let config: HttpTransportConfig = if json.is_null() {
                HttpTransportConfig::default()
            } else {
                cx.decode(json, "protocol").map_err(|error| error.under("transport"))?
            };
            let http = compile_http(&config, cx).map_err(|error| error.under("transport"))?;
            Ok(Transport::Http(Arc::new(http)))
        }
        "fastcgi" => {
            let config = cx.decode(json, "protocol").map_err(|error| error.under("transport"))?;
            let fastcgi = fastcgi::compile(&config).map_err(|error| error.under("transport"))?;
            Ok(Transport::FastCgi(Arc::new(fastcgi)))
        }
        _ => Err(caddis_core::compile::unknown_module(
            "http.reverse_proxy.transport",
            name,
            "transport",
        )),
    }
}

/// What all upstreams of the handler have in common.
fn maker(config: &Config, transport: &Transport, place: Place, cx: &CompileCx<'_>) -> Maker {
    let passive = config.health_checks.as_ref().and_then(|checks| checks.passive.as_ref());
    // Connections that carry streams are kept apart: whoever sends one may not be ready for the next
    // request as soon as it has ended.
    let streams = if config.flush_interval.is_zero() { "" } else { " streams" };
    Maker {
        states: cx.state.table(),
        pools: cx.state.table(),
        fingerprint: format!("{}{streams}", transport.fingerprint()),
        place,
        max_conns: transport.max_conns(),
        max_requests: passive.map_or(0, |passive| passive.unhealthy_request_count),
        max_fails: passive.map(|passive| passive.max_fails.max(1)),
    }
}

fn upstreams(
    config: &Config,
    transport: &Transport,
    generation: &Arc<Generation>,
    cx: &mut CompileCx<'_>,
) -> Arc<[Upstream]> {
    let checks = config.health_checks.as_ref();
    let active = checks.and_then(|checks| checks.active.as_ref()).filter(|a| active::is_on(a));
    let maker = maker(config, transport, Place::PerAddress(generation.clone()), cx);
    let mut all = Vec::with_capacity(config.upstreams.len());
    for upstream in &config.upstreams {
        let dial = &upstream.dial;
        let mut made = maker.make(dial, upstream.max_requests);
        if let Target::Wrong(error) = &made.target {
            cx.warnings.push(format!(
                "reverse_proxy: {error}; requests for it are answered with 502: give each socket \
                 an upstream of its own"
            ));
        }
        made.active = active.map(|check| {
            let key = active::key(check, transport.fingerprint(), dial);
            let make = || ActiveState { address: dial.clone(), ..ActiveState::default() };
            cx.state.table::<String, ActiveState>().lease(key, make)
        });
        all.push(made);
    }
    all.into()
}

fn start_checks(
    config: &Config,
    upstreams: &Arc<[Upstream]>,
    transport: &Transport,
    generation: &Generation,
    cx: &mut CompileCx<'_>,
) -> Result<(), ConfigError> {
    let checks = config.health_checks.as_ref().and_then(|checks| checks.active.as_ref());
    let Some(check) = checks.filter(|check| active::is_on(check)) else { return Ok(()) };
    let check = active::compile(check).map_err(|error| error.under("health_checks.active"))?;
    let check = Arc::new(check);
    for upstream in upstreams.iter() {
        let Some(state) = upstream.active.clone() else { continue };
        if !generation.claim_check(&format!("{} {}", check.key, upstream.dial)) {
            continue;
        }
        let checker = active::Checker {
            check: check.clone(),
            transport: transport.clone(),
            dial: upstream.dial.clone(),
            state,
        };
        let name = format!("active health check of {}", upstream.dial);
        cx.tasks.push(Task::new(name, move |task| checker.run(task)));
    }
    Ok(())
}

fn headers(config: &Config) -> Result<(Option<HeaderOps>, Down), ConfigError> {
    let Some(headers) = &config.headers else { return Ok((None, Down::default())) };
    let request = match &headers.request {
        Some(ops) => Some(HeaderOps::compile(ops).map_err(|error| error.under("headers.request"))?),
        None => None,
    };
    let down = match &headers.response {
        Some(response) => {
            let under = |error: ConfigError| error.under("headers.response");
            let ops = HeaderOps::compile(&response.ops()).map_err(under)?;
            let require = response
                .require
                .as_ref()
                .map(ResponseMatcher::compile)
                .transpose()
                .map_err(under)?;
            Down { ops: (!ops.is_empty()).then_some(ops), require }
        }
        None => Down::default(),
    };
    Ok((request.filter(|ops| !ops.is_empty()), down))
}

fn balancing(config: &Config, cx: &mut CompileCx<'_>) -> Result<Balancing, ConfigError> {
    let lb = config.load_balancing.clone().unwrap_or_default();
    let policy = selection::compile(&lb.selection_policy)
        .map_err(|error| error.under("selection_policy"))?;
    if let Policy::WeightedRoundRobin { weights, .. } = &policy
        && weights.len() > 1
        && weights.len() != config.upstreams.len()
    {
        cx.warnings.push(format!(
            "reverse_proxy: {} weights for {} upstreams",
            weights.len(),
            config.upstreams.len()
        ));
    }
    let has_expression: Vec<bool> =
        lb.retry_match.iter().map(|set| set.contains_key("expression")).collect();
    let sets = cx.matcher_sets(&lb.retry_match).map_err(|error| error.under("retry_match"))?;
    let retry_match: Vec<(MatcherSet, bool)> = sets.0.into_iter().zip(has_expression).collect();
    let try_duration = lb.try_duration.positive();
    Ok(Balancing {
        policy,
        retries: u32::try_from(lb.retries).unwrap_or(0),
        try_duration,
        try_interval: match lb.try_interval.positive() {
            None if try_duration.is_some() => std::time::Duration::from_millis(250),
            interval => interval.unwrap_or_default(),
        },
        has_expression: retry_match.iter().any(|(_, has)| *has),
        retry_match,
    })
}

fn response_handlers(
    configs: &[ResponseHandlerConfig],
    cx: &mut CompileCx<'_>,
) -> Result<Vec<ResponseHandler>, ConfigError> {
    let mut handlers = Vec::with_capacity(configs.len());
    for (at, config) in configs.iter().enumerate() {
        let under = |error: ConfigError| error.under(at.to_string());
        let matcher =
            config.matcher.as_ref().map(ResponseMatcher::compile).transpose().map_err(under)?;
        let status =
            (!config.status_code.is_empty()).then(|| Template::parse(config.status_code.as_str()));
        let routes = cx.routes(&config.routes).map_err(|error| under(error.under("routes")))?;
        handlers.push(ResponseHandler { matcher, status, routes });
    }
    Ok(handlers)
}

fn passive(config: PassiveConfig) -> Passive {
    Passive {
        memory: config.fail_duration.positive(),
        statuses: config.unhealthy_status,
        latency: config.unhealthy_latency.positive(),
    }
}
