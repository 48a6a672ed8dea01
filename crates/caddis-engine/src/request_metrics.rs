//! What is counted of a server's requests.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use caddis_core::{
    Exchange,
    metrics::{DURATION_BUCKETS, Histogram, Metrics, SIZE_BUCKETS},
};
use caddis_plan::{MetricsPlan, SiteRoutes};
use http::{Method, StatusCode};

/// Counters of a server's requests (spec O090–O096).
pub(crate) struct ServerMetrics {
    server: String,
    plan: MetricsPlan,
    metrics: Arc<Metrics>,
    in_flight: Mutex<HashMap<Place, Arc<AtomicI64>>>,
    series: Mutex<HashMap<SeriesKey, Arc<Series>>>,
}

/// Handler and host; the latter is empty without a label for it.
type Place = (Box<str>, Box<str>);
/// Place, code, method.
type SeriesKey = (Place, u16, &'static str);

struct Series {
    total: Arc<AtomicU64>,
    /// Told from the first error on, as in Caddy.
    errors: OnceLock<Arc<AtomicU64>>,
    duration: Arc<Histogram>,
    first_byte: Arc<Histogram>,
    request_size: Arc<Histogram>,
    response_size: Arc<Histogram>,
}

/// What the counters are told of one request at its end.
pub(crate) struct Counted<'a> {
    pub(crate) ex: &'a Exchange,
    pub(crate) routes: &'a SiteRoutes,
    pub(crate) status: StatusCode,
    pub(crate) failed: bool,
    /// Until the handlers were through.
    pub(crate) first_byte: Duration,
    /// Until the last byte was written.
    pub(crate) duration: Duration,
    /// Bytes of the answer's body.
    pub(crate) size: u64,
}

impl ServerMetrics {
    pub(crate) fn new(server: &str, plan: MetricsPlan, metrics: Arc<Metrics>) -> Self {
        Self {
            server: server.to_owned(),
            plan,
            metrics,
            in_flight: Mutex::default(),
            series: Mutex::default(),
        }
    }

    /// Counts a request as under way, until the guard goes.
    pub(crate) fn begin(&self, routes: &SiteRoutes, ex: &Exchange) -> InFlight {
        let host = self.host(routes, ex);
        let handler = routes.handler_for(ex.host());
        let mut all = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let gauge = all.entry((handler.into(), host.as_ref().into())).or_insert_with(|| {
            let mut labels = vec![("server", self.server.as_str()), ("handler", handler)];
            if self.plan.per_host {
                labels.push(("host", &host));
            }
            self.metrics.gauge(
                "caddy_http_requests_in_flight",
                "Number of requests currently handled by this server.",
                &labels,
            )
        });
        gauge.fetch_add(1, Ordering::Relaxed);
        InFlight(gauge.clone())
    }

    /// Counts a request: its handler, times to the first and last byte, bytes in and out.
    pub(crate) fn end(&self, counted: &Counted<'_>) {
        let Counted { ex, routes, .. } = counted;
        let host = self.host(routes, ex);
        let key = (
            (routes.handler_of(ex).into(), host.into()),
            counted.status.as_u16(),
            method_label(&ex.original.method),
        );
        let series = self.series(&key);
        series.total.fetch_add(1, Ordering::Relaxed);
        if counted.failed {
            let errors = series.errors.get_or_init(|| self.errors(&key));
            errors.fetch_add(1, Ordering::Relaxed);
        }
        series.first_byte.observe(counted.first_byte.as_secs_f64());
        series.duration.observe(counted.duration.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "sizes are put in coarse buckets")]
        {
            series.request_size.observe(request_size(ex) as f64);
            series.response_size.observe(counted.size as f64);
        }
    }

    /// The label of a request's host. Clients choose what stands in `Host`, and each value is a set
    /// of series for ever: over plain HTTP only hosts that routes name count as themselves, and
    /// over TLS those for which there is a certificate.
    fn host<'a>(&self, routes: &SiteRoutes, ex: &'a Exchange) -> Cow<'a, str> {
        if !self.plan.per_host {
            return Cow::Borrowed("");
        }
        let host = ex.host();
        let counts = routes.names_host(host)
            || self.plan.observe_catchall_hosts
            || ex.connection.tls.as_ref().is_some_and(|tls| {
                !tls.server_name.is_empty() && tls.server_name.eq_ignore_ascii_case(host)
            });
        match counts {
            false => Cow::Borrowed("_other"),
            true if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(host.to_ascii_lowercase())
            }
            true => Cow::Borrowed(host),
        }
    }

    fn series(&self, key: &SeriesKey) -> Arc<Series> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get(key) {
            return series.clone();
        }
        let series = Arc::new(self.make_series(key));
        all.insert(key.clone(), series.clone());
        series
    }

    fn errors(&self, ((handler, host), ..): &SeriesKey) -> Arc<AtomicU64> {
        let mut labels = vec![("server", self.server.as_str()), ("handler", handler)];
        if self.plan.per_host {
            labels.push(("host", host));
        }
        let help = "Number of requests resulting in middleware errors.";
        self.metrics.counter("caddy_http_request_errors_total", help, &labels)
    }

    fn make_series(&self, ((handler, host), code, method): &SeriesKey) -> Series {
        let code = code.to_string();
        let mut short = vec![("server", self.server.as_str()), ("handler", handler)];
        if self.plan.per_host {
            short.push(("host", host));
        }
        let mut labels = short.clone();
        labels.extend([("code", code.as_str()), ("method", method)]);
        let counter = |name, help| self.metrics.counter(name, help, &short);
        let histogram = |name, help, bounds| self.metrics.histogram(name, help, &labels, bounds);
        Series {
            total: counter("caddy_http_requests_total", "Counter of HTTP(S) requests made."),
            errors: OnceLock::new(),
            duration: histogram(
                "caddy_http_request_duration_seconds",
                "Histogram of round-trip request durations.",
                DURATION_BUCKETS,
            ),
            first_byte: histogram(
                "caddy_http_response_duration_seconds",
                "Histogram of times to first byte in response bodies.",
                DURATION_BUCKETS,
            ),
            request_size: histogram(
                "caddy_http_request_size_bytes",
                "Total size of the request. Includes body",
                SIZE_BUCKETS,
            ),
            response_size: histogram(
                "caddy_http_response_size_bytes",
                "Size of the returned response.",
                SIZE_BUCKETS,
            ),
        }
    }
}

/// A request that is under way.
pub(crate) struct InFlight(Arc<AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The approximate size of a request: line, fields, and the body as declared.
fn request_size(ex: &Exchange) -> u64 {
    let request = &ex.original;
    let fields = &ex.request.headers;
    let length = fields
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    let fields: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let line = request.method.as_str().len()
        + request.target.as_str().len()
        + "HTTP/1.1".len()
        + ex.request.host.len();
    (line as u64).saturating_add(fields as u64).saturating_add(length)
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        _ => "OTHER",
    }
}
