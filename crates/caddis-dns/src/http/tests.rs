use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{HttpClient, HttpError, HttpOptions, Route, SURELY_OPEN, Target};
use crate::testing::{Answer, api};

/// What a connection's script does when a request has arrived.
#[derive(Clone, Copy)]
enum Then {
    Answer,
    /// It ends after the request was read, and may have been acted upon.
    Close,
}

/// A server whose connections follow scripts, and the first lines of what it read.
async fn scripted(scripts: Vec<Vec<Then>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x?y", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            for then in script {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\nhi") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                log.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
                if let Then::Answer = then {
                    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            }
        }
    });
    (url, seen)
}

async fn ask(client: &HttpClient, method: Method, url: &str) -> Result<u16, HttpError> {
    let request = Request::builder().method(method).uri(url).body("hi".into()).unwrap();
    client.send(request).await.map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn connections_are_kept_and_replaced() {
    use Then::{Answer, Close};
    let (url, seen) = scripted(vec![vec![Answer, Answer, Close], vec![Answer]]).await;
    let client = HttpClient::new();
    for _ in 0..3 {
        assert_eq!(ask(&client, Method::PUT, &url).await.unwrap(), 201);
    }
    // Three on the first connection, and the last of them once more.
    assert_eq!(*seen.lock().unwrap(), ["PUT /x?y HTTP/1.1"; 4]);
    let request = Request::get("ftp://x/").body(Bytes::new()).unwrap();
    assert!(client.send(request).await.is_err());
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again() {
    use Then::{Answer, Close};
    let (url, seen) = scripted(vec![vec![Answer, Close], vec![Answer]]).await;
    let client = HttpClient::new();
    assert_eq!(ask(&client, Method::POST, &url).await.unwrap(), 201);
    let error = ask(&client, Method::POST, &url).await.unwrap_err().to_string();
    assert!(error.contains("it is unknown whether the request arrived"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 2);
    // The next one has a connection of its own.
    assert_eq!(ask(&client, Method::POST, &url).await.unwrap(), 201);
}

#[tokio::test]
async fn a_connection_that_was_closed_before_is_replaced_for_every_method() {
    use Then::Answer;
    let (url, seen) = scripted(vec![vec![Answer]; 5]).await;
    let client = HttpClient::new();
    let idle = || {
        let idle = client.idle.lock().unwrap();
        idle.values().flatten().filter(|kept| !kept.sender.is_closed()).count()
    };
    for _ in 0..5 {
        assert_eq!(ask(&client, Method::POST, &url).await.unwrap(), 201);
        let deadline = Instant::now() + Duration::from_secs(10);
        while idle() > 0 {
            assert!(Instant::now() < deadline, "the end of the connection goes unseen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(*seen.lock().unwrap(), ["POST /x?y HTTP/1.1"; 5]);
}

#[tokio::test]
async fn an_old_connection_is_not_used_for_what_cannot_be_repeated() {
    use Then::Answer;
    let (url, _) = scripted(vec![vec![Answer, Answer], vec![Answer]]).await;
    let client = HttpClient::new();
    assert_eq!(ask(&client, Method::POST, &url).await.unwrap(), 201);
    let long_ago = || Instant::now().checked_sub(SURELY_OPEN * 2).unwrap();
    client.idle.lock().unwrap().values_mut().flatten().for_each(|kept| kept.since = long_ago());
    let key = Target::of(&url.parse().unwrap()).unwrap().key;
    assert!(client.take(&key, SURELY_OPEN).is_none());
    assert!(client.take(&key, Duration::MAX).is_some());
}

async fn proxied(url: &str, proxy: &str, insecure: bool) -> Result<Response<Bytes>, HttpError> {
    let json = serde_json::json!({"from": "url", "url": proxy});
    let route = Route::compile(Some(&json)).unwrap();
    let client = HttpClient::with(HttpOptions { route, insecure, ..HttpOptions::default() });
    client.send(Request::get(url).body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn proxies_that_read_requests() {
    let proxy = api(|_, _| Answer::new(200, "by proxy"));
    let url = proxy.url.replace("http://", "http://me:pass@");
    let answer = proxied("http://ca.test:81/dir?x", &url, false).await.unwrap();
    assert_eq!(&answer.body()[..], b"by proxy");
    let seen = proxy.seen();
    assert_eq!(seen[0].line(), "GET http://ca.test:81/dir?x");
    assert_eq!(seen[0].header("host"), "ca.test:81");
    assert_eq!(seen[0].header("proxy-authorization"), "Basic bWU6cGFzcw==");
}

/// A server with a certificate of its own making, behind a proxy that first has this dialogue:
/// what it waits for, what it says.
async fn behind(dialogue: &'static [(&'static [u8], &'static [u8])]) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                for (wanted, said) in dialogue {
                    let mut read = vec![0; wanted.len()];
                    stream.read_exact(&mut read).await.unwrap();
                    assert_eq!(&read, wanted, "{}", String::from_utf8_lossy(&read));
                    stream.write_all(said).await.unwrap();
                }
                // A client that does not trust it breaks off.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn proxies_that_connect() {
    let http = behind(&[(
        b"CONNECT ca.test:443 HTTP/1.1\r\nHost: ca.test:443\r\n\r\n",
        b"HTTP/1.1 200 Fine\r\n\r\n",
    )])
    .await;
    let socks = behind(&[
        (b"\x05\x01\x00", b"\x05\x00"),
        (b"\x05\x01\x00\x03\x07ca.test\x01\xbb", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
    ])
    .await;
    for proxy in [http.clone(), format!("socks5://{socks}")] {
        let answer = proxied("https://ca.test/", &proxy, true).await.unwrap();
        assert_eq!(&answer.body()[..], b"ok");
    }
    // Its certificate is of nobody's making.
    let error = proxied("https://ca.test/", &http, false).await.unwrap_err().to_string();
    assert!(error.starts_with("tls: ca.test: invalid peer certificate"), "{error}");
    let refusing = api(|_, _| Answer::new(407, ""));
    let error = proxied("https://ca.test/", &refusing.url, false).await.unwrap_err().to_string();
    let at = refusing.url.replace("http://", "");
    let want = format!("proxyconnect tcp: proxy {at}: CONNECT ca.test:443: 407");
    assert!(error.starts_with(&want), "{error}");
}

#[tokio::test]
async fn sockets() {
    let path = std::env::temp_dir().join(format!("caddis-http-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let route = Route::Socket(path.clone());
    let client = HttpClient::with(HttpOptions { route, ..HttpOptions::default() });
    let request = Request::get("http://local/x").body(Bytes::new()).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    let (answer, head) = tokio::join!(client.send(request), serve);
    assert!(answer.unwrap().status().is_success());
    assert!(head.starts_with("GET /x HTTP/1.1\r\nhost: local\r\n"), "{head}");
    let _ = std::fs::remove_file(&path);
    let request = Request::get("http://local/x").body(Bytes::new()).unwrap();
    let error =
        HttpClient::with(HttpOptions { route: Route::Socket(path), ..HttpOptions::default() });
    let error = error.send(request).await.unwrap_err().to_string();
    assert!(error.starts_with("dial unix: "), "{error}");
}

#[test]
fn routes_of_configurations() {
    let compile = |json: serde_json::Value| match Route::compile(Some(&json)) {
        Ok(Route::Environment) => "environment".to_owned(),
        Ok(Route::Direct) => "direct".to_owned(),
        Ok(Route::Proxy(proxy)) => proxy.host_port.clone(),
        Ok(Route::Socket(_)) => "socket".to_owned(),
        Err(error) => error.to_string(),
    };
    for (json, want) in [
        (serde_json::json!(null), "environment"),
        (serde_json::json!({"from": "none"}), "direct"),
        (serde_json::json!({"from": "url", "url": "socks5://p"}), "p:1080"),
        (serde_json::json!({"from": "x"}), "from: unknown module: caddy.network_proxy.x"),
    ] {
        assert_eq!(compile(json), want);
    }
    let error = compile(serde_json::json!({"from": "url", "url": "ftp://p"}));
    assert!(error.starts_with("url: ") && error.contains("scheme"), "{error}");
    assert!(compile(serde_json::json!({"from": "none", "x": 1})).contains('x'));
}

#[tokio::test]
async fn a_head_does_not_wait_for_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = [0; 1024];
        assert!(stream.read(&mut seen).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nx";
        stream.write_all(head).await.unwrap();
        // The client goes away instead of waiting for the rest.
        while stream.read(&mut seen).await.is_ok_and(|read| read > 0) {}
    });
    let client = HttpClient::new();
    let request = Request::get(format!("http://127.0.0.1:{port}/")).body(Bytes::new()).unwrap();
    let limit = Duration::from_secs(20);
    let head = tokio::time::timeout(limit, client.send_for_head(request)).await.unwrap().unwrap();
    assert!(head.status().is_success());
    tokio::time::timeout(limit, serving).await.unwrap().unwrap();
}
