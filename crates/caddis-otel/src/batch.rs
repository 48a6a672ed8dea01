//! The queue of ended spans and the thread that gives them to the exporter in batches
//! (`OTEL_BSP_*`).
//!
//! Who ends a span holds the lock for a push. Where there is no room, the span is dropped and
//! counted. While a collector does not answer, the thread repeats one batch and the queue fills;
//! nobody else notices.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prost::Message as _;
use tokio::sync::Notify;

use crate::{
    console,
    proto::{Resource, ResourceSpans, ScopeSpans, TraceRequest},
    resource,
    send::Sender,
    settings::{Env, Exporter},
    span::SpanData,
    worker::Worker,
};

/// The log of all that goes wrong.
const LOG: &str = "http.handlers.tracing";
/// Failures are told at most this often.
const QUIET: Duration = Duration::from_secs(10);

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchSettings {
    /// Spans that may wait.
    queue: usize,
    /// Spans of one message.
    batch: usize,
    /// The longest that a span waits for others.
    delay: Duration,
    /// For one batch, with all its repetitions.
    timeout: Duration,
}

impl BatchSettings {
    pub(crate) fn from_env(env: &Env<'_>, warnings: &mut Vec<String>) -> Self {
        let count = |name, default, warnings: &mut Vec<String>| {
            let number = env.number(name, warnings).and_then(|number| usize::try_from(number).ok());
            // More would be memory that nobody meant.
            number.filter(|number| *number > 0).unwrap_or(default).min(1 << 20)
        };
        let queue = count("OTEL_BSP_MAX_QUEUE_SIZE", 2048, warnings);
        let batch = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, warnings);
        let seconds = Duration::from_secs;
        Self {
            queue,
            batch: if batch > queue { queue.min(512) } else { batch },
            delay: env.millis("OTEL_BSP_SCHEDULE_DELAY", seconds(5), warnings),
            timeout: env.millis("OTEL_BSP_EXPORT_TIMEOUT", seconds(30), warnings),
        }
    }
}

/// Where ended spans go.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    settings: BatchSettings,
    waiting: Mutex<Batch>,
    /// For the thread: a batch is full.
    full: Notify,
    worker: Arc<Worker>,
    dropped: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    pub(crate) fn new(settings: BatchSettings) -> Self {
        Self(Arc::new(Shared {
            settings,
            waiting: Mutex::default(),
            full: Notify::new(),
            worker: Worker::new(),
            dropped: AtomicU64::new(0),
        }))
    }

    /// Hands a span over; never waits for the collector.
    pub(crate) fn push(&self, span: Box<SpanData>) {
        let shared = &*self.0;
        let mut waiting = shared.lock();
        let count = waiting.len();
        if count >= shared.settings.queue {
            drop(waiting);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.push_back(span);
        drop(waiting);
        if count + 1 == shared.settings.batch {
            shared.full.notify_one();
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(&self, exporter: Exporter, resource: Resource) -> std::io::Result<()> {
        let shared = self.0.clone();
        let target = match exporter {
            Exporter::None => return Ok(()),
            Exporter::Console => Target::Console,
            Exporter::Otlp(otlp) => Target::Collector(Box::new(Sender::new(otlp))),
        };
        let work = Work { shared, target, resource, lost: Lost::default() };
        self.0.worker.start("spans", move || work.run())
    }

    /// Tells the thread to send what there is, without pauses, and to end.
    pub(crate) fn close(&self) {
        self.0.worker.stop();
    }

    /// [`close`](Self::close), and waits for it, until the deadline at most.
    pub(crate) fn finish(&self, deadline: Instant) {
        self.close();
        if !self.0.worker.wait(deadline) {
            let spans = self.0.lock().len();
            tracing::error!(target: LOG, spans, "spans could not be exported in time");
        }
    }
}

/// Boxed, so that little is moved under the lock.
pub(crate) type Batch = VecDeque<Box<SpanData>>;

enum Target {
    Console,
    Collector(Box<Sender>),
}

/// The thread's own.
struct Work {
    shared: Arc<Shared>,
    target: Target,
    resource: Resource,
    lost: Lost,
}

impl Work {
    async fn run(mut self) {
        let shared = self.shared.clone();
        let size = shared.settings.batch;
        let mut stop = shared.worker.stopping().subscribe();
        loop {
            let full = shared.lock().len() >= size;
            if !full && !*stop.borrow() {
                tokio::select! {
                    () = tokio::time::sleep(shared.settings.delay) => {}
                    () = shared.full.notified() => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
            // Before the spans, so that none is left when it says to stop.
            let last = *stop.borrow();
            let batch: Batch = {
                let mut waiting = shared.lock();
                let count = size.min(waiting.len());
                waiting.drain(..count).collect()
            };
            if batch.is_empty() && last {
                return self.tell();
            }
            if !batch.is_empty() {
                self.export(batch).await;
            }
            self.tell();
        }
    }

    async fn export(&mut self, batch: Batch) {
        let count = batch.len() as u64;
        let sender = match &self.target {
            Target::Console => return console::print(&batch, &self.resource),
            Target::Collector(sender) => sender,
        };
        let spans = batch.into_iter().map(|span| span.into_message()).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(resource::scope()), spans }];
        let resource = Some(self.resource.clone());
        let request =
            TraceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] };
        let message = request.encode_to_vec();
        drop(request);
        let stop = self.shared.worker.stopping();
        match sender.send(&message, self.shared.settings.timeout, stop).await {
            Ok(None) => {}
            Ok(Some(note)) => tracing::warn!(target: LOG, "exporting spans: {note}"),
            Err(error) => {
                self.lost.spans += count;
                self.lost.error = error;
            }
        }
    }

    /// Tells what was lost since the last time, not too often.
    fn tell(&mut self) {
        let stopping = *self.shared.worker.stopping().borrow();
        if !stopping && self.lost.told.is_some_and(|told| told.elapsed() < QUIET) {
            return;
        }
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let limit = self.shared.settings.queue;
            tracing::warn!(
                target: LOG,
                dropped,
                limit,
                "spans were dropped since the queue was full (OTEL_BSP_MAX_QUEUE_SIZE)"
            );
        }
        let spans = std::mem::take(&mut self.lost.spans);
        if spans > 0 {
            let error = std::mem::take(&mut self.lost.error);
            tracing::error!(target: LOG, spans, error, "exporting spans failed");
        }
        if dropped > 0 || spans > 0 {
            self.lost.told = Some(Instant::now());
        }
    }
}

/// What did not reach the collector and was not told yet.
#[derive(Default)]
struct Lost {
    spans: u64,
    error: String,
    told: Option<Instant>,
}
