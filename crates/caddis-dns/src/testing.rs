//! A scripted HTTP API for tests, of this crate and of others (feature `testing`).

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "it is for tests alone")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    Alias, DnsProvider, NameRecords, ServiceBinding, ServiceRecord, TxtRecord, query::Reader,
};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, …
    pub method: String,
    /// With the query.
    pub path: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Seen {
    /// A header field, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// `GET /path?query`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What to answer.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    /// A status with a body.
    pub fn new(status: u16, body: impl ToString) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }

    /// The same with a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The server; it ends with the test's runtime.
#[derive(Debug)]
pub struct Server {
    /// Its URL, without a slash at the end.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Their methods and paths.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

/// Starts a server on 127.0.0.1; `answer` gets each request and how many came before it.
pub fn api<F>(answer: F) -> Server
where
    F: Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (all, answer) = (seen.clone(), Arc::new(answer));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (all, answer) = (all.clone(), answer.clone());
            tokio::spawn(async move { serve(stream, &all, &*answer).await });
        }
    });
    Server { url, seen }
}

/// The same for an API that has all values of a name in one: `answer` gets them to read and change.
pub fn api_of_values<F>(values: &[&str], answer: F) -> Server
where
    F: Fn(&Seen, &mut Vec<String>) -> Answer + Send + Sync + 'static,
{
    let values = Mutex::new(values.iter().map(|value| (*value).to_owned()).collect());
    api(move |seen, _| answer(seen, &mut values.lock().unwrap()))
}

/// Adds the values `ours` and `there` (which is to be there already) to `_acme-challenge`, and takes
/// `ours` away again, twice.
pub async fn change_beside(provider: &dyn DnsProvider, zone: &str, there: &str) {
    let ours = [txt("_acme-challenge", "ours"), txt("_acme-challenge", there)];
    provider.append(zone, &ours).await.unwrap();
    provider.delete(zone, &ours[..1]).await.unwrap();
    provider.delete(zone, &ours[..1]).await.unwrap();
}

/// A record that a scripted service keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// For services that count them.
    pub id: u64,
    /// Relative to the zone.
    pub name: String,
    /// `A`, …
    pub kind: String,
    /// As a zone file has it.
    pub value: String,
}

/// The HTTPS record of somebody else in [`kept`].
pub const THEIR_SERVICE: &str = r#"1 svc.test. port="8443""#;
/// What [`set_service_beside`] sets.
pub const OUR_SERVICE: &str = r#"2 . alpn="h3,h2" ech="AAA=""#;

/// What a scripted service has: an address and two HTTPS records at `www`, one of them ours, and a
/// name that is an alias.
pub fn kept() -> Arc<Mutex<Vec<Kept>>> {
    let all = [
        ("www", "A", "192.0.2.1"),
        ("www", "HTTPS", THEIR_SERVICE),
        ("www", "HTTPS", "2 . alpn=h2"),
        ("alias", "CNAME", "b.test."),
    ];
    let all = (1..).zip(all).map(|(id, (name, kind, value))| Kept {
        id,
        name: name.into(),
        kind: kind.into(),
        value: value.into(),
    });
    Arc::new(Mutex::new(all.collect()))
}

/// The values of a name and type.
pub fn values(all: &[Kept], name: &str, kind: &str) -> Vec<String> {
    let found = all.iter().filter(|record| record.name == name && record.kind == kind);
    found.map(|record| record.value.clone()).collect()
}

/// Puts values in the place of those of a name and type.
pub fn set_values(all: &mut Vec<Kept>, name: &str, kind: &str, values: &[String]) {
    all.retain(|record| record.name != name || record.kind != kind);
    for value in values {
        let id = all.iter().map(|record| record.id).max().unwrap_or_default() + 1;
        all.push(Kept { id, name: name.into(), kind: kind.into(), value: value.clone() });
    }
}

/// Sets an HTTPS record of five minutes at `www`, twice, where there is what [`kept`] says, looking
/// what is there before and afterwards.
pub async fn set_service_beside(provider: &dyn DnsProvider, zone: &str) {
    let services = |all: [&str; 2]| {
        let services = all.map(|one| one.parse::<ServiceBinding>().unwrap()).to_vec();
        NameRecords { is_used: true, alias: None, services }
    };
    let found = async || {
        let mut found = provider.look_up(zone, "www").await.unwrap();
        found.services.sort_by_key(|service| service.priority);
        found
    };
    assert_eq!(found().await, services([THEIR_SERVICE, "2 . alpn=h2"]));
    let record = ServiceRecord {
        name: "www".into(),
        binding: OUR_SERVICE.parse().unwrap(),
        ttl: Duration::from_secs(300),
    };
    for _ in 0..2 {
        provider.set_service(zone, &record).await.unwrap();
    }
    assert_eq!(found().await, services([THEIR_SERVICE, OUR_SERVICE]));
    let alias = provider.look_up(zone, "alias").await.unwrap();
    assert_eq!((alias.is_used, alias.alias.as_deref()), (true, Some("b.test")));
    assert_eq!(provider.look_up(zone, "none").await.unwrap(), NameRecords::default());
}

async fn serve<F>(stream: TcpStream, all: &Mutex<Vec<Seen>>, answer: &F)
where
    F: Fn(&Seen, usize) -> Answer,
{
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut first = lines[0].split(' ');
        let headers: Vec<(String, String)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut seen = Seen {
            method: first.next().unwrap().into(),
            path: first.next().unwrap().into(),
            headers,
            body: String::new(),
        };
        let mut body = vec![0; seen.header("content-length").parse().unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        seen.body = String::from_utf8(body).unwrap();
        let count = {
            let mut all = all.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let answer = answer(&seen, count);
        let mut out = format!(
            "HTTP/1.1 {} Status\r\nContent-Length: {}\r\n",
            answer.status,
            answer.body.len()
        );
        for (name, value) in &answer.headers {
            out += &format!("{name}: {value}\r\n");
        }
        out += "\r\n";
        out += &answer.body;
        stream.write_all(out.as_bytes()).await.unwrap();
    }
}

/// Starts a name server on a UDP port of 127.0.0.1 and returns its address: `answer` gets name and
/// type of a question, and gives the data of the one record to answer with.
pub async fn name_server<F>(answer: F) -> String
where
    F: Fn(&str, u16) -> Option<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (read, from) = socket.recv_from(&mut buffer).await.unwrap();
            let asked = &buffer[..read];
            let mut reader = Reader { message: asked, at: 12 };
            let (name, kind) = (reader.name().unwrap(), reader.u16().unwrap());
            let data = answer(&name, kind);
            let mut out = asked[..2].to_vec();
            out.extend([0x81, 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
            out.extend(&asked[12..reader.at + 2]);
            if let Some(data) = data {
                out.extend([0xc0, 12]);
                out.extend(kind.to_be_bytes());
                out.extend([0, 1, 0, 0, 0, 9]);
                out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                out.extend(data);
            }
            socket.send_to(&out, from).await.unwrap();
        }
    });
    address
}

/// A record without a time to live of its own.
pub fn txt(name: &str, value: &str) -> TxtRecord {
    TxtRecord { name: name.into(), value: value.into(), ttl: Duration::ZERO }
}

/// An alias without a time to live of its own.
pub fn alias(name: &str, target: &str) -> Alias {
    Alias { name: name.into(), target: target.into(), ttl: Duration::ZERO }
}
