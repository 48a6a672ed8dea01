//! Prometheus' protobuf format: messages `io.prometheus.client.MetricFamily`, each behind its length
//! (client_model's `metrics.proto`). Only the fields that are used.

use prost::{Enumeration, Message};

use crate::text::{self, Sample, families, whole};

/// The families of a text (version 0.0.4) as messages, one behind the other.
pub fn delimited(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 2);
    for family in families(text).into_iter().filter(|family| !family.samples.is_empty()) {
        // A Vec has room for all of it.
        let _ = MetricFamily::of(family).encode_length_delimited(&mut out);
    }
    out
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge`, `Counter` and `Untyped`.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    quantiles: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, optional, tag = "1")]
    quantile: Option<f64>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    /// Without the one that has no upper bound.
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

impl MetricFamily {
    fn of(family: text::Family<'_>) -> Self {
        let text::Family { name, help, kind, samples } = family;
        let kind = match kind {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "summary" => MetricType::Summary,
            "histogram" => MetricType::Histogram,
            _ => MetricType::Untyped,
        };
        let mut metrics: Vec<Metric> = Vec::new();
        for mut sample in samples {
            let part = sample.name.strip_prefix(name).unwrap_or_default();
            // Lines of one set of labels stand together.
            let bound = match kind {
                MetricType::Histogram => sample.take("le"),
                MetricType::Summary => sample.take("quantile"),
                _ => None,
            };
            let bound = bound.and_then(|bound| bound.parse().ok());
            let labels = labels(&sample);
            let is_whole = !matches!(kind, MetricType::Histogram | MetricType::Summary);
            if is_whole || metrics.last().is_none_or(|last| last.labels != labels) {
                metrics.push(Metric { labels, ..Metric::default() });
            }
            if let Some(metric) = metrics.last_mut() {
                metric.add(kind, part, bound, sample.value);
            }
        }
        Self { name: Some(name.to_owned()), help: Some(help), kind: Some(kind.into()), metrics }
    }
}

impl Metric {
    fn add(&mut self, kind: MetricType, part: &str, bound: Option<f64>, value: f64) {
        let number = Some(Number { value: Some(value) });
        match kind {
            MetricType::Counter => self.counter = number,
            MetricType::Gauge => self.gauge = number,
            MetricType::Untyped => self.untyped = number,
            MetricType::Summary => {
                let summary = self.summary.get_or_insert_default();
                match (part, bound) {
                    ("_count", _) => summary.count = Some(whole(value)),
                    ("_sum", _) => summary.sum = Some(value),
                    (_, quantile) => {
                        summary.quantiles.push(Quantile { quantile, value: Some(value) });
                    }
                }
            }
            MetricType::Histogram => {
                let histogram = self.histogram.get_or_insert_default();
                match (part, bound) {
                    ("_count", _) => histogram.count = Some(whole(value)),
                    ("_sum", _) => histogram.sum = Some(value),
                    (_, upper_bound) if upper_bound.is_some_and(f64::is_finite) => {
                        let cumulative_count = Some(whole(value));
                        histogram.buckets.push(Bucket { cumulative_count, upper_bound });
                    }
                    _ => {}
                }
            }
        }
    }
}

fn labels(sample: &Sample<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, String)| LabelPair {
        name: Some((*name).to_owned()),
        value: Some(value.clone()),
    };
    sample.labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_become_messages() {
        let text = "# HELP a_total A \\\\ of a.\n# TYPE a_total counter\n\
            a_total{x=\"1\"} 3\na_total{x=\"2\"} 4\n\
            # HELP g G.\n# TYPE g gauge\ng 0\n\
            # HELP h H.\n# TYPE h histogram\n\
            h_bucket{c=\"d\",le=\"0.5\"} 1\nh_bucket{c=\"d\",le=\"2\"} 3\nh_bucket{c=\"d\",le=\"+Inf\"} 4\n\
            h_sum{c=\"d\"} 9.5\nh_count{c=\"d\"} 4\n\
            h_bucket{c=\"e\",le=\"0.5\"} 0\nh_bucket{c=\"e\",le=\"+Inf\"} 0\n\
            h_sum{c=\"e\"} 0\nh_count{c=\"e\"} 0\n\
            # HELP s S.\n# TYPE s summary\n\
            s{quantile=\"0\"} 1\ns{quantile=\"0.5\"} 2\ns_sum 3\ns_count 2\n";
        let bytes = delimited(text);
        let mut rest = &bytes[..];
        let mut families = Vec::new();
        while !rest.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut rest).expect("a message"));
        }
        let [counter, gauge, histogram, summary] = &families[..] else { panic!("{families:?}") };
        assert_eq!(counter.help.as_deref(), Some("A \\ of a."));
        assert_eq!(counter.metrics[1].counter, Some(Number { value: Some(4.0) }));
        assert_eq!(counter.metrics[1].labels[0].value.as_deref(), Some("2"));
        // What is zero is written all the same: readers take an absent number for a mistake.
        assert_eq!(gauge.metrics[0].gauge, Some(Number { value: Some(0.0) }));
        assert_eq!(gauge.kind, Some(1));
        assert_eq!(histogram.metrics.len(), 2);
        let first = histogram.metrics[0].histogram.as_ref().expect("a histogram");
        assert_eq!((first.count, first.sum), (Some(4), Some(9.5)));
        let bounds: Vec<_> = first.buckets.iter().map(|one| one.upper_bound).collect();
        assert_eq!(bounds, [Some(0.5), Some(2.0)]);
        assert_eq!(first.buckets[1].cumulative_count, Some(3));
        let summary = summary.metrics[0].summary.as_ref().expect("a summary");
        assert_eq!((summary.count, summary.sum, summary.quantiles.len()), (Some(2), Some(3.0), 2));
    }
}
