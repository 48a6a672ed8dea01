//! One exchange over an HTTP/2 connection.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use caddis_core::{Body, BodyError};
use http::{HeaderMap, Method, Request, Uri, Version, header, uri::Scheme};
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{
    h1::{Answer, AnswerBody},
    outgoing::Outgoing,
    stream::Stream,
};
use crate::transport::Failure;

/// Runs the tasks of connections on this worker.
#[derive(Clone, Copy)]
struct LocalExec;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// Starts HTTP/2 on a connection.
pub(crate) async fn open(stream: Stream) -> Result<SendRequest<Body>, Failure> {
    let (sender, connection) = Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_header_list_size(10 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::Dial(text(&error)))?;
    tokio::task::spawn_local(async move {
        // Its end shows on the requests that it carried.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The request's head, as HTTP/2 wants it.
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    /// Takes over the fields of a request.
    pub(crate) fn new(
        outgoing: &Outgoing<'_>,
        mut headers: HeaderMap,
        tls: bool,
    ) -> Result<Self, String> {
        let authority = std::str::from_utf8(outgoing.host).map_err(|error| error.to_string())?;
        let uri = Uri::builder()
            .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(authority)
            .path_and_query(outgoing.target)
            .build()
            .map_err(|error| error.to_string())?;
        headers.remove(header::HOST);
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
        headers.remove(header::TRANSFER_ENCODING);
        if outgoing.ask_gzip {
            headers.insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip"));
        }
        match outgoing.framing {
            caddis_wire::BodyFraming::Length(length) => {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            _ => drop(headers.remove(header::CONTENT_LENGTH)),
        }
        Ok(Self { method: outgoing.method.clone(), uri, headers })
    }

    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Why an exchange failed.
pub(crate) enum Refused {
    /// The request did not leave; here is its body.
    Unsent(Body, String),
    /// Anything else.
    Failed(Failure),
}

/// Sends a request and waits for the answer's head.
pub(crate) async fn exchange(
    sender: &mut SendRequest<Body>,
    head: &Head,
    body: Body,
    header_timeout: Option<std::time::Duration>,
) -> Result<Answer, Refused> {
    let exchange = sender.try_send_request(head.request(body));
    let result = match header_timeout {
        Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|_| {
            let text = "http2: timeout awaiting response headers".to_owned();
            Refused::Failed(Failure::Timeout(text))
        })?,
        None => exchange.await,
    };
    let response = result.map_err(|mut error| match error.take_message() {
        Some(request) => Refused::Unsent(request.into_body(), text(error.error())),
        None => Refused::Failed(failure(error.error())),
    })?;
    let (parts, body) = response.into_parts();
    Ok(Answer {
        passed: None,
        status: parts.status,
        reason: None,
        version: Version::HTTP_2,
        headers: parts.headers,
        body: AnswerBody::Multiplexed(Body::stream(Received(body))),
        at: std::time::Instant::now(),
    })
}

fn failure(error: &hyper::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(body) = inner.downcast_ref::<BodyError>() {
            return Failure::RequestBody(match body {
                BodyError::TooLarge => BodyError::TooLarge,
                BodyError::Timeout => BodyError::Timeout,
                BodyError::Malformed(why) => BodyError::Malformed(why.clone()),
                _ => BodyError::Canceled,
            });
        }
        source = inner.source();
    }
    Failure::Transport(text(error))
}

fn text(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The body of an HTTP/2 response.
struct Received(Incoming);

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Incomplete)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
