//! Counters, gauges and histograms with labels, and their Prometheus text form.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// All metrics of the process; handles are kept by those who count, so that counting is one
/// atomic operation.
#[derive(Default)]
pub struct Metrics {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

/// Metrics in one of Prometheus' formats, as a client asked for them.
pub struct Exposition {
    /// The media type.
    pub content_type: http::HeaderValue,
    /// The coding, where there is one.
    pub encoding: Option<http::HeaderValue>,
    /// The body.
    pub body: bytes::Bytes,
}

/// A scrape that is under way.
pub struct Scrape {
    in_flight: Arc<AtomicI64>,
    done: Arc<AtomicU64>,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<String, Series>,
}

enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicI64>),
    Histogram(Arc<Histogram>),
}

/// A histogram with fixed upper bounds.
pub struct Histogram {
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    /// The sum as bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always gives a value, so this cannot fail.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// Prometheus' default buckets, in seconds.
pub const DURATION_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// 256 · 4ⁿ bytes, 8 buckets (spec O094).
pub const SIZE_BUCKETS: &[f64] =
    &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

impl Metrics {
    /// The counter of these labels (`key`, `value`), made on first use.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<AtomicU64> {
        let make = || Series::Counter(Arc::default());
        self.series(name, help, "counter", labels, make, |series| match series {
            Series::Counter(counter) => Some(counter.clone()),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The gauge of these labels, made on first use.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<AtomicI64> {
        let make = || Series::Gauge(Arc::default());
        self.series(name, help, "gauge", labels, make, |series| match series {
            Series::Gauge(gauge) => Some(gauge.clone()),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The histogram of these labels, made on first use with these upper bounds.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Arc<Histogram> {
        let new = || {
            Arc::new(Histogram {
                bounds,
                buckets: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
                count: AtomicU64::new(0),
                sum: AtomicU64::new(0f64.to_bits()),
            })
        };
        let make = || Series::Histogram(new());
        self.series(name, help, "histogram", labels, make, |series| match series {
            Series::Histogram(histogram) => Some(histogram.clone()),
            _ => None,
        })
        .unwrap_or_else(new)
    }

    /// Counts a scrape as under way, and as done when the guard goes (spec O102, O103).
    pub fn scrape(&self) -> Scrape {
        let total = |code| {
            let help = "Total number of scrapes by HTTP status code.";
            self.counter("promhttp_metric_handler_requests_total", help, &[("code", code)])
        };
        // Scrapes do not fail; the series are those that dashboards know.
        let (done, _, _) = (total("200"), total("500"), total("503"));
        let in_flight = self.gauge(
            "promhttp_metric_handler_requests_in_flight",
            "Current number of scrapes being served.",
            &[],
        );
        in_flight.fetch_add(1, Ordering::Relaxed);
        Scrape { in_flight, done }
    }

    /// Drops the series of a family whose labels the function does not want to keep.
    pub fn retain(&self, name: &str, keep: impl Fn(&str) -> bool) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get_mut(name) {
            family.series.retain(|labels, _| keep(labels));
        }
    }

    fn series<T>(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Series,
        pick: impl FnOnce(&Series) -> Option<T>,
    ) -> Option<T> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family =
            families.entry(name).or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
        pick(family.series.entry(label_text(labels)).or_insert_with(make))
    }

    /// The text exposition format, version 0.0.4.
    pub fn expose(&self) -> String {
        let mut out = String::new();
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter().filter(|(_, family)| !family.series.is_empty()) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, series) in &family.series {
                match series {
                    Series::Counter(value) => {
                        line(&mut out, name, "", labels, "", value.load(Ordering::Relaxed));
                    }
                    Series::Gauge(value) => {
                        line(&mut out, name, "", labels, "", value.load(Ordering::Relaxed));
                    }
                    Series::Histogram(histogram) => {
                        expose_histogram(&mut out, name, labels, histogram);
                    }
                }
            }
        }
        out
    }
}

fn expose_histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let mut total = 0;
    for (bound, bucket) in histogram.bounds.iter().zip(&histogram.buckets) {
        total += bucket.load(Ordering::Relaxed);
        line(out, name, "_bucket", labels, &format!("le=\"{}\"", shown(*bound)), total);
    }
    let count = histogram.count.load(Ordering::Relaxed);
    line(out, name, "_bucket", labels, "le=\"+Inf\"", count);
    let sum = f64::from_bits(histogram.sum.load(Ordering::Relaxed));
    line(out, name, "_sum", labels, "", sum);
    line(out, name, "_count", labels, "", count);
}

/// A bound as the text of its label, which is compared as text: from a million on with an exponent,
/// as Go writes it.
fn shown(bound: f64) -> String {
    if bound < 1e6 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => text,
    }
}

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    more: &str,
    value: impl std::fmt::Display,
) {
    let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
    let all = format!("{labels}{comma}{more}");
    let _ = if all.is_empty() {
        writeln!(out, "{name}{suffix} {value}")
    } else {
        writeln!(out, "{name}{suffix}{{{all}}} {value}")
    };
}

fn label_text(labels: &[(&str, &str)]) -> String {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable();
    let texts: Vec<_> = sorted
        .iter()
        .map(|(key, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{key}=\"{value}\"")
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposes() {
        let metrics = Metrics::default();
        metrics.counter("a_total", "A.", &[("x", "1")]).fetch_add(2, Ordering::Relaxed);
        metrics.histogram("h", "H.", &[], &[1.0, 2.0]).observe(1.5);
        let text = metrics.expose();
        assert!(text.contains("# TYPE a_total counter\na_total{x=\"1\"} 2\n"), "{text}");
        assert!(text.contains("h_bucket{le=\"1\"} 0\nh_bucket{le=\"2\"} 1\n"), "{text}");
        assert!(text.contains("h_sum 1.5\nh_count 1\n"), "{text}");
    }

    #[test]
    fn scrapes_are_counted() {
        let metrics = Metrics::default();
        let first = metrics.scrape();
        let text = metrics.expose();
        assert!(text.contains("promhttp_metric_handler_requests_in_flight 1\n"), "{text}");
        for code in [200, 500, 503] {
            let want = format!("promhttp_metric_handler_requests_total{{code=\"{code}\"}} 0\n");
            assert!(text.contains(&want), "{text}");
        }
        drop(first);
        let text = metrics.expose();
        assert!(text.contains("promhttp_metric_handler_requests_in_flight 0\n"), "{text}");
        assert!(text.contains("_requests_total{code=\"200\"} 1\n"), "{text}");
    }

    #[test]
    fn bounds_as_go_writes_them() {
        let texts: Vec<_> = SIZE_BUCKETS.iter().map(|bound| shown(*bound)).collect();
        let want =
            ["256", "1024", "4096", "16384", "65536", "262144", "1.048576e+06", "4.194304e+06"];
        assert_eq!(texts, want);
        assert_eq!(
            DURATION_BUCKETS.iter().map(|bound| shown(*bound)).next_back().as_deref(),
            Some("10")
        );
        assert_eq!(shown(0.005), "0.005");
        assert_eq!(shown(1e10), "1e+10");
    }
}
