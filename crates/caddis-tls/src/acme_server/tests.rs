use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use caddis_core::{CompileCx, Exchange, Handler, Next, Registry, Response, RouteList, State};
use http::Method;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::{AcmeServers, MODULE};
use crate::{
    certificate::{Facts, parse_chain},
    pki::Pki,
    storage::FileSystem,
    testing::TempDir,
};

const BASE: &str = "https://ca.test/acme/local/";

/// A server, spoken to without sockets, and a client with a key.
struct Fixture {
    handler: Handler,
    _state: State,
    _folder: TempDir,
    key: EcdsaKeyPair,
    kid: Option<String>,
}

fn key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn jwk(key: &EcdsaKeyPair) -> Json {
    let point = key.public_key().as_ref();
    json!({ "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
}

fn sign(key: &EcdsaKeyPair, header: &Json, payload: &str) -> Json {
    let (protected, payload) = (b64(header.to_string()), b64(payload));
    let message = format!("{protected}.{payload}");
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    json!({ "protected": protected, "payload": payload, "signature": b64(signature) })
}

fn registry() -> Registry {
    Registry {
        directives: Vec::new(),
        handlers: vec![&MODULE],
        matchers: Vec::new(),
        other_ids: Vec::new(),
        parse_routes: |_| Ok(Vec::new()),
    }
}

struct Answer {
    status: u16,
    response: Response,
    text: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> String {
        let value = self.response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }

    /// The last part of the problem's type.
    fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

impl Fixture {
    fn new(mut config: Json) -> Self {
        let folder = TempDir::new();
        let storage = Arc::new(FileSystem::new(folder.path().to_owned()));
        let (state, registry) = (State::default(), registry());
        config["handler"] = "acme_server".into();
        let mut cx = CompileCx::new(&registry, &state, Arc::default());
        let handler = (MODULE.compile)(&config, &mut cx).unwrap();
        AcmeServers::bind(&state, &Arc::new(Pki::new(storage)), &[]).unwrap();
        Self { handler, _state: state, _folder: folder, key: key(), kid: None }
    }

    async fn send(&self, method: Method, url: &str, kind: &str, body: String) -> Answer {
        let path = url.strip_prefix("https://ca.test").unwrap_or(url);
        let mut ex = Exchange::for_test(path);
        ex.request.method = method;
        ex.request.host = "ca.test".into();
        ex.request.body = body.into();
        ex.request.headers.insert("content-type", kind.parse().unwrap());
        let Handler::Middleware(handler) = &self.handler else { panic!() };
        let rest = RouteList { routes: Vec::new() };
        let response = handler.handle(&mut ex, Next::new(&rest, None)).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect(1 << 20).await.unwrap().to_vec()).unwrap();
        let response = Response::from_parts(parts, caddis_core::Body::Empty);
        Answer { status: response.status().as_u16(), response, text }
    }

    async fn nonce(&self) -> String {
        let url = format!("{BASE}new-nonce");
        let answer = self.send(Method::HEAD, &url, "", String::new()).await;
        assert_eq!((answer.status, answer.header("cache-control").as_str()), (200, "no-store"));
        answer.header("replay-nonce")
    }

    async fn header(&self, url: &str) -> Json {
        let mut header = json!({ "alg": "ES256", "nonce": self.nonce().await, "url": url });
        match &self.kid {
            Some(kid) => header["kid"] = kid.as_str().into(),
            None => header["jwk"] = jwk(&self.key),
        }
        header
    }

    async fn raw(&self, url: &str, body: Json) -> Answer {
        self.send(Method::POST, url, "application/jose+json", body.to_string()).await
    }

    /// A signed request; the payload empty is POST-as-GET.
    async fn post(&self, url: &str, payload: &str) -> Answer {
        let header = self.header(url).await;
        self.raw(url, sign(&self.key, &header, payload)).await
    }

    async fn register(&mut self) {
        let wish = json!({ "contact": ["mailto:me@a.test"], "termsOfServiceAgreed": true });
        let answer = self.post(&format!("{BASE}new-account"), &wish.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        self.kid = Some(answer.header("location"));
    }

    async fn order(&self, kind: &str, names: &[&str]) -> Answer {
        let identifiers: Vec<Json> =
            names.iter().map(|name| json!({ "type": kind, "value": name })).collect();
        let wish = json!({ "identifiers": identifiers }).to_string();
        self.post(&format!("{BASE}new-order"), &wish).await
    }

    /// The key authorization of a token.
    fn authorization(&self, token: &str) -> String {
        let jwk = super::jws::Jwk::parse(&jwk(&self.key)).unwrap();
        format!("{token}.{}", jwk.thumbprint())
    }

    /// Waits until a resource is no longer under way.
    async fn settled(&self, url: &str) -> Json {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let json = self.post(url, "").await.json();
            let status = json["status"].as_str().unwrap_or_default();
            if !["pending", "processing"].contains(&status) {
                return json;
            }
            assert!(Instant::now() < end, "{json}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The challenge of this kind of an order's only authorization, and the authorization's URL.
    async fn challenge(&self, order: &Json, kind: &str) -> (Json, String) {
        let url = order["authorizations"][0].as_str().unwrap().to_owned();
        let authorization = self.post(&url, "").await.json();
        let challenges = authorization["challenges"].as_array().unwrap().iter();
        let challenge = challenges.into_iter().find(|one| one["type"] == kind).cloned();
        (challenge.unwrap_or_else(|| panic!("{authorization}")), url)
    }
}

fn request_for(names: &[&str]) -> (String, rcgen::KeyPair) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (b64(params.serialize_request(&pair).unwrap().der()), pair)
}

#[tokio::test]
async fn accounts_live_and_end() {
    let mut fixture = Fixture::new(json!({}));
    let new = format!("{BASE}new-account");
    let only = r#"{"onlyReturnExisting":true}"#;
    assert_eq!(fixture.post(&new, only).await.problem(), "accountDoesNotExist");
    let phone = r#"{"contact":["tel:1"]}"#;
    assert_eq!(fixture.post(&new, phone).await.problem(), "unsupportedContact");
    fixture.register().await;
    let kid = fixture.kid.take().unwrap();
    let again = fixture.post(&new, only).await;
    assert_eq!((again.status, again.header("location")), (200, kid.clone()));
    fixture.kid = Some(kid.clone());
    let changed = fixture.post(&kid, r#"{"contact":["mailto:you@a.test"]}"#).await.json();
    assert_eq!(changed["contact"][0], "mailto:you@a.test");
    // A change of the key: the old one is of no use afterwards.
    let (url, fresh) = (format!("{BASE}key-change"), key());
    let inner = json!({ "alg": "ES256", "url": url, "jwk": jwk(&fresh) });
    let wish = json!({ "account": kid, "oldKey": jwk(&fixture.key) }).to_string();
    let inner = sign(&fresh, &inner, &wish).to_string();
    assert_eq!(fixture.post(&url, &inner).await.status, 200);
    assert_eq!(fixture.post(&kid, "").await.status, 401);
    fixture.key = fresh;
    assert_eq!(fixture.post(&kid, "").await.json()["status"], "valid");
    let gone = fixture.post(&kid, r#"{"status":"deactivated"}"#).await.json();
    assert_eq!(gone["status"], "deactivated");
    assert_eq!(fixture.post(&kid, "").await.problem(), "unauthorized");
}

#[tokio::test]
async fn requests_that_are_refused() {
    let mut fixture = Fixture::new(json!({}));
    let directory = format!("{BASE}directory");
    let directory = fixture.send(Method::GET, &directory, "", String::new()).await.json();
    assert_eq!(directory["newOrder"], format!("{BASE}new-order"));
    let url = format!("{BASE}new-account");
    // A bad nonce is answered with a good one.
    let mut header = fixture.header(&url).await;
    header["nonce"] = "bad".into();
    let answer = fixture.raw(&url, sign(&fixture.key, &header, "{}")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "badNonce"));
    header["nonce"] = answer.header("replay-nonce").into();
    let body = sign(&fixture.key, &header, "{}");
    assert_eq!(fixture.raw(&url, body.clone()).await.status, 201);
    assert_eq!(fixture.raw(&url, body).await.problem(), "badNonce", "a replay");
    // Another signature, another URL, another algorithm, another content type.
    let mut body = sign(&fixture.key, &fixture.header(&url).await, "{}");
    body["payload"] = b64("{ }").into();
    assert_eq!(fixture.raw(&url, body).await.problem(), "unauthorized");
    let mut header = fixture.header(&url).await;
    header["url"] = "https://other.test/".into();
    let answer = fixture.raw(&url, sign(&fixture.key, &header, "{}")).await;
    assert_eq!(answer.problem(), "unauthorized");
    header["alg"] = "none".into();
    let answer = fixture.raw(&url, sign(&fixture.key, &header, "{}")).await;
    assert_eq!(answer.problem(), "badSignatureAlgorithm");
    let plain = fixture.send(Method::POST, &url, "application/json", "{}".into()).await;
    assert_eq!(plain.status, 415);
    assert_eq!(fixture.send(Method::GET, &url, "", String::new()).await.status, 405);
    fixture.register_existing(&url).await;
    assert_eq!(fixture.post(&format!("{BASE}order/none"), "").await.status, 404);
    let other = fixture.post(&format!("{BASE}account/other"), "").await;
    assert_eq!(other.problem(), "unauthorized");
    fixture.kid = Some(format!("{BASE}account/..%2f..%2fx"));
    let odd = fixture.post(&format!("{BASE}new-order"), "{}").await;
    assert_eq!(odd.problem(), "accountDoesNotExist");
    // What is not below the prefix is somebody else's.
    let passed = fixture.send(Method::GET, "/other", "", String::new()).await;
    assert_eq!((passed.status, passed.header("replay-nonce").as_str()), (200, ""));
}

impl Fixture {
    async fn register_existing(&mut self, url: &str) {
        let answer = self.post(url, "{}").await;
        self.kid = Some(answer.header("location"));
    }
}

#[tokio::test]
async fn names_that_are_refused() {
    let policy =
        json!({ "allow": { "domains": ["*.a.test"] }, "deny": { "domains": ["x.a.test"] } });
    let mut fixture = Fixture::new(json!({ "policy": policy, "challenges": ["http-01"] }));
    fixture.register().await;
    for (kind, name, problem) in [
        ("dns", "x.a.test", "rejectedIdentifier"),
        ("dns", "b.test", "rejectedIdentifier"),
        ("dns", "*.a.test", "rejectedIdentifier"),
        ("dns", "../x", "rejectedIdentifier"),
        ("ip", "127.0.0.1", "rejectedIdentifier"),
        ("ip", "x", "malformed"),
        ("email", "x", "unsupportedIdentifier"),
    ] {
        assert_eq!(fixture.order(kind, &[name]).await.problem(), problem, "{name}");
    }
    let order = fixture.order("dns", &["Y.a.test"]).await;
    assert_eq!((order.status, order.json()["status"].as_str()), (201, Some("pending")));
    let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenges = fixture.post(&url, "").await.json()["challenges"].clone();
    assert_eq!(challenges.as_array().map(Vec::len), Some(1));
    let (request, _) = request_for(&["y.a.test"]);
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    let early = fixture.post(&finalize, &json!({ "csr": request }).to_string()).await;
    assert_eq!(early.problem(), "orderNotReady");
    assert_eq!(fixture.post(&finalize, r#"{"csr":"AAAA"}"#).await.problem(), "badCSR");
}

/// A listener that answers each connection with what a function makes of the request.
fn http_host(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 2048];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            let text = answer(&String::from_utf8_lossy(&buffer[..read]));
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn a_certificate_by_http_01() {
    let thumbprint = Arc::new(std::sync::OnceLock::<String>::new());
    let known = thumbprint.clone();
    let port = http_host(move |request| {
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let token = path.rsplit('/').next().unwrap_or_default();
        if path.starts_with("/.well-known") {
            return format!("HTTP/1.1 302 Found\r\nLocation: /moved/{token}\r\n\r\n");
        }
        let body = format!("{token}.{}\n", known.get().map_or("", String::as_str));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let mut fixture = Fixture::new(json!({ "validation_ports": { "http": port } }));
    thumbprint.set(fixture.authorization("").trim_start_matches('.').to_owned()).unwrap();
    fixture.register().await;
    let placed = fixture.order("ip", &["127.0.0.1"]).await;
    let order = placed.header("location");
    let (challenge, authorization) = fixture.challenge(&placed.json(), "http-01").await;
    let begun = fixture.post(challenge["url"].as_str().unwrap(), "{}").await;
    assert_eq!(begun.json()["status"], "processing", "{}", begun.text);
    assert_eq!(fixture.settled(&authorization).await["status"], "valid");
    assert_eq!(fixture.post(&order, "").await.json()["status"], "ready");
    let finalize = placed.json()["finalize"].as_str().unwrap().to_owned();
    let (other, _) = request_for(&["127.0.0.2"]);
    let refused = fixture.post(&finalize, &json!({ "csr": other }).to_string()).await;
    assert_eq!(refused.problem(), "badCSR");
    let (request, pair) = request_for(&["127.0.0.1"]);
    let done = fixture.post(&finalize, &json!({ "csr": request }).to_string()).await;
    assert_eq!(done.json()["status"], "valid", "{}", done.text);
    let url = done.json()["certificate"].as_str().unwrap().to_owned();
    let chain = fixture.post(&url, "").await;
    assert_eq!(chain.header("content-type"), "application/pem-certificate-chain");
    let chain = parse_chain(chain.text.as_bytes()).unwrap();
    let facts = Facts::parse(&chain[0]).unwrap();
    assert_eq!((facts.names, chain.len()), (vec!["127.0.0.1".to_owned()], 2));
    let life = facts.not_after - facts.not_before;
    assert!((12 * 3_600 - 5..=12 * 3_600 + 5).contains(&life), "{life}");
    // Another account may not revoke it, its key may.
    let wish = json!({ "certificate": b64(&chain[0]), "reason": 1 }).to_string();
    let revoke = format!("{BASE}revoke-cert");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der());
    let (own_key, kid) = (std::mem::replace(&mut fixture.key, key()), fixture.kid.take());
    fixture.register().await;
    assert_eq!(fixture.post(&revoke, &wish).await.problem(), "unauthorized");
    (fixture.key, fixture.kid) = (pair.unwrap(), None);
    assert_eq!(fixture.post(&revoke, &wish).await.status, 200);
    (fixture.key, fixture.kid) = (own_key, kid);
    assert_eq!(fixture.post(&revoke, &wish).await.problem(), "alreadyRevoked");
}

#[tokio::test]
async fn a_wrong_answer_ends_the_order() {
    let port = http_host(|_| "HTTP/1.0 200 OK\r\n\r\nnonsense".to_owned());
    let mut fixture = Fixture::new(json!({ "validation_ports": { "http": port } }));
    fixture.register().await;
    let placed = fixture.order("ip", &["127.0.0.1"]).await;
    let (challenge, authorization) = fixture.challenge(&placed.json(), "http-01").await;
    let url = challenge["url"].as_str().unwrap();
    fixture.post(url, "{}").await;
    assert_eq!(fixture.settled(&authorization).await["status"], "invalid");
    let failed = fixture.post(url, "").await.json();
    assert_eq!(failed["error"]["type"], "urn:ietf:params:acme:error:unauthorized");
    let order = fixture.post(&placed.header("location"), "").await.json();
    assert_eq!(order["status"], "invalid");
}

/// A name server that knows `x.test` and one text.
async fn name_server(text: Arc<std::sync::Mutex<String>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut buffer).await {
            let asked = &buffer[..read];
            let end = 12 + asked[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let data: Option<Vec<u8>> = match asked[end - 3] {
                1 => Some(vec![127, 0, 0, 1]),
                16 => {
                    let text = text.lock().unwrap().clone();
                    let record = [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
                    Some(record)
                }
                _ => None,
            };
            let mut out = asked[..2].to_vec();
            out.extend([0x81, 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
            out.extend(&asked[12..end]);
            if let Some(data) = data {
                out.extend([0xc0, 12]);
                out.extend(&asked[end - 4..end - 2]);
                out.extend([0, 1, 0, 0, 0, 9, 0, u8::try_from(data.len()).unwrap()]);
                out.extend(data);
            }
            let _ = socket.send_to(&out, from).await;
        }
    });
    address
}

#[tokio::test]
async fn a_wildcard_by_dns_01() {
    let text = Arc::new(std::sync::Mutex::new("not yet".to_owned()));
    let resolver = name_server(text.clone()).await.to_string();
    let mut fixture = Fixture::new(json!({ "resolvers": [resolver] }));
    fixture.register().await;
    let placed = fixture.order("dns", &["*.x.test"]).await;
    let (challenge, authorization) = fixture.challenge(&placed.json(), "dns-01").await;
    let shown = fixture.post(&authorization, "").await.json();
    assert_eq!(
        (&shown["wildcard"], &shown["identifier"]["value"]),
        (&json!(true), &json!("x.test"))
    );
    fixture.post(challenge["url"].as_str().unwrap(), "{}").await;
    // A record that comes a moment later is found, too.
    let digest = Sha256::digest(fixture.authorization(challenge["token"].as_str().unwrap()));
    *text.lock().unwrap() = b64(digest);
    assert_eq!(fixture.settled(&authorization).await["status"], "valid");
    let (request, _) = request_for(&["*.x.test"]);
    let finalize = placed.json()["finalize"].as_str().unwrap().to_owned();
    let done = fixture.post(&finalize, &json!({ "csr": request }).to_string()).await;
    assert_eq!(done.json()["status"], "valid", "{}", done.text);
}

#[tokio::test]
async fn a_name_by_tls_alpn_01() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let resolver = name_server(Arc::default()).await.to_string();
    let config = json!({ "resolvers": [resolver], "validation_ports": { "https": port } });
    let mut fixture = Fixture::new(config);
    fixture.register().await;
    for (name, status) in [("x.test", "valid"), ("other.test", "invalid")] {
        let placed = fixture.order("dns", &[name]).await;
        let (challenge, authorization) = fixture.challenge(&placed.json(), "tls-alpn-01").await;
        // A certificate with the digest, always for the same name.
        let token = challenge["token"].as_str().unwrap();
        let digest = Sha256::digest(fixture.authorization(token));
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["x.test".to_owned()]).unwrap();
        params.custom_extensions.push(rcgen::CustomExtension::new_acme_identifier(&digest));
        let chain = vec![params.self_signed(&pair).unwrap().der().clone()];
        let der =
            rustls_pki_types::PrivateKeyDer::try_from(pair.serialized_der().to_vec()).unwrap();
        let signer = crate::certificate::provider().key_provider.load_private_key(der).unwrap();
        let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, signer));
        let mut config =
            rustls::ServerConfig::builder_with_provider(crate::certificate::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        fixture.post(challenge["url"].as_str().unwrap(), "{}").await;
        let (stream, _) = listener.accept().await.unwrap();
        let _ = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        assert_eq!(fixture.settled(&authorization).await["status"], status, "{name}");
    }
}

#[test]
fn settings_that_cannot_be() {
    let (state, registry) = (State::default(), registry());
    for (config, place) in [
        (json!({ "challenges": ["x"] }), "challenges.0"),
        (json!({ "path_prefix": "acme" }), "path_prefix"),
        (json!({ "policy": { "deny": { "ip_ranges": ["x"] } } }), "policy.deny.ip_ranges.0"),
        (json!({ "ca": "../x" }), "ca"),
    ] {
        let mut cx = CompileCx::new(&registry, &state, Arc::default());
        let error = (MODULE.compile)(&config, &mut cx).err().unwrap();
        assert_eq!(error.path, place);
    }
    let folder = TempDir::new();
    let pki = Arc::new(Pki::new(Arc::new(FileSystem::new(folder.path().to_owned()))));
    for (config, text) in [
        (json!({ "lifetime": "30d" }), "should be less than"),
        (json!({ "ca": "other" }), "no certificate authority configured with id: other"),
    ] {
        let mut cx = CompileCx::new(&registry, &state, Arc::default());
        let _handler = (MODULE.compile)(&config, &mut cx).unwrap();
        let error = AcmeServers::bind(&state, &pki, &[]).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
