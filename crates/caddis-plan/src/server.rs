//! One server, resolved.

use std::time::Duration;

use caddis_config::{ConfigError, Server, ServerLogConfig};
use caddis_core::{CompileCx, RouteList};
use caddis_tls::{PolicyPlan, ServerFacts, compile_policies};
use http::{HeaderMap, HeaderName};

use crate::{ListenerWrappers, SiteRoutes, Trust};

/// A compiled server.
pub struct ServerPlan {
    /// Its name in the config (`srv0`).
    pub name: String,
    /// The routes.
    pub routes: SiteRoutes,
    /// The routes for errors; `None` where the config has none.
    pub errors: Option<RouteList>,
    /// Whether its requests are told of the server, since a handler asks it something itself.
    pub asks_itself: bool,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Bytes of a request head before 431.
    pub max_header_bytes: usize,
    /// The protocols spoken, unless a listener has its own.
    pub protocols: Protocols,
    /// What is done on connections before HTTP.
    pub wrappers: ListenerWrappers,
    /// Trusted proxies.
    pub trust: Trust,
    /// Whether SNI and `Host` must agree (421 where not).
    pub strict_sni_host: bool,
    /// Which request headers with `_` or `.` are let through.
    pub header_names: HeaderNameRule,
    /// TLS policies; `None` where the server speaks no TLS.
    pub tls_policies: Option<PolicyPlan>,
    /// Access log settings.
    pub logs: Option<ServerLogConfig>,
    /// How requests are counted, if they are.
    pub metrics: Option<MetricsPlan>,
    /// TCP keep-alive: idle time and interval; `None` switches it off.
    pub tcp_keepalive: Option<(Duration, Duration)>,
}

/// How requests are counted (spec O106–O110).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetricsPlan {
    /// With the host as a label: one that a route names, any other over HTTPS, else `_other`.
    pub per_host: bool,
    /// Hosts that no route names have their own series over plain HTTP, too.
    pub observe_catchall_hosts: bool,
}

/// Time limits of a server; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To read a head.
    pub header: Option<Duration>,
    /// To read a whole request.
    pub read: Option<Duration>,
    /// Pause while a body is read.
    pub read_idle: Option<Duration>,
    /// To write a whole response.
    pub write: Option<Duration>,
    /// Pause while a response is written.
    pub write_idle: Option<Duration>,
    /// Wait for the next request.
    pub idle: Option<Duration>,
}

/// Protocols of a server or listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the protocols' own names")]
pub struct Protocols {
    pub h1: bool,
    pub h2: bool,
    pub h2c: bool,
    pub h3: bool,
}

impl Protocols {
    /// Their names in the config.
    pub fn names(self) -> Vec<&'static str> {
        let all = [(self.h1, "h1"), (self.h2, "h2"), (self.h2c, "h2c"), (self.h3, "h3")];
        all.into_iter().filter(|(spoken, _)| *spoken).map(|(_, name)| name).collect()
    }

    /// From the names in the config; none gives the default `h1 h2 h3`.
    ///
    /// # Errors
    /// A name that is no protocol.
    pub fn parse(names: &[String]) -> Result<Self, ConfigError> {
        if names.is_empty() {
            return Ok(Self { h1: true, h2: true, h2c: false, h3: true });
        }
        let mut protocols = Self { h1: false, h2: false, h2c: false, h3: false };
        for name in names {
            match name.as_str() {
                "h1" => protocols.h1 = true,
                "h2" => protocols.h2 = true,
                "h2c" => protocols.h2c = true,
                "h3" => protocols.h3 = true,
                other => {
                    let message = format!("unrecognized protocol '{other}'");
                    return Err(ConfigError::new("protocols", message));
                }
            }
        }
        Ok(protocols)
    }
}

/// Drops request headers whose names other programs may read as different ones (spec D188,
/// G058, G059): with `_` or `.`, unless they are expected.
#[derive(Debug, Default, Clone)]
pub struct HeaderNameRule {
    underscore: Vec<String>,
    dot: Vec<String>,
}

impl HeaderNameRule {
    /// Applies the rule.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let odd: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().bytes().any(|byte| byte == b'_' || byte == b'.'))
            .cloned()
            .collect();
        for name in odd {
            let text = name.as_str();
            let expected = (!text.contains('_') || listed(&self.underscore, text))
                && (!text.contains('.') || listed(&self.dot, text));
            if !expected || headers.get_all(&name).iter().count() > 1 {
                headers.remove(&name);
            } else if let Ok(twin) = HeaderName::try_from(text.replace(['_', '.'], "-")) {
                headers.remove(&twin);
            }
        }
    }
}

fn listed(names: &[String], text: &str) -> bool {
    names.iter().any(|name| match name.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => text == name,
    })
}

impl ServerPlan {
    /// Compiles a server, and takes its routes and log settings.
    ///
    /// # Errors
    /// The first mistake, with its path below the server.
    pub fn compile(
        name: &str,
        server: &mut Server,
        metrics: Option<&caddis_config::Metrics>,
        cx: &mut CompileCx<'_>,
    ) -> Result<Self, ConfigError> {
        cx.begin_server(name);
        let traced = server.logs.as_ref().is_some_and(|logs| logs.trace);
        cx.trace = traced.then_some(caddis_logging::trace_handler);
        for route in server.named_routes.keys() {
            cx.named_routes.insert(route.clone(), std::sync::Arc::default());
        }
        let routes = SiteRoutes::compile(std::mem::take(&mut server.routes), cx)
            .map_err(|error| error.under("routes"))?;
        let errors = match &server.errors {
            Some(errors) => Some(
                cx.routes(&errors.routes).map_err(|error| error.under("routes").under("errors"))?,
            ),
            None => None,
        };
        for (route, config) in &server.named_routes {
            let compiled =
                cx.route(config).map_err(|error| error.under(route).under("named_routes"))?;
            if let Some(slot) = cx.named_routes.get(route) {
                // Set once: the slots were made above for this server.
                let _ = slot.set(RouteList { routes: vec![compiled] });
            }
        }
        let wrappers = ListenerWrappers::compile(&server.listener_wrappers, cx)
            .map_err(|error| error.under("listener_wrappers"))?;
        let protocols = Protocols::parse(&server.protocols)?;
        let policies = &server.tls_connection_policies;
        let facts = ServerFacts { h1: protocols.h1, h2: protocols.h2 };
        let tls_policies = (!policies.is_empty())
            .then(|| compile_policies(policies, facts))
            .transpose()
            .map_err(|error| error.under("tls_connection_policies"))?;
        if let Some(policies) = &tls_policies {
            let path = format!("apps.http.servers.{name}.tls_connection_policies");
            let warnings = policies.warnings.iter();
            cx.warnings.extend(warnings.map(|warning| format!("{path}.{warning}")));
        }
        let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect();
        Ok(Self {
            name: name.to_owned(),
            routes,
            errors,
            asks_itself: cx.asks_own_server,
            timeouts: timeouts(server),
            max_header_bytes: usize::try_from(server.max_header_bytes)
                .ok()
                .filter(|bytes| *bytes > 0)
                .unwrap_or(16 * 1024),
            protocols,
            wrappers,
            trust: Trust::compile(server)?,
            strict_sni_host: server
                .strict_sni_host
                .unwrap_or_else(|| tls_policies.as_ref().is_some_and(PolicyPlan::has_client_auth)),
            header_names: HeaderNameRule {
                underscore: lower(&server.expected_underscore_headers),
                dot: lower(&server.expected_dot_headers),
            },
            tls_policies,
            logs: server.logs.take(),
            metrics: metrics.or(server.metrics.as_ref()).map(|metrics| MetricsPlan {
                per_host: metrics.per_host,
                observe_catchall_hosts: metrics.observe_catchall_hosts,
            }),
            tcp_keepalive: tcp_keepalive(server),
        })
    }
}

fn timeouts(server: &Server) -> Timeouts {
    const MINUTE: Duration = Duration::from_secs(60);
    Timeouts {
        header: server.read_header_timeout.positive().or(Some(MINUTE)),
        read: server.read_timeout.positive(),
        read_idle: server.read_idle_timeout.positive().or(Some(MINUTE)),
        write: server.write_timeout.positive(),
        write_idle: server.write_idle_timeout.positive().or(Some(MINUTE)),
        idle: server.idle_timeout.positive().or(Some(5 * MINUTE)),
    }
}

fn tcp_keepalive(server: &Server) -> Option<(Duration, Duration)> {
    const DEFAULT: Duration = Duration::from_secs(15);
    if server.keepalive_interval.0 < 0 {
        return None;
    }
    let idle = server.keepalive_idle.positive().unwrap_or(DEFAULT);
    let interval = server.keepalive_interval.positive().unwrap_or(DEFAULT);
    Some((idle, interval))
}
