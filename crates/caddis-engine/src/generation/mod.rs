//! Compile → bind → commit. Nothing that runs is touched before commit, so a bad config leaves no
//! trace and there is nothing to roll back.

mod checker;
mod endpoints;
mod load_error;
mod neighbors;
mod quic;
mod stop;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use caddis_config::{Config, ConfigError};
use caddis_core::{
    Registry, State, TaskCx, Worker, event::Subscriptions, finish::Finishers, metrics::Metrics,
};
use caddis_otel::{MetricsPush, MetricsSettings};
use caddis_plan::{AdminPlan, ListenerPlan, LoaderCertificate, Plan};
use serde_json::{Value as Json, json};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use self::{
    quic::{BoundQuic, alt_svc},
    stop::{announce_shutdown, close_all},
};
use crate::{
    AdminHooks,
    admin::AdminServer,
    autosave, faults,
    listen::{self, Binding, BoundSocket, Listener},
    notify, pull,
    quic::QuicSlot,
    server::{self, ServerRuntime, Shared},
    signals::Signal,
    worker::Workers,
};

pub use self::{checker::Checker, load_error::LoadError};

/// What the program gives the engine.
pub struct EngineOptions {
    /// The modules.
    pub registry: Registry,
    /// Functions of crates that the engine does not know.
    pub hooks: AdminHooks,
    /// The logging that is running.
    pub logging: caddis_logging::Handle,
    /// The admin address where the config names none.
    pub default_admin: String,
    /// Number of workers; 0 is one per core.
    pub workers: usize,
    /// Where the admin API's `POST /stop` is heard.
    pub signals: mpsc::UnboundedSender<Signal>,
}

/// The running server: one per process.
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shared: Shared,
    workers: RefCell<Workers>,
    current: RefCell<Option<Generation>>,
    admin: RefCell<Option<AdminServer>>,
    remote_admin: RefCell<Option<AdminServer>>,
    /// Sockets of HTTP/3 by listener address, until they are retired.
    quic: RefCell<HashMap<String, Arc<QuicSlot>>>,
    /// One load at a time.
    loading: Mutex<()>,
    /// The file that the running config came from.
    source: RefCell<Option<ConfigSource>>,
    worker: Rc<Worker>,
    /// Told when all requests have ended for good.
    pub(crate) stopped: CancellationToken,
    /// Held by each connection of the admin API.
    pub(crate) api_connections: Rc<()>,
}

/// Where a config was read from: what SIGUSR1 reads again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    /// The file's name, as it was given.
    pub file: String,
    /// The name of the adapter; empty for JSON.
    pub adapter: String,
}

/// One config in force.
struct Generation {
    /// The config as it was given, with `@id` keys; compact, since it is rarely asked for and large
    /// as a tree.
    raw: Arc<str>,
    ids: BTreeMap<String, String>,
    listeners: HashMap<String, Arc<Listener>>,
    cancel: CancellationToken,
    grace_period: Option<Duration>,
    shutdown_delay: Option<Duration>,
    admin: AdminPlan,
    /// Whom to tell that it stops.
    subscriptions: Subscriptions,
    /// Ends with it.
    _metrics_push: Option<Arc<MetricsPush>>,
}

/// What bind made ready for commit.
struct Bound {
    plan: Plan,
    servers: Vec<Arc<ServerRuntime>>,
    sockets: HashMap<String, BoundSocket>,
    quic: HashMap<String, BoundQuic>,
    /// Present where the endpoint moves to another address.
    admin: Option<BoundSocket>,
    /// The same of the endpoint for others.
    remote_admin: Option<BoundSocket>,
    bound: server::BoundShared,
}

impl Engine {
    /// Starts the workers; no config is loaded yet.
    ///
    /// # Errors
    /// The system refused threads or runtimes.
    pub fn start(options: EngineOptions) -> std::io::Result<Rc<Self>> {
        let count = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        Ok(Rc::new(Self {
            options,
            state: Arc::default(),
            metrics: Arc::default(),
            shared: Shared::default(),
            workers: RefCell::new(Workers::start(count)?),
            current: RefCell::default(),
            admin: RefCell::default(),
            remote_admin: RefCell::default(),
            quic: RefCell::default(),
            loading: Mutex::default(),
            source: RefCell::default(),
            worker: Worker::new(0),
            stopped: CancellationToken::new(),
            api_connections: Rc::default(),
        }))
    }

    /// Checks a config as far as it can be without sockets.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn validate(registry: &Registry, raw: Json) -> Result<(), LoadError> {
        let (config, _) = decode(raw)?;
        let state = State::default();
        let metrics = Arc::default();
        let plan =
            caddis_plan::compile(config, registry, &state, &metrics, caddis_plan::DEFAULT_ADMIN)
                .map_err(LoadError::Config)?;
        faults::validate(&plan)
    }

    /// Puts a config in force. A config equal to the running one is left alone unless `force`.
    ///
    /// # Errors
    /// The config is bad or cannot be activated; what ran before goes on unchanged.
    pub async fn load(self: &Rc<Self>, raw: Json, force: bool) -> Result<(), LoadError> {
        let _one_at_a_time = self.loading.lock().await;
        self.load_locked(raw, force, false).await
    }

    /// Tells the service manager of a reload that came to nothing before there was a config to load:
    /// one that asked for it by a signal (`Type=notify-reload`) waits for the outcome.
    pub fn reload_failed(&self, why: &str) {
        notify::reloading();
        notify::failed(&why);
    }

    /// Puts a config in force that was pulled from elsewhere; what comes of it is told in the log.
    pub(crate) async fn load_pulled(self: &Rc<Self>, raw: Json) {
        let _one_at_a_time = self.loading.lock().await;
        tracing::info!(target: "admin", "applying dynamically-loaded config");
        match self.load_locked(raw, false, true).await {
            Ok(()) => self.set_source(None),
            Err(error) => {
                tracing::error!(target: "admin", %error, "failed to run dynamically-loaded config");
            }
        }
    }

    /// Changes the config with a function, then loads the result; both under one lock.
    ///
    /// # Errors
    /// What the function or the load says; the config stays as it was.
    pub(crate) async fn edit<E: From<LoadError>>(
        self: &Rc<Self>,
        force: bool,
        change: impl FnOnce(&mut Json) -> Result<(), E>,
    ) -> Result<(), E> {
        let _one_at_a_time = self.loading.lock().await;
        let mut raw = self.raw_config().unwrap_or_default();
        change(&mut raw)?;
        Ok(self.load_locked(raw, force, false).await?)
    }

    async fn load_locked(
        self: &Rc<Self>,
        raw: Json,
        force: bool,
        pulled: bool,
    ) -> Result<(), LoadError> {
        let text: Arc<str> = raw.to_string().into();
        // At the start the service manager waits already.
        let first = self.current.borrow().is_none();
        if !first {
            notify::reloading();
        }
        let is_running = |running: &Generation| running.raw == text;
        if !force && self.current.borrow().as_ref().is_some_and(is_running) {
            tracing::info!("config is unchanged");
            notify::ready();
            return Ok(());
        }
        let result = self.activate(raw, text, pulled).await;
        match &result {
            Ok(()) => notify::ready(),
            Err(error) if !first => notify::failed(error),
            // The program ends, which says enough.
            Err(_) => {}
        }
        if result.is_err() && !first {
            // The identity may be that of the config that was refused.
            let running = self.admin_plan().and_then(|plan| plan.identity);
            self.shared.keep_identity(running.as_ref()).await;
        }
        self.note_reload(result.is_ok());
        result
    }

    /// Compiles, binds and commits a config; `text` is the same, as it is kept.
    async fn activate(
        self: &Rc<Self>,
        raw: Json,
        text: Arc<str>,
        pulled: bool,
    ) -> Result<(), LoadError> {
        let (config, ids) = decode(raw)?;
        let mut plan = caddis_plan::compile(
            config,
            &self.options.registry,
            &self.state,
            &self.metrics,
            &self.options.default_admin,
        )
        .map_err(LoadError::Config)?;
        // It would be no use after a restart, which pulls anew.
        plan.admin.persist &= !pulled;
        let next = match &plan.admin.load {
            Some(loader) if loader.delay.is_none() => {
                if pulled {
                    return Err(LoadError::Activate(
                        "recursive config loading detected: pulled configs cannot pull other configs without positive load_delay".to_owned(),
                    ));
                }
                if matches!(loader.certificate, Some(LoaderCertificate::Identity(_))) {
                    // It is shown where the config is pulled from.
                    self.shared.certificates_of(&plan);
                    self.shared.keep_identity(plan.admin.identity.as_ref()).await;
                }
                Some(pull::pull(self, loader).await?)
            }
            _ => None,
        };
        let bound = self.bind(plan).await?;
        self.commit(text, ids, bound);
        if let Some(next) = next {
            // After this load, which holds the lock.
            let engine = self.clone();
            tokio::task::spawn_local(async move { engine.load_pulled(next).await });
        }
        Ok(())
    }

    /// Opens what the plan needs and what does not run yet.
    async fn bind(self: &Rc<Self>, plan: Plan) -> Result<Bound, LoadError> {
        if self.current.borrow().is_none() {
            neighbors::tell(&plan);
        }
        let (bound, loaded) = self.shared.bind(&plan, &self.state, &self.metrics).await?;
        let servers = plan
            .servers
            .iter()
            .map(|server| ServerRuntime::new(server.clone(), &bound, &self.metrics))
            .collect::<Result<Vec<_>, _>>()?;
        let mut sockets = HashMap::new();
        let workers = self.workers.borrow().count();
        for listener in &plan.listeners {
            let key = listen::place(&listener.address);
            if self.listener(&key).is_some() || sockets.contains_key(&key) {
                continue;
            }
            let keepalive = plan.servers[listener.server].tcp_keepalive;
            let socket = listen::bind(&listener.address, workers, keepalive).map_err(|error| {
                let why = listen::why_not(&listener.address, &error);
                LoadError::Activate(format!("loading new config: http app module: start: listening on {key}: listen {}: bind: {why}", display(listener)))
            })?;
            sockets.insert(key, socket);
        }
        let quic = self.bind_quic(&plan, &sockets)?;
        for (at, server) in servers.iter().enumerate() {
            if let Some(value) = alt_svc(&plan, at, &quic) {
                // The runtime is new, so nobody has set it.
                let _ = server.alt_svc.set(value);
            }
        }
        let admin = self.bind_admin(&plan.admin)?;
        let remote_admin = self.bind_remote_admin(&plan.admin)?;
        // Last, since it changes what is served: nothing can fail after it.
        bound.reconcile(&plan, loaded).await;
        self.shared.keep_identity(plan.admin.identity.as_ref()).await;
        Ok(Bound { plan, servers, sockets, quic, admin, remote_admin, bound })
    }

    /// Puts everything in place. Cannot fail.
    fn commit(self: &Rc<Self>, raw: Arc<str>, ids: BTreeMap<String, String>, bound: Bound) {
        let Bound { mut plan, servers, mut sockets, quic, admin, remote_admin, mut bound } = bound;
        for warning in &plan.warnings {
            tracing::warn!(target: "config", "{warning}");
        }
        let ech = bound.commit_ech();
        let events = bound.commit(&self.options.logging);
        let mut old = self.current.take();
        let mut listeners = HashMap::new();
        for listener in &plan.listeners {
            let key = listen::place(&listener.address);
            let binding = Binding {
                server: servers[listener.server].clone(),
                tls: listener.tls,
                protocols: listener.protocols,
                drain: Arc::default(),
            };
            let kept = old.as_mut().and_then(|old| old.listeners.remove(&key));
            let listener = match (kept, sockets.remove(&key)) {
                (Some(kept), _) => {
                    listen::set_mode(&listener.address);
                    kept.rebind(binding);
                    kept
                }
                (None, Some(socket)) => {
                    let (address, port) = (listener.address.clone(), socket.port());
                    let listener = Arc::new(Listener::new(address, port, binding));
                    if let Err(error) = self.workers.borrow().listen(&listener, socket) {
                        tracing::error!(target: "http", %error, address = key, "listening failed");
                    }
                    listener
                }
                (None, None) => continue,
            };
            listeners.insert(key, listener);
        }
        for server in &plan.servers {
            // By the names that operators look for (Caddy's).
            let protocols = json!(server.protocols.names());
            tracing::info!(
                target: "http.log",
                name = server.name,
                json.protocols = %protocols,
                "server running"
            );
        }
        self.commit_quic(quic, &listeners);
        events.tell("started", "", json!({}));
        if let Some(old) = old {
            events.tell_to(&old.subscriptions, "stopping", "", json!({}));
            old.cancel.cancel();
            match old.shutdown_delay {
                Some(delay) if !old.listeners.is_empty() => {
                    announce_shutdown(&old.listeners, delay);
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(delay).await;
                        close_all(old.listeners);
                    });
                }
                _ => close_all(old.listeners),
            }
        }
        let cancel = CancellationToken::new();
        for task in std::mem::take(&mut plan.tasks) {
            let cx = TaskCx {
                cancel: cancel.clone(),
                worker: self.worker.clone(),
                events: events.clone(),
            };
            let run = task.run;
            let cancelled = cancel.clone();
            tokio::task::spawn_local(async move {
                tokio::select! {
                    () = run(cx) => {}
                    () = cancelled.cancelled() => {}
                }
            });
        }
        if let Some(keep) = ech {
            tokio::task::spawn_local(cancel.clone().run_until_cancelled_owned(keep));
        }
        if let Some(loader) = plan.admin.load.clone()
            && let Some(delay) = loader.delay
        {
            let later = pull::pull_later(self.clone(), loader, delay, cancel.clone());
            tokio::task::spawn_local(later);
        }
        self.swap_admin(&plan.admin, admin);
        self.swap_remote_admin(&plan.admin, remote_admin);
        // No config at all is nothing to resume: what was saved before is worth more.
        if plan.admin.persist && *raw != *"null" {
            autosave::save(raw.clone());
        }
        *self.current.borrow_mut() = Some(Generation {
            raw,
            ids,
            listeners,
            cancel,
            grace_period: plan.grace_period,
            shutdown_delay: plan.shutdown_delay,
            admin: plan.admin,
            subscriptions: events.current().unwrap_or_default(),
            _metrics_push: plan.metrics_push.and_then(|settings| self.push_metrics(settings)),
        });
    }

    /// Pushes to a collector what the admin endpoint serves at `/metrics`.
    fn push_metrics(&self, settings: MetricsSettings) -> Option<Arc<MetricsPush>> {
        let (expose, metrics) = (self.options.hooks.metrics, self.metrics.clone());
        let of_certificates = self.shared.certificate_metrics_source();
        let source = Box::new(move || expose(&metrics) + &of_certificates());
        match MetricsPush::start(settings, source) {
            Ok(push) => {
                let push = Arc::new(push);
                self.state.single::<Finishers>().add(&push);
                Some(push)
            }
            Err(error) => {
                tracing::error!(target: "http", %error, "metrics are not pushed");
                None
            }
        }
    }

    fn listener(&self, key: &str) -> Option<Arc<Listener>> {
        self.current.borrow().as_ref()?.listeners.get(key).cloned()
    }

    fn note_reload(&self, ok: bool) {
        let gauge = |name, help| self.metrics.gauge(name, help, &[]);
        gauge(
            "caddy_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
        )
        .store(i64::from(ok), Ordering::Relaxed);
        if ok {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            gauge(
                "caddy_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            )
            .store(i64::try_from(now).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Notes the file that the running config came from.
    pub fn set_source(&self, source: Option<ConfigSource>) {
        *self.source.borrow_mut() = source;
    }

    /// The file that the running config came from; `None` where there is none, or where the admin
    /// API changed the config since (spec A082).
    pub fn source(&self) -> Option<ConfigSource> {
        self.source.borrow().clone()
    }

    /// The running config as it was given.
    pub(crate) fn raw_config(&self) -> Option<Json> {
        let raw = self.current.borrow().as_ref().map(|generation| generation.raw.clone());
        // It was written from JSON, so it can be read.
        raw.and_then(|raw| serde_json::from_str(&raw).ok())
    }

    pub(crate) fn ids(&self) -> BTreeMap<String, String> {
        self.current.borrow().as_ref().map(|running| running.ids.clone()).unwrap_or_default()
    }

    /// The addresses that are listened on, as bound.
    pub fn listening(&self) -> Vec<String> {
        let current = self.current.borrow();
        let mut all: Vec<String> =
            current.iter().flat_map(|running| running.listeners.keys().cloned()).collect();
        all.sort();
        all
    }
}

/// The strict shape, and where its `@id`s are.
fn decode(mut raw: Json) -> Result<(Config, BTreeMap<String, String>), LoadError> {
    let ids = caddis_config::json::id::index(&raw)
        .map_err(|error| ConfigError::new("", error.to_string()))?;
    if !ids.is_empty() {
        caddis_config::json::id::strip(&mut raw);
    }
    if !raw.is_object() && !raw.is_null() {
        let message =
            format!("json: cannot unmarshal {} into Go value of type caddy.Config", kind(&raw));
        return Err(ConfigError::new("", message).into());
    }
    let config = if raw.is_null() { Config::default() } else { caddis_config::decode(raw)? };
    Ok((config, ids.into_iter().collect()))
}

/// What Go calls a kind of JSON.
fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn display(listener: &ListenerPlan) -> String {
    format!("{} {}", listener.address.network, listener.address.join_host_port(0))
}
