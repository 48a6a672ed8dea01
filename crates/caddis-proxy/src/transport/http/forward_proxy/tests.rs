//! Requests through proxies that follow a script, as the handler sends them.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use caddis_core::{State, Worker};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Environment, Known};
use crate::testing::{
    HEAD, Ready, Scripted, Step, exchange, nobody, outcome, ready, ready_in, reply, run,
};

fn config(dial: &str, transport: Value) -> Value {
    let mut transport = transport;
    transport["protocol"] = "http".into();
    json!({"upstreams": [{"dial": dial}], "transport": transport})
}

fn by(dial: &str, url: &str) -> Ready {
    ready(config(dial, json!({"network_proxy": {"from": "url", "url": url}})))
}

async fn get(ready: &Ready) -> (u16, String) {
    ready.get(&Worker::new(1)).await
}

#[test]
fn http_proxies_get_the_absolute_form() {
    run(async {
        let script = vec![HEAD, reply("one"), HEAD, reply("two"), Step::Hang];
        let proxy = Scripted::new(vec![script]).await;
        let url = format!("http://me:pass@{}", proxy.address);
        let (handler, worker) = (by("app.test:8080", &url), Worker::new(1));
        assert_eq!(handler.get(&worker).await, (200, "one".to_owned()));
        assert_eq!(handler.get(&worker).await, (200, "two".to_owned()));
        assert_eq!(proxy.connections(), 1);
        let head = proxy.seen.borrow()[0].clone();
        let start = "GET http://app.test:8080/ HTTP/1.1\r\nHost: app.test:8080\r\n\
                     Proxy-Authorization: Basic bWU6cGFzcw==\r\n";
        assert!(head.starts_with(start), "{head}");
        assert_eq!(head.matches("Proxy-Authorization").count(), 2, "{head}");

        let proxy = Scripted::new(vec![vec![HEAD, reply("x"), Step::Hang]]).await;
        let old = config("app.test:80", json!({"forward_proxy_url": proxy.address.to_string()}));
        assert_eq!(get(&ready(old)).await.0, 200);
        assert!(proxy.seen.borrow()[0].starts_with("GET http://app.test/ HTTP/1.1\r\n"));
    });
}

#[test]
fn proxied_and_direct_connections_are_kept_apart() {
    run(async {
        let script = vec![HEAD, reply("direct"), Step::Hang];
        let upstream = Scripted::new(vec![script]).await;
        let proxy = Scripted::new(vec![vec![HEAD, reply("proxied"), Step::Hang]]).await;
        let (state, worker) = (Arc::<State>::default(), Worker::new(1));
        let dial = upstream.address.to_string();
        let url = format!("http://{{http.request.header.proxy}}{}", proxy.address);
        let direct = json!({"network_proxy": {"from": "none"}});
        let direct = ready_in(&state, config(&dial, direct)).expect("compiles");
        let other = json!({"network_proxy": {"from": "url", "url": url}});
        let other = ready_in(&state, config(&dial, other)).expect("compiles");
        assert_eq!(direct.get(&worker).await.1, "direct");
        assert_eq!(other.get(&worker).await.1, "proxied");
        // The same URL: the same pool, whose connection hangs now; another URL: another one.
        let mut ex = exchange(&worker, "/");
        ex.request.headers.insert("proxy", http::HeaderValue::from_static("user@"));
        assert_eq!(outcome(other.serve(&mut ex).await).await.1, "proxied");
        assert_eq!((upstream.connections(), proxy.connections()), (1, 2));
        let mut ex = exchange(&worker, "/");
        ex.request.headers.insert("proxy", http::HeaderValue::from_static("/"));
        let (status, text) = outcome(other.serve(&mut ex).await).await;
        assert!(status == 502 && text.contains("the host is missing"), "{text}");
    });
}

#[test]
fn tunnels() {
    run(async {
        // What comes through the tunnel is no TLS: the answer of the proxy was taken, and no more.
        let connect = Step::Send("HTTP/1.1 200 Connection established\r\n\r\n".to_owned());
        let proxy = Scripted::new(vec![vec![HEAD, connect]]).await;
        let transport = |url: String| {
            config(
                "app.test:443",
                json!({
                    "tls": {"insecure_skip_verify": true},
                    "network_proxy": {"from": "url", "url": url}
                }),
            )
        };
        let handler = ready(transport(format!("http://me:pass@{}", proxy.address)));
        let (status, text) = get(&handler).await;
        assert!(status == 502 && text.contains("tls"), "{text}");
        let want = "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\
                    Proxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n";
        assert_eq!(proxy.seen.borrow()[0], want);

        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        for (answer, why) in [
            (refusal, "407 Proxy Authentication Required"),
            ("SSH-2.0\r\n\r\n", "malformed HTTP response"),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "spoke before"),
            ("HTTP/1.1 200", "EOF"),
        ] {
            let proxy = Scripted::new(vec![vec![HEAD, Step::Send(answer.to_owned())]]).await;
            let (status, text) = get(&ready(transport(format!("http://{}", proxy.address)))).await;
            let place =
                format!("proxyconnect tcp: proxy {}: CONNECT app.test:443: ", proxy.address);
            assert_eq!(status, 502);
            assert!(text.starts_with(&place) && text.contains(why), "{text}");
        }
    });
}

#[test]
fn a_proxy_that_is_gone() {
    run(async {
        let address = nobody().await;
        for scheme in ["http", "https", "socks5"] {
            let (status, text) = get(&by("app.test:80", &format!("{scheme}://{address}"))).await;
            assert_eq!(status, 502);
            let want = format!("proxyconnect tcp: dial tcp {address}: connect: connection refused");
            assert_eq!(text, want);
        }
    });
}

/// A SOCKS proxy that reads these lengths, answers with these bytes, and then serves one request.
async fn socks(steps: Vec<(usize, Vec<u8>)>) -> (std::net::SocketAddr, Rc<RefCell<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    tokio::task::spawn_local(async move {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.expect("a client");
        for (length, answer) in steps {
            let mut read = vec![0; length];
            if stream.read_exact(&mut read).await.is_err() {
                return;
            }
            log.borrow_mut().extend(read);
            stream.write_all(&answer).await.expect("written");
        }
        let mut head = [0; 4096];
        let count = stream.read(&mut head).await.unwrap_or(0);
        if count > 0 {
            log.borrow_mut().extend(&head[..count]);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.expect("written");
        }
    });
    (address, seen)
}

#[test]
fn socks_proxies() {
    run(async {
        let done = vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let ask = b"\x05\x01\x00\x03\x08app.test\x00\x50";
        let (address, seen) = socks(vec![(3, vec![5, 0]), (ask.len(), done.clone())]).await;
        let (status, text) = get(&by("app.test:80", &format!("socks5h://{address}"))).await;
        assert_eq!((status, text.as_str()), (200, "ok"));
        assert_eq!(seen.borrow()[..3], [5, 1, 0]);
        assert_eq!(seen.borrow()[3..3 + ask.len()], *ask);
        assert!(seen.borrow()[3 + ask.len()..].starts_with(b"GET / HTTP/1.1\r\n"));

        let named = vec![5, 0, 0, 3, 1, b'x', 0, 0];
        let steps = vec![(4, vec![5, 2]), (7, vec![1, 0]), (10, named)];
        let (address, seen) = socks(steps).await;
        let (status, _) = get(&by("192.0.2.1:81", &format!("socks5://me:pw@{address}"))).await;
        assert_eq!(status, 200);
        let want = b"\x05\x02\x00\x02\x01\x02me\x02pw\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x51";
        assert_eq!(seen.borrow()[..want.len()], *want);

        for (user, steps, why) in [
            ("", vec![(3, vec![5, 0xff])], "no acceptable authentication methods"),
            ("", vec![(3, vec![4, 0])], "unexpected protocol version 4"),
            ("", vec![(3, vec![5, 2])], "unsupported authentication method 2"),
            ("a:b@", vec![(4, vec![5, 2]), (5, vec![1, 1])], "authentication failed"),
            ("", vec![(3, vec![5, 0]), (15, vec![5, 5, 0, 1])], "unknown error connection refused"),
            ("", vec![(3, vec![5, 0]), (15, vec![5, 0, 0, 9])], "unknown address type 9"),
        ] {
            let (address, _) = socks(steps).await;
            let (status, text) =
                get(&by("app.test:80", &format!("socks5://{user}{address}"))).await;
            assert_eq!(status, 502);
            let place = format!("socks connect tcp {address}->app.test:80: ");
            assert!(text.starts_with(&place) && text.contains(why), "{text}");
        }
    });
}

#[test]
fn the_environment_decides_where_nothing_is_configured() {
    run(async {
        let script = vec![HEAD, reply("proxied"), Step::Hang];
        let proxy = Scripted::new(vec![script]).await;
        let upstream = Scripted::new(vec![vec![HEAD, reply("direct"), Step::Hang]]).await;
        let (state, address) = (Arc::<State>::default(), proxy.address.to_string());
        let found = Environment::read(|name| (name == "HTTP_PROXY").then(|| address.clone()));
        assert!(state.single::<Known>().set_for_test(found));
        for (dial, want) in [("app.test:80", "proxied"), (&*upstream.address.to_string(), "direct")]
        {
            let handler = ready_in(&state, config(dial, json!({}))).expect("compiles");
            assert_eq!(get(&handler).await, (200, want.to_owned()));
        }
    });
}
