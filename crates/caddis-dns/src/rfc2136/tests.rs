//! Against a scripted server and against BIND.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::{Line, Rfc2136, Signer, Verdict, message, now, tsig::signature};
use crate::{
    DnsProvider, NameRecords, ServiceBinding, ServiceRecord,
    query::{HTTPS, Reader, TXT, ask},
    records::Data,
    testing::{OUR_SERVICE, THEIR_SERVICE, set_service_beside, txt},
};

/// base64 of `secret`.
const KEY: &str = "c2VjcmV0";

fn provider(server: &str, key: &str) -> Rfc2136 {
    let json = json!({
        "key_name": "Key.Test.",
        "key_alg": "HMAC-SHA256.",
        "key": key,
        "server": server,
    });
    Rfc2136::new(&json).unwrap()
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn signer(key: &hmac::Key) -> Signer<'_> {
    Signer { name: "key.test", algorithm: "hmac-sha256", key }
}

/// What a scripted server does with an update.
#[derive(Debug, Clone, Copy)]
enum Way {
    Sign(u16),
    Forge,
    Bare(u16),
    /// A signature record without signature, with this error.
    Error(u16),
    Truncate,
    /// The HTTPS records of `www.a.test`.
    Services(&'static [&'static str]),
}

/// The answer to a message, as the way says.
fn answer(asked: &[u8], way: Way) -> Vec<u8> {
    let theirs = signature(asked).unwrap().unwrap();
    let (code, truncated) = match way {
        Way::Sign(code) | Way::Bare(code) => (code, 0),
        Way::Forge => (0, 0),
        Way::Error(_) => (9, 0),
        Way::Truncate => (0, 0x0200),
        Way::Services(_) => (0, 0),
    };
    let mut head = asked[..2].to_vec();
    let opcode = u16::from(asked[2] & 0x78) << 8;
    head.extend((0x8000_u16 | opcode | truncated | code).to_be_bytes());
    head.extend([0; 8]);
    if let Way::Services(all) = way {
        head[7] = all.len() as u8;
        for one in all {
            let data = one.parse::<ServiceBinding>().unwrap().to_wire().unwrap();
            head.extend(b"\x03www\x01a\x04test\0\0\x41\0\x01\0\0\0\x4d");
            head.extend((data.len() as u16).to_be_bytes());
            head.extend(data);
        }
    }
    let key = key(if matches!(way, Way::Forge) { b"other" } else { b"secret" });
    let signer = signer(&key);
    match way {
        Way::Bare(_) | Way::Truncate => head,
        Way::Error(error) => {
            head[11] = 1;
            head.extend(b"\x03key\x04test\0");
            head.extend([0, 250, 0, 255, 0, 0, 0, 0]);
            let mut data = b"\x0bhmac-sha256\0".to_vec();
            data.extend([0; 6]);
            data.extend(300_u16.to_be_bytes());
            data.extend([0, 0]);
            data.extend(&asked[..2]);
            data.extend(error.to_be_bytes());
            data.extend([0, 0]);
            head.extend((data.len() as u16).to_be_bytes());
            head.extend(data);
            head
        }
        Way::Sign(_) | Way::Forge | Way::Services(_) => {
            // The code of the question goes before the answer.
            let mut signed = (theirs.mac.len() as u16).to_be_bytes().to_vec();
            signed.extend(&theirs.mac);
            signed.extend(&head);
            signed.extend(signer.variables(now(), 300, 0, &[]).unwrap());
            let mac = hmac::sign(signer.key, &signed);
            let (mut out, wrong) = signer.sign(&head, now()).unwrap();
            let at = out.windows(wrong.len()).position(|part| part == wrong).unwrap();
            out.splice(at..at + wrong.len(), mac.as_ref().iter().copied());
            out
        }
    }
}

type Asked = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// A server on UDP and TCP of one port; `udp` may say nothing at all.
async fn server(udp: Option<fn(&[u8]) -> Way>, tcp: fn(&[u8]) -> Way) -> (String, Asked) {
    let (socket, listener) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        if let Ok(socket) = UdpSocket::bind(at).await {
            break (socket, listener);
        }
    };
    let at = listener.local_addr().unwrap().to_string();
    let asked: Asked = Arc::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (read, from) = socket.recv_from(&mut buffer).await.unwrap();
            seen.lock().unwrap().push((false, buffer[..read].to_vec()));
            if let Some(way) = udp {
                let way = way(&buffer[..read]);
                socket.send_to(&answer(&buffer[..read], way), from).await.unwrap();
            }
        }
    });
    let seen = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut buffer = vec![0; length.into()];
            stream.read_exact(&mut buffer).await.unwrap();
            seen.lock().unwrap().push((true, buffer.clone()));
            let out = answer(&buffer, tcp(&buffer));
            stream.write_u16(out.len() as u16).await.unwrap();
            stream.write_all(&out).await.unwrap();
        }
    });
    (at, asked)
}

/// The name of a message's zone.
fn zone(message: &[u8]) -> String {
    Reader { message, at: 12 }.name().unwrap()
}

#[tokio::test]
async fn updates_are_signed_and_so_are_answers() {
    let (at, asked) = server(Some(|_| Way::Sign(0)), |_| Way::Sign(0)).await;
    let provider = provider(&at, KEY);
    provider.append("a.test", &[txt("_acme-challenge", "v")]).await.unwrap();
    provider.delete("a.test", &[txt("_acme-challenge", "v")]).await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(tcp, _)| !tcp));
    let text =
        |class: u8, ttl: u8| [b"\0\x10\0", &[class, 0, 0, 0, ttl][..], b"\0\x02\x01v"].concat();
    for ((_, message), want) in asked.iter().zip([text(1, 60), text(254, 0)]) {
        assert_eq!(zone(message), "a.test");
        assert!(message.windows(want.len()).any(|part| part == want), "{message:?}");
        // The signature is right.
        let found = signature(message).unwrap().unwrap();
        let mut bare = message[..found.start].to_vec();
        bare[11] = 0;
        let key = key(b"secret");
        let (again, mac) = signer(&key).sign(&bare, found.time).unwrap();
        assert_eq!((&again, mac), (message, found.mac));
    }
}

#[tokio::test]
async fn tcp_where_udp_does_not_do() {
    let (at, asked) = server(Some(|_| Way::Truncate), |_| Way::Sign(0)).await;
    provider(&at, KEY).append("a.test", &[txt("x", "v")]).await.unwrap();
    let ways: Vec<bool> = asked.lock().unwrap().iter().map(|(tcp, _)| *tcp).collect();
    assert_eq!(ways, [false, true]);
    // Nothing listens on UDP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut buffer = vec![0; length.into()];
        stream.read_exact(&mut buffer).await.unwrap();
        let out = answer(&buffer, Way::Sign(0));
        stream.write_u16(out.len() as u16).await.unwrap();
        stream.write_all(&out).await.unwrap();
    });
    provider(&at, KEY).append("a.test", &[txt("x", "v")]).await.unwrap();
}

#[tokio::test]
async fn answers_that_are_not_the_server_s_are_refused() {
    for (way, want) in [
        ((|_| Way::Forge) as fn(&[u8]) -> Way, "the answer's signature is wrong"),
        (|_| Way::Bare(0), "the answer is not signed"),
        (|_| Way::Sign(5), "REFUSED: the key may not do that, zone a.test"),
        (|_| Way::Bare(4), "NOTIMP: the server takes no updates, zone a.test"),
        (|_| Way::Error(17), "BADKEY: the server knows no key key.test with hmac-sha256"),
        (|_| Way::Error(16), "BADSIG: the server has another key by the name key.test"),
    ] {
        let (at, _) = server(Some(way), way).await;
        let error = provider(&at, KEY).append("a.test", &[txt("x", "v")]).await.unwrap_err();
        assert_eq!(error.to_string(), format!("rfc2136: {at}: {want}"));
    }
}

#[tokio::test]
async fn the_zone_may_be_a_parent() {
    let way = |message: &[u8]| Way::Sign(if zone(message) == "a.test" { 0 } else { 9 });
    let (at, asked) = server(Some(way), way).await;
    let provider = provider(&at, KEY);
    provider.append("sub.a.test", &[txt("x", "v")]).await.unwrap();
    let zones: Vec<String> = asked.lock().unwrap().iter().map(|(_, asked)| zone(asked)).collect();
    assert_eq!(zones, ["sub.a.test", "a.test"]);
    let error = provider.append("sub.b.test", &[txt("x", "v")]).await.unwrap_err();
    assert!(error.to_string().contains("NOTAUTH"), "{error}");
}

/// Whether a message is an update, and the number of its demands and changes.
fn update(message: &[u8]) -> Option<(u8, u8)> {
    (message[2] & 0x78 == 5 << 3).then_some((message[7], message[9]))
}

const THERE: [&str; 2] = [THEIR_SERVICE, "2 . alpn=h2"];

#[tokio::test]
async fn services_take_the_place_of_ours() {
    let way = |message: &[u8]| match update(message) {
        Some(_) => Way::Sign(0),
        None => Way::Services(&THERE),
    };
    let (at, asked) = server(Some(way), way).await;
    let provider = provider(&at, KEY);
    let found = provider.look_up("a.test", "www").await.unwrap();
    let want = THERE.map(|one| one.parse::<ServiceBinding>().unwrap()).to_vec();
    assert_eq!((found.is_used, found.services), (true, want));
    let set = async |binding: &str| {
        let binding = binding.parse().unwrap();
        let ttl = Duration::from_secs(300);
        let record = ServiceRecord { name: "www".into(), binding, ttl };
        provider.set_service("a.test", &record).await.unwrap();
    };
    set(OUR_SERVICE).await;
    // This one is there.
    set(THERE[1]).await;
    let asked = asked.lock().unwrap();
    let updates: Vec<_> = asked.iter().filter_map(|(_, message)| update(message)).collect();
    // Since it still shows the old one, its set is made anew.
    assert_eq!(updates, [(1, 0), (0, 2), (0, 3)]);
    let of = |changes: u8| {
        let mut asked = asked.iter().map(|(_, message)| message);
        asked.find(|message| update(message) == Some((0, changes))).unwrap()
    };
    // The old one goes, and the new one lives as long as that of somebody else.
    for (changes, binding, class, ttl) in [
        (2, THERE[1], 254, 0),
        (2, OUR_SERVICE, 1, 0x4d),
        (3, THEIR_SERVICE, 1, 0x4d),
        (3, OUR_SERVICE, 1, 0x4d),
    ] {
        let data = binding.parse::<ServiceBinding>().unwrap().to_wire().unwrap();
        let head = [0, 65, 0, class, 0, 0, 0, ttl, 0, data.len() as u8];
        let want = [&head[..], &data].concat();
        let message = of(changes);
        assert!(message.windows(want.len()).any(|part| part == want), "{message:?}");
    }
    assert!(of(3).windows(10).any(|part| part == [0, 65, 0, 255, 0, 0, 0, 0, 0, 0]));
}

#[tokio::test]
async fn names_without_records_are_told_from_refusals() {
    let (at, asked) = server(Some(|_| Way::Sign(3)), |_| Way::Sign(3)).await;
    let found = provider(&at, KEY).look_up("a.test", "www").await;
    assert_eq!(found, Ok(NameRecords::default()));
    assert_eq!(asked.lock().unwrap().len(), 1);
    let (at, _) = server(Some(|_| Way::Sign(5)), |_| Way::Sign(5)).await;
    let error = provider(&at, KEY).look_up("a.test", "www").await.unwrap_err().to_string();
    assert!(error.ends_with("REFUSED: the key may not do that, zone a.test"), "{error}");
}

#[test]
fn settings() {
    let with = |field: &str, value: &str| {
        let mut json =
            json!({"key_name": "k", "key_alg": "hmac-sha512", "key": KEY, "server": "ns.test"});
        json[field] = value.into();
        Rfc2136::new(&json)
    };
    assert_eq!(with("server", "192.0.2.1").unwrap().server, "192.0.2.1:53");
    assert_eq!(with("server", "ns.test:5353").unwrap().server, "ns.test:5353");
    let error = with("key_alg", "hmac-md5").unwrap_err().to_string();
    assert!(
        error.starts_with("key_alg: unknown algorithm 'hmac-md5'; known: hmac-sha1"),
        "{error}"
    );
    assert_eq!(with("key", "s:cret").unwrap_err().to_string(), "key: the key is not base64");
}

#[tokio::test]
async fn empty_settings_are_told() {
    let provider = provider("127.0.0.1:1", "{env.CADDIS_NO_SUCH}");
    let error = provider.append("a.test", &[]).await.unwrap_err().to_string();
    assert!(error.contains("key is empty"), "{error}");
}

#[test]
fn broken_answers_are_no_panic() {
    let key = key(b"secret");
    let signer = signer(&key);
    let line =
        |text: &str| Line::add("x.a.test", TXT, 60, super::sent(Data::Text(text)).unwrap().1);
    let bare = message("a.test", &[], &[line(&"v".repeat(600))]).unwrap();
    let (asked, mac) = signer.sign(&bare, now()).unwrap();
    let good = answer(&asked, Way::Sign(0));
    assert_eq!(signer.verify(&good, &asked, &mac, now()), Ok(Verdict::Code(0, 0)));
    assert!(signer.verify(&good, &asked, &mac, now() + 1000).is_err(), "too old");
    for end in 0..good.len() {
        assert!(signer.verify(&good[..end], &asked, &mac, now()).is_err());
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let verdict = signer.verify(&bad, &asked, &mac, now());
            // Capitals in names (key: 10 bytes, algorithm: 13) are no change, and the record's
            // class and time to live are fixed in what is signed.
            let start = signature(&good).unwrap().unwrap().start;
            let names = [start..start + 10, start + 20..start + 33];
            let same =
                bad.eq_ignore_ascii_case(&good) && names.iter().any(|name| name.contains(&at));
            let fixed = (start + 12..start + 18).contains(&at);
            assert!(verdict != Ok(Verdict::Code(0, 0)) || same || fixed, "{at} {bit}");
        }
    }
    assert!(message(&"a".repeat(64), &[], &[]).is_err());
    assert!(message(&["abcdefgh"; 40].join("."), &[], &[]).is_err());
}

/// BIND on free ports of 127.0.0.1, with the zone `a.test` and a key; ends with the test.
struct Named {
    child: Child,
    folder: PathBuf,
    address: String,
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Named {
    async fn start(algorithm: &str) -> Self {
        let named = ["/usr/sbin/named", "/usr/local/sbin/named", "/usr/bin/named"];
        let named = named.into_iter().find(|path| Path::new(path).exists());
        let named = named.expect("named is missing: apt-get install bind9");
        let folder =
            std::env::temp_dir().join(format!("caddis-named-{}-{algorithm}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let shown = folder.display();
        std::fs::write(
            folder.join("zone"),
            "$TTL 60\n@ SOA ns h 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\nx TXT \"kept\"\n\
             www 900 A 127.0.0.1\nwww 900 HTTPS 1 svc.test. port=8443\n\
             www 900 HTTPS 2 . alpn=h2\nalias CNAME b.test.\n* A 127.0.0.1\na.b A 127.0.0.1\n",
        )
        .unwrap();
        // A port that TCP can have may be taken for UDP; then another is tried.
        for _ in 0..10 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = port.local_addr().unwrap().port();
            std::fs::write(
                folder.join("named.conf"),
                format!(
                    "key \"key.test\" {{ algorithm {algorithm}; secret \"{KEY}\"; }};\n\
                     options {{ directory \"{shown}\"; pid-file none; session-keyfile none; \
                     listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
                     recursion no; dnssec-validation no; notify no; }};\n\
                     controls {{ }};\n\
                     zone \"a.test\" {{ type primary; file \"{shown}/zone\"; \
                     allow-update {{ key key.test; }}; }};\n"
                ),
            )
            .unwrap();
            let log = std::fs::File::create(folder.join("log")).unwrap();
            let child = Command::new(named)
                .args(["-g", "-n", "1", "-c"])
                .arg(folder.join("named.conf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let mut this =
                Self { child, folder: folder.clone(), address: format!("127.0.0.1:{port}") };
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && this.child.try_wait().unwrap().is_none() {
                if this.texts("x").await == ["kept"] {
                    return this;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let log = std::fs::read_to_string(folder.join("log")).unwrap();
            assert!(log.contains("address in use"), "named does not start:\n{log}");
            let _ = this.child.kill();
            let _ = this.child.wait();
            std::mem::forget(this);
        }
        panic!("no free port");
    }

    async fn texts(&self, name: &str) -> Vec<String> {
        let name = format!("{name}.a.test");
        let Ok(answer) = ask(&self.address, &name, TXT).await else { return Vec::new() };
        let mut all: Vec<String> = answer
            .answers
            .into_iter()
            .filter(|record| record.kind == TXT)
            .map(|record| String::from_utf8(record.data).unwrap())
            .collect();
        all.sort();
        all
    }
}

#[tokio::test]
#[ignore = "needs named"]
async fn bind_takes_updates_with_every_algorithm() {
    for (algorithm, _) in super::ALGORITHMS {
        let named = Named::start(algorithm).await;
        let json = json!({
            "key_name": "key.test",
            "key_alg": algorithm,
            "key": KEY,
            "server": named.address,
        });
        let provider = Rfc2136::new(&json).unwrap();
        let long = "l".repeat(600);
        let ours = [txt("x", "one"), txt("x", &long)];
        // The zone is found from a name below it.
        provider.append("a.test", &ours).await.unwrap();
        provider.append("x.a.test", &[txt("@", "one")]).await.unwrap();
        assert_eq!(named.texts("x").await, ["kept", &long, "one"], "{algorithm}");
        provider.delete("a.test", &ours).await.unwrap();
        provider.delete("a.test", &ours).await.unwrap();
        assert_eq!(named.texts("x").await, ["kept"], "{algorithm}");
    }
}

#[tokio::test]
#[ignore = "needs named"]
async fn bind_keeps_services() {
    let named = Named::start("hmac-sha384").await;
    let json = json!({
        "key_name": "key.test",
        "key_alg": "hmac-sha384",
        "key": KEY,
        "server": named.address,
    });
    let provider = Rfc2136::new(&json).unwrap();
    set_service_beside(&provider, "a.test").await;
    // BIND tells the same without us, and all of it still lives as long as before.
    let answer = ask(&named.address, "www.a.test", HTTPS).await.unwrap();
    let mut found: Vec<_> = answer.answers.iter().map(|one| (one.ttl, one.data.clone())).collect();
    found.sort();
    let want = [THEIR_SERVICE, OUR_SERVICE]
        .map(|one| (900, one.parse::<ServiceBinding>().unwrap().to_wire().unwrap()));
    assert_eq!(found, want);
    // A wildcard would answer for it, and a name in between has nothing of its own.
    for name in ["none", "b"] {
        let found = provider.look_up("a.test", name).await.unwrap();
        assert_eq!(found, NameRecords::default(), "{name}");
    }
    for (zone, name) in [("a.test", "*"), ("a.test", "@"), ("www.a.test", "@")] {
        assert!(provider.look_up(zone, name).await.unwrap().is_used, "{name}");
    }
    // Every kind of parameter, at the zone itself.
    let all = r#"2 . mandatory=port alpn="f\\\\oo\\,bar,h2" no-default-alpn port=1
               ipv4hint=192.0.2.1 ech=AAA= ipv6hint=2001:db8::1 dohpath=/q{?dns} key4711=\000x"#;
    let binding: ServiceBinding = all.parse().unwrap();
    let ttl = Duration::from_secs(300);
    let record = ServiceRecord { name: "@".into(), binding: binding.clone(), ttl };
    provider.set_service("a.test", &record).await.unwrap();
    let found = provider.look_up("a.test", "@").await.unwrap();
    assert_eq!(found.services, [binding]);
    let answer = ask(&named.address, "a.test", HTTPS).await.unwrap();
    assert_eq!(answer.answers[0].ttl, 300);
}

#[tokio::test]
#[ignore = "needs named"]
async fn bind_says_what_is_wrong() {
    let named = Named::start("hmac-sha256").await;
    let refused = async |key_name: &str, key: &str, zone: &str| {
        let json = json!({
            "key_name": key_name,
            "key_alg": "hmac-sha256",
            "key": key,
            "server": named.address,
        });
        let provider = Rfc2136::new(&json).unwrap();
        provider.append(zone, &[txt("y", "v")]).await.unwrap_err().to_string()
    };
    assert!(refused("key.test", "b3RoZXI=", "a.test").await.contains("BADSIG"));
    assert!(refused("no.test", KEY, "a.test").await.contains("BADKEY"));
    assert!(refused("key.test", KEY, "b.test").await.contains("NOTAUTH"));
}
