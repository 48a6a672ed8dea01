//! The calls of ZeroSSL's REST API. It answers failures with status 200 as well, and truth as `true`
//! or `1`. The key is in each URL, so URLs are never told.

use std::{collections::BTreeMap, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use caddis_core::target::encode_query;
use caddis_dns::http::{HttpClient, HttpOptions};
use http::{Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::acme::{Failure, retry_after};

/// Longest time for one call; creating certificates is slow.
const TIMEOUT: Duration = Duration::from_secs(120);
/// More attempts at calls that may be repeated.
const RETRIES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);
/// Where the API limits us without saying for how long.
const LIMITED: Duration = Duration::from_secs(15 * 60);
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The API with the key of an account.
pub(super) struct Api {
    http: HttpClient,
    base: String,
    key: String,
}

/// A certificate as the API tells of it.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) id: String,
    status: String,
    validation: BTreeMap<String, Validation>,
    /// All that was told.
    pub(super) about: Json,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Issued,
    Other(String),
}

/// How a name is shown to be ours.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Validation {
    #[serde(default, rename = "file_validation_url_http")]
    pub(super) file_url: String,
    #[serde(default, rename = "file_validation_content")]
    pub(super) file_content: Vec<String>,
    #[serde(default, rename = "cname_validation_p1")]
    pub(super) cname_name: String,
    #[serde(default, rename = "cname_validation_p2")]
    pub(super) cname_target: String,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// There was no answer, or one of a server in trouble.
    pub(super) transient: bool,
}

impl Failed {
    fn new(failure: Failure) -> Self {
        Self { failure, transient: false }
    }

    pub(super) fn while_doing(self, what: &str) -> Failure {
        self.failure.while_doing(what)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.failure.fmt(f)
    }
}

impl Certificate {
    fn of(about: Json) -> Result<Self, Failed> {
        #[derive(Deserialize)]
        struct Told {
            id: String,
            #[serde(default)]
            status: String,
            #[serde(default)]
            validation: Option<Methods>,
        }
        #[derive(Deserialize)]
        struct Methods {
            #[serde(default)]
            other_methods: BTreeMap<String, Validation>,
        }
        let told = Told::deserialize(&about).map_err(|error| {
            Failed::new(Failure::new(format!("the answer is no certificate: {error}")))
        })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if told.id.is_empty() || !told.id.bytes().all(plain) {
            return Err(Failed::new(Failure::new("the answer has no id of a certificate")));
        }
        let validation = told.validation.map(|methods| methods.other_methods).unwrap_or_default();
        Ok(Self { id: told.id, status: told.status, validation, about })
    }

    pub(super) fn status(&self) -> Status {
        match &*self.status {
            "issued" => Status::Issued,
            "pending_validation" => Status::Pending,
            other => Status::Other(other.to_owned()),
        }
    }

    /// How this name is shown to be ours.
    pub(super) fn validation(&self, name: &str) -> Option<&Validation> {
        let exact = self.validation.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        // There is but one name on each certificate.
        exact.map(|(_, value)| value).or_else(|| self.validation.values().next())
    }
}

impl Api {
    pub(super) fn new(base: &str, key: &str) -> Self {
        let http = HttpClient::with(HttpOptions { timeout: TIMEOUT, ..HttpOptions::default() });
        Self { http, base: base.to_owned(), key: key.to_owned() }
    }

    pub(super) async fn create(
        &self,
        name: &str,
        csr: &[u8],
        days: i64,
    ) -> Result<Certificate, Failed> {
        let csr = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----",
            BASE64_STANDARD.encode(csr)
        );
        let mut body = json!({
            "certificate_domains": name,
            "certificate_csr": csr,
            "strict_domains": 1,
        });
        if days != 0 {
            body["certificate_validity_days"] = days.into();
        }
        Certificate::of(self.call(Method::POST, "/certificates", Some(&body)).await?)
    }

    pub(super) async fn verify(&self, id: &str, method: &str) -> Result<Certificate, Failed> {
        let body = json!({ "validation_method": method });
        let path = format!("/certificates/{id}/challenges");
        Certificate::of(self.call(Method::POST, &path, Some(&body)).await?)
    }

    pub(super) async fn get(&self, id: &str) -> Result<Certificate, Failed> {
        Certificate::of(self.call(Method::GET, &format!("/certificates/{id}"), None).await?)
    }

    /// The chain, PEM.
    pub(super) async fn download(&self, id: &str) -> Result<String, Failed> {
        #[derive(Deserialize)]
        struct Bundle {
            #[serde(rename = "certificate.crt")]
            certificate: String,
            #[serde(rename = "ca_bundle.crt")]
            chain: String,
        }
        let path = format!("/certificates/{id}/download/return");
        let told = self.call(Method::GET, &path, None).await?;
        let bundle: Bundle = serde_json::from_value(told).map_err(|error| {
            Failed::new(Failure::new(format!("the answer has no certificate: {error}")))
        })?;
        Ok(format!("{}\n{}\n", bundle.certificate.trim_end(), bundle.chain.trim_end()))
    }

    pub(super) async fn cancel(&self, id: &str) -> Result<(), Failed> {
        let told = self.call(Method::POST, &format!("/certificates/{id}/cancel"), None).await?;
        if told.get("success").is_some_and(is_true) {
            return Ok(());
        }
        Err(Failed::new(Failure::new("the API does not say that it did")))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Failed> {
        let mut left = if method == Method::GET { RETRIES } else { 0 };
        loop {
            let result = self.attempt(&method, path, body).await;
            match result {
                Err(failed) if failed.transient && left > 0 => {
                    left -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, Failed> {
        let what = format!("{method} {path}");
        let url = format!("{}{path}?access_key={}", self.base, encode_query(&self.key));
        let mut request = Request::builder().method(method).uri(url);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request
            .body(Bytes::from(body))
            .map_err(|error| Failed::new(Failure::new(format!("{what}: {error}"))))?;
        match self.http.send(request).await {
            Ok(answer) => read(&what, &answer),
            Err(error) => {
                let failure = Failure::new(format!("{what}: {error}"));
                Err(Failed { failure, transient: true })
            }
        }
    }
}

/// What an answer says; the API's errors are errors.
fn read(what: &str, answer: &Response<Bytes>) -> Result<Json, Failed> {
    let status = answer.status();
    let told: Option<Json> = serde_json::from_slice(answer.body()).ok();
    let error = told.as_ref().and_then(|told| told.get("error")).filter(|one| one.is_object());
    let denied =
        told.as_ref().and_then(|told| told.get("success")).is_some_and(|one| !is_true(one));
    if status.is_success() && error.is_none() && !denied {
        return told.ok_or_else(|| Failed {
            failure: Failure::new(format!("{what}: the answer is no JSON")),
            transient: false,
        });
    }
    let kind = error.and_then(|error| error.get("type")).and_then(Json::as_str).unwrap_or_default();
    let code = error.and_then(|error| error.get("code")).and_then(Json::as_i64);
    let mut text = format!("{what}: HTTP {}", status.as_u16());
    if let Some(code) = code {
        text.push_str(&format!(": API error {code} {kind}"));
    }
    if let Some(details) = error.and_then(|error| error.get("details")) {
        text.push_str(&details_of(details));
    }
    if let Some((_, remedy)) = REMEDIES.iter().find(|(known, _)| *known == kind) {
        text.push_str(&format!(" ({remedy})"));
    }
    let limited = status == StatusCode::TOO_MANY_REQUESTS || kind.contains("limit");
    let wait = retry_after(answer.headers());
    let mut failure = Failure::new(text);
    failure.at_least = match wait {
        Some(wait) => wait.min(MAX_WAIT),
        None if limited => LIMITED,
        None => Duration::ZERO,
    };
    Err(Failed { failure, transient: status.is_server_error() })
}

/// What to do about errors, by their types.
const REMEDIES: &[(&str, &str)] = &[
    (
        "invalid_access_key",
        "check the key of `zerossl`: it is on the Developer page of the account",
    ),
    (
        "missing_access_key",
        "check the key of `zerossl`: it is on the Developer page of the account",
    ),
    ("account_blocked", "ask ZeroSSL's support"),
    ("certificate_limit_reached", "the plan of the account allows no more certificates"),
    ("invalid_certificate_validity_days", "`validity_days` must be one that the plan allows"),
];

/// Why validation failed, by name and place.
fn details_of(details: &Json) -> String {
    let mut out = String::new();
    for (name, places) in details.as_object().into_iter().flatten() {
        for (place, found) in places.as_object().into_iter().flatten() {
            let info = found.get("error_info").or_else(|| found.get("error_slug"));
            let info = match info.and_then(Json::as_str) {
                Some(info) => info.to_owned(),
                None => found.to_string(),
            };
            out.push_str(&format!("; {name} {place}: {info}"));
        }
    }
    out
}

fn is_true(value: &Json) -> bool {
    match value {
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_i64() == Some(1),
        Json::String(text) => {
            ["true", "1", "yes", "y"].iter().any(|known| text.eq_ignore_ascii_case(known))
        }
        _ => false,
    }
}
