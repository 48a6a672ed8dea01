//! One request over one FastCGI connection.

use std::{
    borrow::Cow,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use caddis_config::ConfigError;
use caddis_core::{Body, BodyError, Exchange, HttpError, Template};
use caddis_wire::BodyFraming;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

use super::{
    FastCgiConfig,
    params::{Head, Settings},
    record,
};
use crate::transport::{
    Failure,
    http::{Answer, AnswerBody, Carrier, DialSettings, HostPool, RequestBody, Stream, dial},
    io_text,
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a head.
const MAX_HEAD: usize = 1 << 20;
/// A response is held back until this much of it is there, or all: so short ones get a length.
const HOLD_BACK: usize = 4096;
/// Bytes of the other side's stderr that are logged.
const MAX_STDERR: usize = 64 * 1024;

/// A compiled FastCGI transport.
#[derive(Debug)]
pub(crate) struct FastCgi {
    settings: Settings,
    dial: DialSettings,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    capture_stderr: bool,
    /// Equal for equal settings.
    pub(crate) fingerprint: String,
}

/// Compiles the transport.
pub(crate) fn compile(config: &FastCgiConfig) -> Result<FastCgi, ConfigError> {
    if let Some(text) = config.split_path.iter().find(|text| !text.is_ascii()) {
        let why = format!("split path contains non-ASCII characters: {text}");
        return Err(ConfigError::new("split_path", why));
    }
    let fingerprint =
        serde_json::to_string(config).map_err(|error| ConfigError::new("", error.to_string()))?;
    let root = if config.root.is_empty() { "{http.vars.root}" } else { &config.root };
    Ok(FastCgi {
        settings: Settings {
            root: Template::parse(root),
            split: config.split_path.clone(),
            env: config
                .env
                .iter()
                .map(|(name, value)| (name.clone(), Template::parse(value)))
                .collect(),
            resolve_root_symlink: config.resolve_root_symlink,
            user: Template::parse("{http.auth.user.id}"),
            remainder: Template::parse("{http.matchers.file.remainder}"),
        },
        dial: DialSettings {
            timeout: config.dial_timeout.positive().unwrap_or(DIAL_TIMEOUT),
            fallback_delay: Some(Duration::from_millis(300)),
            local: None,
            probe_interval: None,
            resolver: None,
        },
        read_timeout: config.read_timeout.positive(),
        write_timeout: config.write_timeout.positive(),
        capture_stderr: config.capture_stderr,
        fingerprint: format!("fastcgi {fingerprint}"),
    })
}

impl FastCgi {
    /// Sends a request and reads the answer's head.
    pub(crate) async fn send(
        &self,
        ex: &Exchange,
        head: &Head<'_>,
        pool: &Rc<HostPool>,
        framing: BodyFraming,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        let refuse = |status, why: &str| Failure::Request(HttpError::new(status, why));
        let path_end = head.uri.find('?').unwrap_or(head.uri.len());
        if head.uri[..path_end].contains("%00") {
            return Err(refuse(StatusCode::BAD_REQUEST, "invalid request path"));
        }
        let bodiless = matches!(*head.method, Method::HEAD | Method::OPTIONS);
        let length = match framing {
            BodyFraming::Length(length) if !bodiless => length,
            BodyFraming::Chunked if !bodiless => {
                return Err(refuse(StatusCode::LENGTH_REQUIRED, "the body's length is unknown"));
            }
            _ => 0,
        };
        let root = self.settings.root(ex).await.map_err(Failure::Transport)?;
        let carrier =
            dial(&pool.address, &self.dial, None).await.map_err(|failure| match failure {
                // As in Caddy, this is no failure after which every request may be sent again.
                Failure::Dial(text) => Failure::Transport(format!("dialing backend: {text}")),
                other => other,
            })?;
        let mut out = Vec::with_capacity(2048);
        record::begin(&mut out);
        let mut pairs = Vec::with_capacity(2048);
        self.settings.write(&mut pairs, ex, head, &root, length);
        record::stream(&mut out, record::PARAMS, &pairs);
        record::end_stream(&mut out, record::PARAMS);
        let mut reader = Reader::new(carrier, self.capture_stderr);
        let body = if bodiless || length == 0 { Body::Empty } else { body.take() };
        self.write(&mut reader, out, body).await?;
        reader.deadline = self
            .read_timeout
            .map(|limit| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        reader.answer().await
    }

    /// Writes all of the request. What the other side does not want is no error: it may have
    /// answered already.
    async fn write(
        &self,
        reader: &mut Reader,
        mut out: Vec<u8>,
        mut body: Body,
    ) -> Result<(), Failure> {
        let write = async {
            loop {
                let data = match body.next_data().await {
                    Some(data) => data.map_err(Failure::RequestBody)?,
                    None => break,
                };
                record::stream(&mut out, record::STDIN, &data);
                if reader.stream.write_all(&out).await.is_err() {
                    return Ok(());
                }
                out.clear();
            }
            record::end_stream(&mut out, record::STDIN);
            if reader.stream.write_all(&out).await.is_ok() {
                // A failure shows when the answer is read.
                let _ = reader.stream.flush().await;
            }
            Ok(())
        };
        match self.write_timeout {
            None => write.await,
            Some(limit) => tokio::time::timeout(limit, write)
                .await
                .unwrap_or_else(|_| Err(Failure::Timeout("write: i/o timeout".to_owned()))),
        }
    }
}

/// Reads the records of an answer.
struct Reader {
    stream: Stream,
    buf: BytesMut,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
    failed: bool,
    stderr: Option<Vec<u8>>,
    status: u16,
}

impl Reader {
    fn new(carrier: Carrier, capture: bool) -> Self {
        Self {
            stream: Stream::new(carrier, None, None),
            buf: BytesMut::new(),
            deadline: None,
            ended: false,
            failed: false,
            stderr: capture.then(Vec::new),
            status: 0,
        }
    }

    /// The next piece of the answer; `None` at its end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            while let Some((kind, content)) = record::take(&mut self.buf) {
                match kind {
                    record::STDOUT if !content.is_empty() => return Poll::Ready(Ok(Some(content))),
                    record::STDERR => self.note(&content),
                    record::END_REQUEST => {
                        self.ended = true;
                        return Poll::Ready(Ok(None));
                    }
                    _ => {}
                }
            }
            self.buf.reserve(8 * 1024);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buf) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if let Some(deadline) = &mut self.deadline
                        && deadline.as_mut().poll(cx).is_ready()
                    {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn note(&mut self, content: &[u8]) {
        if let Some(stderr) = &mut self.stderr {
            let room = MAX_STDERR.saturating_sub(stderr.len());
            stderr.extend_from_slice(&content[..content.len().min(room)]);
        }
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Failure> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await.map_err(|error| {
            let text = io_text(&error, "read");
            match error.kind() {
                io::ErrorKind::TimedOut => Failure::Timeout(text),
                _ => Failure::Transport(text),
            }
        })
    }

    /// Reads the head, and the body if it is short.
    async fn answer(mut self) -> Result<Answer, Failure> {
        let mut read = BytesMut::new();
        let end = loop {
            if let Some(end) = head_end(&read) {
                break end;
            }
            if read.len() > MAX_HEAD {
                return Err(Failure::Transport("the head of the answer is too large".to_owned()));
            }
            match self.data().await? {
                Some(data) => read.extend_from_slice(&data),
                None if read.is_empty() => return Err(Failure::Transport("EOF".to_owned())),
                None => break (read.len(), read.len()),
            }
        };
        let head = read.split_to(end.1).freeze();
        let (status, reason, headers) = parse_head(&head[..end.0]).map_err(Failure::Transport)?;
        self.status = status.as_u16();
        let streams = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        while !self.ended && !streams && read.len() < HOLD_BACK {
            match self.data().await? {
                Some(data) => read.extend_from_slice(&data),
                None => break,
            }
        }
        let body = if self.ended {
            self.log_stderr();
            Body::from(read.freeze())
        } else {
            let next = (!read.is_empty()).then(|| read.freeze());
            Body::stream(Output { reader: self, next })
        };
        Ok(Answer {
            passed: None,
            status,
            reason,
            version: Version::HTTP_11,
            headers,
            body: AnswerBody::Whole(body),
            at: std::time::Instant::now(),
        })
    }

    fn log_stderr(&mut self) {
        let Some(text) = self.stderr.take().filter(|text| !text.is_empty()) else { return };
        let body = String::from_utf8_lossy(&text);
        if self.status >= 400 {
            tracing::error!(target: "http.reverse_proxy.transport.fastcgi", %body, "stderr");
        } else {
            tracing::warn!(target: "http.reverse_proxy.transport.fastcgi", %body, "stderr");
        }
    }
}

/// Where the head ends: the end of its last line, and the beginning of the body.
fn head_end(read: &[u8]) -> Option<(usize, usize)> {
    // No field at all.
    match read {
        [b'\n', ..] => return Some((0, 1)),
        [b'\r', b'\n', ..] => return Some((0, 2)),
        _ => {}
    }
    let mut from = 0;
    while let Some(at) = read[from..].iter().position(|byte| *byte == b'\n') {
        let next = from + at + 1;
        match read.get(next..) {
            Some([b'\n', ..]) => return Some((next, next + 1)),
            Some([b'\r', b'\n', ..]) => return Some((next, next + 2)),
            _ => from = next,
        }
    }
    None
}

type ParsedHead = (StatusCode, Option<Bytes>, HeaderMap);

/// The lines of a head; one that begins with a blank goes on with the one before (RFC 3875 §6.3.4).
fn unfold(head: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut lines: Vec<Cow<'_, [u8]>> = Vec::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line, lines.last_mut()) {
            ([], _) => {}
            ([b' ' | b'\t', ..], Some(last)) => {
                let last = last.to_mut();
                last.push(b' ');
                last.extend_from_slice(line.trim_ascii());
            }
            _ => lines.push(Cow::Borrowed(line)),
        }
    }
    lines
}

fn parse_head(head: &[u8]) -> Result<ParsedHead, String> {
    let mut headers = HeaderMap::new();
    for line in unfold(head) {
        let line = &*line;
        let wrong = || format!("malformed MIME header line: {}", String::from_utf8_lossy(line));
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii_end()).map_err(|_| wrong())?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| wrong())?;
        headers.try_append(name, value).map_err(|error| error.to_string())?;
    }
    // It stays among the fields, as in Caddy.
    let Some(status) = headers.get("status") else {
        return Ok((StatusCode::OK, None, headers));
    };
    let text = String::from_utf8_lossy(status.as_bytes()).into_owned();
    let (code, reason) = text.split_once(' ').unwrap_or((&text, ""));
    let status = code
        .parse()
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| format!("strconv.Atoi: parsing {code:?}: invalid syntax"))?;
    let reason = (!reason.is_empty()).then(|| Bytes::copy_from_slice(reason.as_bytes()));
    Ok((status, reason, headers))
}

/// The body of an answer.
struct Output {
    reader: Reader,
    next: Option<Bytes>,
}

impl http_body::Body for Output {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(Ok(Frame::data(next))));
        }
        if self.reader.failed {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        }
        self.reader.poll_data(cx).map(|read| match read {
            Ok(Some(data)) => Some(Ok(Frame::data(data))),
            Ok(None) => {
                self.reader.log_stderr();
                None
            }
            Err(error) => {
                self.reader.failed = true;
                Some(Err(error.into()))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
