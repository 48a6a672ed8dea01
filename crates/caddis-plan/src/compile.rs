//! Config → plan.

use std::sync::Arc;

use caddis_config::{Config, ConfigError, NetworkAddress};
use caddis_core::{
    CompileCx, Registry, State, Task, Template, metrics::Metrics, template::Unknown,
};
use caddis_otel::{Env, MetricsSettings};
use std::time::Duration;

use caddis_logging::LoggingPlan;

use crate::{
    AdminPlan, Protocols, ServerPlan, SubscriptionPlan, TlsPlan, auto_https, events,
    tls::ServedNames,
};

/// Everything the engine needs to run a config, resolved.
pub struct Plan {
    /// The servers, sorted by name.
    pub servers: Vec<Arc<ServerPlan>>,
    /// The listeners.
    pub listeners: Vec<ListenerPlan>,
    /// Certificates and their automation.
    pub tls: TlsPlan,
    /// Logs.
    pub logging: LoggingPlan,
    /// Whom to tell what.
    pub events: Vec<SubscriptionPlan>,
    /// How metrics are pushed, where they are.
    pub metrics_push: Option<MetricsSettings>,
    /// The admin endpoint.
    pub admin: AdminPlan,
    /// Background work.
    pub tasks: Vec<Task>,
    /// Things worth a word in the log.
    pub warnings: Vec<String>,
    /// How long open requests may go on at a stop; `None` is for ever.
    pub grace_period: Option<Duration>,
    /// How long to go on serving before a stop begins.
    pub shutdown_delay: Option<Duration>,
}

/// One socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerPlan {
    /// The address, one port.
    pub address: NetworkAddress,
    /// Index into `Plan::servers`.
    pub server: usize,
    /// Whether connections begin with a TLS handshake.
    pub tls: bool,
    /// The protocols spoken here.
    pub protocols: Protocols,
}

/// Compiles a config. It is used up route by route, so that a large one and its plan are not both in
/// memory.
///
/// # Errors
/// Every mistake found, one per server at most, each with its JSON path.
pub fn compile(
    mut config: Config,
    registry: &Registry,
    state: &State,
    metrics: &Arc<Metrics>,
    default_admin: &str,
) -> Result<Plan, Vec<ConfigError>> {
    let mut errors = Vec::new();
    // Before the servers are used up.
    let served = ServedNames::of(&config);
    let managed = auto_https(&mut config).unwrap_or_else(|error| {
        errors.push(error);
        Vec::new()
    });
    let admin = AdminPlan::compile(config.admin.as_ref(), default_admin, &config);
    let mut cx = CompileCx::new(registry, state, metrics.clone());
    let mut servers = Vec::new();
    let mut listeners = Vec::new();
    let logging = caddis_logging::compile(&config.logging);
    let mut app = config.apps.http.take().unwrap_or_default();
    for (name, mut server) in std::mem::take(&mut app.servers) {
        let path = format!("apps.http.servers.{name}");
        let metrics = app.metrics.as_ref();
        let compiled = ServerPlan::compile(&name, &mut server, metrics, &mut cx).and_then(|plan| {
            listeners.extend(server_listeners(&server, servers.len(), &plan, app.http_port)?);
            Ok(plan)
        });
        match compiled {
            Ok(plan) => servers.push(Arc::new(plan)),
            Err(error) => errors.push(error.under(&path)),
        }
    }
    let pushes = app.metrics.as_ref().is_some_and(|metrics| metrics.otlp);
    let metrics_push = pushes.then(|| metrics_settings(&mut cx)).transpose();
    let metrics_push = metrics_push.unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let (grace_period, shutdown_delay) =
        (app.grace_period.positive(), app.shutdown_delay.positive());
    // Only now is it known of which names handlers want certificates.
    config.apps.http = Some(app);
    let tls = TlsPlan::compile(&config, &managed, &cx.take_certificates(), &served);
    errors.extend(clashes(&listeners, &servers));
    for name in config.apps.other.keys() {
        let message = format!("unknown module: {name}");
        errors.push(ConfigError::new(format!("apps.{name}"), message));
    }
    let events = events::compile(config.apps.events.as_ref()).unwrap_or_else(|error| {
        errors.push(error);
        Vec::new()
    });
    let (admin, tls, logging) = match (admin, tls, logging) {
        (Ok(admin), Ok(tls), Ok(logging)) if errors.is_empty() => (admin, tls, logging),
        (admin, tls, logging) => {
            errors.extend(admin.err().into_iter().chain(tls.err()).chain(logging.err()));
            return Err(errors);
        }
    };
    Ok(Plan {
        servers,
        listeners,
        tls,
        logging,
        events,
        metrics_push,
        admin,
        tasks: cx.tasks,
        warnings: cx.warnings,
        grace_period,
        shutdown_delay,
    })
}

/// What the environment says about pushing metrics (spec O112).
fn metrics_settings(cx: &mut CompileCx<'_>) -> Result<MetricsSettings, ConfigError> {
    let settings = MetricsSettings::from_env(&Env::of_process()).map_err(|error| {
        ConfigError::new("apps.http.metrics.otlp", format!("creating OTLP metric reader: {error}"))
    })?;
    let warnings = settings.warnings.iter();
    cx.warnings.extend(warnings.map(|warning| format!("apps.http.metrics.otlp: {warning}")));
    Ok(settings)
}

fn server_listeners(
    server: &caddis_config::Server,
    index: usize,
    plan: &ServerPlan,
    http_port: i64,
) -> Result<Vec<ListenerPlan>, ConfigError> {
    let http_port = if http_port == 0 { 80 } else { http_port };
    let (protocols, addresses) = (server.listen_protocols.len(), server.listen.len());
    if protocols > 0 && protocols != addresses {
        let message = format!(
            "listener protocols count does not match address count: {protocols} != {addresses}"
        );
        return Err(ConfigError::new("listen_protocols", message));
    }
    let mut all = Vec::new();
    for (at, text) in server.listen.iter().enumerate() {
        let fail = |message: String| ConfigError::new(format!("listen.{at}"), message);
        let text = Template::render_global(text, Unknown::Empty);
        let address = NetworkAddress::parse(&text)
            .map_err(|error| fail(format!("parsing listen address '{text}': {error}")))?;
        let protocols = match server.listen_protocols.get(at) {
            Some(Some(names)) if !names.is_empty() => Protocols::parse(names)?,
            _ => plan.protocols,
        };
        for address in address.expand() {
            let plain = i64::from(address.start_port) == http_port && !address.is_unix();
            let tls = plan.tls_policies.is_some() && !plain;
            let streams = protocols.h1 || protocols.h2 && tls || protocols.h2c;
            if address.is_datagram() && (streams || address.is_unix()) {
                return Err(fail(format!(
                    "network '{}' cannot handle HTTP/1 or HTTP/2 connections",
                    address.network
                )));
            }
            all.push(ListenerPlan { address, server: index, tls, protocols });
        }
    }
    Ok(all)
}

/// Two servers on one address cannot be told apart.
fn clashes(listeners: &[ListenerPlan], servers: &[Arc<ServerPlan>]) -> Vec<ConfigError> {
    let mut seen = std::collections::BTreeMap::new();
    let mut errors = Vec::new();
    for listener in listeners {
        let name = |index: usize| servers.get(index).map_or("", |server| server.name.as_str());
        let text = listener.address.to_string();
        if let Some(other) = seen.insert(text.clone(), listener.server)
            && other != listener.server
        {
            errors.push(ConfigError::new(
                format!("apps.http.servers.{}.listen", name(listener.server)),
                format!(
                    "listener address repeated: {text} (already claimed by server '{}')",
                    name(other)
                ),
            ));
        }
    }
    errors
}
