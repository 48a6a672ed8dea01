//! The request body: a limit for its size, a replacement, and `{http.request.body}`.
//!
//! ```text
//! request_body [<matcher>] {
//!     max_size <size>
//!     set <body>
//!     read_timeout <duration>
//!     write_timeout <duration>
//! }
//! ```
//!
//! JSON: `{"handler": "request_body", "max_size": 1000, "set": "text", "read_timeout": 1000,
//! "write_timeout": 1000}`, the timeouts in nanoseconds. Both run from when the handler is met; the
//! one for writing counts with HTTP/1.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use base64::Engine as _;
use bytes::Bytes;
use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, Duration, Size};
use caddis_core::{
    Body, BodyError, CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler,
    HandlerModule, Helper, LocalBoxFuture, Middleware, Next, Response, Result as HttpResult,
    Template, Value, WriteLimits,
};
use http::{HeaderValue, header};
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::Sleep;

use super::timeouts::limit_writes;

/// `http.handlers.request_body`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.request_body", compile };
/// `request_body`.
pub static DIRECTIVE: Directive =
    Directive { name: "request_body", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The largest body, in bytes; 0 is no limit.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "caddis_config::Omit::is_omitted"
    )]
    pub max_size: i64,
    /// A body to use instead.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub set: String,
    /// How long reading the body may take, in nanoseconds.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "caddis_config::Omit::is_omitted"
    )]
    pub read_timeout: i64,
    /// How long writing the answer may take, in nanoseconds.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "caddis_config::Omit::is_omitted"
    )]
    pub write_timeout: i64,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "max_size" => {
                let Some([text]) = d.all_args() else { return Err(d.arg_err()) };
                let size = Size::parse(&text)
                    .map_err(|error| d.err(format!("parsing max_size: {error}")))?;
                config.max_size = size.as_i64();
            }
            "set" => {
                let Some([text]) = d.all_args() else { return Err(d.arg_err()) };
                config.set = text;
            }
            "read_timeout" => config.read_timeout = parse_timeout(d, "read_timeout")?,
            "write_timeout" => config.write_timeout = parse_timeout(d, "write_timeout")?,
            other => {
                let error = d.err(format!("unrecognized request_body subdirective '{other}'"));
                let names = ["max_size", "set", "read_timeout", "write_timeout"];
                return Err(d.did_you_mean(error, names));
            }
        }
    }
    h.handler("request_body", &config)
}

fn parse_timeout(d: &mut Dispenser, name: &str) -> ParseResult<i64> {
    let Some([text]) = d.all_args() else { return Err(d.arg_err()) };
    Duration::parse_go(&text)
        .map(Duration::as_nanos)
        .map_err(|error| d.err(format!("parsing {name}: {error}")))
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let set = (!config.set.is_empty()).then(|| Template::parse(&config.set));
    let wants_body = set.as_ref().is_some_and(|set| mentioned(&[set]));
    let max_size = u64::try_from(config.max_size).ok().filter(|size| *size > 0);
    let read_timeout = Duration::from_nanos(config.read_timeout).positive();
    let write_timeout = Duration::from_nanos(config.write_timeout).positive();
    let handler = RequestBody { set, max_size, read_timeout, write_timeout };
    Ok(with_body_placeholders(handler, wants_body))
}

struct RequestBody {
    set: Option<Template>,
    max_size: Option<u64>,
    read_timeout: Option<std::time::Duration>,
    write_timeout: Option<std::time::Duration>,
}

impl Filter for RequestBody {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        if let Some(set) = &self.set {
            let body = set.render(ex).into_owned();
            let request = &mut ex.request;
            request.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            request.chunked = false;
            request.body = body.into();
        }
        if let Some(timeout) = self.write_timeout {
            let deadline = Some(std::time::Instant::now() + timeout);
            limit_writes(ex, WriteLimits { idle: None, deadline });
        }
        let limited = self.max_size.is_some() || self.read_timeout.is_some();
        if limited && !ex.request.body.is_empty() {
            let inner = ex.request.body.take();
            let left = self.max_size.unwrap_or(u64::MAX);
            let deadline = self.read_timeout.map(|time| Box::pin(tokio::time::sleep(time)));
            ex.request.body = Body::stream(Limited { inner, left, deadline, failed: false });
        }
        Ok(Flow::Continue)
    }
}

/// A body that fails once more bytes come than allowed, or once it takes too long.
struct Limited {
    inner: Body,
    left: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        // A length announced beforehand is enough to refuse; nothing needs to be read for it.
        if self.inner.size_hint().lower() > self.left {
            self.failed = true;
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            if let Some(deadline) = &mut this.deadline {
                std::task::ready!(deadline.as_mut().poll(cx));
                this.failed = true;
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
            return Poll::Pending;
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

const BODY: &str = "http.request.body";
const BODY_BASE64: &str = "http.request.body_base64";
/// The most of a body that a placeholder holds.
const MOST: usize = 64 << 20;

/// Whether one of the templates asks for the request's body.
pub(crate) fn mentioned(templates: &[&Template]) -> bool {
    templates.iter().any(|template| template.keys().any(|key| key == BODY || key == BODY_BASE64))
}

/// The filter as a handler; one that reads the whole body first where the filter asks for it.
pub(crate) fn with_body_placeholders(filter: impl Filter, wants_body: bool) -> Handler {
    if wants_body { Handler::middleware(ReadFirst(filter)) } else { Handler::filter(filter) }
}

struct ReadFirst<F>(F);

impl<F: Filter> Middleware for ReadFirst<F> {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            read(ex).await?;
            match self.0.apply(ex)? {
                Flow::Continue => next.run(ex).await,
                Flow::Respond(response) => Ok(response),
            }
        })
    }
}

/// Reads the whole body, sets its placeholders, and puts it back for those who come later.
pub(crate) async fn read(ex: &mut Exchange) -> HttpResult<()> {
    let mut ahead = ex.request.body.take().read_ahead(MOST + 1).await;
    if let Some(error) = ahead.take_error() {
        return Err(error.into());
    }
    let body = ahead.read();
    if body.len() > MOST {
        return Err(BodyError::TooLarge.into());
    }
    ex.set_value(BODY, Value::string(String::from_utf8_lossy(body)));
    let base64 = base64::engine::general_purpose::STANDARD.encode(body);
    ex.set_value(BODY_BASE64, Value::string(base64));
    ex.request.body = ahead.into_body();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::tests::{adapt, block_on, compiled, run_in};
    use serde_json::json;

    #[test]
    fn forms() {
        assert_eq!(
            adapt("request_body {\n max_size 10MB\n set x\n}"),
            Ok(json!({"handler": "request_body", "max_size": 10_000_000, "set": "x"}))
        );
        assert_eq!(
            adapt("request_body {\n read_timeout 5s\n}"),
            Ok(json!({"handler": "request_body", "read_timeout": 5_000_000_000_i64}))
        );
        assert!(adapt("request_body {\n max_size lots\n}").is_err());
        assert!(adapt("request_body {\n nope\n}").is_err());
    }

    fn with_body(body: &'static str) -> Box<Exchange> {
        let mut ex = Exchange::for_test("/x");
        ex.request.body = body.into();
        ex
    }

    #[test]
    fn limits() {
        let routes = compiled(&["request_body {\n max_size 4\n}"]);
        for (body, fits) in [("four", true), ("fives", false)] {
            let mut ex = with_body(body);
            block_on(Next::new(&routes, None).run(&mut ex)).expect("runs");
            let read = block_on(ex.request.body.take().collect(100));
            assert_eq!(read.is_ok(), fits, "{body}");
        }
    }

    #[test]
    fn times_out() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let routes = compiled(&["request_body {\n read_timeout 1ms\n}"]);
            let mut ex = Exchange::for_test("/x");
            ex.request.body = Body::stream(Stuck);
            Next::new(&routes, None).run(&mut ex).await.expect("runs");
            let read = ex.request.body.take().collect(100).await;
            assert!(matches!(read, Err(BodyError::Timeout)));
        });
    }

    /// A body that never comes.
    struct Stuck;

    impl http_body::Body for Stuck {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    #[test]
    fn sets_and_shows() {
        let mut ex = with_body("old");
        let directives = [
            "request_body {\n set \"new {http.request.uri.path}\"\n}",
            "respond [{http.request.body}]",
        ];
        let response = run_in(&directives, &mut ex).expect("answers");
        assert_eq!(response.body, "[new /x]");
        assert_eq!(ex.request.headers["content-length"], "6");
    }
}
