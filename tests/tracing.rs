//! `tracing` with collectors that take spans, refuse them, are slow, or are not there.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use rustls_pki_types::PrivateKeyDer;

use crate::support::{
    Scripted, Server, Wire, collector,
    collector::{Collector, Reply},
    eventually, free_port, get, ok,
    protobuf::Message,
    request, scratch, site_with,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A server whose spans go there soon.
fn traced(collector: &str, vars: &[(&str, &str)], site: &str) -> Server {
    Server::start_with(site, |command, _| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50");
        command.env("NO_PROXY", "*");
        command.envs(vars.iter().copied());
    })
}

fn over_http(collector: &Collector) -> String {
    format!("http://{}", collector.address)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_span_tells_of_a_request() {
    let collector = Collector::http();
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            let lines = head.lines().filter(|line| line.to_lowercase().starts_with("trace"));
            wire.send(ok(&lines.collect::<Vec<_>>().join("\n").to_lowercase()));
        }
    });
    let site = site_with(&format!(
        "\tlog\n\ttracing {{\n\t\tspan \"{{method}} {{path}}\"\n\t\tspan_attributes {{\n\t\t\tsite {{host}}\n\t\t\tids \
         {{http.vars.trace_id}}/{{http.vars.span_id}}\n\t\t\tnone {{nothing}}\n\t\t}}\n\t}}\n\treverse_proxy {}\n",
        upstream.address()
    ));
    let vars = [
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=a%2Fb"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc"),
    ];
    let server = traced(&over_http(&collector), &vars, &site);
    let mut wire = Wire::connect(server.port);
    let port = server.port;
    let head = format!(
        "POST /a%20b?c=d HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: test\r\n\
         traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: x=1\r\nContent-Length: 5\r\n\r\nhello"
    );
    wire.send(head);
    let answer = wire.answer();
    let span = collector.wait(1).remove(0);
    let size = format!("#{}", answer.body.len());
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT));
    assert_eq!((span.name.as_str(), span.state.as_str()), ("POST /a b", "x=1"));
    // A server's; sampled, below a remote parent.
    assert_eq!((span.kind, span.flags, span.status), (2, 0x301, 0));
    assert!(span.lasted > 0);
    let mut attributes = span.attributes.clone();
    let peer = attributes.remove("network.peer.port").unwrap();
    assert!(peer.starts_with('#') && peer.len() > 1, "{peer}");
    let (port, ids) = (format!("#{port}"), format!("{TRACE}/{}", span.id));
    let want = [
        ("server.address", "localhost"),
        ("http.request.method", "POST"),
        ("url.scheme", "http"),
        ("server.port", &port),
        ("network.peer.address", "127.0.0.1"),
        ("user_agent.original", "test"),
        ("client.address", "127.0.0.1"),
        ("url.path", "/a b"),
        ("network.protocol.version", "1.1"),
        ("site", "localhost"),
        ("ids", &ids),
        ("none", ""),
        ("http.request.body.size", "#5"),
        ("http.response.body.size", &size),
        ("http.response.status_code", "#200"),
    ];
    assert_eq!(attributes, map(&want));
    // Upstreams and the log know the span.
    let traceparent = format!("traceparent: 00-{TRACE}-{}-01", span.id);
    assert!(answer.body.contains(&traceparent), "{}", answer.body);
    assert!(answer.body.contains("tracestate: x=1"), "{}", answer.body);
    let logged = format!("\"traceID\":\"{TRACE}\",\"spanID\":\"{}\"", span.id);
    eventually("the access log has the ids", || server.log().contains(&logged));
    let export = collector.exports().remove(0);
    assert_eq!(export.path, "/v1/traces");
    assert_eq!(export.fields["authorization"], "Basic abc");
    assert_eq!(export.fields["content-type"], "application/x-protobuf");
    assert_eq!(export.scope(), "caddis");
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        ("service.name", "shop"),
        ("zone", "a/b"),
        ("telemetry.sdk.name", "caddis"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", version),
        ("webengine.name", "caddis"),
        ("webengine.version", version),
    ];
    assert_eq!(export.resource(), map(&resource));
}

#[test]
fn names_statuses_and_the_end_of_bodies() {
    let collector = Collector::http();
    let dead = free_port();
    let upstream = Scripted::start(|wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            std::thread::sleep(Duration::from_millis(200));
            wire.send("5\r\nworld\r\n0\r\n\r\n");
        }
    });
    let server = traced(
        &over_http(&collector),
        &[],
        &format!(
            "{{\n\tadmin off\n}}\n{}",
            site_with(&format!(
                "\ttracing\n\tencode gzip\n\trespond /missing 404\n\trespond /broken 503\n\terror /error 507\n\
                 \treverse_proxy /dead 127.0.0.1:{dead}\n\treverse_proxy /slow {}\n\
                 \trespond / \"{}\"\n",
                upstream.address(),
                "a".repeat(600)
            ))
        ),
    );
    for (at, (target, status, failed)) in
        [("/missing", 404, 0), ("/broken", 503, 2), ("/error", 507, 2), ("/dead", 502, 2)]
            .into_iter()
            .enumerate()
    {
        assert_eq!(get(server.port, target).status, status);
        let span = collector.wait(at + 1).remove(at);
        assert_eq!(span.name, "handler");
        assert_eq!(span.attributes["http.response.status_code"], format!("#{status}"));
        assert_eq!((span.status, span.attributes["url.path"].as_str()), (failed, target));
    }
    assert_eq!(get(server.port, "/slow").body, "helloworld");
    let span = collector.wait(5).remove(4);
    assert!(span.lasted > 150_000_000, "{}", span.lasted);
    assert_eq!(span.attributes["http.response.body.size"], "#10");
    // Bytes as they leave: encoded.
    let fields = [("Accept-Encoding", "gzip")];
    let encoded = request(server.port, "GET", "/", &fields, "").unwrap();
    assert_eq!(encoded.header("content-encoding"), Some("gzip"));
    let span = collector.wait(6).remove(5);
    let size: usize = span.attributes["http.response.body.size"][1..].parse().unwrap();
    assert!(size > 0 && size < 200, "{size}");
}

#[test]
fn sampling_follows_the_parent_and_the_environment() {
    let collector = Collector::http();
    let site = site_with("\ttracing\n\trespond {header.traceparent}\n");
    let vars = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    let server = traced(&over_http(&collector), &vars, &site);
    let ask = |flags: &str| {
        let value = format!("00-{TRACE}-{PARENT}-{flags}");
        let fields = [("traceparent", value.as_str())];
        request(server.port, "GET", "/", if flags.is_empty() { &[] } else { &fields }, "")
            .unwrap()
            .body
    };
    assert!(ask("").ends_with("-00"), "the root is not sampled, but has ids");
    assert!(ask("00").starts_with(&format!("00-{TRACE}-")));
    assert!(ask("01").ends_with("-01"));
    let spans = collector.wait(1);
    assert_eq!((spans.len(), spans[0].trace.as_str()), (1, TRACE));
}

#[test]
fn other_propagators() {
    let collector = Collector::http();
    let site = site_with(
        "\ttracing\n\trespond \"{header.b3} {header.uber-trace-id} {header.traceparent}\"\n",
    );
    let vars = [("OTEL_PROPAGATORS", "b3,jaeger")];
    let server = traced(&over_http(&collector), &vars, &site);
    let b3 = format!("{TRACE}-{PARENT}-1");
    let answer = request(server.port, "GET", "/", &[("b3", b3.as_str())], "").unwrap().body;
    let span = collector.wait(1).remove(0);
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT));
    assert_eq!(answer, format!("{TRACE}-{0}-1 {TRACE}:{0}:0:1 ", span.id));
}

#[test]
fn limits_of_spans() {
    let collector = Collector::http();
    let site = site_with("\ttracing\n\trespond ok\n");
    let vars =
        [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")];
    let server = traced(&over_http(&collector), &vars, &site);
    assert_eq!(get(server.port, "/").body, "ok");
    let span = collector.wait(1).remove(0);
    assert_eq!(span.attributes.len(), 3);
    assert_eq!(span.attributes["server.address"].len(), 4);
    assert!(span.dropped > 3, "{}", span.dropped);
}

#[test]
fn grpc_in_clear_text_and_compressed() {
    let collector = Collector::grpc(None);
    let vars = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-tenant=a"),
    ];
    let server = traced(&over_http(&collector), &vars, &site_with("\ttracing\n\trespond ok\n"));
    for count in 1..4 {
        assert_eq!(get(server.port, "/").body, "ok");
        assert_eq!(collector.wait(count)[count - 1].name, "handler");
    }
    let export = collector.exports().remove(0);
    assert_eq!(export.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!(export.fields["x-tenant"], "a");
    assert_eq!(export.fields["grpc-encoding"], "gzip");
    assert_eq!(export.fields["content-type"], "application/grpc");
}

#[test]
fn grpc_over_tls_by_the_authorities_of_a_file() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let collector = Collector::grpc(Some(tls));
    let file = scratch().join("ca.pem");
    std::fs::write(&file, signed.cert.pem()).unwrap();
    let port = collector.address.rsplit(':').next().unwrap();
    let vars = [
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", file.to_str().unwrap()),
    ];
    let endpoint = format!("https://localhost:{port}");
    let server = traced(&endpoint, &vars, &site_with("\ttracing\n\trespond ok\n"));
    assert_eq!(get(server.port, "/").body, "ok");
    assert_eq!(collector.wait(1).len(), 1);
}

#[test]
fn a_collector_that_refuses_for_now_gets_it_again() {
    let collector = Collector::http();
    let fields = vec![("Retry-After", "1".to_owned())];
    collector.reply(Reply { status: 503, fields, ..Reply::default() });
    let server = traced(&over_http(&collector), &[], &site_with("\ttracing\n\trespond ok\n"));
    let begun = Instant::now();
    assert_eq!(get(server.port, "/").body, "ok");
    eventually("it came again", || collector.exports().len() == 2);
    // The pause is ours where it is longer than the collector's wish.
    assert!(begun.elapsed() > Duration::from_secs(1));
    let spans = collector.spans();
    assert_eq!(spans[0], spans[1]);
}

#[test]
fn a_collector_that_refuses_for_good_is_told_and_does_no_harm() {
    let collector = Collector::http();
    collector.reply(Reply { status: 401, body: b"no token".to_vec(), ..Reply::default() });
    let partial = collector::partial(1, "too old");
    let fields = vec![("Content-Type", "application/x-protobuf".to_owned())];
    collector.reply(Reply { fields, body: partial, ..Reply::default() });
    let server = traced(&over_http(&collector), &[], &site_with("\ttracing\n\trespond ok\n"));
    assert_eq!(get(server.port, "/").body, "ok");
    eventually("the log tells of it", || {
        let log = server.log();
        log.contains("exporting spans failed") && log.contains("401 Unauthorized: no token")
    });
    assert_eq!(get(server.port, "/").body, "ok");
    eventually("the log tells what was rejected", || {
        server.log().contains("the collector rejected 1: too old")
    });
    assert_eq!(get(server.port, "/").body, "ok");
    assert_eq!(collector.wait(3).len(), 3);
}

#[test]
fn grpc_statuses() {
    let collector = Collector::grpc(None);
    let refused = |status, message: &str| Reply {
        status,
        fields: vec![("grpc-message", message.to_owned())],
        ..Reply::default()
    };
    collector.reply(refused(16, "who%20are you"));
    let vars = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let server = traced(&over_http(&collector), &vars, &site_with("\ttracing\n\trespond ok\n"));
    assert_eq!(get(server.port, "/").body, "ok");
    eventually("the log tells of it", || server.log().contains("gRPC status 16: who are you"));
    assert_eq!(get(server.port, "/").body, "ok");
    assert_eq!(collector.wait(2).len(), 2);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let collector = Collector::http();
    collector.reply(Reply { delay: Duration::from_secs(3), ..Reply::default() });
    let vars = [("OTEL_BSP_MAX_QUEUE_SIZE", "2"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")];
    let server = traced(&over_http(&collector), &vars, &site_with("\ttracing\n\trespond ok\n"));
    assert_eq!(get(server.port, "/").body, "ok");
    eventually("the collector has the first", || collector.exports().len() == 1);
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(get(server.port, "/").body, "ok");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "requests waited for the collector");
    eventually("the log counts", || {
        let log = server.log();
        log.contains("spans were dropped") && log.contains("\"dropped\": 8")
            || log.contains("\"dropped\":8")
    });
    assert_eq!(collector.wait(3).len(), 3);
}

#[test]
fn the_end_exports_what_waits() {
    let collector = Collector::http();
    let vars = [("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let mut server = traced(&over_http(&collector), &vars, &site_with("\ttracing\n\trespond ok\n"));
    assert_eq!(get(server.port, "/").body, "ok");
    server.signal("TERM");
    assert!(server.child.wait().unwrap().success());
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn the_end_does_not_wait_for_a_collector_that_is_gone() {
    let gone = format!("http://127.0.0.1:{}", free_port());
    let mut server = traced(&gone, &[], &site_with("\ttracing\n\trespond ok\n"));
    for _ in 0..3 {
        assert_eq!(get(server.port, "/").body, "ok");
    }
    let begun = Instant::now();
    server.signal("TERM");
    assert!(server.child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(server.log().contains("exporting spans failed"), "{}", server.log());
}

#[test]
fn a_reload_keeps_the_exporter_and_one_without_tracing_ends_it() {
    let collector = Collector::http();
    let vars = [("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let first = site_with("\ttracing\n\trespond ok\n");
    let server = traced(&over_http(&collector), &vars, &first);
    assert_eq!(get(server.port, "/").body, "ok");
    let (done, words) =
        server.reload(&site_with("\ttracing {\n\t\tspan two\n\t}\n\trespond ok2\n"));
    assert!(done, "{words}");
    assert_eq!(get(server.port, "/").body, "ok2");
    assert!(collector.spans().is_empty(), "the queue went on");
    let (done, words) = server.reload(&site_with("\trespond ok3\n"));
    assert!(done, "{words}");
    assert_eq!(get(server.port, "/").body, "ok3");
    let names: Vec<_> = collector.wait(2).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["handler", "two"]);
    assert_eq!(collector.exports().len(), 1);
}

#[test]
fn to_standard_output_or_nowhere() {
    let site = site_with("\ttracing {\n\t\tspan shown\n\t}\n\trespond ok\n");
    let server = traced("http://127.0.0.1:1", &[("OTEL_TRACES_EXPORTER", "console")], &site);
    assert_eq!(get(server.port, "/").body, "ok");
    eventually("the span is printed", || server.log().contains("{\"Attributes\":[{"));
    let none = traced("http://127.0.0.1:1", &[("OTEL_TRACES_EXPORTER", "none")], &site);
    assert_eq!(get(none.port, "/").body, "ok");
}

#[test]
fn an_unknown_exporter_is_refused() {
    let folder = scratch();
    std::fs::write(folder.join("Caddyfile"), "http://localhost:1 {\n\ttracing\n}\n").unwrap();
    let mut command: Command = crate::support::caddis(&folder);
    let output = command
        .args(["check", "--config", "Caddyfile"])
        .env("OTEL_TRACES_EXPORTER", "zipkin")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(words.contains("unknown exporter or metrics producer"), "{words}");
}

const WITH_METRICS: &str = "{\n\tadmin 127.0.0.1:{admin}\n\tskip_install_trust\n\tmetrics {\n\t\totlp\n\t}\n}\n\
     http://:{port} {\n\trespond ok\n}\n";

/// The data points of a metric, by the number of its kind: 5 gauge, 7 sum, 9 histogram.
fn points(export: &collector::Export, name: &str, kind: u64) -> Vec<Message> {
    let metrics = export.message.messages(1)[0].messages(2)[0].messages(2);
    let found: Vec<_> = metrics.into_iter().filter(|metric| metric.text(1) == name).collect();
    assert!(found.len() < 2, "{name} is told twice");
    found
        .iter()
        .flat_map(|metric| metric.messages(kind))
        .flat_map(|data| data.messages(1))
        .collect()
}

#[test]
fn metrics_are_pushed() {
    for grpc in [false, true] {
        let collector = if grpc { Collector::grpc(None) } else { Collector::http() };
        let vars = [
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", if grpc { "grpc" } else { "http/protobuf" }),
        ];
        let server = traced(&over_http(&collector), &vars, WITH_METRICS);
        assert_eq!(get(server.port, "/").body, "ok");
        let total = "caddy_http_requests_total";
        let last = || collector.exports().pop().filter(|one| !points(one, total, 7).is_empty());
        eventually("the request is counted", || last().is_some());
        let export = last().unwrap();
        let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        assert_eq!(export.path, if grpc { path } else { "/v1/metrics" });
        assert_eq!(export.resource()["webengine.name"], "caddis");
        let point = points(&export, total, 7).remove(0);
        assert_eq!(point.double(4), 1.0);
        assert!(point.number(2) > 0 && point.number(3) > point.number(2), "times");
        let labels = collector::attributes(&point, 7);
        assert_eq!(labels, map(&[("handler", "static_response"), ("server", "srv0")]));
        let duration = points(&export, "caddy_http_request_duration_seconds", 9).remove(0);
        assert_eq!((duration.number(4), duration.packed(6).len()), (1, 12));
        assert_eq!(duration.packed(7).len(), 11);
        assert!(points(&export, "process_open_fds", 5)[0].double(4) > 3.0);
    }
}

#[test]
fn the_end_and_a_reload_push_once_more() {
    let collector = Collector::http();
    let mut server = traced(&over_http(&collector), &[], WITH_METRICS);
    assert_eq!(get(server.port, "/").body, "ok");
    let (done, words) = server.reload(&WITH_METRICS.replace("respond ok", "respond ok2"));
    assert!(done, "{words}");
    eventually("the old config is through", || collector.exports().len() == 1);
    assert_eq!(get(server.port, "/").body, "ok2");
    server.signal("TERM");
    assert!(server.child.wait().unwrap().success());
    let exports = collector.exports();
    assert_eq!(exports.len(), 2);
    assert_eq!(points(&exports[1], "caddy_http_requests_total", 7)[0].double(4), 2.0);
}
