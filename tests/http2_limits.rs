//! What greedy, slow and leaving clients of HTTP/2 may take, how much of an answer comes through
//! whatever happens, and what is left behind: nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Scripted, Server, Wire, eventually,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, fields, frame, request_fields,
    },
    ok, site_with,
};

const OPEN: u8 = END_HEADERS;
const INITIAL_WINDOW: u16 = 4;
const LARGE: u32 = (1 << 31) - 1;

/// A site with these lines that speaks HTTP/2 in clear text too, counts, and has these options.
fn clear_text(more: &str, lines: &str) -> Server {
    let servers = format!(
        "\tmetrics\n\tservers {{\n\t\tprotocols h1 h2 h2c\n{more}\t}}\n\tgrace_period 5s\n"
    );
    let site = site_with(&format!("\trespond /fine ok\n{lines}"));
    Server::start(&format!("{{\n\tadmin 127.0.0.1:{{admin}}\n{servers}}}\n{site}"))
}

fn proxy(upstream: &Scripted) -> Server {
    clear_text("", &format!("\treverse_proxy {}\n", upstream.address()))
}

fn alive(server: &mut Server) {
    let begin = Instant::now();
    let mut frames = Frames::connect(server.port, &[]);
    frames.get(1, "/fine");
    assert_eq!(frames.answer(1).unwrap(), (200, b"ok".to_vec()));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(matches!(server.child.try_wait(), Ok(None)));
    assert!(!server.log().contains("panic"), "{}", server.log());
}

/// An upstream whose answers have this length, and how much of them it got rid of.
fn large(length: usize) -> (Scripted, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let upstream = Scripted::start(move |wire| {
        while wire.request().is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            let mut left = length;
            while left > 0 {
                let piece = left.min(64 * 1024);
                if !wire.send(vec![b'x'; piece]) {
                    return;
                }
                count.fetch_add(piece, Ordering::SeqCst);
                left -= piece;
            }
        }
    });
    (upstream, sent)
}

/// A connection whose windows are as large as they can be.
fn wide(server: &Server) -> Frames {
    let mut frames = Frames::connect(server.port, &[(INITIAL_WINDOW, LARGE)]);
    frames.send(WINDOW_UPDATE, 0, 0, &(LARGE - 65_535).to_be_bytes());
    frames
}

/// Large windows and a client that reads nothing: what waits for it is bounded per connection, not
/// per stream (CVE-2019-9517).
#[test]
fn answers_that_nobody_reads_take_little() {
    let (upstream, sent) = large(64 << 20);
    let mut server = proxy(&upstream);
    alive(&mut server);
    let before = server.memory();
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut frames = wide(&server);
        for number in 0..200 {
            frames.get(number * 2 + 1, "/large");
        }
        idle.push(frames);
    }
    eventually("all are under way", || upstream.connections() == 600);
    let mut last = usize::MAX;
    eventually("the upstream is held back", || {
        let now = sent.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut last, now) == now
    });
    alive(&mut server);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB for three connections");
    drop(idle);
    server.nothing_in_flight();
}

/// Many large answers at once: each makes progress, and all end.
#[test]
fn answers_take_turns() {
    const LENGTH: usize = 1 << 20;
    const FIRST: u32 = 16 * 1024;
    let (upstream, _) = large(LENGTH);
    let mut server = proxy(&upstream);
    // Streams get their windows only when all have begun.
    let mut frames = Frames::connect(server.port, &[(INITIAL_WINDOW, FIRST)]);
    frames.send(WINDOW_UPDATE, 0, 0, &(LARGE - 65_535).to_be_bytes());
    for number in 0..60 {
        frames.get(number * 2 + 1, "/large");
    }
    let (mut got, mut ended) = (HashMap::<u32, usize>::new(), 0);
    while got.len() < 60 || got.values().any(|got| *got < FIRST as usize) {
        let frame = frames.wait(|frame| frame.kind == DATA).unwrap();
        *got.entry(frame.stream).or_default() += frame.payload.len();
    }
    let wide = [&INITIAL_WINDOW.to_be_bytes()[..], &LARGE.to_be_bytes()].concat();
    frames.send(SETTINGS, 0, 0, &wide);
    let mut least_at_first_end = None;
    while ended < 60 {
        let frame = frames.wait(|frame| frame.stream > 0).unwrap();
        assert!(frame.kind == DATA || frame.kind == HEADERS, "{frame:?}");
        if frame.kind == DATA {
            *got.entry(frame.stream).or_default() += frame.payload.len();
        }
        if frame.flags & END_STREAM != 0 {
            ended += 1;
            let went_on = |got: &&usize| **got > FIRST as usize;
            least_at_first_end.get_or_insert_with(|| got.values().filter(went_on).count());
        }
    }
    assert!(got.values().all(|got| *got == LENGTH), "{got:?}");
    assert!(least_at_first_end.unwrap() > 30, "{least_at_first_end:?} of 60 had gone on");
    alive(&mut server);
    server.nothing_in_flight();
}

/// What has no bytes needs no window: an empty body, its end and its trailers.
#[test]
fn an_end_needs_no_window() {
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            let chunked = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n";
            wire.send(match head.split(' ').nth(1) {
                Some("/empty") => format!("{chunked}\r\n0\r\n\r\n"),
                Some("/trailers") => {
                    format!("{chunked}Trailer: x-sum\r\n\r\n0\r\nx-sum: 1\r\n\r\n")
                }
                Some("/ten") => format!("{chunked}\r\na\r\n0123456789\r\n0\r\n\r\n"),
                _ => ok(""),
            });
        }
    });
    let server = proxy(&upstream);
    let mut frames = Frames::connect(server.port, &[(INITIAL_WINDOW, 0)]);
    for (stream, path) in [(1, "/empty"), (3, "/trailers"), (5, "/none")] {
        frames.get(stream, path);
        let end = frames.wait(|frame| frame.stream == stream && frame.flags & END_STREAM != 0);
        assert!(end.is_some(), "{path}");
    }
    let mut frames = Frames::connect(server.port, &[(INITIAL_WINDOW, 10)]);
    frames.get(1, "/ten");
    assert_eq!(frames.answer(1).unwrap(), (200, b"0123456789".to_vec()));
}

/// What came before an upstream broke is true, and reaches the client before the reset.
#[test]
fn a_broken_answer_shows_what_came() {
    let upstream = Scripted::start(|wire| {
        let head = wire.head();
        wire.send(if head.starts_with("GET /chunked") {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
        });
    });
    let mut server = proxy(&upstream);
    for path in ["/chunked", "/length"] {
        let mut frames = Frames::connect(server.port, &[]);
        frames.get(1, path);
        let head = frames.wait(|frame| frame.stream == 1).unwrap();
        assert_eq!(head.status(), Some(200), "{path}: {head:?}");
        let data = frames.wait(|frame| frame.stream == 1).unwrap();
        assert_eq!((data.kind, data.payload.as_slice()), (DATA, &b"part"[..]), "{path}");
        let end = frames.wait(|frame| frame.stream == 1).unwrap();
        assert_eq!((end.kind, end.code()), (RST_STREAM, Some(2)), "{path}");
    }
    alive(&mut server);
    server.nothing_in_flight();
}

/// Of an answer whose type is known, so that nobody waits for its first bytes to guess it.
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 1000000\r\n\r\n";

/// A client that leaves in whatever phase ends the work for it.
#[test]
fn a_reset_ends_the_work_in_every_phase() {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let whole = Arc::new(AtomicUsize::new(0));
    let (begin, end, full) = (begun.clone(), ended.clone(), whole.clone());
    let upstream = Scripted::start(move |wire| {
        let head = wire.head();
        begin.fetch_add(1, Ordering::SeqCst);
        if head.starts_with("GET /head") || head.starts_with("POST /head") {
            wire.send(HEAD);
        } else if head.starts_with("GET /body") {
            wire.send(HEAD);
            wire.send(vec![b'x'; 100_000]);
        } else if head.starts_with("GET /hints") {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n");
        }
        let rest = wire.rest();
        if rest.ends_with(b"0\r\n\r\n") {
            full.fetch_add(1, Ordering::SeqCst);
        }
        end.fetch_add(1, Ordering::SeqCst);
    });
    let mut server = proxy(&upstream);
    let answered = |frames: &mut Frames, kind: u8, stream: u32| {
        frames.wait(|frame| frame.kind == kind && frame.stream == stream).unwrap();
    };
    let mut count = 0;
    for round in 0..3u32 {
        for (number, phase) in
            ["wait", "head", "body", "hints", "upload", "duplex", "window"].iter().enumerate()
        {
            count += 1;
            let stream = 1;
            let mut frames = match *phase {
                "window" => Frames::connect(server.port, &[(INITIAL_WINDOW, 0)]),
                _ => Frames::connect(server.port, &[]),
            };
            match *phase {
                "upload" | "duplex" => {
                    let path = if *phase == "duplex" { "/head" } else { "/upload" };
                    frames.send(HEADERS, OPEN, stream, &request_fields("POST", path, &[]));
                    frames.send(DATA, 0, stream, b"part");
                }
                "window" => drop(frames.get(stream, "/body")),
                phase => drop(frames.get(stream, &format!("/{phase}"))),
            }
            eventually("it is under way", || begun.load(Ordering::SeqCst) == count);
            match *phase {
                "head" | "duplex" | "hints" | "window" => answered(&mut frames, HEADERS, stream),
                "body" => answered(&mut frames, DATA, stream),
                _ => {}
            }
            match round {
                0 => drop(frames.send(RST_STREAM, 0, stream, &[0, 0, 0, 8])),
                // The connection ends in peace, or without a word.
                1 => {
                    frames.send(GOAWAY, 0, 0, &[0; 8]);
                    frames.0.half_close();
                    drop(frames);
                }
                _ => frames.0.reset(),
            }
            let what = format!("{phase}, round {round}, number {number}");
            eventually(&what, || ended.load(Ordering::SeqCst) == count);
        }
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0);
    alive(&mut server);
    server.nothing_in_flight();
}

/// A body that comes byte by byte is cut off at its limit, and is no whole one.
#[test]
fn a_dribbled_body_is_cut_off() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    let upstream = Scripted::start(move |wire| {
        while wire.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            wire.send(ok("up"));
        }
    });
    let limits = "\t\ttimeouts {\n\t\t\tread_body 1s\n\t\t}\n";
    let mut server = clear_text(limits, &format!("\treverse_proxy {}\n", upstream.address()));
    let begin = Instant::now();
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(HEADERS, OPEN, 1, &request_fields("POST", "/", &[("content-length", "1000")]));
    let ended = Arc::new(AtomicBool::new(false));
    let over = ended.clone();
    let reader = std::thread::spawn({
        let mut frames = Frames(frames.0.copy());
        move || {
            let answer = frames.answer(1);
            over.store(true, Ordering::SeqCst);
            answer
        }
    });
    while !ended.load(Ordering::SeqCst) && begin.elapsed() < Duration::from_secs(10) {
        frames.send(DATA, 0, 1, b"x");
        std::thread::sleep(Duration::from_millis(100));
    }
    let answer = reader.join().unwrap();
    assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 400), "{answer:?}");
    assert!(begin.elapsed() > Duration::from_millis(900), "{:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(whole.load(Ordering::SeqCst), 0);
    alive(&mut server);
    server.nothing_in_flight();
}

/// Bytes in frames of their own: all right as long as somebody reads them, bounded where nobody
/// does.
#[test]
fn small_frames_are_read_or_bounded() {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let upstream = Scripted::start(move |wire| {
        let head = wire.head();
        if head.starts_with("POST /stuck") {
            eventually("it may go on", || released.load(Ordering::SeqCst));
        }
        let mut count = 0;
        while let Some(chunk) = wire.chunk() {
            count += chunk.len();
            if chunk.is_empty() {
                break;
            }
        }
        wire.send(ok(&count.to_string()));
    });
    let mut server = proxy(&upstream);
    let small = frame(DATA, 0, 1, b"x");
    for path in ["/prompt", "/stuck"] {
        let mut frames = Frames::connect(server.port, &[]);
        frames.send(HEADERS, OPEN, 1, &request_fields("POST", path, &[]));
        for _ in 0..100 {
            assert!(frames.0.send(small.repeat(100)), "{path}");
        }
        release.store(true, Ordering::SeqCst);
        frames.send(DATA, END_STREAM, 1, b"");
        assert_eq!(frames.answer(1), Some((200, b"10000".to_vec())), "{path}");
    }
    release.store(false, Ordering::SeqCst);
    alive(&mut server);
    let before = server.memory();
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let mut frames = Frames::connect(server.port, &[]);
        frames.0.write_limit(Duration::from_secs(5));
        frames.send(HEADERS, OPEN, 1, &request_fields("POST", "/stuck", &[]));
        for _ in 0..1000 {
            if !frames.0.send(small.repeat(1000)) {
                break;
            }
        }
        stuck.push(frames);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB for four connections");
    drop(stuck);
    release.store(true, Ordering::SeqCst);
    alive(&mut server);
    server.nothing_in_flight();
}

/// Frames that cost a client nothing cost little here, and nobody else waits.
#[test]
fn cheap_frames_hold_nobody_up() {
    let (upstream, _) = large(10);
    let mut server = proxy(&upstream);
    alive(&mut server);
    let before = server.memory();
    let window = |stream| frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]);
    let open = frame(HEADERS, OPEN, 1, &request_fields("POST", "/slow", &[]));
    let floods: [(&str, Vec<u8>, Vec<u8>); 6] = [
        ("windows of the connection", Vec::new(), window(0)),
        ("windows of a stream", open.clone(), window(1)),
        (
            "windows of an ended stream",
            open.clone(),
            [window(1), frame(RST_STREAM, 0, 1, &[0; 4])].concat(),
        ),
        (
            "settings that change",
            Vec::new(),
            [frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]), frame(4, 0, 0, &[0, 4, 0, 1, 0, 0])].concat(),
        ),
        ("settings of large tables", Vec::new(), frame(4, 0, 0, &[0, 1, 0xff, 0xff, 0xff, 0xff])),
        ("pings with an answer", Vec::new(), frame(PING, 1, 0, &[7; 8])),
    ];
    for (what, start, piece) in floods {
        let begin = Instant::now();
        let mut frames = Frames::connect(server.port, &[]);
        frames.0.write_limit(Duration::from_secs(3));
        frames.0.send(start);
        let pieces = piece.repeat(200);
        for _ in 0..250 {
            if !frames.0.send(&pieces) {
                break;
            }
        }
        alive(&mut server);
        assert!(begin.elapsed() < Duration::from_secs(12), "{what}: {:?}", begin.elapsed());
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB");
    server.nothing_in_flight();
}

/// Trailers are limited as heads are, in size and number of frames.
#[test]
fn trailers_are_limited() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    let upstream = Scripted::start(move |wire| {
        while wire.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            wire.send(ok("up"));
        }
    });
    let mut server = proxy(&upstream);
    let piece = fields(&[("x-trailer", &"y".repeat(15_000))]);
    for (what, ends, count) in [("without an end", false, 500), ("too large", true, 60)] {
        let mut frames = Frames::connect(server.port, &[]);
        frames.0.write_limit(Duration::from_secs(5));
        frames.send(HEADERS, OPEN, 1, &request_fields("POST", "/", &[("trailer", "x-trailer")]));
        frames.send(DATA, 0, 1, b"body");
        frames.send(HEADERS, END_STREAM, 1, &piece);
        let mut sent = 0;
        while sent < count && frames.send(CONTINUATION, 0, 1, &piece) {
            sent += 1;
        }
        if ends {
            frames.send(CONTINUATION, END_HEADERS, 1, &[]);
        }
        let answer = frames.answer(1);
        assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 400), "{what}: {answer:?}");
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0);
    alive(&mut server);
    server.nothing_in_flight();
}

/// A client has as long to begin as a head may take, however long it may be idle afterwards; what
/// it begins with are its settings.
#[test]
fn clients_begin_with_settings_or_not_at_all() {
    let (upstream, _) = large(10);
    let limits = "\t\ttimeouts {\n\t\t\tread_header 1s\n\t\t\tidle 1m\n\t\t}\n";
    let mut server = clear_text(limits, &format!("\treverse_proxy {}\n", upstream.address()));
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let begin = Instant::now();
    let mut quiet = Frames::connect(server.port, &[]);
    for half in [PREFACE, &[PREFACE, &[0, 0, 6, 4, 0]].concat(), &PREFACE[..20]] {
        let mut wire = Wire::connect(server.port);
        wire.send(half);
        wire.rest();
        assert!(begin.elapsed() < Duration::from_secs(8), "{half:?}: {:?}", begin.elapsed());
    }
    let mut wire = Wire::connect(server.port);
    wire.send([PREFACE, &frame(PING, 0, 0, &[0; 8])].concat());
    let bye = Frames(wire).wait(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(bye.code(), Some(1));
    // One that began is not concerned.
    quiet.get(1, "/fine");
    assert_eq!(quiet.answer(1), Some((200, b"ok".to_vec())));
    alive(&mut server);
}

/// A head that stops in the middle holds up its own connection alone, and that not for ever.
#[test]
fn a_head_that_stops_in_the_middle_is_cut_off() {
    let (upstream, _) = large(10);
    let limits = "\t\ttimeouts {\n\t\t\tidle 1s\n\t\t}\n";
    let mut server = clear_text(limits, &format!("\treverse_proxy {}\n", upstream.address()));
    let begin = Instant::now();
    let mut halves: Vec<_> = (0..50)
        .map(|number| {
            let mut frames = Frames::connect(server.port, &[]);
            let block = request_fields("GET", "/", &[]);
            frames.send(HEADERS, END_STREAM, 1, &block[..block.len() - number % 20]);
            if number % 2 == 0 {
                frames.send(CONTINUATION, 0, 1, &[]);
            }
            frames
        })
        .collect();
    alive(&mut server);
    for frames in &mut halves {
        assert!(frames.wait(|_| false).is_none());
    }
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// Informational answers reach the client, up to a number; then the upstream is at fault.
#[test]
fn informational_answers_are_limited() {
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            let count: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
            wire.send(hint.repeat(count) + &ok("up"));
        }
    });
    let mut server = proxy(&upstream);
    for (count, whole) in [(50, true), (5000, false)] {
        let mut frames = Frames::connect(server.port, &[]);
        frames.get(1, &format!("/{count}"));
        let mut heads = 0;
        let last = frames.wait(|frame| {
            heads += usize::from(frame.kind == HEADERS);
            frame.stream == 1 && frame.flags & END_STREAM != 0
        });
        let last = last.unwrap();
        if whole {
            assert_eq!((heads, last.payload.as_slice()), (count + 1, &b"up"[..]));
        } else {
            assert!(heads <= 200, "{heads}");
            assert_eq!((last.kind, last.status()), (HEADERS, Some(502)));
        }
    }
    alive(&mut server);
    server.nothing_in_flight();
}

/// A reload that ends connections lets streams end first, and loses no request.
#[test]
fn a_reload_finishes_open_streams() {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let upstream = Scripted::start(move |wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npart");
            eventually("it may go on", || released.load(Ordering::SeqCst));
            wire.send("rest");
        }
    });
    let text = |idle: usize| {
        let servers = format!(
            "\tservers {{\n\t\tprotocols h1 h2 h2c\n\t\ttimeouts {{\n\t\t\tidle {idle}s\n\t\t}}\n\t}}\n"
        );
        let site = site_with(&format!(
            "\trespond /fine \"after {idle}\"\n\treverse_proxy {}\n",
            upstream.address()
        ));
        format!("{{\n\tadmin 127.0.0.1:{{admin}}\n{servers}}}\n{site}")
    };
    let server = Server::start(&text(100));
    let mut open: Vec<_> = (0..10)
        .map(|_| {
            let mut frames = Frames::connect(server.port, &[]);
            frames.get(1, "/slow");
            frames.get(3, "/slow");
            frames.wait(|frame| frame.kind == DATA && frame.stream == 1).unwrap();
            frames
        })
        .collect();
    // What belongs to connections changed: open ones are to end.
    let (done, said) = server.reload(&text(101));
    assert!(done, "{said}");
    for frames in &mut open {
        let bye = frames.wait(|frame| frame.kind == GOAWAY).unwrap();
        assert_eq!(bye.code(), Some(0));
        // A request that was on its way is answered still, by the new config.
        frames.get(5, "/fine");
        assert_eq!(frames.answer(5), Some((200, b"after 101".to_vec())));
    }
    release.store(true, Ordering::SeqCst);
    for frames in &mut open {
        let mut ends = 0;
        while ends < 2 {
            let frame = frames.wait(|frame| frame.stream > 0).expect("the answer's end");
            assert!(frame.kind != RST_STREAM, "{frame:?}");
            ends += usize::from(frame.flags & END_STREAM != 0);
        }
        assert!(frames.wait(|_| false).is_none(), "the connection ends");
    }
}

/// Thousands of connections that do nothing take little, and leave nothing behind.
#[test]
fn idle_connections_take_little() {
    const COUNT: usize = 1500;
    let (upstream, _) = large(10);
    let mut server = proxy(&upstream);
    alive(&mut server);
    let (memory, descriptors) = (server.memory(), server.descriptors());
    let mut idle: Vec<_> = (0..COUNT)
        .map(|_| {
            let mut frames = Frames::connect(server.port, &[]);
            frames.get(1, "/fine");
            frames
        })
        .collect();
    for frames in &mut idle {
        assert_eq!(frames.answer(1), Some((200, b"ok".to_vec())));
    }
    let grown = server.memory().saturating_sub(memory);
    assert!(grown < COUNT * 56 / 1024, "{grown} MiB for {COUNT} connections");
    let ticks = server.ticks();
    alive(&mut server);
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.ticks() - ticks < 40, "{} ticks for nothing", server.ticks() - ticks);
    drop(idle);
    eventually("the descriptors come back", || server.descriptors() <= descriptors + 4);
    server.nothing_in_flight();
}
