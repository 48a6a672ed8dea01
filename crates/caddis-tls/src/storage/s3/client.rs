//! Requests to an S3 service: signed, one object or listing each.

use std::{
    fmt, io,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use caddis_dns::{
    aws::{CredentialProvider, PathRule, Signer, encode, encode_path, payload_hash},
    http::HttpClient,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::listing::{Listing, element};
use crate::storage::remote::Fault;

/// Where the bucket is, and who asks.
pub(super) struct Client {
    http: HttpClient,
    /// `http` or `https`, host, port; without the bucket.
    pub(super) origin: Origin,
    pub(super) bucket: String,
    /// The bucket is in the path, not in the host's name.
    path_style: bool,
    credentials: CredentialProvider,
    region: Mutex<String>,
}

/// Scheme and authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: &'static str,
    pub(super) authority: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A condition on the object as it is.
#[derive(Debug, Clone)]
pub(super) enum If {
    Always,
    /// There is none.
    Absent,
    /// It is the one with this entity tag.
    Same(String),
}

/// What became of a write with a condition.
#[derive(Debug)]
pub(super) enum Put {
    /// Written; the new entity tag, where one was told.
    Done(String),
    /// The condition does not hold.
    Refused,
    /// The service knows no conditions.
    Unsupported,
}

impl Client {
    pub(super) fn new(
        origin: Origin,
        bucket: String,
        path_style: bool,
        region: String,
        credentials: CredentialProvider,
        http: HttpClient,
    ) -> Self {
        let region = Mutex::new(region);
        Self { http, origin, bucket, path_style, credentials, region }
    }

    pub(super) async fn get(&self, key: &str) -> Result<(Bytes, HeaderMap), Fault> {
        let answer = self.send(Method::GET, key, "", HeaderMap::new(), Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => {
                let (parts, body) = answer.into_parts();
                Ok((body, parts.headers))
            }
            _ => Err(fault(key, &answer)),
        }
    }

    /// The fields of an object; nothing where there is none.
    pub(super) async fn head(&self, key: &str) -> Result<Option<HeaderMap>, Fault> {
        let answer = self.send(Method::HEAD, key, "", HeaderMap::new(), Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.into_parts().0.headers)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(fault(key, &answer)),
        }
    }

    pub(super) async fn put(&self, key: &str, content: Bytes) -> Result<(), Fault> {
        let answer = self.send(Method::PUT, key, "", HeaderMap::new(), content).await?;
        if answer.status().is_success() { Ok(()) } else { Err(fault(key, &answer)) }
    }

    pub(super) async fn put_if(
        &self,
        key: &str,
        content: Bytes,
        condition: &If,
    ) -> Result<Put, Fault> {
        let mut headers = HeaderMap::new();
        match condition {
            If::Always => {}
            If::Absent => {
                headers.insert(http::header::IF_NONE_MATCH, http::HeaderValue::from_static("*"));
            }
            If::Same(tag) => {
                let tag = tag.parse().map_err(Fault::refused)?;
                headers.insert(http::header::IF_MATCH, tag);
            }
        }
        let answer = self.send(Method::PUT, key, "", headers, content).await?;
        match answer.status() {
            status if status.is_success() => {
                let tag = answer.headers().get(http::header::ETAG);
                let tag = tag.and_then(|tag| tag.to_str().ok()).unwrap_or_default();
                Ok(Put::Done(tag.to_owned()))
            }
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Ok(Put::Refused),
            // The object of `If-Match` is gone.
            StatusCode::NOT_FOUND if matches!(condition, If::Same(_)) => Ok(Put::Refused),
            StatusCode::NOT_IMPLEMENTED => Ok(Put::Unsupported),
            _ => Err(fault(key, &answer)),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Fault> {
        let answer = self.send(Method::DELETE, key, "", HeaderMap::new(), Bytes::new()).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if code(&answer) != "NoSuchBucket" => Ok(()),
            _ => Err(fault(key, &answer)),
        }
    }

    /// All keys that begin with a prefix; with a delimiter only those directly below, and what is
    /// further below as common prefixes.
    pub(super) async fn list(&self, prefix: &str, delimiter: bool) -> Result<Vec<String>, Fault> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = format!("encoding-type=url&list-type=2&prefix={}", encode(prefix));
            if delimiter {
                query.push_str("&delimiter=%2F");
            }
            if let Some(token) = &token {
                query.push_str(&format!("&continuation-token={}", encode(token)));
            }
            let answer = self.send(Method::GET, "", &query, HeaderMap::new(), Bytes::new()).await?;
            if answer.status() != StatusCode::OK {
                return Err(fault(prefix, &answer));
            }
            let page = Listing::parse(answer.body()).ok_or_else(|| {
                Fault::refused("the answer is no listing: is this an S3 service?")
            })?;
            keys.extend(page.keys);
            match page.next {
                // The same token again would never end.
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => return Ok(keys),
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        key: &str,
        query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Fault> {
        for again in [true, false] {
            let used = self.region.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let call = (method.clone(), key, query);
            let answer = self.attempt(call, headers.clone(), body.clone(), &used).await?;
            let Some(region) = other_region(&answer) else { return Ok(answer) };
            if used == region || !again {
                return Ok(answer);
            }
            let mut known = self.region.lock().unwrap_or_else(PoisonError::into_inner);
            // Another request may have learned it meanwhile.
            if *known != region {
                tracing::info!(target: "storage", bucket = self.bucket, region, "the bucket's region");
                *known = region;
            }
        }
        Err(Fault::refused("the bucket's region changes"))
    }

    async fn attempt(
        &self,
        (method, key, query): (Method, &str, &str),
        headers: HeaderMap,
        body: Bytes,
        region: &str,
    ) -> Result<Response<Bytes>, Fault> {
        let Origin { scheme, authority } = &self.origin;
        let key = encode_path(key);
        let mut uri = if self.path_style {
            format!("{scheme}://{authority}/{}/{key}", encode(&self.bucket))
        } else {
            format!("{scheme}://{}.{authority}/{key}", self.bucket)
        };
        if !query.is_empty() {
            uri = format!("{uri}?{query}");
        }
        let hash = payload_hash(&body);
        let mut request = Request::builder().method(method).uri(uri).body(body);
        let request = match &mut request {
            Ok(request) => request,
            Err(error) => return Err(Fault::refused(error)),
        };
        *request.headers_mut() = headers;
        let hash_field = hash.parse().map_err(Fault::refused)?;
        request.headers_mut().insert("x-amz-content-sha256", hash_field);
        let credentials = self.credentials.get().await.map_err(Fault::refused)?;
        let signer =
            Signer { credentials: &credentials, region, service: "s3", paths: PathRule::Literal };
        signer.sign(request, &hash, SystemTime::now()).map_err(Fault::refused)?;
        let sent = std::mem::take(request);
        self.http.send(sent).await.map_err(Fault::gone)
    }
}

/// The region that an answer names, where the request was for another one.
fn other_region(answer: &Response<Bytes>) -> Option<String> {
    if !answer.status().is_redirection() && !answer.status().is_client_error() {
        return None;
    }
    let wrong = answer.status().is_redirection()
        || ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"]
            .contains(&code(answer).as_str())
        // Answers to HEAD have no body.
        || answer.status() == StatusCode::BAD_REQUEST && answer.body().is_empty();
    let told = answer.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
    let told = told.map(str::to_owned).or_else(|| element(answer.body(), "Region"));
    told.filter(|region| wrong && !region.is_empty())
}

fn code(answer: &Response<Bytes>) -> String {
    element(answer.body(), "Code").unwrap_or_default()
}

/// What to do about errors, by their codes.
const REMEDIES: &[(&str, &str)] = &[
    ("AccessDenied", "these credentials need to get, put, delete and list objects of the bucket"),
    ("InvalidAccessKeyId", "check `access_id` of `storage s3`"),
    ("SignatureDoesNotMatch", "check `secret_key` of `storage s3`"),
    ("NoSuchBucket", "create the bucket, or correct `bucket` of `storage s3`"),
    ("RequestTimeTooSkewed", "set the clock of this machine"),
    ("QuotaExceeded", "the bucket is full: make room"),
    ("XMinioStorageFull", "the bucket is full: make room"),
    ("XAmzContentSHA256Mismatch", "something between changes requests"),
];

fn fault(key: &str, answer: &Response<Bytes>) -> Fault {
    let status = answer.status();
    let code = &*code(answer);
    let message = &*element(answer.body(), "Message").unwrap_or_default();
    if status == StatusCode::NOT_FOUND && code != "NoSuchBucket" {
        return Fault::not_found(key);
    }
    let mut line = format!("{key}: HTTP {}", status.as_u16());
    for more in [code, message] {
        if !more.is_empty() {
            line.push(' ');
            line.push_str(more);
        }
    }
    if let Some((_, remedy)) = REMEDIES.iter().find(|(known, _)| *known == code) {
        return Fault::refused(format!("{line} ({remedy})"));
    }
    match status {
        StatusCode::FORBIDDEN => {
            Fault::refused(format!("{line} (check `access_id` and `secret_key` of `storage s3`)"))
        }
        StatusCode::INSUFFICIENT_STORAGE => {
            Fault::Refused(io::ErrorKind::StorageFull, format!("{line} (make room)"))
        }
        StatusCode::TOO_MANY_REQUESTS => Fault::gone(line),
        status if status.is_server_error() => Fault::gone(line),
        _ => Fault::refused(line),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::{fault, other_region};
    use crate::storage::remote::Fault;

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = |status, body| match fault("k", &answer(status, body)) {
            Fault::Gone(text) => format!("gone: {text}"),
            Fault::Refused(kind, text) => format!("{kind:?}: {text}"),
        };
        let body = "<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>";
        assert_eq!(
            text(404, body),
            "Other: k: HTTP 404 NoSuchBucket no (create the bucket, or correct `bucket` of `storage s3`)"
        );
        assert_eq!(text(404, ""), "NotFound: k: no such key");
        assert_eq!(text(503, "<Code>SlowDown</Code>"), "gone: k: HTTP 503 SlowDown");
        assert!(text(403, "").contains("check `access_id`"));
        assert!(text(507, "").starts_with("StorageFull"));
    }

    #[test]
    fn regions_are_learned() {
        let body =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(other_region(&answer(400, body)).as_deref(), Some("eu-west-1"));
        assert_eq!(
            other_region(&answer(403, "<E><Code>AccessDenied</Code><Region>x</Region></E>")),
            None
        );
        let mut moved = answer(301, "");
        moved.headers_mut().insert("x-amz-bucket-region", "us-west-2".parse().unwrap());
        assert_eq!(other_region(&moved).as_deref(), Some("us-west-2"));
        assert_eq!(other_region(&answer(200, body)), None);
    }
}
