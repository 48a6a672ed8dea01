//! Reloads and stops: HTTP/3 goes and comes, and no request is lost.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::Request;

use super::{Site, alt_svc, block_on, text};
use crate::support::{Scripted, Server, Upstream, eventually, free_port, quic::answer};

const WITHOUT: &str = "\tservers {\n\t\tprotocols h1 h2\n\t}\n";

#[test]
fn a_reload_switches_it_off_and_on() {
    let site = Site::start_with(WITHOUT, "\trespond hi\n");
    assert_eq!(alt_svc(&site, false), None);
    // Nobody is there.
    UdpSocket::bind(("127.0.0.1", site.tls)).unwrap();
    site.reload("", "\trespond hi\n");
    assert!(alt_svc(&site, true).is_some());
    block_on(async {
        let mut client = site.connect().await;
        assert_eq!(client.get(&site.uri("/")).await.unwrap().text(), "hi");
        site.reload(WITHOUT, "\trespond hi\n");
        // The connection ends in peace, with a word.
        let ended = client.driver.await.unwrap();
        assert!(ended.is_h3_no_error(), "{ended}");
        // Connections that were open are through; others are refused, until the socket is closed.
        while UdpSocket::bind(("127.0.0.1", site.tls)).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    site.reload("", "\trespond again\n");
    block_on(async {
        let mut client = site.connect().await;
        assert_eq!(client.get(&site.uri("/")).await.unwrap().text(), "again");
    });
}

#[test]
fn a_port_in_use_is_an_error() {
    let tls = free_port();
    let taken = UdpSocket::bind(("0.0.0.0", tls)).unwrap();
    let server = Server::start(&text(tls, WITHOUT, "\trespond hi\n"));
    let (ok, said) = server.reload(&text(tls, "", "\trespond hi\n"));
    assert!(!ok, "{said}");
    assert!(
        said.contains(&format!(
            "starting HTTP/3 QUIC listener: listen udp :{tls}: bind: address already in use"
        )),
        "{said}"
    );
    drop(taken);
    let (ok, said) = server.reload(&text(tls, "", "\trespond hi\n"));
    assert!(ok, "{said}");
}

#[test]
fn no_request_is_lost_while_configs_change() {
    let lines = |number: usize| format!("\theader X-Generation {number}\n\trespond hi\n");
    let site = Arc::new(Site::start(&lines(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (site, stop, asked) = (site.clone(), stop.clone(), asked.clone());
            std::thread::spawn(move || {
                block_on(async {
                    let mut client = site.connect().await;
                    let mut last = String::new();
                    while !stop.load(Ordering::Relaxed) {
                        let got = client.get(&site.uri("/")).await.unwrap();
                        assert_eq!((got.status, got.text().as_str()), (200, "hi"));
                        last = got.headers["x-generation"].to_str().unwrap().to_owned();
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    last
                })
            })
        })
        .collect();
    let (end, mut generation) = (Instant::now() + Duration::from_secs(3), 0);
    while Instant::now() < end {
        generation += 1;
        site.reload("", &lines(generation));
    }
    let before = asked.load(Ordering::Relaxed);
    eventually("more requests", || asked.load(Ordering::Relaxed) > before + 20);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        // One connection met them all.
        assert_eq!(client.join().unwrap(), generation.to_string());
    }
    assert!(asked.load(Ordering::Relaxed) > 100);
}

#[test]
fn connections_that_are_to_end_lose_nothing() {
    let idle = |number: usize| {
        format!("\tservers {{\n\t\ttimeouts {{\n\t\t\tidle {}s\n\t\t}}\n\t}}\n", 100 + number)
    };
    let site = Arc::new(Site::start_with(&idle(0), "\trespond hi\n"));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (site, stop) = (site.clone(), stop.clone());
            std::thread::spawn(move || {
                block_on(async {
                    let (mut asked, mut connections) = (0, 1);
                    let mut client = site.connect().await;
                    while !stop.load(Ordering::Relaxed) {
                        let request = Request::get(site.uri("/")).body(()).unwrap();
                        let Ok(mut stream) = client.open(request).await else {
                            // Told to go elsewhere before anything was sent.
                            client = site.connect().await;
                            connections += 1;
                            continue;
                        };
                        stream.finish().await.unwrap();
                        assert_eq!(answer(&mut stream).await.unwrap().text(), "hi");
                        asked += 1;
                    }
                    (asked, connections)
                })
            })
        })
        .collect();
    for number in 1..8 {
        // What belongs to connections changed: open ones are to end.
        site.reload(&idle(number), "\trespond hi\n");
        std::thread::sleep(Duration::from_millis(200));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (asked, connections) = client.join().unwrap();
        assert!(asked > 20 && connections > 3, "{asked} requests on {connections} connections");
    }
}

#[test]
fn a_client_that_vanished_does_not_hold_up_the_stop() {
    let slow = Upstream::start("late");
    slow.set_delay(Duration::from_millis(400));
    let mut site = Site::start(&format!("\treverse_proxy {}\n", slow.address()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let mut client = site.connect().await;
        let request = Request::get(site.uri("/")).body(()).unwrap();
        let mut stream = client.open(request).await.unwrap();
        stream.finish().await.unwrap();
        // Long enough to send it all, and over before there is an answer.
        tokio::time::sleep(Duration::from_millis(100)).await;
        (client, stream)
    });
    // Nobody drives the client from here on: it neither reads nor acknowledges.
    eventually("the upstream answered", || slow.hits() == 1);
    site.server.signal("TERM");
    eventually("the server stops", || matches!(site.server.child.try_wait(), Ok(Some(_))));
    drop(client);
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let upstream = Scripted::start(|wire| {
        while wire.request().is_some() {
            std::thread::sleep(Duration::from_millis(600));
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
    });
    let mut site = Site::start_with(
        "\tgrace_period 10s\n",
        &format!("\treverse_proxy {}\n", upstream.address()),
    );
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::get(site.uri("/")).body(()).unwrap();
        let mut stream = client.open(request).await.unwrap();
        stream.finish().await.unwrap();
        while upstream.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        site.server.signal("TERM");
        let got = answer(&mut stream).await.unwrap();
        assert_eq!((got.status, got.text().as_str()), (200, "done"));
        drop(stream);
        let ended = client.driver.await.unwrap();
        assert!(ended.is_h3_no_error(), "{ended}");
    });
    eventually("the process ends", || matches!(site.server.child.try_wait(), Ok(Some(_))));
    assert!(site.server.child.wait().unwrap().success());
}

/// A client that is cut off hears of it, instead of waiting until it finds out; and who asked for
/// the stop has the answer when all is over.
#[test]
fn a_stop_cuts_off_what_outlasts_the_grace_period() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        // Never answered.
        wire.head();
    });
    let mut site = Site::start_with(
        "\tgrace_period 300ms\n",
        &format!("\treverse_proxy {}\n", upstream.address()),
    );
    let admin = site.server.admin;
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::get(site.uri("/")).body(()).unwrap();
        let mut stream = client.open(request).await.unwrap();
        stream.finish().await.unwrap();
        while upstream.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stop = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let status = crate::support::request(admin, "POST", "/stop", &[], "").unwrap().status;
            (status, began.elapsed())
        });
        assert!(answer(&mut stream).await.is_err());
        match client.connection.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), 0x100);
            }
            other => panic!("{other}"),
        }
        let (status, took) = stop.await.unwrap();
        assert_eq!(status, 200);
        assert!(took >= Duration::from_millis(300), "answered after {took:?}");
    });
    eventually("the process ends", || matches!(site.server.child.try_wait(), Ok(Some(_))));
    assert!(site.server.child.wait().unwrap().success());
    assert!(site.server.log().contains("grace period initiated"), "{}", site.server.log());
}
