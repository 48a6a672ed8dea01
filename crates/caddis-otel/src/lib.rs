//! OpenTelemetry: spans of requests and metrics, given to a collector over OTLP.
//!
//! All settings are those of the environment that OpenTelemetry names (`OTEL_*`), read as the SDK
//! that Caddy uses reads them (spec O114 to O117, O112). Reading order: `settings` (one signal's
//! exporter), `send` (one message to the collector, with its repetitions), `tracer` and `span`
//! (what a handler works with), `batch` (the queue and its thread), `metrics`, `worker` (a thread
//! that ends when it is told to).
//!
//! Nothing here is on the way of a request: a span is handed over by pushing it on a bounded queue,
//! and what has no room is dropped and counted.

mod batch;
mod console;
mod metrics;
pub mod prometheus;
mod propagation;
mod proto;
mod resource;
mod sampler;
mod send;
mod settings;
mod span;
#[cfg(test)]
mod testing;
mod text;
mod tracer;
mod worker;

pub use metrics::{MetricsPush, MetricsSettings, Source};
pub use propagation::{Context, Propagators};
pub use settings::Env;
pub use span::{Attribute, Span};
pub use tracer::{Tracer, TracerSettings};
