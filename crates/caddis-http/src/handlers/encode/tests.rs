use std::{
    io::Read,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use caddis_core::{BodyError, State, metrics::Metrics};
use http_body::Frame;

use super::*;
use crate::matchers::testing::registry;

fn parse(text: &str) -> std::result::Result<Json, String> {
    let tokens = caddis_caddyfile::tokenize("Caddyfile", text).map_err(|e| e.to_string())?;
    let config = parse_config(&mut Dispenser::new(tokens));
    config
        .map(|config| serde_json::to_value(config).expect("an object"))
        .map_err(|error| error.message.clone())
}

fn compiled(json: &Json) -> std::result::Result<Box<dyn Filter>, String> {
    let (registry, state) = (registry(), State::default());
    let mut cx = CompileCx::new(&registry, &state, Arc::new(Metrics::default()));
    match compile(json, &mut cx) {
        Ok(Handler::Filter(filter)) => Ok(filter),
        Ok(Handler::Middleware(_)) => panic!("a filter"),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the filter and then its response filters.
fn run(filter: &dyn Filter, ex: &mut Exchange, mut response: Response) -> Response {
    assert!(matches!(filter.apply(ex), Ok(Flow::Continue)));
    while let Some(filter) = ex.response_filters.pop() {
        filter.apply(ex, &mut response);
    }
    response
}

fn request(accept: &'static str) -> Box<Exchange> {
    let mut ex = Exchange::for_test("/");
    ex.request.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
    ex
}

fn response(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    if !kind.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

fn coding(response: &Response) -> &str {
    response
        .headers()
        .get(header::CONTENT_ENCODING)
        .map_or("", |value| value.to_str().expect("text"))
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip");
    text
}

#[test]
fn shapes() {
    for (text, want) in [
        ("encode", json!({"encodings": {"gzip": {}, "zstd": {}}, "prefer": ["zstd", "gzip"]})),
        (
            "encode gzip zstd {\n minimum_length 256\n match {\n status 2xx 500\n \
             header Content-Type text/*\n }\n}",
            json!({"encodings": {"gzip": {}, "zstd": {}}, "prefer": ["gzip", "zstd"],
                "minimum_length": 256,
                "match": {"status_code": [2, 500], "headers": {"Content-Type": ["text/*"]}}}),
        ),
        (
            "encode {\n zstd {\n disable_checksum\n }\n gzip 5\n}",
            json!({"encodings": {"gzip": {"level": 5}, "zstd": {"checksum": false}},
                "prefer": ["zstd", "gzip"]}),
        ),
        (
            "encode {\n zstd best\n}",
            json!({"encodings": {"zstd": {"level": "best"}}, "prefer": ["zstd"]}),
        ),
    ] {
        assert_eq!(parse(text), Ok(want), "{text}");
    }
    let error = "finding encoder module '': module not registered: http.encoders.br";
    assert_eq!(parse("encode br"), Err(error.into()));
}

#[test]
fn refuses() {
    for (json, want) in [
        (
            json!({"encodings": {"gzip": {"level": 10}}}),
            "encodings.gzip.level: quality too high; must be <= 9",
        ),
        (json!({"prefer": ["gzip"]}), "prefer: encoding gzip not enabled"),
        (
            json!({"encodings": {"gzip": {}}, "prefer": ["gzip", "gzip"]}),
            "prefer: encoding gzip is duplicated in prefer",
        ),
    ] {
        assert_eq!(compiled(&json).err().as_deref(), Some(want));
    }
}

#[tokio::test]
async fn negotiates_and_changes_headers() {
    let filter =
        compiled(&json!({"encodings": {"gzip": {}, "zstd": {}}, "prefer": ["zstd", "gzip"]}))
            .expect("compiles");
    let text = "0123456789".repeat(100);
    for (accept, want) in [
        ("gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=1.0", "gzip"),
        ("gzip;q=0", ""),
        ("*", ""),
        ("br", ""),
    ] {
        let got = run(&*filter, &mut request(accept), response("text/html", text.clone()));
        assert_eq!(coding(&got), want, "{accept}");
    }
    let mut plain = response("text/html", text.clone());
    let headers = plain.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_static("\"abc\""));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let got = run(&*filter, &mut request("gzip"), plain);
    assert_eq!(got.headers()[header::ETAG], "\"abc-gzip\"");
    assert_eq!(got.headers().get_all(header::VARY).iter().count(), 2);
    assert!(!got.headers().contains_key(header::ACCEPT_RANGES));
    let body = got.into_body().collect(1 << 20).await.expect("reads");
    assert_eq!(gunzip(&body), text);
}

#[test]
fn skips() {
    let filter = compiled(&json!({"encodings": {"gzip": {}}})).expect("compiles");
    let text = || "0123456789".repeat(100);
    let run = |response| coding(&run(&*filter, &mut request("gzip"), response)).to_owned();
    assert_eq!(run(response("text/html", text())), "gzip");
    assert_eq!(run(response("", text())), "gzip");
    assert_eq!(run(response("image/png", text())), "");
    assert_eq!(run(response("text/html", "short")), "");
    let mut partial = response("text/html", text());
    *partial.status_mut() = StatusCode::PARTIAL_CONTENT;
    assert_eq!(run(partial), "");
    let mut own = response("text/html", text());
    own.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    assert_eq!(run(own), "br");
    let mut fixed = response("text/html", text());
    fixed
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, no-transform"));
    assert_eq!(run(fixed), "");
    let mut weak = response("text/html", text());
    weak.headers_mut().insert(header::ETAG, HeaderValue::from_static("W/\"a\""));
    assert_eq!(run(weak), "gzip");
}

#[test]
fn tags_of_the_client() {
    let filter = compiled(&json!({"encodings": {"gzip": {}}})).expect("compiles");
    let mut ex = request("gzip");
    let tag = HeaderValue::from_static("\"a-gzip\"");
    ex.request.headers.insert(header::IF_NONE_MATCH, tag);
    let mut unchanged = response("", "");
    *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
    let got = run(&*filter, &mut ex, unchanged);
    assert_eq!(ex.request.headers[header::IF_NONE_MATCH], "\"a\"");
    assert_eq!(got.headers()[header::VARY], "Accept-Encoding");

    let mut ex = request("gzip");
    ex.original.method = Method::HEAD;
    let mut head = response("text/html", "");
    head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("2000"));
    let got = run(&*filter, &mut ex, head);
    assert_eq!(coding(&got), "gzip");
    assert!(!got.headers().contains_key(header::CONTENT_LENGTH));
}

/// Gives an event, then waits once, then ends.
struct Events(u8);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BodyError>>> {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n"))))),
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(None),
        }
    }
}

#[tokio::test]
async fn events_are_flushed() {
    let filter = compiled(&json!({"encodings": {"gzip": {}}})).expect("compiles");
    let events = response("text/event-stream", Body::stream(Events(0)));
    let mut body = run(&*filter, &mut request("gzip"), events).into_body();
    assert_eq!(body.exact_len(), None);
    let first = body.next_data().await.expect("data").expect("no error");
    let mut text = [0; 9];
    flate2::read::GzDecoder::new(&first[..]).read_exact(&mut text).expect("decodes");
    assert_eq!(&text, b"data: 1\n\n");
    let mut all = first.to_vec();
    all.extend(body.collect(1 << 20).await.expect("reads"));
    assert_eq!(gunzip(&all), "data: 1\n\n");
}
