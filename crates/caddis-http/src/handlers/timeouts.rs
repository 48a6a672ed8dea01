//! Deadlines of single requests: `timeouts`. How long the next bytes of the request's body may take,
//! and one write of the answer (HTTP/1). With a rate, a read or write has the time its bytes take at
//! that rate besides. `max_write_chunk` is read and changes nothing: writes have a size of their own.
//!
//! ```text
//! timeouts [<matcher>] {
//!     read_timeout    <duration> [<bytes per second>]
//!     write_timeout   <duration> [<bytes per second>]
//!     max_write_chunk <size>
//! }
//! ```
//!
//! JSON: `{"handler": "timeouts", "read_timeout": 1000, "read_min_rate": 1, "write_timeout": 1000,
//! "write_min_rate": 1, "max_write_chunk": 65536}`, durations in nanoseconds.

use std::{
    num::NonZero,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, Duration, Size};
use caddis_core::{
    Body, BodyError, CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler,
    HandlerModule, Helper, Response, ResponseFilter, Result as HttpResult, WriteLimits,
};
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::{Instant, Sleep};

/// `http.handlers.timeouts`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.timeouts", compile };
/// `timeouts`.
pub static DIRECTIVE: Directive =
    Directive { name: "timeouts", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a read may wait, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<i64>,
    /// Bytes per second that reads must reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_min_rate: Option<i64>,
    /// How long a write may wait, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout: Option<i64>,
    /// Bytes per second that writes must reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_min_rate: Option<i64>,
    /// The most bytes of one write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_write_chunk: Option<i64>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if d.next_arg() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "read_timeout" => {
                (config.read_timeout, config.read_min_rate) = parse_deadline(d)?;
            }
            "write_timeout" => {
                (config.write_timeout, config.write_min_rate) = parse_deadline(d)?;
            }
            "max_write_chunk" => {
                let Some([text]) = d.all_args() else { return Err(d.arg_err()) };
                config.max_write_chunk = Some(parse_size(d, &text)?);
            }
            _ => {
                let names = ["read_timeout", "write_timeout", "max_write_chunk"];
                return Err(d.unrecognized("subdirective", names));
            }
        }
    }
    h.handler("timeouts", &config)
}

fn parse_deadline(d: &mut Dispenser) -> ParseResult<(Option<i64>, Option<i64>)> {
    let args = d.remaining_args();
    let (duration, rate) = match args.as_slice() {
        [duration] => (duration, None),
        [duration, rate] => (duration, Some(parse_size(d, rate)?)),
        _ => return Err(d.arg_err()),
    };
    let duration = Duration::parse(duration)
        .map_err(|error| d.err(format!("parsing duration '{duration}': {error}")))?;
    Ok((Some(duration.as_nanos()), rate))
}

fn parse_size(d: &Dispenser, text: &str) -> ParseResult<i64> {
    Size::parse(text)
        .map(Size::as_i64)
        .map_err(|error| d.err(format!("parsing size '{text}': {error}")))
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let time = |nanos: Option<i64>| Duration::from_nanos(nanos.unwrap_or(0)).positive();
    let rate = |rate: Option<i64>| rate.and_then(|rate| u64::try_from(rate).ok()?.try_into().ok());
    let write_rate: Option<NonZero<u64>> = rate(config.write_min_rate);
    let write_idle = time(config.write_timeout).map(|timeout| match write_rate {
        None => timeout,
        Some(rate) => timeout.saturating_add(at_rate(WRITE_SIZE, rate)),
    });
    let read = time(config.read_timeout);
    Ok(Handler::filter(Timeouts { read, read_rate: rate(config.read_min_rate), write_idle }))
}

/// The front hands this much to one write.
const WRITE_SIZE: u64 = 256 * 1024;

/// The time that so many bytes take.
fn at_rate(bytes: u64, rate: NonZero<u64>) -> std::time::Duration {
    std::time::Duration::from_millis(bytes.saturating_mul(1000) / rate)
}

struct Timeouts {
    read: Option<std::time::Duration>,
    read_rate: Option<NonZero<u64>>,
    write_idle: Option<std::time::Duration>,
}

impl Filter for Timeouts {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        if let Some(timeout) = self.read
            && !ex.request.body.is_empty()
        {
            let inner = ex.request.body.take();
            ex.request.body = Body::stream(Paced {
                inner,
                timeout,
                rate: self.read_rate,
                start: None,
                bytes: 0,
                timer: None,
                failed: false,
            });
        }
        if let Some(idle) = self.write_idle {
            limit_writes(ex, WriteLimits { idle: Some(idle), deadline: None });
        }
        Ok(Flow::Continue)
    }
}

/// Gives the response time limits of its own; those that are set before stay otherwise.
pub(super) fn limit_writes(ex: &mut Exchange, limits: WriteLimits) {
    ex.on_response(Arc::new(SetLimits(limits)));
}

struct SetLimits(WriteLimits);

impl ResponseFilter for SetLimits {
    fn apply(&self, _: &mut Exchange, response: &mut Response) {
        let extensions = response.extensions_mut();
        let other = extensions.get::<WriteLimits>().copied().unwrap_or_default();
        // The later handler's filter comes first, and its word counts.
        extensions.insert(WriteLimits {
            idle: other.idle.or(self.0.idle),
            deadline: other.deadline.or(self.0.deadline),
        });
    }
}

/// A body that fails where its bytes come too slowly.
struct Paced {
    inner: Body,
    timeout: std::time::Duration,
    rate: Option<NonZero<u64>>,
    start: Option<Instant>,
    bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl Paced {
    /// Until when the next bytes are waited for.
    fn deadline(&mut self) -> Instant {
        match self.rate {
            None => Instant::now() + self.timeout,
            Some(rate) => {
                let start = *self.start.get_or_insert_with(Instant::now);
                start + self.timeout.saturating_add(at_rate(self.bytes, rate))
            }
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.timer = None;
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                this.bytes = this.bytes.saturating_add(data.len() as u64);
            }
            return Poll::Ready(frame);
        }
        if this.timer.is_none() {
            let deadline = this.deadline();
            this.timer = Some(Box::pin(tokio::time::sleep_until(deadline)));
        }
        if let Some(timer) = &mut this.timer {
            ready!(timer.as_mut().poll(cx));
        }
        this.failed = true;
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::tests::{adapt, compiled};
    use caddis_core::Next;
    use serde_json::json;

    #[test]
    fn adapts() {
        let want = json!({"handler": "timeouts", "read_timeout": 5_000_000_000_i64,
            "read_min_rate": 1000, "max_write_chunk": 65536});
        assert_eq!(adapt("timeouts {\n read_timeout 5s 1kB\n max_write_chunk 64KiB\n}"), Ok(want));
        assert!(adapt("timeouts {\n read_timeout soon\n}").is_err());
    }

    /// Gives the parts, one per poll, then nothing for ever.
    struct Stalls(Vec<&'static str>);

    impl http_body::Body for Stalls {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match self.0.pop() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(part))))),
                None => Poll::Pending,
            }
        }
    }

    fn body_after(directive: &str, parts: Vec<&'static str>) -> (BodyError, std::time::Duration) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let routes = compiled(&[directive]);
            let mut ex = Exchange::for_test("/");
            ex.request.body = Body::stream(Stalls(parts));
            Next::new(&routes, None).run(&mut ex).await.expect("runs");
            let start = Instant::now();
            let error = ex.request.body.take().collect(1000).await.expect_err("stalls");
            (error, start.elapsed())
        })
    }

    #[test]
    fn a_body_that_stalls_fails() {
        let (error, time) = body_after("timeouts {\n read_timeout 20ms\n}", vec!["a", "b"]);
        assert!(matches!(error, BodyError::Timeout), "{error}");
        assert!(time.as_millis() >= 20, "{time:?}");
        let slow = "timeouts {\n read_timeout 20ms 100B\n}";
        let (_, time) = body_after(slow, vec!["abc", "d"]);
        assert!(time.as_millis() >= 60, "{time:?}");
    }

    #[test]
    fn the_answer_carries_limits() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let routes = compiled(&["timeouts {\n write_timeout 5s 64KiB\n}", "respond hi"]);
        let mut ex = Exchange::for_test("/");
        let run = Next::new(&routes, None);
        let mut response = runtime.block_on(run.run(&mut ex)).expect("answers");
        while let Some(filter) = ex.response_filters.pop() {
            filter.apply(&mut ex, &mut response);
        }
        let limits = response.extensions().get::<WriteLimits>().expect("limits");
        assert_eq!(limits.idle.map(|idle| idle.as_secs()), Some(9));
    }
}
