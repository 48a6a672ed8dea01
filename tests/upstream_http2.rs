//! HTTP/2 to upstreams in clear text: what is sent again, what is opened beside, gRPC both ways.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Scripted, Server, Wire, eventually,
    frames::{
        DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, SETTINGS, fields, frame,
    },
    get, site_with,
};

/// An upstream's side of a connection.
struct Up<'a>(&'a mut Wire);

impl<'a> Up<'a> {
    fn begin(wire: &'a mut Wire) -> Self {
        wire.take(24);
        wire.send(frame(SETTINGS, 0, 0, &[]));
        Self(wire)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(frame(kind, flags, stream, payload));
    }

    fn next(&mut self) -> Option<Frame> {
        let head = self.0.take(9);
        let [a, b, c, kind, flags, rest @ ..] = &*head else { return None };
        let payload = self.0.take(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        let stream = u32::from_be_bytes(rest.try_into().ok()?) & 0x7fff_ffff;
        Some(Frame { kind: *kind, flags: *flags, stream, payload })
    }

    /// The stream of the next request.
    fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            match frame.kind {
                HEADERS => return Some(frame.stream),
                SETTINGS if frame.flags == 0 => self.send(SETTINGS, 1, 0, &[]),
                _ => {}
            }
        }
    }

    fn answer(&mut self, stream: u32, text: &str) {
        self.send(HEADERS, END_HEADERS, stream, &fields(&[(":status", "200")]));
        self.send(DATA, END_STREAM, stream, text.as_bytes());
    }
}

fn front(address: &str, block: &str) -> Server {
    Server::start(&site_with(&format!(
        "\treverse_proxy h2c://{address} {{\n\t\tflush_interval -1\n{block}\n\t}}\n"
    )))
}

/// An upstream that does something else with the second request of each connection.
fn twisted(twist: impl Fn(&mut Up<'_>, u32) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |wire| {
        let mut up = Up::begin(wire);
        while let Some(stream) = up.request() {
            if stream == 3 { twist(&mut up, stream) } else { up.answer(stream, "taken") }
        }
    })
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// Statuses of three requests one after the other.
fn three(upstream: &Scripted) -> Vec<u16> {
    let server = front(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    let statuses = (0..3).map(|_| {
        // Not idempotent: only what was surely not taken may be sent again.
        wire.send(POST);
        wire.answer().status
    });
    statuses.collect()
}

#[test]
fn what_was_not_taken_is_sent_again() {
    let refused = twisted(|up, stream| up.send(RST_STREAM, 0, stream, &7u32.to_be_bytes()));
    assert_eq!(three(&refused), [200, 200, 200]);
    assert_eq!(refused.connections(), 2);
    // The last stream that is answered is the first one.
    let leaving = twisted(|up, _| up.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(three(&leaving), [200, 200, 200]);
    let broken = twisted(|up, stream| up.send(RST_STREAM, 0, stream, &2u32.to_be_bytes()));
    assert_eq!(three(&broken), [200, 502, 200], "it may have been done");
    let unwell = twisted(|up, _| up.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11]));
    assert_eq!(three(&unwell)[1], 502, "it may have been done");
}

#[test]
fn a_new_connection_may_refuse_once() {
    // Those before this one refuse all, or leave at once.
    for (taking, leaves, expected) in
        [(1, false, (200, 2)), (1, true, (200, 2)), (9, false, (502, 2)), (9, true, (502, 2))]
    {
        let connections = AtomicUsize::new(0);
        let upstream = Scripted::start(move |wire| {
            let mut up = Up::begin(wire);
            let takes = connections.fetch_add(1, Ordering::SeqCst) >= taking;
            while let Some(stream) = up.request() {
                match (takes, leaves) {
                    (true, _) => up.answer(stream, "taken"),
                    (false, true) => return up.send(GOAWAY, 0, 0, &[0; 8]),
                    (false, false) => up.send(RST_STREAM, 0, stream, &7u32.to_be_bytes()),
                }
            }
        });
        let server = front(&upstream.address(), "");
        let mut wire = Wire::connect(server.port);
        wire.send(POST);
        assert_eq!((wire.answer().status, upstream.connections()), expected);
    }
}

#[test]
fn who_says_goodbye_ends_what_is_under_way() {
    let upstream = Scripted::start(|wire| {
        let mut up = Up::begin(wire);
        while let Some(stream) = up.request() {
            up.send(HEADERS, END_HEADERS, stream, &fields(&[(":status", "200")]));
            up.send(DATA, 0, stream, b"one");
            up.send(GOAWAY, 0, 0, &[0, 0, 0, stream as u8, 0, 0, 0, 0]);
            up.send(DATA, END_STREAM, stream, b"two");
        }
    });
    let server = front(&upstream.address(), "");
    for at in 1..4 {
        assert_eq!(get(server.port, "/").body.replace(['\r', '\n'], ""), "onetwo", "{at}");
        assert_eq!(upstream.connections(), at);
    }
}

#[test]
fn half_an_answer_does_not_look_whole() {
    let upstream = Scripted::start(|wire| {
        let mut up = Up::begin(wire);
        if let Some(stream) = up.request() {
            up.send(HEADERS, END_HEADERS, stream, &fields(&[(":status", "200")]));
            up.send(DATA, 0, stream, b"half");
        }
    });
    let server = front(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = wire.head();
    let rest = wire.rest();
    assert!(head.contains("502") || !rest.ends_with(b"0\r\n\r\n"), "{head}");
}

/// What a server of the `h2` crate does with a request.
type Answering =
    Arc<dyn Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> Pinned + Send + Sync>;
type Pinned = std::pin::Pin<Box<dyn Future<Output = Option<()>> + Send>>;

/// Such a server; its port, and its connections so far.
fn serve(max_streams: u32, answering: Answering) -> (String, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answering = answering.clone();
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    builder.max_concurrent_streams(max_streams).max_header_list_size(1 << 20);
                    let mut connection = builder.handshake(stream).await.ok()?;
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answering(request, respond));
                    }
                    Some(())
                });
            }
        });
    });
    (address, connections)
}

#[test]
fn another_connection_where_one_is_full() {
    let (address, connections) = serve(
        1,
        Arc::new(|request, mut respond| {
            Box::pin(async move {
                if request.uri().path() == "/slow" {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                }
                respond.send_response(Response::new(()), true).ok().map(drop)
            })
        }),
    );
    let server = front(&address, "");
    let mut first = Wire::connect(server.port);
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(first.answer().status, 200);
    let mut slow: Vec<_> = (0..3).map(|_| Wire::connect(server.port)).collect();
    for (at, wire) in slow.iter_mut().enumerate() {
        wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it has a connection of its own", || connections.load(Ordering::SeqCst) > at);
    }
    assert_eq!(get(server.port, "/quick").status, 200);
}

/// Bodies that come piece by piece cannot be sent twice, so none may be sent before it is known how
/// many requests the upstream takes.
#[test]
fn a_new_connection_is_not_overfilled() {
    let (address, _) = serve(
        1,
        Arc::new(|request, mut respond| {
            Box::pin(async move {
                let mut body = request.into_body();
                while let Some(data) = body.data().await {
                    body.flow_control().release_capacity(data.ok()?.len()).ok()?;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                respond.send_response(Response::new(()), true).ok().map(drop)
            })
        }),
    );
    let server = front(&address, "");
    let mut wires: Vec<_> = (0..12).map(|_| Wire::connect(server.port)).collect();
    for wire in &mut wires {
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n");
    }
    for wire in &mut wires {
        wire.send("0\r\n\r\n");
    }
    let statuses: Vec<_> = wires.iter_mut().map(|wire| wire.answer().status).collect();
    assert_eq!(statuses, [200; 12]);
}

#[test]
fn large_heads_up_to_the_limit() {
    let (address, _) = serve(
        100,
        Arc::new(|_, mut respond| {
            Box::pin(async move {
                let mut response = Response::new(());
                for at in 0..20 {
                    let name = http::HeaderName::try_from(format!("x-{at}")).ok()?;
                    let value = HeaderValue::try_from("v".repeat(9000)).ok()?;
                    response.headers_mut().insert(name, value);
                }
                respond.send_response(response, true).ok().map(drop)
            })
        }),
    );
    let server = front(&address, "");
    let answer = get(server.port, "/");
    assert_eq!((answer.status, answer.header("x-19").map(str::len)), (200, Some(9000)));
    let small = "\t\ttransport http {\n\t\t\tversions h2c\n\t\t\tmax_response_header 64KiB\n\t\t}";
    let strict = front(&address, small);
    assert_eq!(get(strict.port, "/").status, 502);
}

/// A stream of messages answered one by one, and the status of gRPC behind.
async fn echo(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Option<()> {
    assert_eq!(request.headers()["te"], "trailers");
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut send = respond.send_response(response, false).ok()?;
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
        send.send_data(data, false).ok()?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("fine"));
    send.send_trailers(trailers).ok()
}

#[test]
fn grpc_passes_unary_and_streaming() {
    let (address, connections) =
        serve(100, Arc::new(|request, respond| Box::pin(echo(request, respond))));
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tservers {{\n\t\tprotocols h1 h2c\n\t}}\n}}\n{}",
        site_with(&format!("\treverse_proxy h2c://{address}\n"))
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talk = async {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = || {
            Request::post(format!("http://localhost:{}/pkg.Service/Method", server.port))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap()
        };
        // Unary: one message, which ends the request.
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request(), false).unwrap();
        send.send_data(Bytes::from_static(b"\0\0\0\0\x05hello"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let message = body.data().await.unwrap().unwrap();
        assert_eq!(&*message, b"\0\0\0\0\x05hello");
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        // Streaming both ways: each message is answered before the next one is sent.
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request(), false).unwrap();
        send.send_data(Bytes::from_static(b"0"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut body = response.into_body();
        assert_eq!(&*body.data().await.unwrap().unwrap(), b"0");
        for at in 1..20 {
            let message = Bytes::from(at.to_string());
            send.send_data(message.clone(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), message);
        }
        send.send_data(Bytes::new(), true).unwrap();
        while let Some(data) = body.data().await {
            assert!(data.unwrap().is_empty());
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&HeaderValue::from_static("0"), &HeaderValue::from_static("fine"),)
        );
    };
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), talk).await })
        .expect("in time");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
