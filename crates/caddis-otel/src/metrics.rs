//! Metrics.
pub struct MetricsExport;
pub struct MetricsPush;
