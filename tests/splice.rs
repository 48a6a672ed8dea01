//! Long bodies that the kernel moves from socket to socket: whole, counted, and cut where they break.

use crate::support::{Scripted, Server, Wire, eventually, get, site_with};

/// Bytes that tell where they stand.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: {length}\r\n\r\n")
}

/// An upstream that sends as many bytes as the path says, in pieces.
fn sized() -> Scripted {
    Scripted::start(|wire| {
        while let Some((head_text, _)) = wire.request() {
            let path = head_text.split(' ').nth(1).unwrap();
            let length: usize = path.trim_start_matches('/').parse().unwrap();
            wire.send(head(length));
            for part in body(length).chunks(100_003) {
                wire.send(part);
            }
        }
    })
}

/// Pipes that the server has open.
fn pipes(server: &Server) -> usize {
    let folder = format!("/proc/{}/fd", server.child.id());
    let open = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

fn take_answer(wire: &mut Wire, length: usize) -> Vec<u8> {
    let head = wire.head();
    assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{head}");
    wire.take(length)
}

fn nothing_in_flight(server: &Server) {
    eventually("nothing is in flight", || {
        get(server.admin, "/reverse_proxy/upstreams").body.contains("\"num_requests\":0")
    });
}

#[test]
fn bodies_of_any_length_pass_whole_on_one_connection() {
    let upstream = sized();
    let lines = format!(
        "\tlog {{\n\t\toutput file access.log\n\t}}\n\treverse_proxy {}\n",
        upstream.address()
    );
    let server = Server::start(&site_with(&lines));
    let before = pipes(&server);
    let mut wire = Wire::connect(server.port);
    let lengths = [1, 16_384, 65_535, 65_536, 65_537, 81_920, 262_144, 300_001, 5_000_000, 7];
    for length in lengths {
        wire.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(take_answer(&mut wire, length) == body(length), "{length}");
    }
    assert_eq!(upstream.connections(), 1);
    assert!(pipes(&server) > before, "no pipe was used");
    // Two at once on one connection keep their order.
    wire.send("GET /700000 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(take_answer(&mut wire, 700_000) == body(700_000));
    assert!(take_answer(&mut wire, 3) == body(3));
    // An answer to HEAD has no body, however long it says it is.
    wire.send("HEAD /0 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.head().starts_with("HTTP/1.1 200 "));
    nothing_in_flight(&server);
    let log = std::fs::read_to_string(server.folder.join("access.log")).unwrap();
    let sizes: Vec<usize> = log
        .lines()
        .filter_map(|line| line.split_once("\"size\":")?.1.split(',').next()?.parse().ok())
        .collect();
    assert_eq!(sizes, [&lengths[..], &[700_000, 3, 0]].concat());
}

#[test]
fn a_slow_client_gets_all_of_it() {
    let upstream = sized();
    let server = Server::start(&site_with(&format!("\treverse_proxy {}\n", upstream.address())));
    let mut slow = Wire::connect(server.port);
    let length = 12_000_000;
    slow.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(slow.head().starts_with("HTTP/1.1 200 "));
    // Others are served while the sockets and the pipe are full.
    let mut other = Wire::connect(server.port);
    for _ in 0..3 {
        other.send("GET /400000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(take_answer(&mut other, 400_000) == body(400_000));
    }
    assert!(slow.take(length) == body(length));
    nothing_in_flight(&server);
}

#[test]
fn a_body_that_breaks_off_is_cut() {
    let upstream = Scripted::start(|wire| {
        if wire.request().is_some() {
            wire.send(head(3_000_000));
            wire.send(body(1_500_000));
        }
    });
    let server = Server::start(&site_with(&format!("\treverse_proxy {}\n", upstream.address())));
    let mut wire = Wire::connect(server.port);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.head().contains("Content-Length: 3000000\r\n"));
    let rest = wire.rest();
    assert!(body(1_500_000).starts_with(&rest), "{} bytes", rest.len());
    nothing_in_flight(&server);
}

#[test]
fn a_silent_upstream_meets_its_read_timeout() {
    let upstream = Scripted::start(|wire| {
        if wire.request().is_some() {
            wire.send(head(3_000_000));
            wire.send(body(1_500_000));
            wire.rest();
        }
    });
    let server = Server::start(&site_with(&format!(
        "\treverse_proxy {} {{\n\t\ttransport http {{\n\t\t\tread_timeout 300ms\n\t\t}}\n\t}}\n",
        upstream.address()
    )));
    let mut wire = Wire::connect(server.port);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.head();
    assert!(body(1_500_000) == wire.rest());
    nothing_in_flight(&server);
}

#[test]
fn a_client_that_leaves_frees_the_upstream() {
    let upstream = Scripted::start(|wire| {
        if wire.request().is_some() {
            wire.send(head(2_000_000_000));
            let part = body(1_000_000);
            while wire.send(&part) {}
        }
    });
    let server = Server::start(&site_with(&format!("\treverse_proxy {}\n", upstream.address())));
    for reset in [false, true] {
        let mut wire = Wire::connect(server.port);
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.take(3_000_000).len(), 3_000_000);
        if reset {
            wire.reset();
        } else {
            drop(wire);
        }
        nothing_in_flight(&server);
    }
    // While the upstream is silent, the client's end is noticed as well.
    let silent = Scripted::start(|wire| {
        if wire.request().is_some() {
            wire.send(head(2_000_000));
            wire.send(body(1_000_000));
            wire.rest();
        }
    });
    let server = Server::start(&site_with(&format!("\treverse_proxy {}\n", silent.address())));
    let mut wire = Wire::connect(server.port);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.head();
    assert!(wire.take(1_000_000) == body(1_000_000));
    drop(wire);
    nothing_in_flight(&server);
}

/// Takes a file out of the kernel's memory, where that can be done.
fn forget(path: &std::path::Path) {
    let of = format!("of={}", path.display());
    let options = [&*of, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"];
    let _ = std::process::Command::new("dd").args(options).status();
}

#[test]
fn files_pass_whole_from_memory_and_from_the_disk() {
    let server = Server::start(&site_with("\troot www\n\tfile_server\n"));
    let www = server.folder.join("www");
    std::fs::create_dir(&www).unwrap();
    let lengths = [0, 1, 65_536, 65_537, 131_073, 3_000_000];
    for length in lengths {
        std::fs::write(www.join(length.to_string()), body(length)).unwrap();
    }
    let before = pipes(&server);
    let mut wire = Wire::connect(server.port);
    for cold in [true, false] {
        for length in lengths {
            if cold {
                forget(&www.join(length.to_string()));
            }
            wire.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(take_answer(&mut wire, length) == body(length), "{length}, cold: {cold}");
        }
        if cold {
            forget(&www.join("3000000"));
        }
        wire.send("GET /3000000 HTTP/1.1\r\nHost: a\r\nRange: bytes=1000000-2999998\r\n\r\n");
        let part = take_answer(&mut wire, 1_999_999);
        assert!(part == body(3_000_000)[1_000_000..2_999_999], "cold: {cold}");
        wire.send("GET /3000000 HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9,100-1000099\r\n\r\n");
        let head = wire.head();
        let length = head.split_once("Content-Length: ").unwrap().1.split("\r\n").next().unwrap();
        let parts = wire.take(length.parse().unwrap());
        let whole = body(3_000_000);
        let mut rest = &parts[..];
        for part in [&whole[5..10], &whole[100..1_000_100]] {
            let at = rest.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
            assert!(rest[at + 4..].starts_with(part), "cold: {cold}");
            rest = &rest[at + 4 + part.len()..];
        }
        wire.send("HEAD /3000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(wire.head().contains("Content-Length: 3000000\r\n"));
    }
    assert!(pipes(&server) > before, "no pipe was used");
    assert_eq!(get(server.port, "/none").status, 404);
}

#[test]
fn a_file_that_shrinks_is_cut() {
    let server = Server::start(&site_with("\troot www\n\tfile_server\n"));
    let www = server.folder.join("www");
    std::fs::create_dir(&www).unwrap();
    let path = www.join("f");
    // More than the sockets between take.
    std::fs::write(&path, vec![b'x'; 60_000_000]).unwrap();
    let mut wire = Wire::connect(server.port);
    wire.send("GET /f HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.head().contains("Content-Length: 60000000\r\n"));
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    let rest = wire.rest();
    assert!(rest.len() < 60_000_000, "{}", rest.len());
    std::fs::write(&path, "new").unwrap();
    assert_eq!(get(server.port, "/f").body, "new");
}
