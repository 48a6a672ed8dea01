//! Metrics for a collector (`otlp` of `metrics`, spec O112): what `/metrics` serves, pushed in
//! intervals.
//!
//! The source is Prometheus' text format, version 0.0.4, so that both ways tell the same by
//! construction. Counters become monotonic sums, gauges and histograms stay what they are; all
//! count from the start of the process.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use caddis_core::finish::Finish;
use prost::Message as _;

use crate::{
    proto::{
        CUMULATIVE, Gauge, Histogram, HistogramPoint, KeyValue, Metric, MetricData, MetricsRequest,
        NumberPoint, Resource, ResourceMetrics, ScopeMetrics, Sum,
    },
    resource,
    send::Sender,
    settings::{Env, Exporter, Signal},
    span::nanos,
    text::{Family, Sample, families, whole},
    worker::Worker,
};

const LOG: &str = "http";

/// What the environment says about metrics.
#[derive(Debug)]
pub struct MetricsSettings {
    exporter: Exporter,
    resource: Resource,
    interval: Duration,
    /// For one push, with all its repetitions.
    timeout: Duration,
    /// What was not understood and is not used.
    pub warnings: Vec<String>,
}

impl MetricsSettings {
    /// Reads the environment, and the files of certificates that it names.
    ///
    /// # Errors
    /// An exporter or a protocol that is unknown.
    pub fn from_env(env: &Env<'_>) -> Result<Self, String> {
        let mut warnings = Vec::new();
        Ok(Self {
            exporter: Exporter::from_env(Signal::Metrics, env, &mut warnings)?,
            resource: resource::resource(env, &mut warnings),
            interval: env.millis(
                "OTEL_METRIC_EXPORT_INTERVAL",
                Duration::from_secs(60),
                &mut warnings,
            ),
            timeout: env.millis(
                "OTEL_METRIC_EXPORT_TIMEOUT",
                Duration::from_secs(30),
                &mut warnings,
            ),
            warnings,
        })
    }
}

/// All metrics as Prometheus' text; may read files.
pub type Source = Box<dyn Fn() -> String + Send>;

/// Metrics that are pushed until this is dropped, and then once more.
pub struct MetricsPush {
    worker: Arc<Worker>,
    /// How long one attempt may take.
    patience: Duration,
}

impl MetricsPush {
    /// Starts a thread that pushes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: MetricsSettings, source: Source) -> std::io::Result<Self> {
        let worker = Worker::new();
        let MetricsSettings { exporter, resource, interval, timeout, .. } = settings;
        let target = match exporter {
            Exporter::None => return Ok(Self { worker, patience: Duration::ZERO }),
            Exporter::Console => None,
            Exporter::Otlp(otlp) => Some(Sender::new(otlp)),
        };
        let patience = target.as_ref().map_or(Duration::from_secs(1), Sender::timeout);
        let work = Work { worker: worker.clone(), target, source, resource, interval, timeout };
        worker.start("metrics", move || work.run())?;
        Ok(Self { worker, patience })
    }
}

impl Finish for MetricsPush {
    /// Pushes once more; waits as long as one attempt may take.
    fn finish(&self) {
        self.worker.stop();
        if !self.worker.wait(Instant::now() + self.patience) {
            tracing::error!(target: LOG, "the last metrics could not be pushed in time");
        }
    }
}

impl Drop for MetricsPush {
    fn drop(&mut self) {
        self.worker.stop();
    }
}

/// The thread's own.
struct Work {
    worker: Arc<Worker>,
    /// Absent where metrics go to standard output.
    target: Option<Sender>,
    source: Source,
    resource: Resource,
    interval: Duration,
    timeout: Duration,
}

impl Work {
    async fn run(self) {
        let mut stop = self.worker.stopping().subscribe();
        let mut next = tokio::time::Instant::now() + self.interval;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            let last = *stop.borrow();
            self.push().await;
            if last {
                return;
            }
            // After a collector that was slow, no push follows the other.
            next = (next + self.interval).max(tokio::time::Instant::now());
        }
    }

    async fn push(&self) {
        let text = (self.source)();
        let Some(sender) = &self.target else {
            use std::io::Write as _;
            let mut stdout = std::io::stdout().lock();
            // Nobody may read it.
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            return;
        };
        let metrics = read(&text, SystemTime::now());
        let scope_metrics = vec![ScopeMetrics { scope: Some(resource::scope()), metrics }];
        let resource = Some(self.resource.clone());
        let all =
            MetricsRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] };
        let message = all.encode_to_vec();
        drop(all);
        match sender.send(&message, self.timeout, self.worker.stopping()).await {
            Ok(None) => {}
            Ok(Some(note)) => tracing::warn!(target: LOG, "pushing metrics: {note}"),
            Err(error) => tracing::error!(target: LOG, error, "pushing metrics failed"),
        }
    }
}

/// The metrics of a text. A line that is not understood is left out.
fn read(text: &str, now: SystemTime) -> Vec<Metric> {
    let started = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
    let started = started.and_then(|value| Duration::try_from_secs_f64(value.parse().ok()?).ok());
    let started = started.map_or(now, |since| SystemTime::UNIX_EPOCH + since);
    let times = (nanos(started), nanos(now));
    families(text).into_iter().filter_map(|family| into_metric(family, times)).collect()
}

fn into_metric(family: Family<'_>, times: (u64, u64)) -> Option<Metric> {
    let Family { name, help, kind, samples } = family;
    if samples.is_empty() {
        return None;
    }
    let numbers = |samples: Vec<Sample<'_>>, start| {
        let point = |sample: Sample<'_>| NumberPoint {
            start_time_unix_nano: start,
            time_unix_nano: times.1,
            as_double: Some(sample.value),
            attributes: attributes(&sample.labels),
        };
        samples.into_iter().map(point).collect()
    };
    let data = match kind {
        "counter" => MetricData::Sum(Sum {
            data_points: numbers(samples, times.0),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        "histogram" => MetricData::Histogram(Histogram {
            data_points: histograms(name, samples, times),
            aggregation_temporality: CUMULATIVE,
        }),
        _ => MetricData::Gauge(Gauge { data_points: numbers(samples, 0) }),
    };
    Some(Metric { name: name.to_owned(), description: help, data: Some(data) })
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| KeyValue::text(*key, value)).collect()
}

/// Lines `_bucket`, `_sum` and `_count` of each set of labels, which stand together.
fn histograms(name: &str, samples: Vec<Sample<'_>>, times: (u64, u64)) -> Vec<HistogramPoint> {
    let mut points: Vec<HistogramPoint> = Vec::new();
    for mut sample in samples {
        let bound = sample.take("le");
        let attributes = attributes(&sample.labels);
        let same = points.last().is_some_and(|point| point.attributes == attributes);
        if !same {
            points.push(HistogramPoint {
                start_time_unix_nano: times.0,
                time_unix_nano: times.1,
                attributes,
                ..HistogramPoint::default()
            });
        }
        let Some(point) = points.last_mut() else { continue };
        match (sample.name.strip_prefix(name), bound) {
            (Some("_bucket"), Some(bound)) => {
                // Counts of the text hold those of lower bounds.
                let before: u64 = point.bucket_counts.iter().sum();
                point.bucket_counts.push(whole(sample.value).saturating_sub(before));
                if let Some(bound) = bound.parse().ok().filter(|bound: &f64| bound.is_finite()) {
                    point.explicit_bounds.push(bound);
                }
            }
            (Some("_sum"), _) => point.sum = Some(sample.value),
            (Some("_count"), _) => point.count = whole(sample.value),
            _ => {}
        }
    }
    // Lines are not written at one instant: the count is what the buckets hold.
    for point in &mut points {
        point.count = point.bucket_counts.iter().sum();
    }
    points
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{MetricData, read};
    use crate::proto::{KeyValue, Metric};

    const TEXT: &str = "# HELP a_total A \\\\ of a.\n# TYPE a_total counter\n\
        a_total{x=\"1,\\\"}\\n\",y=\"2\"} 3\na_total{x=\"\"} 4\n\
        # HELP h H.\n# TYPE h histogram\n\
        h_bucket{c=\"d\",le=\"0.5\"} 1\nh_bucket{c=\"d\",le=\"2\"} 3\nh_bucket{c=\"d\",le=\"+Inf\"} 4\n\
        h_sum{c=\"d\"} 9.5\nh_count{c=\"d\"} 4\n\
        h_bucket{c=\"e\",le=\"0.5\"} 0\nh_bucket{c=\"e\",le=\"2\"} 0\nh_bucket{c=\"e\",le=\"+Inf\"} 0\n\
        h_sum{c=\"e\"} 0\nh_count{c=\"e\"} 0\n\
        # TYPE empty gauge\n\
        # HELP process_start_time_seconds S.\n# TYPE process_start_time_seconds gauge\n\
        process_start_time_seconds 5\nnonsense\n{\na{b=\"\n";

    fn all() -> Vec<Metric> {
        read(TEXT, SystemTime::UNIX_EPOCH + Duration::from_secs(7))
    }

    #[test]
    fn counters_and_gauges() {
        let all = all();
        let names: Vec<_> = all.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["a_total", "h", "process_start_time_seconds"]);
        assert_eq!(all[0].description, "A \\ of a.");
        let Some(MetricData::Sum(sum)) = &all[0].data else { panic!("{:?}", all[0]) };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let first = &sum.data_points[0];
        assert_eq!(first.as_double, Some(3.0));
        assert_eq!(first.attributes, [KeyValue::text("x", "1,\"}\n"), KeyValue::text("y", "2")]);
        let times = (first.start_time_unix_nano, first.time_unix_nano);
        assert_eq!(times, (5_000_000_000, 7_000_000_000));
        let Some(MetricData::Gauge(gauge)) = &all[2].data else { panic!("{:?}", all[2]) };
        assert_eq!(gauge.data_points[0].as_double, Some(5.0));
    }

    #[test]
    fn histograms_lose_the_sums_of_lower_buckets() {
        let all = all();
        let Some(MetricData::Histogram(histogram)) = &all[1].data else { panic!("{:?}", all[1]) };
        let [first, second] = &histogram.data_points[..] else { panic!("{histogram:?}") };
        assert_eq!(first.bucket_counts, [1, 2, 1]);
        assert_eq!(first.explicit_bounds, [0.5, 2.0]);
        assert_eq!((first.count, first.sum), (4, Some(9.5)));
        assert_eq!(first.attributes, [KeyValue::text("c", "d")]);
        assert_eq!(second.attributes, [KeyValue::text("c", "e")]);
    }
}
