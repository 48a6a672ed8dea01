//! The tracer: decides about spans and takes them when they end. One for all handlers and all
//! plans; the last plan to let go ends it (spec O117).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use caddis_core::finish::Finish;

use crate::{
    Context, Span,
    batch::{BatchSettings, Queue},
    proto::Resource,
    resource,
    sampler::Sampler,
    settings::{Env, Exporter, Signal},
    span::{Limits, SpanData},
};

/// What the environment says about traces.
pub struct TracerSettings {
    exporter: Exporter,
    resource: Resource,
    sampler: Sampler,
    limits: Limits,
    batch: BatchSettings,
    /// What was not understood and is not used.
    pub warnings: Vec<String>,
}

impl TracerSettings {
    /// Reads the environment, and the files of certificates that it names.
    ///
    /// # Errors
    /// An exporter or a protocol that is unknown.
    pub fn from_env(env: &Env<'_>) -> Result<Self, String> {
        let mut warnings = Vec::new();
        Ok(Self {
            exporter: Exporter::from_env(Signal::Traces, env, &mut warnings)?,
            resource: resource::resource(env, &mut warnings),
            sampler: Sampler::from_env(env, &mut warnings),
            limits: Limits::from_env(env, &mut warnings),
            batch: BatchSettings::from_env(env, &mut warnings),
            warnings,
        })
    }
}

/// Decides about spans and takes them.
pub struct Tracer {
    sampler: Sampler,
    limits: Limits,
    queue: Queue,
    /// Whether spans go anywhere.
    exports: bool,
    /// How long one attempt may take.
    patience: Duration,
    /// Until the thread is started.
    exporter: Mutex<Option<(Exporter, Resource)>>,
}

impl Tracer {
    /// A tracer; nothing runs before [`start`](Self::start).
    pub fn new(settings: TracerSettings) -> Self {
        let patience = match &settings.exporter {
            Exporter::Otlp(otlp) => otlp.timeout,
            Exporter::None | Exporter::Console => Duration::from_secs(1),
        };
        Self {
            sampler: settings.sampler,
            limits: settings.limits,
            queue: Queue::new(settings.batch),
            exports: !matches!(settings.exporter, Exporter::None),
            patience,
            exporter: Mutex::new(Some((settings.exporter, settings.resource))),
        }
    }

    /// Starts the thread that exports, if it does not run yet. Without it spans wait, and are
    /// dropped when there are too many.
    pub fn start(&self) {
        // Held until it runs: whoever ends it meanwhile would find nothing to wait for.
        let mut waiting = self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((exporter, resource)) = waiting.take() else { return };
        if let Err(error) = self.queue.start(exporter, resource) {
            tracing::error!(target: "http.handlers.tracing", %error, "spans are not exported");
        }
    }

    /// The context of a new span below `parent`: a trace that goes on, or a new one.
    pub fn decide(&self, parent: Option<&Context>) -> Context {
        let mut context = match parent {
            Some(parent) => parent.clone(),
            None => Context::of(fastrand::u128(1..).to_be_bytes(), [0; 8], 0),
        };
        context.span_id = fastrand::u64(1..).to_be_bytes();
        let sampled = self.sampler.samples(parent.map(Context::is_sampled), context.trace_id);
        context.set_sampled(sampled);
        context
    }

    /// Begins the span of a context that [`decide`](Self::decide) gave; `None` where the trace is
    /// not recorded.
    pub fn begin(
        self: &Arc<Self>,
        context: &Context,
        parent: Option<&Context>,
        name: impl FnOnce() -> String,
    ) -> Option<Span> {
        let recorded = self.exports && context.is_sampled();
        let parent = parent.map(|parent| parent.span_id);
        recorded.then(|| Span::begin(self.clone(), context.clone(), parent, name()))
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn ended(&self, span: Box<SpanData>) {
        self.queue.push(span);
    }
}

impl Finish for Tracer {
    /// Exports what there is; waits as long as one attempt may take.
    fn finish(&self) {
        // The end may come before the task that starts it had its turn.
        self.start();
        self.queue.finish(Instant::now() + self.patience);
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.queue.close();
    }
}
