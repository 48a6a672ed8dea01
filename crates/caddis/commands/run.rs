//! `caddis run`: the server in the foreground.

use std::{io::Write, process::ExitCode, rc::Rc, time::Duration};

use caddis_engine::{AdminHooks, ConfigSource, Engine, EngineOptions, LoadError, Refusal, Signal};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::{Outcome, drawn};
use crate::{
    args::{Config, Run},
    diagnose, registry, report,
    source::{self, Loaded, Text},
};

/// How long the logs may take to be written at the end.
const FLUSH: Duration = Duration::from_secs(5);
/// Exit code of a quit that was forced.
const FORCED: u8 = 2;

/// Runs until told to stop.
pub(crate) fn run(flags: &Run) -> Outcome {
    let logging = caddis_logging::init();
    if flags.environ {
        super::environ::environ()?;
    }
    let resumed = if flags.resume { autosaved(&flags.config)? } else { None };
    let (json, loaded) = match resumed {
        Some(json) => (json, None),
        None => match source::load(&flags.config, &registry::standard()) {
            Ok(Some(mut loaded)) => {
                note(&loaded, &flags.config);
                (std::mem::take(&mut loaded.json), Some(loaded))
            }
            Ok(None) => {
                tracing::warn!(
                    "no config file here; nothing is served until a config is loaded \
                     (name a file with --config)"
                );
                (Json::Null, None)
            }
            Err(failure) => return Err(drawn(&failure)),
        },
    };
    let watch = Watch { config: flags.config.clone(), watch: flags.watch, from_file: loaded };
    let serving = Serving {
        watch: Some(watch),
        pidfile: flags.pidfile.as_deref().filter(|path| !path.is_empty()),
        pingback: flags.pingback.as_deref(),
        ready: None,
    };
    serve(json, logging, serving)
}

/// Tells the log where a config comes from, and what is odd about it.
fn note(loaded: &Loaded, config: &Config) {
    match (&loaded.file, config.file()) {
        (Some(_), None) => tracing::info!("using adjacent Caddyfile"),
        (Some(file), _) => tracing::info!(file, "using config from file"),
        (None, _) => tracing::info!("using config from stdin"),
    }
    if loaded.adapter.is_empty() {
        return;
    }
    tracing::info!(adapter = loaded.adapter, "adapted config to JSON");
    for warning in &loaded.warnings {
        let (file, line) = warning.place.clone().unwrap_or_default();
        let (adapter, file) = (loaded.adapter.as_str(), file.as_str());
        tracing::warn!(adapter, file, line, "{}", warning.message);
    }
}

/// The config that ran last; none if none was saved.
///
/// # Errors
/// It cannot be read: starting with another config than the last one would be no resuming.
fn autosaved(config: &Config) -> Result<Option<Json>, String> {
    let path = caddis_tls::storage::config_dir().join("autosave.json");
    let autosave_file = path.display().to_string();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::info!(autosave_file, "no autosave file exists");
            return Ok(None);
        }
        Err(error) => return Err(format!("open {autosave_file}: {}", source::plain(&error))),
    };
    match config.file() {
        None => tracing::info!(autosave_file, "resuming from last configuration"),
        Some(_) => tracing::warn!(
            autosave_file,
            "--config and --resume flags were used together; ignoring --config and resuming from last configuration"
        ),
    }
    let json = serde_json::from_slice(&text);
    json.map(Some).map_err(|error| {
        format!(
            "loading initial config: {autosave_file}: {error}; remove the file to start without it"
        )
    })
}

/// What a reload from the file needs.
pub(crate) struct Watch {
    config: Config,
    watch: bool,
    from_file: Option<Loaded>,
}

/// Threads for blocking work of the control thread. More than work on certificates takes at a time;
/// without a limit, thousands of short reads at the start leave a hundred threads and their memory.
const BLOCKING: usize = 32;

/// Allows as many open files as the system lets this process have, as Go's run time does: a usual
/// soft limit of 1,024 is few hundred proxied requests.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // The limit that there is serves, too.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// What belongs to serving beside a config.
#[derive(Default)]
pub(crate) struct Serving<'a> {
    /// The file that the config is from.
    pub(crate) watch: Option<Watch>,
    /// Where to write the process id.
    pub(crate) pidfile: Option<&'a str>,
    /// Where to say that the config is in force.
    pub(crate) pingback: Option<&'a str>,
    /// What to do when it is.
    pub(crate) ready: Option<&'a dyn Fn()>,
}

/// Loads a config and serves until a signal or the admin API ends it.
pub(crate) fn serve(
    config: Json,
    logging: caddis_logging::Handle,
    serving: Serving<'_>,
) -> Outcome {
    let Serving { mut watch, pidfile, pingback, ready } = serving;
    raise_file_limit();
    // Before the config, which may take its time to come into force. Whoever waits for the file has
    // to see that there is none, but a server that runs without it is better than no server.
    let mut pidfile = pidfile.and_then(|path| match Pidfile::write(path) {
        Ok(pidfile) => Some(pidfile),
        Err(error) => {
            let error = source::plain(&error);
            tracing::error!(pidfile = path, error, "unable to write PID file");
            None
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (sender, mut asked) = mpsc::unbounded_channel();
        let signals =
            caddis_engine::next_signal(sender.clone()).map_err(|error| error.to_string())?;
        tokio::task::spawn_local(signals);
        let engine = Engine::start(options(logging.clone(), sender.clone()))
            .map_err(|error| error.to_string())?;
        // A resumed config is no file's; there is nothing to watch then.
        let watched = watch
            .as_ref()
            .filter(|watch| watch.watch && watch.from_file.is_some())
            .map(|watch| (watch.config.clone(), Watched::Config(config.to_string())));
        if let Err(error) = engine.load(config, true).await {
            logging.flush(FLUSH);
            let why = draw_refused(&error, watch.as_ref().and_then(|one| one.from_file.as_ref()));
            // Commands without a config file have no other config to come.
            return Err(if watch.is_some() { format!("loading initial config: {why}") } else { why });
        }
        match ready {
            Some(ready) => ready(),
            None => tracing::info!("serving initial configuration"),
        }
        if watch.is_some() && is_homeless() {
            tracing::warn!(
                "$HOME environment variable is empty - please fix; some assets might be stored in ./caddy"
            );
        }
        if let Some(pidfile) = &mut pidfile {
            pidfile.keep();
        }
        engine.set_source(watch.as_ref().and_then(|watch| {
            let loaded = watch.from_file.as_ref()?;
            let file = loaded.file.clone()?;
            Some(ConfigSource { file, adapter: loaded.adapter.clone() })
        }));
        if let Some(loaded) = watch.as_mut().and_then(|watch| watch.from_file.as_mut()) {
            // Texts are only needed to say what is wrong with them.
            (loaded.text, loaded.sources) = Default::default();
        }
        if let Some(address) = pingback {
            ping_back(address)?;
        }
        if let Some((config, loaded)) = watched {
            tokio::task::spawn_local(watch_file(config, loaded, sender.clone()));
        }
        let code = obey(&engine, &mut asked, watch.as_ref()).await;
        logging.flush(FLUSH);
        Ok(code)
    })
}

/// Whether the environment says too little about where files go.
fn is_homeless() -> bool {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let folders = ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"];
    !is_set(&"HOME") && !folders.iter().all(is_set)
}

/// How many workers the environment wants; 0 for one per core.
pub(crate) fn workers_wanted() -> usize {
    ["TOKIO_WORKER_THREADS", "GOMAXPROCS"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
        .unwrap_or(0)
}

fn options(
    logging: caddis_logging::Handle,
    signals: mpsc::UnboundedSender<Signal>,
) -> EngineOptions {
    EngineOptions {
        registry: registry::standard(),
        hooks: AdminHooks {
            adapt: adapt_hook,
            explain: explain_hook,
            upstreams: registry::upstreams,
            metrics: registry::metrics,
            present_metrics: registry::present_metrics,
        },
        logging,
        default_admin: std::env::var("CADDY_ADMIN")
            .ok()
            .filter(|address| !address.is_empty())
            .unwrap_or_else(|| "localhost:2019".to_owned()),
        workers: workers_wanted(),
        signals,
    }
}

/// Adapts a config for the admin API.
fn adapt_hook(adapter: &str, text: &[u8]) -> Result<(Json, Vec<Json>), Refusal> {
    if adapter != "caddyfile" {
        return Err(format!("unrecognized config adapter '{adapter}'").into());
    }
    match source::adapt_caddyfile("Caddyfile", text, &registry::standard()) {
        Ok((json, warnings, _)) => {
            let warnings = warnings
                .iter()
                .map(|warning| {
                    let (file, line) = warning
                        .place
                        .as_ref()
                        .map_or((String::new(), 0), |(file, line)| (file.to_string(), *line));
                    serde_json::json!({ "file": file, "line": line, "message": warning.message })
                })
                .collect();
            Ok((json, warnings))
        }
        // The sentence is that of the first mistake, as Caddy has it; all are beside.
        Err(source::Failure::Diagnostics(all, sources)) => {
            let first = all.iter().find(|one| one.is_error()).or(all.first());
            let message = first.map(ToString::to_string).unwrap_or_default();
            Err(Refusal { message, findings: report::findings(&all, &sources) })
        }
        Err(source::Failure::Message(message)) => Err(message.into()),
    }
}

/// Says why a config was refused, with its places in the Caddyfile.
fn explain_hook(adapter: &str, text: &[u8], error: &LoadError) -> Refusal {
    let LoadError::Config(errors) = error else { return error.to_string().into() };
    let text =
        Text { name: "Caddyfile".into(), bytes: text.to_owned(), adapter: adapter.to_owned() };
    let (all, sources) = diagnose::locate_all(&text, errors, &registry::standard());
    let message = all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Refusal { message, findings: report::findings(&all, &sources) }
}

/// Draws why a config was refused, and gives the sentence for it.
fn draw_refused(error: &LoadError, loaded: Option<&Loaded>) -> String {
    let (LoadError::Config(errors), Some(loaded)) = (error, loaded) else {
        return error.to_string();
    };
    let mut errors = errors.clone();
    if let Some(json) = source::json_of(&loaded.text, &registry::standard()) {
        for error in &mut errors {
            error.path = diagnose::as_written(&json, &error.path);
        }
    }
    let (all, sources) = diagnose::locate_all(&loaded.text, &errors, &registry::standard());
    report::draw(&all, &sources);
    let texts: Vec<_> = all.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Waits for what is asked, and does it.
async fn obey(
    engine: &Rc<Engine>,
    asked: &mut mpsc::UnboundedReceiver<Signal>,
    watch: Option<&Watch>,
) -> ExitCode {
    while let Some(signal) = asked.recv().await {
        match signal {
            Signal::Reload => reload(engine, watch).await,
            Signal::Changed => {
                if let Some(watch) = watch {
                    tracing::info!("config file changed; reloading");
                    let file = source::name_of(&watch.config);
                    let adapter = watch.from_file.as_ref().map(|one| one.adapter.clone());
                    let source = file.zip(adapter);
                    let source = source.map(|(file, adapter)| ConfigSource { file, adapter });
                    reload_file(engine, &watch.config, source).await;
                }
            }
            Signal::Quit => {
                tracing::info!(signal = "SIGQUIT", "quitting process immediately");
                return ExitCode::from(FORCED);
            }
            Signal::Interrupt | Signal::Terminate | Signal::Stop => {
                let by = match signal {
                    Signal::Interrupt => "SIGINT",
                    Signal::Terminate => "SIGTERM",
                    _ => "",
                };
                // The admin API has told of its own wish.
                match by {
                    "" => tracing::info!("shutting down apps, then terminating"),
                    signal => {
                        tracing::info!(signal, "shutting down apps, then terminating");
                        tracing::warn!(signal, "exiting; byeee!!");
                    }
                }
                let forced = async {
                    while let Some(again) = asked.recv().await {
                        if matches!(again, Signal::Interrupt | Signal::Quit) {
                            return;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                return tokio::select! {
                    () = engine.stop() => {
                        match by {
                            "" => tracing::info!(exit_code = 0, "shutdown complete"),
                            signal => tracing::info!(signal, exit_code = 0, "shutdown complete"),
                        }
                        ExitCode::SUCCESS
                    }
                    () = forced => {
                        tracing::warn!("force quit");
                        std::process::exit(FORCED.into());
                    }
                };
            }
        }
    }
    ExitCode::SUCCESS
}

/// SIGUSR1: the file again, unless the config came from elsewhere or was changed since (spec A082).
async fn reload(engine: &Rc<Engine>, watch: Option<&Watch>) {
    let (Some(watch), Some(source)) = (watch, engine.source()) else {
        tracing::info!(signal = "SIGUSR1", "last config unknown, ignored SIGUSR1");
        engine.reload_failed("the config is not that of a file any more");
        return;
    };
    tracing::info!(
        signal = "SIGUSR1",
        file = source.file,
        adapter = source.adapter,
        "reloading config from last-known source"
    );
    reload_file(engine, &watch.config, Some(source)).await;
}

/// Loads what the file says now.
async fn reload_file(engine: &Rc<Engine>, config: &Config, source: Option<ConfigSource>) {
    match source::load(config, &registry::standard()) {
        Ok(Some(mut loaded)) => {
            note(&loaded, config);
            match engine.load(std::mem::take(&mut loaded.json), false).await {
                Ok(()) => {
                    engine.set_source(source);
                    tracing::info!("successfully reloaded config from file");
                }
                Err(error) => {
                    let error = draw_refused(&error, Some(&loaded));
                    tracing::error!(error, "reloading the config failed; nothing changed");
                }
            }
        }
        Ok(None) => {
            tracing::error!("the config file is gone; nothing changed");
            engine.reload_failed("the config file is gone");
        }
        Err(failure) => {
            let error = drawn(&failure);
            engine.reload_failed(&error);
            tracing::error!(error, "the config file is not valid; nothing changed");
        }
    }
}

/// How often the file is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// Watching ends when the file could not be read so many times in a row.
const UNREADABLE: u32 = 10;
/// Adapting again and again takes at most one part in so many of a core.
const WATCH_SHARE: u32 = 20;

/// Asks for a reload when what the file adapts to changes: its own text, a file that it imports, or
/// one that an import matches now. Watching ends where the file cannot be read (spec A071), and that
/// not by chance: many an editor moves the old file away before it writes the new one.
async fn watch_file(config: Config, mut last: Watched, sender: mpsc::UnboundedSender<Signal>) {
    let mut pause = WATCH;
    let mut unreadable = 0;
    loop {
        tokio::time::sleep(pause).await;
        let begin = std::time::Instant::now();
        let now = watched(&config).await;
        pause = WATCH.max(begin.elapsed() * WATCH_SHARE);
        unreadable = if now.is_err() { unreadable + 1 } else { 0 };
        match now {
            Ok(now) if now != last => {
                last = now;
                if sender.send(Signal::Changed).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) if unreadable < UNREADABLE => {
                if unreadable == 1 {
                    tracing::warn!(error, "the watched config file cannot be read; waiting for it");
                }
            }
            Err(error) => {
                tracing::error!(error, "unable to load latest config; no longer watching it");
                return;
            }
        }
    }
}

/// What a watched file is now.
#[derive(PartialEq)]
enum Watched {
    /// It adapts to this JSON.
    Config(String),
    /// It has mistakes; this is its text.
    Bad(Vec<u8>),
}

/// Reads and adapts the file. `Err`: it cannot be read.
async fn watched(config: &Config) -> Result<Watched, String> {
    let config = config.clone();
    let read = move || {
        let registry = registry::standard();
        let text = match source::read_text(&config) {
            Ok(Some(text)) => text,
            Ok(None) => return Err("the config file is gone".to_owned()),
            Err(failure) => return Err(failure.to_string()),
        };
        Ok(match source::json_of(&text, &registry) {
            Some(json) => Watched::Config(json.to_string()),
            None => Watched::Bad(text.bytes),
        })
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
}

/// Tells `caddis start` that the server runs: the confirmation bytes it gave on standard input.
fn ping_back(address: &str) -> Result<(), String> {
    let mut confirmation = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut confirmation)
        .map_err(|error| format!("reading confirmation bytes from stdin: {error}"))?;
    let mut stream = std::net::TcpStream::connect(address).map_err(|error| {
        let error = source::plain(&error);
        format!("dialing confirmation address: dial tcp {address}: connect: {error}")
    })?;
    stream
        .write_all(&confirmation)
        .map_err(|error| format!("writing confirmation bytes to {address}: {error}"))
}

/// A file with the process id, as long as the process runs.
struct Pidfile {
    path: std::path::PathBuf,
    /// What the file said before. A server that does not get to serve (its ports are those of
    /// another one that runs) puts it back.
    before: Option<Vec<u8>>,
}

impl Pidfile {
    fn write(path: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let before = std::fs::read(path).ok();
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()))?;
        Ok(Self { path: path.into(), before })
    }

    /// This process serves, so the file is its own.
    fn keep(&mut self) {
        self.before = None;
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Somebody may have removed it; then there is nothing to do.
        let _ = match &self.before {
            Some(before) => std::fs::write(&self.path, before),
            None => std::fs::remove_file(&self.path),
        };
    }
}
