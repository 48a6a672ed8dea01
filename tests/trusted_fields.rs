//! Header fields that somebody trusts: what a client may not say about itself, what proxies add,
//! and that what clients send stays text.

use std::sync::{Arc, Mutex};

use crate::support::{Answer, Scripted, Server, Wire, free_port, ok};

type Seen = Arc<Mutex<Vec<String>>>;

/// An upstream that keeps the heads of requests, lower case but for the values.
fn recorder() -> (Scripted, Seen) {
    let seen = Seen::default();
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some((head, body)) = wire.request() {
            keep.lock().unwrap().push(head + &String::from_utf8_lossy(&body));
            if !wire.send(ok("up")) {
                return;
            }
        }
    });
    (upstream, seen)
}

fn ask(server: &Server, target: &str, fields: &str) -> Answer {
    raw(server, &format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}"))
}

/// Sends a head without its last lines.
fn raw(server: &Server, head: &str) -> Answer {
    let mut wire = Wire::connect(server.port);
    let (head, body) = head.split_once("\r\n\r\n").unwrap_or((head.trim_end_matches("\r\n"), ""));
    wire.send(format!("{head}\r\n\r\n{body}"));
    loop {
        let answer = wire.answer();
        if answer.status / 100 != 1 {
            return answer;
        }
    }
}

/// Values of a field, by its name in any case.
fn values(head: &str, name: &str) -> Vec<String> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// What a request looks like behind the proxy; `None` where it did not come through.
fn behind(server: &Server, seen: &Seen, target: &str, fields: &str) -> Option<String> {
    seen.lock().unwrap().clear();
    ask(server, target, fields);
    seen.lock().unwrap().pop()
}

fn proxy(globals: &str, lines: &str, upstream: &Scripted) -> Server {
    Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n{globals}}}\nhttp://:{{port}} {{\n{lines}\treverse_proxy {}\n}}\n",
        upstream.address()
    ))
}

#[test]
fn clients_do_not_say_where_they_come_from() {
    let (upstream, seen) = recorder();
    let server = proxy("", "\t@near remote_ip 10.0.0.0/8\n\trespond @near near\n", &upstream);
    let plain = behind(&server, &seen, "/", "").unwrap();
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test"),
        ("host", "a.test"),
    ] {
        assert_eq!(values(&plain, name), [value], "{plain}");
    }
    for fields in [
        "X-Forwarded-For: 10.0.0.1\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: evil.test\r\n",
        "X-Forwarded-For: 10.0.0.1\r\nx-fORWARDED-fOR: 10.0.0.2\r\n",
        "X_Forwarded_For: 10.0.0.1\r\nX_Forwarded_Proto: https\r\n",
        "X.Forwarded.For: 10.0.0.1\r\n",
        "Connection: X-Forwarded-For\r\n",
        "Connection: X-Forwarded-Proto, X-Forwarded-Host\r\n",
        "Connection: close, Host\r\n",
        "Proxy: http://evil.test\r\n",
    ] {
        let Some(head) = behind(&server, &seen, "/", fields) else { continue };
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.test"),
            ("host", "a.test"),
        ] {
            assert_eq!(values(&head, name), [value], "{fields}{head}");
        }
        for bad in ["10.0.0.", "evil.test", "https"] {
            assert!(!head.contains(bad), "{fields}{head}");
        }
    }
    // The peer counts for a matcher.
    assert_eq!(ask(&server, "/", "X-Forwarded-For: 10.0.0.1\r\n").body, "up");
}

#[test]
fn trusted_proxies_are_believed() {
    let (upstream, seen) = recorder();
    let trust = "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n";
    let server = proxy(trust, "", &upstream);
    let fields =
        "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test\r\n";
    let head = behind(&server, &seen, "/", fields).unwrap();
    assert_eq!(values(&head, "x-forwarded-for"), ["10.0.0.1, 127.0.0.1"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["b.test"]);
}

#[test]
fn fields_of_one_connection_stay_there() {
    let (upstream, seen) = recorder();
    let server = proxy("", "", &upstream);
    let fields = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nTE: gzip, deflate\r\nTrailer: X-A\r\n\
                  Upgrade: foo\r\nProxy-Authorization: x\r\nX-Kept: 1\r\n";
    let head = behind(&server, &seen, "/", fields).unwrap();
    for name in ["x-mine", "keep-alive", "proxy-connection", "te", "upgrade", "connection"] {
        let found = values(&head, name);
        assert!(found.is_empty() || name == "connection" && found == ["keep-alive"], "{head}");
    }
    assert_eq!(values(&head, "x-kept"), ["1"]);
    // Nor does a client take the framing off its body.
    seen.lock().unwrap().clear();
    let answer = raw(
        &server,
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Content-Length\r\nContent-Length: 21\r\n\r\nGET /admin HTTP/1.1\r\n",
    );
    let seen = seen.lock().unwrap();
    assert!(seen.len() <= 1, "{seen:?}");
    match seen.first() {
        Some(head) => assert!(head.ends_with("GET /admin HTTP/1.1\r\n"), "{head}"),
        None => assert_eq!(answer.status, 400),
    }
}

/// A service that says who somebody is, as the path of the request wants it.
fn auth(head: &str) -> Option<String> {
    let uri = values(head, "x-forwarded-uri").pop().unwrap_or_default();
    Some(match uri.as_str() {
        "/named" => "HTTP/1.1 200 OK\r\nRemote-User: bob\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/denied" => "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        "/login" => {
            "HTTP/1.1 302 Found\r\nLocation: https://login.test/\r\nContent-Length: 0\r\n\r\n"
                .to_owned()
        }
        "/garbage" => "what is this\r\n\r\n".to_owned(),
        "/broken" => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/early" => "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(),
        "/reset" => return None,
        _ if !values(head, "authorization").is_empty() || !values(head, "cookie").is_empty() => {
            "HTTP/1.1 200 OK\r\nX-Saw: credentials\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
    })
}

#[test]
fn an_authority_is_asked_and_nobody_else_believed() {
    let (upstream, seen) = recorder();
    let asked = Seen::default();
    let keep = asked.clone();
    let service = Scripted::start(move |wire| {
        while let Some((head, body)) = wire.request() {
            let answer = auth(&head);
            keep.lock().unwrap().push(head + &String::from_utf8_lossy(&body));
            let end = answer.as_ref().is_none_or(|answer| answer.contains(" 103 "));
            if let Some(answer) = answer {
                wire.send(answer);
            }
            if end {
                return;
            }
        }
    });
    let forward = format!(
        "\tforward_auth {} {{\n\t\turi /auth\n\t\tcopy_headers Remote-User Remote-Groups X-Saw\n\t}}\n",
        service.address()
    );
    let server = proxy("", &forward, &upstream);
    let head = behind(&server, &seen, "/named", "Remote-User: eve\r\n").unwrap();
    assert_eq!(values(&head, "remote-user"), ["bob"]);
    // Where the service says nothing, nobody else says it.
    for fields in [
        "Remote-User: eve\r\n",
        "remote-USER: eve\r\n",
        "Remote_User: eve\r\n",
        "Remote_Groups: eve\r\n",
        "REMOTE.USER: eve\r\n",
        "Remote.Groups: eve\r\n",
        "Remote-User: eve\r\nConnection: Remote-User\r\n",
    ] {
        if let Some(head) = behind(&server, &seen, "/", fields) {
            assert!(!head.contains("eve"), "{fields}{head}");
        }
    }
    // Both see the same credentials, or neither does.
    for name in ["Authorization", "Cookie"] {
        let fields = format!("{name}: secret\r\nConnection: {name}\r\n");
        let Some(head) = behind(&server, &seen, "/", &fields) else { continue };
        let saw = !values(&head, "x-saw").is_empty();
        assert_eq!(saw, !values(&head, name).is_empty(), "{head}");
    }
    for (target, status) in [("/denied", 401..402), ("/login", 302..303)] {
        seen.lock().unwrap().clear();
        let answer = ask(&server, target, "");
        assert!(status.contains(&answer.status), "{target}: {answer:?}");
        assert!(seen.lock().unwrap().is_empty());
    }
    // Whatever goes wrong with it, nothing passes.
    for target in ["/garbage", "/broken", "/early", "/reset"] {
        seen.lock().unwrap().clear();
        let answer = ask(&server, target, "");
        assert!(answer.status == 0 || answer.status >= 400, "{target}: {answer:?}");
        assert!(seen.lock().unwrap().is_empty(), "{target}");
    }
    asked.lock().unwrap().clear();
    raw(
        &server,
        "POST /posted?x=1 HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /open\r\nContent-Length: 4\r\n\r\nbody",
    );
    let head = asked.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET /auth?x=1 HTTP/1.1\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(values(&head, "x-forwarded-method"), ["POST"]);
    assert_eq!(values(&head, "x-forwarded-uri"), ["/posted?x=1"]);
}

#[test]
fn what_clients_send_splits_nothing() {
    let (upstream, seen) = recorder();
    let lines = "\theader X-Echo {query}\n\theader X-Decoded {query.p}\n\
                 \tredir /redir /to?{query}\n\tredir /decoded {query.p}\n\
                 \trewrite /rewrite {query.p}\n\trequest_header X-Up {query.p}\n";
    let server = proxy("", lines, &upstream);
    let evil = "p=%0d%0aX-Injected:%201%0d%0a%0d%0a&q=%00%0a";
    for path in ["/", "/redir", "/decoded", "/rewrite"] {
        seen.lock().unwrap().clear();
        let mut wire = Wire::connect(server.port);
        wire.send(format!(
            "GET {path}?{evil} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
        ));
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(!answer.to_lowercase().contains("\nx-injected"), "{path}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{path}: {answer}");
        let seen = seen.lock().unwrap();
        assert!(seen.len() <= 1, "{path}: {seen:?}");
        for head in seen.iter() {
            assert!(!head.to_lowercase().contains("\nx-injected"), "{path}: {head}");
            assert!(!head.contains('\0'), "{path}: {head:?}");
            assert_eq!(head.lines().next().unwrap().split(' ').count(), 3, "{path}: {head}");
        }
    }
}

#[test]
fn what_clients_send_is_no_placeholder() {
    let (upstream, seen) = recorder();
    let lines = "\trespond /respond \"{query.p} {http.request.header.X-P}\"\n\
                 \theader X-Down {http.request.header.X-P}\n\
                 \tredir /redir /to{query.p}\n\trewrite /rewrite /to?{query.p}\n\
                 \t@vars vars_regexp {http.request.header.X-P} secret\n\theader @vars X-Matched yes\n\
                 \trequest_header X-Up {http.request.header.X-P}\n";
    let server = Server::start_with(
        &format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n}}\nhttp://:{{port}} {{\n{lines}\treverse_proxy {}\n}}\n",
            upstream.address()
        ),
        |command, _| {
            command.env("HIDDEN", "secret-value");
        },
    );
    let fields =
        "X-P: {env.HIDDEN} {http.request.host} {file./etc/passwd}\r\nConnection: close\r\n";
    for target in ["/respond", "/redir", "/rewrite", "/"] {
        seen.lock().unwrap().clear();
        let target = format!("{target}?p=%7Benv.HIDDEN%7D");
        let mut wire = Wire::connect(server.port);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        let heads = seen.lock().unwrap().join("\n");
        for text in [&answer, &heads] {
            assert!(!text.contains("secret-value") && !text.contains("root:"), "{target}: {text}");
        }
        assert!(!answer.to_lowercase().contains("x-matched"), "{target}: {answer}");
    }
}

#[test]
fn redirects_to_https_stay_at_the_host() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\n\
         a.test {{\n\ttls internal\n\trespond hi\n}}\n"
    ));
    for target in
        ["/", "/x/y?z=1&q=%2F", "//evil.test/x", "/\\evil.test", "/%2fevil.test", "/@evil.test"]
    {
        let answer = ask(&server, target, "");
        assert_eq!(answer.status, 308, "{target}");
        let location = answer.header("location").unwrap();
        assert_eq!(location, format!("https://a.test{}", target.replace('\\', "%5C")), "{target}");
    }
}

#[test]
fn passwords_are_asked_for() {
    let (upstream, seen) = recorder();
    // The password is `hiccup`.
    let hash = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG";
    let server = proxy("", &format!("\tbasic_auth {{\n\t\tbob {hash}\n\t}}\n"), &upstream);
    for fields in [
        "",
        "Authorization: Basic\r\n",
        "Authorization: Basic !!!\r\n",
        "Authorization: Basic Ym9i\r\n",
        "Authorization: Bearer Ym9iOmhpY2N1cA==\r\n",
        "Authorization: Basic Ym9iOndyb25n\r\n",
        "Authorization: Basic ZXZlOmhpY2N1cA==\r\n",
        "Authorization: Basic Og==\r\n",
    ] {
        let answer = ask(&server, "/", fields);
        assert_eq!(answer.status, 401, "{fields}");
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Basic")));
    }
    assert!(seen.lock().unwrap().is_empty());
}
