//! One request and its answer.

use std::time::{Duration, Instant};

use caddis_core::Body;
use caddis_wire::http3::{self, Http3Error, Http3Response, RequestLine, code};
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::time::sleep;

use super::{
    receive::{Ended, Incoming, Received},
    session::Opened,
    upload,
};
use crate::transport::{
    Failure,
    http::{
        h1::{Answer, AnswerBody, Broken, Informational},
        outgoing::{Outgoing, fit_for_streams},
        slot::{Uploading, maybe},
        upload::RequestBody,
    },
};

/// Informational responses in a row before the upstream is given up.
const MAX_INFORMATIONAL: usize = 100;

/// What an exchange needs besides stream and body.
pub(crate) struct Ask<'a> {
    /// The request's line and fields.
    pub(crate) outgoing: &'a Outgoing<'a>,
    /// Its fields as a map.
    pub(crate) headers: HeaderMap,
    /// Bytes of an answer's head.
    pub(crate) max_section: usize,
    /// Time to wait for the answer's head.
    pub(crate) header_timeout: Option<Duration>,
    /// An upstream from which nothing came for so long after a request went out, not even that it
    /// arrived, is taken to be gone.
    pub(crate) alive_within: Duration,
    /// Whether the connection carried requests before.
    pub(crate) reused: bool,
    /// Takes 1xx.
    pub(crate) informational: Informational<'a>,
}

/// Sends a request and waits for the answer's head.
pub(crate) async fn exchange(
    opened: Opened,
    ask: Ask<'_>,
    body: &mut RequestBody,
) -> Result<Answer, Broken> {
    let Opened { send, recv, active } = opened;
    let id = u64::from(send.id());
    let section = section(ask.outgoing, ask.headers)
        .map_err(|why| Broken::Failed(Failure::Transport(why)))?;
    let head_method = *ask.outgoing.method == Method::HEAD;
    let session = active.session().clone();
    let received = session.received();
    let mut incoming = Incoming::new(recv, active, ask.max_section);
    let mut upload = Some(Box::pin(upload::send(send, section, body.take())));
    let mut silent = Some(Box::pin(sleep(ask.alive_within)));
    let mut timer = None;
    let mut informational = 0;
    let head = loop {
        let limit = ask.header_timeout.filter(|_| upload.is_none());
        if let Some(limit) = limit
            && timer.is_none()
        {
            timer = Some(Box::pin(sleep(limit)));
        }
        tokio::select! {
            biased;
            uploaded = maybe(upload.as_mut()) => match uploaded {
                Ok(()) => upload = None,
                Err(error) => return Err(Broken::Failed(Failure::RequestBody(error))),
            },
            head = incoming.head() => {
                let head = match head {
                    Ok(head) => head,
                    Err(ended) => return Err(broken(ended, &incoming, ask.reused, informational)),
                };
                if !head.status.is_informational() {
                    break head;
                }
                informational += 1;
                if informational > MAX_INFORMATIONAL {
                    let why = "http3: too many 1xx informational responses".to_owned();
                    return Err(Broken::Failed(Failure::Transport(why)));
                }
                if head.status != StatusCode::CONTINUE
                    && let Some(pass) = ask.informational
                {
                    pass(head.status, head.headers);
                }
            }
            () = session.turned_away(id) => {
                let why = "http3: upstream is shutting down and did not take the request";
                return Err(Broken::Unsent(why.to_owned()));
            }
            () = maybe(timer.as_mut()) => {
                let why = "http3: timeout awaiting response headers".to_owned();
                return Err(Broken::Failed(Failure::Timeout(why)));
            }
            () = maybe(silent.as_mut()) => {
                silent = None;
                if session.received() == received {
                    let why = "http3: upstream does not answer any more";
                    session.give_up(why);
                    return Err(stale(why.to_owned(), ask.reused));
                }
            }
        }
    };
    Ok(answer(head, incoming, upload.map(Uploading::spawn), head_method))
}

fn answer(
    head: Http3Response,
    mut incoming: Incoming,
    upload: Option<Uploading>,
    head_method: bool,
) -> Answer {
    let bodiless =
        head_method || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let left = if bodiless { Some(0) } else { head.content_length };
    let body = if left.unwrap_or(0) == 0 && incoming.has_ended() {
        AnswerBody::Whole(Body::Empty)
    } else {
        AnswerBody::Multiplexed(Body::stream(Received::new(incoming, upload, left)))
    };
    Answer {
        status: head.status,
        reason: None,
        version: Version::HTTP_3,
        headers: head.headers,
        passed: None,
        body,
        at: Instant::now(),
    }
}

/// A connection that carried requests before may have ended before this one arrived.
fn stale(why: String, reused: bool) -> Broken {
    if reused { Broken::Stale(why) } else { Broken::Failed(Failure::Transport(why)) }
}

fn broken(ended: Ended, incoming: &Incoming, reused: bool, informational: usize) -> Broken {
    let session = incoming.active().session();
    match ended {
        Ended::Reset(code::REQUEST_REJECTED) => {
            // Nothing was done with it (RFC 9114 §4.1.1).
            Broken::Unsent("http3: upstream rejected the request".to_owned())
        }
        Ended::Reset(code) => {
            let why = format!("http3: upstream reset the stream (HTTP/3 error {code:#x})");
            Broken::Failed(Failure::Transport(why))
        }
        Ended::Lost(error) => {
            stale(format!("http3: {}", session.why(&error)), reused && informational == 0)
        }
        Ended::Early => Broken::Failed(Failure::Transport("http3: unexpected EOF".to_owned())),
        Ended::Http3(Http3Error::TooLarge) => {
            let why = "http3: server response headers exceeded the limit; aborted".to_owned();
            Broken::Failed(Failure::Transport(why))
        }
        Ended::Http3(error) => {
            if let Http3Error::Connection(code, reason) = error {
                session.fail(code, reason);
            }
            Broken::Failed(Failure::Transport(format!("http3: malformed response: {error}")))
        }
    }
}

/// The request's head, encoded.
fn section(outgoing: &Outgoing<'_>, mut headers: HeaderMap) -> Result<Vec<u8>, String> {
    if *outgoing.method == Method::CONNECT {
        return Err("http3: CONNECT is not passed on".to_owned());
    }
    fit_for_streams(&mut headers, outgoing);
    let line = RequestLine {
        method: outgoing.method,
        scheme: "https",
        authority: outgoing.host,
        path: outgoing.target,
    };
    let mut section = Vec::with_capacity(512);
    http3::write_request_section(&mut section, line, &headers);
    Ok(section)
}
