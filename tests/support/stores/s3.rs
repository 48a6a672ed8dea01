//! S3 in this process: objects in memory, signatures checked.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::{Store, s3_option};

/// An S3 service in this process: objects in memory, SigV4 checked, conditional writes.
pub struct S3 {
    shared: Arc<Shared>,
    pub port: u16,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Object>>,
    tags: AtomicU64,
    down: AtomicBool,
    frozen: AtomicBool,
    full: AtomicBool,
    /// Conditions are not kept, as by older services.
    careless: AtomicBool,
}

struct Object {
    content: Vec<u8>,
    tag: String,
    modified: SystemTime,
}

impl S3 {
    pub const ID: &'static str = "AKIDTESTS";
    pub const SECRET: &'static str = "wJalr/XUtn+FEMI";
    /// The region that it is in; others are told so.
    pub const REGION: &'static str = "eu-tests-1";

    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            tags: AtomicU64::new(1),
            down: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            full: AtomicBool::new(false),
            careless: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { shared, port }
    }

    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn content(&self, key: &str) -> Option<Vec<u8>> {
        Some(self.shared.objects.lock().unwrap().get(key)?.content.clone())
    }

    pub fn fill(&self, full: bool) {
        self.shared.full.store(full, Ordering::Relaxed);
    }

    pub fn careless(&self) {
        self.shared.careless.store(true, Ordering::Relaxed);
    }
}

impl Store for S3 {
    fn option(&self, lines: &str) -> String {
        s3_option(self.port, lines)
    }

    fn down(&mut self) {
        self.shared.down.store(true, Ordering::Relaxed);
    }

    fn up(&mut self) {
        self.shared.down.store(false, Ordering::Relaxed);
    }

    fn freeze(&self, frozen: bool) {
        self.shared.frozen.store(frozen, Ordering::Relaxed);
    }
}

struct Asked {
    method: String,
    path: String,
    query: String,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(asked) = read_request(&mut stream) {
            if self.down.load(Ordering::Relaxed) {
                return;
            }
            while self.frozen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (status, headers, body) = self.answer(&asked);
            let mut text = format!(
                "HTTP/1.1 {status} X\r\nDate: {}\r\nContent-Length: {}\r\n",
                http_date(SystemTime::now()),
                body.len()
            );
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
            let mut out = text.into_bytes();
            if asked.method != "HEAD" {
                out.extend(body);
            }
            if stream.get_mut().write_all(&out).is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        if let Err((status, code)) = verify(asked) {
            let region = S3::REGION;
            let body = format!(
                "<Error><Code>{code}</Code><Message>no</Message><Region>{region}</Region></Error>"
            );
            let fields = vec![("x-amz-bucket-region", region.to_owned())];
            return (status, fields, body.into_bytes());
        }
        let error = |status: u16, code: &str| {
            let body = format!("<Error><Code>{code}</Code></Error>");
            (status, Vec::new(), body.into_bytes())
        };
        let path = decoded(&asked.path);
        let Some(key) = path.strip_prefix("/certs/") else { return error(404, "NoSuchBucket") };
        let mut objects = self.objects.lock().unwrap();
        let found = objects.get(key);
        let fields = |object: &Object| {
            vec![("ETag", object.tag.clone()), ("Last-Modified", http_date(object.modified))]
        };
        match asked.method.as_str() {
            "GET" if key.is_empty() => {
                let parameter = |name: &str| {
                    let mut pairs = asked.query.split('&').filter_map(|pair| pair.split_once('='));
                    pairs.find(|(known, _)| *known == name).map(|(_, value)| decoded(value))
                };
                assert_eq!(parameter("list-type").as_deref(), Some("2"));
                let prefix = parameter("prefix").unwrap_or_default();
                let delimiter = parameter("delimiter");
                let after = parameter("continuation-token").unwrap_or_default();
                let mut items = std::collections::BTreeSet::new();
                for key in objects.keys().filter(|key| key.starts_with(&prefix)) {
                    let rest = &key[prefix.len()..];
                    match delimiter.as_ref().and_then(|delimiter| rest.find(delimiter.as_str())) {
                        Some(at) => items.insert(key[..prefix.len() + at + 1].to_owned()),
                        None => items.insert(key.clone()),
                    };
                }
                // Short pages, so that going on is tested.
                let left: Vec<&String> = items.iter().filter(|item| **item > after).collect();
                let mut body = "<ListBucketResult><EncodingType>url</EncodingType>".to_owned();
                for item in left.iter().take(3) {
                    let shown = encoded(item, true);
                    body.push_str(&if item.ends_with('/') {
                        format!("<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>")
                    } else {
                        format!("<Contents><Key>{shown}</Key><Size>1</Size></Contents>")
                    });
                }
                if left.len() > 3 {
                    body.push_str(&format!(
                        "<NextContinuationToken>{}</NextContinuationToken>",
                        left[2]
                    ));
                }
                body.push_str("</ListBucketResult>");
                (200, Vec::new(), body.into_bytes())
            }
            "GET" | "HEAD" => match found {
                Some(object) => (200, fields(object), object.content.clone()),
                None => error(404, "NoSuchKey"),
            },
            "PUT" => {
                if !self.careless.load(Ordering::Relaxed) {
                    let absent = asked.headers.get("if-none-match").is_some_and(|tag| tag == "*");
                    let wanted = asked.headers.get("if-match");
                    match (found, wanted) {
                        (Some(_), _) if absent => return error(412, "PreconditionFailed"),
                        (None, Some(_)) => return error(404, "NoSuchKey"),
                        (Some(object), Some(tag)) if object.tag != *tag => {
                            return error(412, "PreconditionFailed");
                        }
                        _ => {}
                    }
                }
                if self.full.load(Ordering::Relaxed) {
                    return error(507, "QuotaExceeded");
                }
                let tag = format!("\"{:x}\"", self.tags.fetch_add(1, Ordering::Relaxed));
                let modified = SystemTime::now();
                let object = Object { content: asked.body.clone(), tag: tag.clone(), modified };
                objects.insert(key.to_owned(), object);
                (200, vec![("ETag", tag)], Vec::new())
            }
            "DELETE" => {
                objects.remove(key);
                (204, Vec::new(), Vec::new())
            }
            _ => error(405, "MethodNotAllowed"),
        }
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { method, path, query, headers, body })
}

/// Checks the signature as Amazon's documentation says ("Signature Version 4").
fn verify(asked: &Asked) -> Result<(), (u16, &'static str)> {
    let denied = (403, "SignatureDoesNotMatch");
    let header = |name: &str| asked.headers.get(name).cloned().ok_or((403, "AccessDenied"));
    let authorization = header("authorization")?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(denied)?;
    let field = |name: &str| {
        let mut fields = rest.split(", ").filter_map(|field| field.split_once('='));
        fields.find(|(known, _)| *known == name).map(|(_, value)| value).ok_or(denied)
    };
    let (credential, signed, signature) =
        (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [id, day, region, "s3", "aws4_request"] = scope[..] else { return Err(denied) };
    if id != S3::ID {
        return Err((403, "InvalidAccessKeyId"));
    }
    if region != S3::REGION {
        return Err((400, "AuthorizationHeaderMalformed"));
    }
    let hash = header("x-amz-content-sha256")?;
    if hash != hex(&Sha256::digest(&asked.body)) {
        return Err((400, "XAmzContentSHA256Mismatch"));
    }
    let date = header("x-amz-date")?;
    assert!(date.starts_with(day) && signed.split(';').any(|name| name == "host"));
    let mut query: Vec<String> = asked
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encoded(&decoded(name), false), encoded(&decoded(value), false))
        })
        .collect();
    query.sort();
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        asked.method,
        encoded(&decoded(&asked.path), true),
        query.join("&")
    );
    for name in signed.split(';') {
        canonical.push_str(&format!("{name}:{}\n", header(name)?));
    }
    canonical.push_str(&format!("\n{signed}\n{hash}"));
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/s3/aws4_request\n{}",
        hex(&Sha256::digest(&canonical))
    );
    let mut key = hmac(format!("AWS4{}", S3::SECRET).as_bytes(), day.as_bytes());
    for part in [region, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    if hex(&hmac(&key, text.as_bytes())) == signature { Ok(()) } else { Err(denied) }
}

/// RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text);
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(text: &str, slashes: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            b'/' if slashes => "/".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        weekdays[(days % 7) as usize],
        months[month as usize - 1],
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}
