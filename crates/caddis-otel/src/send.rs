//! One message to a collector: OTLP over HTTP or gRPC, repeated as the collector wishes
//! (opentelemetry.io/docs/specs/otlp, "Failures", "Throttling").

use std::{
    io::Write as _,
    time::{Duration, Instant, SystemTime},
};

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use caddis_dns::http::{Http2Client, HttpClient, HttpOptions};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use prost::Message as _;
use tokio::sync::watch;

use crate::{
    proto::{ExportResponse, RetryInfo, RpcStatus},
    settings::Otlp,
};

/// The first pause, the longest one; each is half as long again as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Of a collector's words for the log.
const MOST_TEXT: usize = 300;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Sends to one collector.
pub(crate) struct Sender {
    otlp: Otlp,
    client: Client,
}

enum Client {
    Http(HttpClient),
    Grpc(Http2Client),
}

/// Why an attempt came to nothing.
#[derive(Debug)]
struct Failure {
    message: String,
    /// Present where the same may be tried again: the shortest pause that the collector wants.
    again: Option<Duration>,
}

impl Failure {
    fn for_good(message: String) -> Self {
        Self { message, again: None }
    }

    fn for_now(message: String) -> Self {
        Self { message, again: Some(Duration::ZERO) }
    }
}

/// What the collector did not take of a message that it took, in its words.
pub(crate) type Note = Option<String>;

impl Sender {
    pub(crate) fn new(otlp: Otlp) -> Self {
        let options = HttpOptions {
            roots: otlp.roots.clone(),
            timeout: otlp.timeout,
            certificate: otlp.certificate.clone(),
            ..HttpOptions::default()
        };
        let client = if otlp.grpc {
            Client::Grpc(Http2Client::with(options))
        } else {
            Client::Http(HttpClient::with(options))
        };
        Self { otlp, client }
    }

    /// How long a single attempt may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.otlp.timeout
    }

    /// Sends a message, and again where that may help, for `total` at most. Once `stop` is true,
    /// there is one more attempt and no pause.
    ///
    /// # Errors
    /// The last failure.
    pub(crate) async fn send(
        &self,
        message: &[u8],
        total: Duration,
        stop: &watch::Sender<bool>,
    ) -> Result<Note, String> {
        let end = Instant::now() + total;
        let request = self.request(message).map_err(|error| error.to_string())?;
        let mut base = FIRST_PAUSE;
        loop {
            let last = *stop.borrow();
            let left = end.saturating_duration_since(Instant::now());
            let attempt = tokio::time::timeout(left, self.attempt(request.clone())).await;
            let failure = match attempt {
                Ok(Ok(note)) => return Ok(note),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::for_good("timeout awaiting response".to_owned()),
            };
            let Some(wanted) = failure.again.filter(|_| !last) else { return Err(failure.message) };
            let pause = base.mul_f64(0.5 + fastrand::f64()).max(wanted);
            if pause > end.saturating_duration_since(Instant::now()) {
                return Err(format!("max retry time would elapse: {}", failure.message));
            }
            base = base.mul_f64(1.5).min(LONGEST_PAUSE);
            let mut stopped = stop.subscribe();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn attempt(&self, request: Request<Bytes>) -> Result<Note, Failure> {
        let unreachable = |error: caddis_dns::http::HttpError| Failure::for_now(error.to_string());
        match &self.client {
            Client::Http(client) => judge_http(&client.send(request).await.map_err(unreachable)?),
            Client::Grpc(client) => {
                let (answer, trailers) = client.send(request).await.map_err(unreachable)?;
                judge_grpc(&answer, &trailers)
            }
        }
    }

    fn request(&self, message: &[u8]) -> Result<Request<Bytes>, http::Error> {
        let body = if self.otlp.gzip { gzip(message) } else { Bytes::copy_from_slice(message) };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.otlp.uri.clone();
        let headers = request.headers_mut();
        let agent = concat!("caddis/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in &self.otlp.headers {
            headers.insert(name.clone(), value.clone());
        }
        if self.otlp.grpc {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            let timeout = format!("{}m", self.otlp.timeout.as_millis().min(99_999_999));
            headers.insert("grpc-timeout", HeaderValue::try_from(timeout)?);
            if self.otlp.gzip {
                headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
            }
            let framed = frame(request.body(), self.otlp.gzip);
            *request.body_mut() = framed;
        } else {
            headers.insert(header::CONTENT_TYPE, PROTOBUF);
            if self.otlp.gzip {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        Ok(request)
    }
}

/// A length-prefixed message of gRPC.
fn frame(message: &[u8], compressed: bool) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(compressed.into());
    // Batches are bounded far below 4 GiB.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn gzip(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default().into()
}

fn judge_http(answer: &Response<Bytes>) -> Result<Note, Failure> {
    let status = answer.status();
    let content = answer.headers().get(header::CONTENT_TYPE);
    let protobuf = content.is_some_and(|content| content == PROTOBUF);
    if status.is_success() {
        return Ok(if protobuf { note(answer.body()) } else { None });
    }
    let words = match RpcStatus::decode(answer.body().as_ref()) {
        Ok(status) if protobuf => status.message,
        _ => String::from_utf8_lossy(answer.body()).into_owned(),
    };
    let message = format!("the collector answered {status}: {}", shortened(&words));
    let again = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    Err(Failure { message, again: again.then(|| retry_after(answer.headers())) })
}

/// `Retry-After`: seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Duration {
    let Some(text) = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Duration::ZERO;
    };
    if let Ok(seconds) = text.trim().parse() {
        return Duration::from_secs(seconds);
    }
    let date = httpdate::parse_http_date(text.trim()).ok();
    date.and_then(|date| date.duration_since(SystemTime::now()).ok()).unwrap_or_default()
}

fn judge_grpc(answer: &Response<Bytes>, trailers: &HeaderMap) -> Result<Note, Failure> {
    let text = |name: &str| {
        let found = trailers.get(name).or_else(|| answer.headers().get(name));
        found.and_then(|value| value.to_str().ok())
    };
    let code = match text("grpc-status").map(str::parse) {
        Some(Ok(code)) => code,
        // Whoever answered is no gRPC server; the codes are those of gRPC's documentation.
        _ => match answer.status().as_u16() {
            200 => UNKNOWN,
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => UNAVAILABLE,
            _ => UNKNOWN,
        },
    };
    if code == 0 {
        return Ok(answer.body().get(5..).and_then(note));
    }
    let words = text("grpc-message").map_or_else(
        || format!("HTTP status {}", answer.status()),
        |words| crate::settings::percent_decoded(words).unwrap_or_else(|| words.to_owned()),
    );
    let message = format!("the collector answered gRPC status {code}: {}", shortened(&words));
    let pause = text("grpc-status-details-bin").and_then(retry_info);
    let again = match code {
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | UNAVAILABLE | 15 => Some(pause.unwrap_or_default()),
        // Resource exhausted: only where the server says when.
        8 => pause,
        _ => None,
    };
    Err(Failure { message, again })
}

const UNKNOWN: u32 = 2;
const UNAVAILABLE: u32 = 14;

/// The pause that a `RetryInfo` among the details asks for.
fn retry_info(details: &str) -> Option<Duration> {
    let details = details.trim_end_matches('=');
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).ok()?;
    let status = RpcStatus::decode(bytes.as_slice()).ok()?;
    let info = status.details.iter().find(|one| one.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// What was not taken of a message that was.
fn note(body: &[u8]) -> Note {
    let partial = ExportResponse::decode(body).ok()?.partial_success?;
    let all = partial.rejected == 0 && partial.error_message.is_empty();
    let words = shortened(&partial.error_message);
    (!all).then(|| format!("the collector rejected {}: {words}", partial.rejected))
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    text.chars().take(MOST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{frame, judge_grpc, judge_http};
    use crate::proto::{Any, ExportResponse, PartialSuccess, RetryInfo, RpcStatus};
    use base64::Engine as _;
    use bytes::Bytes;
    use http::{HeaderMap, Response};
    use prost::Message as _;

    fn http(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Bytes> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(body.into()).unwrap()
    }

    const TYPE: (&str, &str) = ("content-type", "application/x-protobuf");

    fn partial() -> Vec<u8> {
        let partial = PartialSuccess { rejected: 2, error_message: "too old".to_owned() };
        ExportResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    #[test]
    fn answers_over_http() {
        assert_eq!(judge_http(&http(200, &[], b"junk".to_vec())).unwrap(), None);
        let note = judge_http(&http(200, &[TYPE], partial())).unwrap();
        assert_eq!(note.as_deref(), Some("the collector rejected 2: too old"));
        let failure = judge_http(&http(503, &[("retry-after", "7")], vec![])).unwrap_err();
        assert_eq!(failure.again, Some(Duration::from_secs(7)));
        let failure = judge_http(&http(503, &[("retry-after", "x")], vec![0xff])).unwrap_err();
        assert_eq!(failure.again, Some(Duration::ZERO));
        for status in [400, 401, 404, 413, 500, 501] {
            assert_eq!(judge_http(&http(status, &[], vec![])).unwrap_err().again, None);
        }
        let body = RpcStatus { message: "bad span".to_owned(), ..RpcStatus::default() };
        let failure = judge_http(&http(400, &[TYPE], body.encode_to_vec())).unwrap_err();
        assert_eq!(failure.message, "the collector answered 400 Bad Request: bad span");
    }

    #[test]
    fn answers_over_grpc() {
        let trailers = |pairs: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.insert(*name, value.parse().unwrap());
            }
            map
        };
        let answer = http(200, &[], frame(&partial(), false).to_vec());
        let note = judge_grpc(&answer, &trailers(&[("grpc-status", "0")])).unwrap();
        assert_eq!(note.as_deref(), Some("the collector rejected 2: too old"));
        // Trailers alone; no status at all; no gRPC server.
        let alone = http(200, &[("grpc-status", "14"), ("grpc-message", "a%20b")], vec![]);
        let failure = judge_grpc(&alone, &HeaderMap::new()).unwrap_err();
        assert_eq!(failure.message, "the collector answered gRPC status 14: a b");
        assert_eq!(failure.again, Some(Duration::ZERO));
        assert_eq!(judge_grpc(&http(200, &[], vec![]), &HeaderMap::new()).unwrap_err().again, None);
        assert!(
            judge_grpc(&http(503, &[], vec![]), &HeaderMap::new()).unwrap_err().again.is_some()
        );
        assert_eq!(judge_grpc(&http(404, &[], vec![]), &HeaderMap::new()).unwrap_err().again, None);
        // Exhausted: only with a time.
        let answer = http(200, &[], vec![]);
        let failure = judge_grpc(&answer, &trailers(&[("grpc-status", "8")])).unwrap_err();
        assert_eq!(failure.again, None);
        let delay = crate::proto::Duration { seconds: 3, nanos: 5 };
        let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        let status =
            RpcStatus { details: vec![Any { type_url, value: info }], ..RpcStatus::default() };
        let text = base64::engine::general_purpose::STANDARD.encode(status.encode_to_vec());
        let with = [("grpc-status", "8"), ("grpc-status-details-bin", text.as_str())];
        let failure = judge_grpc(&answer, &trailers(&with)).unwrap_err();
        assert_eq!(failure.again, Some(Duration::new(3, 5)));
    }
}
