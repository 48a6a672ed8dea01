//! The FastCGI client against a server of a few lines.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use bytes::BytesMut;
use caddis_core::{Body, TaskCx, Worker};
use http::{HeaderValue, Method};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::record;
use crate::{
    testing::{exchange, outcome, ready, run},
    upstream::upstream_status,
};

#[derive(Default)]
struct Seen {
    params: BTreeMap<String, String>,
    stdin: Vec<u8>,
}

/// A server that answers every request with these bytes, ended or not.
async fn server(answer: &'static str, ends: bool) -> (std::net::SocketAddr, Rc<RefCell<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Rc::new(RefCell::new(Seen::default()));
    let log = seen.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut buf, mut params, mut stdin) = (BytesMut::new(), Vec::new(), Vec::new());
            'request: loop {
                while let Some((kind, content)) = record::take(&mut buf) {
                    match kind {
                        record::PARAMS => params.extend_from_slice(&content),
                        record::STDIN if content.is_empty() => break 'request,
                        record::STDIN => stdin.extend_from_slice(&content),
                        _ => {}
                    }
                }
                if stream.read_buf(&mut buf).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            *log.borrow_mut() = Seen { params: pairs(&params), stdin };
            let mut out = Vec::new();
            record::stream(&mut out, record::STDERR, b"a warning");
            record::stream(&mut out, record::STDOUT, answer.as_bytes());
            if ends {
                record::stream(&mut out, record::END_REQUEST, &[0; 8]);
            }
            stream.write_all(&out).await.expect("writable");
        }
    });
    (address, seen)
}

fn pairs(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let length = |bytes: &mut &[u8]| {
        let first = usize::from(bytes[0]);
        if first < 128 {
            *bytes = &bytes[1..];
            return first;
        }
        let long = u32::from_be_bytes([bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]]);
        *bytes = &bytes[4..];
        long as usize
    };
    while !bytes.is_empty() {
        let (name, value) = (length(&mut bytes), length(&mut bytes));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        all.insert(text(&bytes[..name]), text(&bytes[name..name + value]));
        bytes = &bytes[name + value..];
    }
    all
}

#[test]
fn variables_and_body() {
    run(async {
        let (address, seen) = server("Status: 201 Made\r\nX-A: 1\r\n\r\nmade", true).await;
        let proxy = ready(json!({
            "upstreams": [{"dial": address.to_string()}],
            "transport": {
                "protocol": "fastcgi", "root": "/srv/www", "split_path": [".php"],
                "env": {"APP": "{http.request.method}"}
            }
        }));
        let mut ex = exchange(&Worker::new(1), "/a.PHP/info/x?q=1");
        ex.request.method = Method::POST;
        ex.request.body = Body::Full("a=1".into());
        ex.request.headers.insert("x-multi", HeaderValue::from_static("a"));
        ex.request.headers.append("x-multi", HeaderValue::from_static("b"));
        ex.request.headers.insert("proxy", HeaderValue::from_static("evil"));
        let response = proxy.serve(&mut ex).await.expect("an answer");
        assert_eq!(response.headers()["x-a"], "1");
        assert_eq!(outcome(Ok(response)).await, (201, "made".to_owned()));
        let seen = seen.borrow();
        assert_eq!(seen.stdin, b"a=1");
        for (name, value) in [
            ("SCRIPT_FILENAME", "/srv/www/a.PHP"),
            ("SCRIPT_NAME", "/a.PHP"),
            ("DOCUMENT_URI", "/a.PHP"),
            ("PATH_INFO", "/info/x"),
            ("PATH_TRANSLATED", "/srv/www/info/x"),
            ("QUERY_STRING", "q=1"),
            ("REQUEST_URI", "/a.PHP/info/x?q=1"),
            ("CONTENT_LENGTH", "3"),
            ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
            ("REQUEST_METHOD", "POST"),
            ("SERVER_NAME", "example.com"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_X_MULTI", "a, b"),
            ("HTTP_HOST", "example.com"),
            ("HTTP_CONTENT_LENGTH", "3"),
            ("APP", "POST"),
        ] {
            assert_eq!(seen.params.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!seen.params.contains_key("HTTP_PROXY"));
    });
}

#[test]
fn answers() {
    run(async {
        let worker = Worker::new(1);
        for (answer, ends, want) in [
            ("Content-type: text/plain\n\nunix", true, (200, "unix".to_owned())),
            ("\r\nno fields", true, (200, "no fields".to_owned())),
            ("\r\n\r\nbody", true, (200, "\r\nbody".to_owned())),
            ("", true, (502, "EOF".to_owned())),
            ("X-Only: head\r\n", true, (200, String::new())),
            (
                "Status: abc\r\n\r\n",
                true,
                (502, "strconv.Atoi: parsing \"abc\": invalid syntax".to_owned()),
            ),
            ("no colon\r\n\r\n", true, (502, "malformed MIME header line: no colon".to_owned())),
            ("X: 1\r\n\r\ncut", false, (502, "EOF".to_owned())),
        ] {
            let (address, _) = server(answer, ends).await;
            let proxy = ready(json!({
                "upstreams": [{"dial": address.to_string()}],
                "transport": {"protocol": "fastcgi", "capture_stderr": true}
            }));
            assert_eq!(proxy.get(&worker).await, want, "{answer}");
        }
    });
}

#[test]
fn requests_that_cannot_be_sent() {
    run(async {
        let (address, _) = server("\r\n\r\n", true).await;
        let proxy = ready(json!({
            "upstreams": [{"dial": address.to_string()}], "transport": {"protocol": "fastcgi"}
        }));
        let worker = Worker::new(1);
        let rootless = ready(json!({
            "upstreams": [{"dial": address.to_string()}],
            "transport": {
                "protocol": "fastcgi", "root": "/no/such/root", "resolve_root_symlink": true
            }
        }));
        assert_eq!(rootless.get(&worker).await.0, 502);
        let mut ex = exchange(&worker, "/a%00b.php");
        assert_eq!(outcome(proxy.serve(&mut ex).await).await.0, 400);
        let mut ex = exchange(&worker, "/");
        ex.request.method = Method::POST;
        ex.request.chunked = true;
        let large = http_body_util::StreamBody::new(futures_util::stream::iter(
            [vec![0u8; 5000], vec![0; 5000]].map(|data| Ok(http_body::Frame::data(data.into()))),
        ));
        ex.request.body = Body::stream(large);
        assert_eq!(outcome(proxy.serve(&mut ex).await).await.0, 411);
    });
}

#[test]
fn checks_of_health() {
    run(async {
        let (address, seen) = server("Status: 500 No\r\n\r\n", true).await;
        let mut proxy = ready(json!({
            "upstreams": [{"dial": address.to_string()}],
            "transport": {"protocol": "fastcgi", "root": "/srv/www", "split_path": [".php"]},
            "health_checks": {"active": {
                "uri": "/up.php/info?q=1", "interval": "10ms", "method": "POST", "body": "hello",
                "headers": {"Host": ["check.test"], "X-A": ["1"]}
            }}
        }));
        let cancel = tokio_util::sync::CancellationToken::new();
        for task in std::mem::take(&mut proxy.tasks) {
            let cx = TaskCx {
                cancel: cancel.clone(),
                worker: Worker::new(0),
                events: std::sync::Arc::default(),
            };
            tokio::task::spawn_local((task.run)(cx));
        }
        let healthy = || upstream_status(&proxy.state)[0].healthy;
        for _ in 0..500 {
            if healthy() == Some(false) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        cancel.cancel();
        assert_eq!(healthy(), Some(false));
        assert_eq!(proxy.get(&Worker::new(1)).await.0, 503);
        let seen = seen.borrow();
        assert_eq!(seen.stdin, b"hello");
        for (name, value) in [
            ("SCRIPT_FILENAME", "/srv/www/up.php"),
            ("PATH_INFO", "/info"),
            ("QUERY_STRING", "q=1"),
            ("REQUEST_URI", "/up.php/info?q=1"),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_LENGTH", "5"),
            ("HTTP_HOST", "check.test"),
            ("SERVER_NAME", "check.test"),
            ("SERVER_PORT", "80"),
            ("HTTP_X_A", "1"),
            ("REMOTE_ADDR", ""),
            ("REMOTE_PORT", ""),
        ] {
            assert_eq!(seen.params.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!seen.params.contains_key("SERVER_ADDR"));
        assert!(!seen.params.contains_key("HTTP_USER_AGENT"));
    });
}

#[test]
fn fields_of_an_answer() {
    run(async {
        let (address, seen) = server("Status: 404 No\r\nX-Folded: a\r\n  b\r\n\r\n", true).await;
        let proxy = ready(json!({
            "upstreams": [{"dial": address.to_string()}],
            "transport": {"protocol": "fastcgi", "root": "/srv/www"}
        }));
        let mut ex = exchange(&Worker::new(1), "/");
        ex.request.headers.insert("content-type", HeaderValue::from_static("a/b"));
        let response = proxy.serve(&mut ex).await.expect("an answer");
        assert_eq!(response.status().as_u16(), 404);
        assert_eq!(response.headers()["x-folded"], "a b");
        assert_eq!(response.headers()["status"], "404 No");
        let seen = seen.borrow();
        let param = |name: &str| seen.params.get(name).map(String::as_str);
        assert_eq!(param("SCRIPT_FILENAME"), Some("/srv/www"));
        assert_eq!(param("HTTP_CONTENT_TYPE"), Some("a/b"));
    });
}
