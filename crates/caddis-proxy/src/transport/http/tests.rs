//! The HTTP/1 client against upstreams that follow a script.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use caddis_core::{Body, BodyError, CompileCx, State, metrics::Metrics};
use caddis_wire::BodyFraming;
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use serde_json::json;

use super::*;
use crate::{
    testing::{HEAD, Scripted, Step, registry, reply, run},
    upstream::{Address, UpstreamState},
};

struct Client {
    transport: HttpTransport,
    local: Rc<Local>,
    pool: Rc<HostPool>,
    _id: Arc<PoolId>,
}

fn client(address: std::net::SocketAddr, config: serde_json::Value) -> Client {
    let registry = registry();
    let state = State::default();
    let cx = CompileCx::new(&registry, &state, Arc::new(Metrics::default()));
    let config = serde_json::from_value(config).expect("a transport");
    let transport = compile(&config, &cx).expect("compiles");
    let id = PoolId::lease(&state.table(), &transport.fingerprint, "x", transport.max_conns);
    let address = Address::parse(&address.to_string()).expect("an address");
    let way = transport.static_way(&address).expect("a way");
    let pool =
        HostPool::new(address, way, transport.keep.clone(), &id, Arc::<UpstreamState>::default());
    Client { transport, local: Rc::default(), pool, _id: id }
}

impl Client {
    async fn send(
        &self,
        method: &Method,
        body: &mut RequestBody,
        framing: BodyFraming,
    ) -> Result<Answer, Failure> {
        self.send_seeing(method, body, framing, None).await
    }

    async fn send_seeing(
        &self,
        method: &Method,
        body: &mut RequestBody,
        framing: BodyFraming,
        informational: Informational<'_>,
    ) -> Result<Answer, Failure> {
        let headers = HeaderMap::new();
        let outgoing = Outgoing {
            method,
            target: "/path?x=1",
            host: b"example.com",
            fields: Fields::Ready(&headers),
            framing,
            close: !self.transport.keep.enabled,
            ask_gzip: false,
            upgrade: false,
        };
        let sending = Sending {
            on_new: false,
            pass: false,
            outgoing: &outgoing,
            map: &HeaderMap::new,
            pool: &self.pool,
            local: &self.local,
            server_name: None,
            proxy: None,
            informational,
        };
        self.transport.send(&sending, body).await
    }

    async fn get(&self) -> Result<(StatusCode, Result<String, BodyError>), Failure> {
        let answer = self.send(&Method::GET, &mut RequestBody::None, BodyFraming::None).await?;
        Ok((answer.status, text(answer.body).await))
    }
}

async fn text(body: AnswerBody) -> Result<String, BodyError> {
    let body = match body {
        AnswerBody::Whole(body) | AnswerBody::Multiplexed(body) => body,
        AnswerBody::Http1(body) => Body::Stream(Box::into_pin(body)),
        AnswerBody::Switched(_) => panic!("switched"),
    };
    body.collect(1 << 20).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn raw(text: &str) -> Step {
    Step::Send(text.to_owned())
}

/// A body that gives its pieces and then ends, fails or waits for ever.
struct Pieces(Vec<&'static str>, End);

#[derive(Clone, Copy)]
enum End {
    Clean,
    Broken,
    Never,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.0.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.0.remove(0).into()))));
        }
        match self.1 {
            End::Clean => Poll::Ready(None),
            End::Broken => Poll::Ready(Some(Err(BodyError::Incomplete))),
            End::Never => Poll::Pending,
        }
    }
}

fn pieces(pieces: &[&'static str], end: End) -> RequestBody {
    RequestBody::Stream(Body::stream(Pieces(pieces.to_vec(), end)))
}

#[test]
fn a_connection_is_used_again() {
    run(async {
        let script = vec![HEAD, reply("one"), HEAD, reply("two")];
        let upstream = Scripted::new(vec![script]).await;
        let client = client(upstream.address, json!({}));
        for want in ["one", "two"] {
            let (status, body) = client.get().await.expect("an answer");
            assert_eq!((status.as_u16(), body.expect("whole").as_str()), (200, want));
            assert_eq!(client.pool.idle_count(), 1);
        }
        assert_eq!(upstream.connections(), 1);
        let head = "GET /path?x=1 HTTP/1.1\r\nHost: example.com\r\n\r\n";
        assert_eq!(upstream.seen.borrow()[0], head.repeat(2));
    });
}

#[test]
fn keepalive_off_closes() {
    run(async {
        let upstream = Scripted::new(vec![vec![HEAD, reply("x"), Step::Hang]]).await;
        let client = client(upstream.address, json!({"keep_alive": {"enabled": false}}));
        for _ in 0..2 {
            let _ = client.get().await.expect("an answer");
        }
        assert_eq!(upstream.connections(), 2);
        assert!(upstream.seen.borrow()[0].contains("Connection: close\r\n"));
    });
}

#[test]
fn a_stale_connection_is_replaced_for_idempotent_requests() {
    run(async {
        // The first connection closes when it gets its second request.
        let first = vec![HEAD, reply("one"), HEAD];
        let upstream =
            Scripted::new(vec![first.clone(), vec![HEAD, reply("two"), Step::Hang]]).await;
        let client_ = client(upstream.address, json!({}));
        assert_eq!(client_.get().await.expect("an answer").1.expect("whole"), "one");
        assert_eq!(client_.get().await.expect("another try").1.expect("whole"), "two");

        let upstream = Scripted::new(vec![first, vec![HEAD, reply("two"), Step::Hang]]).await;
        let client_ = client(upstream.address, json!({}));
        let _ = client_.get().await.expect("an answer");
        let mut body = RequestBody::Full("x".into());
        let result = client_.send(&Method::POST, &mut body, BodyFraming::Length(1)).await;
        assert!(matches!(result, Err(Failure::Transport(_))), "a POST is sent once");
    });
}

#[test]
fn a_connection_closed_while_idle_is_not_used() {
    run(async {
        let upstream = Scripted::new(vec![
            vec![HEAD, reply("one")],
            vec![HEAD, reply("two"), raw("HTTP/1.1 408 Request Timeout\r\n\r\n"), Step::Hang],
            vec![HEAD, reply("three"), Step::Hang],
        ])
        .await;
        let client = client(upstream.address, json!({}));
        for want in ["one", "two", "three"] {
            let mut body = RequestBody::Full("x".into());
            let answer = client.send(&Method::POST, &mut body, BodyFraming::Length(1)).await;
            assert_eq!(text(answer.expect("an answer").body).await.expect("whole"), want);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn bodies_of_all_framings() {
    run(async {
        for (response, want, pooled) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                "abcde",
                1,
            ),
            ("HTTP/1.0 200 OK\r\n\r\nold", "old", 0),
            ("HTTP/1.1 204 No Content\r\n\r\n", "", 1),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabEXTRA", "ab", 0),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab", "ab", 0),
        ] {
            let mut script = vec![HEAD, raw(response)];
            if !response.starts_with("HTTP/1.0") {
                script.push(Step::Hang);
            }
            let upstream = Scripted::new(vec![script]).await;
            let client = client(upstream.address, json!({}));
            let (_, body) = client.get().await.expect("an answer");
            assert_eq!(body.expect("whole"), want, "{response}");
            assert_eq!(client.pool.idle_count(), pooled, "{response}");
        }
    });
}

#[test]
fn cut_bodies_are_errors() {
    run(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
        ] {
            let upstream = Scripted::new(vec![vec![HEAD, raw(response)]]).await;
            let client = client(upstream.address, json!({}));
            let none = &mut RequestBody::None;
            let answer = client.send(&Method::GET, none, BodyFraming::None).await.expect("a head");
            let AnswerBody::Http1(body) = answer.body else { panic!("a stream") };
            let mut body = Body::Stream(Box::into_pin(body));
            while let Some(Ok(_)) = body.next_data().await {}
            assert!(!body.is_empty() && body.exact_len().is_none(), "{response}");
            assert!(matches!(body.next_data().await, Some(Err(_))), "{response}");
            assert_eq!(client.pool.idle_count(), 0);
        }
    });
}

#[test]
fn broken_heads_are_errors() {
    run(async {
        for response in [
            "",
            "HTTP/1.1 20",
            "HTTP/1.1 200 OK\r\nX: y",
            "not http at all\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: bogus\r\n\r\nhello",
        ] {
            let upstream = Scripted::new(vec![vec![HEAD, raw(response)]]).await;
            let client = client(upstream.address, json!({}));
            let result = client.get().await;
            assert!(matches!(result, Err(Failure::Transport(_))), "{response}");
            assert_eq!(upstream.connections(), 1, "{response}");
        }
        let big = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(3000));
        let upstream = Scripted::new(vec![vec![HEAD, raw(&big)]]).await;
        let client = client(upstream.address, json!({"max_response_header_size": 2048}));
        assert!(matches!(client.get().await, Err(Failure::Transport(_))));
    });
}

#[test]
fn informational_responses_are_passed_on() {
    run(async {
        let response = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
                        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let upstream = Scripted::new(vec![vec![HEAD, raw(response), Step::Hang]]).await;
        let client = client(upstream.address, json!({}));
        let seen = RefCell::new(Vec::new());
        let note = |status: StatusCode, headers: HeaderMap| {
            seen.borrow_mut().push((status.as_u16(), headers.len()));
        };
        let answer = client
            .send_seeing(&Method::GET, &mut RequestBody::None, BodyFraming::None, Some(&note))
            .await
            .expect("an answer");
        assert_eq!(text(answer.body).await.expect("whole"), "ok");
        assert_eq!(*seen.borrow(), [(103, 1)]);
        assert_eq!(client.pool.idle_count(), 1);
    });
}

#[test]
fn trailers_go_both_ways() {
    run(async {
        let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                        X-Sum: 1\r\n\r\n";
        let upstream =
            Scripted::new(vec![vec![HEAD, Step::Read("0\r\n\r\n"), raw(response), Step::Hang]])
                .await;
        let client = client(upstream.address, json!({}));
        let mut body = pieces(&["abc", "defgh"], End::Clean);
        let answer =
            client.send(&Method::POST, &mut body, BodyFraming::Chunked).await.expect("an answer");
        let AnswerBody::Http1(mut body) = answer.body else { panic!("a stream") };
        let mut trailers = None;
        while let Some(frame) =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await
        {
            if let Ok(found) = frame.expect("valid").into_trailers() {
                trailers = Some(found);
            }
        }
        assert_eq!(trailers.expect("some")["x-sum"], "1");
        assert!(upstream.seen.borrow()[0].ends_with("3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n"));
    });
}

#[test]
fn an_early_answer_arrives_while_the_body_goes_out() {
    run(async {
        let response = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig";
        let upstream = Scripted::new(vec![vec![HEAD, raw(response), Step::Hang]]).await;
        let client = client(upstream.address, json!({}));
        let mut body = pieces(&["abc"], End::Never);
        let answer =
            client.send(&Method::POST, &mut body, BodyFraming::Chunked).await.expect("an answer");
        assert_eq!(answer.status.as_u16(), 413);
        assert_eq!(text(answer.body).await.expect("whole"), "big");
        assert_eq!(client.pool.idle_count(), 0, "the rest of the request is still owed");
    });
}

#[test]
fn a_client_that_breaks_off_is_no_failure_of_the_upstream() {
    run(async {
        let upstream = Scripted::new(vec![vec![HEAD, Step::Hang]]).await;
        let client = client(upstream.address, json!({}));
        for framing in [BodyFraming::Chunked, BodyFraming::Length(10)] {
            let mut body = pieces(&["abc"], End::Broken);
            let result = client.send(&Method::POST, &mut body, framing).await;
            assert!(matches!(result, Err(Failure::RequestBody(BodyError::Incomplete))));
        }
        let mut body = pieces(&["abcdef"], End::Clean);
        let result = client.send(&Method::POST, &mut body, BodyFraming::Length(3)).await;
        assert!(matches!(result, Err(Failure::RequestBody(BodyError::Malformed(_)))));
    });
}

#[test]
fn timeouts() {
    run(async {
        let upstream = Scripted::new(vec![vec![HEAD, Step::Hang]]).await;
        let client_ = client(upstream.address, json!({"response_header_timeout": "20ms"}));
        assert!(matches!(client_.get().await, Err(Failure::Timeout(_))));
        let client_ = client(upstream.address, json!({"read_timeout": "20ms"}));
        assert!(matches!(client_.get().await, Err(Failure::Timeout(_))));
    });
}

#[test]
fn a_limit_of_connections_makes_requests_wait() {
    run(async {
        let script = vec![HEAD, reply("x"), HEAD, reply("x"), HEAD, reply("x"), Step::Hang];
        let upstream = Scripted::new(vec![script]).await;
        let client = client(upstream.address, json!({"max_conns_per_host": 1}));
        let (a, b, c) = tokio::join!(client.get(), client.get(), client.get());
        for result in [a, b, c] {
            assert!(result.is_ok());
        }
        assert_eq!(upstream.connections(), 1);
    });
}

#[test]
fn refused_connections_are_dial_failures() {
    run(async {
        let address = crate::testing::nobody().await;
        let client = client(address, json!({}));
        let Err(Failure::Dial(text)) = client.get().await else { panic!("nobody listens") };
        assert_eq!(text, format!("dial tcp {address}: connect: connection refused"));
    });
}
