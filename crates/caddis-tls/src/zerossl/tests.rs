use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use caddis_dns::testing::{Answer, Seen, Server, api};
use serde_json::{Value as Json, json};

use super::{Bought, ZeroSslConfig, compile_zerossl, issue};
use crate::{
    acme::{Challenges, Failure, Ports},
    storage::{FileSystem, Storage},
    testing::TempDir,
};

const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const FILE: &str = "http://a.test/.well-known/pki-validation/ABC123.txt";

fn config(url: &str, more: Json) -> ZeroSslConfig {
    let mut json = json!({ "api_key": "key&", "validity_days": 90 });
    for (key, value) in more.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    ZeroSslConfig {
        api: url.to_owned(),
        poll: Duration::from_millis(5),
        limit: Duration::from_secs(20),
        // A free port for the listener of the validation's own.
        http_port: 0,
        ..compile_zerossl(json, Ports::default()).unwrap()
    }
}

fn told(status: &str) -> Json {
    json!({
        "id": ID,
        "type": "1",
        "common_name": "a.test",
        "status": status,
        "validation": { "other_methods": { "a.test": {
            "file_validation_url_http": FILE,
            "file_validation_url_https": "https://a.test/.well-known/pki-validation/ABC123.txt",
            "file_validation_content": ["one", "comodoca.com", "three"],
            "cname_validation_p1": "_X.a.test",
            "cname_validation_p2": "y.comodoca.com",
        }}},
    })
}

/// What happens with the certificate of a test.
struct Course {
    challenges: Arc<Challenges>,
    storage: Arc<dyn Storage>,
    _dir: TempDir,
}

impl Course {
    fn new() -> Self {
        let dir = TempDir::new();
        let storage: Arc<dyn Storage> = Arc::new(FileSystem::new(dir.path()));
        Self { challenges: Arc::default(), storage, _dir: dir }
    }

    async fn run(&self, config: &ZeroSslConfig, name: &str) -> Result<Bought, Failure> {
        issue(config, name, b"csr", &self.challenges, &self.storage).await
    }

    fn stored(&self) -> Vec<String> {
        self.storage.list("zerossl/challenge_tokens").unwrap_or_default()
    }
}

/// The lines of the requests, without the key.
fn lines(server: &Server) -> Vec<String> {
    let short = |line: String| {
        assert!(line.ends_with("?access_key=key%26"), "{line}");
        line.replace("?access_key=key%26", "").replace(ID, "ID")
    };
    server.lines().into_iter().map(short).collect()
}

/// An API where all goes well, but for what `or` says about a request and the number of its kind.
fn course(or: impl Fn(&str, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    let counts = [(); 5].map(|()| AtomicUsize::new(0));
    api(move |seen: &Seen, _| {
        let path = seen.path.split('?').next().unwrap_or_default().replace(ID, "ID");
        let kinds = [
            "POST /certificates",
            "POST /certificates/ID/challenges",
            "GET /certificates/ID",
            "GET /certificates/ID/download/return",
            "POST /certificates/ID/cancel",
        ];
        let line = format!("{} {path}", seen.method);
        let kind = kinds.iter().position(|kind| *kind == line).expect("a known call");
        let count = counts[kind].fetch_add(1, Ordering::Relaxed);
        if let Some(answer) = or(&line, count) {
            return answer;
        }
        match kind {
            0 => Answer::new(200, told("draft")),
            1 => Answer::new(200, told("pending_validation")),
            2 if count < 2 => Answer::new(200, told("pending_validation")),
            2 => Answer::new(200, told("issued")),
            3 => Answer::new(200, json!({ "certificate.crt": "LEAF\n", "ca_bundle.crt": "CA" })),
            _ => Answer::new(200, json!({ "success": 1 })),
        }
    })
}

#[tokio::test]
async fn files_are_shown_until_it_is_issued() {
    let at = Course::new();
    let shown = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (seen, challenges) = (shown.clone(), at.challenges.clone());
    let other = Arc::new(Challenges::default());
    other.share(vec![(at.storage.clone(), vec![super::KEY.to_owned()])]);
    let elsewhere = other.clone();
    let runtime = tokio::runtime::Handle::current();
    let server = course(move |line, _| {
        if line.ends_with("/challenges") {
            // The authority looks, here and at another server on the storage.
            let (seen, runtime) = (seen.clone(), runtime.clone());
            let all = [challenges.clone(), elsewhere.clone()];
            runtime.spawn(async move {
                for one in all {
                    let path = "/.well-known/pki-validation/ABC123.txt";
                    let found = one.http_answer("A.test", path).await;
                    let none = one.http_answer("a.test", "/.well-known/pki-validation/x").await;
                    seen.lock().unwrap().push((found, none));
                }
            });
        }
        // The certificate waits until that was done.
        let waits = line == "GET /certificates/ID" && shown_less_than(&seen, 2);
        waits.then(|| Answer::new(200, told("pending_validation")))
    });
    let bought = at.run(&config(&server.url, json!({})), "a.test").await.unwrap();
    assert_eq!(bought.chain, "LEAF\nCA\n");
    assert_eq!(bought.about["status"], "issued");
    let found = Some("one\ncomodoca.com\nthree".to_owned());
    assert_eq!(*shown.lock().unwrap(), [(found.clone(), None), (found, None)]);
    let first = &server.seen()[0];
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(
        first.json(),
        json!({
            "certificate_domains": "a.test",
            "certificate_csr": "-----BEGIN CERTIFICATE REQUEST-----\nY3Ny\n-----END CERTIFICATE REQUEST-----",
            "certificate_validity_days": 90,
            "strict_domains": 1,
        })
    );
    let lines = lines(&server);
    assert_eq!(lines[..2], ["POST /certificates", "POST /certificates/ID/challenges"]);
    assert_eq!(lines.last().unwrap(), "GET /certificates/ID/download/return");
    assert_eq!(server.seen()[1].json(), json!({ "validation_method": "HTTP_CSR_HASH" }));
    // Nothing is left to be shown.
    let gone = at.challenges.http_answer("a.test", "/.well-known/pki-validation/ABC123.txt").await;
    assert_eq!(gone, None);
    for _ in 0..500 {
        if at.stored().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left in the storage: {:?}", at.stored());
}

type Shown = Arc<std::sync::Mutex<Vec<(Option<String>, Option<String>)>>>;

fn shown_less_than(shown: &Shown, count: usize) -> bool {
    shown.lock().unwrap().len() < count
}

/// Runs a course that fails: the error, whether the draft was canceled, the pause it asks for.
async fn fails(server: Server, more: Json, want: &str) -> (bool, Duration) {
    let at = Course::new();
    let error = at.run(&config(&server.url, more), "a.test").await.unwrap_err();
    assert!(error.to_string().contains(want), "{error}");
    assert!(!error.to_string().contains("key&") && !error.to_string().contains("key%26"));
    let canceled = lines(&server).iter().any(|line| line == "POST /certificates/ID/cancel");
    (canceled, error.at_least)
}

fn refusal(code: u32, kind: &str) -> Answer {
    Answer::new(200, json!({ "success": false, "error": { "code": code, "type": kind } }))
}

#[tokio::test]
async fn refusals_of_the_api() {
    let none = Duration::ZERO;
    let server = course(|_, _| Some(refusal(101, "invalid_access_key")));
    let want = "creating certificate: POST /certificates: HTTP 200: API error 101 \
                invalid_access_key (check the key of `zerossl`";
    assert_eq!(fails(server, json!({}), want).await, (false, none));

    let server = course(|_, _| Some(Answer::new(429, "slow down").header("Retry-After", "77")));
    let (_, pause) = fails(server, json!({}), "HTTP 429").await;
    assert_eq!(pause, Duration::from_secs(77));
    let server = course(|_, _| Some(refusal(104, "usage_limit_reached")));
    let (_, pause) = fails(server, json!({}), "usage_limit_reached").await;
    assert_eq!(pause, Duration::from_secs(900));

    let server = course(|_, _| Some(Answer::new(200, "<html>")));
    assert_eq!(fails(server, json!({}), "the answer is no JSON").await, (false, none));
    let server = course(|_, _| Some(Answer::new(200, json!({ "id": "../x" }))));
    assert_eq!(fails(server, json!({}), "no id of a certificate").await, (false, none));
}

#[tokio::test]
async fn drafts_are_canceled() {
    let none = Duration::ZERO;
    // The file was not found.
    let server = course(|line, _| {
        line.ends_with("/challenges").then(|| {
            let details = json!({ "a.test": { FILE: { "file_found": 0, "error_info": "not there" } } });
            let error = json!({ "code": 0, "type": "domain_control_validation_failed", "details": details });
            Answer::new(200, json!({ "success": false, "error": error }))
        })
    });
    let want = "verifying identifiers: POST /certificates/0a1b2c3d4e5f60718293a4b5c6d7e8f9/challenges: \
                HTTP 200: API error 0 domain_control_validation_failed; a.test \
                http://a.test/.well-known/pki-validation/ABC123.txt: not there";
    assert_eq!(fails(server, json!({}), want).await, (true, none));
    // Somebody canceled it.
    let server = course(|line, _| {
        (line == "GET /certificates/ID").then(|| Answer::new(200, told("cancelled")))
    });
    let want = "unexpected certificate status: cancelled";
    assert_eq!(fails(server, json!({}), want).await, (true, none));
    // It cannot be downloaded, nor canceled.
    let server = course(|line, _| match line {
        "GET /certificates/ID/download/return" => Some(Answer::new(404, "")),
        "POST /certificates/ID/cancel" => Some(refusal(2831, "certificate_not_cancellable")),
        _ => None,
    });
    assert_eq!(fails(server, json!({}), "downloading certificate").await, (true, none));
    // Validation never comes.
    let server = course(|line, _| {
        (line == "GET /certificates/ID").then(|| Answer::new(200, told("pending_validation")))
    });
    let at = Course::new();
    let limit = Duration::from_millis(200);
    let impatient = ZeroSslConfig { limit, ..config(&server.url, json!({})) };
    let error = at.run(&impatient, "a.test").await.unwrap_err();
    assert!(error.to_string().contains("to be issued: timeout"), "{error}");
    assert_eq!(lines(&server).last().unwrap(), "POST /certificates/ID/cancel");
}

#[tokio::test]
async fn a_server_in_trouble() {
    // A bad moment while waiting does not matter.
    let server = course(|line, count| {
        (line == "GET /certificates/ID" && count < 4).then(|| Answer::new(502, "bad moment"))
    });
    let at = Course::new();
    let bought = at.run(&config(&server.url, json!({})), "a.test").await;
    assert_eq!(bought.unwrap().chain, "LEAF\nCA\n");
    // More than a moment does.
    let server =
        course(|line, _| (line == "GET /certificates/ID").then(|| Answer::new(502, "bad moment")));
    assert!(fails(server, json!({}), "HTTP 502").await.0);
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = at.run(&config(&gone, json!({})), "a.test").await.unwrap_err();
    assert!(error.to_string().contains("POST /certificates: dial tcp"), "{error}");
}

#[tokio::test]
async fn aliases_go_to_the_provider() {
    let dir = TempDir::new();
    let log = dir.path().join("log");
    let script = format!("echo \"$@\" >>{}", log.display());
    let provider = json!({ "name": "exec", "command": ["sh", "-c", script, "sh"] });
    let more = json!({ "cname_validation": {
        "provider": provider,
        "propagation_timeout": -1,
        "resolvers": [names().await],
    }});
    let server = course(|_, _| None);
    let at = Course::new();
    at.run(&config(&server.url, more), "*.a.test").await.unwrap();
    assert_eq!(server.seen()[1].json(), json!({ "validation_method": "CNAME_CSR_HASH" }));
    let log = std::fs::read_to_string(&log).unwrap();
    let want =
        "present-cname _x.a.test. y.comodoca.com.\ncleanup-cname _x.a.test. y.comodoca.com.\n";
    assert_eq!(log, want);
    // Without a provider there is no way for wildcards.
    let error = at.run(&config(&server.url, json!({})), "*.a.test").await.unwrap_err();
    assert!(error.to_string().contains("need validation by CNAME"), "{error}");
}

/// A name server that says `a.test` is a zone.
async fn names() -> String {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (read, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = &buffer[..read];
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let zone = question[12..end].starts_with(b"\x01a\x04test\0");
            let mut answer = question[..end].to_vec();
            answer[2] |= 0x80;
            answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(zone), 0, 0, 0, 0]);
            if zone {
                // SOA: two root names and five numbers.
                answer.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22]);
                answer.extend([0; 22]);
            } else {
                answer[3] |= 3;
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

#[test]
fn settings() {
    let compile = |json: Json| compile_zerossl(json, Ports { http: 8080, https: 8443 });
    let config = compile(json!({ "api_key": "{env.CARGO_PKG_NAME}" })).unwrap();
    assert_eq!((config.api_key.as_str(), config.http_port), ("caddis-tls", 8080));
    let port = compile(json!({ "api_key": "k", "alternate_http_port": 81 })).unwrap();
    assert_eq!(port.http_port, 81);
    // Resolvers without a provider are no validation by CNAME.
    let only = json!({ "api_key": "k", "cname_validation": { "resolvers": ["x"] } });
    assert_eq!(compile(only).unwrap().cname, None);
    for (json, path) in [
        (json!({}), "api_key"),
        (json!({ "api_key": "{env.NO_SUCH_VARIABLE}" }), "api_key"),
        (json!({ "api_key": "k", "alternate_http_port": 70_000 }), "alternate_http_port"),
        (json!({ "api_key": "k", "x": 1 }), ""),
        (
            json!({ "api_key": "k", "cname_validation": { "provider": { "name": "x" } } }),
            "cname_validation",
        ),
    ] {
        let error = compile(json).unwrap_err();
        assert!(error.path.starts_with(path), "{error}");
    }
}
