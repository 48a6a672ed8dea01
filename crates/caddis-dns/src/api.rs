//! What providers with an HTTP API share: requests that wait out rate limits, errors that name
//! provider, status and the API's own sentence but no secret.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use caddis_core::{Template, template::Unknown};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{DnsError, http::HttpClient, records::zones};

/// How often a request is sent at most.
const ATTEMPTS: u32 = 5;
/// A server that wants a longer pause than this gets none; the certificate is tried again later.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much of an answer that is no JSON is shown.
const SHOWN: usize = 200;

/// A value of the configuration with its placeholders filled in; unknown ones become nothing, as
/// in Caddy's plugins.
pub(crate) fn expand(text: &str) -> String {
    Template::render_global(text, Unknown::Empty)
}

/// A secret of the configuration, its placeholders filled in; not shown by accident.
#[derive(Clone, Default)]
pub(crate) struct Secret(String);

impl Secret {
    /// From the text of a field.
    pub(crate) fn new(text: &str) -> Self {
        Self(expand(text))
    }

    /// As [`Self::new`], without white space around it.
    pub(crate) fn trimmed(text: &str) -> Self {
        Self(expand(text).trim().to_owned())
    }
}

impl std::ops::Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Whether an answer says that there is no such thing.
pub(crate) fn is_absent(reply: &Reply) -> bool {
    reply.status == StatusCode::NOT_FOUND
}

/// One provider's API.
#[derive(Debug)]
pub(crate) struct Api {
    name: &'static str,
    base: String,
    client: HttpClient,
    attempts: u32,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// What is wanted of the API, before it is bound to its server.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    /// What must not be shown, should the server repeat it.
    secrets: Vec<String>,
}

impl Call {
    /// A call of a path below the API's base, with its query.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Self { method, path: path.into(), headers, body: Bytes::new(), secrets: Vec::new() }
    }

    /// With `Authorization: <scheme> <secret>`.
    pub(crate) fn authorized(self, scheme: &str, secret: &str) -> Result<Self, DnsError> {
        self.secret(AUTHORIZATION, &format!("{scheme} {secret}")).map(|mut this| {
            this.secrets.push(secret.to_owned());
            this
        })
    }

    /// With a field whose value must not be shown.
    pub(crate) fn secret(mut self, name: HeaderName, value: &str) -> Result<Self, DnsError> {
        let mut header = HeaderValue::from_str(value).map_err(|_| {
            DnsError::new("the token holds characters that no header field can hold")
        })?;
        header.set_sensitive(true);
        self.headers.insert(name, header);
        self.secrets.push(value.to_owned());
        Ok(self)
    }

    /// A secret that is part of path or body.
    pub(crate) fn hiding(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Bytes::from(body.to_string());
        self
    }

    /// With any body.
    pub(crate) fn body(mut self, kind: &'static str, body: String) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        self.body = Bytes::from(body);
        self
    }
}

impl Api {
    /// The API of a provider at a base URL, without a slash at its end.
    pub(crate) fn new(name: &'static str, base: impl Into<String>) -> Self {
        let mut base = base.into();
        base.truncate(base.trim_end_matches('/').len());
        Self { name, base, client: HttpClient::new(), attempts: ATTEMPTS }
    }

    /// With another limit of attempts.
    pub(crate) fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The base URL.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// An error of this provider.
    pub(crate) fn fail(&self, text: impl std::fmt::Display) -> DnsError {
        DnsError(format!("{}: {text}", self.name))
    }

    /// A setting that may have become empty with its placeholders.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn required<'a>(&self, field: &str, value: &'a str) -> Result<&'a str, DnsError> {
        match value {
            "" => Err(self.fail(format_args!(
                "{field} is empty; if it is a placeholder, is its variable set?"
            ))),
            value => Ok(value),
        }
    }

    /// Sends a call until the server takes it or refuses it for good.
    ///
    /// # Errors
    /// No connection, or a rate limit that does not end soon.
    pub(crate) async fn send(&self, call: &Call) -> Result<Reply, DnsError> {
        self.send_signed(call, |_| Ok(())).await
    }

    /// As [`Self::send`]; `sign` sees each attempt before it goes out.
    ///
    /// # Errors
    /// As [`Self::send`], and what `sign` says.
    pub(crate) async fn send_signed<S>(&self, call: &Call, sign: S) -> Result<Reply, DnsError>
    where
        S: Fn(&mut Request<Bytes>) -> Result<(), DnsError>,
    {
        for attempt in 1.. {
            let mut request = Request::builder()
                .method(call.method.clone())
                .uri(format!("{}{}", self.base, call.path))
                .body(call.body.clone())
                .map_err(|error| self.hide(call, &format!("request: {error}")))?;
            *request.headers_mut() = call.headers.clone();
            sign(&mut request)?;
            let sent = self.client.send(request).await;
            let response = sent.map_err(|error| self.hide(call, &error.to_string()))?;
            let Some(pause) = pause(&response, attempt) else {
                return Ok(Reply { status: response.status(), body: response.into_body() });
            };
            if attempt >= self.attempts || pause > LONGEST_PAUSE {
                let after = format!(" (try again after {} s)", pause.as_secs());
                let reply = Reply { status: response.status(), body: response.into_body() };
                let error = self.refused(call, &reply);
                return Err(DnsError(error.0 + &after));
            }
            tracing::debug!(
                target: "dns.providers",
                provider = self.name,
                status = response.status().as_u16(),
                seconds = pause.as_secs_f64(),
                "the API is busy; waiting"
            );
            tokio::time::sleep(pause).await;
        }
        // Attempts end before their counter does.
        Err(self.fail("too many attempts"))
    }

    /// Sends a call whose answer has to be a success.
    ///
    /// # Errors
    /// As [`Self::send`], or another status.
    pub(crate) async fn expect(&self, call: &Call) -> Result<Reply, DnsError> {
        let reply = self.send(call).await?;
        if reply.status.is_success() { Ok(reply) } else { Err(self.refused(call, &reply)) }
    }

    /// As [`Self::expect`], with the answer read as JSON.
    ///
    /// # Errors
    /// As [`Self::expect`], or the answer is not what it should be.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, DnsError> {
        let reply = self.expect(call).await?;
        self.read(&reply)
    }

    /// As [`Self::json`]; none where there is no such thing.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(crate) async fn json_if_there<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Option<T>, DnsError> {
        let reply = self.send(call).await?;
        if is_absent(&reply) {
            return Ok(None);
        }
        if reply.status.is_success() {
            self.read(&reply).map(Some)
        } else {
            Err(self.refused(call, &reply))
        }
    }

    /// Sends a call that takes something away; that it is gone already is no error.
    ///
    /// # Errors
    /// As [`Self::expect`].
    pub(crate) async fn take_away(&self, call: &Call) -> Result<(), DnsError> {
        let reply = self.send(call).await?;
        if reply.status.is_success() || is_absent(&reply) {
            Ok(())
        } else {
            Err(self.refused(call, &reply))
        }
    }

    /// The zone that an account has of a zone and its parents; `call` asks for one by its name.
    ///
    /// # Errors
    /// It has none of them; as [`Self::json`].
    pub(crate) async fn zone<'z>(
        &self,
        zone: &'z str,
        call: impl Fn(&str) -> Result<Call, DnsError> + Send + Sync,
    ) -> Result<&'z str, DnsError> {
        for name in zones(zone) {
            if self.json_if_there::<Value>(&call(name)?).await?.is_some() {
                return Ok(name);
            }
        }
        Err(self.no_zone(zone))
    }

    /// The error where an account has none of the zones a name may lie in.
    pub(crate) fn no_zone(&self, zone: &str) -> DnsError {
        self.fail(format_args!("no zone for {zone} in this account, or none that it may read"))
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    /// It is not what it should be.
    pub(crate) fn read<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, DnsError> {
        serde_json::from_slice(&reply.body).map_err(|error| {
            self.fail(format_args!("HTTP {}: unexpected answer: {error}", reply.status.as_u16()))
        })
    }

    /// The error that an answer stands for, with the API's own sentence.
    pub(crate) fn refused(&self, call: &Call, reply: &Reply) -> DnsError {
        let said = match serde_json::from_slice::<Value>(&reply.body) {
            Ok(json) => sentence(&json).unwrap_or_else(|| json.to_string()),
            Err(_) => String::from_utf8_lossy(&reply.body).into_owned(),
        };
        self.refused_with(call, reply.status, &said)
    }

    /// An error with a status and a sentence that was read elsewhere.
    pub(crate) fn refused_with(&self, call: &Call, status: StatusCode, said: &str) -> DnsError {
        let said: String = said
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let said: String = said.chars().take(SHOWN).collect();
        let status = status.as_u16();
        if said.is_empty() {
            return self.hide(call, &format!("HTTP {status}"));
        }
        self.hide(call, &format!("HTTP {status}: {said}"))
    }

    fn hide(&self, call: &Call, text: &str) -> DnsError {
        let mut text = text.to_owned();
        // The longest first: one may be part of another.
        let mut secrets: Vec<&String> = call.secrets.iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), "***");
        }
        self.fail(text)
    }
}

/// How long to wait before the next attempt; none where the answer is final.
fn pause(response: &Response<Bytes>, attempt: u32) -> Option<Duration> {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if !busy.contains(&response.status()) {
        return None;
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = asked.map(str::trim).and_then(|text| {
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds.or_else(|| {
            let at = httpdate::parse_http_date(text).ok()?;
            Some(at.duration_since(SystemTime::now()).unwrap_or_default())
        })
    });
    Some(asked.unwrap_or_else(|| Duration::from_secs(1 << attempt.min(5))))
}

/// What an API says is wrong. They all have their own field for it.
fn sentence(json: &Value) -> Option<String> {
    match json {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().filter_map(sentence).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        Value::Object(fields) => {
            let told = ["message", "detail", "error", "errors", "description", "Message"]
                .iter()
                .find_map(|name| fields.get(*name).and_then(sentence));
            let code =
                ["code", "errorCode", "id"].iter().find_map(|name| match fields.get(*name) {
                    Some(Value::Number(number)) => Some(number.to_string()),
                    Some(Value::String(text)) => Some(text.clone()),
                    _ => None,
                });
            match (told, code) {
                (Some(told), Some(code)) if !told.contains(&code) => {
                    Some(format!("{told} ({code})"))
                }
                (Some(told), _) => Some(told),
                // Field by field: `{"records": ["This field is required."]}`.
                (None, _) => {
                    let all: Vec<String> = fields
                        .iter()
                        .filter(|(_, value)| value.is_array())
                        .filter_map(|(name, value)| Some(format!("{name}: {}", sentence(value)?)))
                        .collect();
                    (!all.is_empty()).then(|| all.join("; "))
                }
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::{Api, Call, sentence};
    use crate::testing::{Answer, api};

    #[tokio::test]
    async fn rate_limits_are_waited_out_within_reason() {
        let server =
            api(|seen, count| match (&*seen.path, count) {
                ("/soon", 0) => Answer::new(429, "{}").header("retry-after", "0"),
                ("/date", _) => Answer::new(429, "slow down")
                    .header("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT"),
                ("/late", _) => Answer::new(429, r#"{"message":"slow down, tok-1"}"#)
                    .header("retry-after", "3600"),
                ("/busy", _) => Answer::new(503, "busy").header("retry-after", "0"),
                _ => Answer::new(200, r#"{"ok":true}"#),
            });
        let api = Api::new("someone", format!("{}/", server.url));
        let call = |path: &str| Call::new(Method::GET, path).authorized("Bearer", "tok-1").unwrap();
        let reply: Value = api.json(&call("/soon")).await.unwrap();
        assert_eq!(reply, json!({"ok": true}));
        let error = api.json::<Value>(&call("/late")).await.unwrap_err();
        assert_eq!(error.to_string(), "someone: HTTP 429: slow down, *** (try again after 3600 s)");
        assert!(api.json::<Value>(&call("/date")).await.is_err());
        let before = server.seen().len();
        let error = api.json::<Value>(&call("/busy")).await.unwrap_err();
        assert_eq!(error.to_string(), "someone: HTTP 503: busy (try again after 0 s)");
        assert_eq!(server.seen().len() - before, 5);
        assert_eq!(server.seen()[0].header("authorization"), "Bearer tok-1");
    }

    #[tokio::test]
    async fn errors_tell_what_the_api_says_and_no_secret() {
        let server = api(|seen, _| match &*seen.path {
            "/html" => Answer::new(502, "<h1>Bad\n gateway</h1>"),
            "/empty" => Answer::new(403, ""),
            _ => Answer::new(200, "no json"),
        });
        let api = Api::new("someone", server.url.clone());
        let get = async |path: &str| {
            let call = Call::new(Method::GET, path).hiding("gateway");
            api.json::<Value>(&call).await.unwrap_err().to_string()
        };
        assert_eq!(get("/html").await, "someone: HTTP 502: <h1>Bad ***</h1>");
        assert_eq!(get("/empty").await, "someone: HTTP 403");
        assert!(get("/").await.starts_with("someone: HTTP 200: unexpected answer"));
        assert!(Call::new(Method::GET, "/").authorized("Bearer", "a\nb").is_err());
        let error = api.required("api_token", "").unwrap_err().to_string();
        assert!(error.starts_with("someone: api_token is empty"), "{error}");
    }

    #[test]
    fn sentences_of_many_shapes() {
        for (json, want) in [
            (
                json!({"errors": [{"code": 9109, "message": "Invalid token"}]}),
                "Invalid token (9109)",
            ),
            (json!({"id": "not_found", "message": "gone"}), "gone (not_found)"),
            (json!({"error": {"code": "locked", "message": "wait"}}), "wait (locked)"),
            (json!({"detail": "Invalid token."}), "Invalid token."),
            (json!({"error": "forbidden"}), "forbidden"),
            (json!({"records": ["bad", "worse"], "x": 1}), "records: bad; worse"),
        ] {
            assert_eq!(sentence(&json).as_deref(), Some(want));
        }
        assert_eq!(sentence(&json!({"x": 1})), None);
    }
}
