//! The process' metrics for Prometheus: `metrics`.
//!
//! ```text
//! metrics [<matcher>] {
//!     disable_openmetrics
//! }
//! ```
//!
//! JSON: `{"handler": "metrics", "disable_openmetrics": true}`.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Handler, HandlerModule, Helper, HttpError,
    LocalBoxFuture, Middleware, Next, Response, Result as HttpResult, metrics::Metrics,
};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.metrics`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.metrics", compile };
/// `metrics`.
pub static DIRECTIVE: Directive =
    Directive { name: "metrics", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the OpenMetrics format is not offered.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub disable_openmetrics: bool,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if !d.remaining_args().is_empty() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "disable_openmetrics" => config.disable_openmetrics = true,
            other => {
                let error = d.err(format!("unrecognized subdirective {other:?}"));
                return Err(d.did_you_mean(error, ["disable_openmetrics"]));
            }
        }
    }
    h.handler("metrics", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let metrics = cx.metrics.clone();
    Ok(Handler::middleware(MetricsHandler { metrics, open_metrics: !config.disable_openmetrics }))
}

struct MetricsHandler {
    metrics: Arc<Metrics>,
    open_metrics: bool,
}

impl Middleware for MetricsHandler {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        _: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let accepted = ex.request.headers.get_all(header::ACCEPT).iter();
            let wants_open = |value: &HeaderValue| {
                String::from_utf8_lossy(value.as_bytes()).contains("application/openmetrics-text")
            };
            let open = self.open_metrics && accepted.into_iter().any(wants_open);
            let metrics = self.metrics.clone();
            let _scrape = metrics.scrape();
            let text_of = metrics.clone();
            // The process' own numbers are read from files.
            let text = tokio::task::spawn_blocking(move || expose(&text_of, open))
                .await
                .map_err(HttpError::internal)?;
            let mut response = ex.respond(StatusCode::OK);
            let content_type = HeaderValue::from_static(content_type(open));
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            *response.body_mut() = text.into();
            Ok(response)
        })
    }
}

/// The media type of an exposition.
pub fn content_type(open_metrics: bool) -> &'static str {
    if open_metrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    } else {
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    }
}

/// All metrics as text, in Prometheus' format or in OpenMetrics'. Reads files.
pub fn expose(metrics: &Metrics, open_metrics: bool) -> String {
    let mut text = metrics.expose();
    process(&mut text);
    if open_metrics { to_open_metrics(&text) } else { text }
}

/// In OpenMetrics a counter's family is named without `_total`, bounds of buckets have a point, and
/// the text has an end mark.
fn to_open_metrics(text: &str) -> String {
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix("_total counter"))
        .collect();
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        let family = ["# HELP ", "# TYPE "].iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            let short = name.strip_suffix("_total").filter(|name| counters.contains(name))?;
            Some((mark, short, rest))
        });
        // Writing to a String cannot fail.
        let _ = match family {
            Some((mark, name, rest)) => writeln!(out, "{mark}{name} {rest}"),
            None => writeln!(out, "{}", with_point(line)),
        };
    }
    out.push_str("# EOF\n");
    out
}

/// A line with the bound of its bucket, if it has one, written as a number with a point.
fn with_point(line: &str) -> Cow<'_, str> {
    // Ours is the last label.
    let Some((before, rest)) = line.rsplit_once("le=\"") else { return line.into() };
    let bound = rest.split('"').next().unwrap_or_default();
    if bound.is_empty() || !bound.bytes().all(|byte| byte.is_ascii_digit()) {
        return line.into();
    }
    format!("{before}le=\"{bound}.0{}", &rest[bound.len()..]).into()
}

/// What a summary's last two series are called by.
const SUM: &str = "_sum";
const COUNT: &str = "_count";

/// Metrics of the process itself, under the names that dashboards for Caddy know. Those of Go's
/// runtime are told where they mean something here: memory is what the process really has, and there
/// are no pauses of a garbage collector.
fn process(out: &mut String) {
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(&str, Option<f64>)]| {
        if lines.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (rest, value) in lines {
            if let Some(value) = value {
                let _ = writeln!(out, "{name}{rest} {value}");
            }
        }
    };
    let build =
        concat!("{checksum=\"\",path=\"caddis\",version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    family("go_build_info", "gauge", "The program and its version.", &[(build, Some(1.0))]);
    let none = Some(0.0);
    family(
        "go_gc_duration_seconds",
        "summary",
        "Pauses of a garbage collector; there is none.",
        &[
            ("{quantile=\"0\"}", none),
            ("{quantile=\"0.25\"}", none),
            ("{quantile=\"0.5\"}", none),
            ("{quantile=\"0.75\"}", none),
            ("{quantile=\"1\"}", none),
            (SUM, none),
            (COUNT, none),
        ],
    );
    let info = "{version=\"none (Rust)\"}";
    family("go_info", "gauge", "The language's runtime.", &[(info, Some(1.0))]);
    let stat = Stat::read();
    let threads = stat.as_ref().map(|stat| stat.threads);
    let mut gauge = |name: &str, help: &str, value| family(name, "gauge", help, &[("", value)]);
    gauge("go_goroutines", "Number of units of concurrency.", threads);
    let heap = status_bytes("RssAnon:");
    let help = "Memory that is not of a file, resident, in bytes: the heap and stacks.";
    for name in [
        "go_memstats_alloc_bytes",
        "go_memstats_heap_alloc_bytes",
        "go_memstats_heap_inuse_bytes",
        "go_memstats_heap_sys_bytes",
    ] {
        gauge(name, help, heap);
    }
    let resident = stat.as_ref().map(|stat| stat.resident_bytes);
    gauge("go_memstats_sys_bytes", "Resident memory size in bytes.", resident);
    gauge("go_threads", "Number of OS threads created.", threads);
    let mut counter = |name: &str, help: &str, value| family(name, "counter", help, &[("", value)]);
    counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        stat.as_ref().map(|stat| stat.cpu_seconds),
    );
    let (received, sent) = network_bytes().unzip();
    counter(
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
        received,
    );
    counter(
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
        sent,
    );
    let mut gauge = |name: &str, help: &str, value| family(name, "gauge", help, &[("", value)]);
    let fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    gauge("process_open_fds", "Number of open file descriptors.", fds);
    let max_fds = limit("Max open files");
    gauge("process_max_fds", "Maximum number of open file descriptors.", max_fds);
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident);
    let size = stat.as_ref().map(|stat| stat.virtual_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", size);
    gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        limit("Max address space"),
    );
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        stat.as_ref().and_then(|stat| Some(boot_time()? + stat.start_seconds)),
    );
}

struct Stat {
    cpu_seconds: f64,
    threads: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// Reads `/proc/self/stat`; `None` where there is none.
    fn read() -> Option<Self> {
        // Fixed on Linux for all programs that read these files.
        const TICKS: f64 = 100.0;
        const PAGE: f64 = 4096.0;
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold spaces.
        let fields: Vec<f64> = text
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            threads: field(20)?,
            start_seconds: field(22)? / TICKS,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * PAGE,
        })
    }
}

fn boot_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A limit of the process; without one the largest number there is, as in Go.
fn limit(name: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value = line.split_whitespace().next()?;
    if value == "unlimited" { Some(u64::MAX as f64) } else { value.parse().ok() }
}

/// A size from `/proc/self/status`, which counts in KiB.
fn status_bytes(name: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

/// Bytes received and sent in the process' network namespace, which is as near as the kernel tells.
fn network_bytes() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let names = lines.next()?.split_whitespace();
    let pairs: Vec<(&str, &str)> = names.zip(lines.next()?.split_whitespace()).collect();
    let number = |name: &str| pairs.iter().find(|(one, _)| *one == name)?.1.parse().ok();
    Some((number("InOctets")?, number("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::tests::{adapt, run, run_in};
    use serde_json::json;

    #[test]
    fn adapts() {
        assert_eq!(adapt("metrics"), Ok(json!({"handler": "metrics"})));
        assert_eq!(
            adapt("metrics {\n disable_openmetrics\n}"),
            Ok(json!({"handler": "metrics", "disable_openmetrics": true}))
        );
        assert!(adapt("metrics {\n x\n}").is_err());
        assert!(adapt("metrics x").is_err());
    }

    #[test]
    fn negotiates() {
        let answer = run("metrics", "/").expect("answers");
        assert!(answer.headers["content-type"].as_bytes().starts_with(b"text/plain; version="));
        assert!(!answer.body.contains("# EOF"));
        let mut ex = Exchange::for_test("/");
        let accept = HeaderValue::from_static("application/openmetrics-text;version=1.0.0");
        ex.request.headers.insert(header::ACCEPT, accept);
        let answer = run_in(&["metrics"], &mut ex).expect("answers");
        assert!(answer.headers["content-type"].as_bytes().starts_with(b"application/openmetrics"));
        assert!(answer.body.ends_with("# EOF\n"));
    }

    #[test]
    fn tells_what_dashboards_ask_for() {
        let text = run("metrics", "/").expect("answers").body;
        for name in [
            "go_build_info{",
            "go_gc_duration_seconds{quantile=\"0.75\"}",
            "go_gc_duration_seconds_count",
            "go_goroutines",
            "go_info{",
            "go_memstats_alloc_bytes",
            "go_memstats_heap_inuse_bytes",
            "go_memstats_sys_bytes",
            "go_threads",
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_network_receive_bytes_total",
            "process_network_transmit_bytes_total",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
            "promhttp_metric_handler_requests_in_flight 1",
            "promhttp_metric_handler_requests_total{code=\"200\"} 0",
        ] {
            let count = text.lines().filter(|line| line.starts_with(name)).count();
            assert_eq!(count, 1, "{name}: {text}");
        }
    }

    #[test]
    fn open_metrics_names() {
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n";
        let want = "# HELP a A.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n# EOF\n";
        assert_eq!(to_open_metrics(text), want);
        let text =
            "a_bucket{x=\"1\",le=\"5\"} 1\na_bucket{le=\"0.5\"} 1\na_bucket{le=\"+Inf\"} 1\n";
        let want = "a_bucket{x=\"1\",le=\"5.0\"} 1\na_bucket{le=\"0.5\"} 1\na_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(to_open_metrics(text), want);
    }
}
