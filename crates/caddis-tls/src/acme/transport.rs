//! The HTTP client that `instant-acme` is given: our own, which tries again where a connection broke
//! or the authority had a bad moment and asking again does no harm, and which remembers what the
//! library does not tell.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use caddis_dns::http::HttpClient;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error};
use serde::Deserialize;

/// More attempts after a broken connection or a server's error.
const RETRIES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);
/// A longer wait is the business of the back-off.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Answers remembered.
const MAX_KEPT: usize = 8;

/// The transport of one account.
#[derive(Clone)]
pub(super) struct Transport {
    client: Arc<HttpClient>,
    notes: Arc<Mutex<Notes>>,
}

/// What was seen on the way.
#[derive(Default)]
struct Notes {
    retry_after: Option<Duration>,
    /// The last answers with a chain: URL, alternates, text.
    chains: VecDeque<Chain>,
    /// What the directory says.
    urls: Option<Urls>,
}

/// Some of a directory's URLs (RFC 8555 §7.1.1).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Urls {
    pub(super) new_nonce: String,
    pub(super) new_order: String,
    /// There is renewal information (RFC 9773).
    pub(super) renewal_info: Option<String>,
}

/// A request that must not be sent twice may have arrived, and its answer did not.
#[derive(Debug)]
pub(super) struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lost {}

/// A downloaded chain.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) url: String,
    pub(super) alternates: Vec<String>,
    pub(super) pem: String,
}

impl Transport {
    pub(super) fn new(client: Arc<HttpClient>) -> Self {
        Self { client, notes: Arc::default() }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the last limiting answer asked to wait; asked once.
    pub(super) fn take_retry_after(&self) -> Option<Duration> {
        self.notes().retry_after.take()
    }

    /// The chain that was downloaded from this URL lately.
    pub(super) fn chain(&self, url: &str) -> Option<Chain> {
        self.notes().chains.iter().rev().find(|chain| chain.url == url).cloned()
    }

    /// What the directory said, which the library has read first.
    pub(super) fn urls(&self) -> Option<Urls> {
        self.notes().urls.clone()
    }

    /// Sends a request, several times where that does no harm. All that accounts and orders are asked
    /// may be asked again (RFC 8555: what is done already is answered so); only each new order counts.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let url = request.uri().to_string();
        let is_order = request.method() == Method::POST
            && self.notes().urls.as_ref().is_some_and(|urls| urls.new_order == url);
        let mut left = RETRIES;
        loop {
            let result = self.client.send(request.clone()).await;
            if is_order {
                match &result {
                    Err(error) if !error.is_unsent() => {
                        return Err(Error::Other(Box::new(Lost(error.to_string()))));
                    }
                    // Whoever is unavailable has done nothing.
                    Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => left = 0,
                    _ => {}
                }
            }
            let pause = match &result {
                Err(_) => PAUSE,
                Ok(response) if response.status().is_server_error() => {
                    retry_after(response.headers()).unwrap_or(PAUSE)
                }
                Ok(_) => Duration::MAX,
            };
            if left > 0 && pause <= MAX_PAUSE {
                // A nonce that was used is answered with badNonce, which the library handles.
                left -= 1;
                tokio::time::sleep(pause).await;
                continue;
            }
            let response = result.map_err(|error| Error::Other(Box::new(error)))?;
            self.note(request.method(), &url, &response);
            let status = response.status();
            // The library would tell that it misses some field in it.
            if !status.is_success() && !is_problem(response.body()) {
                let text = format!("{url}: HTTP {status}");
                let is_lost = is_order && status.is_server_error();
                return Err(Error::Other(if is_lost { Box::new(Lost(text)) } else { text.into() }));
            }
            return Ok(response);
        }
    }

    fn note(&self, method: &Method, url: &str, response: &Response<Bytes>) {
        let mut notes = self.notes();
        if method == Method::GET
            && response.status().is_success()
            && let Ok(urls) = serde_json::from_slice(response.body())
        {
            notes.urls = Some(urls);
        }
        let limiting = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        if limiting.contains(&response.status()) {
            notes.retry_after = retry_after(response.headers());
        }
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_chain = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/pem"));
        if is_chain && let Ok(pem) = String::from_utf8(response.body().to_vec()) {
            if notes.chains.len() >= MAX_KEPT {
                notes.chains.pop_front();
            }
            let alternates = links(response.headers(), "alternate");
            notes.chains.push_back(Chain { url: url.to_owned(), alternates, pem });
        }
    }
}

/// Whether an answer says what is wrong (RFC 7807), be it in a field or two.
fn is_problem(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body)
        .is_ok_and(|json| json.get("type").is_some() || json.get("detail").is_some())
}

impl instant_acme::HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let (parts, body) = this.send(Request::from_parts(parts, body)).await?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// The `Retry-After` of an answer: seconds or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The targets of an answer's links with a relation.
pub(super) fn links(headers: &HeaderMap, relation: &str) -> Vec<String> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let parts = values.flat_map(|value| value.split(','));
    parts
        .filter_map(|part| {
            let (target, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
            let wanted = parameters.split(';').map(str::trim).any(|parameter| {
                parameter
                    .strip_prefix("rel=")
                    .is_some_and(|value| value.trim_matches('"') == relation)
            });
            wanted.then(|| target.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header};

    use super::{links, retry_after};

    #[test]
    fn headers_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(" 7 "));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        let date = HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT");
        headers.insert(header::RETRY_AFTER, date);
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        let link = "<https://ca/1>;rel=\"alternate\", <https://ca/i>;rel=\"up\"";
        headers.append(header::LINK, HeaderValue::from_static(link));
        headers.append(header::LINK, HeaderValue::from_static("<https://ca/2>; rel=alternate"));
        assert_eq!(links(&headers, "alternate"), ["https://ca/1", "https://ca/2"]);
    }
}
