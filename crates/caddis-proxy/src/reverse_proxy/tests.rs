//! The handler as a whole, against upstreams that follow a script.

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use caddis_core::{
    Body, ByteString, Exchange, State, TaskCx, Worker,
    event::{Event, Events, Subscription},
    exchange::Upgrade,
};
use http::{HeaderValue, Method};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    testing::{
        HEAD, Scripted, Step, again, exchange, nobody, outcome, ready, ready_in, reply, run,
    },
    upstream_status,
};

fn forever(body: &str) -> Vec<Vec<Step>> {
    vec![again(&[HEAD, reply(body)], 50)]
}

fn dial(address: std::net::SocketAddr) -> serde_json::Value {
    json!({"dial": address.to_string()})
}

#[test]
fn round_robin_over_two() {
    run(async {
        let (one, two) = (Scripted::new(forever("1")).await, Scripted::new(forever("2")).await);
        let proxy = ready(json!({
            "upstreams": [dial(one.address), dial(two.address)],
            "load_balancing": {"selection_policy": {"policy": "round_robin"}}
        }));
        let worker = Worker::new(1);
        for want in ["2", "1", "2", "1"] {
            assert_eq!(proxy.get(&worker).await, (200, want.to_owned()));
        }
        assert_eq!((one.connections(), two.connections()), (1, 1));
        let seen = one.seen.borrow()[0].clone();
        let head = "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: 127.0.0.1\r\n\
                    X-Forwarded-Proto: http\r\nX-Forwarded-Host: example.com\r\nVia: 1.1 caddis\r\n\
                    Accept-Encoding: gzip\r\n\r\n";
        assert_eq!(seen, head.repeat(2));
        assert!(upstream_status(&proxy.state).iter().all(|status| status.num_requests == 0));
    });
}

#[test]
fn the_response_gets_via_and_early_fields() {
    run(async {
        let answer = "HTTP/1.1 201 Created\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
                      Keep-Alive: timeout=5\r\nServer: up\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nok";
        let upstream = Scripted::new(vec![vec![HEAD, Step::Send(answer.into()), Step::Hang]]).await;
        let proxy = ready(json!({
            "upstreams": [dial(upstream.address)],
            "headers": {
                "request": {"set": {"X-Up": ["{http.reverse_proxy.upstream.hostport}"], "Host": ["inner"]},
                            "delete": ["X-Forwarded-Host"]},
                "response": {"set": {"X-Down": ["{http.reverse_proxy.status_code} {http.reverse_proxy.header.X-A}"]}}
            }
        }));
        let mut ex = exchange(&Worker::new(1), "/a%20b?c=d");
        ex.early_headers.insert("x-a", HeaderValue::from_static("1"));
        ex.request.headers.insert("x-custom", HeaderValue::from_static("kept"));
        let response = proxy.serve(&mut ex).await.expect("an answer");
        assert_eq!(response.status().as_u16(), 201);
        let mut lines: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        let want = [
            "content-length: 2",
            "server: up",
            "via: 1.1 caddis",
            "x-a: 1",
            "x-a: 2",
            "x-down: 201 2",
        ];
        assert_eq!(lines, want);
        let seen = upstream.seen.borrow()[0].clone();
        assert!(seen.starts_with("GET /a%20b?c=d HTTP/1.1\r\nHost: inner\r\n"), "{seen}");
        assert!(seen.contains(&format!("X-Up: {}\r\n", upstream.address)), "{seen}");
        assert!(
            seen.contains("X-Custom: kept\r\n") && !seen.contains("X-Forwarded-Host"),
            "{seen}"
        );
        assert_eq!(ex.request.headers.len(), 1, "the client's request is as it was");
    });
}

#[test]
fn bodies_and_methods() {
    run(async {
        let script = again(&[HEAD, Step::Read("hello"), reply("ok")], 9);
        let upstream = Scripted::new(vec![script]).await;
        let proxy = ready(json!({"upstreams": [dial(upstream.address)]}));
        let mut ex = exchange(&Worker::new(1), "/");
        ex.request.method = Method::POST;
        ex.request.body = Body::Full("hello".into());
        ex.request.headers.insert("content-length", HeaderValue::from_static("5"));
        assert_eq!(outcome(proxy.serve(&mut ex).await).await, (200, "ok".to_owned()));
        let seen = upstream.seen.borrow()[0].clone();
        assert_eq!(seen.matches("Content-Length: 5\r\n").count(), 1, "{seen}");

        let upstream = Scripted::new(forever("ok")).await;
        let proxy = ready(json!({
            "upstreams": [dial(upstream.address)], "rewrite": {"method": "GET", "uri": "/new?{http.request.uri.query}&b=2"}
        }));
        let mut ex = exchange(&Worker::new(1), "/old?a=1");
        ex.request.method = Method::POST;
        ex.request.body = Body::Full("dropped".into());
        assert_eq!(outcome(proxy.serve(&mut ex).await).await.0, 200);
        let seen = upstream.seen.borrow()[0].clone();
        assert!(
            seen.starts_with("GET /new?a=1&b=2 HTTP/1.1\r\n") && !seen.contains("ontent-"),
            "{seen}"
        );
        assert_eq!(ex.request.method, Method::POST);
        assert_eq!(ex.request.target.as_str(), "/old?a=1");
    });
}

#[test]
fn error_statuses() {
    run(async {
        let worker = Worker::new(1);
        let closing = Scripted::new(vec![vec![HEAD]]).await;
        let silent = Scripted::new(vec![vec![HEAD, Step::Hang]]).await;
        let refused = nobody().await;
        for (json, status) in [
            (json!({"upstreams": [dial(refused)]}), 502),
            (json!({"upstreams": [dial(closing.address)]}), 502),
            (json!({}), 503),
            (json!({"upstreams": [{"dial": "127.0.0.1:{http.request.header.X-No}"}]}), 502),
            (
                json!({
                    "upstreams": [dial(silent.address)],
                    "transport": {"protocol": "http", "response_header_timeout": "20ms"}
                }),
                504,
            ),
        ] {
            assert_eq!(ready(json.clone()).get(&worker).await.0, status, "{json}");
        }
    });
}

#[test]
fn which_requests_are_tried_again() {
    run(async {
        for (method, lb, tries) in [
            ("GET", json!({"retries": 2}), 3),
            ("POST", json!({"retries": 2}), 1),
            ("GET", json!({}), 1),
            ("POST", json!({"retries": 1, "retry_match": [{"method": ["POST"]}]}), 2),
            ("GET", json!({"retries": 1, "retry_match": [{"method": ["POST"]}]}), 1),
        ] {
            let upstream = Scripted::new(vec![vec![HEAD]]).await;
            let proxy = ready(json!({
                "upstreams": [dial(upstream.address)],
                "load_balancing": lb,
                "transport": {"protocol": "http", "keep_alive": {"enabled": false}}
            }));
            let mut ex = exchange(&Worker::new(1), "/");
            ex.request.method = method.parse().expect("a method");
            assert_eq!(outcome(proxy.serve(&mut ex).await).await.0, 502);
            assert_eq!(upstream.connections(), tries, "{method} {lb}");
        }
    });
}

#[test]
fn refused_connections_go_to_another_upstream_with_the_body() {
    run(async {
        let refused = nobody().await;
        let upstream =
            Scripted::new(vec![vec![HEAD, Step::Read("body"), reply("ok"), Step::Hang]]).await;
        let proxy = ready(json!({
            "upstreams": [dial(refused), dial(upstream.address)],
            "load_balancing": {"retries": 1, "selection_policy": {"policy": "first"}}
        }));
        let mut ex = exchange(&Worker::new(1), "/");
        ex.request.method = Method::POST;
        ex.request.body = Body::stream(http_body_util_full("body"));
        assert_eq!(outcome(proxy.serve(&mut ex).await).await, (200, "ok".to_owned()));
    });
}

/// A streamed body of one piece.
fn http_body_util_full(
    text: &'static str,
) -> impl http_body::Body<Data = Bytes, Error = caddis_core::BodyError> {
    use http_body_util::BodyExt;
    http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})
}

#[test]
fn failures_are_remembered_across_reloads() {
    run(async {
        let refused = nobody().await;
        let state: Arc<State> = Arc::default();
        let json = json!({
            "upstreams": [dial(refused)],
            "health_checks": {"passive": {"fail_duration": "1m", "max_fails": 2}}
        });
        let worker = Worker::new(1);
        let proxy = ready_in(&state, json.clone()).expect("compiles");
        assert_eq!(proxy.get(&worker).await.0, 502);
        let reloaded = ready_in(&state, json).expect("compiles");
        drop(proxy);
        assert_eq!(reloaded.get(&worker).await.0, 502);
        assert_eq!(reloaded.get(&worker).await.0, 503);
        assert_eq!(upstream_status(&state)[0].fails, 2);
    });
}

#[test]
fn a_full_upstream_is_passed_over() {
    run(async {
        let upstream = Scripted::new(vec![vec![
            HEAD,
            Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab".into()),
            Step::Hang,
        ]])
        .await;
        let proxy = ready(json!({
            "upstreams": [{"dial": upstream.address.to_string(), "max_requests": 1}]
        }));
        let worker = Worker::new(1);
        let mut ex = exchange(&worker, "/");
        let streaming = proxy.serve(&mut ex).await.expect("a head");
        assert_eq!(upstream_status(&proxy.state)[0].num_requests, 1);
        assert_eq!(proxy.get(&worker).await.0, 503);
        drop(streaming);
        assert_eq!(upstream_status(&proxy.state)[0].num_requests, 0);
    });
}

#[test]
fn gzip_that_was_not_asked_for_is_decoded() {
    run(async {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        encoder.write_all(b"plain").expect("to memory");
        let zipped = encoder.finish().expect("to memory");
        // Stored, so that it is text but for the head: sent with each byte as a character is no
        // way, so the upstream is written by hand.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut buf = [0; 4096];
            for _ in 0..2 {
                if stream.read(&mut buf).await.expect("readable") == 0 {
                    return;
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                    zipped.len()
                );
                stream.write_all(head.as_bytes()).await.expect("writable");
                stream.write_all(&zipped).await.expect("writable");
            }
        });
        let proxy = ready(json!({"upstreams": [dial(address)]}));
        let worker = Worker::new(1);
        assert_eq!(proxy.get(&worker).await, (200, "plain".to_owned()));
        let mut ex = exchange(&worker, "/");
        ex.request.headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
        let response = proxy.serve(&mut ex).await.expect("an answer");
        assert_eq!(response.headers()["content-encoding"], "gzip");
    });
}

fn upgrading(worker: &Rc<Worker>) -> Box<Exchange> {
    let mut ex = exchange(worker, "/ws");
    let fields = [
        ("connection", "keep-alive, upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "abc="),
    ];
    for (name, value) in fields {
        ex.request.headers.insert(name, HeaderValue::from_static(value));
    }
    ex.upgrade = Some(Upgrade::default());
    ex
}

#[test]
fn a_tunnel_copies_both_ways() {
    run(async {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst";
        let upstream = Scripted::new(vec![vec![
            HEAD,
            Step::Send(switch.into()),
            Step::Read("ping"),
            Step::Send("pong".into()),
            Step::Read("bye"),
        ]])
        .await;
        let proxy = ready(json!({"upstreams": [dial(upstream.address)]}));
        let mut ex = upgrading(&Worker::new(1));
        let response = proxy.serve(&mut ex).await.expect("an answer");
        assert_eq!(response.status().as_u16(), 101);
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert!(
            upstream.seen.borrow()[0].contains("Connection: Upgrade\r\nUpgrade: websocket\r\n")
        );
        assert!(upstream.seen.borrow()[0].contains("Sec-WebSocket-Key: abc=\r\n"));
        let run = ex.upgrade.take().and_then(|upgrade| upgrade.run).expect("a tunnel");
        let (mut client, server) = tokio::io::duplex(64);
        let tunnel = tokio::task::spawn_local(run(Box::new(server)));
        let mut buf = [0; 5];
        client.read_exact(&mut buf).await.expect("what came with the head");
        assert_eq!(&buf, b"first");
        client.write_all(b"ping").await.expect("writable");
        client.read_exact(&mut buf[..4]).await.expect("an echo");
        assert_eq!(&buf[..4], b"pong");
        client.write_all(b"bye").await.expect("writable");
        assert_eq!(client.read(&mut buf).await.expect("the end"), 0);
        drop(client);
        tunnel.await.expect("ends");
        assert_eq!(upstream_status(&proxy.state)[0].num_requests, 0);
    });
}

#[test]
fn tunnels_end_with_their_generation() {
    run(async {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\r\n";
        let upstream = Scripted::new(vec![vec![HEAD, Step::Send(switch.into()), Step::Hang]]).await;
        let mut proxy = ready(json!({"upstreams": [dial(upstream.address)]}));
        let cancel = tokio_util::sync::CancellationToken::new();
        for task in std::mem::take(&mut proxy.tasks) {
            let cx =
                TaskCx { cancel: cancel.clone(), worker: Worker::new(0), events: Arc::default() };
            tokio::task::spawn_local((task.run)(cx));
        }
        let mut ex = upgrading(&Worker::new(1));
        proxy.serve(&mut ex).await.expect("an answer");
        let run = ex.upgrade.take().and_then(|upgrade| upgrade.run).expect("a tunnel");
        let (mut client, server) = tokio::io::duplex(64);
        let tunnel = tokio::task::spawn_local(run(Box::new(server)));
        tokio::task::yield_now().await;
        cancel.cancel();
        let mut frame = Vec::new();
        client.read_to_end(&mut frame).await.expect("a close frame");
        assert_eq!(frame, [0x88, 2, 0x03, 0xe9]);
        tunnel.await.expect("ends");
    });
}

#[test]
fn switches_that_nobody_asked_for_are_refused() {
    run(async {
        let other = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        let upstream = Scripted::new(vec![vec![HEAD, Step::Send(other.into()), Step::Hang]]).await;
        let proxy = ready(json!({"upstreams": [dial(upstream.address)]}));
        let worker = Worker::new(1);
        assert_eq!(outcome(proxy.serve(&mut upgrading(&worker)).await).await.0, 502);
        assert_eq!(proxy.get(&worker).await.0, 502);
    });
}

#[test]
fn an_extended_connect_becomes_an_upgrade() {
    run(async {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
        let upstream = Scripted::new(vec![vec![HEAD, Step::Send(switch.into()), Step::Hang]]).await;
        let proxy = ready(json!({"upstreams": [dial(upstream.address)]}));
        let mut ex = exchange(&Worker::new(1), "/ws");
        ex.request.method = Method::CONNECT;
        ex.request.protocol = Some(ByteString::from_static("websocket"));
        ex.upgrade = Some(Upgrade::default());
        let response = proxy.serve(&mut ex).await.expect("an answer");
        // `Server` alone; the dates are of the front.
        assert_eq!((response.status().as_u16(), response.headers().len()), (200, 1));
        let seen = upstream.seen.borrow()[0].clone();
        assert!(seen.starts_with("GET /ws HTTP/1.1\r\n"), "{seen}");
        assert!(
            seen.contains("Sec-WebSocket-Key: ") && seen.contains("Upgrade: websocket"),
            "{seen}"
        );
    });
}

#[test]
fn responses_are_handled_by_routes() {
    run(async {
        let proxy_of = |address: std::net::SocketAddr| {
            ready(json!({
                "upstreams": [dial(address)],
                "handle_response": [
                    {"match": {"status_code": [404]}, "status_code": "410"},
                    {"match": {"status_code": [201]}, "routes": [{"handle": [
                        {"handler": "copy_response", "status_code": 207}]}]},
                    {"match": {"status_code": [5]}, "routes": [{"handle": [
                        {"handler": "copy_response_headers", "include": ["X-One"]},
                        {"handler": "static_response", "status_code": 599,
                         "body": "{http.reverse_proxy.status_code}"}]}]}
                ]
            }))
        };
        for (line, status, body, one) in [
            ("200 OK", 200, "up", true),
            ("404 Not Found", 410, "up", true),
            ("201 Created", 207, "up", true),
            ("503 No", 599, "503", true),
        ] {
            let answer =
                format!("HTTP/1.1 {line}\r\nX-One: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nup");
            let upstream = Scripted::new(vec![vec![HEAD, Step::Send(answer), Step::Hang]]).await;
            let proxy = proxy_of(upstream.address);
            let mut ex = exchange(&Worker::new(1), "/");
            let response = proxy.serve(&mut ex).await.expect("an answer");
            assert_eq!(response.headers().contains_key("x-one"), one, "{line}");
            assert_eq!(response.headers().contains_key("x-two"), status != 599, "{line}");
            assert_eq!(outcome(Ok(response)).await, (status, body.to_owned()), "{line}");
        }
        let outside = ready(json!({"upstreams": []}));
        drop(outside);
    });
}

#[test]
fn active_checks_take_out_and_bring_back() {
    run(async {
        let checked = [HEAD, Step::Send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into())];
        let fine = [HEAD, reply("fine")];
        let upstream =
            Scripted::new(vec![checked.to_vec(), checked.to_vec(), again(&fine, 9)]).await;
        let state: Arc<State> = Arc::default();
        let json = json!({
            "upstreams": [dial(upstream.address)],
            "health_checks": {"active": {"uri": "/up", "interval": "10ms", "fails": 2, "passes": 2}}
        });
        let mut proxy = ready_in(&state, json.clone()).expect("compiles");
        let cancel = tokio_util::sync::CancellationToken::new();
        let control = Worker::new(0);
        let (events, heard) = (Arc::<Events>::default(), Arc::<Mutex<Vec<String>>>::default());
        let told = heard.clone();
        let subscription = Subscription {
            events: vec!["healthy".into(), "unhealthy".into()],
            modules: vec!["http.handlers".into()],
            handlers: vec![Arc::new(move |event: &Arc<Event>| {
                told.lock().unwrap().push(event.fill("{event.name} {event.module} {event.data}"));
                Box::pin(std::future::ready(Ok(())))
            })],
        };
        let spawn = |work| drop(tokio::task::spawn(work));
        events.set(vec![subscription].into(), Arc::new(spawn));
        for task in std::mem::take(&mut proxy.tasks) {
            let cx =
                TaskCx { cancel: cancel.clone(), worker: control.clone(), events: events.clone() };
            tokio::task::spawn_local((task.run)(cx));
        }
        let healthy = || upstream_status(&state)[0].healthy;
        let until = async |want: Option<bool>| {
            for _ in 0..500 {
                if healthy() == want {
                    return true;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            false
        };
        assert_eq!(healthy(), Some(true), "up until found down");
        assert!(until(Some(false)).await);
        let status = upstream_status(&state).remove(0);
        assert!(status.last_error.contains("500") && status.latency_ms.is_some(), "{status:?}");
        let reloaded = ready_in(&state, json).expect("compiles");
        assert_eq!(reloaded.get(&Worker::new(1)).await.0, 503, "down stays down");
        assert!(until(Some(true)).await);
        cancel.cancel();
        while heard.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        let want =
            |name| format!("{name} http.handlers.reverse_proxy map[host:{}]", upstream.address);
        assert_eq!(*heard.lock().unwrap(), [want("unhealthy"), want("healthy")]);
        assert!(upstream.seen.borrow()[0].starts_with("GET /up HTTP/1.1\r\nHost: 127.0.0.1:"));
    });
}

#[test]
fn addresses_of_a_name() {
    run(async {
        let upstream = Scripted::new(forever("ok")).await;
        let port = upstream.address.port().to_string();
        let source = json!({"source": "a", "name": "127.0.0.1", "port": port});
        for dynamic in [source.clone(), json!({"source": "multi", "sources": [source]})] {
            let proxy = ready(json!({"dynamic_upstreams": dynamic}));
            let worker = Worker::new(1);
            for _ in 0..2 {
                assert_eq!(proxy.get(&worker).await, (200, "ok".to_owned()));
            }
        }
        let none = json!({"source": "a", "name": "name.invalid", "port": "1"});
        let proxy = ready(json!({
            "dynamic_upstreams": none, "upstreams": [dial(upstream.address)]
        }));
        assert_eq!(proxy.get(&Worker::new(1)).await.0, 200, "the list is the fallback");
    });
}

#[test]
fn what_cannot_be_is_refused() {
    let state: Arc<State> = Arc::default();
    let error = ready_in(&state, json!({"circuit_breaker": {"type": "x"}})).err().expect("refused");
    assert_eq!(error.message, "unknown module: http.reverse_proxy.circuit_breakers.x");
    let check = json!({"health_checks": {"active": {"uri": "/%zz"}}});
    let error = ready_in(&state, check).err().expect("refused");
    assert_eq!(error.message, "parse \"/%zz\": invalid URL escape");
    for (transport, why) in [
        (json!({"versions": ["1.1", "3"]}), "if HTTP/3 is enabled to the upstream, no other"),
        (json!({"versions": ["4"]}), "unsupported HTTP version: 4"),
        (json!({"local_address": "127.0.0.1:3-5"}), "a single address, not a port range"),
        (json!({"local_address": "udp/127.0.0.1:3"}), "a TCP address, not a UDP address"),
        (json!({"local_address": "fd/3"}), "unsupported network"),
        (json!({"local_address": "tcp6/127.0.0.1"}), "no suitable address found"),
    ] {
        let mut transport = transport;
        transport["protocol"] = "http".into();
        let error = ready_in(&state, json!({"transport": transport})).err().expect("refused");
        assert!(error.message.contains(why), "{error}");
    }
    for json in [
        json!({"upstream": []}),
        json!({"load_balancing": {"selection_policy": {"policy": "fastest"}}}),
        json!({"transport": {"protocol": "http", "network_proxy": {"from": "url", "url": "ftp://x"}}}),
        json!({"transport": {"protocol": "http", "network_proxy": {"from": "url"}}}),
        json!({"transport": {"protocol": "http", "network_proxy": {"from": "none", "url": "x"}}}),
        json!({"transport": {"protocol": "http", "network_proxy": {"from": "nowhere"}}}),
        json!({"transport": {"protocol": "http", "forward_proxy_url": "http://"}}),
    ] {
        assert!(ready_in(&state, json.clone()).is_err(), "{json}");
    }
}
