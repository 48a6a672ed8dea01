//! STS: the credentials of a role, in exchange for others or for a token.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, header};
use roxmltree::Document;

use super::{AwsError, Credentials, Found, end};
use crate::{
    aws::{PathRule, Signer, encode, payload_hash},
    http::{HttpClient, HttpOptions},
};

const TIMEOUT: Duration = Duration::from_secs(15);
const VERSION: &str = "2011-06-15";

/// A role to take on.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    pub(super) arn: String,
    /// The session's name; one of our own if empty.
    pub(super) session: String,
    pub(super) external_id: String,
    /// Lifetime of what is given, in seconds; the role's own if empty.
    pub(super) seconds: String,
}

/// The service in a region.
pub(super) struct Sts {
    http: HttpClient,
    url: String,
    region: String,
}

impl Sts {
    /// Without a region, the service for all of them.
    pub(super) fn new(region: String, url: Option<String>) -> Self {
        let url = url.unwrap_or_else(|| match &*region {
            "" => "https://sts.amazonaws.com".to_owned(),
            region if region.starts_with("cn-") => format!("https://sts.{region}.amazonaws.com.cn"),
            region => format!("https://sts.{region}.amazonaws.com"),
        });
        let region = if region.is_empty() { "us-east-1".to_owned() } else { region };
        let http = HttpClient::with(HttpOptions { timeout: TIMEOUT, ..HttpOptions::default() });
        Self { http, url: url.trim_end_matches('/').to_owned(), region }
    }

    /// The role's credentials for others'.
    pub(super) async fn assume(
        &self,
        role: &Role,
        credentials: &Credentials,
    ) -> Result<Found, AwsError> {
        let mut request = self.request("AssumeRole", role, None)?;
        let signer = Signer {
            credentials,
            region: &self.region,
            service: "sts",
            paths: PathRule::Normalized,
        };
        let hash = payload_hash(request.body());
        signer.sign(&mut request, &hash, SystemTime::now())?;
        self.send(role, request).await
    }

    /// The role's credentials for the token in a file.
    pub(super) async fn assume_with_token(
        &self,
        role: &Role,
        file: &str,
    ) -> Result<Found, AwsError> {
        let token = tokio::fs::read_to_string(file).await;
        let token = token.map_err(|error| AwsError(format!("web identity {file}: {error}")))?;
        let request = self.request("AssumeRoleWithWebIdentity", role, Some(token.trim()))?;
        self.send(role, request).await
    }

    fn request(
        &self,
        action: &str,
        role: &Role,
        token: Option<&str>,
    ) -> Result<Request<Bytes>, AwsError> {
        let session = if role.session.is_empty() { "caddis" } else { &role.session };
        let mut body = format!(
            "Action={action}&Version={VERSION}&RoleArn={}&RoleSessionName={}",
            encode(&role.arn),
            encode(session)
        );
        let more = [
            ("ExternalId", Some(role.external_id.as_str())),
            ("DurationSeconds", Some(role.seconds.as_str())),
            ("WebIdentityToken", token),
        ];
        for (name, value) in more {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                body.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        Request::post(format!("{}/", self.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .body(Bytes::from(body))
            .map_err(|error| AwsError(format!("STS: {error}")))
    }

    async fn send(&self, role: &Role, request: Request<Bytes>) -> Result<Found, AwsError> {
        let fail = |why: String| AwsError(format!("taking on {}: {why}", role.arn));
        let answer = self.http.send(request).await.map_err(|error| fail(error.to_string()))?;
        let text = String::from_utf8_lossy(answer.body());
        let document = Document::parse(&text);
        let of = |name: &str| {
            let nodes = document.iter().flat_map(Document::descendants);
            let mut found = nodes.filter(|node| node.tag_name().name() == name);
            found.find_map(|node| node.text()).unwrap_or_default().to_owned()
        };
        if !answer.status().is_success() {
            let (code, message) = (of("Code"), of("Message"));
            return Err(fail(format!("HTTP {} {code} {message}", answer.status().as_u16())));
        }
        let credentials = Credentials {
            access_key_id: of("AccessKeyId"),
            secret_access_key: of("SecretAccessKey"),
            session_token: of("SessionToken"),
        };
        if !credentials.is_complete() {
            return Err(fail("the answer has no credentials".to_owned()));
        }
        Ok(Found { credentials, expires: end(&of("Expiration"))? })
    }
}
