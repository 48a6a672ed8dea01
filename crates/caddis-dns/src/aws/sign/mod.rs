//! AWS Signature Version 4 over a request's headers.
//!
//! [`Signer::sign`] serves any API of AWS and what imitates them: Route 53 and S3 differ in
//! [`PathRule`] and in whether the hash of the payload is sent. Signed URLs and chunked payloads
//! are left out.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::SystemTime};

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use http::{
    HeaderMap, HeaderValue, Request,
    header::{AUTHORIZATION, HOST},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use time::{OffsetDateTime, macros::format_description};

use super::{AwsError, Credentials, hex};

/// The payload's hash where the payload is not signed (S3 over TLS).
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Header fields that proxies and clients may change on the way.
const UNSIGNED: [&str; 6] =
    ["authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"];
/// All but the unreserved characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// How the path of a URI goes into the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRule {
    /// Dot segments and double slashes are resolved, and the path is encoded once more: all
    /// services but S3.
    Normalized,
    /// The path is what it is, encoded once: S3, where any text is a key.
    Literal,
}

/// A signer for one service in one region.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// Who signs.
    pub credentials: &'a Credentials,
    /// The region, such as `us-east-1`.
    pub region: &'a str,
    /// The service's name in signatures, such as `s3`.
    pub service: &'a str,
    /// How the service reads paths.
    pub paths: PathRule,
}

/// The hash of a payload, as [`Signer::sign`] wants it: SHA-256 in hexadecimal digits.
pub fn payload_hash(payload: &[u8]) -> String {
    hex(digest(&SHA256, payload).as_ref())
}

/// Encodes one segment of a path, or a name or value of a query, as AWS wants it; a slash too.
pub fn encode(text: &str) -> String {
    percent_encode(text.as_bytes(), RESERVED).to_string()
}

/// Encodes a path whose slashes part segments.
pub fn encode_path(text: &str) -> String {
    percent_encode(text.as_bytes(), RESERVED_IN_PATH).to_string()
}

impl Signer<'_> {
    /// Signs a request with an absolute URI as it stands: sets `Host` where it is absent,
    /// `X-Amz-Date`, `X-Amz-Security-Token`, and `Authorization` over all fields. A field
    /// `X-Amz-Content-Sha256`, which S3 demands, is the caller's to set, with the same `payload`:
    /// a [`payload_hash`] or [`UNSIGNED_PAYLOAD`].
    ///
    /// # Errors
    /// The URI has no host, the time is out of range, or a token holds characters that a header
    /// field cannot.
    pub fn sign<B>(
        &self,
        request: &mut Request<B>,
        payload: &str,
        at: SystemTime,
    ) -> Result<(), AwsError> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let stamp = OffsetDateTime::from(at).format(&format);
        let stamp = stamp.map_err(|error| AwsError(format!("time of signature: {error}")))?;
        let day = stamp.get(..8).unwrap_or_default();
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let headers = request.headers_mut();
        if !headers.contains_key(HOST) {
            let authority =
                authority.ok_or_else(|| AwsError("request to sign has no host".into()))?;
            let host = authority.rsplit_once('@').map_or(&*authority, |(_, host)| host);
            headers.insert(HOST, value("host", host)?);
        }
        headers.insert("x-amz-date", value("time", &stamp)?);
        headers.remove("x-amz-security-token");
        if !self.credentials.session_token.is_empty() {
            let mut token = value("session token", &self.credentials.session_token)?;
            token.set_sensitive(true);
            headers.insert("x-amz-security-token", token);
        }
        let (fields, names) = canonical_headers(request.headers());
        let canonical = format!(
            "{}\n{}\n{}\n{fields}\n{names}\n{payload}",
            request.method(),
            canonical_path(request.uri().path(), self.paths),
            canonical_query(request.uri().query().unwrap_or_default()),
        );
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", payload_hash(canonical.as_bytes()));
        let signature = hex(mac(self.key(day).as_ref(), &text).as_ref());
        let id = &self.credentials.access_key_id;
        let mut authorization = value(
            "access key id",
            &format!(
                "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
            ),
        )?;
        authorization.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(())
    }

    /// The key of a day, region and service.
    fn key(&self, day: &str) -> hmac::Tag {
        let secret = format!("AWS4{}", self.credentials.secret_access_key);
        let key = mac(secret.as_bytes(), day);
        let key = mac(key.as_ref(), self.region);
        let key = mac(key.as_ref(), self.service);
        mac(key.as_ref(), "aws4_request")
    }
}

fn value(what: &str, text: &str) -> Result<HeaderValue, AwsError> {
    HeaderValue::from_str(text)
        .map_err(|_| AwsError(format!("{what} has characters that no header field can hold")))
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn canonical_path(path: &str, rule: PathRule) -> String {
    match rule {
        PathRule::Literal => {
            // By segment: an encoded slash is part of a key.
            let segments = path.split('/').map(|segment| {
                percent_encode(&percent_decode_str(segment).collect::<Vec<u8>>(), RESERVED)
                    .to_string()
            });
            segments.collect::<Vec<_>>().join("/")
        }
        PathRule::Normalized => {
            let mut kept: Vec<&str> = Vec::new();
            for segment in path.split('/') {
                match segment {
                    "" | "." => {}
                    ".." => {
                        kept.pop();
                    }
                    segment => kept.push(segment),
                }
            }
            let mut joined = format!("/{}", kept.join("/"));
            if path.ends_with('/') && joined.len() > 1 {
                joined.push('/');
            }
            percent_encode(joined.as_bytes(), RESERVED_IN_PATH).to_string()
        }
    }
}

fn canonical_query(query: &str) -> String {
    let recode = |text: &str| {
        percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (recode(name), recode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The signed fields, one a line, and their names.
fn canonical_headers(headers: &HeaderMap) -> (String, String) {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if UNSIGNED.contains(&name) {
            continue;
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        fields
            .entry(name)
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&text);
            })
            .or_insert(text);
    }
    let names = fields.keys().copied().collect::<Vec<_>>().join(";");
    let mut lines = String::new();
    for (name, value) in fields {
        lines.extend([name, ":", &value, "\n"]);
    }
    (lines, names)
}
